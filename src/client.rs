//! The client's session: open it, prepare slots, infer.

use std::sync::Arc;

use lowkey_bridge::Schedule;
use lowkey_mpc::channel::{Channel, FrameKind, Limits};
use lowkey_mpc::erasing::Erasing;
use lowkey_mpc::error::Error as ProtocolError;
use lowkey_mpc::ot::base::SessionId;
use lowkey_mpc::ot::{Correlations, OtCount};
use lowkey_mpc::party::{Party, Stage};

use crate::answer::Output;
use crate::boxed::Boxed;
use crate::coins::Coins;
use crate::error::{AbortCode, Error, Misbehaviour, Result};
use crate::guard::exchange::Debts;
use crate::guard::session::client::{Guarded, GuardedSlot};
use crate::guard::session::cost;
use crate::net::Stream;
use crate::offline;
use crate::online::{self, Times};
use crate::plan::{MAX_HINT_BYTES, Reveal};
use crate::publication::{ClientModel, MAX_PLAN_BYTES, Package, ProgressHandler, read_plan};
use crate::randomness;
use crate::report::{LayerReport, Measured, Measurement, StageReport, layers};
use crate::scope::CONTROL;
use crate::session::{
    Accept, Action, Ask, Done, HINT_CHUNK, Hello, MAX_CONTROL, MAX_LISTING, Offer, Request, VERSION, Welcome,
    check_listing, check_version, is_name,
};
use crate::slot::ClientSlot;
use crate::store::{Digest, Store, StoreError};

/// How a client opens a session.
#[derive(Clone, Default)]
pub struct Options {
    /// The model to ask for; `None` where the server has only one.
    pub model: Option<String>,
    /// The only model digest to accept; `None` accepts what was seen first at this address under this name.
    pub digest: Option<Digest>,
    /// Where hints and known digests are kept; `None` keeps nothing.
    pub store: Option<Store>,
    /// The server's address, under which its digest is known.
    pub address: String,
    /// What the connection tolerates.
    pub limits: Limits,
    /// Told about long work.
    pub progress: Option<ProgressHandler>,
    /// Asks for a [guarded](crate::guard) session; with what earlier ones owe, and later ones will.
    pub guard: Option<Debts>,
}

impl Options {
    fn ask(&self) -> Result<Ask> {
        match &self.model {
            None if self.guard.is_some() => Ok(Ask::Guarded(None)),
            None => Ok(Ask::Only),
            Some(name) if is_name(name) && self.guard.is_some() => Ok(Ask::Guarded(Some(name.clone()))),
            Some(name) if is_name(name) => Ok(Ask::Model(name.clone())),
            Some(name) => Err(Error::usage(format!("{name:?} is no name of a model"), "a server lists its models")),
        }
    }

    /// Under which its digest is known.
    fn noted_as(&self) -> String {
        note_of(&self.address, self.model.as_deref())
    }
}

/// Under which a store notes the digest of the model that is asked for by this name at a server. It is the client's name, not the
/// server's: a server cannot pass off another model as a new one.
pub fn note_of(address: &str, model: Option<&str>) -> String {
    match model {
        None => address.to_owned(),
        Some(name) => format!("{name}@{address}"),
    }
}

/// A session with a server. It computes on the thread that polls it; [`crate::Client`] has threads for that.
pub struct Session {
    channel: Channel,
    model: Arc<ClientModel>,
    ot: Correlations,
    /// Gives every slot a generator of its own.
    randomness: Erasing,
    next_slot: u64,
    setup: StageReport,
    not_kept: Vec<StoreError>,
    /// Slots whose input was refused before anything was sent: the next preparations give them out.
    kept: Vec<Prepared>,
    /// Of a guarded session: its circuits and what they take.
    guarded: Option<Guarded>,
    /// Set before the first byte of a request and cleared at its end: after an error nothing more happens in this session.
    broken: bool,
}

