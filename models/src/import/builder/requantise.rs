//! Requantisations by any monotone rule: one line where one fits, else several parts that are added up.

use ndarray::Axis;

use super::{Builder, Fold, Obstacle, Sum};
use crate::limits::MAX_RING;
use crate::network::{Op, Range, TensorId, Term};
use crate::rescale::{Affine, NotMonotone, Steps, exists, fit, near, widest};
use crate::weights::LinearWeights;

/// Most pieces that the thresholds of one requantisation, or every other one of them, are cut into: a few first, then more.
const PIECES: [usize; 2] = [4, 8];

impl Builder {
    /// Adds a sum and its requantisation: the activation x = rule(channel, z) - zero_point, where the rule is monotone in z (rising or
    /// falling), with values of at least 0 that span at most 8 bits. Exact on every reachable z, or refused.
    pub fn requantise(
        &mut self,
        name: &str,
        sum: Sum,
        zero_point: i64,
        rule: impl Fn(usize, i64) -> i64,
    ) -> Result<TensorId, Obstacle> {
        let domains = self.bounds(&sum);
        let falls = |c: usize, domain: &Range| rule(c, domain.lo) > rule(c, domain.hi);
        let signs: Vec<i64> =
            domains.iter().enumerate().map(|(c, domain)| if falls(c, domain) { -1 } else { 1 }).collect();
        let mut steps = Vec::with_capacity(domains.len());
        for (channel, (domain, &sign)) in domains.into_iter().zip(&signs).enumerate() {
            let domain = if sign < 0 { Range { lo: -domain.hi, hi: -domain.lo } } else { domain };
            let of = Steps::of(domain, |z| rule(channel, sign * z));
            steps.push(of.map_err(|NotMonotone { at }| Obstacle::NotMonotone { channel, at })?);
        }
        self.requantise_signed(name, sum, zero_point, &signs, steps)
    }

    /// The same by the steps of each channel's sum times its sign.
    pub fn requantise_signed(
        &mut self,
        name: &str,
        mut sum: Sum,
        zero_point: i64,
        signs: &[i64],
        steps: Vec<Steps>,
    ) -> Result<TensorId, Obstacle> {
        let Some(channel) = signs.iter().position(|&sign| sign < 0) else {
            return self.requantise_steps(name, sum, zero_point, steps);
        };
        if !sum.has_identity() || signs.iter().all(|&sign| sign < 0) {
            sum.multiply(signs)?;
            return self.requantise_steps(name, sum, zero_point, steps);
        }
        // A residual has one multiplier: rising and falling channels go ways of their own.
        let groups = [1, -1].map(|sign| (0..signs.len()).filter(|&c| signs[c] == sign).collect());
        let done = self.in_groups(name, &sum, &groups, |builder, mut part, channels| {
            part.multiply(&vec![signs[channels[0]]; channels.len()])?;
            builder.requantise_steps(name, part, zero_point, channels.iter().map(|&c| steps[c].clone()).collect())
        })?;
        done.ok_or(Obstacle::Falling { channel })
    }

