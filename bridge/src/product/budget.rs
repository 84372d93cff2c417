//! Does a product fit, how is it cut, and how much is rounded off what travels?
//!
//! The exactness condition is that of a linear layer (`lowkey_he::noise`), with the clear operand in the place of the
//! weights. All of its coefficients in one polynomial bring noise to every output, not only the k of its column:
//!
//! ```text
//!     |w|^2 = D k r' 4^b / 12,    |w|_1 = D k r' 2^b / 4        D digits of b bits of a share, uniform in Z_{2^ell}
//!     |w|^2 = k r' m^2,           |w|_1 = k r' m                numbers of magnitude up to m that the evaluator knows
//! ```
//!
//! The first are means: a plan allows for [`DEVIATIONS`](super::deviations::DEVIATIONS) standard deviations more. The evaluator checks
//! the condition with the norms and the draws of the very product ([`super::evaluator`]).

use lowkey_he::noise::{self, Cross, Drawn, KAPPA, NoiseTerms, Norms};
use lowkey_he::params::{ParameterSet, T64N2048, T64N4096};
use lowkey_he::torus::Rounding;

use super::choice::{Choice, Clear, Counts};
use super::deviations::{excess_of_magnitudes, excess_of_squares};
use super::digits::Digits;
use super::merge::{self, MAX_STEPS};
use super::packing::{Packing, Sizes};
use crate::budget::SLACK;
use crate::parameters::LayerParameters;

/// Most digits that [`choose`] tries.
pub const MAX_DIGITS: u32 = 9;

/// Bytes that one product of polynomials of 2048 coefficients, both halves, is worth to [`choose`].
pub const WORK_BYTES: f64 = 300.0;

/// Share of the allowed variance that the rounding of b*_0 may take.
const B0_PART: f64 = 1.0 / 256.0;

/// No parameter set has room for the product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a product of inner dimension {inner} modulo 2^{ell} fits no parameter set: narrow the ring or cut the inner dimension"
)]
pub struct NoRoom {
    /// k.
    pub inner: usize,
    /// ell.
    pub ell: u32,
}

/// The norms to plan with, of `inner` x `columns` elements of the clear operand in one polynomial's place.
pub fn norms(clear: Clear, ell: u32, digits: u32, inner: usize, columns: usize) -> Norms {
    let count = inner as f64 * columns as f64;
    match clear {
        Clear::Share => {
            let (count, steps) = (count * f64::from(digits), 2f64.powi(ell.div_ceil(digits) as i32));
            Norms {
                norm2: count * steps * steps / 12.0 * excess_of_squares(count),
                norm1: count * steps / 4.0 * excess_of_magnitudes(count),
            }
        }
        Clear::Known { magnitude } => {
            let magnitude = f64::from(magnitude);
            Norms { norm2: count * magnitude * magnitude, norm1: count * magnitude }
        }
    }
}

/// r0: what may be rounded off b*_0 wherever the ring is `ell` bits wide, whatever the product.
pub fn b0_rounding(set: &ParameterSet, ell: u32) -> u32 {
    let allowed = (noise::allowed(set, ell) / KAPPA).powi(2);
    let own = |bits: i32| SLACK * 2.0 / 3.0 * set.degree as f64 * 4f64.powi(bits) / 12.0;
    (1..set.torus_bits - ell).rev().find(|&bits| own(bits as i32) <= B0_PART * allowed).unwrap_or(0)
}

/// The noise of a product, by its sources: of the clear operand and what was drawn, and of merging 2^`merge` answers.
pub fn terms(set: &ParameterSet, clear: Norms, drawn: Drawn, rounding: Rounding, merge: u32) -> Vec<NoiseTerms> {
    let times = 2f64.powi(merge as i32);
    let weights = Norms { norm2: clear.norm2 * times * times, norm1: clear.norm1 * times };
    let own = NoiseTerms { weights, drawn, rounding };
    if merge == 0 { vec![own] } else { vec![own, merge::noise_bound(set, merge)] }
}

