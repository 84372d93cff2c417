//! A training from its terms to its weights: what each party does in a session.
//!
//! ```text
//!     setup     client: data                                server: model
//!               Ask                             <------>    Ask                   terms
//!               32 random bytes, digest         <------>    ..                    session
//!               silent OT: base OTs             <------>
//!               checksums                       <------>
//!     offline   features by private inference, of a head              features
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

use super::backbone::Backbone;
use super::batch::{Batch, Given};
use super::checkpoint::{self, About, Checkpoint};
use super::coins::Recorded;
use super::cost;
use super::export;
use super::features::Extraction;
use super::format::{BATCH, Format};
use super::held::{Held, Words};
use super::lattice::Lattice;
use super::meeting::Met;
use super::plan::StepPlan;
use super::products::StepError;
use super::samples::{Pictures, Samples, chosen, shuffled};
use super::session::agree;
use super::start;
use super::step::Trainer;
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
    /// The same, of a head: what the model owner's network reads.
    Pictures(Pictures),
    /// The model owner, the server: a network that a training wrote, to go on from its weights; without it draws the first ones. Of a head: the
    /// network whose last layer is trained.
    Model(Option<Box<Network>>),
}

impl Part {
    /// Which party has it.
    pub fn party(&self) -> Party {
        match self {
            Self::Data(_) | Self::Pictures(_) => Party::Client,
            Self::Model(_) => Party::Server,
        }
    }
}

/// Told of every step.
pub type Told = Arc<dyn Fn(&Progress) + Send + Sync>;
/// Told of every sample whose features are shared: how many are, of how many.
pub type ToldOfFeatures = Arc<dyn Fn(u64, u64) + Send + Sync>;

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
    /// Told of every sample before the first step of a head.
    pub told_of_features: Option<ToldOfFeatures>,
}

