//! The server of a guarded session.

use std::collections::VecDeque;
use std::sync::Arc;

use lowkey_mpc::channel::Channel;
use lowkey_mpc::erasing::{Erasing, OnceRng};
use lowkey_mpc::error::Error as ProtocolError;
use lowkey_mpc::guard::PreparedCircuit;
use lowkey_mpc::ot::Correlations;
use lowkey_mpc::party::{Party, Stage};

use super::super::audit::{AuditRate, Undecided, Usable};
use super::super::bits::Authenticated;
use super::super::circuits::{Circuits, Kept, Layer};
use super::super::exchange::{self, Fallen};
use super::super::registry::{Presence, Registry};
use super::super::slot::SlotName;
use super::cost::{self, Forecast};
use super::{Own, run};
use crate::error::{Error, Misbehaviour, Refusal, Result};
use crate::node::Halves;
use crate::online::server_share;
use crate::plan::{Reveal, ServerMemory, Step};
use crate::publication::{ClientModel, ServerModel};
use crate::report::{Measurement, SessionReport, StageReport};
use crate::session::{Action, MAX_SLOTS};
use crate::slot::OfflineShares;
use crate::visit::{Options, finish, in_time, next_action, set_up};
use crate::watch::Stock;

/// How a server guards itself.
#[derive(Clone, Debug)]
pub struct Guarding {
    /// Those who are there, and who is shut out.
    pub registry: Arc<Registry>,
    /// How many slots are opened.
    pub rate: AuditRate,
}

/// What guarded sessions of a model have in common.
pub(crate) struct GuardedModel {
    guarding: Guarding,
    pub(crate) circuits: Arc<Circuits>,
    /// What an audit computes a client's messages with.
    audits: Arc<ClientModel>,
    pub(crate) memory: ServerMemory,
    pub(crate) stage_bytes: u64,
    /// What an inference sends that shows as much as the server does.
    pub(crate) shown: Forecast,
}

impl GuardedModel {
    /// Of a published model, of which clients are shown `reveal` at most.
    ///
    /// # Errors
    /// When a layer has no circuit.
    pub(crate) fn new(model: &ServerModel, guarding: Guarding, reveal: Reveal) -> Result<Self> {
        let circuits = Circuits::derive(&model.plan)?;
        let [logits, class] =
            [Reveal::Logits, Reveal::Class].map(|reveal| Forecast::new(&model.plan, &circuits, reveal));
        Ok(Self {
            guarding,
            stage_bytes: logits.most_bytes().max(class.most_bytes()),
            shown: if reveal == Reveal::Logits { logits } else { class },
            memory: circuits.server_memory(&model.plan),
            circuits: Arc::new(circuits),
            audits: model.client_half()?,
        })
    }

    /// How many slots are opened.
    pub(crate) fn rate(&self) -> AuditRate {
        self.guarding.rate
    }
}

/// One guarded session, from the welcome to the end.
pub(crate) async fn session(
    channel: &mut Channel,
    measurement: Measurement,
    model: &ServerModel,
    guarded: Arc<GuardedModel>,
    options: &Options,
    mut randomness: Erasing,
) -> Result<SessionReport> {
    let (Guarding { registry, rate }, client) = (guarded.guarding.clone(), options.visitor.client());
    // Who is shut out hears so before anything is computed.
    registry.admit(client)?;
    let mut ot = set_up(channel, model, options, &mut randomness).await?;
    exchange::collect(channel, registry.owed_in(client, &options.room).await?).await?;
    let presence = registry.enter_in(client, options.room.clone())?;
    let report = SessionReport { setup: measurement.finish(channel).stage, ..SessionReport::default() };
    options.watch.set_up(&report.setup);
    let own = Own::new(guarded.circuits.clone(), &mut ot)?;
    let slots = VecDeque::new();
    let session = Session {
        model,
        guarded,
        options,
        presence: &presence,
        rate,
        own,
        ot,
        slots,
        next_slot: 0,
        randomness,
        report,
    };
    let outcome = presence.run(session.serve(channel)).await;
    if let Err(Error::Session(ProtocolError::Cheated)) = outcome {
        if let Err(error) = presence.cheated() {
            tracing::error!(name = presence.name(), %error, "shut out in memory only");
        }
        return Err(Refusal::ShutOut.into());
    }
    outcome
}

