//! Puts a network together, node by node: every node is checked when it is added, and requantisations are given by their rule.

mod groups;
mod requantise;

use std::collections::HashSet;

use ndarray::{Array4, Axis};

use crate::answer::ClassRule;
use crate::bounds::linear_bounds;
use crate::check::{MAX_NAME, MAX_WEIGHT_BITS, TensorInfo};
use crate::coding::OutputCoding;
use crate::error::ModelError;
use crate::floats::Floats;
use crate::import::report::Report;
use crate::import::twin::Twin;
use crate::limits::MAX_RING;
use crate::network::{Architecture, Input, Node, Op, Range, Shape, TensorId, Term, Window, selected};
use crate::rescale::{Affine, NotMonotone, Steps, fit};
use crate::weights::{LinearWeights, Network, Weights, weight_fits};

/// When multipliers of a rescaling go into the weights instead of a public scale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fold {
    /// Never.
    Never,
    /// Where all multiplied weights of the layer stay below 2^7.
    #[default]
    Auto,
}

/// What can't be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Obstacle {
    /// A node that breaks a rule of networks.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A rounding rule that rises and falls.
    #[error("channel {channel} is not monotone at the accumulator {at}")]
    NotMonotone {
        /// The channel.
        channel: usize,
        /// The accumulator.
        at: i64,
    },
    /// A rounding rule that no multiplier, offset and shift equals.
    #[error("no multiplier, offset and shift equal the rounding rule on every accumulator in {}..={} of channel {channel}", .domain.lo, .domain.hi)]
    NoFit {
        /// The first such channel.
        channel: usize,
        /// Its reachable accumulators.
        domain: Range,
    },
    /// A negative factor next to a residual.
    #[error("channel {channel} falls, but a residual is added to it")]
    Falling {
        /// The channel.
        channel: usize,
    },
    /// Multiplied accumulators that no ring holds.
    #[error("accumulators of {bits} bits once they are multiplied, more than {MAX_RING}")]
    TooLong {
        /// Width with a sign, and what comparing and widening need.
        bits: u32,
    },
    /// Results that differ by more than 255.
    #[error("results span {lo}..={hi}, more than 8 bits")]
    TooWide {
        /// Smallest.
        lo: i64,
        /// Largest.
        hi: i64,
    },
}

/// A linear node that is not part of the network yet: z = sum of terms + bias.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sum {
    /// Each with its weights, `None` for an identity.
    pub terms: Vec<(Term, Option<Array4<i32>>)>,
    /// By output channel.
    pub bias: Vec<i64>,
}

impl Sum {
    /// z = x, for a tensor of `channels` channels.
    pub fn identity(input: TensorId, channels: usize) -> Sum {
        Sum { terms: vec![(Term::Identity { input, multiplier: 1 }, None)], bias: vec![0; channels] }
    }

    fn parts(self) -> (Vec<Term>, LinearWeights) {
        let (terms, arrays) = self.terms.into_iter().unzip();
        (terms, LinearWeights { terms: arrays, bias: self.bias })
    }

    /// The weights of the terms that have some.
    pub(crate) fn weights(&self) -> impl Iterator<Item = &Array4<i32>> {
        self.terms.iter().filter_map(|(_, array)| array.as_ref())
    }

    pub(crate) fn has_identity(&self) -> bool {
        self.terms.iter().any(|(term, _)| matches!(term, Term::Identity { .. }))
    }

    /// Multiplies everything by `factors`, one per channel (all the same where there are identities), and makes the widths of
    /// the weights fit.
    pub fn multiply(&mut self, factors: &[i64]) -> Result<(), Obstacle> {
        debug_assert!(!self.has_identity() || factors.iter().all(|&f| f == factors[0]));
        for (bias, factor) in self.bias.iter_mut().zip(factors) {
            *bias = bias.saturating_mul(*factor);
        }
        for (term, array) in &mut self.terms {
            let (Some(array), Term::Conv { weight_bits, .. } | Term::Dense { weight_bits, .. }) = (array, &mut *term)
            else {
                if let Term::Identity { multiplier, .. } = term {
                    *multiplier = multiplier.saturating_mul(factors[0]);
                }
                continue;
            };
            for (mut row, factor) in array.axis_iter_mut(Axis(0)).zip(factors) {
                row.mapv_inplace(|w| i32::try_from(i64::from(w).saturating_mul(*factor)).unwrap_or(i32::MAX));
            }
            *weight_bits = weight_width(array);
        }
        Ok(())
    }
}