impl Settings {
    /// To train as `wish` says, without checkpoints.
    pub fn new(wish: Wish) -> Self {
        let (checkpoint, limits, told, told_of_features) = (None, Limits::default(), None, None);
        Self { wish, checkpoint, resume: false, limits, told, told_of_features }
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
    /// Private inferences up to the features, where a head was trained on them in this session.
    pub features: Option<StageReport>,
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
    let features = run.features.take();
    if features.is_some() {
        // They took long.
        run.checkpoint(channel, settings).await?;
    }
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
    let backbone = run.backbone.take();
    let (terms, setup, masters) = run.close(channel).await?;
    let closing = closing.finish(channel).stage;
    let ots = ots.finish(channel).stage;
    let name = format!("trained-{}", terms.net);
    let network = masters.map(|masters| match (&backbone, &masters[..]) {
        (Some(backbone), [head]) => backbone.with_head(&terms.format, head),
        _ => export::network(&terms.net, &terms.format, &masters, &name),
    });
    Ok(Trained { terms, network: network.transpose()?, steps: here, setup, features, ots, online, closing })
}

/// What a training begins with: checkpoints to go on from, masters of a network that is given, or that network whose head is trained.
pub(super) struct Kept {
    checkpoints: Vec<Checkpoint>,
    masters: Option<Vec<Vec<i64>>>,
    backbone: Option<Backbone>,
    /// What is asked for, with the number of features where this party knows it.
    wish: Wish,
}

impl Kept {
    /// Those that the settings name.
    ///
    /// # Errors
    /// When one is there and should not be, or the other way round, or it is another run's.
    pub(super) fn read(part: &Part, settings: &Settings) -> Result<Self> {
        let mut wish = settings.wish.clone();
        let is_head = wish.net.is_on_features();
        let (mut masters, mut backbone) = (None, None);
        match part {
            Part::Model(None) if is_head => {
                return Err(Error::usage("a head, and no network that it belongs to", "name that network"));
            }
            Part::Data(_) if is_head => return Err(Error::internal("samples of a head are pictures")),
            Part::Pictures(_) if !is_head => return Err(Error::internal("pictures are for heads")),
            Part::Model(Some(network)) if is_head => {
                let of = Backbone::of(network)?;
                wish.net = of.head();
                // Nothing is known before the first sample, and nothing has to be.
                masters = Some(vec![vec![0; wish.net.weights(0)]]);
                backbone = Some(of);
            }
            Part::Model(Some(network)) => masters = Some(export::masters(&wish.net, &Format::NARROW, network)?),
            Part::Model(None) | Part::Data(_) | Part::Pictures(_) => {}
        }
        wish.check()?;
        let Some(path) = &settings.checkpoint else {
            return match settings.resume {
                true => Err(Error::usage("no checkpoint to go on from", "name its file")),
                false => Ok(Self { checkpoints: Vec::new(), masters, backbone, wish }),
            };
        };
        let samples = match part {
            Part::Data(samples) => Some((samples.len() as u64, samples.digest())),
            Part::Pictures(pictures) => Some((pictures.labels().len() as u64, pictures.digest())),
            Part::Model(_) => None,
        };
        if !settings.resume && checkpoint::is_at(path) {
            let what = format!("{}: a checkpoint is there, and a new training would replace it", path.display());
            return Err(Error::usage(what, "resume from it, or name another file"));
        }
        let found = match settings.resume {
            true => checkpoint::read(path, part.party(), &wish.net, &Format::NARROW, samples)?,
            false => Vec::new(),
        };
        check_target(path)?;
        match settings.resume && found.is_empty() {
            true => Err(Error::usage(format!("{}: no checkpoint there", path.display()), "begin a new training")),
            false => Ok(Self { checkpoints: found, masters, backbone, wish }),
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
    source: Source,
    about: About,
    /// Of which epoch, and the order of its samples.
    order: Option<(u64, Zeroizing<Vec<u32>>)>,
    setup: StageReport,
    /// The network whose head is trained, at its owner.
    backbone: Option<Backbone>,
    /// What the features took, if that was in this session.
    features: Option<StageReport>,
    /// Coins of the features.
    #[cfg(test)]
    pub(super) feature_coins: Recorded,
}

/// What a party's batches are made of.
enum Source {
    /// The client has the samples, and this is the server.
    Nothing,
    Samples(Samples),
    /// Shares of a row for every sample; at the client their classes too.
    Features(Words, Option<Zeroizing<Vec<u8>>>),
}

/// A batch of either kind.
pub(super) enum Chosen {
    Nothing,
    Batch(Vec<i64>, Vec<u8>),
    Shares(Words, Option<Vec<u8>>),
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
        let party = part.party();
        let count = match &part {
            Part::Data(samples) => Some(samples.len() as u64),
            Part::Pictures(pictures) => Some(pictures.labels().len() as u64),
            Part::Model(_) => None,
        };
        let terms = settle(channel, &kept.wish, count, &kept.marks(), heard).await?;
        let from =
            terms.from.and_then(|mark| kept.checkpoints.into_iter().find(|checkpoint| checkpoint.mark().is(&mark)));
        if let (Some(from), Some(path)) = (&from, &settings.checkpoint) {
            from.make_last(path)?;
        }
        let (mut held, mut about, mut rows) = (None, None, None);
        if let Some(from) = from {
            (held, about, rows) = (Some(from.held), Some(from.about), from.features);
        }
        if held.as_ref().is_some_and(|held: &Held| !held.is_of(&terms.net)) {
            let found = "the checkpoint has another number".to_owned();
            return Err(Error::Terms {
                what: "features",
                own: found,
                peer: party.other(),
                theirs: terms.net.inputs(0).to_string(),
            });
        }
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
            let digest = match &part {
                // Only a checkpoint has it.
                _ if settings.checkpoint.is_none() => [0; 32],
                Part::Data(samples) => samples.digest(),
                Part::Pictures(pictures) => pictures.digest(),
                Part::Model(_) => [0; 32],
            };
            let order = if party == Party::Client { fresh() } else { [0; 32] };
            About { samples: terms.samples, digest, order, common: agreed.order(), opened: Opened::default() }
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
        let mut correlations = Correlations::setup(channel, &mut randomness.next_rng()).await?;
        channel.compare_sums().await?;
        let setup = measurement.finish(channel).stage;
        let plans = BTreeMap::from([(plan.rate, plan)]);
        let (mut features, mut feature_coins) = (None, Recorded::default());
        if rows.is_none() && terms.net.is_on_features() {
            let mut measurement = Measurement::start(channel, Stage::Offline);
            let told = |done| settings.told_of_features.iter().for_each(|told| told(done as u64, terms.samples));
            let extraction = Extraction {
                channel,
                correlations: &mut correlations,
                randomness: &mut randomness,
                format: &terms.format,
                counts: [terms.samples as usize, terms.net.inputs(0)],
                coins: Some(&mut feature_coins).filter(|_| coins),
                told: &told,
            };
            let (own, demand) = match (&part, &kept.backbone) {
                (Part::Pictures(pictures), _) => {
                    extraction.client(&*pictures.read, &secret_order(pictures, &about)).await?
                }
                (_, Some(backbone)) => extraction.server(backbone.before()).await?,
                _ => return Err(Error::internal("a head without a network")),
            };
            rows = Some(own);
            measurement.charge(demand);
            features = Some(measurement.finish(channel).stage);
        }
        let source = match (rows, part) {
            (Some(rows), Part::Pictures(pictures)) => {
                let order = secret_order(&pictures, &about);
                let labels = order.iter().map(|at| pictures.labels()[*at as usize]).collect();
                Source::Features(rows, Some(Zeroizing::new(labels)))
            }
            (Some(rows), _) => Source::Features(rows, None),
            (None, Part::Data(samples)) => Source::Samples(samples),
            (None, _) => Source::Nothing,
        };
        let (order, backbone) = (None, kept.backbone);
        Ok(Self {
            terms,
            party,
            trainer,
            correlations,
            plans,
            coins,
            source,
            about,
            order,
            setup,
            backbone,
            features,
            #[cfg(test)]
            feature_coins,
        })
    }

    /// Steps done.
    pub(super) fn done(&self) -> Result<u64> {
        Ok(self.held()?.done())
    }

    pub(super) fn held(&self) -> Result<&Held> {
        self.trainer.held().map_err(|error| of_step(error, self.party))
    }

    /// The next batch.
    pub(super) fn batch(&mut self) -> Result<Chosen> {
        let done = self.done()?;
        let (epoch, batch) = (done / self.terms.steps_per_epoch(), (done % self.terms.steps_per_epoch()) as usize);
        let order = match &self.order {
            Some((of, order)) if *of == epoch => order,
            _ => {
                let order = match &self.source {
                    Source::Nothing => Vec::new(),
                    Source::Samples(samples) => samples.order(&self.about.order, epoch),
                    Source::Features(..) => shuffled(self.terms.samples as usize, &self.about.common, epoch),
                };
                &self.order.insert((epoch, Zeroizing::new(order))).1
            }
        };
        Ok(match &self.source {
            Source::Nothing => Chosen::Nothing,
            Source::Samples(samples) => {
                let (inputs, labels) = samples.batch(&self.terms.net, order, batch);
                Chosen::Batch(inputs, labels)
            }
            Source::Features(rows, labels) => {
                let count = self.terms.net.inputs(0);
                let mut own = Zeroizing::new(Vec::with_capacity(BATCH * count));
                chosen(order, batch).for_each(|at| own.extend(&rows[at * count..][..count]));
                Chosen::Shares(own, labels.as_ref().map(|labels| chosen(order, batch).map(|at| labels[at]).collect()))
            }
        })
    }

    /// One step. Returns what it consumed.
    pub(super) async fn step(&mut self, channel: &mut Channel, coins: Option<&mut Recorded>) -> Result<Demand> {
        let rate = self.terms.rate(self.done()?);
        if !self.plans.contains_key(&rate) {
            self.plans.insert(rate, plan(&self.terms, rate, self.coins)?);
        }
        let chosen = self.batch()?;
        let given = match &chosen {
            Chosen::Nothing => Given::Nothing,
            Chosen::Batch(inputs, labels) => {
                let batch = Batch::new(&self.terms.net, &self.terms.format, inputs, labels);
                Given::Batch(batch.map_err(Error::internal)?)
            }
            Chosen::Shares(rows, labels) => Given::Shares(rows, labels.as_deref()),
        };
        let plan = &self.plans[&rate];
        let need = plan.cost().ots;
        channel.enter(Stage::Offline);
        self.correlations.ensure(channel, need).await?;
        // A visit for each step: flights are counted in 16 bits.
        channel.enter(Stage::Online);
        let stepped = self.trainer.step(plan, channel, &mut self.correlations, given, coins).await;
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
        let features = match &self.source {
            Source::Features(rows, _) => Some(rows),
            Source::Nothing | Source::Samples(_) => None,
        };
        checkpoint::write(path, self.party, &self.terms.net, &self.terms.format, &self.about, self.held()?, features)
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

/// In which order the samples of a head come, from the first to the last step: the server must not know which one is which.
fn secret_order(pictures: &Pictures, about: &About) -> Zeroizing<Vec<u32>> {
    Zeroizing::new(shuffled(pictures.labels().len(), &about.order, 0))
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
