//! What names a mask: the seed of its epoch, and its place.

/// The public seed of all masks of a model publication. A new publication takes a new seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EpochSeed(pub [u8; 32]);

/// Names a mask within an epoch and a parameter set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MaskId {
    /// The layer whose input it masks.
    pub layer: u32,
    /// The ciphertext among the layer's.
    pub ciphertext: u32,
}

impl MaskId {
    /// a*_0, the mask of the rerandomiser: one per parameter set. No layer has this index.
    pub const RERANDOMISER: Self = Self { layer: u32::MAX, ciphertext: u32::MAX };
}
