//! A training from its terms to its weights: what each party does in a session.
//!
//! ```text
//!     setup     client: data                                server: model
//!               Ask                             <------>    Ask                   terms
//!               32 random bytes, digest         <------>    ..                    session
//!               silent OT: base OTs             <------>
//!               checksums                       <------>
//!     offline   a batch of silent OTs, where too few are left for the next step
//!     online    a step; both stages as often as the terms say
//!     offline   checksums                       <------>    every some steps, before a checkpoint
//!     online    checksums                       <------>
//!               shares of the weights, to whom the terms give them
//!               checksums                       <------>
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use lowkey_models::Network;
use lowkey_mpc::channel::{Channel, Limits};
use lowkey_mpc::demand::Demand;
use lowkey_mpc::erasing::{Erasing, OnceRng};
use lowkey_mpc::ot::Correlations;
use lowkey_mpc::party::{Party, Stage};
use rand::Rng;
use zeroize::Zeroizing;

use super::batch::Batch;
use super::checkpoint::{self, About, Checkpoint};
use super::coins::Recorded;
use super::cost;
use super::export;
use super::format::Format;
use super::held::Held;
use super::lattice::Lattice;
use super::plan::StepPlan;
use super::products::StepError;
use super::samples::Samples;
use super::session::agree;
use super::start;
use super::step::Trainer;
use super::meeting::Met;
use super::terms::{Ask, Mark, Opened, Terms, Wish, settle};
use crate::client::give_up;
use crate::error::{Error, Misbehaviour, Result};
use crate::net::Stream;
use crate::randomness;
use crate::report::{Measurement, StageReport};
use crate::store::files;
use crate::threads;

/// Flights that a rectifier and the softmax may take: those of least bytes within them.
pub(super) const FLIGHTS: [u32; 2] = [8, 40];

/// A party's part.
#[derive(Clone, Debug)]
pub enum Part {
    /// The data owner, the client: samples.
    Data(Samples),
    /// The model owner, the server: a network that a training wrote, to go on from its weights; without it draws the first ones.
    Model(Option<Box<Network>>),
}

impl Part {
    /// Which party has it.
    pub fn party(&self) -> Party {
        match self {
            Self::Data(_) => Party::Client,
            Self::Model(_) => Party::Server,
        }
    }
}

/// Told of every step.
pub type Told = Arc<dyn Fn(&Progress) + Send + Sync>;

/// How a party trains.
#[derive(Clone)]
pub struct Settings {
    /// What it asks for.
    pub wish: Wish,
    /// Its checkpoints; none are kept without.
    pub checkpoint: Option<PathBuf>,
    /// Go on from there.
    pub resume: bool,
    /// What the connection tolerates.
    pub limits: Limits,
    /// Told of every step.
    pub told: Option<Told>,
}

impl Settings {
    /// To train as `wish` says, without checkpoints.
    pub fn new(wish: Wish) -> Self {
        Self { wish, checkpoint: None, resume: false, limits: Limits::default(), told: None }
    }

    /// Finds what is wrong before there is a connection; a training does it too.
    ///
    /// # Errors
    /// When no training can be as it is asked for; when a checkpoint is no checkpoint of this party, network and samples, or one is there
    /// and nobody asked to go on from it.
    pub fn check(&self, part: &Part) -> Result<()> {
        Kept::read(part, self).map(drop)
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Settings({:?}, checkpoint {:?}, resume: {})", self.wish, self.checkpoint, self.resume)
    }
}

/// Whether a file can be put at `path`, in place of one that may be there: found out by putting one beside it, which is taken away again.
///
/// # Errors
/// When it cannot.
pub fn check_target(path: &Path) -> Result<()> {
    let path = &std::path::absolute(path).map_err(|error| Error::file(path, error))?;
    Ok(files::check_target(path)?)
}

/// How far a training is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Steps done, those of earlier sessions counted.
    pub done: u64,
    /// Steps in all.
    pub steps: u64,
    /// Steps of an epoch.
    pub steps_per_epoch: u64,
    /// Steps of this session.
    pub here: u64,
    /// Seconds that these took.
    pub seconds: f64,
    /// Bytes that these took, both ways.
    pub bytes: u64,
}

impl Progress {
    /// Seconds to come, if steps take what they took.
    pub fn seconds_left(&self) -> f64 {
        (self.steps - self.done) as f64 * self.seconds / self.here.max(1) as f64
    }
}

