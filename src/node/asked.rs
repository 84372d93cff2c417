//! How each tensor is held, by what its consumers ask for: one pass from the output back to the input.
//!
//! Every activation x has *one* ring 2^ring, the widest that a consumer asks for ([`Operator::ask`](super::Operator::ask)): a linear
//! layer its ell; a public multiple M its ell less the factors of 2 in M; a sum pool the ring of its result; an average pool the width
//! of its sum; a max pool one bit more than the values. The protocol that makes x ends in that ring.

use lowkey_models::{Architecture, Kind, TensorInfo};

use super::context::Context;
use super::holding::{Holding, width_of};
use super::id::{ByTensor, NodeId, TensorId};
use super::of;

/// Width of the values of every tensor, counted from the smallest one. `ell` is asked for nodes that make accumulators only.
pub(crate) fn value_widths(
    architecture: &Architecture,
    tensors: &ByTensor<TensorInfo>,
    ell: impl Fn(NodeId) -> u32,
) -> ByTensor<u32> {
    let mut widths: ByTensor<u32> = tensors.iter().map(|t| width_of(t.range.hi - t.range.lo)).collect();
    for (index, node) in architecture.nodes.iter().enumerate() {
        let made = NodeId::new(index).output();
        if let Some(width) = of(&node.op).width(made, &widths, &ell) {
            widths[made] = width;
        }
    }
    widths
}

/// The holding of every tensor.
pub(crate) fn holdings(context: &Context<'_>) -> ByTensor<Holding> {
    let nodes = &context.architecture.nodes;
    let mut demands = Demands::new(context);
    for (index, node) in nodes.iter().enumerate().rev() {
        of(&node.op).ask(NodeId::new(index).output(), context, &mut demands);
    }
    let mut holdings = ByTensor::from(vec![demands.activation(TensorId::INPUT, context)]);
    for (index, node) in nodes.iter().enumerate() {
        let holding = of(&node.op).holding(NodeId::new(index).output(), context, &demands, &holdings);
        holdings.push(holding);
    }
    holdings
}

/// What the consumers of each tensor ask for.
pub(crate) struct Demands {
    rings: ByTensor<u32>,
    /// True for tensors that max pools alone read.
    small: ByTensor<bool>,
}

impl Demands {
    /// Before any consumer: activations as wide as their values, an output as wide as its arg max needs it.
    fn new(context: &Context<'_>) -> Self {
        let signed = context.tensors.iter().map(|tensor| u32::from(tensor.range.lo < 0));
        let mut rings: ByTensor<u32> = context.widths.iter().zip(signed).map(|(width, sign)| width + sign).collect();
        let mut small = ByTensor::with(context.tensors.len(), || true);
        let output = context.output();
        if context.tensors[output].kind == Kind::Activation {
            // An arg max compares differences, which need one bit more.
            rings[output] = context.widths[output] + 1;
            small[output] = false;
        }
        small[TensorId::INPUT] = false;
        Self { rings, small }
    }

    /// A consumer that reads a tensor in a ring of at least `ring` bits.
    pub fn at_least(&mut self, tensor: TensorId, ring: u32) {
        self.small[tensor] = false;
        self.in_pool(tensor, ring);
    }

    /// A max pool that reads a tensor.
    pub fn in_pool(&mut self, tensor: TensorId, ring: u32) {
        self.rings[tensor] = self.rings[tensor].max(ring);
    }

    /// A tensor that is made in a ring, whoever reads it.
    pub fn never_small(&mut self, tensor: TensorId) {
        self.small[tensor] = false;
    }

    /// A linear function of activations that each party applies to its half: what is read has the ring of what is made.
    pub fn same_ring(&mut self, made: TensorId, inputs: &[TensorId]) {
        let ring = self.rings[made];
        inputs.iter().for_each(|input| self.at_least(*input, ring));
        self.never_small(made);
    }

    /// How an activation is held.
    pub fn activation(&self, tensor: TensorId, context: &Context<'_>) -> Holding {
        match self.small[tensor] {
            true => Holding::Small { bits: context.widths[tensor] },
            false => Holding::Shared { ring: self.rings[tensor], root: tensor },
        }
    }
}
