//! Does it fit? 9 sqrt(V) + (|w|_1 + 2N)/2 <= U/2 with g = 1: the exactness condition of a linear layer.
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
//! Branches that meet on the torus before one floor add their errors; each has its own hint.
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
//! combinations inherit it, so by Chernoff |error - mean| > 9 sqrt(V) with probability at most 2 exp(-81/2) < 2^-57.

use crate::params::ParameterSet;

/// Standard deviations allowed for: one output fails with probability at most 2 exp(-81/2) < 2^-57.
pub const KAPPA: f64 = 9.0;

/// E\[s^2\] of a uniform ternary coefficient.
const TERNARY_VARIANCE: f64 = 2.0 / 3.0;

/// What the noise of one branch depends on. The variance is in squared units of the smallest torus step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NoiseTerms {
    /// |w|^2: sum of the squares of the weights that meet in one output.
    pub weight_norm2: f64,
    /// |w|_1: sum of their magnitudes.
    pub weight_norm1: f64,
    /// |u_o|^2 of the published hint.
    pub rerandomiser_norm2: f64,
    /// |delta_o|^2 of the published hint: e_o and the rounding of the hint.
    pub hint_error_norm2: f64,
    /// Bits rounded off the bodies.
    pub rb: u32,
    /// Bits rounded off b*_0.
    pub r0: u32,
}

impl NoiseTerms {
    /// The terms to plan with, before anything is published: |u_o|^2 = 2N/3, |delta_o|^2 = N (sigma^2 + 4^rh/12).
    pub fn planned(set: &ParameterSet, weight_norm2: f64, weight_norm1: f64, rb: u32, r0: u32, rh: u32) -> Self {
        let n = set.degree as f64;
        Self {
            weight_norm2,
            weight_norm1,
            rerandomiser_norm2: TERNARY_VARIANCE * n,
            hint_error_norm2: n * (set.sigma2() + rounding_variance(rh)),
            rb,
            r0,
        }
    }

    /// V of this branch.
    pub fn variance(&self, set: &ParameterSet) -> f64 {
        self.weight_norm2 * (set.sigma2() + rounding_variance(self.rb))
            + self.rerandomiser_norm2 * (set.sigma2() + rounding_variance(self.r0))
            + TERNARY_VARIANCE * self.hint_error_norm2
    }
}

/// V of the sum of the branches.
///
/// Branches under one secret share e*_0 and s: the cross terms 2 <u_1, u_2> and 2 <delta_1, delta_2> have mean zero over
/// the publication and are not part of V. Relative to V their standard deviation is at most 1/sqrt(N), so a margin of
/// 0.15 bit covers six of them at N = 1024.
pub fn variance(set: &ParameterSet, branches: &[NoiseTerms]) -> f64 {
    branches.iter().map(|branch| branch.variance(set)).sum()
}

/// The largest error that must be allowed for: [`KAPPA`] sqrt(V) + (|w|_1 + 2N)/2, summed over branches where it adds.
pub fn required(set: &ParameterSet, branches: &[NoiseTerms]) -> f64 {
    let means: f64 = branches.iter().map(|branch| (branch.weight_norm1 + 2.0 * set.degree as f64) / 2.0).sum();
    KAPPA * variance(set, branches).sqrt() + means
}

/// The largest error that the floors forgive: U/2 = 2^(torus_bits - ell - 2), for one guard bit.
pub fn allowed(ell: u32, torus_bits: u32) -> f64 {
    2f64.powi(torus_bits as i32 - ell as i32 - 2)
}

/// log2(allowed / required): the layer is exact, up to 2^-57 per output, iff this is not negative.
pub fn margin_bits(set: &ParameterSet, ell: u32, branches: &[NoiseTerms]) -> f64 {
    (allowed(ell, set.torus_bits) / required(set, branches)).log2()
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

    fn close(a: f64, b: f64) -> bool {
        (a / b - 1.0).abs() < 1e-12
    }

    #[test]
    fn planning_is_the_formula_with_expected_norms() {
        // |w|^2 = 600, |w|_1 = 200, sigma^2 = 129/6 = 21.5, 4^rb/12 = 4^6/12, 4^r0/12 = 4^5/12, rh = 0.
        let terms = NoiseTerms::planned(&T32N2048, 600.0, 200.0, 6, 5, 0);
        let n = 2048.0;
        let v = 600.0 * (21.5 + 4096.0 / 12.0) + n * 2.0 / 3.0 * (21.5 + 1024.0 / 12.0) + n * 2.0 / 3.0 * 21.5;
        assert!(close(terms.variance(&T32N2048), v));
        assert!(close(required(&T32N2048, &[terms]), 9.0 * v.sqrt() + 100.0 + n));
        assert_eq!(allowed(13, 32), 131072.0);
        assert!(close(margin_bits(&T32N2048, 13, &[terms]), (131072.0 / (9.0 * v.sqrt() + 100.0 + n)).log2()));
    }

    #[test]
    fn branches_add() {
        let (a, b) = (
            NoiseTerms::planned(&T64N4096, 600.0, 200.0, 20, 18, 19),
            NoiseTerms::planned(&T64N4096, 50.0, 40.0, 18, 18, 17),
        );
        let v = a.variance(&T64N4096) + b.variance(&T64N4096);
        assert!(close(variance(&T64N4096, &[a, b]), v));
        assert!(close(required(&T64N4096, &[a, b]), 9.0 * v.sqrt() + 120.0 + 2.0 * 4096.0));
        assert_eq!(variance(&T64N4096, &[]), 0.0);
    }

    #[test]
    fn each_guard_against_noise_counts() {
        // On the smallest ring the noise alone rules out wide accumulators.
        let terms = NoiseTerms::planned(&T32N1024, 600.0, 200.0, 0, 0, 0);
        assert!(margin_bits(&T32N1024, 10, &[terms]) > 0.0);
        assert!(margin_bits(&T32N1024, 13, &[terms]) < 0.0);
    }

    #[test]
    fn nine_deviations_fail_once_in_2_to_the_57() {
        assert!((2.0 * (-KAPPA * KAPPA / 2.0).exp()).log2() < -57.0);
    }
}