/// What came of a training.
#[derive(Debug)]
pub struct Trained {
    /// What both parties had agreed on.
    pub terms: Terms,
    /// The trained network, for whom the terms give the weights to.
    pub network: Option<Network>,
    /// Steps of this session.
    pub steps: u64,
    /// Handshake and base OTs.
    pub setup: StageReport,
    /// Batches of OTs for the steps of this session; what these consumed is charged. Its time is that of the steps.
    pub ots: StageReport,
    /// All steps of this session but for these batches; its time is the whole one.
    pub online: StageReport,
    /// The opening of the weights.
    pub closing: StageReport,
}

/// Takes part in a training over `stream`: the data owner as the client, the model owner as the server.
///
/// # Errors
/// When the parties do not ask for the same; when a checkpoint cannot be read or written, or one is there and nobody asked to go on from
/// it; when the connection or the peer fails: go on from the checkpoints then.
pub async fn train(stream: impl Stream + 'static, part: Part, settings: Settings) -> Result<Trained> {
    settings.check(&part)?;
    match part.party() {
        Party::Client => train_over(Channel::new(stream, Party::Client, settings.limits), None, part, settings).await,
        Party::Server => Met::meet(stream, settings.limits).await?.train(part, settings).await,
    }
}

/// The same, where the peer has said what it asks for.
pub(super) async fn train_over(
    mut channel: Channel,
    heard: Option<Ask>,
    part: Part,
    settings: Settings,
) -> Result<Trained> {
    let randomness = Erasing::new(*randomness::seed()?);
    threads::converse(async move || {
        let kept = Kept::read(&part, &settings)?;
        match follow(&mut channel, part, &settings, kept, heard, randomness).await {
            Ok(trained) => {
                // The weights are there, whatever becomes of the connection.
                let _ = channel.close().await;
                Ok(trained)
            }
            Err(error) => {
                give_up(&mut channel, &error).await;
                Err(error)
            }
        }
    })
    .await?
}

/// The whole session.
async fn follow(
    channel: &mut Channel,
    part: Part,
    settings: &Settings,
    kept: Kept,
    heard: Option<Ask>,
    randomness: Erasing,
) -> Result<Trained> {
    let mut run = Run::open(channel, part, settings, kept, heard, randomness, false).await?;
    let mut ots = Measurement::start(channel, Stage::Offline);
    let online = Measurement::start(channel, Stage::Online);
    let (started, before) = (Instant::now(), channel.traffic().total().bytes());
    let (first, steps) = (run.done()?, run.terms.steps());
    while run.done()? < steps {
        ots.charge(run.step(channel, None).await?);
        let done = run.done()?;
        if let Some(told) = &settings.told {
            let seconds = started.elapsed().as_secs_f64();
            let bytes = channel.traffic().total().bytes() - before;
            let steps_per_epoch = run.terms.steps_per_epoch();
            told(&Progress { done, steps, steps_per_epoch, here: done - first, seconds, bytes });
        }
        let due = run.terms.every > 0 && done.is_multiple_of(run.terms.every.into());
        if due || done == steps {
            run.checkpoint(channel, settings).await?;
        }
    }
    if first == steps {
        // Nothing was left to do but the opening, which is noted.
        run.checkpoint(channel, settings).await?;
    }
    let here = run.done()? - first;
    let online = online.finish(channel).stage;
    let closing = Measurement::start(channel, Stage::Online);
    let (terms, setup, masters) = run.close(channel).await?;
    let closing = closing.finish(channel).stage;
    let ots = ots.finish(channel).stage;
    let name = format!("trained-{}", terms.net);
    let network = masters.map(|masters| export::network(&terms.net, &terms.format, &masters, &name)).transpose()?;
    Ok(Trained { terms, network, steps: here, setup, ots, online, closing })
}

/// What a training begins with: checkpoints to go on from, masters of a network that is given.
pub(super) struct Kept {
    checkpoints: Vec<Checkpoint>,
    masters: Option<Vec<Vec<i64>>>,
}