    fn requantise_steps(
        &mut self,
        name: &str,
        mut sum: Sum,
        zero_point: i64,
        mut steps: Vec<Steps>,
    ) -> Result<TensorId, Obstacle> {
        // Values that are never reached at the lower end cost bits; the zero point must stay at least 0.
        let least = steps.iter().map(|steps| steps.first).min().expect("at least one channel");
        let lowered = least.min(zero_point).max(0);
        let zero_point = zero_point - lowered;
        steps.iter_mut().for_each(|steps| *steps = steps.lowered(lowered));
        constant_channels(&mut sum, &mut steps);
        let top = steps.iter().map(Steps::last).max().expect("at least one channel").max(zero_point).max(1);
        if top > 255 {
            return Err(Obstacle::TooWide { lo: least, hi: top + lowered });
        }
        let bits = (top as u64).ilog2() + 1;
        let natural = (1 << bits) - 1;
        // A clip below the width costs a comparison: leave it out where no larger multipliers come of it.
        let fits = match (fit(&steps, natural), fit(&steps, top)) {
            (Some(free), Some(clipped)) if free[0].shift <= clipped[0].shift => Some((free, natural)),
            (_, Some(clipped)) => Some((clipped, top)),
            (Some(free), None) => Some((free, natural)),
            (None, None) => None,
        };
        let fits = match fits {
            Some((fits, top)) if self.folds(&sum, &fits) => Some((fits, top)),
            // Multipliers of a scale may be as long as they like: products are truncated.
            Some((fits, top)) => Some((widest(&steps, top).unwrap_or(fits), top)),
            None => [natural, top].into_iter().find_map(|top| Some((widest(&steps, top)?, top))),
        };
        let Some((fits, top)) = fits else {
            if let Some((lines, off)) = near(&steps, top).filter(|_| self.near) {
                let part = 100.0 * off;
                self.report.note(format!(
                    "\"{name}\": results may differ by one, the largest error over all reachable accumulators; the mean is {part:.4} % of a step"
                ));
                let clip = (top < natural).then_some(top);
                let id = self.affine(name, sum, &lines, bits, clip, zero_point)?;
                self.twin.near(&self.architecture.nodes[id - 1].name, lines, steps, zero_point);
                return Ok(id);
            }
            return self.split(name, &sum, zero_point, bits, &steps);
        };
        let (clip, mark) = ((top < natural).then_some(top), self.mark());
        match self.affine(name, sum.clone(), &fits, bits, clip, zero_point) {
            // Parts have smaller multipliers.
            Err(wide @ (Obstacle::Model(_) | Obstacle::TooLong { .. })) => {
                self.return_to(mark);
                self.split(name, &sum, zero_point, bits, &steps).map_err(|_| wide)
            }
            done => done,
        }
    }

    /// One linear node, a scale unless multipliers are 1 or fit the weights, one requantisation.
    fn affine(
        &mut self,
        name: &str,
        mut sum: Sum,
        fits: &[Affine],
        bits: u32,
        top: Option<i64>,
        zero_point: i64,
    ) -> Result<TensorId, Obstacle> {
        let offsets: Vec<i64> = fits.iter().map(|fit| fit.offset).collect();
        let multipliers: Vec<i64> = fits.iter().map(|fit| fit.multiplier).collect();
        let folds = self.folds(&sum, fits);
        self.short(&sum, fits, top.unwrap_or((1 << bits) - 1), folds)?;
        let shift = one_or_all(fits.iter().map(|fit| fit.shift).collect());
        let accumulator = if folds {
            sum.multiply(&multipliers)?;
            sum.bias.iter_mut().zip(&offsets).for_each(|(bias, offset)| *bias = bias.saturating_add(*offset));
            self.linear(name, sum)?
        } else {
            let input = self.linear(name, sum)?;
            self.scale(name, input, multipliers, offsets)?
        };
        let op = Op::Requantise { input: accumulator, bits, shift, top, zero_point };
        self.node(&format!("{name}/requantise"), op, None)
    }

    /// True if the multipliers go into the weights.
    fn folds(&self, sum: &Sum, fits: &[Affine]) -> bool {
        let multipliers: Vec<i64> = fits.iter().map(|fit| fit.multiplier).collect();
        multipliers.iter().all(|&m| m == 1) || (self.fold == Fold::Auto && small(sum, &multipliers))
    }

    /// Refuses lines whose values leave the largest ring, with one shift for all channels. Those of a scale lose the bits that need not be
    /// shared: its floors and constants lose less than three units ([`Affine::room`]).
    fn short(&self, sum: &Sum, fits: &[Affine], top: i64, folds: bool) -> Result<(), Obstacle> {
        let shift = fits.iter().map(|fit| fit.shift).max().unwrap_or(0);
        let wide = |(range, fit): (Range, &Affine)| {
            let end = |z: i64| {
                let value = i128::from(z) * i128::from(fit.multiplier) + i128::from(fit.offset);
                (value << (shift - fit.shift)).clamp(i64::MIN.into(), i64::MAX.into()) as i64
            };
            Range { lo: end(range.lo), hi: end(range.hi) }.signed_bits()
        };
        let bounds = self.bounds(sum);
        let dropped = |(range, fit): (&Range, &Affine)| {
            let room = fit.room(*range, top).into_iter().sum::<i128>().min(1 << 62) << (shift - fit.shift);
            (room / 3).max(1).ilog2().min(shift)
        };
        let most = bounds.iter().copied().zip(fits).map(wide).max().unwrap_or(1);
        let mut bits = most.max(shift + 2) + 1;
        if bits > MAX_RING && !folds {
            bits -= bounds.iter().zip(fits).map(dropped).min().unwrap_or(0);
        }
        if bits > MAX_RING { Err(Obstacle::TooLong { bits }) } else { Ok(()) }
    }

