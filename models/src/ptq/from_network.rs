//! Integer networks with free scales as networks of real numbers: what an int8 file of another program becomes, to be quantised again.
//!
//! A tensor's integers are its real values. floor(z / 2^s) is z / 2^s - 1/2 on average; what else is off by a constant the biases of the
//! next layers take up.

use super::parts;
use super::real::{RealNetwork, RealNode, RealOp, RealTerm};
use crate::coding::OutputCoding;
use crate::declared::of_channel;
use crate::network::{Op, Term, Window};
use crate::weights::Network;

/// Most that an average may be off by without a layer that says so, in units.
const LITTLE: f64 = 1.0;

/// Its operations; the values of its answer are those of the network times its output scale.
///
/// # Errors
/// The names of the nodes that are no function of real numbers here: tables other than clips.
pub fn from_network(network: &Network) -> Result<RealNetwork, Vec<String>> {
    let architecture = network.architecture();
    let mut made = Made { nodes: vec![], tensors: vec![0], refused: vec![] };
    for (index, node) in architecture.nodes.iter().enumerate() {
        let weights = network.weights().linear[index].as_ref();
        let at = |tensor: usize| made.tensors[tensor];
        let tensor = match &node.op {
            Op::Linear { terms } => {
                let op = match parts::line(network, index) {
                    Some(line) => {
                        let terms = vec![RealTerm::Identity { input: at(line.source), factor: line.factor }];
                        RealOp::Linear { terms, bias: line.bias }
                    }
                    None => {
                        let weights = weights.expect("a linear node has weights");
                        let terms = terms.iter().zip(&weights.terms);
                        let terms = terms.map(|(term, array)| real_term(term, array.as_ref(), &at)).collect();
                        RealOp::Linear { terms, bias: reals(&weights.bias) }
                    }
                };
                made.push(&node.name, op)
            }
            Op::Scale { input, multiplier } => {
                let bias = reals(&weights.expect("a scale has biases").bias);
                let terms = vec![RealTerm::Identity { input: at(*input), factor: reals(multiplier) }];
                made.push(&node.name, RealOp::Linear { terms, bias })
            }
            Op::Requantise { input, bits, shift, top, zero_point } => {
                let (zero, top) = (*zero_point as f32, top.unwrap_or((1 << bits) - 1) as f32);
                let factor = shift.iter().map(|&shift| (-(shift as f32)).exp2()).collect();
                let below =
                    |channel: usize| -(parts::floored(f64::from(of_channel(shift, channel)).exp2()) as f32) - zero;
                let terms = vec![RealTerm::Identity { input: at(*input), factor }];
                let channels = network.tensors()[index + 1].shape[0];
                let scaled = made.push(&node.name, RealOp::Linear { terms, bias: (0..channels).map(below).collect() });
                // The ends of a signed tensor are those of its type, and cut little: a sum may read it as it is.
                match zero == 0.0 {
                    true => made.push(&format!("{}_clip", node.name), RealOp::Clip { input: scaled, lo: 0.0, hi: top }),
                    false => scaled,
                }
            }
            Op::MaxPool { input, window } => {
                let op = RealOp::MaxPool { input: at(*input), window: *window };
                made.push(&node.name, op)
            }
            Op::SumPool { input, window } => {
                let op = RealOp::AveragePool { input: at(*input), window: *window, divisor: 1.0 };
                made.push(&node.name, op)
            }
            Op::AvgPool { input, window, multiplier, offset, shift } => {
                let one = f64::from(*shift).exp2();
                let divisor = (one / *multiplier as f64) as f32;
                let op = RealOp::AveragePool { input: at(*input), window: *window, divisor };
                let pooled = made.push(&node.name, op);
                // A shift of 0 rounds nothing.
                let more = *offset as f64 / one - if *shift == 0 { 0.0 } else { 0.5 };
                match more.abs() <= LITTLE {
                    true => pooled,
                    false => {
                        let terms = vec![RealTerm::Identity { input: pooled, factor: vec![1.0] }];
                        let bias = vec![more as f32; network.tensors()[index + 1].shape[0]];
                        made.push(&format!("{}_offset", node.name), RealOp::Linear { terms, bias })
                    }
                }
            }
            Op::Flatten { input } => {
                let op = RealOp::Flatten { input: at(*input) };
                made.push(&node.name, op)
            }
            Op::Concat { inputs } => {
                let op = RealOp::Concat { inputs: inputs.iter().map(|&input| at(input)).collect() };
                made.push(&node.name, op)
            }
            Op::Select { input, shape, axes } => {
                let op = RealOp::Select { input: at(*input), shape: *shape, axes: axes.clone() };
                made.push(&node.name, op)
            }
            Op::Table { input, table } => {
                let lo = network.tensors()[*input].range.lo;
                let (input, bounds) = (at(*input), clip_of(lo, table));
                match bounds {
                    Some([lo, hi]) => made.push(&node.name, RealOp::Clip { input, lo, hi }),
                    None => {
                        made.refused.push(node.name.clone());
                        input
                    }
                }
            }
        };
        made.tensors.push(tensor);
    }
    if !made.refused.is_empty() {
        return Err(made.refused);
    }
    let output = made.tensors[architecture.output];
    // The answer may be sums where it was a tensor.
    let coding = architecture.output_coding.clone().map(|coding| OutputCoding {
        dtype: None,
        zero_point: 0,
        integers: false,
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

struct Made {
    nodes: Vec<RealNode>,
    /// The real tensor of each of the network's.
    tensors: Vec<usize>,
    refused: Vec<String>,
}

impl Made {
    fn push(&mut self, name: &str, op: RealOp) -> usize {
        self.nodes.push(RealNode { name: name.to_owned(), op });
        self.nodes.len()
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
