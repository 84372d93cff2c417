//! The instruction sets that the kernels are written in, and the choice among them at run time.
//!
//! Every inner loop has a scalar form, which is the definition, and vector forms that give the same words. A vector form
//! is reached only through a token ([`Avx2`], [`Avx512`], [`Vnni`]) that exists only where the processor has the
//! instructions.

use super::geometry::{Span, TapSlice};
use super::image::{Source, fill};
use super::scalar;
use super::word::{Sum, Word};
#[cfg(target_arch = "x86_64")]
use super::{
    avx2::{self, Avx2},
    avx512::{self, Avx512, Vnni},
};

/// Flat pixels in a block: the unit that tiles are wide in.
pub(super) const BLOCK: usize = 16;

/// Sums in the largest tile, for any backend.
pub(super) const TILE: usize = 8 * 3 * BLOCK;

/// Output channels that a dense layer computes together.
pub(super) const DENSE_ROWS: usize = 16;

/// An instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backend {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    #[cfg(target_arch = "x86_64")]
    Vnni(Vnni),
}

impl Backend {
    /// All that this machine has, the best last.
    pub(super) fn available() -> Vec<Self> {
        #[cfg(target_arch = "x86_64")]
        let vector =
            [Avx2::detect().map(Self::Avx2), Avx512::detect().map(Self::Avx512), Vnni::detect().map(Self::Vnni)];
        #[cfg(not(target_arch = "x86_64"))]
        let vector = [None; 0];
        std::iter::once(Self::Scalar).chain(vector.into_iter().flatten()).collect()
    }

    /// The best that this machine has.
    pub(super) fn detect() -> Self {
        *Self::available().last().expect("the scalar backend is always there")
    }

    /// Heights of the panels that `rows` output channels are cut into, each a power of two.
    pub(super) fn panels(self, mut rows: usize) -> Vec<usize> {
        let largest = match self {
            Self::Scalar => 4,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => 4,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) | Self::Vnni(_) => 8,
        };
        let mut panels = Vec::new();
        while rows > 0 {
            let height = largest.min(1 << rows.ilog2());
            panels.push(height);
            rows -= height;
        }
        panels
    }

    /// Blocks of the next tile in a panel of `rows`, where `left` remain: what fits in registers.
    #[inline]
    pub(super) fn blocks(self, rows: usize, left: usize) -> usize {
        let choices: &[usize] = match (self, rows) {
            (Self::Scalar, _) => &[1],
            #[cfg(target_arch = "x86_64")]
            (Self::Avx2(_), 4) => &[1],
            #[cfg(target_arch = "x86_64")]
            (Self::Avx2(_), 2) => &[2, 1],
            #[cfg(target_arch = "x86_64")]
            (Self::Avx2(_), _) => &[4, 2, 1],
            #[cfg(target_arch = "x86_64")]
            (_, 8) if left == 4 => &[2],
            #[cfg(target_arch = "x86_64")]
            (_, 8) => &[3, 2, 1],
            #[cfg(target_arch = "x86_64")]
            (_, 4) => &[6, 4, 2, 1],
            #[cfg(target_arch = "x86_64")]
            (_, _) => &[8, 4, 2, 1],
        };
        *choices.iter().find(|&&blocks| blocks <= left).expect("some block is left")
    }

    /// sums[r][p] = sum over k of weights[k][r] . image[taps[k] + p], each product one of pairs, modulo 2^32.
    #[inline]
    pub(super) fn tile(self, tile: Tile<'_>) {
        match self {
            Self::Scalar => scalar::tile(tile),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(token) => avx2::tile(token, tile),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(token) => avx512::tile(token, tile),
            #[cfg(target_arch = "x86_64")]
            Self::Vnni(token) => avx512::tile_vnni(token, tile),
        }
    }

    /// out[r] = sum over k of weights[k][r] . inputs[k], each product one of pairs, modulo 2^32.
    #[inline]
    pub(super) fn dense(self, weights: DenseWeights<'_>, inputs: &[u32], out: &mut [i32; DENSE_ROWS]) {
        match self {
            Self::Scalar => scalar::dense(weights, inputs, out),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(token) => avx2::dense(token, weights, inputs, out),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(token) => avx512::dense(token, weights, inputs, out),
            #[cfg(target_arch = "x86_64")]
            Self::Vnni(token) => avx512::dense_vnni(token, weights, inputs, out),
        }
    }

    /// sums += values * 2^place, or sums = values * 2^place where `first`.
    pub(super) fn fold<S: Sum>(self, sums: &mut [S], values: &[i32], place: u32, first: bool) {
        match self {
            Self::Scalar => scalar::fold(sums, values, place, first),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(token) => avx2::fold(token, sums, values, place, first),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(token) => avx512::fold(token, sums, values, place, first),
            #[cfg(target_arch = "x86_64")]
            Self::Vnni(token) => avx512::fold(token.base(), sums, values, place, first),
        }
    }

    /// Writes the sums of a tile that `spans` select to the outputs, one for each row, or adds them where `add`.
    pub(super) fn store<W: Word>(self, sums: &[W::Sum], spans: &[Span], out: &mut [&mut [W]], add: bool) {
        match self {
            Self::Scalar => scalar::store(sums, spans, out, add),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(token) => avx2::store(token, sums, spans, out, add),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(token) => avx512::store(token, sums, spans, out, add),
            #[cfg(target_arch = "x86_64")]
            Self::Vnni(token) => avx512::store(token.base(), sums, spans, out, add),
        }
    }

    /// Fills the cells of one plane, which are zero, from one limb of its channels.
    pub(super) fn fill<W: Word>(self, cells: &mut [u32], source: &Source<'_, W>) {
        match self {
            Self::Scalar => fill(cells, source),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(token) => avx2::fill_plane(token, cells, source),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(token) => avx512::fill_plane(token, cells, source),
            #[cfg(target_arch = "x86_64")]
            Self::Vnni(token) => avx512::fill_plane(token.base(), cells, source),
        }
    }
}

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
