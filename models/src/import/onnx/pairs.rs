//! Sums of two quantised values: multipliers, an offset and a shift that give the runtime's result for every pair.
//!
//! f(xa, xb) is known for all pairs, 2^16 at most. With z = M_a xa + M_b xb + b the value is z >> s if, for every k, all pairs with
//! f >= k have z >= k 2^s and all others have z < k 2^s. Multipliers near the ratios of the units are tried, for growing s. Sums whose
//! halves are rounded to even have no such line; but f may be a function of M_a xa + M_b xb all the same, or a sum of two lines.

use super::graph::Node;
use super::quantiser::Quantiser;
use super::requantise::Doubts;
use super::value::{Scale, Stop};
use super::walk::Walk;
use crate::import::builder::{Obstacle, Sum};
use crate::network::{Range, TensorId, Term};
use crate::rescale::Steps;

impl<'m> Walk<'m> {
    /// rule(xa, xb), for every pair: z = M_a xa + M_b xb + bias, shifted.
    pub(super) fn pair(
        &mut self,
        node: Node<'m>,
        a: Scale,
        b: Scale,
        quantiser: &Quantiser,
        doubts: &Doubts,
        rule: impl Fn(i64, i64) -> (i64, bool),
    ) -> Result<TensorId, Stop> {
        let (ra, rb) = (self.builder.tensor(a.id).range, self.builder.tensor(b.id).range);
        // Ranges of joined tensors are a little larger than 8 bits.
        if ra.count() > 1024 || rb.count() > 1024 {
            return Err(Stop::new("a sum of values of more than 8 bits", "quantise both summands to at most 8 bits"));
        }
        let channels = self.builder.tensor(a.id).shape[0];
        let table = Pairs::of(ra, rb, |xa, xb| doubts.note(rule(xa, xb)));
        let slopes = [a.unit, b.unit].map(|unit| f64::from(unit) / f64::from(quantiser.scale));
        let name = node.name();
        let sum = |ma: i64, mb: i64, bias: i64| Sum {
            terms: vec![
                (Term::Identity { input: a.id, multiplier: ma }, None),
                (Term::Identity { input: b.id, multiplier: mb }, None),
            ],
            bias: vec![bias; channels],
        };
        if table.hi - table.lo > 255 {
            return Err(Obstacle::TooWide { lo: table.lo, hi: table.hi }.into());
        }
        // z >> shift is the value, for the smallest shift that has such multipliers.
        if let Some(line) = table.line(slopes) {
            let (shift, least) = (line.shift, table.lo);
            let rule = |_: usize, z: i64| (z >> shift).clamp(least, table.hi);
            let id = self.requantise_sum(name, sum(line.ma, line.mb, line.bias), quantiser, rule)?;
            return Ok(id);
        }
        // Halves that are rounded to even: a function of the multiplied sum, but no line.
        if let Some((ma, mb, steps)) = table.steps(slopes) {
            let wanted = |_: usize, z: i64| steps.value(z.clamp(steps.domain.lo, steps.domain.hi)) + table.lo;
            match self.requantise_sum(name, sum(ma, mb, 0), quantiser, wanted) {
                Err(Stop::Obstacle(Obstacle::NoFit { .. })) => {}
                done => return done,
            }
        }
        // Even and odd steps, with multipliers of their own.
        let halves = table.halves();
        if let [Some(even), Some(odd)] = halves.each_ref().map(|half| half.line(slopes.map(|slope| slope / 2.0))) {
            let mut terms = Vec::new();
            for (line, half) in [even, odd].into_iter().zip(&halves) {
                let (shift, top) = (line.shift, half.hi);
                let rule = |_: usize, z: i64| (z >> shift).clamp(0, top);
                let id = self.builder.requantise(&format!("{name}/half"), sum(line.ma, line.mb, line.bias), 0, rule)?;
                terms.push((Term::Identity { input: id, multiplier: 1 }, None));
            }
            let sum = Sum { terms, bias: vec![0; channels] };
            return self.requantise_sum(name, sum, quantiser, |_, z| (z + table.lo).min(table.hi));
        }
        if !self.options.approximate {
            let reason = "no multipliers, offset and shift equal its rounding for all pairs of values";
            return Err(Stop::new(reason, "accept sums that differ by one for a few pairs (approximate)"));
        }
        let (line, wrong) = table.nearest(slopes);
        let pairs = ra.count() * rb.count();
        self.builder.report.note(format!("@: {wrong} of {pairs} pairs of summands give a sum that differs from the runtime's: results may differ by one"));
        let (shift, least, hi) = (line.shift, table.lo, table.hi);
        let rule = |_: usize, z: i64| (z >> shift).clamp(least, hi);
        self.requantise_sum(name, sum(line.ma, line.mb, line.bias), quantiser, rule)
    }
}

/// (ma xa + mb xb + bias) >> shift.
#[derive(Clone, Copy, Debug)]
struct Line {
    ma: i64,
    mb: i64,
    bias: i64,
    shift: u32,
}

/// A function of two integers.
struct Pairs {
    a: Range,
    b: Range,
    /// By xa, then xb.
    values: Vec<i64>,
    lo: i64,
    hi: i64,
}

