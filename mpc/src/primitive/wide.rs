//! Four blocks in a vector of AVX-512, written out where the compiler's own vectors take blocks apart and put them together again.
//!
//! Whoever calls has the proof that the processor has it, and a portable form that computes the same. No branch or address here depends
//! on a block.

use crate::primitive::block::Block;
use std::arch::x86_64::*;

/// Blocks of a vector.
pub(crate) const LANES: usize = 4;

/// Proof that the processor has AVX-512 F.
#[derive(Clone, Copy)]
pub(crate) struct Wide(());

impl Wide {
    /// The choice depends on the machine only.
    #[inline]
    pub fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx512f").then_some(Self(()))
    }

    /// `out[j] = sigma(x[j])`, as many as there are of both.
    pub fn sigma_of(self, x: &[[Block; LANES]], out: &mut [[Block; LANES]]) {
        // SAFETY: the token proves that the processor has AVX-512 F.
        unsafe { sigma_of(x, out) }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn load(blocks: &[Block; LANES]) -> __m512i {
    // SAFETY: the blocks are the 64 bytes that are read, which need no alignment.
    unsafe { _mm512_loadu_si512(blocks.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn store(blocks: &mut [Block; LANES], vector: __m512i) {
    // SAFETY: the blocks are the 64 bytes that are written, which need no alignment.
    unsafe { _mm512_storeu_si512(blocks.as_mut_ptr().cast(), vector) }
}

/// The sum of the four blocks.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn sum(vector: __m512i) -> Block {
    let mut blocks = [Block::ZERO; LANES];
    store(&mut blocks, vector);
    blocks.into_iter().fold(Block::ZERO, |sum, block| sum ^ block)
}

/// Lower and higher halves of the blocks exchanged.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn swap(vector: __m512i) -> __m512i {
    _mm512_shuffle_epi32::<0b01_00_11_10>(vector)
}

/// [`sigma`](crate::primitive::hash::sigma) of each block.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn sigma(vector: __m512i) -> __m512i {
    _mm512_mask_xor_epi64(swap(vector), 0b1010_1010, swap(vector), vector)
}

#[target_feature(enable = "avx512f")]
fn sigma_of(x: &[[Block; LANES]], out: &mut [[Block; LANES]]) {
    for (x, out) in x.iter().zip(out) {
        store(out, sigma(load(x)));
    }
}
