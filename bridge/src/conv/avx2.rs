//! The inner loops with AVX2: 16 products of 16 bits in two instructions.

use std::arch::x86_64::*;

use super::geometry::Span;
use super::plane::{self, CellSource};
use super::scalar;
use super::tile::{DENSE_ROWS, DenseWeights, Tile};
use super::word::{Sum, Word};

/// Proof that the processor has AVX2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Avx2(());

impl Avx2 {
    pub(super) fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx2").then_some(Self(()))
    }
}

/// Sums in a register.
const LANES: usize = 8;

/// One tile of a convolution.
pub(super) fn tile(_: Avx2, tile: Tile<'_>) {
    tile.check();
    // SAFETY: the token proves that the processor has AVX2, and the tile is checked.
    unsafe {
        match (tile.rows, tile.blocks) {
            (4, 1) => tile_of::<4, 2>(tile),
            (2, 2) => tile_of::<2, 4>(tile),
            (2, 1) => tile_of::<2, 2>(tile),
            (1, 4) => tile_of::<1, 8>(tile),
            (1, 2) => tile_of::<1, 4>(tile),
            (1, 1) => tile_of::<1, 2>(tile),
            (rows, blocks) => unreachable!("no tile of {rows} rows and {blocks} blocks"),
        }
    }
}

/// The tile with R rows and H half blocks, its sums in registers.
///
/// # Safety
/// [`Tile::check`] holds for `tile`, which has R rows and H / 2 blocks.
#[target_feature(enable = "avx2")]
unsafe fn tile_of<const R: usize, const H: usize>(tile: Tile<'_>) {
    let mut sums = [[_mm256_setzero_si256(); H]; R];
    let image = tile.image.as_ptr();
    let mut weights = tile.weights.as_ptr().cast::<i32>();
    for &offset in tile.taps.offsets() {
        let mut cells = [_mm256_setzero_si256(); H];
        for (h, cells) in cells.iter_mut().enumerate() {
            // SAFETY: offset < reach and reach + H * LANES <= image.len(), by the check.
            *cells = unsafe { _mm256_loadu_si256(image.add(offset as usize + h * LANES).cast()) };
        }
        for (r, sums) in sums.iter_mut().enumerate() {
            // SAFETY: weights.len() = offsets * R, by the check; this is the element of this offset and r < R.
            let weight = _mm256_set1_epi32(unsafe { *weights.add(r) });
            for (sum, &cells) in sums.iter_mut().zip(&cells) {
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(weight, cells));
            }
        }
        // SAFETY: at most one past the last weight, as above.
        weights = unsafe { weights.add(R) };
    }
    let out = tile.sums.as_mut_ptr();
    for (r, sums) in sums.iter().enumerate() {
        for (h, &sum) in sums.iter().enumerate() {
            // SAFETY: sums.len() = R * H * LANES, by the check.
            unsafe { _mm256_storeu_si256(out.add((r * H + h) * LANES).cast(), sum) };
        }
    }
}

/// One panel of a dense layer.
pub(super) fn dense(_: Avx2, weights: DenseWeights<'_>, inputs: &[u32], out: &mut [i32; DENSE_ROWS]) {
    weights.check(inputs.len());
    // SAFETY: the token proves that the processor has AVX2, and the weights are checked.
    unsafe { dense_of(weights, inputs, out) }
}

/// The panel: two halves, each in two sums that are added in the end.
///
/// # Safety
/// [`DenseWeights::check`] holds for `weights` and `inputs.len()`.
#[target_feature(enable = "avx2")]
unsafe fn dense_of(weights: DenseWeights<'_>, inputs: &[u32], out: &mut [i32; DENSE_ROWS]) {
    let mut sums = [[_mm256_setzero_si256(); 2]; 2];
    for (i, inputs) in inputs.chunks(2).enumerate() {
        for (j, (&input, sums)) in inputs.iter().zip(&mut sums).enumerate() {
            let input = _mm256_set1_epi32(input as i32);
            for (half, sum) in sums.iter_mut().enumerate() {
                let at = (2 * i + j) * DENSE_ROWS + half * LANES;
                let weights = match weights {
                    DenseWeights::Bytes(weights) => {
                        // SAFETY: weights.len() = inputs * 16 pairs of bytes, by the check.
                        let bytes = unsafe { _mm_loadu_si128(weights.as_ptr().add(at).cast()) };
                        _mm256_cvtepi8_epi16(bytes)
                    }
                    // SAFETY: weights.len() = inputs * 16, by the check.
                    DenseWeights::Words(weights) => unsafe { _mm256_loadu_si256(weights.as_ptr().add(at).cast()) },
                };
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(weights, input));
            }
        }
    }
    let [a, b] = sums;
    for half in 0..2 {
        // SAFETY: out has room for 16 integers.
        unsafe {
            _mm256_storeu_si256(out.as_mut_ptr().add(half * LANES).cast(), _mm256_add_epi32(a[half], b[half]));
        }
    }
}

/// As [`scalar::fold`].
pub(super) fn fold<S: Sum>(_: Avx2, sums: &mut [S], values: &[i32], place: u32, first: bool) {
    #[target_feature(enable = "avx2")]
    fn inner<S: Sum>(sums: &mut [S], values: &[i32], place: u32, first: bool) {
        scalar::fold(sums, values, place, first);
    }
    // SAFETY: the token proves that the processor has AVX2.
    unsafe { inner(sums, values, place, first) }
}

/// As [`scalar::store`].
pub(super) fn store<W: Word>(_: Avx2, sums: &[W::Sum], spans: &[Span], out: &mut [&mut [W]], add: bool) {
    #[target_feature(enable = "avx2")]
    fn inner<W: Word>(sums: &[W::Sum], spans: &[Span], out: &mut [&mut [W]], add: bool) {
        scalar::store(sums, spans, out, add);
    }
    // SAFETY: the token proves that the processor has AVX2.
    unsafe { inner(sums, spans, out, add) }
}

/// As [`plane::fill`].
pub(super) fn fill_plane<W: Word>(_: Avx2, cells: &mut [u32], source: &CellSource<'_, W>) {
    #[target_feature(enable = "avx2")]
    fn inner<W: Word>(cells: &mut [u32], source: &CellSource<'_, W>) {
        plane::fill(cells, source);
    }
    // SAFETY: the token proves that the processor has AVX2.
    unsafe { inner(cells, source) }
}
