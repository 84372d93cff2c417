//! Averages of windows as ONNX Runtime's QLinearAveragePool computes them: a chain of 32-bit floats, which is divided, and quantised.
//!
//! x_i = s q_i, v = ((x_1 + x_2) + x_3) + .., row by row, padding left out; q = half_to_even(v / n / s_y + zero), each operation rounded once. The
//! kernel is plain C++, one accumulator per window, so this is what every machine computes. The sum S of the integers bounds v; where both
//! ends of that become one q, S decides. Where they do not, mostly halfway between two steps, q is the larger or one less, by the
//! threshold on v that [`Floats`] has.

use super::quantiser::Quantiser;
use crate::floats::{Floats, beyond};
use crate::limits::{MAX_FLOAT_VALUE, MAX_FLOATS};
use crate::network::Range;

/// How far below a half a mean is rounded up, so that one line has all of them: floats lower it again.
const MARGIN: f64 = 1e-3;

/// What becomes of all sums of a window.
pub(super) struct Chain {
    /// The smallest sum.
    lowest: i64,
    /// The result of each sum, halves up.
    results: Vec<i64>,
    /// Which of them the floats lower; `None` where no sum has two results: then these are they.
    pub floats: Option<Floats>,
}

impl Chain {
    /// The averages of `count` values in `range` in steps of `unit`; `None` where a sum has more than two results.
    pub fn of(unit: f32, range: Range, count: usize, quantiser: &Quantiser) -> Option<Chain> {
        let values = Range { lo: -MAX_FLOAT_VALUE, hi: MAX_FLOAT_VALUE };
        // No sum or quotient leaves the normal floats.
        let plain = |scale: f32| (1e-20..1e20).contains(&scale);
        let small = values.contains(range.lo) && values.contains(range.hi) && (1..=MAX_FLOATS).contains(&count);
        if !(small && plain(unit) && plain(quantiser.scale)) {
            return None;
        }
        let significand = i64::from(unit.to_bits() & 0x7f_ffff | 0x80_0000);
        let last_place = f64::from(unit) / significand as f64;
        let result = |v: i64| quantiser.index(0, (v as f64 * last_place) as f32 / count as f32);
        let reach = Floats::reach(significand, range, count);
        let (lowest, highest) = (range.lo * count as i64, range.hi * count as i64);
        let ratio = f64::from(unit) / f64::from(quantiser.scale) / count as f64;
        let rounded = |sum: i64| (sum as f64 * ratio + quantiser.zero + 0.5 + MARGIN).floor() as i64;
        let (mut lower, mut results, mut least) = (Vec::new(), Vec::new(), Vec::new());
        let mut decides = false;
        for sum in lowest..=highest {
            let z = significand * sum;
            // The first and the last float within reach, of which the smallest have the fewest bits.
            let r = beyond(z - reach).min(beyond(z + reach));
            let (first, last) = (-((reach - z) >> r << r), (z + reach) >> r << r);
            let (low, high) = (result(first), result(last));
            let raised = rounded(sum).clamp(quantiser.lo, quantiser.hi).max(high);
            if raised - low > 1 {
                return None;
            }
            if low != high {
                let raised = (first..=last).step_by(1 << r).find(|&v| result(v) == high)?;
                least.push([sum, raised - z]);
                decides = true;
            } else if raised != high {
                least.push([sum, reach + 1]);
            }
            lower.push(low);
            results.push(raised);
        }
        if !decides {
            return Some(Chain { lowest, results: lower, floats: None });
        }
        Some(Chain { lowest, results, floats: Some(Floats { unit: significand, least }) })
    }

    /// The result of a sum, before floats lower it.
    pub fn result(&self, sum: i64) -> i64 {
        self.results[(sum - self.lowest) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::super::pointwise::offset_rule;
    use super::*;

    /// Every window of two values, and every one of a few values of four, against floats.
    #[test]
    fn results_are_those_of_floats() {
        let (mut tried, mut lowered) = (0, 0);
        for (unit, scale, zero) in
            [(0.013_847_2_f32, 0.013_847_2, 0), (0.2, 0.2, 3), (1.7e-3, 1.1e-3, -20), (0.7, 1.4, 128)]
        {
            let (lo, hi) = if zero == 128 { (0, 255) } else { (-128, 127) };
            let quantiser = offset_rule(&Quantiser::onnx(scale, zero, (lo, hi)).ok().expect("a scale"));
            let range = Range { lo: lo - zero, hi: hi - zero };
            let mut compare = |window: &[i64]| {
                let Some(chain) = Chain::of(unit, range, window.len(), &quantiser) else { return };
                let v = window.iter().fold(0.0f32, |v, &x| v + x as f32 * unit);
                let want = quantiser.index(0, v / window.len() as f32);
                let sum = window.iter().sum();
                let floats = chain.floats.as_ref();
                let lower = floats.map_or(0, |floats| floats.lowers(sum, window.iter().copied()));
                assert_eq!(chain.result(sum) - lower, want, "{unit} {scale} {zero} {window:?}");
                (tried, lowered) = (tried + 1, lowered + lower);
            };
            let few: Vec<i64> = (range.lo..=range.hi).step_by(13).collect();
            few.iter().for_each(|&a| few.iter().for_each(|&b| compare(&[a, b])));
            let (some, more) = (&few[..5], &few[12..16]);
            for (a, b) in some.iter().zip(more) {
                for (c, d) in more.iter().zip(some) {
                    compare(&[*a, *b, *c, *d]);
                    compare(&[*d, *a, *c, *c, *b, *a + 1]);
                }
            }
        }
        assert!(tried > 1000 && lowered > 20, "{tried} {lowered}");
    }
}
