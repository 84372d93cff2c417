//! Guarded sessions: what both roles have, the offline and the online stage of a slot as circuits.
//!
//! ```text
//!     client                                              server
//!     Hello { ask: Guarded }            ------------->
//!     ... as without a guard, up to the checksums ...
//!                                       <-------------    Owes: an audit of an earlier connection, which comes first
//!     Request { Prepare }               ------------->    a slot begins: it counts for its identity, and under the key
//!     triples, if there are too few     <------------>
//!     commitment                        ------------->
//!     ... exchange.rs, lattice.rs: the slot's lattice work ...
//!     circuit by circuit: corrections, and proofs
//!     Complete                          ------------->    the coin; where it asks, the slot is opened, and the next one begun
//!                                       <-------------    Word
//!     Request { Run }                   ------------->
//!     x; circuit by circuit             <------------>
//!                                       <-------------    the output, once all that was opened is compared; Done
//! ```
//!
//! | file | what |
//! |---|---|
//! | `client.rs`, `server.rs` | a role each |
//! | `cost.rs` | what a slot sends, frame by frame, and what it takes |

pub(crate) mod client;
pub(crate) mod cost;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) mod server;

use std::sync::Arc;

use lowkey_mpc::bits::Planes;
use lowkey_mpc::channel::Channel;
use lowkey_mpc::erasing::OnceRng;
use lowkey_mpc::guard::{Batch, Guard, PreparedCircuit, Triples, Workspace, make_of, offline_all, online};
use lowkey_mpc::ot::{Correlations, OtCount};

use super::circuits::{Circuits, Kept, Layer};
use super::slot::ClientHalf;
use crate::error::Result;
use crate::node::Halves;
use crate::plan::{Plan, Reveal};
use crate::scope::{CONTROL, OT, TRIPLES};

/// Triples of a bucket.
const BUCKET: usize = 3;
/// What is made for a slot lets a wrong triple through with at most 2^-40, all of its batches together.
const ERROR_BITS: f64 = 40.0;

/// The batches that are made where so many triples are missing, all of one size: while one is made a party holds some 100 bytes for each.
pub(crate) fn batches(missing: usize) -> Vec<Batch> {
    Batch::pieces(BUCKET, missing, ERROR_BITS).expect("there are some for every number of triples that a plan has")
}

/// One party of a guarded session.
pub(crate) struct Own {
    circuits: Arc<Circuits>,
    guard: Guard,
    /// Checked, and used by no circuit.
    triples: Triples,
}

impl Own {
    /// With the session's OTs, of which none are taken.
    pub(crate) fn new(circuits: Arc<Circuits>, ot: &mut Correlations) -> Result<Self> {
        let guard = Guard::new(&ot.take(OtCount::ZERO)?);
        Ok(Self { circuits, guard, triples: Triples::default() })
    }

    /// Who it is, with the hash of what was opened.
    #[cfg(test)]
    pub(crate) fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Makes triples and OTs, until there are those of one slot, both parties at the same time.
    ///
    /// # Errors
    /// Those of [`make_of`] and [`Correlations::ensure`]; at the server [`Cheated`](lowkey_mpc::error::Error::Cheated).
    pub(crate) async fn stock(
        &mut self,
        channel: &mut Channel,
        ot: &mut Correlations,
        reveal: Reveal,
        rng: &mut OnceRng,
    ) -> Result<()> {
        let need = self.circuits.triples(reveal);
        let missing = need.saturating_sub(self.triples.len());
        let mut space = Workspace::default();
        for batch in if missing == 0 { Vec::new() } else { batches(missing) } {
            channel.scope(OT);
            ot.ensure(channel, batch.ots()).await?;
            channel.scope(TRIPLES);
            self.triples.append(make_of(channel, &mut self.guard, batch, ot, &mut space, rng).await?);
        }
        channel.scope(OT);
        Ok(ot.ensure(channel, self.circuits.ots(reveal)).await?)
    }

    /// The offline stage of all circuits, with one proof; the client gives its half, the server none.
    ///
    /// # Errors
    /// Those of [`offline_all`].
    pub(crate) async fn prepare(
        &mut self,
        channel: &mut Channel,
        plan: &Plan,
        ot: &mut Correlations,
        reveal: Reveal,
        half: Option<&ClientHalf>,
        rng: &mut OnceRng,
    ) -> Result<Vec<PreparedCircuit>> {
        let Self { circuits, guard, triples } = self;
        let layers: Vec<&Layer> = circuits.all(reveal).collect();
        let early = half.map_or_else(Vec::new, |half| layers.iter().map(|layer| layer.early(plan, half)).collect());
        let scope = |channel: &mut Channel, number: Option<usize>| {
            channel.scope(number.map_or(CONTROL, |number| layers[number].scope(plan)));
        };
        let all = circuits.recorded(reveal);
        Ok(offline_all(&all, channel, guard, (ot, triples), (early, scope), rng).await?)
    }
}

/// Runs one circuit. Returns what it opened to the client.
async fn run(
    channel: &mut Channel,
    guard: &mut Guard,
    plan: &Plan,
    (layer, prepared): (&Layer, PreparedCircuit),
    mut late: Vec<Planes>,
    halves: Option<&mut Halves>,
    kept: &mut Kept,
) -> Result<Option<Planes>> {
    channel.scope(layer.scope(plan));
    let shared = layer.kept(plan, kept);
    late.extend(layer.public());
    let outputs = online(prepared, channel, guard, late, &shared.iter().collect::<Vec<_>>()).await?;
    Ok(layer.keep(outputs, halves, kept))
}
