//! The server's sessions: one per client, several at once, none of which can harm another.

use std::collections::VecDeque;
use std::sync::Arc;

use lowkey_mpc::channel::{Attention, Channel, FrameKind, Limits};
use lowkey_mpc::erasing::Erasing;
use lowkey_mpc::ot::Correlations;
use lowkey_mpc::party::{Party, Stage};

use crate::boxed::Boxed;
use crate::catalogue::{Catalogue, Served};
use crate::client::give_up;
use crate::error::{Error, Misbehaviour, Result};
use crate::guard::session::server::{GuardedModel, Guarding, session as guarded_session};
use crate::net::Stream;
use crate::plan::{Reveal, ServerMemory};
use crate::policy::Refusal;
use crate::publication::ServerModel;
use crate::randomness;
pub use crate::report::SessionReport;
use crate::report::{Measured, Measurement, StageReport};
use crate::scope::CONTROL;
use crate::session::{
    Action, Ask, Listing, MAX_CONTROL, MAX_LISTING, MAX_SLOTS, VERSION, Welcome, check_hello, name_of,
};
use crate::slot::ServerSlot;
use crate::visit::{LAST_PAUSE, OT_SETUP_BYTES, finish, in_time, next_action, set_up};
pub use crate::visit::{Options, Stop};
use crate::watch::Stock;
use crate::{offline, online};

/// Serves one client until it closes the session. It computes on the thread that polls it; [`crate::Server`] has threads for that.
///
/// # Errors
/// When the client or the connection fails. The client is told with a code, where it can still hear.
pub async fn serve(stream: Box<dyn Stream>, model: Arc<ServerModel>, options: Options) -> Result<SessionReport> {
    let randomness = Erasing::new(*randomness::seed()?);
    serve_from(stream, model, options, randomness).await
}

/// A [guarded](crate::guard) session. The client of `options` has to have a name.
///
/// # Errors
/// As [`serve`], and when a layer has no circuit, or the client cheats.
pub async fn serve_guarded(
    stream: Box<dyn Stream>,
    model: Arc<ServerModel>,
    options: Options,
    guarding: Guarding,
) -> Result<SessionReport> {
    let randomness = Erasing::new(*randomness::seed()?);
    serve_guarded_from(stream, model, options, guarding, randomness).await
}

fn serve_guarded_from(
    stream: Box<dyn Stream>,
    model: Arc<ServerModel>,
    options: Options,
    guarding: Guarding,
    randomness: Erasing,
) -> Boxed<'static, Result<SessionReport>> {
    Box::pin(async move {
        let guarded = GuardedModel::new(&model, guarding, options.visitor.shown())?;
        let name = name_of(&model.plan.architecture.name);
        let catalogue = Catalogue::from(Served::new(name, model).guarded(guarded));
        Greeted::meet(stream, options.limits).await?.serve_from(catalogue.into(), options, randomness).await
    })
}

/// As [`serve_guarded`], with a seed of the caller's.
///
/// # Errors
/// As [`serve_guarded`].
#[cfg(feature = "deterministic")]
pub async fn serve_guarded_seeded(
    stream: Box<dyn Stream>,
    model: Arc<ServerModel>,
    options: Options,
    guarding: Guarding,
    seed: [u8; 32],
) -> Result<SessionReport> {
    serve_guarded_from(stream, model, options, guarding, Erasing::new(seed)).await
}

/// As [`serve`], with a seed of the caller's.
///
/// # Errors
/// As [`serve`].
#[cfg(feature = "deterministic")]
pub async fn serve_seeded(
    stream: Box<dyn Stream>,
    model: Arc<ServerModel>,
    options: Options,
    seed: [u8; 32],
) -> Result<SessionReport> {
    serve_from(stream, model, options, Erasing::new(seed)).await
}

fn serve_from(
    stream: Box<dyn Stream>,
    model: Arc<ServerModel>,
    options: Options,
    randomness: Erasing,
) -> Boxed<'static, Result<SessionReport>> {
    Box::pin(async move {
        Greeted::meet(stream, options.limits).await?.serve_from(Catalogue::one(model).into(), options, randomness).await
    })
}

/// A client that has said hello, and has no session yet.
pub(crate) struct Greeted {
    channel: Channel,
    setup: Measurement,
    ask: Ask,
}