/// What a session is made of once it is open.
struct Opened {
    model: Arc<ClientModel>,
    ot: Correlations,
    randomness: Erasing,
    setup: StageReport,
    not_kept: Vec<StoreError>,
    guarded: Option<Guarded>,
}

/// One answered input.
#[derive(Clone, Debug)]
pub struct Inference {
    /// What the client learnt.
    pub output: Output,
    /// The offline stage; all zero in the direct schedule.
    pub offline: StageReport,
    /// Slots that were opened before one was left, in a [guarded](crate::guard) session.
    pub audits: u64,
    /// The online stage.
    pub online: StageReport,
    /// Both by layer.
    pub layers: Vec<LayerReport>,
    /// By which activations were rounded, of a network that has coins.
    pub coins: Coins,
}

/// A slot and what it took to prepare it. An input moves it:
///
/// ```no_run
/// # async fn once(session: &mut lowkey::client::Session, image: &[i64]) -> lowkey::Result<()> {
/// let slot = session.prepare(lowkey::Reveal::Logits).await?;
/// session.infer(slot, image).await?;
/// # Ok(())
/// # }
/// ```
///
/// so that a second one cannot go with it,
///
/// ```compile_fail,E0382
/// # async fn twice(session: &mut lowkey::client::Session, image: &[i64]) -> lowkey::Result<()> {
/// let slot = session.prepare(lowkey::Reveal::Logits).await?;
/// session.infer(slot, image).await?;
/// session.infer(slot, image).await?;
/// # Ok(())
/// # }
/// ```
///
/// and it can neither be copied nor written down.
///
/// ```compile_fail,E0277
/// fn copied<T: Clone>() {}
/// copied::<lowkey::client::Prepared>();
/// ```
///
/// ```compile_fail,E0277
/// fn written_down<T: serde::Serialize>() {}
/// written_down::<lowkey::client::Prepared>();
/// ```
#[derive(Debug)]
pub struct Prepared {
    slot: Slot,
    reveal: Reveal,
    audits: u64,
    measured: Measured,
}

/// A slot of either kind of session.
#[derive(Debug)]
enum Slot {
    Plain(ClientSlot),
    Guarded(GuardedSlot),
}

impl Prepared {
    /// The offline stage.
    pub fn report(&self) -> &StageReport {
        &self.measured.stage
    }

    /// Slots that were opened before it, in a [guarded](crate::guard) session.
    pub fn audits(&self) -> u64 {
        self.audits
    }

    fn session(&self) -> SessionId {
        self.slot.key().0
    }
}

impl Slot {
    /// Its session, and its number there.
    fn key(&self) -> (SessionId, u64) {
        match self {
            Slot::Plain(slot) => (slot.session, slot.number),
            Slot::Guarded(slot) => (slot.session, slot.number),
        }
    }
}

impl Session {
    /// Opens a session: handshake, hint, base OTs.
    ///
    /// # Errors
    /// When the peer is not a server of this version, its model is not the expected one, or the connection fails.
    pub async fn open(stream: Box<dyn Stream>, options: Options) -> Result<Self> {
        let randomness = Erasing::new(*randomness::seed()?);
        Self::open_from(stream, options, randomness).await
    }

    /// As [`open`](Self::open), with a seed of the caller's. Whoever knows the seed can read the inputs.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    #[cfg(feature = "deterministic")]
    pub async fn open_seeded(stream: Box<dyn Stream>, options: Options, seed: [u8; 32]) -> Result<Self> {
        Self::open_from(stream, options, Erasing::new(seed)).await
    }

