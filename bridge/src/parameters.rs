//! The HE parameters of one linear layer and the widths that follow from them.

use lowkey_he::params::ParameterSet;
use lowkey_he::torus::Rounding;

use crate::share::{GUARD_BITS, Ring};

/// What both parties know of one linear layer's arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerParameters {
    /// Ring, torus and noise.
    pub set: &'static ParameterSet,
    /// ell: width of the accumulator ring.
    pub ell: u32,
    /// rb, rh, and r0 of the parameter set.
    pub rounding: Rounding,
}

impl LayerParameters {
    /// log2 of the scaling q / 2^ell: where the message ends and the low bits begin.
    pub fn log_scaling(&self) -> u32 {
        self.set.torus_bits - self.ell
    }

    /// log2 of U = q / 2^(ell + g), the unit of the rounded shares.
    pub fn log_unit(&self) -> u32 {
        self.log_scaling() - GUARD_BITS
    }

    /// L = ell + g, the width of the shares c and v.
    pub fn share_bits(&self) -> u32 {
        self.ell + GUARD_BITS
    }

    /// The ring of the shares c and v.
    pub fn ring(&self) -> Ring {
        Ring::guarded(self.ell)
    }

    /// Bits on the wire of a body whose top bits are the pad itself.
    pub fn low_width(&self) -> u32 {
        self.log_scaling() - self.rounding.body
    }

    /// Bits on the wire of a whole body.
    pub fn full_width(&self) -> u32 {
        self.set.torus_bits - self.rounding.body
    }

    /// T = (2^g + 1) U / 2 - 1: what the server adds before it rounds down, so that noise may err either way.
    pub fn offset(&self) -> u64 {
        3 * ((1u64 << self.log_unit()) / 2) - 1
    }

    /// Bits on the wire of a coefficient of the hint.
    pub fn hint_width(&self) -> u32 {
        self.set.torus_bits - self.rounding.hint
    }

    /// True if every width above makes sense: at least one noise bit below the message, and one bit of each body left.
    pub fn consistent(&self) -> bool {
        self.ell >= 2
            && self.ell + 3 <= self.set.torus_bits
            && self.ell <= 48
            && self.rounding.body < self.log_scaling()
            && self.rounding.hint < self.set.torus_bits
    }
}
