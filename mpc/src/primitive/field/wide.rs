//! Products of four elements at a time, with AVX-512 and VPCLMULQDQ.
//!
//! With halves of 64 bits, m = m_0 + m_1 x^64, and P = x^63 + x^62 + x^57, so that x^-64 = x^64 + P:
//!
//! ```text
//! low(h) = h x^-64 = h_1 + h_0 x^64 + h_0 P
//! m h x^-128 = (m_0 low(h) + m_1 h) x^-64 = low(f) + r,     f = m_0 low(h)_0 + m_1 h_0,   r = m_0 low(h)_1 + m_1 h_1
//! ```
//!
//! f and r of many products are added up before one is reduced. There is no branch, and no address, that depends on an element.

use crate::primitive::block::Block;
use crate::primitive::wide::{LANES, load, store, sum as sum_of, swap};
use std::arch::x86_64::*;
use zeroize::Zeroizing;

/// Vectors that are added up before they are reduced.
const VECTORS: usize = 8;

/// Blocks that are added up before they are reduced.
pub(super) const BLOCKS: usize = LANES * VECTORS;

/// Proof that the processor has AVX-512 F and VPCLMULQDQ.
#[derive(Clone, Copy)]
pub(super) struct Products(());

impl Products {
    /// The choice depends on the machine only.
    #[inline]
    pub fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("vpclmulqdq")).then_some(Self(()))
    }

    /// POLYVAL of some blocks.
    pub fn polyval(self, key: Block, blocks: &[[Block; BLOCKS]]) -> Block {
        // SAFETY: the token proves that the processor has both features.
        unsafe { polyval(key, blocks) }
    }

    /// Replaces each `a` by `a b`, as many as there are of both.
    pub fn multiply(self, a: &mut [Block], b: &[Block]) {
        // SAFETY: the token proves that the processor has both features.
        unsafe { multiply(a, b) }
    }
}

/// `h x^-64`.
#[inline]
#[target_feature(enable = "avx512f,vpclmulqdq")]
fn low(h: __m512i) -> __m512i {
    let p = _mm512_set1_epi64(0xc200_0000_0000_0000_u64 as i64);
    _mm512_xor_si512(swap(h), _mm512_clmulepi64_epi128::<0x00>(h, p))
}

/// h of products, and low(h).
#[derive(Clone, Copy)]
struct Factor {
    h: __m512i,
    low: __m512i,
}

impl Factor {
    #[inline]
    #[target_feature(enable = "avx512f,vpclmulqdq")]
    fn new(h: __m512i) -> Self {
        Self { h, low: low(h) }
    }
}

/// Sums of products.
#[derive(Clone, Copy)]
struct Sum {
    f: __m512i,
    r: __m512i,
}

impl Sum {
    #[inline]
    #[target_feature(enable = "avx512f,vpclmulqdq")]
    fn of(m: __m512i, factor: Factor) -> Self {
        let Factor { h, low } = factor;
        let [f, f_too] = [_mm512_clmulepi64_epi128::<0x00>(m, low), _mm512_clmulepi64_epi128::<0x01>(m, h)];
        let [r, r_too] = [_mm512_clmulepi64_epi128::<0x10>(m, low), _mm512_clmulepi64_epi128::<0x11>(m, h)];
        Self { f: _mm512_xor_si512(f, f_too), r: _mm512_xor_si512(r, r_too) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,vpclmulqdq")]
    fn add(self, other: Self) -> Self {
        Self { f: _mm512_xor_si512(self.f, other.f), r: _mm512_xor_si512(self.r, other.r) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,vpclmulqdq")]
    fn reduce(self) -> __m512i {
        _mm512_xor_si512(self.r, low(self.f))
    }
}

/// `a b` in each lane.
#[inline]
#[target_feature(enable = "avx512f,vpclmulqdq")]
fn product(a: __m512i, b: __m512i) -> __m512i {
    Sum::of(a, Factor::new(b)).reduce()
}

/// The first block in all lanes.
#[inline]
#[target_feature(enable = "avx512f")]
fn spread(vector: __m512i) -> __m512i {
    _mm512_shuffle_i64x2::<0>(vector, vector)
}

/// `h^32, ..., h^1`: what the blocks of a sum are multiplied by.
#[inline]
#[target_feature(enable = "avx512f,vpclmulqdq")]
fn powers(key: Block) -> [Factor; VECTORS] {
    let h = load(&[key; LANES]);
    let square = product(h, h);
    // h^2 h^2, h^2 h, h h and h itself.
    let products = product(_mm512_mask_blend_epi64(0b0000_1111, h, square), _mm512_mask_blend_epi64(0b11, h, square));
    let first = _mm512_mask_blend_epi64(0b1100_0000, products, h);
    let mut powers = [first; VECTORS];
    let mut known = 1;
    while known < VECTORS {
        // The highest power that is known, by which twice as many become known.
        let step = spread(powers[VECTORS - known]);
        for i in VECTORS - 2 * known..VECTORS - known {
            powers[i] = product(powers[i + known], step);
        }
        known *= 2;
    }
    let mut factors = [Factor { h, low: h }; VECTORS];
    for (factor, power) in factors.iter_mut().zip(powers) {
        *factor = Factor::new(power);
    }
    factors
}

#[target_feature(enable = "avx512f,vpclmulqdq")]
fn polyval(key: Block, blocks: &[[Block; BLOCKS]]) -> Block {
    let powers = powers(key);
    // In the first lane; the others are zero.
    let mut hash = _mm512_setzero_si512();
    for blocks in blocks {
        let (vectors, _) = blocks.as_chunks();
        let mut sum = Sum::of(_mm512_xor_si512(load(&vectors[0]), hash), powers[0]);
        for (vector, power) in vectors[1..].iter().zip(&powers[1..]) {
            sum = sum.add(Sum::of(load(vector), *power));
        }
        let all = sum.reduce();
        let half = _mm512_xor_si512(all, _mm512_shuffle_i64x2::<0b01_00_11_10>(all, all));
        let whole = _mm512_xor_si512(half, _mm512_shuffle_i64x2::<0b10_11_00_01>(half, half));
        hash = _mm512_maskz_mov_epi64(0b11, whole);
    }
    sum_of(hash)
}

#[target_feature(enable = "avx512f,vpclmulqdq")]
fn multiply(a: &mut [Block], b: &[Block]) {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks_mut(), b.as_chunks());
    for (a, b) in a.iter_mut().zip(b) {
        let products = product(load(a), load(b));
        store(a, products);
    }
    if !a_rest.is_empty() {
        let mut rest = Zeroizing::new([[Block::ZERO; LANES]; 2]);
        rest[0][..a_rest.len()].copy_from_slice(a_rest);
        rest[1][..b_rest.len()].copy_from_slice(b_rest);
        let [a, b] = &mut *rest;
        let products = product(load(a), load(b));
        store(a, products);
        a_rest.copy_from_slice(&a[..a_rest.len()]);
    }
}