impl Greeted {
    /// Waits for a client's hello. Others are told why not.
    pub(crate) fn meet(stream: Box<dyn Stream>, limits: Limits) -> Boxed<'static, Result<Self>> {
        Box::pin(async move {
            let mut channel = Channel::new(stream, Party::Server, limits);
            let setup = Measurement::start(&mut channel, Stage::Setup);
            match hello(&mut channel).await {
                Ok(ask) => Ok(Self { channel, setup, ask }),
                Err(error) => {
                    give_up(&mut channel, &error).await;
                    Err(error)
                }
            }
        })
    }

    /// What it waits for, to be looked at from elsewhere.
    pub(crate) fn attention(&self) -> Attention {
        self.channel.attention()
    }

    /// What it wants.
    pub(crate) fn ask(&self) -> &Ask {
        &self.ask
    }

    /// Tells the client why it gets no session.
    pub(crate) async fn refuse(mut self, refusal: Refusal) -> Error {
        let error = refusal.into();
        give_up(&mut self.channel, &error).await;
        self.channel.drain(LAST_PAUSE).await;
        error
    }

    /// Its session. As [`serve`].
    pub(crate) async fn serve(self, catalogue: Arc<Catalogue>, options: Options) -> Result<SessionReport> {
        let randomness = Erasing::new(*randomness::seed()?);
        self.serve_from(catalogue, options, randomness).await
    }

    async fn serve_from(
        self,
        catalogue: Arc<Catalogue>,
        options: Options,
        randomness: Erasing,
    ) -> Result<SessionReport> {
        let Self { mut channel, setup, ask } = self;
        let guarded = matches!(ask, Ask::Guarded(_));
        let outcome = match catalogue.find(&ask) {
            Ok(Some(served)) if guarded != served.guarded.is_some() => {
                Err(if guarded { Refusal::Unguarded } else { Refusal::Guarded }.into())
            }
            Ok(Some(served)) => {
                // The session keeps its model, whatever the server has next, and no other one.
                let (model, guarded) = (served.model.clone(), served.guarded.clone());
                drop(catalogue);
                match guarded {
                    None => session(&mut channel, setup, &model, &options, randomness).await,
                    Some(guarded) => guarded_session(&mut channel, setup, &model, guarded, &options, randomness).await,
                }
            }
            Ok(None) => in_time(&options, MAX_LISTING as u64, list(&mut channel, setup, &catalogue)).await,
            Err(refusal) => Err(refusal.into()),
        };
        match outcome {
            Ok(report) => {
                // The client has said goodbye and may be gone already.
                let _ = channel.close().await;
                Ok(report)
            }
            Err(error) => {
                give_up(&mut channel, &error).await;
                if error.is_refusal() {
                    // The client has done nothing wrong and may be sending: it shall read why. Who waits need not wait for that.
                    let _sends = options.room.sends(0);
                    let mut stop = options.stop.clone();
                    tokio::select! {
                        () = channel.drain(options.limits.timeout) => {}
                        () = stop.asked() => {}
                    }
                }
                Err(error)
            }
        }
    }
}

/// Tells the client which models there are, and nothing else.
async fn list(channel: &mut Channel, measurement: Measurement, catalogue: &Catalogue) -> Result<SessionReport> {
    let models = catalogue.all().iter().map(|served| served.offer.clone()).collect();
    channel.send_control(&Listing { version: VERSION, models }).await?;
    channel.flush().await?;
    Ok(SessionReport { setup: measurement.finish(channel).stage, ..SessionReport::default() })
}

/// One session, from the welcome to the end.
async fn session(
    channel: &mut Channel,
    measurement: Measurement,
    model: &ServerModel,
    options: &Options,
    mut randomness: Erasing,
) -> Result<SessionReport> {
    let ot = set_up(channel, model, options, &mut randomness).await?;
    // Nothing more is drawn.
    drop(randomness);
    let report = SessionReport { setup: measurement.finish(channel).stage, ..SessionReport::default() };
    options.watch.set_up(&report.setup);
    let stage_bytes = 2 * model.inference_bytes() + OT_SETUP_BYTES;
    let memory = model.plan.server_memory();
    Session { model, options, stage_bytes, memory, ot, slots: VecDeque::new(), next_slot: 0, report }
        .serve(channel)
        .await
}

/// A session that has been set up.
struct Session<'a> {
    model: &'a ServerModel,
    options: &'a Options,
    /// What a stage may transfer.
    stage_bytes: u64,
    memory: ServerMemory,
    ot: Correlations,
    slots: VecDeque<(ServerSlot, StageReport)>,
    next_slot: u64,
    report: SessionReport,
}

