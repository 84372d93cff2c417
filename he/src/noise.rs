//! Does it fit? kappa sqrt(V) + (|w|_1 + 2N)/2 <= U/2: the exactness condition of a linear layer with one guard bit.
//!
//! Symbols are those of the [crate's table](crate#notation).
//!
//! The error of B_o + share_o against scaling * (W x)_o, for one output coefficient of one output ciphertext, is
//!
//! ```text
//! sum_j w_oj * (e_j + rounding of t_j) + u_o * (e*_0 + rounding of b*_0) - s * delta_o
//! ```
//!
//! with delta_o = e_o + rounding of the hint. Given the weights, u_o and delta_o, which the server knows, it is a sum of
//! independent terms of variance
//!
//! ```text
//! V = |w|^2 (sigma^2 + 4^rb/12) + |u_o|^2 (sigma^2 + 4^r0/12) + E[s^2] |delta_o|^2,      E[s^2] = 2/3
//! ```
//!
//! plus the means of the roundings, at most 1/2 per unit of 1-norm: |w|_1/2, |u_o|_1/2 <= N/2 and |s|_1/2 <= N/2.
//!
//! Branches that meet on the torus before one floor add their errors. Each has its own w, e_j, u and delta, but those
//! under one secret share e*_0 and s: where they meet, the vectors that multiply e*_0 (and s) are added before their norm
//! is taken. With u_i, delta_i turned to the coefficient of branch i ([`Draw::cross`](crate::hint::Draw::cross)),
//!
//! ```text
//! |u_1 + ... + u_m|^2 = sum_i |u_i|^2 + sum_{i < j} 2 <u_i, u_j>         and the same for delta
//! ```
//!
//! and the scalar products are [`Cross`]. The server knows them at publication, and checks with what it has drawn. A plan
//! allows for [`CROSS_DEVIATIONS`] standard deviations of them.
//!
//! **Failure probability.** Every random coefficient (uniform ternary, uniform rounding error, TUniform = uniform +
//! fair bit) is a sum of independent uniform variables on equally spaced points. Such a variable is strictly
//! sub-Gaussian: with m points at distance 1,
//!
//! ```text
//! E exp(tX) = sinh(mt/2) / (m sinh(t/2)) = prod_k (1 + m^2 y_k)/(1 + y_k) <= exp((m^2 - 1) sum_k y_k) = exp(t^2 Var X / 2)
//! ```
//!
//! where y_k = t^2 / (2 pi k)^2, the product is that of sinh, and (1 + m^2 y)/(1 + y) <= 1 + (m^2 - 1) y. Linear
//! combinations inherit it, so by Chernoff |error - mean| > kappa sqrt(V) with probability at most 2 exp(-kappa^2 / 2).
//!
//! **kappa.** A server key serves at most [`MAX_INFERENCES`], an inference has at most [`MAX_OUTPUTS`] encrypted outputs,
//! and all of them together shall fail with at most 2^-40 (union bound): 2 exp(-kappa^2/2) 2^(32 + 26) <= 2^-40. One
//! constant for the largest plan there is, so that nobody has to know which kappa a plan was made with. A kappa of its own
//! would save a network of 2^18 outputs 0.06 bits of noise, and one of 2^13 outputs 0.11.

use std::ops::Add;

use crate::params::ParameterSet;
use crate::torus::Rounding;

/// Standard deviations allowed for: one output fails with probability at most 2 exp(-kappa^2/2) < 2^-98.
pub const KAPPA: f64 = 11.72;

/// Inferences that a server key may serve.
pub const MAX_INFERENCES: u64 = 1 << 32;

/// Encrypted outputs that an inference may have.
pub const MAX_OUTPUTS: u64 = 1 << 26;

/// Standard deviations of the scalar products between branches that a plan allows for.
pub const CROSS_DEVIATIONS: f64 = 5.0;

/// log2 of a bound on the probability that any output of any inference under a key is wrong, for inferences of `outputs`
/// encrypted outputs.
pub fn failure_log2(outputs: u64) -> f64 {
    1.0 - KAPPA * KAPPA / 2.0 * std::f64::consts::LOG2_E + (outputs as f64).log2() + (MAX_INFERENCES as f64).log2()
}

