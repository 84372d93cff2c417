//! sum_j w_oj * a_j: the weights of one output ciphertext applied to the public masks of its inputs.
//!
//! It is a constant of the model and computed once per publication; `hint.rs` makes it publishable.

use zeroize::Zeroize;

use crate::error::HeError;
use crate::mask::Mask;
use crate::ring::{NttPoly, NttSmall, Ring};
use crate::word::TorusWord;

/// Applies sparse weight polynomials to masks, with buffers that it reuses, and wipes on drop.
pub struct Evaluator<W: TorusWord> {
    ring: &'static Ring<W>,
    dense: Vec<i64>,
    weights: NttSmall<W>,
    sum: NttPoly<W>,
}

impl<W: TorusWord> Evaluator<W> {
    /// An evaluator for masks of one ring.
    pub fn new(ring: &'static Ring<W>) -> Self {
        Self { ring, dense: vec![0; ring.degree()], weights: ring.zero_small(), sum: ring.zero() }
    }

    /// sum_j w_oj * a_j, N coefficients. A weight polynomial is a list of (coefficient, weight); weights of one
    /// coefficient add. An input ciphertext that the output does not use is left out of `terms`.
    ///
    /// # Errors
    /// [`HeError::ParameterSet`] for a mask of another set, [`HeError::Coefficient`] for an index beyond the degree,
    /// [`HeError::SmallNorm`] if the 1-norms of all weights and of u_o (N) together leave the exact range of the ring.
    pub fn evaluate<'a, T>(&mut self, terms: T) -> Result<Vec<W>, HeError>
    where
        T: IntoIterator<Item = (&'a Mask<W>, &'a [(usize, i32)])>,
    {
        let degree = self.ring.degree();
        let mut norm1 = degree as u64;
        self.sum.clear();
        for (mask, weights) in terms {
            self.ring.expect_set(mask.ring().set())?;
            norm1 = weights.iter().fold(norm1, |sum, (_, w)| sum.saturating_add(w.unsigned_abs().into()));
            if norm1 > self.ring.max_norm1() {
                return Err(HeError::SmallNorm { norm1, limit: self.ring.max_norm1() });
            }
            self.dense.fill(0);
            for &(index, weight) in weights {
                *self.dense.get_mut(index).ok_or(HeError::Coefficient { index, degree })? += i64::from(weight);
            }
            self.ring.forward_small_into(&self.dense, &mut self.weights)?;
            self.ring.mul_acc(&mut self.sum, mask.ntt(), &self.weights);
        }
        let mut out = vec![W::default(); degree];
        self.ring.inverse_into(&mut self.sum, &mut out);
        Ok(out)
    }
}

impl<W: TorusWord> Drop for Evaluator<W> {
    fn drop(&mut self) {
        self.dense.zeroize();
        self.weights.zeroize();
        self.sum.zeroize();
    }
}

/// The buffers hold weights.
impl<W: TorusWord> std::fmt::Debug for Evaluator<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Evaluator({}, [redacted])", self.ring.set().name)
    }
}
