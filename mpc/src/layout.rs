//! Which digits a requantisation uses: layouts, what a valid one is, and the search for good ones.

mod search;

pub use search::{Choice, Search};
pub(crate) use search::{Start, frontier};

use crate::carry::Part;
use crate::extend::Finish;
use crate::requantise::Spec;
use serde::{Deserialize, Serialize};

/// Most high bits that a table gate takes, the carry in not counted.
pub const MAX_TABLE: usize = 5;

/// How the bits above the kept digit are evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Top {
    /// The carry chain goes on to the sign, bit by bit.
    Chain,
    /// One gate over the high bits that the digits of [`Layout::high`] leave.
    Table,
    /// Kept digit and high bits beside the low carry, for both its values.
    Skip,
}

/// The digits of one requantisation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Layout {
    /// The low bits, from the lowest; for a = 1, all bits below the sign.
    pub low: Vec<Part>,
    /// The kept bits; for a = 1, nothing.
    pub mid: Vec<Part>,
    /// With [`Top::Table`]: digits below the table, for more high bits than a table takes. Else nothing.
    pub high: Vec<u8>,
    /// The high bits.
    pub top: Top,
}

/// Why a specification or a layout is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// A field is out of bounds, or the layer is constant.
    #[error("no requantisation has {0:?}")]
    Spec(Spec),
    /// The result does not fit its ring, or the ring is wider than 64 bits.
    #[error("values of {bits} bits cannot end as {finish:?}")]
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
    #[error("the {what} digits contain {part:?}")]
    Part {
        /// Which digits.
        what: &'static str,
        /// The offending part.
        part: Part,
    },
    /// The gate for the high bits does not exist at this size.
    #[error("{top:?} does not take {high} high bits")]
    Top {
        /// The gate asked for.
        top: Top,
        /// Bits above the kept digit.
        high: usize,
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
    /// Checks that the layout fits; call it on every layout that a peer or a file proposes.
    ///
    /// # Errors
    /// [`LayoutError`], saying what does not fit.
    pub fn check(&self, spec: Spec, finish: Finish) -> Result<(), LayoutError> {
        let (low, a, high) = spec.cuts()?;
        check_ring(finish, a)?;
        if a == 1 {
            check_parts("low", &self.low, spec.width() - 1)?;
            check_parts("kept", &self.mid, 0)?;
            self.check_high(0)?;
            return match self.top {
                Top::Chain => Ok(()),
                top => Err(LayoutError::Top { top, high }),
            };
        }
        check_parts("low", &self.low, low)?;
        check_parts("kept", &self.mid, a)?;
        match self.top {
            Top::Table => self.check_high(high - 1),
            Top::Chain | Top::Skip => self.check_high(0),
        }?;
        let left = high - self.high.iter().map(|m| usize::from(*m)).sum::<usize>();
        if self.top == Top::Chain || left <= MAX_TABLE { Ok(()) } else { Err(LayoutError::Top { top: self.top, high }) }
    }

    /// Checks that the digits below the table exist and cover at most `most` bits.
    fn check_high(&self, most: usize) -> Result<(), LayoutError> {
        let parts: Vec<Part> = self.high.iter().map(|m| Part::Digit(*m)).collect();
        let found = parts.iter().fold(0, |sum: usize, part| sum.saturating_add(part.bits()));
        check_parts("high", &parts, found.min(most))
    }
}