/// E\[s^2\] of a uniform ternary coefficient.
const TERNARY_VARIANCE: f64 = 2.0 / 3.0;

/// |w|^2 and |w|_1 of the weights that meet in one output.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Norms {
    /// |w|^2: sum of their squares.
    pub norm2: f64,
    /// |w|_1: sum of their magnitudes.
    pub norm1: f64,
}

impl Norms {
    /// Of some weights.
    pub fn of(weights: &[i32]) -> Self {
        Self {
            norm2: weights.iter().map(|&w| f64::from(w).powi(2)).sum(),
            norm1: weights.iter().map(|&w| f64::from(w).abs()).sum(),
        }
    }

    /// The larger of each.
    pub fn max(self, other: Self) -> Self {
        Self { norm2: self.norm2.max(other.norm2), norm1: self.norm1.max(other.norm1) }
    }

    /// What a plan may depend on, since it is public: |w|^2 rounded up to a power of two, and the largest |w|_1 that
    /// `fan_in` integer weights of such a |w|^2 can have (Cauchy and Schwarz; and |w| <= w^2). So every rounding is a
    /// function of the architecture, of accumulator widths and of these powers of two.
    pub fn class(self, fan_in: usize) -> Self {
        let mut norm2 = 1.0;
        while norm2 < self.norm2 {
            norm2 *= 2.0;
        }
        Self { norm2, norm1: norm2.min((fan_in as f64 * norm2).sqrt()) }
    }
}

/// What a publication draws for one branch of one output, as far as the noise depends on it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drawn {
    /// |u_o|^2.
    pub rerandomiser_norm2: f64,
    /// |delta_o|^2: of e_o and the rounding of the hint.
    pub hint_error_norm2: f64,
}

impl Drawn {
    /// The means, to plan with before anything is published: |u_o|^2 = 2N/3, |delta_o|^2 = N (sigma^2 + 4^rh/12).
    pub fn expected(set: &ParameterSet, rounding: Rounding) -> Self {
        let n = set.degree as f64;
        Self {
            rerandomiser_norm2: TERNARY_VARIANCE * n,
            hint_error_norm2: n * (set.sigma2() + rounding_variance(rounding.hint)),
        }
    }
}

/// What the noise of one branch depends on. The variance is in squared units of the smallest torus step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NoiseTerms {
    /// Of w.
    pub weights: Norms,
    /// Of u_o and delta_o, expected or drawn.
    pub drawn: Drawn,
    /// Of bodies and b*_0; that of the hint is in delta_o.
    pub rounding: Rounding,
}

impl NoiseTerms {
    /// The terms to plan with, before anything is published.
    pub fn planned(set: &ParameterSet, weights: Norms, rounding: Rounding) -> Self {
        Self { weights, drawn: Drawn::expected(set, rounding), rounding }
    }

    /// V of this branch.
    pub fn variance(&self, set: &ParameterSet) -> f64 {
        self.weights.norm2 * (set.sigma2() + rounding_variance(self.rounding.body))
            + self.drawn.rerandomiser_norm2 * (set.sigma2() + rounding_variance(self.rounding.b0))
            + TERNARY_VARIANCE * self.drawn.hint_error_norm2
    }
}

/// What branches under one secret add to the sums of their norms (see the module's description).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cross {
    /// Sum over all pairs of 2 <u_i, u_j>.
    pub rerandomisers: f64,
    /// Sum over all pairs of 2 <delta_i, delta_j>.
    pub hint_errors: f64,
}

impl Cross {
    /// One branch, or branches under different secrets.
    pub const NONE: Self = Self { rerandomisers: 0.0, hint_errors: 0.0 };

