//! How a tensor is held by the two parties, and how wide that is.

use lowkey_mpc::extend::{self, Finish};

use super::id::TensorId;
use crate::share::Ring;

/// How a tensor is shared between the parties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holding {
    /// A linear layer's result: c (client) + v (server) = 2 z + r mod 2^(ell + 1).
    Accumulator {
        /// Width of z in bits.
        ell: u32,
    },
    /// A multiplied accumulator: c + v = z mod 2^ell, neither known before the input.
    Scaled {
        /// Width of z in bits.
        ell: u32,
    },
    /// A multiplied accumulator that is never made: the requantisation that reads it multiplies and truncates.
    Truncated {
        /// Width of what it leaves, in bits.
        ell: u32,
    },
    /// (xhat, m) with x = xhat + m mod 2^ring.
    Shared {
        /// Width of the ring in bits.
        ring: u32,
        /// The tensor whose storage this is: itself, or what it is a reshaping of.
        root: TensorId,
    },
    /// Shares of y = x - lo in a ring just large enough to compare, read by max pools only and never uploaded.
    Small {
        /// Width of the values y in bits.
        bits: u32,
    },
}

impl Holding {
    /// The ring that a value is shared in.
    pub fn ring(self) -> Ring {
        match self {
            Self::Accumulator { ell } => Ring::guarded(ell),
            Self::Scaled { ell } | Self::Truncated { ell } => Ring::plain(ell),
            Self::Shared { ring, .. } => Ring::plain(ring),
            Self::Small { bits } => Ring::plain(bits + 1),
        }
    }

    /// Width of that ring, a guard bit excepted.
    pub fn ring_bits(self) -> u32 {
        self.ring().bits()
    }

    /// How a program that makes it ends, in the prepared schedule where that makes a difference.
    pub(crate) fn finish(self) -> Finish {
        match self {
            Self::Shared { ring, .. } => Finish::Upload { ring: ring as u8 },
            Self::Scaled { ell } => Finish::Share { ring: ell as u8 },
            Self::Small { .. } | Self::Accumulator { .. } | Self::Truncated { .. } => Finish::Small,
        }
    }
}

/// Bits that hold 0..=span.
pub fn width_of(span: i64) -> u32 {
    (i64::BITS - span.leading_zeros()).max(1)
}

/// Bits of values up to the top of a clip, of a requantisation to `bits` bits.
pub fn clipped_bits(bits: u32, top: Option<i64>) -> u32 {
    top.map_or(bits, |top| bits.min(width_of(top)))
}

/// Width of the shares of values of `bits` bits that a max pool reads.
pub fn small_width(bits: u32) -> u32 {
    extend::small_width(bits as usize) as u32
}

/// Width of the multiplied sum of an average pool, counted from the lowest average, one bit more than it needs: its values
/// after the shift have `bits` bits.
pub fn average_ring(bits: u32, shift: u32) -> u32 {
    shift + bits + 1
}
