//! How each tensor is held by the two parties, and in which ring: one pass from the output back to the input.
//!
//! Every activation x has *one* ring 2^ring, the widest that a consumer asks for: a linear layer its ell; a public
//! multiple M its ell less the factors of 2 in M; a sum pool the ring of its result; an average pool the width of its sum;
//! a max pool one bit more than the values. The protocol that makes x ends in that ring.

use lowkey_models::{Architecture, Kind, Op, TensorId, TensorInfo, Term};

/// How a tensor is shared between the parties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holding {
    /// A linear layer's result: c (client) + v (server) = 2 z + r mod 2^(ell + 1).
    Accumulator {
        /// Width of z in bits.
        ell: u32,
    },
    /// (xhat, m) with x = xhat + m mod 2^ring.
    Shared {
        /// Width of the ring in bits.
        ring: u32,
        /// The tensor whose storage this is: itself, or what it is a reshaping of.
        root: TensorId,
    },
    /// Shares of y = x - lo mod 2^(bits + 1), read by max pools only and never uploaded.
    Small {
        /// Width of the values y in bits.
        bits: u32,
    },
}

/// Bits that hold 0..=span.
pub fn width_of(span: i64) -> u32 {
    (i64::BITS - span.leading_zeros()).max(1)
}

/// Width of the values of an activation, counted from its smallest one.
pub fn value_bits(info: &TensorInfo) -> u32 {
    width_of(info.range.hi - info.range.lo)
}

/// Width of the sum of an average pool before its shift, one bit more than the sum needs: y = sum >> shift is at most the
/// input's largest value.
pub fn average_ring(info: &TensorInfo, shift: u32) -> u32 {
    shift + value_bits(info) + 1
}

/// The holding of every tensor, given the ell of every linear node.
///
/// `ell(node)` is asked for linear nodes only.
pub fn holdings(architecture: &Architecture, tensors: &[TensorInfo], ell: impl Fn(usize) -> u32) -> Vec<Holding> {
    let mut rings: Vec<u32> = tensors.iter().map(|t| value_bits(t) + u32::from(t.range.lo < 0)).collect();
    let mut pooled_only = vec![true; tensors.len()];
    if tensors[architecture.output].kind == Kind::Activation {
        // An arg max compares differences, which need one bit more.
        rings[architecture.output] = value_bits(&tensors[architecture.output]) + 1;
        pooled_only[architecture.output] = false;
    }
    pooled_only[0] = false;
    for (index, node) in architecture.nodes.iter().enumerate().rev() {
        let mut ask = |tensor: TensorId, ring: u32, pool: bool| {
            rings[tensor] = rings[tensor].max(ring);
            pooled_only[tensor] &= pool;
        };
        match &node.op {
            Op::Linear { terms } => {
                for term in terms {
                    let spare = match term {
                        Term::Identity { multiplier, .. } => multiplier.trailing_zeros().min(ell(index) - 1),
                        _ => 0,
                    };
                    ask(term.input(), ell(index) - spare, false);
                }
            }
            Op::Requantise { .. } => {}
            Op::MaxPool { input, .. } => ask(*input, value_bits(&tensors[*input]) + 1, true),
            Op::AvgPool { input, shift, .. } => ask(*input, average_ring(&tensors[*input], *shift), false),
            Op::SumPool { input, .. } | Op::Flatten { input } => {
                let ring = rings[index + 1];
                rings[*input] = rings[*input].max(ring);
                pooled_only[*input] = false;
                pooled_only[index + 1] = false;
            }
            Op::Table { input, .. } => {
                ask(*input, value_bits(&tensors[*input]), false);
                pooled_only[index + 1] = false;
            }
        }
    }
    let mut holdings: Vec<Holding> = Vec::with_capacity(tensors.len());
    for (tensor, info) in tensors.iter().enumerate() {
        let op = tensor.checked_sub(1).map(|index| &architecture.nodes[index].op);
        holdings.push(match op {
            Some(Op::Linear { .. }) => Holding::Accumulator { ell: ell(tensor - 1) },
            Some(Op::Flatten { input }) => holdings[*input],
            _ if pooled_only[tensor] => Holding::Small { bits: value_bits(info) },
            _ => Holding::Shared { ring: rings[tensor], root: tensor },
        });
    }
    holdings
}
