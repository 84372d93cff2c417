//! The instruction sets that the kernels are written in, and the choice among them at run time.
//!
//! Every inner loop has a scalar form, which is the definition, and vector forms that give the same words. A vector form
//! is reached only through a token ([`Avx2`], [`Avx512`], [`Vnni`]) that exists only where the processor has the
//! instructions.

use super::geometry::Span;
use super::plane::{CellSource, fill};
use super::scalar;
use super::tile::{DENSE_ROWS, DenseWeights, Tile};
use super::word::{Sum, Word};
#[cfg(target_arch = "x86_64")]
use super::{
    avx2::{self, Avx2},
    avx512::{self, Avx512, Vnni},
};

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
    pub(super) fn fill<W: Word>(self, cells: &mut [u32], source: &CellSource<'_, W>) {
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
