//! Exact rescaling: floor((M z + b) / 2^s), clamped, equal to a given monotone step function on an interval of integers.
//!
//! Let f be monotone on lo..=hi with values in 0..=top. What it is, is said by its thresholds T_k = min { z : f(z) >= k }. With
//! m = M / 2^s and beta = b / 2^s,
//!
//! ```text
//! clamp(floor(m z + beta), 0, top) = f(z) on lo..=hi   iff   m z + beta >= k   at z = T_k     for k in f(lo)+1..=f(hi)
//!                                                            m z + beta <  k   at z = T_k - 1     "
//!                                                            m lo + beta >= f(lo)             unless f(lo) = 0
//!                                                            m hi + beta <  f(hi) + 1         unless f(hi) = top
//! ```
//!
//! since the left side is monotone too: the line passes over some points and under others. The slopes of such lines are an open
//! interval between two slopes of hull edges, computed exactly in rational numbers; if M / 2^s lies in it, a whole b exists,
//! because M z + b and k 2^s are whole. So the smallest s is the first one with a multiple of 2^-s in that interval. The proof of
//! equality on every z of the interval is that [`Affine::equals`] holds: the conditions above, checked in integers.
//!
//! Half-to-even rounding of a power of two has thresholds that lie 2^s - 1 and 2^s + 1 apart in turn. No line does that, but each
//! of f = f_0 + f_1 does, where f_j counts the thresholds with k = j modulo 2: see [`Steps::split`]. The same serves float32 products
//! of accumulators of 18 bits and more, some of which are rounded to a half. Rounding half away from zero
//! has a bend at zero: there f = min(f, k) + max(f - k, 0) with a line for each, see [`Steps::cut`].

mod wide;

use crate::network::Range;
pub use wide::{exists, widest};

/// Largest shift that is searched for where the smallest is wanted.
const MAX_SHIFT: u32 = 40;
/// Largest multiplier, likewise.
const MAX_MULTIPLIER: i128 = 1 << 31;
/// Intervals of up to this many integers are evaluated everywhere; larger ones by bisection between the thresholds.
const ENUMERATED: u128 = 1 << 12;

/// A monotone step function on an interval, by its thresholds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steps {
    /// The interval; not empty.
    pub domain: Range,
    /// The value at its lower end, at least 0.
    pub first: i64,
    /// For each k in first+1..=last, the least z with f(z) >= k; ascending, within the interval.
    pub thresholds: Vec<i64>,
    /// For each of these, the largest z that occurs with f(z) < k: the one before it, unless some integers never occur.
    pub below: Vec<i64>,
}

/// A rule that is not monotone: f(z) > f(z + 1), or values below 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotMonotone {
    /// Where.
    pub at: i64,
}

/// y = floor((multiplier z + offset) / 2^shift), to be clamped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Affine {
    /// M, at least 1.
    pub multiplier: i64,
    /// b.
    pub offset: i64,
    /// s.
    pub shift: u32,
}

impl Steps {
    /// The steps of `rule` on `domain`: all values are looked at if there are up to 4096, otherwise thresholds are found by
    /// bisection, which is right if the rule is monotone (rounded multiplications and additions are); that is checked around them.
    ///
    /// # Errors
    /// If the rule is seen to fall.
    pub fn of(domain: Range, rule: impl Fn(i64) -> i64) -> Result<Steps, NotMonotone> {
        assert!(domain.lo <= domain.hi, "an interval that is not empty");
        let (first, last) = (rule(domain.lo), rule(domain.hi));
        if first < 0 || last < first {
            return Err(NotMonotone { at: domain.lo });
        }
        let mut steps = Steps { domain, first, thresholds: Vec::with_capacity((last - first) as usize), below: vec![] };
        if domain.count() <= ENUMERATED {
            let mut value = first;
            for z in domain.lo..=domain.hi {
                let next = rule(z);
                if next < value {
                    return Err(NotMonotone { at: z - 1 });
                }
                steps.thresholds.extend((value..next).map(|_| z));
                value = next;
            }
            return Ok(steps.dense());
        }
        let mut below = domain.lo;
        while steps.last() < last {
            let k = steps.last() + 1;
            // rule(below) < k <= rule(at)
            let mut at = domain.hi;
            while at - below > 1 {
                let middle = below + (at - below) / 2;
                if rule(middle) >= k { at = middle } else { below = middle }
            }
            let (before, here) = (rule(below), rule(at));
            if before >= k || here < k || here > last || (at < domain.hi && rule(at + 1) < here) {
                return Err(NotMonotone { at: below });
            }
            steps.thresholds.extend((steps.last()..here).map(|_| at));
            below = at;
        }
        Ok(steps.dense())
    }