impl Session<'_> {
    /// Does what the client asks for, until it or the server ends.
    async fn serve(mut self, channel: &mut Channel) -> Result<SessionReport> {
        let mut stop = self.options.stop.clone();
        loop {
            self.options.watch.holds(held(&self.slots, &self.ot));
            let next = next_action(channel, self.options, &mut stop, !self.slots.is_empty(), &self.ot).await?;
            let Some((action, measurement)) = next else { return Ok(self.report) };
            match (action, channel.stage()) {
                (Action::Prepare { slot, reveal }, Stage::Offline) => {
                    self.prepare(channel, measurement, slot, reveal).await?;
                }
                (Action::Run { slot }, Stage::Online) => self.run(channel, measurement, slot).await?,
                (Action::Direct { slot, reveal }, Stage::Online) => {
                    self.direct(channel, measurement, slot, reveal).await?;
                }
                (_, stage) => return Err(Error::Peer(Party::Client, Misbehaviour::Stage(stage))),
            }
        }
    }

    /// A slot number is used once, and they come without gaps.
    fn burn(&mut self, slot: u64) -> Result<()> {
        if slot != self.next_slot {
            return Err(Error::Slot { slot });
        }
        self.next_slot += 1;
        Ok(())
    }

    /// The offline stage of a slot.
    async fn prepare(
        &mut self,
        channel: &mut Channel,
        mut measurement: Measurement,
        slot: u64,
        reveal: Reveal,
    ) -> Result<()> {
        self.burn(slot)?;
        if self.slots.len() >= MAX_SLOTS {
            return Err(Error::Busy { what: "prepared slots", limit: MAX_SLOTS });
        }
        self.options.visitor.admit(reveal)?;
        self.options.room.resize(self.memory.with_slots(self.slots.len() + 1)).await?;
        let stage = offline::server(channel, self.model, &mut self.ot, slot, reveal);
        let prepared = in_time(self.options, self.stage_bytes, stage).await?;
        measurement.charge(self.model.plan.demand(reveal));
        let measured = measurement.finish(channel);
        self.report.offline.add(&measured.stage);
        self.options.watch.prepared(slot, &measured);
        self.slots.push_back((prepared, measured.stage));
        Ok(())
    }

    /// The online stage of a slot.
    async fn run(&mut self, channel: &mut Channel, measurement: Measurement, slot: u64) -> Result<()> {
        let found = self.slots.iter().position(|(prepared, _)| prepared.number == slot);
        let found = found.and_then(|index| self.slots.remove(index));
        let (prepared, offline) = found.ok_or(Error::Slot { slot })?;
        let reveal = prepared.answer.reveal();
        in_time(self.options, self.stage_bytes, online::server(channel, self.model, prepared)).await?;
        finish(channel).await?;
        self.options.room.resize(self.memory.with_slots(self.slots.len())).await?;
        self.answered(reveal, Some(&offline), &measurement.finish(channel));
        Ok(())
    }

    /// An inference in the direct schedule.
    async fn direct(
        &mut self,
        channel: &mut Channel,
        mut measurement: Measurement,
        slot: u64,
        reveal: Reveal,
    ) -> Result<()> {
        self.burn(slot)?;
        self.options.visitor.admit(reveal)?;
        let stage = online::server_direct(channel, self.model, &mut self.ot, reveal);
        in_time(self.options, self.stage_bytes, stage).await?;
        finish(channel).await?;
        measurement.charge(self.model.plan.demand(reveal));
        self.answered(reveal, None, &measurement.finish(channel));
        Ok(())
    }

    fn answered(&mut self, reveal: Reveal, offline: Option<&StageReport>, measured: &Measured) {
        self.report.online.add(&measured.stage);
        self.report.inferences += 1;
        self.options.watch.answered(reveal, offline, measured);
    }
}

/// What a session holds.
fn held(slots: &VecDeque<(ServerSlot, StageReport)>, ot: &Correlations) -> Stock {
    Stock {
        slots: slots.len() as u64,
        slot_bytes: slots.iter().map(|(slot, _)| slot.held_bytes() as u64).sum(),
        ots: ot.available().total() as u64,
        ot_bytes: ot.held_bytes() as u64,
    }
}

async fn hello(channel: &mut Channel) -> Result<Ask> {
    channel.scope(CONTROL);
    let hello = check_hello(&channel.recv_at_most(FrameKind::Control, MAX_CONTROL).await?);
    if matches!(hello, Err(Error::Version { .. })) {
        channel.send_control(&Welcome::refusal()).await?;
    }
    hello
}
