//! Layer by layer: every sample in real numbers and in integers, side by side.

use std::collections::{BTreeMap, BTreeSet};

use ndarray::Array3;

use super::fit::{self, Activations, Fit};
use super::real::{RealNetwork, RealOp, RealTerm};
use super::rows::{Rows, Whole, as_real, means, powers};
use super::run::step;
use super::units::{Average, Units};
use super::{Layer, PtqError, Sample, Settings};
use crate::parallel::each;
use crate::shape::of_channel;

/// Most floats of a tensor of all samples together.
const MOST_VALUES: usize = 1 << 26;
/// Fewest samples that are used.
const LEAST_SAMPLES: usize = 16;
/// Most values of a tensor that a unit is chosen by.
const LOOKED_AT: usize = 1 << 15;
/// A depthwise layer whose largest weights differ by more than this between channels gets a shift for each.
const UNEVEN: f64 = 8.0;

/// What a node becomes.
#[derive(Clone, Debug)]
pub(super) enum Fitted {
    /// Terms and biases; the rounding of what follows is part of them.
    Linear(Vec<Whole>, Vec<i64>),
    /// With this width.
    Requantise(Fit, u32),
    Average(Average),
    /// What it is.
    Same,
}

/// All of it.
pub(super) struct Outcome {
    pub nodes: Vec<Fitted>,
    pub layers: Vec<Layer>,
    pub warnings: Vec<String>,
    /// Real value of one unit of the answer.
    pub unit: f64,
}

/// The samples of one tensor.
#[derive(Clone, Default)]
struct Pair {
    real: Vec<Array3<f32>>,
    whole: Vec<Array3<f32>>,
}

struct Fitting<'n> {
    network: &'n RealNetwork,
    settings: &'n Settings,
    units: Units,
    /// By tensor, empty once nothing reads them.
    tensors: Vec<Pair>,
    /// Real value of one unit, of activations.
    worth: Vec<f64>,
    /// The units that are given by class.
    given: Vec<Option<f64>>,
    /// By node, of linear layers: what is known before their clip is reached.
    fits: Vec<Option<Fit>>,
    outcome: Outcome,
}

/// Fits a network in normal form.
pub(super) fn fit(network: &RealNetwork, samples: &[Sample], settings: &Settings) -> Result<Outcome, PtqError> {
    let shapes = network.shapes().map_err(PtqError::Shape)?;
    let largest = shapes.iter().map(|shape| shape.iter().product::<usize>()).max().unwrap_or(1);
    let count = (MOST_VALUES / largest.max(1)).max(LEAST_SAMPLES).min(samples.len());
    let samples = &samples[..count];
    let units = Units::of(network)?;
    let mut given = shared(network, &units, samples, settings)?;
    given[units.class(0)] = Some(network.unit);
    let mut tensors = vec![Pair::default(); shapes.len()];
    tensors[0] = Pair {
        real: samples.iter().map(|sample| sample.real.clone()).collect(),
        whole: samples.iter().map(|sample| sample.stored.clone()).collect(),
    };
    let mut worth = vec![0.0; shapes.len()];
    worth[0] = network.unit;
    let outcome = Outcome { nodes: vec![], layers: vec![], warnings: vec![], unit: 0.0 };
    let fits = vec![None; network.nodes.len()];
    let mut fitting = Fitting { network, settings, units, tensors, worth, given, fits, outcome };
    for index in 0..network.nodes.len() {
        fitting.node(index)?;
        fitting.forget(index);
    }
    fitting.outcome.unit = match network.nodes[network.output - 1].op {
        RealOp::Linear { .. } => fitting.outcome.unit,
        _ => fitting.worth[network.output],
    };
    Ok(fitting.outcome)
}

