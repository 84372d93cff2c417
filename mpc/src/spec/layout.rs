//! Which digits a requantisation uses.

use super::part::Part;
use serde::{Deserialize, Serialize};

/// Most high bits that a table gate takes, the carry in not counted.
pub const MAX_TABLE: usize = 5;

/// How the bits above the kept digit are evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HighBits {
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
    /// With [`HighBits::Chain`]: the high bits below the sign. With [`HighBits::Table`]: digits below the table, for more high bits
    /// than a table takes. Else nothing.
    pub high: Vec<u8>,
    /// The high bits.
    #[serde(rename = "top")]
    pub high_bits: HighBits,
    /// True if the low carry and the overflow are joined into one bit: fewer bits, one flight more.
    pub joined: bool,
}

impl Layout {
    /// The layout of a sign, whose only chain is `low`.
    pub(crate) fn of_sign(low: Vec<Part>) -> Self {
        Self { low, mid: Vec::new(), high: Vec::new(), high_bits: HighBits::Chain, joined: false }
    }

    /// The digits of [`Layout::high`] as parts of a chain.
    pub(super) fn digits(&self) -> Vec<Part> {
        self.high.iter().map(|m| Part::Digit(*m)).collect()
    }
}