/// The smallest width that holds all weights: 1 for {-1, +1}; over the limit if there is none.
pub(crate) fn weight_width(array: &Array4<i32>) -> u32 {
    (1..=MAX_WEIGHT_BITS).find(|&bits| array.iter().all(|&w| weight_fits(w, bits))).unwrap_or(MAX_WEIGHT_BITS + 1)
}

/// A network that grows.
pub(crate) struct Builder {
    architecture: Architecture,
    weights: Vec<Option<LinearWeights>>,
    tensors: Vec<TensorInfo>,
    names: HashSet<String>,
    fold: Fold,
    /// Lines that miss a few thresholds by one are taken, with a note, instead of sums of several exact ones.
    pub near: bool,
    /// How the file codes its output.
    pub output_coding: Option<OutputCoding>,
    /// What requantisations are near to.
    pub twin: Twin,
    /// What the user is told.
    pub report: Report,
}

impl Builder {
    /// A network that has an input and nothing else yet.
    pub fn new(name: &str, input: Input, fold: Fold, report: Report) -> Result<Builder, Obstacle> {
        let architecture = Architecture {
            name: clean(name, 120),
            input,
            nodes: Vec::new(),
            output: 0,
            output_scale: None,
            output_coding: None,
            classes: Vec::new(),
            declared: Default::default(),
            rounding: None,
        };
        let tensors = architecture.check_nodes()?;
        let (weights, names) = (Vec::new(), HashSet::new());
        Ok(Builder {
            architecture,
            weights,
            tensors,
            names,
            fold,
            near: false,
            output_coding: None,
            twin: Twin::default(),
            report,
        })
    }

    /// Shape and range of a tensor.
    pub fn tensor(&self, id: TensorId) -> TensorInfo {
        self.tensors[id]
    }

    /// Adds a node; its name is made unique.
    pub fn node(&mut self, name: &str, op: Op, weights: Option<LinearWeights>) -> Result<TensorId, Obstacle> {
        let name = self.unique(name);
        self.architecture.nodes.push(Node { name, op });
        // Quadratic in the number of nodes, of which there are few thousand at most.
        match self.architecture.check_nodes() {
            Ok(tensors) => self.tensors = tensors,
            Err(error) => {
                self.architecture.nodes.pop();
                return Err(error.into());
            }
        }
        self.weights.push(weights);
        Ok(self.architecture.nodes.len())
    }

    fn unique(&mut self, name: &str) -> String {
        let name = clean(name, 100);
        let mut candidate = name.clone();
        let mut number = 1;
        while !self.names.insert(candidate.clone()) {
            number += 1;
            candidate = format!("{name}_{number}");
        }
        candidate
    }

    /// The reachable values of a sum, by channel.
    pub fn bounds(&self, sum: &Sum) -> Vec<Range> {
        let (terms, weights) = sum.clone().parts();
        linear_bounds(&terms, &weights, &self.tensors)
    }

    /// Adds a linear node.
    pub fn linear(&mut self, name: &str, sum: Sum) -> Result<TensorId, Obstacle> {
        let (terms, weights) = sum.parts();
        self.node(name, Op::Linear { terms }, Some(weights))
    }

    /// What [`Builder::return_to`] needs.
    fn mark(&self) -> (usize, HashSet<String>) {
        (self.architecture.nodes.len(), self.names.clone())
    }