/// Units of the classes that several clips share, by what all of them hold.
fn shared(
    network: &RealNetwork,
    units: &Units,
    samples: &[Sample],
    settings: &Settings,
) -> Result<Vec<Option<f64>>, PtqError> {
    let mut given = vec![None; network.nodes.len() + 1];
    let clips = |class: usize| {
        let clip = |&tensor: &usize| matches!(network.nodes[tensor - 1].op, RealOp::Clip { .. });
        (1..given.len()).filter(clip).filter(|&tensor| units.class(tensor) == class).collect::<Vec<_>>()
    };
    let classes: Vec<Vec<usize>> = (0..given.len()).map(clips).collect();
    if classes.iter().all(|clips| clips.len() < 2) {
        return Ok(given);
    }
    let few = &samples[..samples.len().min(LEAST_SAMPLES * 2)];
    let mut seen: Vec<Vec<f32>> = vec![vec![]; given.len()];
    for sample in few {
        let mut tensors = vec![sample.real.clone()];
        for (index, node) in network.nodes.iter().enumerate() {
            tensors.push(step(&node.op, &|tensor| &tensors[tensor]));
            if classes[units.class(index + 1)].len() > 1 {
                let every = (tensors[index + 1].len() * few.len()).div_ceil(LOOKED_AT);
                let values = tensors[index + 1].iter().enumerate();
                seen[index + 1].extend(values.filter(|(at, _)| looked_at(*at, every)).map(|(_, v)| v));
            }
        }
    }
    for (class, clips) in classes.iter().enumerate().filter(|(_, clips)| clips.len() > 1) {
        let values: Vec<f32> = clips.iter().flat_map(|&tensor| seen[tensor].iter().copied()).collect();
        let all = Activations {
            ends: ends(&values, &network.nodes[clips[0] - 1].name)?,
            values: vec![values],
            importance: vec![1.0],
            bounds: [f64::NEG_INFINITY, f64::INFINITY],
            bits: settings.bits,
            unit: None,
        };
        given[class] = Some(all.best_unit());
    }
    Ok(given)
}

