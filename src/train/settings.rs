//! What a party brings to a training, how it trains, and what it is told.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use lowkey_models::Network;
use lowkey_mpc::channel::Limits;
use lowkey_mpc::party::Party;

use super::backbone::Backbone;
use super::checkpoint::Brought;
use super::samples::{Pictures, Samples};
use super::score::Score;
use super::terms::{Terms, Wish};
use crate::error::Result;
use crate::report::StageReport;

/// A party's part.
#[derive(Clone, Debug)]
pub enum Contribution {
    /// The data owner, the client: samples.
    Data(Samples),
    /// The same, of a head: what the model owner's network reads.
    Pictures(Pictures),
    /// The model owner, the server: a network that a training wrote, to go on from its weights; without it draws the first ones. Of a head: the
    /// network whose last layer is trained.
    Model(Option<Box<Network>>),
    /// The model owner with samples of its own, which are trained on as the data owner's are.
    ModelAndData(Option<Box<Network>>, Samples),
    /// The same, of a head: what its network reads.
    ModelAndPictures(Box<Network>, Pictures),
}

impl Contribution {
    /// Which party has it.
    pub fn party(&self) -> Party {
        match self {
            Self::Data(_) | Self::Pictures(_) => Party::Client,
            Self::Model(_) | Self::ModelAndData(..) | Self::ModelAndPictures(..) => Party::Server,
        }
    }

    /// Its network.
    pub(super) fn network(&self) -> Option<&Network> {
        match self {
            Self::Data(_) | Self::Pictures(_) => None,
            Self::Model(network) | Self::ModelAndData(network, _) => network.as_deref(),
            Self::ModelAndPictures(network, _) => Some(network),
        }
    }

    /// Its samples, unless they are pictures.
    pub(super) fn samples(&self) -> Option<&Samples> {
        match self {
            Self::Data(samples) | Self::ModelAndData(_, samples) => Some(samples),
            Self::Pictures(_) | Self::Model(_) | Self::ModelAndPictures(..) => None,
        }
    }

    /// Its pictures.
    pub(super) fn pictures(&self) -> Option<&Pictures> {
        match self {
            Self::Pictures(pictures) | Self::ModelAndPictures(_, pictures) => Some(pictures),
            Self::Data(_) | Self::Model(_) | Self::ModelAndData(..) => None,
        }
    }

    /// How many samples there are, at a party that has some.
    pub(super) fn count(&self) -> Option<u64> {
        let pictures = self.pictures().map(|pictures| pictures.count() as u64);
        self.samples().map(|samples| samples.len() as u64).or(pictures)
    }

    /// What a checkpoint is bound to; `backbone` is what is before a head, at its owner. Samples that are evaluated are others.
    pub(super) fn brought(&self, backbone: Option<&Backbone>, evaluates: bool) -> Result<Brought> {
        let before = backbone.map_or(Ok([0; 32]), Backbone::digest)?;
        let digest = self.samples().map(Samples::digest).or_else(|| self.pictures().map(Pictures::digest));
        let samples = (self.count().unwrap_or(0), digest.unwrap_or_default());
        Ok(Brought { samples: Some(samples).filter(|_| !evaluates), before })
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
    /// Go on from there. An evaluation does, and leaves them as they are.
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
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Settings({:?}, checkpoint {:?}, resume: {})", self.wish, self.checkpoint, self.resume)
    }
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
    /// After an epoch how the network did on its samples while it trained, or those of this session, if this party is told.
    pub score: Option<Score>,
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
    /// Of an evaluation how the network did, if this party is told.
    pub score: Option<Score>,
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