/// The server's half of a slot.
struct GuardedSlot {
    reveal: Reveal,
    /// v_off of every linear node with encrypted terms.
    shares: OfflineShares,
    circuits: Vec<PreparedCircuit>,
}

impl GuardedSlot {
    /// Bytes of memory that it holds.
    fn held_bytes(&self) -> usize {
        self.shares.held_bytes() + self.circuits.iter().map(PreparedCircuit::held_bytes).sum::<usize>()
    }
}

/// A slot that was not opened, its number, what it holds, and what it took.
struct ReadySlot {
    number: u64,
    slot: Usable<GuardedSlot>,
    bytes: usize,
    offline: StageReport,
}

/// A session that has been set up.
struct Session<'a> {
    model: &'a ServerModel,
    guarded: Arc<GuardedModel>,
    options: &'a Options,
    presence: &'a Presence,
    rate: AuditRate,
    own: Own,
    ot: Correlations,
    slots: VecDeque<ReadySlot>,
    next_slot: u64,
    randomness: Erasing,
    report: SessionReport,
}

impl Session<'_> {
    /// Does what the client asks for, until it or the server ends.
    async fn serve(mut self, channel: &mut Channel) -> Result<SessionReport> {
        let mut stop = self.options.stop.clone();
        loop {
            self.options.watch.holds(self.held());
            let next = next_action(channel, self.options, &mut stop, !self.slots.is_empty(), &self.ot).await?;
            let Some((action, measurement)) = next else { return Ok(self.report) };
            match (action, channel.stage()) {
                (Action::Prepare { slot, reveal }, Stage::Offline) => {
                    self.prepare(channel, measurement, slot, reveal).await?;
                }
                (Action::Run { slot }, Stage::Online) => self.run(channel, measurement, slot).await?,
                (Action::Direct { .. }, _) => return Err(Error::Peer(Party::Client, Misbehaviour::Unguarded)),
                (_, stage) => return Err(Error::Peer(Party::Client, Misbehaviour::Stage(stage))),
            }
        }
    }

    fn held(&self) -> Stock {
        Stock {
            slots: self.slots.len() as u64,
            slot_bytes: self.slots.iter().map(|ready| ready.bytes as u64).sum(),
            ots: self.ot.available().total() as u64,
            ot_bytes: self.ot.held_bytes() as u64,
        }
    }

    /// Slots, until one is not opened.
    async fn prepare(
        &mut self,
        channel: &mut Channel,
        mut measurement: Measurement,
        slot: u64,
        reveal: Reveal,
    ) -> Result<()> {
        if slot != self.next_slot {
            return Err(Error::Slot { slot });
        }
        if self.slots.len() >= MAX_SLOTS {
            return Err(Error::Busy { what: "prepared slots", limit: MAX_SLOTS });
        }
        self.options.visitor.welcome(reveal)?;
        self.options.room.resize(self.guarded.memory.with_slots(self.slots.len() + 1)).await?;
        let (options, stage_bytes) = (self.options, self.guarded.stage_bytes);
        let demand = cost::demand(&self.guarded.circuits, reveal);
        let (number, bytes, slot) = loop {
            // Before its triples are made: a client that spoils some and hangs up has begun a slot.
            self.presence.begin_slot()?;
            // Opened or not, it is one more under the server's key.
            self.options.visitor.count()?;
            let number = self.next_slot;
            self.next_slot += 1;
            measurement.charge(demand);
            let rng = &mut self.randomness.next_rng();
            let undecided = in_time(options, stage_bytes, self.attempt(channel, number, reveal, rng)).await?;
            let bytes = undecided.slot().held_bytes();
            if let Fallen::Use(slot) = self.decide(channel, undecided, rng).await? {
                break (number, bytes, slot);
            }
        };
        let measured = cost::charged(measurement.finish(channel), Party::Server, self.guarded.circuits.triples(reveal));
        self.report.offline.add(&measured.stage);
        self.options.watch.prepared(number, &measured);
        self.slots.push_back(ReadySlot { number, slot, bytes, offline: measured.stage });
        Ok(())
    }

    /// One slot, up to the coin.
    async fn attempt(
        &mut self,
        channel: &mut Channel,
        number: u64,
        reveal: Reveal,
        rng: &mut OnceRng,
    ) -> Result<Undecided<GuardedSlot>> {
        let (model, plan) = (self.model, &self.model.plan);
        self.own.stock(channel, &mut self.ot, reveal, rng).await?;
        let name = SlotName::new(self.ot.session(), number, model.digest);
        let (shares, arrived) = exchange::receive(channel, model, name, self.presence, rng).await?;
        let circuits = self.own.prepare(channel, plan, &mut self.ot, reveal, None, rng).await?;
        exchange::complete(channel).await?;
        Ok(Undecided::new(arrived, self.guarded.audits.clone(), GuardedSlot { reveal, shares, circuits }))
    }

    /// The coin, and the audit, which has a time of its own: while it is open the session is not cut for want of room or of time, since its
    /// client would be shut out for that. No coin falls in a session that has to leave.
    async fn decide(
        &mut self,
        channel: &mut Channel,
        undecided: Undecided<GuardedSlot>,
        rng: &mut OnceRng,
    ) -> Result<Fallen<Usable<GuardedSlot>, ()>> {
        let reveal = undecided.slot().reveal;
        let Own { circuits, guard, triples } = &mut self.own;
        let open = |slot: GuardedSlot| {
            let (bits, left) = Authenticated::open(guard, slot.circuits);
            triples.append(left);
            (bits.corrections(circuits.clone(), reveal), ())
        };
        Ok(exchange::decide(channel, undecided, self.presence, self.rate, rng, open).await?)
    }

    /// The online stage of a slot.
    async fn run(&mut self, channel: &mut Channel, measurement: Measurement, slot: u64) -> Result<()> {
        let found = self.slots.iter().position(|ready| ready.number == slot);
        let found = found.and_then(|index| self.slots.remove(index));
        let ReadySlot { slot, offline, .. } = found.ok_or(Error::Slot { slot })?;
        let slot = slot.begin(self.presence).await?;
        let reveal = slot.reveal;
        let stage = answer(channel, self.model, &mut self.own, slot);
        in_time(self.options, self.guarded.stage_bytes, stage).await?;
        finish(channel).await?;
        self.options.room.resize(self.guarded.memory.with_slots(self.slots.len())).await?;
        let measured = measurement.finish(channel);
        self.report.online.add(&measured.stage);
        self.report.inferences += 1;
        self.options.watch.answered(reveal, Some(&offline), &measured);
        Ok(())
    }
}

