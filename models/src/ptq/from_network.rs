//! Integer networks with free scales as networks of real numbers: what an int8 file of another program becomes, to be quantised again.
//!
//! A tensor's integers are its real values. floor(z / 2^s) is z / 2^s - 1/2 on average; what else is off by a constant the biases of the
//! next layers take up.

use super::parts;
use super::real::{RealNetwork, RealNode, RealOp, RealTerm};
use crate::coding::OutputCoding;
use crate::network::{Op, Term, Window};
use crate::shape::of_channel;
use crate::weights::{LinearWeights, Network};

/// Most that an average may be off by without a layer that says so, in units.
const LITTLE: f64 = 1.0;

/// Its operations; the values of its answer are those of the network times its output scale.
///
/// # Errors
/// The names of the nodes that are no function of real numbers here: tables other than clips.
pub fn from_network(network: &Network) -> Result<RealNetwork, Vec<String>> {
    let architecture = network.architecture();
    let mut made = Made { network, nodes: vec![], tensors: vec![0], refused: vec![] };
    for (index, node) in architecture.nodes.iter().enumerate() {
        let tensor = made.node(index, &node.name, &node.op);
        made.tensors.push(tensor);
    }
    if !made.refused.is_empty() {
        return Err(made.refused);
    }
    let mut output = made.tensors[architecture.output];
    let units = architecture.output_coding.as_ref().map_or(&[][..], |coding| &coding.units);
    if !units.is_empty() {
        let factor = units.iter().map(|&unit| (unit / units[0]) as f32).collect();
        let terms = vec![RealTerm::Identity { input: output, factor }];
        output = made.push("outputs", RealOp::Linear { terms, bias: vec![0.0; units.len()] });
    }
    // The answer may be sums where it was a tensor.
    let coding = architecture.output_coding.clone().map(|coding| OutputCoding {
        dtype: None,
        zero_point: 0,
        integers: false,
        units: vec![],
        ..coding
    });
    Ok(RealNetwork {
        name: architecture.name.clone(),
        input: architecture.input.clone(),
        unit: 1.0,
        nodes: made.nodes,
        output,
        classes: architecture.classes.clone(),
        coding,
    })
}

struct Made<'n> {
    network: &'n Network,
    nodes: Vec<RealNode>,
    /// The real tensor of each of the network's.
    tensors: Vec<usize>,
    refused: Vec<String>,
}

impl<'n> Made<'n> {
    fn push(&mut self, name: &str, op: RealOp) -> usize {
        self.nodes.push(RealNode { name: name.to_owned(), op });
        self.nodes.len()
    }

    /// A multiple of a real tensor, and something added to it, by channel.
    fn scaled(&mut self, name: &str, input: usize, factor: Vec<f32>, bias: Vec<f32>) -> usize {
        self.push(name, RealOp::Linear { terms: vec![RealTerm::Identity { input, factor }], bias })
    }

    fn channels(&self, index: usize) -> usize {
        self.network.tensors()[index + 1].shape[0]
    }

    /// The real tensor that node `index` of the network becomes.
    fn node(&mut self, index: usize, name: &str, op: &Op) -> usize {
        let at = |tensor: &usize| self.tensors[*tensor];
        match op {
            Op::Linear { terms } => self.linear(index, name, terms),
            Op::Scale { input, multiplier } => {
                let (input, bias) = (at(input), reals(&self.weights(index).bias));
                self.scaled(name, input, reals(multiplier), bias)
            }
            Op::Requantise { input, bits, shift, top, zero_point } => {
                let top = top.unwrap_or((1 << bits) - 1);
                self.requantise(index, name, at(input), shift, [*zero_point, top])
            }
            Op::Block { input, shift, .. } => {
                self.refused.push(name.to_owned());
                self.requantise(index, name, at(input), &[*shift], [0, 1])
            }
            Op::MaxPool { input, window } => self.push(name, RealOp::MaxPool { input: at(input), window: *window }),
            Op::SumPool { input, window } => {
                self.push(name, RealOp::AveragePool { input: at(input), window: *window, divisor: 1.0 })
            }
            Op::AvgPool { input, window, multiplier, offset, shift, floats: _ } => {
                let one = f64::from(*shift).exp2();
                let divisor = (one / *multiplier as f64) as f32;
                let pooled = self.push(name, RealOp::AveragePool { input: at(input), window: *window, divisor });
                // A shift of 0 rounds nothing.
                let more = *offset as f64 / one - if *shift == 0 { 0.0 } else { 0.5 };
                self.moved(index, name, pooled, more)
            }
            Op::Flatten { input } => self.push(name, RealOp::Flatten { input: at(input) }),
            Op::Concat { inputs } => self.push(name, RealOp::Concat { inputs: inputs.iter().map(at).collect() }),
            Op::Select { input, shape, axes } => {
                self.push(name, RealOp::Select { input: at(input), shape: *shape, axes: axes.clone() })
            }
            Op::Table { input, table } => {
                let lo = self.network.tensors()[*input].range.lo;
                self.table(name, at(input), clip_of(lo, table))
            }
        }
    }