impl Kept {
    /// Those that the settings name.
    ///
    /// # Errors
    /// When one is there and should not be, or the other way round, or it is another run's.
    pub(super) fn read(part: &Part, settings: &Settings) -> Result<Self> {
        settings.wish.check()?;
        let masters = match part {
            Part::Model(Some(network)) => Some(export::masters(&settings.wish.net, &Format::NARROW, network)?),
            Part::Model(None) | Part::Data(_) => None,
        };
        let Some(path) = &settings.checkpoint else {
            return match settings.resume {
                true => Err(Error::usage("no checkpoint to go on from", "name its file")),
                false => Ok(Self { checkpoints: Vec::new(), masters }),
            };
        };
        let samples = match part {
            Part::Data(samples) => Some((samples.len() as u64, samples.digest())),
            Part::Model(_) => None,
        };
        if !settings.resume && checkpoint::is_at(path) {
            let what = format!("{}: a checkpoint is there, and a new training would replace it", path.display());
            return Err(Error::usage(what, "resume from it, or name another file"));
        }
        let found = match settings.resume {
            true => checkpoint::read(path, part.party(), &settings.wish.net, &Format::NARROW, samples)?,
            false => Vec::new(),
        };
        check_target(path)?;
        match settings.resume && found.is_empty() {
            true => Err(Error::usage(format!("{}: no checkpoint there", path.display()), "begin a new training")),
            false => Ok(Self { checkpoints: found, masters }),
        }
    }

    fn marks(&self) -> Vec<Mark> {
        self.checkpoints.iter().map(Checkpoint::mark).collect()
    }
}

/// A party in a training under way.
pub(super) struct Run {
    pub(super) terms: Terms,
    party: Party,
    trainer: Trainer<Lattice<OnceRng>>,
    correlations: Correlations,
    /// By rate.
    plans: BTreeMap<u8, StepPlan>,
    coins: bool,
    samples: Option<Samples>,
    about: About,
    /// Of which epoch, and the order of its samples.
    order: Option<(u64, Zeroizing<Vec<u32>>)>,
    setup: StageReport,
}

impl Run {
    /// Agrees on the terms, and makes everything ready. With `coins` the client records its coins.
    pub(super) async fn open(
        channel: &mut Channel,
        part: Part,
        settings: &Settings,
        kept: Kept,
        heard: Option<Ask>,
        mut randomness: Erasing,
        coins: bool,
    ) -> Result<Self> {
        let measurement = Measurement::start(channel, Stage::Setup);
        let (party, samples) = match part {
            Part::Data(samples) => (Party::Client, Some(samples)),
            Part::Model(_) => (Party::Server, None),
        };
        let count = samples.as_ref().map(|samples| samples.len() as u64);
        let terms = settle(channel, &settings.wish, count, &kept.marks(), heard).await?;
        let from =
            terms.from.and_then(|mark| kept.checkpoints.into_iter().find(|checkpoint| checkpoint.mark().is(&mark)));
        if let (Some(from), Some(path)) = (&from, &settings.checkpoint) {
            from.make_last(path)?;
        }
        let (held, about) = from.map(|Checkpoint { held, about, .. }| (held, about)).unzip();
        if let Some(about) = about.as_ref().filter(|about: &&About| about.samples != terms.samples) {
            let [own, theirs] = [about.samples, terms.samples].map(|samples| samples.to_string());
            return Err(Error::Terms { what: "samples", own, peer: party.other(), theirs });
        }
        let mut rng = randomness.next_rng();
        let mut fresh = || {
            let mut bytes = [0; 32];
            rng.fill_bytes(&mut bytes);
            bytes
        };
        let (net, format) = (&terms.net, terms.format);
        let digest = terms.digest();
        let agreed = agree(channel, party, net, &format, held.as_ref(), &digest, fresh());
        let agreed = agreed.await.map_err(|error| of_step(error, party))?;
        let mut about = about.unwrap_or_else(|| {
            // Only a checkpoint has it.
            let kept = samples.as_ref().filter(|_| settings.checkpoint.is_some());
            let digest = kept.map_or([0; 32], Samples::digest);
            let order = if samples.is_some() { fresh() } else { [0; 32] };
            About { samples: terms.samples, digest, order, opened: Opened::default() }
        });
        // The peer may know of an opening that this party was stopped before.
        about.opened = terms.from.map_or(about.opened, |mark| mark.opened);
        let plan = plan(&terms, terms.rates[0], coins)?;
        let (answers, _) = cost::answers(&plan).map_err(Error::internal)?;
        let lattice = Lattice::new(&plan, answers, party, &agreed, randomness.next_rng()).map_err(Error::internal)?;
        let held = match (held, party) {
            (Some(held), _) => held,
            (None, Party::Client) => Held::first(party, net, None, &agreed),
            (None, Party::Server) => {
                let drawn = || start::masters(net, &format, &mut randomness.next_rng());
                Held::first(party, net, Some(&kept.masters.unwrap_or_else(drawn)), &agreed)
            }
        };
        let trainer = Trainer::new(party, agreed, lattice, held).map_err(|error| of_step(error, party))?;
        let correlations = Correlations::setup(channel, &mut randomness.next_rng()).await?;
        channel.compare_sums().await?;
        let setup = measurement.finish(channel).stage;
        let plans = BTreeMap::from([(plan.rate, plan)]);
        Ok(Self { terms, party, trainer, correlations, plans, coins, samples, about, order: None, setup })
    }

