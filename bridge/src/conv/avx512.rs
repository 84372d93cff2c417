//! The inner loops with AVX-512: 32 products of 16 bits in an instruction with VNNI, in two without.

use std::arch::x86_64::*;

use super::geometry::Span;
use super::plane::{self, CellSource};
use super::scalar;
use super::tile::{BLOCK, DENSE_ROWS, DenseWeights, Tile};
use super::word::{Sum, Word};

/// Proof that the processor has AVX-512 F, BW, DQ, VL and POPCNT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Avx512(());

impl Avx512 {
    pub(super) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("popcnt"))
        .then_some(Self(()))
    }
}

/// Proof that the processor has AVX-512 VNNI too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Vnni(Avx512);

impl Vnni {
    pub(super) fn detect() -> Option<Self> {
        Avx512::detect().filter(|_| is_x86_feature_detected!("avx512vnni")).map(Self)
    }

    /// What this processor has besides VNNI.
    pub(super) fn base(self) -> Avx512 {
        self.0
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn multiply_add(sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
    _mm512_add_epi32(sum, _mm512_madd_epi16(a, b))
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn multiply_add_vnni(sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
    _mm512_dpwssd_epi32(sum, a, b)
}

macro_rules! kernels {
    ($features:literal, $multiply_add:ident, $token:ty, $tile:ident, $tile_of:ident, $dense:ident, $dense_of:ident) => {
        /// One tile of a convolution.
        pub(super) fn $tile(_: $token, tile: Tile<'_>) {
            tile.check();
            // SAFETY: the token proves that the processor has the features, and the tile is checked.
            unsafe {
                match (tile.rows, tile.blocks) {
                    (8, 3) => $tile_of::<8, 3>(tile),
                    (8, 2) => $tile_of::<8, 2>(tile),
                    (8, 1) => $tile_of::<8, 1>(tile),
                    (4, 6) => $tile_of::<4, 6>(tile),
                    (4, 4) => $tile_of::<4, 4>(tile),
                    (4, 2) => $tile_of::<4, 2>(tile),
                    (4, 1) => $tile_of::<4, 1>(tile),
                    (2, 8) => $tile_of::<2, 8>(tile),
                    (2, 4) => $tile_of::<2, 4>(tile),
                    (2, 2) => $tile_of::<2, 2>(tile),
                    (2, 1) => $tile_of::<2, 1>(tile),
                    (1, 8) => $tile_of::<1, 8>(tile),
                    (1, 4) => $tile_of::<1, 4>(tile),
                    (1, 2) => $tile_of::<1, 2>(tile),
                    (1, 1) => $tile_of::<1, 1>(tile),
                    (rows, blocks) => unreachable!("no tile of {rows} rows and {blocks} blocks"),
                }
            }
        }

        /// The tile with R rows and B blocks, its sums in registers.
        ///
        /// # Safety
        /// [`Tile::check`] holds for `tile`, which has R rows and B blocks.
        #[target_feature(enable = $features)]
        unsafe fn $tile_of<const R: usize, const B: usize>(tile: Tile<'_>) {
            let mut sums = [[_mm512_setzero_si512(); B]; R];
            let image = tile.image.as_ptr();
            let mut weights = tile.weights.as_ptr().cast::<i32>();
            for &offset in tile.taps.offsets() {
                let mut cells = [_mm512_setzero_si512(); B];
                for (b, cells) in cells.iter_mut().enumerate() {
                    // SAFETY: offset < reach and reach + B * BLOCK <= image.len(), by the check.
                    *cells = unsafe { _mm512_loadu_si512(image.add(offset as usize + b * BLOCK).cast()) };
                }
                for (r, sums) in sums.iter_mut().enumerate() {
                    // SAFETY: weights.len() = offsets * R, by the check; this is the element of this offset and r < R.
                    let weight = _mm512_set1_epi32(unsafe { *weights.add(r) });
                    for (sum, &cells) in sums.iter_mut().zip(&cells) {
                        *sum = $multiply_add(*sum, weight, cells);
                    }
                }
                // SAFETY: at most one past the last weight, as above.
                weights = unsafe { weights.add(R) };
            }
            let out = tile.sums.as_mut_ptr();
            for (r, sums) in sums.iter().enumerate() {
                for (b, &sum) in sums.iter().enumerate() {
                    // SAFETY: sums.len() = R * B * BLOCK, by the check.
                    unsafe { _mm512_storeu_si512(out.add((r * B + b) * BLOCK).cast(), sum) };
                }
            }
        }

        /// One panel of a dense layer.
        pub(super) fn $dense(_: $token, weights: DenseWeights<'_>, inputs: &[u32], out: &mut [i32; DENSE_ROWS]) {
            weights.check(inputs.len());
            // SAFETY: the token proves that the processor has the features, and there are DENSE_ROWS pairs of weights for
            // every input.
            unsafe {
                match weights {
                    DenseWeights::Bytes(weights) => $dense_of::<true>(weights.as_ptr().cast(), inputs, out),
                    DenseWeights::Words(weights) => $dense_of::<false>(weights.as_ptr().cast(), inputs, out),
                }
            }
        }

        /// The panel, in four sums that are added in the end.
        ///
        /// # Safety
        /// `weights` points to `[inputs.len()][DENSE_ROWS]` pairs of 8-bit integers where BYTES, else of 16-bit ones.
        #[target_feature(enable = $features)]
        unsafe fn $dense_of<const BYTES: bool>(weights: *const u8, inputs: &[u32], out: &mut [i32; DENSE_ROWS]) {
            let add = |sum: &mut __m512i, i: usize| {
                // SAFETY: i < inputs.len(), so there are as many weights.
                let weights = unsafe {
                    if BYTES {
                        _mm512_cvtepi8_epi16(_mm256_loadu_si256(weights.add(i * 2 * DENSE_ROWS).cast()))
                    } else {
                        _mm512_loadu_si512(weights.add(i * 4 * DENSE_ROWS).cast())
                    }
                };
                *sum = $multiply_add(*sum, weights, _mm512_set1_epi32(inputs[i] as i32));
            };
            let mut sums = [_mm512_setzero_si512(); 4];
            let whole = inputs.len() / 4 * 4;
            for i in (0..whole).step_by(4) {
                for (j, sum) in sums.iter_mut().enumerate() {
                    add(sum, i + j);
                }
            }
            for i in whole..inputs.len() {
                add(&mut sums[0], i);
            }
            let [a, b, c, d] = sums;
            let sum = _mm512_add_epi32(_mm512_add_epi32(a, b), _mm512_add_epi32(c, d));
            // SAFETY: out has room for 16 integers.
            unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), sum) };
        }
    };
}