    /// clamp(z >> shift, 0, top) - zero.
    fn requantise(&mut self, index: usize, name: &str, input: usize, shift: &[u32], ends: [i64; 2]) -> usize {
        let [zero, top] = ends.map(|end| end as f32);
        let factor = shift.iter().map(|&shift| (-(shift as f32)).exp2()).collect();
        let below = |channel: usize| -(parts::floored(f64::from(of_channel(shift, channel)).exp2()) as f32) - zero;
        let bias = (0..self.channels(index)).map(below).collect();
        let scaled = self.scaled(name, input, factor, bias);
        // The ends of a signed tensor are those of its type, and cut little: a sum may read it as it is.
        match zero == 0.0 {
            true => self.push(&format!("{name}_clip"), RealOp::Clip { input: scaled, lo: 0.0, hi: top }),
            false => scaled,
        }
    }

    /// An average with something added, unless that is little.
    fn moved(&mut self, index: usize, name: &str, pooled: usize, more: f64) -> usize {
        match more.abs() <= LITTLE {
            true => pooled,
            false => {
                let bias = vec![more as f32; self.channels(index)];
                self.scaled(&format!("{name}_offset"), pooled, vec![1.0], bias)
            }
        }
    }

    /// A table that is a clip; another is refused.
    fn table(&mut self, name: &str, input: usize, clip: Option<[f32; 2]>) -> usize {
        match clip {
            Some([lo, hi]) => self.push(name, RealOp::Clip { input, lo, hi }),
            None => {
                self.refused.push(name.to_owned());
                input
            }
        }
    }

    /// A sum of products, or the one line that the parts of a requantisation are together.
    fn linear(&mut self, index: usize, name: &str, terms: &[Term]) -> usize {
        if let Some(line) = parts::line(self.network, index) {
            return self.scaled(name, self.tensors[line.source], line.factor, line.bias);
        }
        let weights = self.weights(index);
        let at = |tensor: usize| self.tensors[tensor];
        let terms = terms.iter().zip(&weights.terms).map(|(term, array)| real_term(term, array.as_ref(), &at));
        let op = RealOp::Linear { terms: terms.collect(), bias: reals(&weights.bias) };
        self.push(name, op)
    }

    fn weights(&self, index: usize) -> &'n LinearWeights {
        self.network.weights().linear[index].as_ref().expect("a linear node has weights")
    }
}

fn reals(list: &[i64]) -> Vec<f32> {
    list.iter().map(|&v| v as f32).collect()
}

fn real_term(term: &Term, array: Option<&ndarray::Array4<i32>>, at: &impl Fn(usize) -> usize) -> RealTerm {
    let weights = || array.expect("the term has weights").mapv(|w| w as f32);
    match term {
        Term::Conv { input, groups, window, .. } => {
            RealTerm::Weights { input: at(*input), window: *window, groups: *groups, weights: weights(), dense: false }
        }
        Term::Dense { input, .. } => {
            let window = Window::POINT;
            RealTerm::Weights { input: at(*input), window, groups: 1, weights: weights(), dense: true }
        }
        Term::Identity { input, multiplier } => {
            RealTerm::Identity { input: at(*input), factor: vec![*multiplier as f32] }
        }
    }
}

/// Bounds of a table that is a clip with 0 in its range.
fn clip_of(lo: i64, table: &[i64]) -> Option<[f32; 2]> {
    let (least, most) = (*table.iter().min()?, *table.iter().max()?);
    let clips = table.iter().zip(lo..).all(|(&y, x)| y == x.clamp(least, most));
    (clips && least <= 0 && most > 0).then_some([least as f32, most as f32])
}