/// log2 of the noise that is allowed over the noise to plan for.
pub fn planned_margin_bits(parameters: &LayerParameters, clear: Norms, merge: u32) -> f64 {
    let LayerParameters { set, ell, rounding } = *parameters;
    let mut drawn = Drawn::expected(set, rounding);
    drawn.rerandomiser_norm2 *= SLACK;
    drawn.hint_error_norm2 *= SLACK;
    noise::margin_bits(set, ell, &terms(set, clear, drawn, rounding, merge), Cross::NONE)
}

/// The roundings of least `up` (64 - rb) + `down` (64 - rh), for `up` bodies and `down` coefficients of hints.
fn roundings(
    set: &'static ParameterSet,
    ell: u32,
    merge: u32,
    norms: Norms,
    up: usize,
    down: usize,
) -> Option<Rounding> {
    let limit = set.torus_bits.checked_sub(ell + merge + 2)?;
    let b0 = b0_rounding(set, ell);
    let fits = |body, hint| {
        let parameters = LayerParameters { set, ell, rounding: Rounding { body, b0, hint } };
        planned_margin_bits(&parameters, norms, merge) >= 0.0
    };
    let most = (0..limit).rev().find(|&body| fits(body, 0))?;
    let candidates = (most.saturating_sub(4)..=most).map(|body| {
        let hint = (0..set.torus_bits - 1).rev().find(|&hint| fits(body, hint)).expect("0 fits");
        Rounding { body, b0, hint }
    });
    let bits = |rounding: &Rounding| {
        up as u64 * u64::from(set.torus_bits - rounding.body) + down as u64 * u64::from(set.torus_bits - rounding.hint)
    };
    candidates.min_by_key(bits)
}

/// The cheapest way that fits: bytes both ways, with [`WORK_BYTES`] for each product of polynomials.
///
/// # Errors
/// [`NoRoom`] if nothing fits.
pub fn choose(sizes: Sizes, ell: u32, clear: Clear) -> Result<Choice, NoRoom> {
    cheapest(&[&T64N2048, &T64N4096], sizes, ell, clear, |degree| packings(degree, sizes).map(|packing| (packing, 0)))
}

/// As [`choose`], of those that merge answers in up to `steps` steps, [`merge::STEPS`] where nothing speaks for more. The
/// keys are not counted, since all products of a step share them; but those of N = 4096 are twice as long, and are used only
/// where N = 2048 has no room.
///
/// # Errors
/// [`NoRoom`] if nothing fits.
pub fn choose_merged(sizes: Sizes, ell: u32, clear: Clear, steps: u32) -> Result<Choice, NoRoom> {
    let steps = steps.clamp(1, MAX_STEPS);
    let of = |set: &'static ParameterSet| {
        cheapest(&[set], sizes, ell, clear, |degree| {
            (1..=steps).filter_map(move |merge| {
                let inner = 1 << merge;
                let rows = even(sizes.rows, degree / inner);
                Some((Packing::new(degree, sizes, Sizes { rows, inner, columns: 1 })?, merge))
            })
        })
    };
    of(&T64N2048).or_else(|_| of(&T64N4096))
}