    fn open_from(stream: Box<dyn Stream>, options: Options, randomness: Erasing) -> Boxed<'static, Result<Self>> {
        Box::pin(async move {
            let mut channel = Channel::new(stream, Party::Client, options.limits);
            match Self::set_up(&mut channel, &options, randomness).await {
                Ok(opened) => {
                    let Opened { model, ot, randomness, setup, not_kept, guarded } = opened;
                    let (next_slot, kept, broken) = (0, Vec::new(), false);
                    Ok(Self { channel, model, ot, randomness, next_slot, setup, not_kept, kept, guarded, broken })
                }
                Err(error) => {
                    give_up(&mut channel, &error).await;
                    Err(error.or_declined())
                }
            }
        })
    }

    async fn set_up(channel: &mut Channel, options: &Options, mut randomness: Erasing) -> Result<Opened> {
        let measurement = Measurement::start(channel, Stage::Setup);
        let welcome = greet(channel, options.ask()?).await?;
        let noted = check_digest(&welcome, options)?;
        channel.scope("plan");
        let text = receive_plan(channel, &welcome).await?;

        let length = Package::file_bytes(text.len(), welcome.hint_bytes as usize);
        let kept = options.store.as_ref().and_then(|store| store.model(&welcome.digest, length));
        let kept = kept.and_then(|bytes| Package::from_bytes(&bytes)).filter(|p| p.digest() == welcome.digest);
        // A plan is refused before its hint is asked for.
        let plan = match &kept {
            Some(package) => package.derive()?,
            None => read_plan(&text, welcome.hint_bytes as usize)?,
        };
        channel.scope(CONTROL);
        channel.send_control(&Accept { send_hint: kept.is_none() }).await?;
        let (package, is_new) = match kept {
            Some(package) => (package, false),
            None => (receive_hint(channel, &welcome, text).await?, true),
        };
        let progress = |done, all| options.progress.iter().for_each(|told| told(done, all));
        let model = ClientModel::open(plan, &package, &progress)?;
        channel.scope("base ots");
        let mut ot = Correlations::setup(channel, &mut randomness.next_rng()).await?;
        channel.scope(CONTROL);
        channel.compare_sums().await?;
        let guarded = match &options.guard {
            Some(debts) => {
                debts.pay(channel).await?;
                Some(Guarded::new(&model, &mut ot, debts.clone())?)
            }
            None => None,
        };
        let setup = measurement.finish(channel).stage;
        let mut not_kept = Vec::new();
        if let Some(store) = &options.store {
            if is_new {
                not_kept.extend(store.keep_model(&welcome.digest, &package.to_bytes()).err());
            }
            if noted != Some(welcome.digest) {
                not_kept.extend(store.remember(&options.noted_as(), &welcome.digest).err());
            }
        }
        Ok(Opened { model, ot, randomness, setup, not_kept, guarded })
    }

    /// The model that the server published.
    pub fn model(&self) -> &Arc<ClientModel> {
        &self.model
    }

    /// The setup stage.
    pub fn setup(&self) -> &StageReport {
        &self.setup
    }

    /// Why files of the store could not be written. The session does without; the next one gets the hint again, and compares the model
    /// with nothing.
    pub fn not_kept(&self) -> &[StoreError] {
        &self.not_kept
    }

    /// The connection, for its counters.
    pub fn channel(&mut self) -> &mut Channel {
        &mut self.channel
    }

    /// Prepares a slot: everything that does not depend on the input. A slot whose input was refused comes back first.
    ///
    /// # Errors
    /// When the connection or the peer fails. The session is over then.
    pub async fn prepare(&mut self, reveal: Reveal) -> Result<Prepared> {
        if let Some(index) = self.kept.iter().position(|kept| kept.reveal == reveal && !self.broken) {
            return Ok(self.kept.remove(index));
        }
        let number = self.begin()?;
        let outcome = self.prepare_slot(number, reveal).await;
        self.end(outcome).await
    }

    fn prepare_slot(&mut self, number: u64, reveal: Reveal) -> Boxed<'_, Result<Prepared>> {
        Box::pin(async move {
            let mut measurement = Measurement::start(&mut self.channel, Stage::Offline);
            self.request(Action::Prepare { slot: number, reveal }).await?;
            if let Some(guarded) = &mut self.guarded {
                let (channel, model, ot, next) = (&mut self.channel, &self.model, &mut self.ot, &mut self.next_slot);
                let (slot, audits) = guarded.prepare(channel, model, ot, &mut self.randomness, next, reveal).await?;
                let circuits = guarded.circuits();
                measurement.charge(cost::demand(circuits, reveal) * (audits as usize + 1));
                let measured = measurement.finish(&self.channel);
                let measured = cost::charged(measured, Party::Client, circuits.triples(reveal));
                return Ok(Prepared { slot: Slot::Guarded(slot), reveal, audits, measured });
            }
            let key = (self.ot.session(), number);
            let rng = &mut self.randomness.next_rng();
            let slot = offline::client(&mut self.channel, &self.model, &mut self.ot, key, reveal, rng).await?;
            measurement.charge(self.model.plan.demand(reveal));
            let measured = measurement.finish(&self.channel);
            Ok(Prepared { slot: Slot::Plain(slot), reveal, audits: 0, measured })
        })
    }

    /// Answers an input with a prepared slot, which is used up as soon as anything is sent. `input` has the values of the input tensor,
    /// row-major.
    ///
    /// # Errors
    /// When the input is not in the network's range or shape (nothing is sent, so that the server does not learn it; the slot is
    /// still good at both ends, and the next [`prepare`](Self::prepare) gives it out), or the connection or the peer fails (the
    /// session is over). There is no retry: an input goes with one slot only.
    pub async fn infer(&mut self, prepared: Prepared, input: &[i64]) -> Result<Inference> {
        if prepared.session() != self.ot.session() {
            return Err(Error::usage("the slot belongs to another session", "prepare one in this session"));
        }
        if self.broken {
            return Err(Error::SessionOver);
        }
        if let Err(error) = self.check_input(input) {
            self.kept.push(prepared);
            return Err(error);
        }
        self.broken = true;
        let Prepared { slot, measured, audits, .. } = prepared;
        let mut times = Times::new();
        let outcome = self.run_slot(slot, input, &mut times).await;
        let ((output, coins), online) = self.end(outcome).await?;
        let layers = layers(&measured, &online, &times, &self.model.plan.architecture);
        Ok(Inference { output, offline: measured.stage, audits, online: online.stage, layers, coins })
    }

    fn run_slot<'a>(
        &'a mut self,
        slot: Slot,
        input: &'a [i64],
        times: &'a mut Times,
    ) -> Boxed<'a, Result<((Output, Coins), Measured)>> {
        Box::pin(async move {
            let measurement = Measurement::start(&mut self.channel, Stage::Online);
            self.request(Action::Run { slot: slot.key().1 }).await?;
            let output = match slot {
                Slot::Plain(slot) => online::client(&mut self.channel, &self.model, slot, input, times).await?,
                Slot::Guarded(slot) => {
                    let guarded =
                        self.guarded.as_mut().ok_or_else(|| Error::internal("a slot of a guarded session"))?;
                    (guarded.infer(&mut self.channel, &self.model, slot, input, times).await?, Coins::default())
                }
            };
            self.done().await?;
            Ok((output, measurement.finish(&self.channel)))
        })
    }

    /// Answers an input in the direct schedule: nothing was prepared.
    ///
    /// # Errors
    /// As [`infer`](Self::infer).
    pub async fn infer_direct(&mut self, reveal: Reveal, input: &[i64]) -> Result<Inference> {
        if self.guarded.is_some() {
            return Err(Error::usage("a guarded session has no direct schedule", "prepare slots"));
        }
        self.check_input(input)?;
        let number = self.begin()?;
        let mut times = Times::new();
        let outcome = self.run_direct(number, reveal, input, &mut times).await;
        let ((output, coins), online) = self.end(outcome).await?;
        let none = Measured::default();
        let layers = layers(&none, &online, &times, &self.model.plan.architecture);
        Ok(Inference { output, offline: none.stage, audits: 0, online: online.stage, layers, coins })
    }

    fn run_direct<'a>(
        &'a mut self,
        number: u64,
        reveal: Reveal,
        input: &'a [i64],
        times: &'a mut Times,
    ) -> Boxed<'a, Result<((Output, Coins), Measured)>> {
        Box::pin(async move {
            let mut measurement = Measurement::start(&mut self.channel, Stage::Online);
            self.request(Action::Direct { slot: number, reveal }).await?;
            let (channel, model, ot) = (&mut self.channel, &self.model, &mut self.ot);
            let rng = &mut self.randomness.next_rng();
            let output = online::client_direct(channel, model, ot, reveal, input, rng, times).await?;
            self.done().await?;
            measurement.charge(self.model.plan.demand(reveal));
            Ok((output, measurement.finish(&self.channel)))
        })
    }

    /// Prepares and infers.
    ///
    /// # Errors
    /// As [`prepare`](Self::prepare) and [`infer`](Self::infer).
    pub async fn answer(&mut self, schedule: Schedule, reveal: Reveal, input: &[i64]) -> Result<Inference> {
        self.check_input(input)?;
        match schedule {
            Schedule::Prepared => {
                let slot = self.prepare(reveal).await?;
                self.infer(slot, input).await
            }
            Schedule::Direct => self.infer_direct(reveal, input).await,
        }
    }

    /// OTs that are left from earlier batches.
    pub fn ots_left(&self) -> OtCount {
        self.ot.available()
    }

    /// Ends the session.
    ///
    /// # Errors
    /// When the connection fails.
    pub async fn close(mut self) -> Result<()> {
        if !self.broken {
            self.channel.enter(Stage::Online);
            self.request(Action::Close).await?;
        }
        Ok(self.channel.close().await?)
    }

    pub(crate) fn check_input(&self, input: &[i64]) -> Result<()> {
        let info = self.model.plan.input();
        if input.len() != info.elements() {
            let (found, wanted) = (input.len(), info.elements());
            let what = format!("the input has {found} values, the network reads {wanted} {:?}", info.shape);
            return Err(Error::usage(what, "give one value per channel, row and column"));
        }
        match input.iter().find(|&&value| !info.range.contains(value)) {
            None => Ok(()),
            Some(value) => {
                let what =
                    format!("the input has the value {value}, the network reads {}..={}", info.range.lo, info.range.hi);
                Err(Error::usage(what, "quantise the input as the model says"))
            }
        }
    }

    /// True after an error: nothing more happens in this session.
    pub(crate) fn is_over(&self) -> bool {
        self.broken
    }

    /// Burns the next slot number.
    fn begin(&mut self) -> Result<u64> {
        if self.broken {
            return Err(Error::SessionOver);
        }
        self.broken = true;
        self.next_slot += 1;
        Ok(self.next_slot - 1)
    }

    async fn end<T>(&mut self, outcome: Result<T>) -> Result<T> {
        let outcome = outcome.map_err(Error::or_declined);
        match &outcome {
            Ok(_) => self.broken = false,
            Err(error) => give_up(&mut self.channel, error).await,
        }
        outcome
    }

    async fn request(&mut self, action: Action) -> Result<()> {
        self.channel.scope(CONTROL);
        let request = Request { action, ots: self.ot.next_index(), sums: self.channel.sums() };
        Ok(self.channel.send_control(&request).await?)
    }

    /// The end of an online stage: without it, an answer is none.
    async fn done(&mut self) -> Result<()> {
        self.channel.scope(CONTROL);
        let sums = self.channel.sums();
        let done: Done = self.channel.recv_control(MAX_CONTROL).await?;
        Ok(sums.check(done.sums)?)
    }
}

