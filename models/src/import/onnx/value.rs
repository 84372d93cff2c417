//! What a tensor of the graph is while it is being imported.
//!
//! Integers live in the network at once. Real values don't: they are kept as what they are made of (a sum of products, an average, a
//! tensor times its unit) and what is done to each of them, until something quantises them. The whole way from the accumulator to the
//! quantised value is then one function of one integer.

use std::rc::Rc;

use super::real::{Float, Post, at};
use super::tensor::{Constant, Element};
use crate::import::builder::Sum;
use crate::network::{Shape, TensorId, Window};

/// A tensor.
#[derive(Clone)]
pub(super) enum Value<'m> {
    /// Known numbers.
    Constant(Constant),
    /// Known numbers that are integers times a unit: quantised weights.
    Scaled(Rc<Scaled>),
    /// The graph's input, as real numbers that nothing has quantised yet; flattened or not.
    Input { flat: bool },
    /// Integers.
    Ints(Ints),
    /// Real numbers.
    Real(Rc<Real<'m>>),
    /// An argmax: only an output.
    Class(Box<Value<'m>>),
}

/// Constant integers with units: real value = scale * ints.
#[derive(Clone)]
pub(super) struct Scaled {
    pub shape: Vec<usize>,
    /// Zero points are subtracted.
    pub ints: Vec<i64>,
    /// One, or one for each index of `axis`.
    pub scale: Vec<f32>,
    pub axis: usize,
    /// Type in the file; `None` for QONNX.
    pub element: Option<Element>,
}

/// Quantised values q = x + zero, x the network's tensor.
#[derive(Clone, Copy)]
pub(super) struct Ints {
    pub id: TensorId,
    pub zero: i64,
    pub element: Element,
    pub layout: Layout,
}

/// How a tensor of the graph lies over one of the network.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Layout {
    /// Dimensions of the graph's tensor, the batch included: 4 for images, 3 for rows of channels, 2 for vectors; 0 for others, whose
    /// elements have the same order.
    pub rank: usize,
    /// The others; unused ones are 0.
    pub free: [usize; 6],
    /// Zeros around it that are not part of the network's tensor: top, left, bottom, right.
    pub pad: [usize; 4],
}

/// Real values: the source, then `post` on each element, then `later`.
#[derive(Clone)]
pub(super) struct Real<'m> {
    pub source: Origin<'m>,
    pub post: Vec<Post>,
    /// What is done once the values are quantised; it commutes with that.
    pub later: Vec<Later>,
    pub channels: usize,
    pub layout: Layout,
    /// What the runtime would fuse this with.
    pub fused: Option<Fused<'m>>,
}

/// Where real values come from.
#[derive(Clone)]
pub(super) enum Origin<'m> {
    /// unit * x.
    Tensor(Scale),
    /// unit * (sum of products), with a unit for each channel.
    Sum { sum: Rc<Sum>, unit: Rc<Vec<f64>>, float: Rc<Float> },
    /// unit * (sum over each window) / count.
    Average { input: Scale, window: Window, mean: Mean },
    /// The sum of two.
    Pair(Scale, Scale),
    /// One behind the other.
    Concat(Vec<Rc<Real<'m>>>),
    /// Images that are parts of one: its shape, and where each of its places is found among theirs.
    Pieces { parts: Vec<Rc<Real<'m>>>, shape: Shape, places: Rc<Vec<usize>> },
}

/// Which operation an average is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mean {
    /// `AveragePool`.
    Windows,
    /// `GlobalAveragePool`.
    Global,
    /// `ReduceMean`, which the runtime does not merge with quantisers.
    Reduced,
}

/// A tensor of the network with its unit, and the type in the file of what it was made of.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Scale {
    pub id: TensorId,
    pub unit: f32,
    /// How far unit * x may be from the value that the runtime has, for any x of the tensor.
    pub error: f64,
    /// Zero point and type where a `DequantizeLinear` made it.
    pub quantised: Option<(i64, Element)>,
}

/// A tensor that follows from another, element by element.
pub(super) struct Derived {
    pub from: TensorId,
    /// For each value of that, the least first.
    pub values: Rc<Vec<i64>>,
}

