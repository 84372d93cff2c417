//! The description of a small-integer network: a public [`Architecture`] and its private [`Weights`](crate::Weights).
//!
//! A network is a list of nodes in topological order. Tensors are named by number: tensor 0 is the input, tensor `i + 1`
//! is the output of node `i`. Every tensor is either an *activation* (integers of a few bits, in a known [`Range`]) or an
//! *accumulator* (the result of a linear node, not yet requantised). Linear nodes read activations; requantisation reads
//! an accumulator; everything else reads and makes activations.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::coding::{Coding, OutputCoding};
use crate::floats::Floats;

pub use crate::shape::{Range, Shape, TensorId};

/// What the network reads, and how a picture or an array becomes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Input {
    /// Channels, height, width.
    pub shape: Shape,
    /// Width of the stored values y, 1..=8 bits: y in 0..2^bits.
    pub bits: u32,
    /// The network computes on x = y - zero_point, 0 <= zero_point < 2^bits; 0 for most networks.
    #[serde(default)]
    pub zero_point: i64,
    /// How a pixel of 8 bits becomes y: 256 values for each channel. `None`: y = pixel >> (8 - bits).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pixels: Option<Vec<Vec<u8>>>,
    /// How the file that it was imported from codes its input. `None`: arrays hold y.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coding: Option<Coding>,
}

/// What the network is, without its weights: shapes, widths and shifts. Public to both parties.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Architecture {
    /// A name to print.
    pub name: String,
    /// The input tensor.
    pub input: Input,
    /// Nodes in topological order.
    pub nodes: Vec<Node>,
    /// The tensor that is the network's answer; usually an accumulator (logits).
    pub output: TensorId,
    /// The rounding rule of the runtime that this network equals, where it was imported: for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rounding: Option<String>,
    /// Real value of one unit of the output, where the model knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_scale: Option<f64>,
    /// How the file that it was imported from codes its output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_coding: Option<OutputCoding>,
    /// Names of the classes, in order of the output, where the model knows them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// What is chosen for nodes beyond their operations, by their names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub declared: BTreeMap<String, Declared>,
}

/// What is chosen for one node beyond its operation ([`declared`](crate::declared)).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declared {
    /// Width of the sums of a linear node: one entry for the layer, or one per channel; empty for as wide as they get.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ring: Vec<u32>,
    /// t: bits of the coin of a requantisation; 0 for none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub coin: u32,
}

fn is_zero(bits: &u32) -> bool {
    *bits == 0
}

/// One operation with a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Unique; reports and errors use it.
    pub name: String,
    /// What it does.
    #[serde(flatten)]
    pub op: Op,
}

/// The operations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Op {
    /// z = sum of terms + bias per output channel (private): the only operation that makes an accumulator.
    Linear {
        /// What is added up; all terms have the same output shape.
        terms: Vec<Term>,
    },
    /// z' = multiplier * z + bias per channel, an accumulator again: for scales that are no powers of two. The multipliers are
    /// public, the biases private.
    Scale {
        /// An accumulator.
        input: TensorId,
        /// Positive: one entry for the layer, or one per channel.
        multiplier: Vec<i64>,
    },
    /// y = clamp(z >> shift, 0, top); the value carried on is y - zero_point. A rounding constant is part of the bias.
    Requantise {
        /// An accumulator.
        input: TensorId,
        /// Width of y, 1..=8.
        bits: u32,
        /// Arithmetic right shift: one entry for the layer, or one per channel.
        shift: Vec<u32>,
        /// The largest y, 2^bits - 1 unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        top: Option<i64>,
        /// Subtracted from y, 0..2^bits.
        #[serde(default)]
        zero_point: i64,
    },
    /// y = t where the sum of t over its patch is positive, else 0, with t = z >> shift, signed; without a patch y = t
    /// ([`blocks`](crate::blocks)).
    Block {
        /// An accumulator of a linear node.
        input: TensorId,
        /// |t| < 2^(bits-1), whatever the input is.
        bits: u32,
        /// Arithmetic right shift.
        shift: u32,
        /// Height and width of the patches of a channel.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        patch: Option<[usize; 2]>,
    },
    /// Largest value of each window; padding never wins.
    MaxPool {
        /// An activation.
        input: TensorId,
        /// Window, stride and padding.
        #[serde(flatten)]
        window: Window,
    },
    /// y = (multiplier * S + offset) >> shift over the sum S of each window (padding counts as 0 and is part of the window).
    AvgPool {
        /// An activation.
        input: TensorId,
        /// Window, stride and padding.
        #[serde(flatten)]
        window: Window,
        /// At least 1.
        multiplier: i64,
        /// The rounding constant.
        offset: i64,
        /// Arithmetic right shift.
        shift: u32,
        /// Averages that are one lower where a sum of floats is below a threshold; `None` for most.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        floats: Option<Floats>,
    },
    /// The sum of each window, unrounded.
    SumPool {
        /// An activation.
        input: TensorId,
        /// Window, stride and padding (padding counts as 0).
        #[serde(flatten)]
        window: Window,
    },
    /// `[c, h, w]` to `[c * h * w, 1, 1]`, row-major.
    Flatten {
        /// An activation.
        input: TensorId,
    },
    /// Activations of one height and width, channel after channel.
    Concat {
        /// Two or more activations.
        inputs: Vec<TensorId>,
    },
    /// Elements in another order, some several times, some left out, some 0: transpositions, slices, shuffles, padding, images from
    /// vectors. The element of number n (row-major) reads element `axes[0][i_0] + axes[1][i_1] + ...` of the input, where (i_0, i_1, ..)
    /// are the digits of n with as many values as each axis has entries, the last one counting fastest. It is 0 if any of these
    /// entries is negative.
    Select {
        /// An activation.
        input: TensorId,
        /// Of the result.
        shape: Shape,
        /// The product of their lengths is the number of elements of the result. Public.
        axes: Vec<Vec<i64>>,
    },
    /// y = table[x - lo], lo the smallest value of the input's range: any function of a value of at most 8 bits.
    Table {
        /// An activation whose range has at most 256 values.
        input: TensorId,
        /// One entry for each value of the input's range, in order. Public.
        table: Vec<i64>,
    },
}

