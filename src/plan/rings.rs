//! How each tensor is held by the two parties, and in which ring: one pass from the output back to the input.
//!
//! Every activation x has *one* ring 2^ring, the widest that a consumer asks for: a linear layer its ell; a public
//! multiple M its ell less the factors of 2 in M; a sum pool the ring of its result; an average pool the width of its sum;
//! a max pool one bit more than the values. The protocol that makes x ends in that ring.

use lowkey_models::{Architecture, Kind, Op, TensorId, TensorInfo, Term};
use lowkey_mpc::extend;

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

/// Width of the values of every tensor, counted from the smallest one: where an accumulator has too few bits for a clip to
/// happen, fewer than the requantisation asks for. `ell(node)` is asked for linear nodes and scales only.
pub fn value_widths(architecture: &Architecture, tensors: &[TensorInfo], ell: impl Fn(usize) -> u32) -> Vec<u32> {
    let mut widths: Vec<u32> = tensors.iter().map(|t| width_of(t.range.hi - t.range.lo)).collect();
    for (index, node) in architecture.nodes.iter().enumerate() {
        match &node.op {
            Op::Requantise { input, shift, .. } => {
                let left = ell(*input - 1).saturating_sub(1 + shift.iter().max().copied().unwrap_or(0));
                widths[index + 1] = widths[index + 1].min(left).max(1);
            }
            Op::MaxPool { input, .. } | Op::Flatten { input } => widths[index + 1] = widths[*input],
            _ => {}
        }
    }
    widths
}

/// The holding of every tensor, given the ell of every linear node and scale, the widths of all values, and the bits
/// that a scale drops.
pub fn holdings(
    architecture: &Architecture,
    tensors: &[TensorInfo],
    widths: &[u32],
    ell: impl Fn(usize) -> u32,
    dropped: impl Fn(usize) -> Option<u32>,
) -> Vec<Holding> {
    let signed = tensors.iter().map(|t| u32::from(t.range.lo < 0));
    let mut rings: Vec<u32> = widths.iter().zip(signed).map(|(width, sign)| width + sign).collect();
    let mut pooled_only = vec![true; tensors.len()];
    if tensors[architecture.output].kind == Kind::Activation {
        // An arg max compares differences, which need one bit more.
        rings[architecture.output] = widths[architecture.output] + 1;
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
            Op::Requantise { .. } | Op::Scale { .. } => {}
            Op::MaxPool { input, .. } => ask(*input, small_width(widths[*input]), true),
            Op::AvgPool { input, shift, .. } => ask(*input, average_ring(widths[index + 1], *shift), false),
            Op::SumPool { input, .. } | Op::Flatten { input } | Op::Select { input, .. } => {
                let ring = rings[index + 1];
                rings[*input] = rings[*input].max(ring);
                pooled_only[*input] = false;
                pooled_only[index + 1] = false;
            }
            Op::Concat { inputs } => {
                let ring = rings[index + 1];
                for &input in inputs {
                    rings[input] = rings[input].max(ring);
                    pooled_only[input] = false;
                }
                pooled_only[index + 1] = false;
            }
            Op::Table { input, .. } => {
                ask(*input, widths[*input], false);
                pooled_only[index + 1] = false;
            }
        }
    }
    let mut holdings: Vec<Holding> = Vec::with_capacity(tensors.len());
    for tensor in 0..tensors.len() {
        let op = tensor.checked_sub(1).map(|index| &architecture.nodes[index].op);
        holdings.push(match op {
            Some(Op::Linear { .. }) => Holding::Accumulator { ell: ell(tensor - 1) },
            Some(Op::Scale { .. }) => match dropped(tensor - 1) {
                Some(dropped) => Holding::Truncated { ell: ell(tensor - 1) - dropped },
                None => Holding::Scaled { ell: ell(tensor - 1) },
            },
            Some(Op::Flatten { input }) => holdings[*input],
            _ if pooled_only[tensor] => Holding::Small { bits: widths[tensor] },
            _ => Holding::Shared { ring: rings[tensor], root: tensor },
        });
    }
    holdings
}