impl Pairs {
    fn of(a: Range, b: Range, rule: impl Fn(i64, i64) -> i64) -> Pairs {
        let values: Vec<i64> =
            (a.lo..=a.hi).flat_map(|xa| (b.lo..=b.hi).map(move |xb| (xa, xb))).map(|(x, y)| rule(x, y)).collect();
        let (lo, hi) = (values.iter().min().copied().unwrap_or(0), values.iter().max().copied().unwrap_or(0));
        Pairs { a, b, values, lo, hi }
    }

    /// Two functions whose sum is this one less its least value: the steps in turn.
    fn halves(&self) -> [Pairs; 2] {
        [1, 0].map(|by| {
            let values: Vec<i64> = self.values.iter().map(|value| (value - self.lo + by) / 2).collect();
            Pairs { a: self.a, b: self.b, values, lo: 0, hi: (self.hi - self.lo + by) / 2 }
        })
    }

    /// Least and largest ma xa + mb xb among the pairs with each value.
    fn extremes(&self, ma: i64, mb: i64) -> Vec<(i64, i64)> {
        let mut ends = vec![(i64::MAX, i64::MIN); (self.hi - self.lo + 1) as usize];
        let mut values = self.values.iter();
        for xa in self.a.lo..=self.a.hi {
            let mut sum = ma * xa + mb * self.b.lo;
            for value in values.by_ref().take(self.b.count() as usize) {
                let end = &mut ends[(value - self.lo) as usize];
                *end = (end.0.min(sum), end.1.max(sum));
                sum += mb;
            }
        }
        ends
    }

    /// For each k above the least value: the largest sum below it, and the least sum that reaches it.
    fn gaps(&self, ma: i64, mb: i64) -> Vec<(i64, i64)> {
        let ends = self.extremes(ma, mb);
        let below = ends.iter().scan(i64::MIN, |most, end| {
            *most = (*most).max(end.1);
            Some(*most)
        });
        let mut above: Vec<i64> = ends
            .iter()
            .rev()
            .scan(i64::MAX, |least, end| {
                *least = (*least).min(end.0);
                Some(*least)
            })
            .collect();
        above.reverse();
        below.zip(above.into_iter().skip(1)).collect()
    }

    /// Multipliers near slope * 2^shift, the nearest first; not 0.
    fn candidates(slopes: [f64; 2], shift: u32) -> Vec<(i64, i64)> {
        let near = |slope: f64| {
            let m = ((slope * f64::from(shift).exp2()).round() as i64).clamp(0, 1 << 30);
            [m, m - 1, m + 1]
        };
        let (all_a, all_b) = (near(slopes[0]), near(slopes[1]));
        let pairs = all_a.iter().flat_map(|&ma| all_b.iter().map(move |&mb| (ma, mb)));
        pairs.filter(|&(ma, mb)| ma > 0 && mb > 0 && ma < 1 << 30 && mb < 1 << 30).collect()
    }

    /// A line that equals the function everywhere, but for clamping.
    fn line(&self, slopes: [f64; 2]) -> Option<Line> {
        (0..=22).find_map(|shift| {
            Pairs::candidates(slopes, shift).into_iter().find_map(|(ma, mb)| {
                let gaps = self.gaps(ma, mb);
                let bound = |k: usize| (self.lo + 1 + k as i64) << shift;
                let least = gaps.iter().enumerate().map(|(k, gap)| bound(k) - gap.1).max().unwrap_or(0);
                let most = gaps.iter().enumerate().map(|(k, gap)| bound(k) - gap.0 - 1).min().unwrap_or(0);
                (least <= most).then(|| Line { ma, mb, bias: least + (most - least) / 2, shift })
            })
        })
    }

    /// Multipliers such that the function is one of the multiplied sum, and its steps above the least value.
    fn steps(&self, slopes: [f64; 2]) -> Option<(i64, i64, Steps)> {
        (0..=22).find_map(|shift| {
            Pairs::candidates(slopes, shift).into_iter().find_map(|(ma, mb)| {
                let gaps = self.gaps(ma, mb);
                let domain = Range { lo: ma * self.a.lo + mb * self.b.lo, hi: ma * self.a.hi + mb * self.b.hi };
                let rises = gaps.iter().all(|gap| gap.0 < gap.1);
                let thresholds = gaps.iter().map(|gap| gap.1).collect();
                rises.then_some((ma, mb, Steps { domain, first: 0, thresholds }))
            })
        })
    }

    /// The line of the largest shift, with the offset in the middle, and how many pairs it gets wrong.
    fn nearest(&self, slopes: [f64; 2]) -> (Line, usize) {
        let shift = 20;
        let [ma, mb] = slopes.map(|slope| ((slope * f64::from(shift).exp2()).round() as i64).clamp(1, 1 << 29));
        let gaps = self.gaps(ma, mb);
        let middle =
            |(k, gap): (usize, &(i64, i64))| ((self.lo + 1 + k as i64) << shift) - (gap.0.saturating_add(gap.1)) / 2;
        let mut middles: Vec<i64> = gaps.iter().enumerate().map(middle).collect();
        middles.sort_unstable();
        let line = Line { ma, mb, bias: middles.get(middles.len() / 2).copied().unwrap_or(0), shift };
        let pairs = (self.a.lo..=self.a.hi).flat_map(|xa| (self.b.lo..=self.b.hi).map(move |xb| (xa, xb)));
        let value = |(xa, xb): (i64, i64)| ((ma * xa + mb * xb + line.bias) >> shift).clamp(self.lo, self.hi);
        let wrong = pairs.zip(&self.values).filter(|(pair, wanted)| value(*pair) != **wanted).count();
        (line, wrong)
    }
}