/// Window geometry of a pool or a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Height and width.
    pub kernel: [usize; 2],
    /// Down and right.
    pub stride: [usize; 2],
    /// Top, left, bottom, right.
    #[serde(default)]
    pub padding: [usize; 4],
    /// Down and right; 1 means dense.
    #[serde(default = "ones")]
    pub dilation: [usize; 2],
}

fn ones() -> [usize; 2] {
    [1, 1]
}

/// The element that each element of a [`Op::Select`] reads, `None` where it is 0; the lengths of the axes multiply to what memory holds.
pub fn selected(axes: &[Vec<i64>]) -> Vec<Option<usize>> {
    let mut all = vec![Some(0usize)];
    for axis in axes {
        let next = |&at: &Option<usize>| {
            axis.iter().map(move |&by| at.and_then(|at| usize::try_from(by).ok().map(|by| at + by)))
        };
        all = all.iter().flat_map(next).collect();
    }
    all
}

/// One summand of a linear node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "term", rename_all = "snake_case")]
pub enum Term {
    /// A convolution with private weights `[out_channels, in_channels / groups, kernel h, kernel w]`.
    Conv {
        /// An activation.
        input: TensorId,
        /// Output channels.
        out_channels: usize,
        /// 1 for an ordinary convolution, the number of channels for a depthwise one.
        groups: usize,
        /// Kernel geometry; padding is the value 0.
        #[serde(flatten)]
        window: Window,
        /// Width of the weights: 1 means {-1, +1}.
        weight_bits: u32,
    },
    /// A matrix of private weights `[outputs, inputs]` on a flattened activation.
    Dense {
        /// An activation of shape `[inputs, 1, 1]`.
        input: TensorId,
        /// Length of the result.
        outputs: usize,
        /// Width of the weights: 1 means {-1, +1}.
        weight_bits: u32,
    },
    /// A public multiple of an activation (a residual).
    Identity {
        /// An activation of the node's output shape.
        input: TensorId,
        /// Public.
        multiplier: i64,
    },
}

impl Input {
    /// The interval of x = y - zero_point for y in 0..2^bits.
    pub fn range(&self) -> Range {
        quantised_range(self.bits, self.zero_point)
    }
}

/// The interval of y - zero_point for y in 0..2^bits, `bits` at most 8 and `zero_point` of modest size (both checked).
pub(crate) fn quantised_range(bits: u32, zero_point: i64) -> Range {
    Range { lo: -zero_point, hi: (1 << bits) - 1 - zero_point }
}

impl Architecture {
    /// The number of the node of this name.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.nodes.iter().position(|node| node.name == name)
    }

    /// True if sums of floats decide some averages.
    pub fn has_floats(&self) -> bool {
        self.nodes.iter().any(|node| matches!(&node.op, Op::AvgPool { floats: Some(_), .. }))
    }

    /// Number of tensors: the input and one per node.
    pub fn tensor_count(&self) -> usize {
        self.nodes.len() + 1
    }

    /// The nodes (by index) that read `tensor`, once for each time they read it.
    pub fn consumers(&self, tensor: TensorId) -> impl Iterator<Item = usize> + '_ {
        self.nodes.iter().enumerate().flat_map(move |(index, node)| {
            node.op.inputs().into_iter().filter(move |&input| input == tensor).map(move |_| index)
        })
    }
}

