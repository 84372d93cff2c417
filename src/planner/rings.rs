//! The narrowest rings that hold what a layer's accumulators become.

use lowkey_models::{Network, Range};

use crate::node::{self, width_of};

/// ell of linear node or scale `node`: the smallest ring that holds every reachable accumulator and what its consumers do with
/// it.
pub(super) fn accumulator_ring(network: &Network, node: usize, Range { lo, hi }: Range) -> u32 {
    let architecture = network.architecture();
    let mut ell = Range { lo, hi }.signed_bits().max(2);
    for consumer in architecture.consumers(node + 1) {
        let reader = node::of(&architecture.nodes[consumer].op);
        ell = ell.max(reader.least_ring(Range { lo, hi }, architecture.coin(consumer)));
    }
    if architecture.output == node + 1 {
        // The arg max compares differences.
        ell = ell.max(width_of(hi - lo) + 1);
    }
    ell
}