    /// The steps of a function that is asked for some integers only: for each k above `first` the largest of them with f(z) < k and
    /// the least with f(z) >= k.
    ///
    /// # Errors
    /// If a larger integer has a smaller value.
    pub fn sparse(domain: Range, first: i64, gaps: &[(i64, i64)]) -> Result<Steps, NotMonotone> {
        if let Some(&(below, _)) = gaps.iter().find(|(below, above)| below >= above) {
            return Err(NotMonotone { at: below });
        }
        let (below, thresholds) = gaps.iter().copied().unzip();
        Ok(Steps { domain, first, thresholds, below })
    }

    fn dense(mut self) -> Steps {
        self.below = self.thresholds.iter().map(|z| z - 1).collect();
        self
    }

    /// The value at the upper end of the interval.
    pub fn last(&self) -> i64 {
        self.first + self.thresholds.len() as i64
    }

    /// f(z) for z in the interval.
    pub fn value(&self, z: i64) -> i64 {
        self.first + self.thresholds.partition_point(|&threshold| threshold <= z) as i64
    }

    /// f - by, for f >= by: the same steps further down.
    pub fn lowered(&self, by: i64) -> Steps {
        Steps { first: self.first - by, ..self.clone() }
    }

    /// `parts` functions whose sum is f: part j counts the k in 1..=f(z) with k - 1 = j modulo `parts`.
    pub fn split(&self, parts: usize) -> Vec<Steps> {
        (0..parts)
            .map(|part| {
                // The number of k in 1..=first that belong to the part.
                let first = (self.first + (parts - 1 - part) as i64) / parts as i64;
                let mine = |&(index, _): &(usize, &i64)| (self.first as usize + index) % parts == part;
                let chosen = |of: &[i64]| of.iter().enumerate().filter(mine).map(|(_, &t)| t).collect();
                Steps { domain: self.domain, first, thresholds: chosen(&self.thresholds), below: chosen(&self.below) }
            })
            .collect()
    }

    /// min(f, level) and max(f, level) - level, whose sum is f: for rules that have a bend at `level`.
    pub fn cut(&self, level: i64) -> [Steps; 2] {
        let below = ((level - self.first).max(0) as usize).min(self.thresholds.len());
        let part = |first: i64, of: std::ops::Range<usize>| Steps {
            domain: self.domain,
            first,
            thresholds: self.thresholds[of.clone()].to_vec(),
            below: self.below[of].to_vec(),
        };
        let all = self.thresholds.len();
        [part(self.first.min(level), 0..below), part((self.first - level).max(0), below..all)]
    }

    /// The slopes of lines that equal the steps when rounded down and clamped to 0..=top.
    pub fn slopes(&self, top: i64) -> Slopes {
        let (over, under) = self.points(top);
        slopes(&over, &under)
    }

    /// The points (z, k) that the line must not pass below, and those that it must pass below, by ascending z.
    fn points(&self, top: i64) -> (Vec<Point>, Vec<Point>) {
        let (mut over, mut under) = (Vec::new(), Vec::new());
        if self.first > 0 {
            over.push((self.domain.lo, self.first));
        }
        for (k, (&threshold, &below)) in (self.first + 1..).zip(self.thresholds.iter().zip(&self.below)) {
            over.push((threshold, k));
            under.push((below, k));
        }
        if self.last() < top {
            under.push((self.domain.hi, self.last() + 1));
        }
        (over, under)
    }

