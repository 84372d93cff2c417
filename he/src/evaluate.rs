//! sum_j w_oj * a_j: the weights of one output ciphertext applied to the public masks of its inputs.
//!
//! It is a constant of the model and computed once per publication; `hint.rs` makes it publishable.

use zeroize::Zeroize;

use crate::error::HeError;
use crate::mask::Mask;
use crate::ring::{NttPoly, NttSmall, Ring};
use crate::word::TorusWord;

/// w_oj: the weights of one output that meet input ciphertext j, as a sparse polynomial. Prints redacted.
#[derive(Clone, PartialEq, Eq)]
pub struct WeightPolynomial {
    /// j.
    pub ciphertext: usize,
    /// (coefficient, weight); weights of one coefficient add.
    pub terms: Vec<(usize, i32)>,
}

impl std::fmt::Debug for WeightPolynomial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WeightPolynomial({}, [redacted])", self.ciphertext)
    }
}

/// Applies sparse weight polynomials to masks, with buffers that it reuses, and wipes on drop.
pub struct Evaluator<W: TorusWord> {
    ring: &'static Ring<W>,
    dense: Vec<i64>,
    weights: NttSmall<W>,
    sum: NttPoly<W>,
    /// 1-norm of the weights in `sum`.
    norm1: u64,
}

impl<W: TorusWord> Evaluator<W> {
    /// An evaluator for masks of one ring.
    pub fn new(ring: &'static Ring<W>) -> Self {
        Self { ring, dense: vec![0; ring.degree()], weights: ring.zero_small(), sum: ring.zero(), norm1: 0 }
    }

    /// sum_j w_oj * a_j, N coefficients. A weight polynomial is a list of (coefficient, weight); weights of one
    /// coefficient add. An input ciphertext that the output does not use is left out of `terms`.
    ///
    /// Products are exact up to a total 1-norm of the weights ([`Ring::max_norm1`]): larger sums are computed in parts,
    /// which are added modulo q.
    ///
    /// # Errors
    /// [`HeError::ParameterSet`] for a mask of another set, [`HeError::Coefficient`] for an index beyond the degree,
    /// [`HeError::SmallNorm`] if a single weight leaves the exact range of the ring.
    pub fn evaluate<'a, T>(&mut self, terms: T) -> Result<Vec<W>, HeError>
    where
        T: IntoIterator<Item = (&'a Mask<W>, &'a [(usize, i32)])>,
    {
        let degree = self.ring.degree();
        let mut out = vec![W::default(); degree];
        self.sum.clear();
        self.norm1 = 0;
        for (mask, mut rest) in terms {
            self.ring.expect_set(mask.ring().set())?;
            if let Some(&(index, _)) = rest.iter().find(|(index, _)| *index >= degree) {
                return Err(HeError::Coefficient { index, degree });
            }
            loop {
                let (part, after) = rest.split_at(self.fitting(rest)?);
                self.dense.fill(0);
                part.iter().for_each(|&(index, weight)| self.dense[index] += i64::from(weight));
                self.ring.forward_small_into(&self.dense, &mut self.weights)?;
                self.ring.mul_acc(&mut self.sum, mask.ntt(), &self.weights);
                rest = after;
                if rest.is_empty() {
                    break;
                }
                self.flush(&mut out);
            }
        }
        self.flush(&mut out);
        Ok(out)
    }

    /// How many of the weights still fit beside those in `sum`: at least one where `sum` is empty.
    fn fitting(&mut self, weights: &[(usize, i32)]) -> Result<usize, HeError> {
        let limit = self.ring.max_norm1();
        for (count, (_, weight)) in weights.iter().enumerate() {
            let norm1 = u64::from(weight.unsigned_abs());
            if norm1 > limit {
                return Err(HeError::SmallNorm { norm1, limit });
            }
            if self.norm1 + norm1 > limit {
                return Ok(count);
            }
            self.norm1 += norm1;
        }
        Ok(weights.len())
    }

    /// out += sum, and starts a new sum.
    fn flush(&mut self, out: &mut [W]) {
        let mut part = vec![W::default(); out.len()];
        self.ring.inverse_into(&mut self.sum, &mut part);
        out.iter_mut().zip(&part).for_each(|(out, part)| *out = out.wrapping_add(*part));
        part.zeroize();
        self.sum.clear();
        self.norm1 = 0;
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