    fn scale(
        &mut self,
        name: &str,
        input: TensorId,
        multipliers: Vec<i64>,
        bias: Vec<i64>,
    ) -> Result<TensorId, Obstacle> {
        let op = Op::Scale { input, multiplier: one_or_all(multipliers) };
        self.node(&format!("{name}/scale"), op, Some(LinearWeights { terms: vec![], bias }))
    }

    /// The sum of a few requantisations of one accumulator (see `rescale.rs`): below and above the zero point, even and odd
    /// thresholds, these cut in the middle, from each level to the highest that a line can reach, or four parts, whose multipliers are smaller.
    fn split(
        &mut self,
        name: &str,
        sum: &Sum,
        zero_point: i64,
        bits: u32,
        steps: &[Steps],
    ) -> Result<TensorId, Obstacle> {
        if let Some(groups) = self.groups(sum, steps) {
            let (mark, notes) = (self.mark(), self.report.notes.len());
            let done = self.in_groups(name, sum, &groups, |builder, part, channels| {
                builder.requantise_steps(name, part, zero_point, channels.iter().map(|&c| steps[c].clone()).collect())
            });
            if let Ok(Some(id)) = done {
                return Ok(id);
            }
            self.return_to(mark);
            self.report.notes.truncate(notes);
        }
        let parts = |of: &dyn Fn(&Steps) -> Vec<Steps>| fit_parts(&steps.iter().map(of).collect::<Vec<_>>());
        let at_zero = || parts(&|steps| steps.cut(zero_point).to_vec()).filter(|_| zero_point > 0);
        let parities = || parts(&|steps| steps.split(2));
        let both = || parts(&|steps| steps.split(2).iter().flat_map(|part| part.cut(part.last() / 2)).collect());
        let woven = |most: usize| {
            let parity = |j: usize| steps.iter().map(|steps| steps.split(2).swap_remove(j)).collect::<Vec<_>>();
            Some([pieces(&parity(0), most)?, pieces(&parity(1), most)?].concat())
        };
        let [few, many] = PIECES;
        let ways: [&dyn Fn() -> Option<Fits>; 8] = [
            &at_zero,
            &parities,
            &both,
            &|| pieces(steps, few),
            &|| quarters(steps, zero_point),
            &|| woven(few),
            &|| pieces(steps, many),
            &|| woven(many),
        ];
        let top = (1 << bits) - 1;
        let channel = steps.iter().position(|steps| fit_one(steps, top)).unwrap_or(0);
        let mut obstacle = Obstacle::NoFit { channel, domain: steps[channel].domain };
        for fits in ways.into_iter().filter_map(|way| way()) {
            let mark = self.mark();
            match self.parts(name, sum.clone(), zero_point, bits, &fits) {
                Err(wide @ (Obstacle::Model(_) | Obstacle::TooLong { .. })) => obstacle = wide,
                done => {
                    if fits.len() > 2 {
                        let what = "requantisations take the place of one, to be exact";
                        self.report.note(format!("\"{name}\": {} {what}", fits.len()));
                    }
                    return done;
                }
            }
            self.return_to(mark);
        }
        Err(obstacle)
    }

    fn parts(
        &mut self,
        name: &str,
        sum: Sum,
        zero_point: i64,
        bits: u32,
        fits: &[(Vec<Affine>, i64)],
    ) -> Result<TensorId, Obstacle> {
        let (channels, whole) = (sum.bias.len(), sum.clone());
        let input = self.linear(name, sum)?;
        let mut terms = Vec::new();
        for (fit, top) in fits {
            self.short(&whole, fit, *top, false)?;
            let multipliers = fit.iter().map(|fit| fit.multiplier).collect();
            let scaled = self.scale(name, input, multipliers, fit.iter().map(|fit| fit.offset).collect())?;
            let shift = one_or_all(fit.iter().map(|fit| fit.shift).collect());
            let bits = (*top as u64).ilog2() + 1;
            let top = Some(*top).filter(|&top| top < (1 << bits) - 1);
            let op = Op::Requantise { input: scaled, bits, shift, top, zero_point: 0 };
            let part = self.node(&format!("{name}/part"), op, None)?;
            terms.push((Term::Identity { input: part, multiplier: 1 }, None));
        }
        let input = self.linear(&format!("{name}/parts"), Sum { terms, bias: vec![0; channels] })?;
        let op = Op::Requantise { input, bits, shift: vec![0], top: None, zero_point };
        self.node(&format!("{name}/requantise"), op, None)
    }
}

