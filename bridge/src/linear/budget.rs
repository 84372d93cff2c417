//! Does a layer fit a parameter set, and how much may be rounded off what travels?

use lowkey_he::noise::{self, Cross, NoiseTerms};
use lowkey_he::params::ParameterSet;

use crate::conv::ConvShape;

/// Room that a plan leaves for the draws of u_o and of the hint's error to exceed their means.
pub const SLACK: f64 = 1.06;

/// |w|^2 and |w|_1 of the weights that meet in one output.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Norms {
    /// |w|^2.
    pub norm2: f64,
    /// |w|_1.
    pub norm1: f64,
}

impl Norms {
    /// One entry per output channel; `weights` is `[out, in / groups, kernel]`.
    pub fn per_output(shape: &ConvShape, weights: &[i32]) -> Vec<Self> {
        let of = |own: &[i32]| Self {
            norm2: own.iter().map(|&w| f64::from(w).powi(2)).sum(),
            norm1: own.iter().map(|&w| f64::from(w).abs()).sum(),
        };
        weights.chunks_exact(shape.fan_in()).map(of).collect()
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

    /// The noise to plan with, slack included.
    pub fn planned(&self, set: &ParameterSet, rb: u32, r0: u32, rh: u32) -> NoiseTerms {
        let mut terms = NoiseTerms::planned(set, self.norm2, self.norm1, rb, r0, rh);
        terms.rerandomiser_norm2 *= SLACK;
        terms.hint_error_norm2 *= SLACK;
        terms
    }

    /// The noise of a publication that drew `rerandomiser_norm2` and `hint_error_norm2`.
    pub(crate) fn drawn(&self, (rerandomiser_norm2, hint_error_norm2): (f64, f64), rb: u32, r0: u32) -> NoiseTerms {
        let (weight_norm2, weight_norm1) = (self.norm2, self.norm1);
        NoiseTerms { weight_norm2, weight_norm1, rerandomiser_norm2, hint_error_norm2, rb, r0 }
    }
}

/// How many low bits travel nowhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rounding {
    /// rb: off every body.
    pub body: u32,
    /// r0: off b*_0.
    pub b0: u32,
    /// rh: off the hint.
    pub hint: u32,
}

/// Bits between the noise that is allowed and the noise to plan for; the layer fits iff this is not negative.
/// `branches` has the norms of each encrypted term to plan with: the [class](Norms::class) of the largest over its outputs.
pub fn margin_bits(set: &ParameterSet, ell: u32, branches: &[Norms], rounding: Rounding) -> f64 {
    let terms: Vec<NoiseTerms> =
        branches.iter().map(|norms| norms.planned(set, rounding.body, rounding.b0, rounding.hint)).collect();
    noise::margin_bits(set, ell, &terms, Cross::planned(set, &terms))
}

/// The largest rounding of bodies that fits beside `b0` and a hint rounded alike, then the largest of the hint; `None` if
/// nothing fits.
pub fn largest_rounding(set: &ParameterSet, ell: u32, branches: &[Norms], b0: u32) -> Option<Rounding> {
    if ell + 3 > set.torus_bits {
        return None;
    }
    let limit = set.torus_bits - ell;
    let fits = |body, hint| margin_bits(set, ell, branches, Rounding { body, b0, hint }) >= 0.0;
    let body = (0..limit).rev().find(|&body| fits(body, b0))?;
    let hint = (b0..set.torus_bits).rev().find(|&hint| fits(body, hint))?;
    Some(Rounding { body, b0, hint })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_a_power_of_two_that_bounds_both_norms() {
        let norms = |norm2, norm1| Norms { norm2, norm1 };
        assert_eq!(norms(0.0, 0.0).class(9), norms(1.0, 1.0));
        assert_eq!(norms(5.0, 5.0).class(9), norms(8.0, 8.0));
        assert_eq!(norms(1024.0, 64.0).class(4), norms(1024.0, 64.0));
        assert_eq!(norms(1025.0, 64.0).class(8), norms(2048.0, 128.0));
        for weights in [&[7, -7, 7, 3, 0, 1][..], &[1; 300], &[-128; 5], &[32767; 2048], &[0; 4]] {
            let exact = Norms::per_output(&ConvShape::dense(weights.len(), 1), weights)[0];
            let class = exact.class(weights.len());
            assert!(class.norm2 >= exact.norm2 && class.norm2 < 2.0 * exact.norm2.max(1.0));
            assert!(class.norm1 >= exact.norm1, "{class:?} {exact:?}");
        }
    }
}
