//! What can go wrong in a linear layer.

use lowkey_he::error::HeError;

/// Errors of this crate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BridgeError {
    /// A message of the peer does not have the length that the plan gives it.
    #[error("{what} has {found} bytes, the plan says {expected}")]
    Length {
        /// Which message.
        what: &'static str,
        /// Bytes by the plan.
        expected: usize,
        /// Bytes that came.
        found: usize,
    },
    /// The keys of another plan, or of none.
    #[error("no keys for parameter set {set}")]
    MissingKeys {
        /// Name of the parameter set.
        set: &'static str,
    },
    /// A number that is known to the evaluator of a product is larger than the plan says.
    #[error("the plan of the product allows for magnitudes up to {magnitude}, its operand has larger ones")]
    Magnitude {
        /// By the plan.
        magnitude: u32,
    },
    /// Lattice arithmetic refused.
    #[error(transparent)]
    He(#[from] HeError),
}

impl BridgeError {
    /// True if the peer's bytes are at fault.
    pub fn is_peer_fault(&self) -> bool {
        matches!(self, Self::Length { .. } | Self::He(HeError::Length { .. } | HeError::Padding))
    }
}