    /// To plan with. The products have mean zero over the publication, and <u_i, u_j> has variance |u_i|^2 |u_j|^2 / N.
    pub fn planned(set: &ParameterSet, branches: &[NoiseTerms]) -> Self {
        let deviations = |norm2: fn(&NoiseTerms) -> f64| {
            let sum: f64 = branches.iter().map(norm2).sum();
            let squares: f64 = branches.iter().map(|branch| norm2(branch).powi(2)).sum();
            // sum_{i < j} 4 a_i a_j = 2 ((sum a)^2 - sum a^2), up to the rounding of floats.
            CROSS_DEVIATIONS * (2.0 * (sum * sum - squares).max(0.0) / set.degree as f64).sqrt()
        };
        match branches.len() {
            0 | 1 => Self::NONE,
            _ => Self {
                rerandomisers: deviations(|branch| branch.drawn.rerandomiser_norm2),
                hint_errors: deviations(|branch| branch.drawn.hint_error_norm2),
            },
        }
    }

    /// Its part of V. All branches of a layer have b*_0 of one rounding r0.
    pub fn variance(&self, set: &ParameterSet, rounding: Rounding) -> f64 {
        self.rerandomisers * (set.sigma2() + rounding_variance(rounding.b0)) + TERNARY_VARIANCE * self.hint_errors
    }
}

/// More pairs of branches.
impl Add for Cross {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            rerandomisers: self.rerandomisers + other.rerandomisers,
            hint_errors: self.hint_errors + other.hint_errors,
        }
    }
}

/// V of the sum of the branches.
pub fn variance(set: &ParameterSet, branches: &[NoiseTerms], cross: Cross) -> f64 {
    let own: f64 = branches.iter().map(|branch| branch.variance(set)).sum();
    branches.first().map_or(0.0, |branch| own + cross.variance(set, branch.rounding))
}

/// The largest error that must be allowed for: [`KAPPA`] sqrt(V) + (|w|_1 + 2N)/2, summed over branches where it adds.
pub fn required(set: &ParameterSet, branches: &[NoiseTerms], cross: Cross) -> f64 {
    let means: f64 = branches.iter().map(|branch| (branch.weights.norm1 + 2.0 * set.degree as f64) / 2.0).sum();
    KAPPA * variance(set, branches, cross).sqrt() + means
}

/// The largest error that the floors forgive: U/2 = 2^(torus_bits - ell - 2), for one guard bit.
pub fn allowed(set: &ParameterSet, ell: u32) -> f64 {
    2f64.powi(set.torus_bits as i32 - ell as i32 - 2)
}

/// log2(allowed / required): the layer is exact, up to 2 exp(-[`KAPPA`]^2/2) per output, iff this is not negative.
pub fn margin_bits(set: &ParameterSet, ell: u32, branches: &[NoiseTerms], cross: Cross) -> f64 {
    (allowed(set, ell) / required(set, branches, cross)).log2()
}