/// Uses a slot.
async fn answer(channel: &mut Channel, model: &ServerModel, own: &mut Own, slot: GuardedSlot) -> Result<()> {
    let plan = &model.plan;
    let Own { circuits, guard, .. } = own;
    let mut halves = Halves::new(plan.steps.len(), Party::Server);
    let mut kept = Kept::new(plan.steps.len());
    let mut shares = slot.shares;
    let mut prepared = slot.circuits.into_iter();
    let mut next = |layer: &Layer| prepared.next().ok_or_else(|| layer.missing(plan));
    let input = circuits.input();
    run(channel, guard, plan, (input, next(input)?), Vec::new(), Some(&mut halves), &mut kept).await?;
    for (node, step) in plan.steps.pairs() {
        match step {
            Step::Linear(linear) => server_share(model, *linear, shares.take(*linear), &mut halves)?,
            Step::Nonlinear(_) | Step::Local { .. } | Step::Reshape => halves.local(step),
        }
        for layer in circuits.of(node) {
            let own = layer.of_server(plan, &halves, &model.biases);
            run(channel, guard, plan, (layer, next(layer)?), own, Some(&mut halves), &mut kept).await?;
        }
    }
    for layer in circuits.output(slot.reveal) {
        let own = layer.of_server(plan, &halves, &model.biases);
        run(channel, guard, plan, (layer, next(layer)?), own, None, &mut kept).await?;
    }
    Ok(())
}
