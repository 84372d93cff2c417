//! The narrowest rings that hold what a layer's accumulators become.

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
                let shift = shift.iter().max().copied().unwrap_or(0);
                ell = ell.max(requantised_ring(Range { lo, hi }, clipped_bits(*bits, *top), shift));
            }
            // Widening adds 2^(ell-2), and the sum must stay below 2^(ell-1).
            Op::Scale { .. } => ell = ell.max(Range { lo, hi }.signed_bits() + 1),
            _ => {}
        }
    }
    if architecture.output == node + 1 {
        // The arg max compares differences.
        ell = ell.max(width_of(hi - lo) + 1);
    }
    ell
}
