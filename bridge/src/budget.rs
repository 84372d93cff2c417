//! Does a layer fit a parameter set, and how much may be rounded off what travels?

use lowkey_he::noise::{self, NoiseTerms};
use lowkey_he::params::ParameterSet;

use crate::conv::ConvShape;

/// Room that a plan leaves for the draws of u_o and of the hint's error to exceed their means.
pub const SLACK: f64 = 1.06;

/// Further room, in bits, where several branches share e*_0 and s (see [`noise::variance`]).
const BRANCH_MARGIN: f64 = 0.15;

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

    /// The noise to plan with, slack included.
    pub fn planned(&self, set: &ParameterSet, rb: u32, r0: u32, rh: u32) -> NoiseTerms {
        let mut terms = NoiseTerms::planned(set, self.norm2, self.norm1, rb, r0, rh);
        terms.rerandomiser_norm2 *= SLACK;
        terms.hint_error_norm2 *= SLACK;
        terms
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
/// `branches` has the largest norms of each encrypted term over its outputs.
pub fn margin_bits(set: &ParameterSet, ell: u32, branches: &[Norms], rounding: Rounding) -> f64 {
    let terms: Vec<NoiseTerms> =
        branches.iter().map(|norms| norms.planned(set, rounding.body, rounding.b0, rounding.hint)).collect();
    noise::margin_bits(set, ell, &terms) - if branches.len() > 1 { BRANCH_MARGIN } else { 0.0 }
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
