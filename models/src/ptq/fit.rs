//! Unit, shift and step of a layer: the least squared error of its weights and its activations on the samples.

use std::collections::HashMap;

use super::rows::Rows;

/// Units are largest / top * 2^(-k / 8) for these k.
const UNITS: std::ops::RangeInclusive<i32> = -6..=28;
/// The largest shift.
const MOST_SHIFT: u32 = 16;
/// Errors that are as good as the least one: a smaller shift costs less.
const AS_GOOD: f64 = 1.03;

/// What is known of the activations behind a layer.
pub(super) struct Activations {
    /// Some of the real values of each channel, after the clip.
    pub values: Vec<Vec<f32>>,
    /// How much an error of each channel matters.
    pub importance: Vec<f64>,
    /// Smallest and largest real value, 0 among them.
    pub ends: [f64; 2],
    /// The clip's bounds.
    pub bounds: [f64; 2],
    /// Width.
    pub bits: u32,
    /// The unit, where it is given.
    pub unit: Option<f64>,
}

/// y = clamp(z >> shift, 0, top) - zero_point is worth `unit` each.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fit {
    pub unit: f64,
    pub zero_point: i64,
    pub top: i64,
    /// One, or one for each channel.
    pub shifts: Vec<u32>,
}

impl Fit {
    /// The step of each of `channels` channels.
    pub fn steps(&self, channels: usize) -> Vec<f64> {
        let one = self.shifts.len() == 1;
        let shift = |channel: usize| if one { self.shifts[0] } else { self.shifts[channel] };
        (0..channels).map(|channel| self.unit / f64::from(shift(channel)).exp2()).collect()
    }
}

/// base * 2^(-k / 8), so that eight steps are exactly a factor of two.
pub(super) fn scaled(base: f64, k: i32) -> f64 {
    base * (f64::from(-k.rem_euclid(8)) / 8.0).exp2() * f64::from(-k.div_euclid(8)).exp2()
}

impl Activations {
    fn levels(&self) -> f64 {
        f64::from((1 << self.bits) - 1)
    }

    /// The largest unit that may be needed.
    fn base(&self) -> f64 {
        ((self.ends[1] - self.ends[0]) / self.levels()).max(1e-9)
    }

    /// Zero point and largest y for a unit.
    pub fn range(&self, unit: f64) -> (i64, i64) {
        let [lo, hi] = self.ends;
        let levels = self.levels();
        let share = if hi > lo { -lo / (hi - lo) } else { 0.0 };
        let zero = (share * levels).round().min((-self.bounds[0] / unit).round());
        let top = levels.min((self.bounds[1] / unit).round() + zero);
        (zero as i64, top.max(1.0) as i64)
    }

    /// Mean square of what is off at a unit, by channel.
    fn errors(&self, unit: f64) -> Vec<f64> {
        let (zero, top) = self.range(unit);
        let (lo, hi, unit) = (-zero as f32, (top - zero) as f32, unit as f32);
        let off = |v: &f32| {
            let e = (v / unit).round_ties_even().clamp(lo, hi) * unit - v;
            f64::from(e * e)
        };
        self.values.iter().map(|values| values.iter().map(off).sum::<f64>() / values.len().max(1) as f64).collect()
    }

    /// The units to try, each with its number in the grid.
    fn units(&self) -> Vec<(f64, i32)> {
        match self.unit {
            Some(unit) => vec![(unit, 0)],
            None => UNITS.map(|k| (scaled(self.base(), k), k)).collect(),
        }
    }

    /// The unit with the least error of the activations alone.
    pub fn best_unit(&self) -> f64 {
        let weighed = |unit: f64| total(&self.errors(unit), &self.importance);
        let tried = self.units().into_iter().map(|(unit, _)| (weighed(unit), unit));
        tried.min_by(|a, b| a.0.total_cmp(&b.0)).expect("one unit at least").1
    }
}

fn total(errors: &[f64], importance: &[f64]) -> f64 {
    errors.iter().zip(importance).map(|(error, weight)| error * weight).sum()
}

