//! Why public numbers are refused.

use super::finish::Finish;
use super::layout::HighBits;
use super::part::Part;
use super::requantise::Spec;

/// A form in words.
fn end(finish: Finish) -> String {
    match finish {
        Finish::Small => "shares of one bit more".to_owned(),
        Finish::Share { ring } => format!("shares modulo 2^{ring}"),
        Finish::Upload { ring } => format!("masked values modulo 2^{ring}"),
    }
}

/// A part in words.
fn digits(part: &Part) -> String {
    match part {
        Part::Digit(bits) => format!("one of {bits} bits"),
        Part::Block(digits) => {
            let bits: Vec<String> = digits.iter().map(u8::to_string).collect();
            format!("a block of digits of [{}] bits", bits.join(", "))
        }
    }
}

/// A gate in words.
fn gate(high_bits: HighBits) -> &'static str {
    match high_bits {
        HighBits::Chain => "the carry chain",
        HighBits::Table => "a table",
        HighBits::Skip => "a skipping gate",
    }
}

/// Why a specification or a layout is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// A field is out of bounds, or the layer is constant.
    #[error("nothing requantises accumulators of {} bits by a shift of {} to {} bits", .0.ell, .0.shift, .0.bits)]
    Spec(Spec),
    /// The result does not fit its ring, or the ring is wider than 64 bits.
    #[error("values of {bits} bits cannot end as {}", end(*.finish))]
    Ring {
        /// Bits of a value.
        bits: usize,
        /// The form asked for.
        finish: Finish,
    },
    /// The digits do not cover the bits that they should.
    #[error("the {what} digits cover {found} bits of {expected}")]
    Cover {
        /// Which digits.
        what: &'static str,
        /// Bits to cover.
        expected: usize,
        /// Bits covered.
        found: usize,
    },
    /// A digit is empty or too wide.
    #[error("the {what} digits contain {}", digits(.part))]
    Part {
        /// Which digits.
        what: &'static str,
        /// The offending part.
        part: Part,
    },
    /// The gate for the high bits does not exist at this size.
    #[error("{} does not take {high} high bits", gate(*.high_bits))]
    HighBits {
        /// The gate asked for.
        high_bits: HighBits,
        /// Bits above the kept digit.
        high: usize,
    },
    /// There are no two bits to be joined.
    #[error("nothing can be joined where {low} low and {high} high bits make values up to {top}")]
    Joined {
        /// Bits below the kept digit.
        low: usize,
        /// Bits above the kept digit.
        high: usize,
        /// The largest value.
        top: u64,
    },
    /// A size of another protocol is out of bounds.
    #[error("{what} is {found}, must be from {min} to {max}")]
    Size {
        /// The size.
        what: &'static str,
        /// The least allowed.
        min: usize,
        /// The most allowed.
        max: usize,
        /// What was given.
        found: usize,
    },
}
