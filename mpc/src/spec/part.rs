//! The digits of a carry chain.

use serde::{Deserialize, Serialize};

/// Most bits of a digit.
pub const MAX_DIGIT: usize = 4;

/// A piece of a carry chain.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Part {
    /// A digit of the chain, of this many bits.
    Digit(u8),
    /// Digits whose generate and propagate bits are computed beside the chain.
    Block(Vec<u8>),
}

impl Part {
    /// Bits that the part covers.
    #[must_use]
    pub fn bits(&self) -> usize {
        match self {
            Self::Digit(m) => usize::from(*m),
            Self::Block(widths) => widths.iter().map(|m| usize::from(*m)).sum(),
        }
    }

    /// The sizes of its digits.
    #[must_use]
    pub fn widths(&self) -> Vec<u8> {
        match self {
            Self::Digit(m) => vec![*m],
            Self::Block(widths) => widths.clone(),
        }
    }

    /// True if the gates of the part exist: digits of 1 to [`MAX_DIGIT`] bits, at most 64 of them.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let digit = |m: &u8| (1..=MAX_DIGIT).contains(&usize::from(*m));
        match self {
            Self::Digit(m) => digit(m),
            Self::Block(widths) => !widths.is_empty() && widths.len() <= 64 && widths.iter().all(digit),
        }
    }
}