/// The best of one shift for the layer, or of a shift for each channel.
pub(super) fn fit(rows: &Rows, activations: &Activations, by_channel: bool) -> Fit {
    let mut steps = Steps { rows, known: HashMap::new() };
    let found = if by_channel { channels(&mut steps, activations) } else { layer(&mut steps, activations) };
    let (zero_point, top) = activations.range(found.0);
    Fit { unit: found.0, zero_point, top, shifts: found.1 }
}

/// Errors of steps that were tried.
struct Steps<'r> {
    rows: &'r Rows,
    known: HashMap<u64, Vec<f64>>,
}

impl Steps<'_> {
    fn errors(&mut self, step: f64) -> &[f64] {
        let rows = self.rows;
        self.known.entry(step.to_bits()).or_insert_with(|| rows.errors(step))
    }
}

fn layer(steps: &mut Steps<'_>, activations: &Activations) -> (f64, Vec<u32>) {
    // With a free unit, one at which the multiplier of the skips is an integer.
    let skip = steps.rows.skip().filter(|_| activations.unit.is_none());
    let mut best: Vec<(f64, f64)> = Vec::new();
    let mut rounded: HashMap<u64, Vec<f64>> = HashMap::new();
    for shift in 0..=MOST_SHIFT {
        let mut least = (f64::INFINITY, 0.0);
        for (unit, _) in activations.units() {
            let mut step = unit / f64::from(shift).exp2();
            if let Some(skip) = skip {
                step = skip / (skip / step).round().max(1.0);
            }
            let unit = step * f64::from(shift).exp2();
            let error = total(steps.errors(step), &activations.importance)
                + total(
                    rounded.entry(unit.to_bits()).or_insert_with(|| activations.errors(unit)),
                    &activations.importance,
                );
            if error < least.0 {
                least = (error, unit);
            }
        }
        best.push(least);
    }
    let least = best.iter().fold(f64::INFINITY, |least, (error, _)| least.min(*error));
    let shift = best.iter().position(|(error, _)| *error <= least * AS_GOOD).expect("the least one");
    (best[shift].1, vec![shift as u32])
}

fn channels(steps: &mut Steps<'_>, activations: &Activations) -> (f64, Vec<u32>) {
    let skip = steps.rows.skip().filter(|_| activations.unit.is_none());
    // Units at which the multipliers of the skips are integers, at the shift that one for the layer would be.
    let usual = skip.map(|skip| (skip, f64::from(layer(steps, activations).1[0]).exp2()));
    let mut best = (f64::INFINITY, 0.0, vec![]);
    for (mut unit, _) in activations.units() {
        if let Some((skip, usual)) = usual {
            unit = skip / (skip * usual / unit).round().max(1.0) * usual;
        }
        let tried: Vec<Vec<f64>> =
            (0..=MOST_SHIFT).map(|shift| steps.errors(unit / f64::from(shift).exp2()).to_vec()).collect();
        let choose = |channel: usize| {
            let least = tried.iter().fold(f64::INFINITY, |least, errors| least.min(errors[channel]));
            tried.iter().position(|errors| errors[channel] <= least * AS_GOOD).expect("the least one")
        };
        let rounded = activations.errors(unit);
        let shifts: Vec<usize> = (0..rounded.len()).map(choose).collect();
        let errors: Vec<f64> = shifts.iter().enumerate().map(|(c, &shift)| tried[shift][c] + rounded[c]).collect();
        let error = total(&errors, &activations.importance);
        if error < best.0 {
            best = (error, unit, shifts.iter().map(|&shift| shift as u32).collect());
        }
    }
    (best.1, best.2)
}

/// The step of a layer that is the answer: only its weights are rounded.
pub(super) fn answer(rows: &Rows) -> f64 {
    let most = rows.largest().into_iter().fold(0.0, f64::max);
    let base = match rows.skip() {
        _ if most > 0.0 => most / rows.top(),
        Some(skip) => skip / rows.top(),
        None => 1.0,
    };
    let tried = (0..24).map(|k| scaled(base, k)).map(|step| (rows.errors(step).iter().sum::<f64>(), step));
    tried.min_by(|a, b| a.0.total_cmp(&b.0)).expect("24 steps").1
}
