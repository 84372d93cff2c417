//! The server's sessions: one per client, several at once, none of which can harm another.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use lowkey_mpc::channel::{Attention, Channel, FrameKind, Limits, Traffic};
use lowkey_mpc::erasing::Erasing;
use lowkey_mpc::ot::Correlations;
use lowkey_mpc::party::{Party, Stage};
use tokio::sync::watch;

use crate::admission::{Room, transfer};
use crate::catalogue::Catalogue;
use crate::client::give_up;
use crate::error::{AbortCode, Error, Misbehaviour, Result};
use crate::net::Stream;
use crate::plan::{Reveal, ServerMemory};
use crate::policy::{Refusal, Visitor};
use crate::publication::ServerModel;
use crate::randomness;
pub use crate::report::SessionReport;
use crate::report::{Measured, Measurement, StageReport};
use crate::scope::CONTROL;
use crate::session::{
    Accept, Action, Ask, Done, HINT_CHUNK, Listing, MAX_CONTROL, MAX_LISTING, MAX_SLOTS, Request, VERSION, Welcome,
    check_hello,
};
use crate::slot::ServerSlot;
use crate::watch::{Held, SessionWatch};
use crate::{offline, online};

/// How long a session that is asked to end waits for a client: for the use of its slots, and for its goodbye.
const LAST_PAUSE: Duration = Duration::from_secs(1);
/// The longest stage, in timeouts of the connection, apart from what its bytes need.
const STAGE_TIMEOUTS: u32 = 5;
/// What the set-up of OTs sends, and more.
const OT_SETUP_BYTES: u64 = 4 << 20;

/// What a server tolerates.
#[derive(Clone, Debug)]
pub struct Options {
    /// Of each connection.
    pub limits: Limits,
    /// The longest silence between two requests.
    pub idle: Duration,
    /// The client, and what it is allowed.
    pub visitor: Visitor,
    /// Ends the session, between two requests.
    pub stop: Stop,
    /// Is told what the session does.
    pub watch: SessionWatch,
    /// The memory that the session may need.
    pub room: Room,
}

/// Asks sessions to end. The default asks for nothing.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    server: Option<watch::Receiver<bool>>,
    seat: Option<watch::Receiver<bool>>,
}

impl Stop {
    /// Asks once the sender says true.
    pub fn new(asked: watch::Receiver<bool>) -> Self {
        Self { server: Some(asked), seat: None }
    }

    /// Asks once either sender says true: the server's, or that of this session's seat.
    pub(crate) fn or(self, seat: watch::Receiver<bool>) -> Self {
        Self { seat: Some(seat), ..self }
    }

    /// Whether it was asked for.
    pub fn is_asked(&self) -> bool {
        [&self.server, &self.seat].into_iter().flatten().any(|asked| *asked.borrow())
    }

    /// Waits until it is asked for.
    pub async fn asked(&mut self) {
        tokio::select! {
            () = said(&mut self.server) => {}
            () = said(&mut self.seat) => {}
        }
    }
}

/// Waits until the sender says true.
async fn said(asked: &mut Option<watch::Receiver<bool>>) {
    if let Some(asked) = asked
        && asked.wait_for(|asked| *asked).await.is_ok()
    {
        return;
    }
    // Nobody is left who could ask.
    std::future::pending().await
}

impl Default for Options {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            idle: Duration::from_secs(600),
            visitor: Visitor::default(),
            stop: Stop::default(),
            watch: SessionWatch::default(),
            room: Room::default(),
        }
    }
}