/// An operation that commutes with a rising function of each element.
#[derive(Clone, PartialEq)]
pub(super) enum Later {
    MaxPool(Window),
    /// See [`Op::Select`](crate::network::Op::Select).
    Select {
        shape: Shape,
        axes: Rc<Vec<Vec<i64>>>,
    },
}

/// A node that ONNX Runtime merges with the quantiser behind it into an operation on integers.
#[derive(Clone)]
pub(super) struct Fused<'m> {
    pub kind: FusedKind,
    /// Unit of the input.
    pub input: f32,
    /// Units of the weights, one or one for each channel; a factor of the node included.
    pub weights: Vec<f32>,
    pub elements: (Element, Element),
    /// What stands between the layer and the `DequantizeLinear` of an input, so that the runtime merges nothing.
    pub apart: Option<String>,
    /// The name of the tensor that the node makes.
    pub output: &'m str,
}

/// Which node.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum FusedKind {
    Conv,
    MatMul,
    Gemm,
}

impl Layout {
    pub fn of_rank(rank: usize) -> Layout {
        Layout { rank, free: [0; 6], pad: [0; 4] }
    }

    /// Of a tensor that is neither image nor vector; `None` if it has too many dimensions.
    pub fn free(dims: &[usize]) -> Option<Layout> {
        let mut free = [0; 6];
        free.get_mut(..dims.len())?.copy_from_slice(dims);
        Some(Layout { rank: 0, free, pad: [0; 4] })
    }

    /// Dimensions of the graph's tensor over a shape of the network.
    pub fn dims(&self, shape: Shape) -> Vec<usize> {
        match self.rank {
            2 => vec![1, shape.iter().product()],
            3 => vec![1, shape[0], shape[1] * shape[2]],
            4 => vec![1, shape[0], shape[1], shape[2]],
            _ => self.free.iter().copied().take_while(|&size| size > 0).collect(),
        }
    }
}

impl Scaled {
    /// Unit of element group `index` of the axis.
    pub fn unit(&self, index: usize) -> f32 {
        at(&self.scale, index)
    }

    /// The real values.
    pub fn to_constant(&self) -> Constant {
        let inner: usize = self.shape[self.axis.min(self.shape.len())..].iter().skip(1).product();
        let group = |index: usize| index / inner % self.scale.len();
        let values = self.ints.iter().enumerate().map(|(index, &v)| v as f32 * self.unit(group(index))).collect();
        Constant::floats(self.shape.clone(), values)
    }
}

impl<'m> Value<'m> {
    /// Zeros that are left for a convolution.
    pub fn padding(&self) -> [usize; 4] {
        match self {
            Value::Ints(ints) => ints.layout.pad,
            Value::Real(real) => real.layout.pad,
            _ => [0; 4],
        }
    }

    /// The numbers, if they are known.
    pub fn constant(&self) -> Option<Constant> {
        match self {
            Value::Constant(constant) => Some(constant.clone()),
            Value::Scaled(scaled) => Some(scaled.to_constant()),
            _ => None,
        }
    }
}

impl Origin<'_> {
    /// How deep parts lie in parts. No source is deeper than a few, so this may recurse.
    pub fn nesting(&self) -> usize {
        let most = |parts: &[Rc<Real<'_>>]| parts.iter().map(|part| part.source.nesting()).max().unwrap_or(0);
        match self {
            Origin::Concat(parts) | Origin::Pieces { parts, .. } => 1 + most(parts),
            Origin::Tensor(_) | Origin::Sum { .. } | Origin::Average { .. } | Origin::Pair(..) => 0,
        }
    }
}

impl<'m> Real<'m> {
    /// A network's tensor times its unit.
    pub fn tensor(scale: Scale, channels: usize, layout: Layout) -> Real<'m> {
        Real { source: Origin::Tensor(scale), post: vec![], later: vec![], channels, layout, fused: None }
    }

    /// The network's tensor, if it is nothing but that times a unit.
    pub fn plain(&self) -> Option<Scale> {
        match self.source {
            Origin::Tensor(scale) if self.post.is_empty() && self.later.is_empty() => Some(scale),
            _ => None,
        }
    }
}
