//! How each tensor is held by the two parties, and in which ring: one pass from the output back to the input.
//!
//! Every activation x has *one* ring 2^ring, the widest that a consumer asks for ([`Operator::ask`](super::Operator::ask)): a linear
//! layer its ell; a public multiple M its ell less the factors of 2 in M; a sum pool the ring of its result; an average pool the width
//! of its sum; a max pool one bit more than the values. The protocol that makes x ends in that ring.

use lowkey_models::{Architecture, Kind, TensorInfo};
use lowkey_mpc::extend::{self, Finish};

use super::id::{ByTensor, NodeId, TensorId};
use super::{Context, of};
use crate::share::Ring;

/// How a tensor is shared between the parties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holding {
    /// A linear layer's result: c (client) + v (server) = 2 z + r mod 2^(ell + 1).
    Accumulator {
        /// Width of z in bits.
        ell: u32,
    },
    /// A multiplied accumulator: c + v = z mod 2^ell, neither known before the input.
    Scaled {
        /// Width of z in bits.
        ell: u32,
    },
    /// A multiplied accumulator that is never made: the requantisation that reads it multiplies and truncates.
    Truncated {
        /// Width of what it leaves, in bits.
        ell: u32,
    },
    /// (xhat, m) with x = xhat + m mod 2^ring.
    Shared {
        /// Width of the ring in bits.
        ring: u32,
        /// The tensor whose storage this is: itself, or what it is a reshaping of.
        root: TensorId,
    },
    /// Shares of y = x - lo in a ring just large enough to compare, read by max pools only and never uploaded.
    Small {
        /// Width of the values y in bits.
        bits: u32,
    },
}

impl Holding {
    /// The ring that a value is shared in.
    pub fn ring(self) -> Ring {
        match self {
            Self::Accumulator { ell } => Ring::guarded(ell),
            Self::Scaled { ell } | Self::Truncated { ell } => Ring::plain(ell),
            Self::Shared { ring, .. } => Ring::plain(ring),
            Self::Small { bits } => Ring::plain(bits + 1),
        }
    }

    /// Width of that ring, a guard bit excepted.
    pub fn ring_bits(self) -> u32 {
        self.ring().bits()
    }

    /// How a program that makes it ends, in the prepared schedule where that makes a difference.
    pub(crate) fn finish(self) -> Finish {
        match self {
            Self::Shared { ring, .. } => Finish::Upload { ring: ring as u8 },
            Self::Scaled { ell } => Finish::Share { ring: ell as u8 },
            Self::Small { .. } | Self::Accumulator { .. } | Self::Truncated { .. } => Finish::Small,
        }
    }
}

/// Bits that hold 0..=span.
pub fn width_of(span: i64) -> u32 {
    (i64::BITS - span.leading_zeros()).max(1)
}

/// Bits of values up to the top of a clip, of a requantisation to `bits` bits.
pub fn clipped_bits(bits: u32, top: Option<i64>) -> u32 {
    top.map_or(bits, |top| bits.min(width_of(top)))
}

/// Width of the shares of values of `bits` bits that a max pool reads.
pub fn small_width(bits: u32) -> u32 {
    extend::small_width(bits as usize) as u32
}

/// Width of the multiplied sum of an average pool, counted from the lowest average, one bit more than it needs: its values
/// after the shift have `bits` bits.
pub fn average_ring(bits: u32, shift: u32) -> u32 {
    shift + bits + 1
}

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
