//! The unapproximated twin of an imported network, and how far the network's answers are from its.
//!
//! Where no line equals the rounding rule of a file, an approximate import takes one that is off by one step at most. The rule itself
//! is known: its thresholds. The twin is the same network with the rules in the place of such lines, and with the factors of its
//! outputs as they are where these were rounded to whole numbers. It can be computed in the clear only.
//!
//! Where the order of float additions decides, the twin has exact arithmetic as the network has: it does not say how far the runtime is.

use std::collections::HashMap;

use crate::answer::ClassRule;
use crate::error::InputError;
use crate::interpret::Tensor;
use crate::rescale::{Affine, Steps};
use crate::weights::Network;

/// What an approximate import put others in the place of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Twin {
    /// By the name of the requantisation: its lines, one for each channel, and its rule.
    rules: HashMap<String, Rule>,
    /// For each channel of the output z: the factor and the offset that make its exact value, in units of z.
    outputs: Vec<(f64, f64)>,
    /// Integers are near the runtime's floats somewhere, in the twin as well.
    floats: bool,
}

/// y = steps(z) - zero_point, where the accumulator is multiplier * z + offset.
#[derive(Clone, Debug, PartialEq)]
struct Rule {
    lines: Vec<Affine>,
    steps: Vec<Steps>,
    zero_point: i64,
}

/// A network's answers and its twin's, on some inputs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Difference {
    /// How many inputs.
    pub inputs: usize,
    /// How many numbers they were answered with.
    pub outputs: usize,
    /// How many of these differ.
    pub differ: usize,
    /// The largest difference, in steps of the output.
    pub largest: f64,
    /// The mean one.
    pub mean: f64,
    /// For how many inputs both have the same class; `None` if the network computes none.
    pub classes: Option<usize>,
}

impl Twin {
    /// How many requantisations follow a line that is near their rule.
    pub fn requantisations(&self) -> usize {
        self.rules.len()
    }

    /// True if the outputs' factors were rounded.
    pub fn rounds_outputs(&self) -> bool {
        !self.outputs.is_empty()
    }

    /// True if integers are near the runtime's floats somewhere, in both.
    pub fn has_floats(&self) -> bool {
        self.floats
    }

    /// Notes that they are.
    pub(crate) fn near_floats(&mut self) {
        self.floats = true;
    }

    /// Notes that the requantisation `name` has lines near `steps`.
    pub(crate) fn near(&mut self, name: &str, lines: Vec<Affine>, steps: Vec<Steps>, zero_point: i64) {
        self.rules.insert(name.to_owned(), Rule { lines, steps, zero_point });
    }

    /// Notes what makes exact values of the outputs, by channel.
    pub(crate) fn outputs(&mut self, exact: Vec<(f64, f64)>) {
        self.outputs = exact;
    }

    /// Forgets all requantisations that have no such name.
    pub(crate) fn retain(&mut self, named: impl Fn(&str) -> bool) {
        self.rules.retain(|name, _| named(name));
    }

    /// The twin's answers, in steps of the output.
    fn run(&self, network: &Network, inputs: &[Tensor]) -> Result<Vec<Vec<f64>>, InputError> {
        let nodes = &network.architecture().nodes;
        let rule =
            |index: usize, accumulator: &Tensor| self.rules.get(&nodes[index].name).map(|rule| rule.apply(accumulator));
        let answers = network.run_batch_with(inputs, rule, |_, _| {})?;
        let exact = |answer: &Tensor| {
            let value = |((channel, _, _), &z): ((usize, usize, usize), &i64)| match self.outputs.get(channel) {
                Some((factor, offset)) => factor * z as f64 + offset,
                None => z as f64,
            };
            answer.indexed_iter().map(value).collect()
        };
        Ok(answers.iter().map(exact).collect())
    }

    /// How far the network's answers are from the twin's.
    ///
    /// # Errors
    /// If an input has another shape, or a value outside of the range.
    pub fn compare(&self, network: &Network, inputs: &[Tensor]) -> Result<Difference, InputError> {
        let (own, twin) = (network.run_batch(inputs)?, self.run(network, inputs)?);
        let mut all = Difference { inputs: inputs.len(), ..Difference::default() };
        let (mut sum, mut alike) = (0.0, Some(0));
        for (own, twin) in own.iter().zip(&twin) {
            let own: Vec<i64> = own.iter().copied().collect();
            for (z, exact) in own.iter().zip(twin) {
                let apart = (*z as f64 - exact).abs();
                all.differ += usize::from(apart > 1e-9 * exact.abs());
                all.largest = all.largest.max(apart);
                sum += apart;
            }
            all.outputs += own.len();
            alike = alike.zip(same_class(network, &own, twin)).map(|(alike, same)| alike + usize::from(same));
        }
        all.mean = sum / all.outputs.max(1) as f64;
        all.classes = alike.filter(|_| all.inputs > 0);
        Ok(all)
    }
}

