//! In which form a result is left.

use serde::{Deserialize, Serialize};

/// In which form a nonlinear layer leaves its result y.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Finish {
    /// Shares of y modulo 2^(a+1); of one-bit values, XOR shares. What pooling takes.
    Small,
    /// Shares modulo 2^ring.
    Share {
        /// Bits of the ring.
        ring: u8,
    },
    /// The server gets m = y - xhat modulo 2^ring, xhat an input of the client known offline.
    Upload {
        /// Bits of the ring.
        ring: u8,
    },
}

impl Finish {
    /// Bits of the result's ring, for values of `bits` bits.
    #[must_use]
    pub fn ring(self, bits: usize) -> usize {
        match self {
            Self::Small => small_width(bits),
            Self::Share { ring } | Self::Upload { ring } => usize::from(ring),
        }
    }

    /// True if the client gives xhat.
    #[must_use]
    pub fn uploads(self) -> bool {
        matches!(self, Self::Upload { .. })
    }
}

/// Bits of the shares that [`Finish::Small`] leaves: one more than the values have, as room for the sign of
/// a difference. One-bit values need none: the lowest bits of additive shares are XOR shares.
#[must_use]
pub fn small_width(bits: usize) -> usize {
    if bits == 1 { 1 } else { bits + 1 }
}
