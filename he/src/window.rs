//! Single coefficients of a negacyclic product by inner products.
//!
//! With w_m = t_{N-1-m} for m < N and w_m = -t_{2N-1-m} for N <= m < 2N-1,
//!
//! ```text
//! (t * s)_i = sum_{k <= i} s_k t_{i-k} - sum_{k > i} s_k t_{N+i-k} = sum_k s_k w_{N-1-i+k}
//! ```
//!
//! so every coefficient is the inner product of s with N consecutive words of one array. It costs N multiplications
//! where the transform costs the whole product: cheaper for up to about a hundred positions. Dense layers have one.

use zeroize::Zeroize;

use crate::simd::vectorize;
use crate::word::TorusWord;

/// A torus polynomial laid out for inner products: the reversed polynomial followed by its negated wrap-around.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window<W: TorusWord>(Vec<W>);

impl<W: TorusWord> Window<W> {
    /// The window of a torus polynomial of N >= 1 coefficients.
    pub fn new(torus: &[W]) -> Self {
        let reversed = torus.iter().rev().copied();
        let wrapped = torus[1..].iter().rev().map(|t| t.wrapping_neg());
        Self(reversed.chain(wrapped).collect())
    }

    /// The degree N.
    pub fn degree(&self) -> usize {
        self.0.len().div_ceil(2)
    }

    /// The coefficients at `positions` of the product with `small` (N coefficients), mod q. The time depends on the
    /// number of positions only.
    ///
    /// # Panics
    /// If `small` does not have N coefficients or a position is not below N.
    pub fn product_at(&self, small: &[i8], positions: &[usize]) -> Vec<W> {
        let n = self.degree();
        assert_eq!(small.len(), n);
        positions.iter().map(|&i| inner_product(&self.0[n - 1 - i..2 * n - 1 - i], small)).collect()
    }
}

fn inner_product<W: TorusWord>(words: &[W], small: &[i8]) -> W {
    vectorize(
        #[inline(always)]
        || {
            let terms = words.iter().zip(small).map(|(w, &s)| w.wrapping_mul(W::from_i64(i64::from(s))));
            terms.fold(W::default(), W::wrapping_add)
        },
    )
}

impl<W: TorusWord> Zeroize for Window<W> {
    fn zeroize(&mut self) {
        self.0.zeroize();
    }
}