impl Op {
    /// The terms of an operation that has private numbers: none for a scale, which has biases only; `None` for all others.
    pub fn terms(&self) -> Option<&[Term]> {
        match self {
            Op::Linear { terms } => Some(terms),
            Op::Scale { .. } => Some(&[]),
            _ => None,
        }
    }

    /// Replaces every tensor that the operation reads.
    pub(crate) fn rename_inputs(&mut self, mut new: impl FnMut(TensorId) -> TensorId) {
        match self {
            Op::Linear { terms } => {
                for term in terms {
                    let (Term::Conv { input, .. } | Term::Dense { input, .. } | Term::Identity { input, .. }) = term;
                    *input = new(*input);
                }
            }
            Op::Concat { inputs } => inputs.iter_mut().for_each(|input| *input = new(*input)),
            Op::Scale { input, .. }
            | Op::Requantise { input, .. }
            | Op::Block { input, .. }
            | Op::MaxPool { input, .. }
            | Op::AvgPool { input, .. }
            | Op::SumPool { input, .. }
            | Op::Flatten { input }
            | Op::Select { input, .. }
            | Op::Table { input, .. } => *input = new(*input),
        }
    }

    /// The tensors it reads, in order.
    pub fn inputs(&self) -> Vec<TensorId> {
        match self {
            Op::Linear { terms } => terms.iter().map(Term::input).collect(),
            Op::Concat { inputs } => inputs.clone(),
            Op::Scale { input, .. }
            | Op::Requantise { input, .. }
            | Op::Block { input, .. }
            | Op::MaxPool { input, .. }
            | Op::AvgPool { input, .. }
            | Op::SumPool { input, .. }
            | Op::Flatten { input }
            | Op::Select { input, .. }
            | Op::Table { input, .. } => vec![*input],
        }
    }
}

impl Term {
    /// The tensor it reads.
    pub fn input(&self) -> TensorId {
        match self {
            Term::Conv { input, .. } | Term::Dense { input, .. } | Term::Identity { input, .. } => *input,
        }
    }

    /// Width of its weights; `None` for an identity, which has none.
    pub fn weight_bits(&self) -> Option<u32> {
        match self {
            Term::Conv { weight_bits, .. } | Term::Dense { weight_bits, .. } => Some(*weight_bits),
            Term::Identity { .. } => None,
        }
    }

    /// Shape of its weights, `[out_channels, in_channels / groups, kernel h, kernel w]` (a matrix is `[outputs, inputs, 1, 1]`),
    /// where `input` is the shape of the tensor it reads; `None` for an identity.
    pub fn weight_shape(&self, input: Shape) -> Option<[usize; 4]> {
        match self {
            Term::Conv { out_channels, groups, window, .. } => {
                let [height, width] = window.kernel;
                Some([*out_channels, input[0] / groups, height, width])
            }
            Term::Dense { outputs, .. } => Some([*outputs, input[0], 1, 1]),
            Term::Identity { .. } => None,
        }
    }
}

impl Window {
    /// A window of one element that moves by one: what a dense layer or a pointwise convolution has.
    pub const POINT: Window = Window { kernel: [1, 1], stride: [1, 1], padding: [0; 4], dilation: [1, 1] };

    /// Rows and columns that one window spans: dilation * (kernel - 1) + 1.
    pub fn extent(&self) -> [usize; 2] {
        [0, 1].map(|axis| self.dilation[axis] * (self.kernel[axis] - 1) + 1)
    }

    /// What values it has where it moves over those of `range`: padding is 0.
    pub fn values(&self, range: Range) -> Range {
        if self.padding == [0; 4] { range } else { range.with_zero() }
    }

    /// Height and width of the padded input.
    pub fn padded(&self, [height, width]: [usize; 2]) -> [usize; 2] {
        let [top, left, bottom, right] = self.padding;
        [height + top + bottom, width + left + right]
    }

    /// Height and width of the output: floor((padded - extent) / stride) + 1 per axis; `None` where the window is larger than
    /// the padded input. Kernel, stride and dilation are at least 1.
    pub fn output(&self, input: [usize; 2]) -> Option<[usize; 2]> {
        let (padded, extent) = (self.padded(input), self.extent());
        let axis = |a: usize| Some(padded[a].checked_sub(extent[a])? / self.stride[a] + 1);
        Some([axis(0)?, axis(1)?])
    }

    /// Row and column that tap `tap` of output element `at` reads; `None` if it lies in the padding of an input of size `input`.
    pub fn source(&self, input: [usize; 2], at: [usize; 2], tap: [usize; 2]) -> Option<[usize; 2]> {
        let axis = |a: usize| {
            (at[a] * self.stride[a] + tap[a] * self.dilation[a]).checked_sub(self.padding[a]).filter(|&i| i < input[a])
        };
        Some([axis(0)?, axis(1)?])
    }
}
