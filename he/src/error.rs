//! What can go wrong, by cause.
//!
//! An error names a value that came from outside this crate: a plan, a weight file, bytes of a peer, an order of calls.
//! Slices of the wrong length and positions beyond the degree are mistakes of the caller and panic.

use crate::names::MaskId;

/// Errors of this crate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeError {
    /// A parameter set was used with a machine word of another width.
    #[error("{set} lives on a {expected}-bit torus, the word has {found} bits")]
    TorusWidth {
        /// Name of the parameter set.
        set: &'static str,
        /// Bits of its torus.
        expected: u32,
        /// Bits of the word.
        found: u32,
    },
    /// Two objects of different parameter sets met.
    #[error("parameter set {found} where {expected} is expected")]
    ParameterSet {
        /// Name of the set that the receiver of the call belongs to.
        expected: &'static str,
        /// Name of the set of the argument.
        found: &'static str,
    },
    /// A secret was asked to encrypt under a mask that it has already used (one-time masks, rule 1).
    #[error("mask {0:?} has already been used with this secret")]
    MaskReused(MaskId),
    /// A hint can be published only under the mask a*_0.
    #[error("mask {0:?} is not the rerandomiser's")]
    NotRerandomiser(MaskId),
    /// The small factors of a sum of products are too large for an exact result.
    #[error("the small factors have 1-norm {norm1}, products are exact up to {limit}")]
    SmallNorm {
        /// 1-norm of all small factors of the sum together.
        norm1: u64,
        /// Largest norm for which the sum is exact.
        limit: u64,
    },
    /// A sparse polynomial names a coefficient that the ring does not have.
    #[error("coefficient {index} of a polynomial with {degree} coefficients")]
    Coefficient {
        /// The index.
        index: usize,
        /// The ring degree N.
        degree: usize,
    },
    /// More low bits are to be rounded off than the torus has.
    #[error("cannot round {bits} bits off a {torus_bits}-bit word")]
    Rounding {
        /// Bits to round off.
        bits: u32,
        /// Bits of the word.
        torus_bits: u32,
    },
    /// No publication passed the caller's noise check.
    #[error("{tries} draws of (u_o, e_o) all failed the noise check: the layer was planned with too little margin")]
    NoiseCheck {
        /// Draws made.
        tries: u32,
    },
    /// A byte string has the wrong length.
    #[error("{found} bytes where {expected} are expected")]
    Length {
        /// Bytes that the fields need.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
    /// The unused bits at the end of a byte string are not zero.
    #[error("unused bits at the end are not zero")]
    Padding,
}
