//! What an inner loop is given: tiles of a convolution, panels of a dense layer, in cells and pairs of weights.

use super::geometry::TapSlice;

/// Flat pixels in a block: the unit that tiles are wide in.
pub(super) const BLOCK: usize = 16;

/// Sums in the largest tile, for any backend.
pub(super) const TILE: usize = 8 * 3 * BLOCK;

/// Output channels that a dense layer computes together.
pub(super) const DENSE_ROWS: usize = 16;

/// One tile of the convolution: `rows` output channels times `blocks` blocks of flat pixels.
pub(super) struct Tile<'a> {
    pub(super) rows: usize,
    pub(super) blocks: usize,
    /// `[taps][rows]` pairs of 16-bit weights.
    pub(super) weights: &'a [u32],
    pub(super) taps: TapSlice<'a>,
    /// The cells of a limb, from the one that a tap of offset 0 reads at the first pixel.
    pub(super) image: &'a [u32],
    /// `[rows][blocks * BLOCK]`.
    pub(super) sums: &'a mut [i32],
}

impl Tile<'_> {
    /// Panics unless every access of a kernel is inside the slices.
    #[inline]
    pub(super) fn check(&self) {
        assert_eq!(self.weights.len(), self.taps.offsets().len() * self.rows, "a panel holds its rows for every tap");
        assert!(self.image.len() >= self.taps.reach() + self.blocks * BLOCK, "a tile lies inside the image");
        assert_eq!(self.sums.len(), self.rows * self.blocks * BLOCK, "a tile has its sums");
    }
}

/// `[pairs][DENSE_ROWS]` pairs of weights, as bytes where they fit.
#[derive(Clone, Copy)]
pub(super) enum DenseWeights<'a> {
    Bytes(&'a [[i8; 2]]),
    Words(&'a [u32]),
}

impl DenseWeights<'_> {
    /// Panics unless there are weights for exactly `pairs` pairs of inputs.
    #[inline]
    pub(super) fn check(&self, pairs: usize) {
        let len = match self {
            Self::Bytes(weights) => weights.len(),
            Self::Words(weights) => weights.len(),
        };
        assert_eq!(len, pairs * DENSE_ROWS, "a dense panel holds its rows for every pair of inputs");
    }
}

/// Two 16-bit integers as one cell, the first in the low half.
#[inline(always)]
pub(super) fn pair(low: u16, high: u16) -> u32 {
    u32::from(low) | u32::from(high) << 16
}
