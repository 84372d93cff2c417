//! The public numbers of a requantisation.

use serde::{Deserialize, Serialize};

/// Widest accumulator ring, in bits.
pub const MAX_ELL: u8 = 56;
/// Widest activation, in bits.
pub const MAX_BITS: u8 = 8;

/// Which accumulators become which activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Spec {
    /// ell: bits of the accumulator z, sign included.
    pub ell: u8,
    /// s: the bits dropped.
    pub shift: u8,
    /// a: bits of the activation.
    pub bits: u8,
    /// g: guard bits below the accumulator, 0 or 1.
    pub guard: u8,
}

impl Spec {
    /// L = ell + g: bits of the shares c and v.
    #[must_use]
    pub fn width(self) -> usize {
        usize::from(self.ell) + usize::from(self.guard)
    }
}