    /// The smallest multiplier for shift `shift` and an offset; `None` if there is none.
    fn affine(&self, slopes: &Slopes, shift: u32, top: i64) -> Option<Affine> {
        let (multiplier, _) = slopes.multipliers(shift, MAX_MULTIPLIER)?;
        let (over, under) = self.points(top);
        let offset = |&(z, k): &Point| (i128::from(k) << shift) - multiplier * i128::from(z);
        let least = over.iter().map(offset).max();
        let most = under.iter().map(offset).min().map(|bound| bound - 1);
        let offset = match (least, most) {
            // The middle: nothing depends on it.
            (Some(least), Some(most)) => (least + most).div_euclid(2),
            (Some(bound), None) | (None, Some(bound)) => bound,
            (None, None) => 0,
        };
        let affine = Affine { multiplier: multiplier.try_into().ok()?, offset: offset.try_into().ok()?, shift };
        affine.equals(self, top).then_some(affine)
    }
}

type Point = (i64, i64);

/// The slopes of lines that pass over some points and under others.
fn slopes(over: &[Point], under: &[Point]) -> Slopes {
    let (over, under) = (hull(over, true), hull(under, false));
    let mut slopes = Slopes { least: None, most: None };
    // Over (x, k) and under (x', k') with beta between: k - m x < k' - m x'.
    for &(x, k) in &over {
        for &(x2, k2) in &under {
            let (run, rise) = (i128::from(x2) - i128::from(x), i128::from(k2) - i128::from(k));
            match run {
                // m run < rise
                0 if rise > 0 => {}
                0 => return Slopes { least: Some((1, 1)), most: Some((1, 1)) },
                _ if run > 0 => slopes.at_most(rise, run),
                _ => slopes.at_least(-rise, -run),
            }
        }
    }
    slopes
}

/// The vertices of the upper (lower) convex hull of points by ascending z, those that matter for lines above (below).
fn hull(points: &[Point], upper: bool) -> Vec<Point> {
    let mut hull: Vec<Point> = Vec::new();
    for &point in points {
        while let [.., a, b] = hull[..] {
            let wide = |v: i64, w: i64| i128::from(v) - i128::from(w);
            let turn = wide(b.0, a.0) * wide(point.1, a.1) - wide(b.1, a.1) * wide(point.0, a.0);
            if if upper { turn >= 0 } else { turn <= 0 } {
                hull.pop();
            } else {
                break;
            }
        }
        hull.push(point);
    }
    hull
}

/// An open interval of slopes, its ends as fractions with positive denominators; `None` is unbounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slopes {
    least: Option<(i128, i128)>,
    most: Option<(i128, i128)>,
}

impl Slopes {
    fn at_least(&mut self, rise: i128, run: i128) {
        if self.least.is_none_or(|(r, d)| rise * d > r * run) {
            self.least = Some((rise, run));
        }
    }

    fn at_most(&mut self, rise: i128, run: i128) {
        if self.most.is_none_or(|(r, d)| rise * d < r * run) {
            self.most = Some((rise, run));
        }
    }

    /// The whole numbers M >= 1 with M / 2^shift in the interval.
    fn multipliers(&self, shift: u32, largest: i128) -> Option<(i128, i128)> {
        let least = self.least.map_or(1, |(rise, run)| ((rise << shift).div_euclid(run) + 1).max(1));
        let most = self.most.map_or(largest, |(rise, run)| {
            // The largest whole number below.
            (-((-rise << shift).div_euclid(run) + 1)).min(largest)
        });
        (least <= most).then_some((least, most))
    }

    /// The smallest shift that has a multiplier.
    pub fn shift(&self) -> Option<u32> {
        (0..=MAX_SHIFT).find(|&shift| self.multipliers(shift, MAX_MULTIPLIER).is_some())
    }
}

impl Affine {
    /// clamp(floor((M z + b) / 2^s), 0, top).
    pub fn value(&self, z: i64, top: i64) -> i64 {
        let sum = i128::from(self.multiplier) * i128::from(z) + i128::from(self.offset);
        (sum >> self.shift).clamp(0, top.into()) as i64
    }