    /// Steps done.
    pub(super) fn done(&self) -> Result<u64> {
        Ok(self.held()?.done())
    }

    pub(super) fn held(&self) -> Result<&Held> {
        self.trainer.held().map_err(|error| of_step(error, self.party))
    }

    /// The client's next batch.
    pub(super) fn batch(&mut self) -> Result<Option<(Vec<i64>, Vec<u8>)>> {
        let done = self.done()?;
        let Some(samples) = &self.samples else { return Ok(None) };
        let (epoch, batch) = (done / self.terms.steps_per_epoch(), done % self.terms.steps_per_epoch());
        let order = match &self.order {
            Some((of, order)) if *of == epoch => order,
            _ => {
                let order = Zeroizing::new(samples.order(&self.about.order, epoch));
                &self.order.insert((epoch, order)).1
            }
        };
        Ok(Some(samples.batch(&self.terms.net, order, batch as usize)))
    }

    /// One step. Returns what it consumed.
    pub(super) async fn step(&mut self, channel: &mut Channel, coins: Option<&mut Recorded>) -> Result<Demand> {
        let rate = self.terms.rate(self.done()?);
        if !self.plans.contains_key(&rate) {
            self.plans.insert(rate, plan(&self.terms, rate, self.coins)?);
        }
        let values = self.batch()?;
        let batch =
            values.as_ref().map(|(inputs, labels)| Batch::new(&self.terms.net, &self.terms.format, inputs, labels));
        let batch = batch.transpose().map_err(Error::internal)?;
        let plan = &self.plans[&rate];
        let need = plan.cost().ots;
        channel.enter(Stage::Offline);
        self.correlations.ensure(channel, need).await?;
        // A visit for each step: flights are counted in 16 bits.
        channel.enter(Stage::Online);
        let stepped = self.trainer.step(plan, channel, &mut self.correlations, batch, coins).await;
        stepped.map_err(|error| of_step(error, self.party))?;
        Ok(Demand { ots: need })
    }

    /// Writes a checkpoint once both know that they received what was sent. After the last step it says to whom the weights are opened next.
    async fn checkpoint(&mut self, channel: &mut Channel, settings: &Settings) -> Result<()> {
        channel.enter(Stage::Offline);
        channel.compare_sums().await?;
        let done = self.done()?;
        if done == self.terms.steps() {
            self.about.opened.note(self.terms.weights_to, done);
        }
        self.keep(settings)
    }

    /// Writes a checkpoint, if the settings name a file for it.
    pub(super) fn keep(&self, settings: &Settings) -> Result<()> {
        let Some(path) = &settings.checkpoint else { return Ok(()) };
        checkpoint::write(path, self.party, &self.terms.net, &self.terms.format, &self.about, self.held()?)
    }

    /// Opens the masters to whom the terms give them.
    async fn close(self, channel: &mut Channel) -> Result<(Terms, StageReport, Option<Vec<Vec<i64>>>)> {
        // Nothing is opened before both have written that it is.
        channel.compare_sums().await?;
        let (party, width) = (self.party, self.terms.format.held);
        let mut masters = None;
        for to in [Party::Server, Party::Client].into_iter().filter(|to| self.terms.weights_to.reaches(*to)) {
            let opened = self.held()?.open(party, to, width, channel).await;
            masters = opened.map_err(|error| of_step(error, party))?.or(masters);
        }
        channel.compare_sums().await?;
        Ok((self.terms, self.setup, masters))
    }
}

fn plan(terms: &Terms, rate: u8, coins: bool) -> Result<StepPlan> {
    StepPlan::new(&terms.net, terms.format, rate, FLIGHTS, coins).map_err(Error::internal)
}

/// Whose fault an error of a step is.
fn of_step(error: StepError, party: Party) -> Error {
    match error {
        StepError::Protocol(error) => error.into(),
        StepError::Product(error) if error.is_peer_fault() => {
            Error::Peer(party.other(), Misbehaviour::Ciphertexts(error))
        }
        error @ (StepError::Product(_) | StepError::Lost | StepError::OtherShares) => Error::internal(error),
    }
}

#[cfg(test)]
mod tests;
