//! What batches and circuits cost, exactly as they run, without running them: OTs, bytes by direction, flights.
//!
//! ```text
//! offline   every batch by `make`, then the offline stage of every circuit       online   every circuit, in the same order
//! ```

use super::batch::{Batch, least_error_bits};
use super::circuit::Circuit;
use super::flights::Flights;
use crate::correlation::demand::Demand;
use crate::correlation::ot::price::BYTES_PER_OT;
use crate::party::{Party, Stage};
use crate::program::Cost;
use std::borrow::Borrow;

/// Triples of circuits, each with its lanes.
#[must_use]
pub fn triples<C: Borrow<Circuit>>(circuits: &[(C, usize)]) -> usize {
    circuits.iter().map(|(circuit, lanes)| circuit.borrow().triples() * lanes).sum()
}

/// What the batches, and then the circuits, each with its lanes, cost a session: every frame in its place, and all OTs that they take. The OTs
/// themselves come in batches of their own ([`price`](crate::ot::price)).
#[must_use]
pub fn cost<C: Borrow<Circuit>>(batches: &[Batch], circuits: &[(C, usize)]) -> Cost {
    let (mut offline, mut online) = (Flights::default(), Flights::default());
    let mut cost = Cost { frames: Vec::new(), demand: Demand::ZERO };
    for batch in batches {
        cost.frames.extend(batch.frames(&mut offline));
        cost.demand += batch.ots().into();
    }
    for (circuit, lanes) in circuits {
        cost.frames.extend(circuit.borrow().offline_frames_behind(*lanes, &mut offline));
        cost.demand += circuit.borrow().ots(*lanes).into();
    }
    for (circuit, lanes) in circuits {
        cost.frames.extend(circuit.borrow().online_frames(*lanes, &mut online));
    }
    cost
}

/// Bytes of circuits in the long run, both parties and stages, frame headers included: OTs at the price of a whole batch of them, triples at that of the
/// smallest batch with buckets of `bucket`.
///
/// # Panics
/// If there are no such buckets.
#[must_use]
pub fn amortised_bytes<C: Borrow<Circuit>>(bucket: usize, circuits: &[(C, usize)]) -> f64 {
    let batch = Batch::at_least(bucket, 1, least_error_bits(bucket)).expect("a size of buckets");
    let bytes = |cost: &Cost| {
        let sent = [Stage::Offline, Stage::Online]
            .into_iter()
            .flat_map(|stage| [Party::Client, Party::Server].map(|party| cost.sent_bytes(stage, party)));
        sent.sum::<usize>() as f64 + cost.demand.ots.total() as f64 * BYTES_PER_OT
    };
    let triple = bytes(&batch.cost()) / batch.good() as f64;
    bytes(&cost(&[], circuits)) + triple * triples(circuits) as f64
}

#[cfg(test)]
mod tests;