fn cheapest<I: Iterator<Item = (Packing, u32)>>(
    sets: &[&'static ParameterSet],
    sizes: Sizes,
    ell: u32,
    clear: Clear,
    packings: impl Fn(usize) -> I,
) -> Result<Choice, NoRoom> {
    if sizes.any_zero() || sizes.volume().is_none() {
        return Err(NoRoom { inner: sizes.inner, ell });
    }
    let mut best: Option<(f64, Choice)> = None;
    let most_digits = if clear == Clear::Share { MAX_DIGITS } else { 1 };
    for &set in sets {
        for (packing, merge) in packings(set.degree) {
            let mut fitted = 0;
            for digits in (1..=most_digits).filter(|&count| Digits { ell, count }.none_is_empty()) {
                let counts = Counts::of(&packing, digits, merge);
                // A step of merging transforms three digits and adds up six products.
                let steps = if merge > 0 { packing.blocks().rows * sizes.columns } else { 0 };
                let work = WORK_BYTES * (counts.products + 6 * steps) as f64 * set.degree as f64 / 2048.0;
                // No body is shorter than ell + 3 bits, no hint than ell + 2.
                let bound = (counts.bodies * (ell as usize + 3) + counts.hints * set.degree * (ell as usize + 2)) / 8;
                if best.is_some_and(|(least, _)| bound as f64 + work >= least) {
                    continue;
                }
                let norms = norms(clear, ell, digits, sizes.inner, packing.block().columns);
                let down = counts.hints * set.degree;
                let Some(rounding) = roundings(set, ell, merge, norms, counts.bodies, down) else {
                    continue;
                };
                let bits = counts.bodies as f64 * f64::from(set.torus_bits - rounding.body)
                    + down as f64 * f64::from(set.torus_bits - rounding.hint);
                let score = bits / 8.0 + work;
                if best.is_none_or(|(least, _)| score < least) {
                    best = Some((score, Choice { set, digits, block: packing.block(), merge, rounding }));
                }
                // More digits than one beyond what fits never pay.
                fitted += 1;
                if fitted == 2 {
                    break;
                }
            }
        }
    }
    best.map(|(_, choice)| choice).ok_or(NoRoom { inner: sizes.inner, ell })
}

/// The smallest size that cuts `whole` > 0 into as few parts as sizes up to `most` do.
fn even(whole: usize, most: usize) -> usize {
    whole.div_ceil(whole.div_ceil(most.min(whole).max(1)))
}

/// Blocks of equal cuts, with as many rows as fit.
fn packings(degree: usize, sizes: Sizes) -> impl Iterator<Item = Packing> {
    let widths = move |columns: usize| cuts(sizes.inner).into_iter().map(move |inner| (inner, columns));
    cuts(sizes.columns).into_iter().flat_map(widths).filter_map(move |(inner, columns)| {
        let rows = even(sizes.rows, degree / inner.checked_mul(columns)?);
        Packing::new(degree, sizes, Sizes { rows, inner, columns })
    })
}

/// The sizes into which `whole` can be cut evenly: every ceil(whole / count), ascending.
fn cuts(whole: usize) -> Vec<usize> {
    let mut sizes = Vec::new();
    let mut count = whole;
    while count >= 1 {
        let size = whole.div_ceil(count);
        sizes.push(size);
        // The largest count of a larger size.
        count = if size == whole { 0 } else { (whole - 1) / size };
    }
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_are_all_even_ones() {
        for whole in 1..200usize {
            let mut all: Vec<usize> = (1..=whole).map(|count| whole.div_ceil(count)).collect();
            all.sort_unstable();
            all.dedup();
            assert_eq!(cuts(whole), all, "{whole}");
        }
    }

    #[test]
    fn uniform_digits_have_the_planned_norms() {
        use rand::{RngExt, SeedableRng};
        let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(5);
        let drawn: Vec<i32> = (0..4000).map(|_| rng.random_range(-512..512)).collect();
        let (drawn, planned) = (Norms::of(&drawn), norms(Clear::Share, 10, 1, 1000, 4));
        for (drawn, planned) in [(drawn.norm2, planned.norm2), (drawn.norm1, planned.norm1)] {
            assert!((0.8..1.0).contains(&(drawn / planned)), "{drawn} {planned}");
        }
        // The extremes bound everything.
        let extreme = Norms::of(&[-512; 4]);
        let planned = norms(Clear::Share, 10, 1, 2, 2);
        assert!(extreme.norm2 <= planned.norm2 && extreme.norm1 <= planned.norm1);
    }

    #[test]
    fn what_fits_nowhere_is_refused() {
        let sizes = Sizes { rows: 128, inner: 980, columns: 4 };
        assert!(choose(sizes, 18, Clear::Share).is_ok());
        assert_eq!(choose(sizes, 48, Clear::Share), Err(NoRoom { inner: 980, ell: 48 }));
    }

    #[test]
    fn nothing_and_too_much_have_no_packing() {
        let sizes = |rows, inner, columns| Sizes { rows, inner, columns };
        for sizes in [sizes(0, 3, 3), sizes(3, 0, 3), sizes(3, 3, 0), sizes(0, 0, 0), sizes(usize::MAX, 2, 3)] {
            let none = Err(NoRoom { inner: sizes.inner, ell: 18 });
            assert_eq!(choose(sizes, 18, Clear::Share), none, "{sizes:?}");
            assert_eq!(choose_merged(sizes, 18, Clear::Share, MAX_STEPS), none, "{sizes:?}");
        }
    }
}