    /// How far M z + b may fall and grow before a value changes, for the z of an interval: the least distances from above and below to
    /// thresholds k 2^s, 1 <= k <= top, counted in whole numbers. More than any number that occurs where there is no threshold.
    pub fn room(&self, domain: Range, top: i64) -> [i128; 2] {
        let (multiplier, [lo, hi]) = (i128::from(self.multiplier), [domain.lo, domain.hi].map(i128::from));
        let sum = |z: i128| multiplier * z + i128::from(self.offset);
        let mut room = [1 << 100; 2];
        // Thresholds beyond all sums are as far as the one next to them.
        let value = |z: i128| (sum(z) >> self.shift).clamp(0, top.into());
        for k in value(lo).max(1)..=(value(hi) + 1).min(top.into()) {
            let threshold = k << self.shift;
            let least = (threshold - i128::from(self.offset) + multiplier - 1).div_euclid(multiplier);
            if least <= hi {
                room[0] = room[0].min(sum(least.max(lo)) - threshold);
            }
            if least > lo {
                room[1] = room[1].min(threshold - 1 - sum((least - 1).min(hi)));
            }
        }
        room
    }

    /// True if it equals the steps on their whole interval, for a positive multiplier: the conditions of the module's text.
    pub fn equals(&self, steps: &Steps, top: i64) -> bool {
        let (over, under) = steps.points(top);
        let sum = |z: i64| i128::from(self.multiplier) * i128::from(z) + i128::from(self.offset);
        self.multiplier > 0
            && steps.last() <= top
            && over.iter().all(|&(z, k)| sum(z) >= i128::from(k) << self.shift)
            && under.iter().all(|&(z, k)| sum(z) < i128::from(k) << self.shift)
    }
}

/// A multiplier, an offset and a shift for each channel: pure shifts, each the smallest of its channel, where all multipliers can
/// be 1; otherwise the smallest shift that all channels can have in common.
///
/// The result is `None` if there is none within the limits of [`crate::check`].
pub fn fit(channels: &[Steps], top: i64) -> Option<Vec<Affine>> {
    let slopes: Vec<Slopes> = channels.iter().map(|steps| steps.slopes(top)).collect();
    let shifts = slopes.iter().map(Slopes::shift).collect::<Option<Vec<u32>>>()?;
    let each = |shift: &dyn Fn(usize) -> u32| -> Option<Vec<Affine>> {
        let channel = |c: usize| channels[c].affine(&slopes[c], shift(c), top);
        (0..channels.len()).map(channel).collect()
    };
    let own = each(&|c| shifts[c])?;
    if own.iter().all(|affine| affine.multiplier == 1) {
        return Some(own);
    }
    let common = shifts.iter().copied().max()?;
    each(&|_| common)
}