    /// Takes back the nodes that were added since.
    fn return_to(&mut self, (nodes, names): (usize, HashSet<String>)) {
        self.architecture.nodes.truncate(nodes);
        self.weights.truncate(nodes);
        self.tensors.truncate(nodes + 1);
        self.names = names;
        self.twin.retain(|name| self.names.contains(name));
    }

    /// x = function(input), for an input of at most 256 values: nothing where that is the identity, a requantisation where the
    /// function is monotone and the input has more than 5 bits, else a table.
    pub fn apply(&mut self, name: &str, input: TensorId, function: impl Fn(i64) -> i64) -> Result<TensorId, Obstacle> {
        let TensorInfo { range, shape, .. } = self.tensor(input);
        let values = range.lo..=range.hi;
        if range.count() > 256 {
            return Err(Obstacle::TooWide { lo: range.lo, hi: range.hi });
        }
        if values.clone().all(|x| function(x) == x) {
            return Ok(input);
        }
        let table: Vec<i64> = values.map(&function).collect();
        let (lo, hi) = (*table.iter().min().expect("values"), *table.iter().max().expect("values"));
        let rises = table.is_sorted() || table.iter().rev().is_sorted();
        if table.len() > 32 && rises && lo <= 0 && hi - lo <= 255 {
            let mark = self.mark();
            match self.requantise(name, Sum::identity(input, shape[0]), -lo, |_, x| function(x) - lo) {
                Err(Obstacle::NoFit { .. }) => self.return_to(mark),
                // More than two parts cost more than a table.
                Ok(_) if self.architecture.nodes.len() > mark.0 + 7 => self.return_to(mark),
                done => return done,
            }
        }
        self.node(name, Op::Table { input, table }, None)
    }

    /// x = rule(S) - zero_point of the sum S over each window (padding counts as 0): an average without clip where the rule allows.
    pub fn average(
        &mut self,
        name: &str,
        input: TensorId,
        window: Window,
        zero_point: i64,
        rule: impl Fn(i64) -> i64,
    ) -> Result<TensorId, Obstacle> {
        if let Some(Affine { multiplier, offset, shift }) = self.affine_average(input, &window, zero_point, &rule)? {
            return self.node(name, Op::AvgPool { input, window, multiplier, offset, shift, floats: None }, None);
        }
        let least = rule(self.window_sums(input, &window).lo);
        let sum = self.node(&format!("{name}/sum"), Op::SumPool { input, window }, None)?;
        let channels = self.tensor(sum).shape[0];
        let least = least.min(zero_point);
        self.requantise(name, Sum::identity(sum, channels), zero_point - least, |_, z| rule(z) - least)
    }

    /// The same, one less where floats lower it; `None` where only a clip has the rule.
    pub fn average_by_floats(
        &mut self,
        name: &str,
        (input, window): (TensorId, Window),
        zero_point: i64,
        rule: impl Fn(i64) -> i64,
        floats: Floats,
    ) -> Result<Option<TensorId>, Obstacle> {
        let Some(Affine { multiplier, offset, shift }) = self.affine_average(input, &window, zero_point, &rule)? else {
            return Ok(None);
        };
        let op = Op::AvgPool { input, window, multiplier, offset, shift, floats: Some(floats) };
        self.node(name, op, None).map(Some)
    }

    /// The line that has an average's rule, if there is one.
    fn affine_average(
        &self,
        input: TensorId,
        window: &Window,
        zero_point: i64,
        rule: &impl Fn(i64) -> i64,
    ) -> Result<Option<Affine>, Obstacle> {
        let domain = self.window_sums(input, window);
        // With all values above 0 and below the top, nothing is clamped.
        let (least, most) = (rule(domain.lo), rule(domain.hi));
        if most.saturating_sub(least) > 255 {
            return Err(Obstacle::TooWide { lo: least, hi: most });
        }
        let steps = Steps::of(domain, |z| rule(z) - least + 1)
            .map_err(|NotMonotone { at }| Obstacle::NotMonotone { channel: 0, at })?;
        Ok(fit(&[steps], i64::MAX).map(|fit| {
            let Affine { multiplier, offset, shift } = fit[0];
            let offset = offset.saturating_add((least - 1 - zero_point) << shift);
            Affine { multiplier, offset, shift }
        }))
    }