/// One place in `every`, without a pattern that rows of images could have too.
fn looked_at(place: usize, every: usize) -> bool {
    let mixed = (place as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    mixed.is_multiple_of(every as u64)
}

/// Smallest and largest value, and 0.
fn ends(values: &[f32], name: &str) -> Result<[f64; 2], PtqError> {
    if values.iter().any(|v| !v.is_finite()) {
        return Err(PtqError::NotFinite(name.to_owned()));
    }
    let fold = |of: fn(f32, f32) -> f32| f64::from(values.iter().copied().fold(0.0, of));
    Ok([fold(f32::min), fold(f32::max)])
}

impl Fitting<'_> {
    fn node(&mut self, index: usize) -> Result<(), PtqError> {
        match &self.network.nodes[index].op {
            RealOp::Linear { terms, bias } => self.linear(index, terms, bias)?,
            &RealOp::Clip { input, .. } => self.clip(index, input),
            RealOp::AveragePool { .. } => self.average(index),
            op => {
                let of = |tensors: Vec<&[Array3<f32>]>| {
                    let count = tensors[0].len();
                    let numbers: Vec<usize> = (0..count).collect();
                    let inputs = op.inputs();
                    let place = |tensor: usize| inputs.iter().position(|&input| input == tensor).expect("it is read");
                    each(&numbers, |&n| step(op, &|tensor| &tensors[place(tensor)][n]))
                };
                let inputs = op.inputs();
                let real = of(inputs.iter().map(|&input| &self.tensors[input].real[..]).collect());
                let whole = of(inputs.iter().map(|&input| &self.tensors[input].whole[..]).collect());
                self.tensors[index + 1] = Pair { real, whole };
                self.worth[index + 1] = self.worth[inputs[0]];
                self.outcome.nodes.push(Fitted::Same);
            }
        }
        Ok(())
    }

    /// Drops what no later node reads.
    fn forget(&mut self, index: usize) {
        for tensor in self.network.nodes[index].op.inputs() {
            if self.network.readers(tensor).into_iter().all(|reader| reader <= index) {
                self.tensors[tensor] = Pair::default();
            }
        }
    }

    fn linear(&mut self, index: usize, terms: &[RealTerm], bias: &[f32]) -> Result<(), PtqError> {
        let channels = bias.len();
        let bits = self.settings.bits;
        let units: Vec<f64> = terms.iter().map(|term| self.worth[term.input()]).collect();
        let power: Vec<Vec<f64>> = terms.iter().map(|term| powers(&self.tensors[term.input()].whole)).collect();
        let rows = Rows::of(terms, &units, &power, channels, bits);
        let op = &self.network.nodes[index].op;
        let real = self.evaluated(op, |pair| &pair.real);
        let clip = self.network.readers(index + 1).first().copied();
        let (fit, steps) = match clip {
            None => (None, vec![fit::answer(&rows); channels]),
            Some(clip) => {
                let activations = self.activations(clip, &real)?;
                let fit = fit::fit(&rows, &activations, self.by_channel(index, terms, &rows));
                let steps = fit.steps(channels);
                (Some(fit), steps)
            }
        };
        let terms_whole = rows.whole(terms, &units, &steps, bits);
        let whole = RealOp::Linear {
            terms: terms.iter().zip(&terms_whole).map(|(term, whole)| as_real(term, whole)).collect(),
            bias: vec![0.0; channels],
        };
        let mut whole = self.evaluated(&whole, |pair| &pair.whole);
        let bias = biases(&real, &whole, &steps, fit.as_ref());
        for tensor in &mut whole {
            for (mut plane, &bias) in tensor.outer_iter_mut().zip(&bias) {
                plane += bias as f32;
            }
        }
        let multipliers = terms_whole.iter().filter_map(|term| match term {
            Whole::Identity(m) => Some(*m),
            _ => None,
        });
        self.outcome.layers.push(Layer {
            name: self.network.nodes[index].name.clone(),
            shifts: fit.as_ref().map_or(vec![], |fit| fit.shifts.clone()),
            multipliers: multipliers.collect(),
            error: if fit.is_none() { relative(&real, &whole, &steps) } else { 0.0 },
        });
        if fit.is_none() {
            self.outcome.unit = steps[0];
        }
        self.outcome.nodes.push(Fitted::Linear(terms_whole, bias));
        self.fits[index] = fit;
        self.tensors[index + 1] = Pair { real, whole };
        Ok(())
    }

    /// An operation on all samples.
    fn evaluated(&self, op: &RealOp, of: impl Fn(&Pair) -> &Vec<Array3<f32>> + Sync) -> Vec<Array3<f32>> {
        let numbers: Vec<usize> = (0..of(&self.tensors[op.inputs()[0]]).len()).collect();
        each(&numbers, |&n| step(op, &|tensor| &of(&self.tensors[tensor])[n]))
    }

    /// What is known of the activations that the clip makes of these sums.
    fn activations(&self, clip: usize, sums: &[Array3<f32>]) -> Result<Activations, PtqError> {
        let node = &self.network.nodes[clip];
        let RealOp::Clip { lo, hi, .. } = node.op else { unreachable!("clips alone read linear layers") };
        let clipped = |sum: f32| sum.max(lo).min(hi);
        let (channels, height, width) = sums[0].dim();
        let per_channel = (LOOKED_AT / channels).max(64);
        let every = (sums.len() * height * width).div_ceil(per_channel);
        let mut values: Vec<Vec<f32>> = vec![vec![]; channels];
        let (mut all, mut at): (Vec<f32>, usize) = (vec![], 0);
        for sum in sums {
            let most = sum.iter().map(|&z| clipped(z)).fold([0.0f32; 2], |[lo, hi], v| [lo.min(v), hi.max(v)]);
            all.extend(most);
            all.extend(sum.iter().find(|z| !z.is_finite()));
            for place in (0..height * width).filter(|place| looked_at(at + place, every)) {
                for (channel, values) in values.iter_mut().enumerate() {
                    values.push(clipped(sum[(channel, place / width, place % width)]));
                }
            }
            at += height * width;
        }
        Ok(Activations {
            ends: ends(&all, &node.name)?,
            values,
            importance: self.importance(clip + 1),
            bounds: [lo.into(), hi.into()],
            bits: self.settings.bits,
            unit: self.given[self.units.class(clip + 1)],
        })
    }

    /// What an error of each channel of a tensor does to the layers behind, squared.
    fn importance(&self, tensor: usize) -> Vec<f64> {
        let passes = |&node: &usize| {
            use RealOp::{AveragePool, Concat, Flatten, MaxPool};
            matches!(self.network.nodes[node].op, MaxPool { .. } | AveragePool { .. } | Flatten { .. } | Concat { .. })
        };
        // Tensors that hold its values: the last ones first, whose importance is that of those before.
        let (mut open, mut held) = (vec![tensor], BTreeSet::from([tensor]));
        while let Some(from) = open.pop() {
            let readers = self.network.readers(from).into_iter().filter(passes);
            open.extend(readers.map(|reader| reader + 1).filter(|&to| held.insert(to)));
        }
        let mut found = BTreeMap::new();
        for &tensor in held.iter().rev() {
            found.insert(tensor, self.importance_by(tensor, &found));
        }
        found.remove(&tensor).unwrap_or_default()
    }

    /// The same of a tensor, by that of the tensors behind that hold its values.
    fn importance_by(&self, tensor: usize, behind: &BTreeMap<usize, Vec<f64>>) -> Vec<f64> {
        let shape = self.shape(tensor);
        let mut sum = vec![0.0; shape[0]];
        for reader in self.network.readers(tensor) {
            let more = match &self.network.nodes[reader].op {
                RealOp::Linear { terms, .. } => column_norms(terms, tensor, shape[0]),
                RealOp::MaxPool { .. } | RealOp::AveragePool { .. } => behind[&(reader + 1)].clone(),
                RealOp::Flatten { .. } => {
                    let behind = &behind[&(reader + 1)];
                    behind.chunks(behind.len() / shape[0]).map(|part| part.iter().sum()).collect()
                }
                RealOp::Concat { inputs } => {
                    let behind = &behind[&(reader + 1)];
                    let before = inputs.iter().take_while(|&&input| input != tensor);
                    let first: usize = before.map(|&input| self.shape(input)[0]).sum();
                    behind[first..first + shape[0]].to_vec()
                }
                RealOp::Select { .. } | RealOp::Clip { .. } => vec![1.0; shape[0]],
            };
            sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
        }
        // Channels that nothing reads matter little, but something.
        let mean = sum.iter().sum::<f64>() / sum.len() as f64;
        let least = if mean > 0.0 { mean * 1e-3 } else { 1.0 };
        sum.iter().map(|&weight| weight.max(least)).collect()
    }

    fn shape(&self, tensor: usize) -> [usize; 3] {
        self.network.shapes().expect("they were checked")[tensor]
    }

    /// Whether a layer gets a shift for each channel.
    fn by_channel(&mut self, index: usize, terms: &[RealTerm], rows: &Rows) -> bool {
        if self.settings.channel_shifts {
            return true;
        }
        let depthwise = terms.iter().any(|term| matches!(term, RealTerm::Weights { groups, .. } if *groups > 1));
        let mut largest = rows.largest();
        largest.retain(|&most| most > 0.0);
        largest.sort_by(f64::total_cmp);
        let (Some(&median), Some(&most)) = (largest.get(largest.len() / 2), largest.last()) else { return false };
        let uneven = depthwise && most > UNEVEN * median;
        if uneven {
            let name = &self.network.nodes[index].name;
            self.outcome.warnings.push(format!(
                "the depthwise layer \"{name}\" has channels whose weights are {:.0} times those of others: it gets a shift for each \
                 channel",
                most / median
            ));
        }
        uneven
    }

    fn clip(&mut self, index: usize, input: usize) {
        let fit = self.fits[input - 1].clone().expect("its layer was fitted");
        let shifts = |channel: usize| of_channel(&fit.shifts, channel);
        let (top, zero) = (fit.top as f32, fit.zero_point as f32);
        let rounded = |sum: &Array3<f32>| {
            let mut y = sum.clone();
            for (channel, mut plane) in y.outer_iter_mut().enumerate() {
                let over = (-(shifts(channel) as f32)).exp2();
                plane.mapv_inplace(|z| (z * over).floor().clamp(0.0, top) - zero);
            }
            y
        };
        let whole = each(&self.tensors[input].whole, rounded);
        let real = self.evaluated(&self.network.nodes[index].op, |pair| &pair.real);
        let steps = vec![fit.unit; fit.shifts.len().max(real[0].dim().0)];
        let error = relative(&real, &whole, &steps);
        let name = &self.network.nodes[input - 1].name;
        if let Some(layer) = self.outcome.layers.iter_mut().rev().find(|layer| layer.name == *name) {
            layer.error = error;
        }
        self.worth[index + 1] = fit.unit;
        self.outcome.nodes.push(Fitted::Requantise(fit, self.settings.bits));
        self.tensors[index + 1] = Pair { real, whole };
    }

    fn average(&mut self, index: usize) {
        let RealOp::AveragePool { input, window, divisor } = self.network.nodes[index].op else {
            unreachable!("an average")
        };
        let average = self.units.averages[index].expect("averages have a rule");
        let (multiplier, offset, shift) = average.numbers();
        let sums = RealOp::AveragePool { input, window, divisor: 1.0 };
        let mut whole = self.evaluated(&sums, |pair| &pair.whole);
        let rounded = |sum: f32| ((multiplier * sum as i64 + offset) >> shift) as f32;
        whole.iter_mut().for_each(|tensor| tensor.mapv_inplace(rounded));
        let real = self.evaluated(&self.network.nodes[index].op, |pair| &pair.real);
        self.tensors[index + 1] = Pair { real, whole };
        self.worth[index + 1] = self.worth[input] * average.ratio(&window, f64::from(divisor));
        self.outcome.nodes.push(Fitted::Average(average));
    }
}