/// Lines for each part, with its top.
type Fits = Vec<(Vec<Affine>, i64)>;

/// Lines for four parts, two below and two above a level.
fn quarters(steps: &[Steps], level: i64) -> Option<Fits> {
    let last = steps.iter().map(Steps::last).max()?;
    let middle = if 1 < level && level < last - 1 { level } else { last / 2 };
    let ends = [0, middle / 2, middle, middle + (last - middle) / 2, last];
    let cut = |steps: &Steps| -> Vec<Steps> {
        ends.windows(2).map(|ends| steps.cut(ends[0])[1].cut(ends[1] - ends[0])[0].clone()).collect()
    };
    fit_parts(&steps.iter().map(cut).collect::<Vec<_>>())
}

/// Lines for the parts of each channel, each with its top.
fn fit_parts(channels: &[Vec<Steps>]) -> Option<Fits> {
    let part = |part: usize| channels.iter().map(|parts| parts[part].clone()).collect::<Vec<Steps>>();
    (0..channels[0].len()).map(|number| fit_part(&part(number))).collect()
}

/// Lines for pieces from one level to the next, each as high as a line reaches: `most` of them at most.
fn pieces(steps: &[Steps], most: usize) -> Option<Fits> {
    let (mut rest, mut fits) = (steps.to_vec(), Vec::new());
    while fits.len() < most {
        if has_lines(&rest) {
            fits.push(fit_part(&rest)?);
            return Some(fits);
        }
        let low = |level: i64| rest.iter().map(|steps| steps.cut(level)[0].clone()).collect::<Vec<_>>();
        let levels: Vec<i64> = (1..rest.iter().map(Steps::last).max()?).collect();
        let reached = levels.partition_point(|&level| has_lines(&low(level)));
        let level = levels[reached.checked_sub(1)?];
        fits.push(fit_part(&low(level))?);
        rest = rest.iter().map(|steps| steps.cut(level)[1].clone()).collect();
    }
    None
}

/// The largest value of a width, and of the steps.
fn tops(steps: &[Steps]) -> [i64; 2] {
    let top = steps.iter().map(Steps::last).max().expect("at least one channel").max(1);
    [(1 << ((top as u64).ilog2() + 1)) - 1, top]
}

/// True if some line equals the steps of each channel.
pub(super) fn has_lines(steps: &[Steps]) -> bool {
    tops(steps).into_iter().any(|top| exists(steps, top))
}

fn fit_part(steps: &[Steps]) -> Option<(Vec<Affine>, i64)> {
    tops(steps).into_iter().find_map(|top| Some((widest(steps, top).or_else(|| fit(steps, top))?, top)))
}

/// True if no line equals these steps.
fn fit_one(steps: &Steps, top: i64) -> bool {
    fit(std::slice::from_ref(steps), top).is_none()
}

/// Channels whose result is always the same get weights of 0, unless that needs wider weights or there are identities.
fn constant_channels(sum: &mut Sum, steps: &mut [Steps]) {
    let narrow = |(term, _): &(Term, _)| term.weight_bits() == Some(1);
    if sum.has_identity() || sum.terms.iter().any(narrow) {
        return;
    }
    for (channel, steps) in steps.iter_mut().enumerate().filter(|(_, steps)| steps.thresholds.is_empty()) {
        for (_, array) in &mut sum.terms {
            let array = array.as_mut().expect("only identities have no weights");
            array.index_axis_mut(Axis(0), channel).fill(0);
        }
        sum.bias[channel] = 0;
        steps.domain = Range { lo: 0, hi: 0 };
    }
}

/// True if multiplied weights stay below 2^7 and identities have one multiplier for all channels.
fn small(sum: &Sum, multipliers: &[i64]) -> bool {
    let same = multipliers.iter().all(|&m| m == multipliers[0]);
    (same || !sum.has_identity())
        && sum.weights().all(|array| {
            array
                .axis_iter(Axis(0))
                .zip(multipliers)
                .all(|(row, &m)| row.iter().all(|&w| i64::from(w).abs() * m < 1 << 7))
        })
}

/// One entry if all are the same.
fn one_or_all<T: PartialEq + Clone>(values: Vec<T>) -> Vec<T> {
    if values.iter().all(|value| *value == values[0]) { vec![values[0].clone()] } else { values }
}