/// Upper bound on the variance of the error of rounding `bits` bits to nearest.
fn rounding_variance(bits: u32) -> f64 {
    match bits {
        0 => 0.0,
        _ => 4f64.powi(bits as i32) / 12.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::{T32N1024, T32N2048, T64N4096};

    const NORMS: Norms = Norms { norm2: 600.0, norm1: 200.0 };

    fn close(a: f64, b: f64) -> bool {
        (a / b - 1.0).abs() < 1e-12
    }

    #[test]
    fn planning_is_the_formula_with_expected_norms() {
        // |w|^2 = 600, |w|_1 = 200, sigma^2 = 129/6 = 21.5, 4^rb/12 = 4^6/12, 4^r0/12 = 4^5/12, rh = 0.
        let terms = NoiseTerms::planned(&T32N2048, NORMS, Rounding { body: 6, b0: 5, hint: 0 });
        let n = 2048.0;
        let v = 600.0 * (21.5 + 4096.0 / 12.0) + n * 2.0 / 3.0 * (21.5 + 1024.0 / 12.0) + n * 2.0 / 3.0 * 21.5;
        assert!(close(terms.variance(&T32N2048), v));
        assert!(close(required(&T32N2048, &[terms], Cross::NONE), KAPPA * v.sqrt() + 100.0 + n));
        assert_eq!(allowed(&T32N2048, 13), 131072.0);
        let margin = (131072.0 / (KAPPA * v.sqrt() + 100.0 + n)).log2();
        assert!(close(margin_bits(&T32N2048, 13, &[terms], Cross::NONE), margin));
    }

    #[test]
    fn branches_add() {
        let (a, b) = (
            NoiseTerms::planned(&T64N4096, NORMS, Rounding { body: 20, b0: 18, hint: 19 }),
            NoiseTerms::planned(&T64N4096, Norms { norm2: 50.0, norm1: 40.0 }, Rounding { body: 18, b0: 18, hint: 17 }),
        );
        let v = a.variance(&T64N4096) + b.variance(&T64N4096);
        assert!(close(variance(&T64N4096, &[a, b], Cross::NONE), v));
        assert!(close(required(&T64N4096, &[a, b], Cross::NONE), KAPPA * v.sqrt() + 120.0 + 2.0 * 4096.0));
        assert_eq!(variance(&T64N4096, &[], Cross::NONE), 0.0);
        let cross = Cross { rerandomisers: 100.0, hint_errors: -7.0 };
        let more = 100.0 * (21.5 + 4f64.powi(18) / 12.0) - 14.0 / 3.0;
        assert!(close(variance(&T64N4096, &[a, b], cross), v + more));
    }

    /// Two branches: 2 <u_1, u_2> has standard deviation 2 (2/3) sqrt(N); with more it grows with the root of the pairs.
    #[test]
    fn a_plan_allows_for_what_branches_share() {
        let terms = NoiseTerms::planned(&T32N1024, NORMS, Rounding { body: 6, b0: 5, hint: 4 });
        let planned = |count| Cross::planned(&T32N1024, &vec![terms; count]);
        assert_eq!(planned(1), Cross::NONE);
        assert!(close(planned(2).rerandomisers, CROSS_DEVIATIONS * 4.0 / 3.0 * 32.0));
        assert!(close(planned(2).hint_errors, CROSS_DEVIATIONS * 2.0 * terms.drawn.hint_error_norm2 / 32.0));
        for count in [3, 4, 5, 6] {
            let pairs = (count * (count - 1) / 2) as f64;
            assert!(close(planned(count).rerandomisers, pairs.sqrt() * planned(2).rerandomisers));
        }
    }

    #[test]
    fn a_class_is_a_power_of_two_that_bounds_both_norms() {
        let norms = |norm2, norm1| Norms { norm2, norm1 };
        assert_eq!(norms(0.0, 0.0).class(9), norms(1.0, 1.0));
        assert_eq!(norms(5.0, 5.0).class(9), norms(8.0, 8.0));
        assert_eq!(norms(1024.0, 64.0).class(4), norms(1024.0, 64.0));
        assert_eq!(norms(1025.0, 64.0).class(8), norms(2048.0, 128.0));
        for weights in [&[7, -7, 7, 3, 0, 1][..], &[1; 300], &[-128; 5], &[32767; 2048], &[0; 4]] {
            let exact = Norms::of(weights);
            let class = exact.class(weights.len());
            assert!(class.norm2 >= exact.norm2 && class.norm2 < 2.0 * exact.norm2.max(1.0));
            assert!(class.norm1 >= exact.norm1, "{class:?} {exact:?}");
        }
    }

    #[test]
    fn each_guard_against_noise_counts() {
        // On the smallest ring the noise alone rules out wide accumulators.
        let terms = NoiseTerms::planned(&T32N1024, NORMS, Rounding::default());
        assert!(margin_bits(&T32N1024, 10, &[terms], Cross::NONE) > 0.0);
        assert!(margin_bits(&T32N1024, 13, &[terms], Cross::NONE) < 0.0);
    }

    #[test]
    fn all_outputs_of_all_inferences_fail_once_in_2_to_the_40() {
        assert!((2.0 * (-KAPPA * KAPPA / 2.0).exp()).log2() < -98.0);
        assert!(failure_log2(MAX_OUTPUTS) <= -40.0);
        // No larger than need be.
        assert!(failure_log2(MAX_OUTPUTS) > -40.1);
    }
}