/// Squared norms of the columns of the weights that meet each channel of a tensor.
fn column_norms(terms: &[RealTerm], tensor: usize, channels: usize) -> Vec<f64> {
    let mut norms = vec![0.0; channels];
    for term in terms.iter().filter(|term| term.input() == tensor) {
        match term {
            RealTerm::Weights { weights, groups, .. } => {
                let (outputs, inputs, ..) = weights.dim();
                for ((output, input, _, _), &w) in weights.indexed_iter() {
                    norms[output / (outputs / groups) * inputs + input] += f64::from(w * w);
                }
            }
            RealTerm::Identity { factor, .. } => {
                for (channel, norm) in norms.iter_mut().enumerate() {
                    *norm += f64::from(of_channel(factor, channel).powi(2));
                }
            }
        }
    }
    norms
}

/// Biases of channels: what is left of the mean error, which a clip's shift rounds.
fn biases(real: &[Array3<f32>], whole: &[Array3<f32>], steps: &[f64], fit: Option<&Fit>) -> Vec<i64> {
    let (wanted, found) = (means(real, |z| z), means(whole, |z| z));
    let bias = |channel: usize| {
        let mean = wanted[channel] / steps[channel] - found[channel];
        match fit {
            None => mean.round_ties_even() as i64,
            Some(fit) => {
                let shift = of_channel(&fit.shifts, channel);
                let half = if shift == 0 { 0.5 } else { f64::from(shift - 1).exp2() };
                (mean + half).floor() as i64 + (fit.zero_point << shift)
            }
        }
    };
    (0..steps.len()).map(bias).collect()
}

/// Mean square of what is off over the mean square, for integers worth a step each.
fn relative(real: &[Array3<f32>], whole: &[Array3<f32>], steps: &[f64]) -> f64 {
    let (mut off, mut all) = (0.0, 0.0);
    for (real, whole) in real.iter().zip(whole) {
        for (at, &v) in real.indexed_iter() {
            let e = f64::from(v) - f64::from(whole[at]) * steps[at.0];
            off += e * e;
            all += f64::from(v) * f64::from(v);
        }
    }
    if all > 0.0 { off / all } else { 0.0 }
}