    /// The values that windows of a tensor have, padding included.
    pub fn window_values(&self, input: TensorId, window: &Window) -> Range {
        window.values(self.tensor(input).range)
    }

    /// Their sums.
    pub fn window_sums(&self, input: TensorId, window: &Window) -> Range {
        let count = (window.kernel[0] * window.kernel[1]) as i64;
        let range = self.window_values(input, window);
        Range { lo: range.lo.saturating_mul(count), hi: range.hi.saturating_mul(count) }
    }

    /// A vector of a tensor's elements, row-major; the tensor itself if it is one.
    pub fn flatten(&mut self, name: &str, input: TensorId) -> Result<TensorId, Obstacle> {
        let [_, height, width] = self.tensor(input).shape;
        if [height, width] == [1, 1] { Ok(input) } else { self.node(name, Op::Flatten { input }, None) }
    }

    /// Some channels of a tensor, in this order.
    pub fn channels(&mut self, name: &str, input: TensorId, channels: &[usize]) -> Result<TensorId, Obstacle> {
        let [_, height, width] = self.tensor(input).shape;
        let size = height * width;
        let axes = vec![channels.iter().map(|&c| (c * size) as i64).collect(), (0..size as i64).collect()];
        self.select(name, input, [channels.len(), height, width], axes)
    }

    /// Elements in another order (see [`Op::Select`]); nothing where it is the old one.
    pub fn select(
        &mut self,
        name: &str,
        input: TensorId,
        shape: Shape,
        axes: Vec<Vec<i64>>,
    ) -> Result<TensorId, Obstacle> {
        let old = self.tensor(input);
        let count = axes.iter().fold(1usize, |count, axis| count.saturating_mul(axis.len()));
        let same = || selected(&axes).into_iter().enumerate().all(|(index, at)| at == Some(index));
        if old.shape == shape && count == old.elements() && same() {
            return Ok(input);
        }
        self.node(name, Op::Select { input, shape, axes }, None)
    }

    /// The shape that a term's result would have; `None` where it does not fit.
    pub fn shape_of(&self, term: &Term) -> Option<Shape> {
        let [channels, height, width] = self.tensor(term.input()).shape;
        match term {
            Term::Conv { out_channels, window, .. } => {
                let [height, width] = window.output([height, width])?;
                Some([*out_channels, height, width])
            }
            Term::Dense { outputs, .. } => Some([*outputs, 1, 1]),
            Term::Identity { .. } => Some([channels, height, width]),
        }
    }

    /// The network; nodes that nothing reads are left out.
    pub fn finish(mut self, output: TensorId, output_scale: Option<f64>) -> Result<(Network, Report), Obstacle> {
        self.architecture.output = output;
        self.architecture.output_scale = output_scale;
        self.architecture.output_coding = self.output_coding.take();
        self.report.codings = [self.architecture.input_line(), self.architecture.output_line()];
        let pictures = self.architecture.reads_pictures();
        if let Some(warning) = self.architecture.picture_warning().filter(|_| pictures) {
            self.report.note(warning);
        }
        if let ClassRule::None(why) = self.architecture.class_rule(self.tensors[output].elements()) {
            self.report.note(format!("it gives no class: {why}"));
        }
        let rule = self.report.rounding_rule();
        self.architecture.rounding = (!rule.is_empty()).then(|| clean(&rule, MAX_NAME));
        self.remove_unused();
        let network = Network::new(self.architecture, Weights { linear: self.weights })?;
        Ok((network, self.report))
    }

