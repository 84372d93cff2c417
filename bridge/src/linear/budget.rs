//! Does a layer fit a parameter set, and how much may be rounded off what travels?

use lowkey_he::noise::{self, Cross, NoiseTerms};
use lowkey_he::params::ParameterSet;
pub use lowkey_he::{Norms, Rounding};

use crate::conv::ConvShape;

/// Room that a plan leaves for the draws of u_o and of the hint's error to exceed their means.
pub const SLACK: f64 = 1.06;

/// The norms of each output channel; `weights` is `[out, in / groups, kernel]`.
pub fn norms_per_output(shape: &ConvShape, weights: &[i32]) -> Vec<Norms> {
    norms_per_ciphertext(shape, 1, weights)
}

/// The norms of each output ciphertext of so many channels: all of its weights meet every output.
pub fn norms_per_ciphertext(shape: &ConvShape, bands: usize, weights: &[i32]) -> Vec<Norms> {
    weights.chunks(bands * shape.fan_in()).map(Norms::of).collect()
}

/// The norms to plan an output ciphertext of `bands` channels with, `class` being those of a channel.
pub fn banded(class: Norms, bands: usize) -> Norms {
    Norms { norm2: bands as f64 * class.norm2, norm1: bands as f64 * class.norm1 }
}

/// The noise to plan with, slack included.
pub fn planned(set: &ParameterSet, weights: Norms, rounding: Rounding) -> NoiseTerms {
    let mut terms = NoiseTerms::planned(set, weights, rounding);
    terms.drawn.rerandomiser_norm2 *= SLACK;
    terms.drawn.hint_error_norm2 *= SLACK;
    terms
}

/// Bits between the noise that is allowed and the noise to plan for; the layer fits iff this is not negative.
/// `branches` has the norms of each encrypted term to plan with: the [class](Norms::class) of the largest over its outputs.
pub fn margin_bits(set: &ParameterSet, ell: u32, branches: &[Norms], rounding: Rounding) -> f64 {
    let terms: Vec<NoiseTerms> = branches.iter().map(|&norms| planned(set, norms, rounding)).collect();
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
