//! The narrowest rings that hold what a layer's accumulators become.

use lowkey_models::declared::LEAST_ABOVE;
use lowkey_models::{Network, Op, Range};

use crate::node::{clipped_bits, width_of};

/// ell of what a requantisation to `bits` bits (those below its top) reads: the smallest ring that holds it and what it does.
pub(super) fn requantised_ring(Range { lo, hi }: Range, bits: u32, shift: u32) -> u32 {
    let ell = Range { lo, hi }.signed_bits().max(shift + 2);
    if bits.min(ell - 1 - shift) > 1 {
        return ell;
    }
    // Only the sign of z - 2^s is evaluated.
    ell.max(Range { lo: lo - (1 << shift), hi: hi - (1 << shift) }.signed_bits())
}

/// ell of linear node or scale `node`: the smallest ring that holds every reachable accumulator and what its consumers do with
/// it.
pub(super) fn accumulator_ring(network: &Network, node: usize, Range { lo, hi }: Range) -> u32 {
    let architecture = network.architecture();
    let mut ell = Range { lo, hi }.signed_bits().max(2);
    for consumer in architecture.consumers(node + 1) {
        match &architecture.nodes[consumer].op {
            Op::Requantise { bits, shift, top, .. } => {
                let (shift, bits) = (shift.iter().max().copied().unwrap_or(0), clipped_bits(*bits, *top));
                let own = match architecture.coin(consumer) {
                    0 => requantised_ring(Range { lo, hi }, bits, shift),
                    // z - 2^(t-1) + d is in the ring too, and has two bits above the shift.
                    coin => Range { lo, hi }.widened(1 << (coin - 1)).signed_bits().max(shift + LEAST_ABOVE),
                };
                ell = ell.max(own);
            }
            // Widening adds 2^(ell-2), and the sum must stay below 2^(ell-1).
            Op::Scale { .. } => ell = ell.max(Range { lo, hi }.signed_bits() + 1),
            Op::Linear { .. }
            | Op::MaxPool { .. }
            | Op::AvgPool { .. }
            | Op::SumPool { .. }
            | Op::Flatten { .. }
            | Op::Concat { .. }
            | Op::Select { .. }
            | Op::Table { .. } => {}
        }
    }
    if architecture.output == node + 1 {
        // The arg max compares differences.
        ell = ell.max(width_of(hi - lo) + 1);
    }
    ell
}