    fn remove_unused(&mut self) {
        let mut used = vec![false; self.tensors.len()];
        used[self.architecture.output] = true;
        for (index, node) in self.architecture.nodes.iter().enumerate().rev() {
            if used[index + 1] {
                node.op.inputs().into_iter().for_each(|input| used[input] = true);
            }
        }
        let new: Vec<TensorId> = used
            .iter()
            .scan(0, |next, &used| {
                *next += usize::from(used);
                Some(*next - usize::from(used))
            })
            .collect();
        // Tensor 0 stays, even if nothing reads it: that is for the checker to refuse.
        let shift = usize::from(!used[0]);
        let mut keep = used[1..].iter();
        self.architecture.nodes.retain(|_| *keep.next().expect("one entry per node"));
        let mut keep = used[1..].iter();
        self.weights.retain(|_| *keep.next().expect("one entry per node"));
        for node in &mut self.architecture.nodes {
            node.op.rename_inputs(|input| if input == 0 { 0 } else { new[input] + shift });
        }
        self.architecture.output =
            if self.architecture.output == 0 { 0 } else { new[self.architecture.output] + shift };
    }
}

/// A name without control characters, at most `limit` bytes, not empty.
fn clean(name: &str, limit: usize) -> String {
    let mut clean = String::new();
    for c in name.chars().map(|c| if c.is_control() { '_' } else { c }) {
        if clean.len() + c.len_utf8() > limit {
            break;
        }
        clean.push(c);
    }
    if clean.is_empty() { "node".to_owned() } else { clean }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interpret::Tensor;

    fn builder(shape: Shape, zero_point: i64) -> Builder {
        let input = Input { shape, bits: 8, zero_point, pixels: None, coding: None };
        Builder::new("test", input, Fold::Auto, Report::default()).expect("a valid input")
    }

    /// Runs the network on every value of a single input.
    fn answers(network: &Network) -> Vec<(i64, i64)> {
        let Range { lo, hi } = network.architecture().input.range();
        let run = |x| (x, network.run(&Tensor::from_elem([1, 1, 1], x)).expect("a valid input")[[0, 0, 0]]);
        (lo..=hi).map(run).collect()
    }

    fn check(zero_point: i64, zero: i64, rule: impl Fn(i64) -> i64) {
        let mut builder = builder([1, 1, 1], zero_point);
        let sum = Sum::identity(0, 1);
        let output = builder.requantise("layer", sum, zero, |_, z| rule(z)).expect("a rule that fits");
        let (network, _) = builder.finish(output, None).expect("a valid network");
        for (x, y) in answers(&network) {
            assert_eq!(y, rule(x) - zero, "at {x}");
        }
    }

    #[test]
    fn requantisations_equal_their_rules() {
        check(0, 0, |z| ((z as f32 * 0.37f32).round_ties_even() as i64).clamp(0, 15));
        check(100, 20, |z| ((z as f32 * 0.1234f32).round_ties_even() as i64 + 20).clamp(0, 255));
        check(128, 3, |z| ((z as f32 * 0.5).round_ties_even() as i64 + 3).clamp(0, 255));
        check(128, 128, |z| ((z as f32 * -0.7).round_ties_even() as i64 + 128).clamp(0, 255));
        check(128, 128, |z| z.max(0) + 128);
        check(0, 0, |_| 7);
        check(0, 7, |z| 100 + i64::from(z > 17));
    }

    #[test]
    fn long_accumulators_are_rescaled_exactly_in_parts_or_nearly_in_one() {
        let rule = |c: usize, z: i64| {
            let scale = [0.000_912_3f32, 0.000_871_1, 0.000_655_5][c];
            ((z as f32 * scale).round_ties_even() as i64 + 100).clamp(0, 255)
        };
        for near in [false, true] {
            let mut builder = builder([1, 1, 1], 128);
            builder.near = near;
            let array = Array4::from_shape_vec([3, 1, 1, 1], vec![3001, -2999, 3333]).expect("three weights");
            let term = Term::Conv { input: 0, out_channels: 3, groups: 1, window: Window::POINT, weight_bits: 13 };
            let sum = Sum { terms: vec![(term, Some(array.clone()))], bias: vec![5, -7, 11] };
            let output = builder.requantise("layer", sum, 100, rule).expect("a rule that fits");
            let (network, report) = builder.finish(output, None).expect("a valid network");
            assert!(
                network.architecture().nodes.len() > 3 || !report.notes.is_empty(),
                "no single line equals the rule"
            );
            for x in -128..=127 {
                let y = network.run(&Tensor::from_elem([1, 1, 1], x)).expect("a valid input");
                for c in 0..3 {
                    let wanted = rule(c, i64::from(array[[c, 0, 0, 0]]) * x + [5, -7, 11][c]) - 100;
                    assert!((y[[c, 0, 0]] - wanted).abs() <= i64::from(near), "channel {c} at {x}");
                }
            }
        }
    }

    #[test]
    fn channels_of_a_residual_rise_and_fall() {
        let mut builder = builder([3, 1, 2], 100);
        let factors = [0.37f32, -0.21, 0.11];
        let rule = |c: usize, z: i64| ((z as f32 * factors[c]).round_ties_even() as i64 + 60).clamp(0, 255);
        let sum = Sum { terms: vec![(Term::Identity { input: 0, multiplier: 3 }, None)], bias: vec![5, -4, 3] };
        let output = builder.requantise("layer", sum, 60, rule).expect("a rule that fits");
        let (network, _) = builder.finish(output, None).expect("a valid network");
        for x in -100..=155 {
            let input = Tensor::from_shape_fn([3, 1, 2], |(c, _, w)| (x + 7 * c as i64 + 3 * w as i64).min(155));
            let output = network.run(&input).expect("a valid input");
            for ((c, h, w), &y) in output.indexed_iter() {
                assert_eq!(y, rule(c, 3 * input[[c, h, w]] + [5, -4, 3][c]) - 60, "channel {c} at {x}");
            }
        }
    }

    #[test]
    fn tables_serve_what_is_not_monotone() {
        let mut builder = builder([1, 1, 1], 128);
        let square = builder.apply("square", 0, |x| x * x / 70).expect("a table");
        let (network, _) = builder.finish(square, None).expect("a valid network");
        assert!(matches!(network.architecture().nodes[..], [Node { op: Op::Table { .. }, .. }]));
        assert!(answers(&network).into_iter().all(|(x, y)| y == x * x / 70));
    }

    #[test]
    fn averages_equal_their_rules() {
        let mut builder = builder([1, 2, 2], 0);
        let window = Window { kernel: [2, 2], stride: [2, 2], ..Window::POINT };
        let rule = |sum: i64| (sum as f32 * 0.25 * 0.9).round_ties_even() as i64;
        let output = builder.average("average", 0, window, 5, |sum| rule(sum) + 5).expect("an average that fits");
        let (network, _) = builder.finish(output, None).expect("a valid network");
        for sum in 0..=255 * 4 {
            let values = (0..4).map(|i| (sum + i) / 4).collect();
            let x = Tensor::from_shape_vec([1, 2, 2], values).expect("four values");
            assert_eq!(network.run(&x).expect("a valid input")[[0, 0, 0]], rule(sum), "at {sum}");
        }
    }

    #[test]
    fn what_nothing_reads_is_left_out() {
        let mut builder = builder([1, 1, 1], 0);
        builder.apply("unread", 0, |x| 255 - x).expect("a table");
        let output = builder.apply("read", 0, |x| x / 2).expect("a table");
        let (network, _) = builder.finish(output, None).expect("a valid network");
        assert!(network.architecture().nodes.iter().all(|node| node.name.starts_with("read")));
        assert!(answers(&network).into_iter().all(|(x, y)| y == x / 2));
    }

    #[test]
    fn rules_that_rise_and_fall_are_refused() {
        let mut builder = builder([1, 1, 1], 128);
        let error = builder.requantise("layer", Sum::identity(0, 1), 0, |_, z| z * z / 100).expect_err("a parabola");
        assert!(matches!(error, Obstacle::NotMonotone { channel: 0, .. }), "{error}");
    }
}