/// Lines whose values are off by one at most, and the part of all integers of the intervals where they are: where [`fit`] finds none,
/// and thresholds lie at least 64 apart on average. The multipliers have 20 bits.
pub fn near(channels: &[Steps], top: i64) -> Option<(Vec<Affine>, f64)> {
    let line = |steps: &Steps| -> Option<(Affine, f64)> {
        if let [first, .., last] = steps.thresholds[..]
            && (last - first) / (steps.thresholds.len() as i64 - 1) < 64
        {
            return None;
        }
        let (mut over, mut under) = steps.points(top);
        over.iter_mut().for_each(|point| point.0 += 1);
        under.iter_mut().for_each(|point| point.0 -= 1);
        let slopes = slopes(&over, &under);
        // The middle of the interval.
        let end = |end: Option<(i128, i128)>| end.map(|(rise, run)| rise as f64 / run as f64);
        let slope = match (end(slopes.least), end(slopes.most)) {
            (Some(least), Some(most)) => (least.max(0.0) + most) / 2.0,
            (Some(bound), None) | (None, Some(bound)) => bound,
            (None, None) => 1.0,
        };
        let shift = (0..=MAX_SHIFT).rev().find(|&shift| slope * f64::from(shift).exp2() < f64::from(1 << 20))?;
        let multiplier = ((slope * f64::from(shift).exp2()).round() as i64).max(1);
        let offset = |&(z, k): &Point| (i128::from(k) << shift) - i128::from(multiplier) * i128::from(z);
        let (least, most) = (over.iter().map(offset).max(), under.iter().map(|point| offset(point) - 1).min());
        let offset = match (least, most) {
            (Some(least), Some(most)) => (least + most).div_euclid(2),
            (Some(bound), None) | (None, Some(bound)) => bound,
            (None, None) => 0,
        };
        let affine = Affine { multiplier, offset: offset.try_into().ok()?, shift };
        // Both rise: they differ most next to a threshold of either, and between the thresholds of one k they differ by one.
        let first = |k: i64| {
            let z = ((i128::from(k) << shift) - i128::from(affine.offset) + i128::from(multiplier) - 1)
                .div_euclid(i128::from(multiplier));
            z.clamp(steps.domain.lo.into(), i128::from(steps.domain.hi) + 1) as i64
        };
        let own: Vec<i64> = (steps.first + 1..=steps.last()).map(first).collect();
        let ends = [steps.domain.lo, steps.domain.hi];
        let places = own.iter().chain(&steps.thresholds).flat_map(|&z| [z - 1, z]).chain(ends);
        let close = |z: i64| (affine.value(z, top) - steps.value(z)).abs() <= 1;
        let off: i128 = own.iter().zip(&steps.thresholds).map(|(a, b)| i128::from((a - b).abs())).sum();
        let part = off as f64 / steps.domain.count() as f64;
        places.filter(|&z| steps.domain.contains(z)).all(close).then_some((affine, part))
    };
    let shifting = |steps: &&Steps| !steps.thresholds.is_empty();
    let lines: Option<Vec<(Affine, f64)>> = channels.iter().filter(shifting).map(line).collect();
    let mut lines = lines?.into_iter();
    let shift = lines.as_slice().iter().map(|(line, _)| line.shift).max().unwrap_or(0);
    // A channel whose value is always the same must not ask for a shift of its own that all others would have to follow.
    let level = |steps: &Steps| -> Option<(Affine, f64)> {
        let span = steps.domain.hi.checked_sub(steps.domain.lo)?;
        let shift = shift.max(i64::BITS - span.leading_zeros());
        let offset = (i128::from(steps.first) << shift) - i128::from(steps.domain.lo);
        let affine = Affine { multiplier: 1, offset: offset.try_into().ok()?, shift };
        affine.equals(steps, top).then_some((affine, 0.0))
    };
    let all = channels.iter().map(|steps| if steps.thresholds.is_empty() { level(steps) } else { lines.next() });
    let lines: Option<Vec<(Affine, f64)>> = all.collect();
    let (affine, off): (Vec<Affine>, Vec<f64>) = lines?.into_iter().unzip();
    let mean = off.iter().sum::<f64>() / off.len().max(1) as f64;
    Some((affine, mean))
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha20Rng;

    use super::*;

    #[test]
    fn fitted_lines_equal_float_rescaling_everywhere() {
        let seed: u64 = 0x5ca1_ab1e;
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        for round in 0..200 {
            let bits = rng.random_range(1..=8);
            let top = (1i64 << bits) - 1;
            let reach = 1i64 << rng.random_range(4..=13);
            let domain = Range { lo: -rng.random_range(0..=reach), hi: rng.random_range(1..=reach) };
            let scale = rng.random_range(0.2f32..3.0) * top as f32 / reach as f32;
            let zero = rng.random_range(0..=top);
            let rule = |z: i64| ((z as f32 * scale).round_ties_even() as i64 + zero).clamp(0, top);
            let steps = Steps::of(domain, rule).expect("monotone");
            let fits = fit(std::slice::from_ref(&steps), top).unwrap_or_else(|| panic!("seed {seed}, round {round}"));
            for z in domain.lo..=domain.hi {
                assert_eq!(fits[0].value(z, top), rule(z), "seed {seed}, round {round}, z {z}");
                assert_eq!(steps.value(z), rule(z), "seed {seed}, round {round}, z {z}");
            }
            assert!(
                fits[0].shift == 0 || steps.slopes(top).multipliers(fits[0].shift - 1, MAX_MULTIPLIER).is_none(),
                "the smallest shift"
            );
        }
    }

    #[test]
    fn long_intervals_give_the_same_steps_as_short_ones() {
        let rule = |z: i64| ((z as f32 * 0.003_21).round_ties_even() as i64 + 7).clamp(0, 31);
        let steps = Steps::of(Range { lo: -50_000, hi: 50_000 }, rule).expect("monotone");
        assert!((-50_000..=50_000).all(|z| steps.value(z) == rule(z)));
    }

    #[test]
    fn half_to_even_of_a_power_of_two_fits_in_two_parts() {
        let rule = |z: i64| (z as f64 / 16.0).round_ties_even() as i64;
        let steps = Steps::of(Range { lo: 0, hi: 1000 }, rule).expect("monotone");
        assert_eq!(fit(std::slice::from_ref(&steps), 63), None);
        let halves = steps.split(2);
        let fits: Vec<Affine> =
            halves.iter().map(|half| fit(std::slice::from_ref(half), 63).expect("one half")[0]).collect();
        assert!((0..=1000).all(|z| fits[0].value(z, 63) + fits[1].value(z, 63) == rule(z)));
    }

    #[test]
    fn float_products_of_long_accumulators_fit_in_parts() {
        let seed: u64 = 17;
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let mut split = 0;
        for round in 0..40 {
            let (scale, zero) = (rng.random_range(0.0005f32..0.002), rng.random_range(0..=255));
            let reach = (800.0 / scale) as i64;
            let rule = |z: i64| ((z as f32 * scale).round_ties_even() as i64 + zero).clamp(0, 255);
            let steps = Steps::of(Range { lo: -reach, hi: reach }, rule).expect("monotone");
            if fit(std::slice::from_ref(&steps), 255).is_some() {
                continue;
            }
            split += 1;
            let parts: Vec<Steps> = steps.split(2).iter().flat_map(|part| part.cut(part.last() / 2)).collect();
            assert!(
                parts.iter().all(|part| fit(std::slice::from_ref(part), part.last().max(1)).is_some()),
                "round {round}"
            );
            let (lines, off) = near(std::slice::from_ref(&steps), 255).expect("a line that is near");
            assert!(off > 0.0 && off < 1e-4, "seed {seed}, round {round}: {off}");
            for _ in 0..2000 {
                let z = rng.random_range(-reach..=reach);
                assert_eq!(parts.iter().map(|part| part.value(z)).sum::<i64>(), rule(z), "seed {seed}, round {round}");
                assert!((lines[0].value(z, 255) - rule(z)).abs() <= 1, "seed {seed}, round {round}");
            }
        }
        assert!(split > 0, "some have no line");
    }

    #[test]
    fn channels_of_one_value_follow_the_shift_of_the_others() {
        let rule = |z: i64| ((z as f32 * 0.000_912_3).round_ties_even() as i64 + 100).clamp(0, 255);
        let long = Steps::of(Range { lo: -900_000, hi: 900_000 }, rule).expect("monotone");
        let level = Steps::of(Range { lo: 0, hi: 0 }, |_| 7).expect("one value");
        let (lines, _) = near(&[long, level.clone()], 255).expect("lines");
        assert_eq!(lines[0].shift, lines[1].shift);
        assert!(lines[1].equals(&level, 255));
    }

    #[test]
    fn integers_that_never_occur_leave_room_for_a_line() {
        // Half to even of z / 4 has no line, but has one where no halves occur.
        let rule = |z: i64| (z as f64 / 4.0).round_ties_even() as i64;
        let domain = Range { lo: 0, hi: 15 };
        assert_eq!(fit(&[Steps::of(domain, rule).expect("monotone")], 7), None);
        let odd: Vec<i64> = (0..=15).filter(|z| z % 4 != 2).collect();
        let gap = |k: i64| {
            let below = odd.iter().copied().filter(|&z| rule(z) < k).max().expect("some are below");
            (below, odd.iter().copied().find(|&z| rule(z) >= k).expect("some reach it"))
        };
        let gaps: Vec<(i64, i64)> = (1..=4).map(gap).collect();
        let steps = Steps::sparse(domain, 0, &gaps).expect("rising");
        let lines = fit(std::slice::from_ref(&steps), 7).expect("a line");
        assert!(odd.iter().all(|&z| lines[0].value(z, 7) == rule(z)));
        assert!(Steps::sparse(domain, 0, &[(3, 3)]).is_err());
    }

    #[test]
    fn falling_rules_are_refused() {
        assert_eq!(Steps::of(Range { lo: 0, hi: 9 }, |z| (z - 3).abs()), Err(NotMonotone { at: 0 }));
        assert_eq!(Steps::of(Range { lo: 0, hi: 9 }, |z| z - 1), Err(NotMonotone { at: 0 }));
        assert!(Steps::of(Range { lo: 0, hi: 1 << 20 }, |z| 100 - z.min(100)).is_err());
    }
}
