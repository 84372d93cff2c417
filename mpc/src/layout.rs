//! Which digits a requantisation uses: layouts, what a valid one is, and the search for good ones.

mod pool;
mod search;

pub use pool::{PoolLayout, PoolPrograms};
pub use search::{Choice, Search};
pub(crate) use search::{Start, frontier};

use crate::carry::Part;
use crate::clamp::Clip;
use crate::extend::Finish;
use crate::requantise::Spec;
use serde::{Deserialize, Serialize};

/// Most high bits that a table gate takes, the carry in not counted.
pub const MAX_TABLE: usize = 5;

/// How the bits above the kept digit are evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Top {
    /// The carry chain goes on to the sign, for the number itself and for what it exceeds the top by.
    Chain,
    /// One gate over the high bits that the digits of [`Layout::high`] leave. Not with a top below 2^a - 1.
    Table,
    /// Kept digit and high bits beside the low carry, for both its values. Not with a top below 2^a - 1.
    Skip,
}

/// The digits of one requantisation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Layout {
    /// The low bits, from the lowest; for a = 1, all bits below the sign.
    pub low: Vec<Part>,
    /// The kept bits; for a = 1, nothing.
    pub mid: Vec<Part>,
    /// With [`Top::Chain`]: the high bits below the sign. With [`Top::Table`]: digits below the table, for more high bits
    /// than a table takes. Else nothing.
    pub high: Vec<u8>,
    /// The high bits.
    pub top: Top,
    /// True if the low carry and the overflow are joined into one bit: fewer bits, one flight more.
    pub joined: bool,
}

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
fn gate(top: Top) -> &'static str {
    match top {
        Top::Chain => "the carry chain",
        Top::Table => "a table",
        Top::Skip => "a skipping gate",
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
    #[error("{} does not take {high} high bits", gate(*.top))]
    Top {
        /// The gate asked for.
        top: Top,
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

/// Fails with [`LayoutError::Size`] unless `min <= found <= max`.
pub(crate) fn check_size(what: &'static str, found: usize, min: usize, max: usize) -> Result<(), LayoutError> {
    if (min..=max).contains(&found) { Ok(()) } else { Err(LayoutError::Size { what, min, max, found }) }
}

/// Fails with [`LayoutError::Ring`] unless values of `bits` bits fit the ring of `finish`.
pub(crate) fn check_ring(finish: Finish, bits: usize) -> Result<(), LayoutError> {
    let fits = finish == Finish::Small || (bits..=64).contains(&finish.ring(bits));
    if fits { Ok(()) } else { Err(LayoutError::Ring { bits, finish }) }
}

/// Fails unless the parts are gates that exist and cover exactly `expected` bits.
pub(crate) fn check_parts(what: &'static str, parts: &[Part], expected: usize) -> Result<(), LayoutError> {
    if let Some(part) = parts.iter().find(|part| !part.is_valid()) {
        return Err(LayoutError::Part { what, part: part.clone() });
    }
    let found = parts.iter().fold(0, |sum: usize, part| sum.saturating_add(part.bits()));
    if found != expected {
        return Err(LayoutError::Cover { what, expected, found });
    }
    Ok(())
}

impl Layout {
    /// The layout of a sign, whose only chain is `low`.
    pub(crate) fn of_sign(low: Vec<Part>) -> Self {
        Self { low, mid: Vec::new(), high: Vec::new(), top: Top::Chain, joined: false }
    }

    /// Checks that the layout fits; call it on every layout that a peer or a file proposes.
    ///
    /// # Errors
    /// [`LayoutError`], saying what does not fit.
    pub fn check(&self, spec: Spec, finish: Finish) -> Result<(), LayoutError> {
        self.check_clipped(spec, Clip::default(), finish)
    }

    /// [`Layout::check`] with a clip.
    ///
    /// # Errors
    /// [`LayoutError`], saying what does not fit.
    pub fn check_clipped(&self, spec: Spec, clip: Clip, finish: Finish) -> Result<(), LayoutError> {
        let (low, a, high) = spec.cuts()?;
        check_ring(finish, a)?;
        if a == 1 {
            check_parts("low", &self.low, spec.width() - 1)?;
            check_parts("kept", &self.mid, 0)?;
            self.check_high(0)?;
            self.check_joined(false, low, high, 1)?;
            return match self.top {
                Top::Chain => Ok(()),
                top => Err(LayoutError::Top { top, high }),
            };
        }
        check_parts("low", &self.low, low)?;
        self.check_clamp(low, a, high, clip)
    }

    /// Checks the parts that clamp a number of `a` kept and `high` high bits, above `low` bits whose carry comes in.
    pub(crate) fn check_clamp(&self, low: usize, a: usize, high: usize, clip: Clip) -> Result<(), LayoutError> {
        check_clip(clip, a)?;
        check_parts("kept", &self.mid, a)?;
        let is_low = clip.is_low(a);
        let largest = clip.threshold(a, high).map_or((1 << a) - 1, |end| end - 1);
        self.check_joined(low > 0 && high > 1 && !is_low, low, high, largest)?;
        let fits = match self.top {
            Top::Chain => return check_parts("high", &self.digits(), high - 1),
            Top::Table => {
                self.check_high(high - 1)?;
                high - self.high.iter().map(|m| usize::from(*m)).sum::<usize>() <= MAX_TABLE
            }
            Top::Skip => {
                self.check_high(0)?;
                high <= MAX_TABLE
            }
        };
        if fits && !is_low { Ok(()) } else { Err(LayoutError::Top { top: self.top, high }) }
    }

    fn check_joined(&self, can_join: bool, low: usize, high: usize, top: u64) -> Result<(), LayoutError> {
        if self.joined && !can_join { Err(LayoutError::Joined { low, high, top }) } else { Ok(()) }
    }

    /// Checks that the digits below the table exist and cover at most `most` bits.
    fn check_high(&self, most: usize) -> Result<(), LayoutError> {
        let parts = self.digits();
        let found = parts.iter().fold(0, |sum: usize, part| sum.saturating_add(part.bits()));
        check_parts("high", &parts, found.min(most))
    }

    fn digits(&self) -> Vec<Part> {
        self.high.iter().map(|m| Part::Digit(*m)).collect()
    }
}

/// Fails unless values of exactly `a` bits reach the top of the clip.
fn check_clip(clip: Clip, a: usize) -> Result<(), LayoutError> {
    let least = 1 << (a - 1);
    check_size("the top of a clip", clip.top.into(), least, u8::MAX.into())
}
