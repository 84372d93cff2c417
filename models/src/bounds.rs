//! Reachable accumulators: the interval of z for each output channel, from the actual weights and the ranges of the inputs.
//!
//! For one term the interval is exact when its window can take every combination of input values: positive weights times the
//! largest input plus negative weights times the smallest one gives the maximum. Two terms that read the same tensor are bounded
//! separately, so the interval of their sum contains the reachable one.
//!
//! Where a network declares a ring, the interval is that ring, whatever the weights are: what is made of it tells nothing of them.

use ndarray::Axis;

use crate::check::TensorInfo;
use crate::declared::values_of;
use crate::network::{Op, Range, Term};
use crate::shape::of_channel;
use crate::weights::{LinearWeights, Network};

/// Reachable accumulators of one linear node or scale, biases included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinearBounds {
    /// By output channel.
    pub channels: Vec<Range>,
}

impl LinearBounds {
    /// The smallest interval that holds the accumulators of all channels.
    pub fn range(&self) -> Range {
        let lo = self.channels.iter().map(|range| range.lo).min();
        let hi = self.channels.iter().map(|range| range.hi).max();
        Range { lo: lo.expect("at least one channel"), hi: hi.expect("at least one channel") }
    }

    /// The smallest ell with -2^(ell-1) <= z <= 2^(ell-1) - 1 for every reachable z.
    pub fn accumulator_bits(&self) -> u32 {
        self.range().signed_bits()
    }
}

impl Network {
    /// The reachable accumulators, one entry per node, `None` for nodes that make none.
    pub fn bounds(&self) -> Vec<Option<LinearBounds>> {
        let mut all: Vec<Option<LinearBounds>> = Vec::new();
        for (index, (node, weights)) in self.architecture().nodes.iter().zip(&self.weights().linear).enumerate() {
            let channels = match (&node.op, weights) {
                (Op::Linear { terms }, Some(weights)) => Some(match self.architecture().ring(index) {
                    Some(ring) => (0..weights.bias.len()).map(|c| values_of(of_channel(ring, c))).collect(),
                    None => linear_bounds(terms, weights, self.tensors()),
                }),
                (Op::Scale { input, multiplier }, Some(weights)) => {
                    let source = all[*input - 1].as_ref().expect("a scale reads an accumulator");
                    Some(scale_bounds(&source.channels, multiplier, &weights.bias))
                }
                _ => None,
            };
            all.push(channels.map(|channels| LinearBounds { channels }));
        }
        all
    }
}

/// Reachable multiplier * z + bias of each channel, saturated.
pub(crate) fn scale_bounds(channels: &[Range], multiplier: &[i64], bias: &[i64]) -> Vec<Range> {
    let of = |(channel, (range, b)): (usize, (&Range, &i64))| {
        let m = of_channel(multiplier, channel);
        let end = |value: i64| m.saturating_mul(value).saturating_add(*b);
        Range { lo: end(range.lo), hi: end(range.hi) }
    };
    channels.iter().zip(bias).enumerate().map(of).collect()
}

/// Reachable z of each channel, bias included.
pub(crate) fn linear_bounds(terms: &[Term], weights: &LinearWeights, tensors: &[TensorInfo]) -> Vec<Range> {
    let mut bounds: Vec<Range> = weights.bias.iter().map(|&b| Range { lo: b, hi: b }).collect();
    for position in 0..terms.len() {
        for (sum, term) in bounds.iter_mut().zip(term_bounds(position, terms, weights, tensors)) {
            *sum = Range { lo: sum.lo + term.lo, hi: sum.hi + term.hi };
        }
    }
    bounds
}

/// Reachable values of one term for each channel.
pub(crate) fn term_bounds(
    position: usize,
    terms: &[Term],
    weights: &LinearWeights,
    tensors: &[TensorInfo],
) -> Vec<Range> {
    let term = &terms[position];
    let mut range = tensors[term.input()].range;
    if matches!(term, Term::Conv { window, .. } if window.padding != [0; 4]) {
        range = range.with_zero();
    }
    let product = |w: i64| {
        let ends = [w * range.lo, w * range.hi];
        Range { lo: ends[0].min(ends[1]), hi: ends[0].max(ends[1]) }
    };
    match (term, &weights.terms[position]) {
        (Term::Identity { multiplier, .. }, None) => vec![product(*multiplier); weights.bias.len()],
        (_, Some(array)) => array
            .axis_iter(Axis(0))
            .map(|row| {
                row.iter()
                    .map(|&w| product(w.into()))
                    .fold(Range { lo: 0, hi: 0 }, |sum, p| Range { lo: sum.lo + p.lo, hi: sum.hi + p.hi })
            })
            .collect(),
        _ => unreachable!("a network has weights exactly where its terms ask for them"),
    }
}