/// Says which version this is, and hears what the server has.
async fn greet(channel: &mut Channel, ask: Ask) -> Result<Welcome> {
    channel.scope(CONTROL);
    channel.send_control(&Hello::new(ask)).await?;
    let welcome = channel.recv_control::<Welcome>(MAX_CONTROL).await.map_err(of_version_1)?;
    check_version(Party::Server, welcome.version).map(|()| welcome)
}

/// Servers of version 1 refuse without a welcome; all others name their version.
fn of_version_1(error: ProtocolError) -> Error {
    match error {
        ProtocolError::PeerAborted(code) if code == AbortCode::Version as u16 => {
            Error::Version { peer: Party::Server, found: 1, own: VERSION }
        }
        error => error.into(),
    }
}

/// Asks a server for the list of its models.
///
/// # Errors
/// When the peer is not a server of this version, it has no room, its list is none, or the connection fails.
pub async fn models(stream: Box<dyn Stream>, limits: Limits) -> Result<Vec<Offer>> {
    let mut channel = Channel::new(stream, Party::Client, limits);
    let outcome = async {
        channel.scope(CONTROL);
        channel.send_control(&Hello::new(Ask::List)).await?;
        check_listing(&channel.recv_at_most(FrameKind::Control, MAX_LISTING).await.map_err(of_version_1)?)
    }
    .await;
    match &outcome {
        // The server closes as well, and may have done so.
        Ok(_) => drop(channel.close().await),
        Err(error) => give_up(&mut channel, error).await,
    }
    outcome.map_err(Error::or_declined)
}