/// Serves one client until it closes the session. It computes on the thread that polls it; [`crate::Server`] has threads for that.
///
/// # Errors
/// When the client or the connection fails. The client is told with a code, where it can still hear.
pub async fn serve(stream: Box<dyn Stream>, model: Arc<ServerModel>, options: Options) -> Result<SessionReport> {
    let randomness = Erasing::new(*randomness::seed()?);
    serve_from(stream, model, options, randomness).await
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

async fn serve_from(
    stream: Box<dyn Stream>,
    model: Arc<ServerModel>,
    options: Options,
    randomness: Erasing,
) -> Result<SessionReport> {
    Greeted::meet(stream, options.limits).await?.serve_from(Catalogue::one(model).into(), options, randomness).await
}

/// A client that has said hello, and has no session yet.
pub(crate) struct Greeted {
    channel: Channel,
    setup: Measurement,
    ask: Ask,
}

impl Greeted {
    /// Waits for a client's hello. Others are told why not.
    pub(crate) async fn meet(stream: Box<dyn Stream>, limits: Limits) -> Result<Self> {
        let mut channel = Channel::new(stream, Party::Server, limits);
        let setup = Measurement::start(&mut channel, Stage::Setup);
        match hello(&mut channel).await {
            Ok(ask) => Ok(Self { channel, setup, ask }),
            Err(error) => {
                give_up(&mut channel, &error).await;
                Err(error)
            }
        }
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
        let outcome = match catalogue.find(&ask) {
            Ok(Some(served)) => {
                // The session keeps its model, whatever the server has next, and no other one.
                let model = served.model.clone();
                drop(catalogue);
                session(&mut channel, setup, &model, &options, randomness).await
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
                    // The client has done nothing wrong and may be sending: it shall read why.
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

/// A stage that takes longer than this much data needs on a slow line ends, however much seems to move.
async fn in_time<T>(options: &Options, bytes: u64, stage: impl Future<Output = Result<T>>) -> Result<T> {
    let after = options.limits.timeout.saturating_mul(STAGE_TIMEOUTS) + transfer(bytes);
    tokio::time::timeout(after, stage).await.map_err(|_| lowkey_mpc::error::Error::Timeout { after })?
}

/// One session, from the welcome to the end.
async fn session(
    channel: &mut Channel,
    measurement: Measurement,
    model: &ServerModel,
    options: &Options,
    randomness: Erasing,
) -> Result<SessionReport> {
    let ot = set_up(channel, model, options, randomness).await?;
    let report = SessionReport { setup: measurement.finish(channel).stage, ..SessionReport::default() };
    options.watch.set_up(&report.setup);
    let stage_bytes = 2 * model.inference_bytes() + OT_SETUP_BYTES;
    let memory = model.plan.server_memory();
    Session { model, options, stage_bytes, memory, ot, slots: VecDeque::new(), next_slot: 0, report }
        .serve(channel)
        .await
}

/// The welcome, the hint and the first OTs.
async fn set_up(
    channel: &mut Channel,
    model: &ServerModel,
    options: &Options,
    mut randomness: Erasing,
) -> Result<Correlations> {
    let package = (model.package.plan.len() + model.package.hint.len()) as u64;
    let stage = async {
        welcome(channel, model).await?;
        channel.scope("base ots");
        let ot = Correlations::setup(channel, &mut randomness.next_rng()).await?;
        channel.scope(CONTROL);
        drop(randomness);
        channel.compare_sums().await?;
        Ok(ot)
    };
    in_time(options, package + OT_SETUP_BYTES, stage).await
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
            let sums = channel.sums();
            self.options.watch.holds(held(&self.slots, &self.ot));
            let next = next_request(channel, self.options.idle, &mut stop, !self.slots.is_empty()).await?;
            let Some((request, before)) = next else {
                say_goodbye(channel).await;
                return Ok(self.report);
            };
            let measurement = Measurement::resume(channel, before);
            sums.check(request.sums)?;
            self.ot.check_next_index(request.ots)?;
            match (request.action, channel.stage()) {
                (Action::Close, _) => return Ok(self.report),
                (Action::Prepare { .. }, _) if stop.is_asked() => {
                    say_goodbye(channel).await;
                    return Ok(self.report);
                }
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
fn held(slots: &VecDeque<(ServerSlot, StageReport)>, ot: &Correlations) -> Held {
    Held {
        slots: slots.len() as u64,
        slot_bytes: slots.iter().map(|(slot, _)| slot.held_bytes() as u64).sum(),
        ots: ot.available().total() as u64,
        ot_bytes: ot.held_bytes() as u64,
    }
}

/// The next request; `None` if the session is asked to end before one comes. A client with slots may use them, without a pause.
async fn next_request(
    channel: &mut Channel,
    idle: Duration,
    stop: &mut Stop,
    slots: bool,
) -> Result<Option<(Request, Traffic)>> {
    let late = |after| lowkey_mpc::error::Error::Timeout { after };
    let mut opening = std::pin::pin!(channel.recv_opening::<Request>(MAX_CONTROL));
    tokio::select! {
        biased;
        opening = tokio::time::timeout(idle, &mut opening) => return Ok(Some(opening.map_err(|_| late(idle))??)),
        () = stop.asked() => {}
    }
    if !slots {
        return Ok(None);
    }
    match tokio::time::timeout(LAST_PAUSE.min(idle), &mut opening).await {
        Ok(opening) => Ok(Some(opening?)),
        Err(_) => Ok(None),
    }
}

/// Tells a client that the server ends. It may be sending, and shall read why.
async fn say_goodbye(channel: &mut Channel) {
    channel.abort(AbortCode::Stopping as u16).await;
    channel.drain(LAST_PAUSE).await;
}

/// Ends an online stage.
async fn finish(channel: &mut Channel) -> Result<()> {
    channel.scope(CONTROL);
    Ok(channel.send_control(&Done { sums: channel.sums() }).await?)
}

async fn hello(channel: &mut Channel) -> Result<Ask> {
    channel.scope(CONTROL);
    let hello = check_hello(&channel.recv_at_most(FrameKind::Control, MAX_CONTROL).await?);
    if matches!(hello, Err(Error::Version { .. })) {
        channel.send_control(&Welcome::refusal()).await?;
    }
    hello
}

async fn welcome(channel: &mut Channel, model: &ServerModel) -> Result<()> {
    let package = &model.package;
    let size = |len: usize| u32::try_from(len).map_err(Error::internal);
    let (plan_bytes, hint_bytes) = (size(package.plan.len())?, size(package.hint.len())?);
    let (digest, epoch) = (model.digest, package.epoch);
    channel.send_control(&Welcome { version: VERSION, digest, epoch, plan_bytes, hint_bytes }).await?;
    channel.scope("plan");
    channel.send(FrameKind::Control, package.plan.clone()).await?;
    channel.scope(CONTROL);
    let accept: Accept = channel.recv_control(MAX_CONTROL).await?;
    if accept.send_hint {
        channel.scope("hint");
        for chunk in package.hint.chunks(HINT_CHUNK) {
            channel.send(FrameKind::Hint, chunk.to_vec()).await?;
            // One chunk in memory at a time, however slowly the client reads.
            channel.flush().await?;
        }
    }
    Ok(())
}
