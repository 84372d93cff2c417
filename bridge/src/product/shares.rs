//! Shares of a product from the shares of its terms: plain functions, modulo 2^ell or 2^(ell + 1).
//!
//! A cross term leaves c + v = 2 z + r_1 with a guard bit r_1 in {0, 1}. They are either added up with twice the local products in
//! width ell + 1 and left to a truncation, which drops them ([`join`], [`centre`]), or taken off before ([`split_guard`]):
//!
//! ```text
//!     z = (c >> 1) + (v >> 1) + c_0 v_0    (mod 2^ell)          c_0, v_0: the lowest bits; one OLE of ell bits shares c_0 v_0
//! ```
//!
//! `docs/product.md` says what each of the two claims.

use rand::CryptoRng;
use rayon::prelude::*;
use zeroize::Zeroizing;

use super::packing::Sizes;
use crate::share::{Ring, RingShare};

/// A B modulo 2^ell: p x r words, row-major.
///
/// # Panics
/// If an operand does not have its size.
pub fn local_product(sizes: Sizes, ell: u32, a: &[u64], b: &[u64]) -> RingShare {
    assert_eq!((a.len(), b.len()), (sizes.encrypted(), sizes.clear()), "the operands have the sizes of the product");
    let mut out = Zeroizing::new(vec![0u64; sizes.outputs()]);
    out.par_chunks_exact_mut(sizes.columns).zip(a.par_chunks_exact(sizes.inner)).for_each(|(out, a)| {
        for (a, b) in a.iter().zip(b.chunks_exact(sizes.columns)) {
            out.iter_mut().zip(b).for_each(|(out, b)| *out = out.wrapping_add(a.wrapping_mul(*b)));
        }
    });
    RingShare::new(out, Ring::plain(ell))
}

/// The matrix of `rows` rows, row-major, with rows and columns exchanged.
pub fn transpose(rows: usize, matrix: &[u64]) -> Zeroizing<Vec<u64>> {
    let columns = matrix.len() / rows;
    let element = |at: usize| matrix[at % rows * columns + at / rows];
    Zeroizing::new((0..matrix.len()).map(element).collect())
}

/// 2 local + the shares of all cross terms, modulo 2^(ell + 1): both parties' results add up to 2 z + r_1 + r_2 + ...
///
/// # Panics
/// If lengths differ.
pub fn join(local: RingShare, crosses: &[RingShare]) -> RingShare {
    let doubled = Ring::plain(local.ring().bits() + 1);
    local.into_ring(doubled, |sum| {
        sum.iter_mut().for_each(|x| *x <<= 1);
        for cross in crosses {
            assert_eq!(cross.words().len(), sum.len(), "all terms have the product's size");
            sum.iter_mut().zip(cross.words()).for_each(|(sum, x)| *sum = sum.wrapping_add(*x));
        }
    })
}

/// One party's step after [`join`]: takes off the mean of the guard bits of `crosses` cross terms, with a random bit for every
/// element where it is half of an odd number. What is left of them has mean zero, so that a truncation by s + 1 bits is
/// unbiased.
pub fn centre<R: CryptoRng>(joined: &mut RingShare, crosses: usize, rng: &mut R) {
    let whole = crosses as u64 / 2;
    joined.change(|words| {
        for x in words {
            let half = if crosses % 2 == 1 { u64::from(rng.next_u32() & 1) } else { 0 };
            *x = x.wrapping_sub(whole + half);
        }
    });
}

/// One party's share of one cross term (c or v) without its lowest bit, and that bit: shares of z, up to the product of both
/// parties' bits.
pub fn split_guard(share: RingShare) -> (RingShare, Zeroizing<Vec<u64>>) {
    let lowest = Zeroizing::new(share.words().iter().map(|x| x & 1).collect());
    let ring = Ring::plain(share.ring().bits());
    (share.into_ring(ring, |words| words.iter_mut().for_each(|x| *x >>= 1)), lowest)
}