/// Tells the peer why, as far as it may know.
pub(crate) async fn give_up(channel: &mut Channel, error: &Error) {
    if let Some(number) = error.abort_number() {
        channel.abort(number).await;
    }
}

/// The text of the server's plan.
///
/// # Errors
/// When it, or the hint, is longer than any that is used; those of the channel.
pub(crate) async fn receive_plan(channel: &mut Channel, welcome: &Welcome) -> Result<Vec<u8>> {
    let Welcome { plan_bytes: plan, hint_bytes: hint, .. } = *welcome;
    if plan as usize > MAX_PLAN_BYTES || u64::from(hint) > MAX_HINT_BYTES {
        return Err(Error::Peer(Party::Server, Misbehaviour::Sizes { plan, hint }));
    }
    Ok(channel.recv(FrameKind::Control, plan as usize).await?)
}

/// Receives the hint, whose length suits the plan, and checks the package against the announced digest.
pub(crate) async fn receive_hint(channel: &mut Channel, welcome: &Welcome, plan: Vec<u8>) -> Result<Package> {
    channel.scope("hint");
    let mut hint = Vec::new();
    while hint.len() < welcome.hint_bytes as usize {
        let rest = welcome.hint_bytes as usize - hint.len();
        hint.extend_from_slice(&channel.recv(FrameKind::Hint, rest.min(HINT_CHUNK)).await?);
    }
    let package = Package { plan, epoch: welcome.epoch, hint };
    if package.digest() != welcome.digest {
        return Err(Error::Peer(Party::Server, Misbehaviour::OtherModel));
    }
    Ok(package)
}

/// Compares the announced digest with the pinned or known one; returns the known one. A note that cannot be read is made anew where a
/// digest is pinned.
fn check_digest(welcome: &Welcome, options: &Options) -> Result<Option<Digest>> {
    let found = welcome.digest;
    let known = match &options.store {
        Some(store) => store.known(&options.noted_as()).or_else(|error| options.digest.map(|_| None).ok_or(error))?,
        None => None,
    };
    let (expected, noted) = match (options.digest, known) {
        (Some(pinned), _) => (pinned, None),
        (None, Some(known)) => (known, Some(options.noted_as())),
        (None, None) => return Ok(None),
    };
    if found == expected { Ok(known) } else { Err(Error::Digest { found, expected, noted }) }
}
