//! The client of a guarded session.

use std::sync::Arc;

use lowkey_mpc::channel::Channel;
use lowkey_mpc::erasing::Erasing;
use lowkey_mpc::error::Error as ProtocolError;
use lowkey_mpc::guard::PreparedCircuit;
use lowkey_mpc::ot::Correlations;
use lowkey_mpc::ot::base::SessionId;
use lowkey_mpc::runtime::Instant;

use super::super::bits;
use super::super::circuits::{Circuits, Kept};
use super::super::exchange::{self, Debts, Fallen, Waiting};
use super::super::slot::SlotName;
use super::{Own, run};
use crate::answer::{self, Output};
use crate::error::{Error, Result};
use crate::online::{Times, note};
use crate::plan::Reveal;
use crate::publication::ClientModel;
use crate::slot::slot_name;

/// The client's half of a slot that was not opened. What would open it is gone.
pub(crate) struct GuardedSlot {
    pub(crate) session: SessionId,
    pub(crate) number: u64,
    reveal: Reveal,
    circuits: Vec<PreparedCircuit>,
}

impl std::fmt::Debug for GuardedSlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        slot_name(f, "GuardedSlot", self.number)
    }
}

/// A client of a guarded session.
pub(crate) struct Guarded {
    own: Own,
    debts: Debts,
}

impl Guarded {
    /// With the session's OTs, and what earlier sessions owe.
    ///
    /// # Errors
    /// When a layer has no circuit.
    pub(crate) fn new(model: &ClientModel, ot: &mut Correlations, debts: Debts) -> Result<Self> {
        let circuits = Circuits::derive(&model.plan).map_err(Error::Refused)?;
        Ok(Self { own: Own::new(Arc::new(circuits), ot)?, debts })
    }

    /// The circuits of the model.
    pub(crate) fn circuits(&self) -> &Circuits {
        &self.own.circuits
    }

    /// Prepares slots, the first under the number before `next`, until one is not opened. Returns it, and how many were.
    pub(crate) async fn prepare(
        &mut self,
        channel: &mut Channel,
        model: &ClientModel,
        ot: &mut Correlations,
        randomness: &mut Erasing,
        next: &mut u64,
        reveal: Reveal,
    ) -> Result<(GuardedSlot, u64)> {
        let mut opened = 0;
        loop {
            let (number, rng) = (*next - 1, &mut randomness.next_rng());
            self.own.stock(channel, ot, reveal, rng).await?;
            let name = SlotName::new(ot.session(), number, model.digest);
            let (half, promise) = exchange::send(channel, model, name, rng).await?;
            let circuits = self.own.prepare(channel, &model.plan, ot, reveal, Some(&half), rng).await?;
            drop(half);
            let slot = GuardedSlot { session: ot.session(), number, reveal, circuits };
            let guard = &self.own.guard;
            let open = |slot: GuardedSlot| bits::spend(guard, slot.circuits);
            match Waiting::new(promise, slot).hear(channel, &self.debts, open).await? {
                Fallen::Use(slot) => return Ok((slot, opened)),
                Fallen::Spent(triples) => self.own.triples.append(triples),
            }
            opened += 1;
            *next += 1;
        }
    }

    /// Uses a slot.
    pub(crate) async fn infer(
        &mut self,
        channel: &mut Channel,
        model: &ClientModel,
        slot: GuardedSlot,
        input: &[i64],
        times: &mut Times,
    ) -> Result<Output> {
        let plan = &model.plan;
        let (Own { circuits, guard, .. }, reveal) = (&mut self.own, slot.reveal);
        let mut kept = Kept::new(plan.steps.len());
        let mut answer = None;
        let mut prepared = slot.circuits.into_iter();
        for (index, layer) in circuits.all(reveal).enumerate() {
            let clock = Instant::now();
            let prepared = prepared.next().ok_or_else(|| layer.missing(plan))?;
            let late = if index == 0 { vec![layer.image(plan, input)] } else { Vec::new() };
            let opened = run(channel, guard, plan, (layer, prepared), late, None, &mut kept).await?;
            answer = opened.or(answer);
            note(times, layer.scope(plan), clock);
        }
        let missing = || Error::internal("an opening without a result");
        Ok(match reveal {
            Reveal::Logits => Output::Logits(answer::signed(plan, &answer.ok_or_else(missing)?)),
            Reveal::Class if circuits.output(reveal).is_empty() => Output::Class(0),
            Reveal::Class => Output::Class(class(answer.ok_or_else(missing)?.to_lanes::<u64>()[0], plan.answer.lanes)?),
        })
    }
}

/// An index of the server's, if there is such a class.
fn class(index: u64, classes: usize) -> Result<usize> {
    if index < classes as u64 {
        return Ok(index as usize);
    }
    Err(ProtocolError::protocol("index of the class", format!("less than {classes}"), index).into())
}