kernels!("avx512f,avx512bw,avx512dq,avx512vl", multiply_add, Avx512, tile, tile_of, dense, dense_of);
kernels!(
    "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni",
    multiply_add_vnni,
    Vnni,
    tile_vnni,
    tile_vnni_of,
    dense_vnni,
    dense_vnni_of
);

/// As [`scalar::fold`].
pub(super) fn fold<S: Sum>(_: Avx512, sums: &mut [S], values: &[i32], place: u32, first: bool) {
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    fn inner<S: Sum>(sums: &mut [S], values: &[i32], place: u32, first: bool) {
        scalar::fold(sums, values, place, first);
    }
    // SAFETY: the token proves that the processor has the features.
    unsafe { inner(sums, values, place, first) }
}

/// As [`plane::fill`].
pub(super) fn fill_plane<W: Word>(_: Avx512, cells: &mut [u32], source: &CellSource<'_, W>) {
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    fn inner<W: Word>(cells: &mut [u32], source: &CellSource<'_, W>) {
        plane::fill(cells, source);
    }
    // SAFETY: the token proves that the processor has the features.
    unsafe { inner(cells, source) }
}

/// As [`scalar::store`].
pub(super) fn store<W: Word>(_: Avx512, sums: &[W::Sum], spans: &[Span], out: &mut [&mut [W]], add: bool) {
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,popcnt")]
    fn inner<W: Word>(sums: &[W::Sum], spans: &[Span], out: &mut [&mut [W]], add: bool) {
        for (sums, out) in sums.chunks_exact(spans.len() * BLOCK).zip(out) {
            for (sums, span) in sums.chunks_exact(BLOCK).zip(spans) {
                let out = &mut out[span.at..][..span.lanes.count_ones() as usize];
                let (sums, words) = (sums.as_ptr(), out.as_mut_ptr());
                // SAFETY: a word of 16 or 32 bits has sums of 32 bits, one of 64 bits has sums of 64 bits; there are 16
                // sums, and a word in `out` for every selected one.
                unsafe {
                    match W::BITS {
                        16 => store_u16(sums.cast(), span.lanes, words.cast(), add),
                        32 => store_u32(sums.cast(), span.lanes, words.cast(), add),
                        _ => {
                            let (low, high) = (span.lanes as u8, (span.lanes >> 8) as u8);
                            store_u64(sums.cast(), low, words.cast(), add);
                            store_u64(sums.add(8).cast(), high, words.add(low.count_ones() as usize).cast(), add);
                        }
                    }
                }
            }
        }
    }
    // SAFETY: the token proves that the processor has the features.
    unsafe { inner(sums, spans, out, add) }
}

/// # Safety
/// `sums` points to 16 integers, `out` to a word for every bit of `lanes`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,popcnt")]
unsafe fn store_u16(sums: *const i32, lanes: u16, out: *mut i16, add: bool) {
    let keep = ((1u32 << lanes.count_ones()) - 1) as u16;
    // SAFETY: 16 integers are read; words beyond the bits of `keep` are neither read nor written.
    unsafe {
        let mut words = _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(lanes, _mm512_loadu_epi32(sums)));
        if add {
            words = _mm256_add_epi16(words, _mm256_maskz_loadu_epi16(keep, out));
        }
        _mm256_mask_storeu_epi16(out, keep, words);
    }
}

/// # Safety
/// `sums` points to 16 integers, `out` to a word for every bit of `lanes`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,popcnt")]
unsafe fn store_u32(sums: *const i32, lanes: u16, out: *mut i32, add: bool) {
    let keep = ((1u32 << lanes.count_ones()) - 1) as u16;
    // SAFETY: as in `store_u16`.
    unsafe {
        let mut words = _mm512_maskz_compress_epi32(lanes, _mm512_loadu_epi32(sums));
        if add {
            words = _mm512_add_epi32(words, _mm512_maskz_loadu_epi32(keep, out));
        }
        _mm512_mask_storeu_epi32(out, keep, words);
    }
}

/// # Safety
/// `sums` points to 8 integers, `out` to a word for every bit of `lanes`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,popcnt")]
unsafe fn store_u64(sums: *const i64, lanes: u8, out: *mut i64, add: bool) {
    let keep = ((1u32 << lanes.count_ones()) - 1) as u8;
    // SAFETY: as in `store_u16`, with 8 integers.
    unsafe {
        let mut words = _mm512_maskz_compress_epi64(lanes, _mm512_loadu_epi64(sums));
        if add {
            words = _mm512_add_epi64(words, _mm512_maskz_loadu_epi64(keep, out));
        }
        _mm512_mask_storeu_epi64(out, keep, words);
    }
}