/// Whether both answers have the same class, or the same one at each position; `None` if the network computes none.
fn same_class(network: &Network, own: &[i64], twin: &[f64]) -> Option<bool> {
    let last = |last: bool, values: &[f64]| {
        let mut best = 0;
        for (at, value) in values.iter().enumerate() {
            if *value > values[best] || last && *value == values[best] {
                best = at;
            }
        }
        best
    };
    let reals: Vec<f64> = own.iter().map(|&z| z as f64).collect();
    let units = network.architecture().output_coding.as_ref().map_or(&[][..], |coding| &coding.units);
    let times = |values: &[f64]| values.iter().zip(units).map(|(value, unit)| value * unit).collect::<Vec<f64>>();
    match network.architecture().class_rule(own.len()) {
        ClassRule::Scaled { last: of } => Some(last(of, &times(&reals)) == last(of, &times(twin))),
        ClassRule::Largest { last: of } => Some(last(of, &reals) == last(of, twin)),
        ClassRule::Above(bound) => Some((reals[0] > bound as f64) == (twin[0] > bound as f64)),
        ClassRule::Each { last: of } => {
            let channels = network.tensors()[network.architecture().output].shape[0];
            let places = own.len() / channels;
            let column = |of: &[f64], place: usize| (0..channels).map(|c| of[c * places + place]).collect::<Vec<f64>>();
            Some((0..places).all(|place| last(of, &column(&reals, place)) == last(of, &column(twin, place))))
        }
        ClassRule::None(_) => None,
    }
}

impl Rule {
    fn apply(&self, accumulator: &Tensor) -> Tensor {
        Tensor::from_shape_fn(accumulator.dim(), |at| {
            let (line, steps) = (&self.lines[at.0], &self.steps[at.0]);
            steps.value((accumulator[at] - line.offset).div_euclid(line.multiplier)) - self.zero_point
        })
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array4;

    use super::*;
    use crate::import::builder::{Builder, Fold, Sum};
    use crate::import::report::Report;
    use crate::network::{Input, Term, Window};

    #[test]
    fn the_twin_follows_the_rule_where_the_network_is_near_it() {
        let rule = |c: usize, z: i64| {
            let scale = [0.000_912_3f32, 0.000_871_1, 0.000_655_5][c];
            ((z as f32 * scale).round_ties_even() as i64 + 100).clamp(0, 255)
        };
        let input = Input { shape: [1, 1, 1], bits: 8, zero_point: 128, pixels: None, coding: None };
        let mut builder = Builder::new("test", input, Fold::Auto, Report::default()).expect("a valid input");
        builder.near = true;
        let (weights, biases) = ([3001, -2999, 3333], [5, -7, 11]);
        let array = Array4::from_shape_vec([3, 1, 1, 1], weights.to_vec()).expect("three weights");
        let term = Term::Conv { input: 0, out_channels: 3, groups: 1, window: Window::POINT, weight_bits: 13 };
        let sum = Sum { terms: vec![(term, Some(array))], bias: biases.to_vec() };
        let id = builder.requantise("layer", sum, 100, rule).expect("a line that is near");
        let mut twin = std::mem::take(&mut builder.twin);
        let (network, _) = builder.finish(id, None).expect("a valid network");
        assert_eq!(twin.requantisations(), 1, "a line equals the rule");
        let inputs: Vec<Tensor> = (-128..=127).map(|x| Tensor::from_elem([1, 1, 1], x)).collect();
        let own = network.run_batch(&inputs).expect("valid inputs");
        let (mut most, mut differ) = (0, 0);
        let exact = twin.run(&network, &inputs).expect("valid inputs");
        for (x, (own, exact)) in (-128..=127).zip(own.iter().zip(&exact)) {
            for c in 0..3 {
                let wanted = rule(c, i64::from(weights[c]) * x + biases[c]) - 100;
                assert_eq!(exact[c], wanted as f64, "channel {c} at {x}");
                let apart = (own[[c, 0, 0]] - wanted).abs();
                (most, differ) = (most.max(apart), differ + usize::from(apart > 0));
            }
        }
        let found = twin.compare(&network, &inputs).expect("valid inputs");
        assert_eq!((found.inputs, found.outputs, found.differ, found.largest), (256, 768, differ, most as f64));
        // Exact outputs that are a half of a step larger, and three steps on the last channel.
        twin.outputs(vec![(1.0, 0.5), (1.0, 0.5), (1.0, 3.0)]);
        twin.rules.clear();
        let found = twin.compare(&network, &inputs).expect("valid inputs");
        assert_eq!((found.differ, found.largest, found.mean), (768, 3.0, 4.0 / 3.0));
        let classes =
            own.iter().map(|y| (y[[0, 0, 0]] as f64 + 0.5, y[[1, 0, 0]] as f64 + 0.5, y[[2, 0, 0]] as f64 + 3.0));
        let largest = |(a, b, c): (f64, f64, f64)| {
            if a >= b && a >= c {
                0
            } else if b >= c {
                1
            } else {
                2
            }
        };
        let same = own.iter().zip(classes).filter(|(y, exact)| {
            network.architecture().class_of(&y.iter().copied().collect::<Vec<i64>>()) == Some(largest(*exact))
        });
        let same = same.count();
        assert!(found.classes == Some(same) && same < 256, "{found:?}");
    }
}
