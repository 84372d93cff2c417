//! How often the order of a float sum decides.
//!
//! Sums of products whose units are no powers of two are rounded after each step, and nobody states the steps' order. The most that
//! this can add up to grows with the number of products, and no network with free units is free of accumulators that lie nearer to a
//! boundary than that. What happens is far less: rounding errors go both ways, so that their sum grows with the root of the number of
//! products, and few accumulators have a boundary within that. Here it is said how many results of an inference these are on average:
//! inputs are taken as even over their range and independent, errors likewise (Higham and Mary, *A New Approach to Probabilistic
//! Rounding Error Analysis*, 2019). Boundaries that accumulators hit are counted as such, so a layer of ties is a layer of doubts.

use super::doubts::Doubts;
use super::quantiser::Quantiser;
use super::real::{HALF_ULP, Near, Post, apply, quantised};
use super::walk::Walk;
use crate::import::builder::Sum;
use crate::network::{Range, TensorId, Term};
use crate::rescale::Steps;

/// How many times the likely error a boundary is away, and the chance that an error is larger than the number before in its row.
const CHANCES: [(f64, f64); 4] = [(1.0, 0.5), (2.0, 0.159), (3.0, 0.0228), (4.0, 0.00135)];
/// Deviation of a rounding error as a part of 2^-24 times the largest partial sum: errors are even over half a unit in the last place, and
/// partial sums grow with the root of their length.
const STEP: f64 = 0.3;
/// Most accumulators in doubt that are counted on one side of a boundary.
const MOST_NEAR: i64 = 256;

/// A channel's accumulator for random inputs.
struct Spread {
    /// Products and identities that are no 0.
    products: f64,
    variance: f64,
    /// Root mean square, at most.
    size: f64,
}

impl<'m> Walk<'m> {
    /// Says of doubts of one step how many there are in an inference; `id` has the results of `sum` in `unit`, `post` and `quantiser`.
    pub(super) fn weigh(
        &self,
        id: TensorId,
        (sum, unit): (&Sum, &[f64]),
        post: &[Post],
        quantiser: &Quantiser,
        doubts: &Doubts,
    ) {
        if !doubts.are_of_one_step() {
            return;
        }
        let [_, height, width] = self.builder.tensor(id).shape;
        let bounds = self.builder.bounds(sum);
        let mut expected = 0.0;
        for (channel, (&domain, &unit)) in bounds.iter().zip(unit).enumerate() {
            let spread = self.spread(sum, channel);
            let likely = HALF_ULP * (STEP * spread.products.sqrt() + 1.0) * spread.size * unit.abs();
            let rule = |z: i64, deviations: f64| {
                let near = Near { error: deviations * likely, ..Near::rounded(z as f64 * unit) };
                quantised(quantiser, channel, apply(post, channel, near))
            };
            // The chance of one accumulator, at most.
            let each = (0.4 / spread.variance.sqrt()).min(1.0);
            expected += doubtful(domain, rule) * each * (height * width) as f64;
        }
        doubts.come(expected);
    }

    fn spread(&self, sum: &Sum, channel: usize) -> Spread {
        let (mut products, mut mean, mut variance, mut square) = (0.0, 0.0, 0.0, 0.0);
        for (term, array) in &sum.terms {
            let Range { lo, hi } = self.builder.tensor(term.input()).range;
            let (middle, count) = ((lo as f64 + hi as f64) / 2.0, (hi - lo + 1) as f64);
            let own = (count * count - 1.0) / 12.0;
            let mut add = |w: f64| {
                products += f64::from(u8::from(w != 0.0));
                mean += w * middle;
                variance += w * w * own;
                square += w * w * (own + middle * middle);
            };
            match (term, array) {
                (_, Some(array)) => {
                    array.index_axis(ndarray::Axis(0), channel).iter().for_each(|&w| add(w.into()));
                }
                (Term::Identity { multiplier, .. }, None) => add(*multiplier as f64),
                (_, None) => {}
            }
        }
        Spread { products, variance: variance.max(1e-9), size: square.sqrt() + mean.abs() }
    }
}

/// How many results for all integers of the domain are others by error: each integer near a boundary counts by its chance. `rule` has a
/// result and how far it may be off with that many deviations of error. All count if it is not monotone.
fn doubtful(domain: Range, rule: impl Fn(i64, f64) -> (i64, i64)) -> f64 {
    let value = |z: i64| rule(z, 0.0).0;
    let sign = if value(domain.lo) > value(domain.hi) { -1 } else { 1 };
    let least = value(domain.lo).min(value(domain.hi));
    let turned = if sign < 0 { Range { lo: -domain.hi, hi: -domain.lo } } else { domain };
    let Ok(steps) = Steps::of(turned, |z| value(sign * z) - least) else { return (domain.hi - domain.lo + 1) as f64 };
    let mut thresholds = steps.thresholds;
    thresholds.dedup();
    let chance = |z: i64| CHANCES.iter().find(|&&(deviations, _)| rule(sign * z, deviations).1 > 0).map(|&(_, c)| c);
    let around = |threshold: i64| -> f64 {
        let up = (threshold..=turned.hi.min(threshold + MOST_NEAR)).map_while(chance).sum::<f64>();
        up + (turned.lo.max(threshold - MOST_NEAR)..threshold).rev().map_while(chance).sum::<f64>()
    };
    thresholds.into_iter().map(around).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accumulators_near_boundaries_are_counted() {
        let domain = Range { lo: -100, hi: 100 };
        // Steps of 10 with their boundaries at 5, 15 ..; one deviation is 0.6.
        let rule = |z: i64, deviations: f64| {
            let q = |v: f64| (v / 10.0).round_ties_even() as i64;
            let off = |by: f64| (q(z as f64 + by) - q(z as f64)).abs();
            (q(z as f64), off(0.6 * deviations).max(off(-0.6 * deviations)))
        };
        // A tie, and two integers within two deviations of it, and two within four.
        let each = 0.5 + 2.0 * 0.159 + 2.0 * 0.00135;
        assert!((doubtful(domain, rule) - 20.0 * each).abs() < 1e-9);
        assert!((doubtful(domain, |z, d| rule(-z, d)) - 20.0 * each).abs() < 1e-9);
        assert_eq!(doubtful(domain, |z, _| (z / 10, 0)), 0.0);
        // A rule that rises and falls has no boundaries to count.
        assert_eq!(doubtful(domain, |z, _| (z * z, 0)), 201.0);
    }
}
