//! A party in a training under way: made ready, step by step, to the opening of its weights.

use std::collections::HashMap;

use lowkey_mpc::channel::Channel;
use lowkey_mpc::demand::Demand;
use lowkey_mpc::erasing::{Erasing, OnceRng};
use lowkey_mpc::ot::Correlations;
use lowkey_mpc::party::{Party, Stage};
use rand::Rng;
use zeroize::Zeroizing;

use super::backbone::Backbone;
use super::batch::{Batch, Given};
use super::batches::{Batches, Chosen, Material, Shared, secret_order};
use super::checkpoint::{self, About, Brought, Checkpoint};
use super::coins::{Recorded, Seeded};
use super::cost;
use super::features::Extraction;
use super::held::WeightShares;
use super::kept::Kept;
use super::lattice::Lattice;
use super::plan::{Aim, FLIGHTS, StepPlan};
use super::samples::Pictures;
use super::score::Score;
use super::session::{Agreed, agree};
use super::settings::{Contribution, Settings};
use super::start;
use super::step::{Numbered, Trainer};
use super::terms::{Ask, Opened, Receivers, Terms, settle};
use crate::error::{Error, Result};
use crate::report::{Measurement, StageReport};
use crate::share::RingShare;

/// A party in a training under way.
pub(super) struct Run {
    pub(super) terms: Terms,
    party: Party,
    trainer: Trainer<Lattice<OnceRng>>,
    correlations: Correlations,
    /// By rate, and by whose samples.
    plans: HashMap<(u8, Party), StepPlan>,
    coins: bool,
    batches: Batches,
    /// Batches evaluated.
    evaluated: u64,
    about: About,
    setup: StageReport,
    /// The network whose head is trained, at its owner.
    pub(super) backbone: Option<Backbone>,
    /// What the features took, if that was in this session.
    pub(super) features: Option<StageReport>,
    /// Coins of the features.
    #[cfg(test)]
    pub(super) feature_coins: Recorded,
}

impl Run {
    /// Agrees on the terms, and makes everything ready. With `coins` the client records its coins.
    pub(super) async fn open(
        channel: &mut Channel,
        part: Contribution,
        settings: &Settings,
        mut kept: Kept,
        heard: Option<Ask>,
        mut randomness: Erasing,
        coins: bool,
    ) -> Result<Self> {
        let measurement = Measurement::start(channel, Stage::Setup);
        let party = part.party();
        let terms = settle(channel, &kept.wish, part.count(), &kept.marks(), heard).await?;
        let (held, about, mut rows) = match kept.agreed(&terms, settings, party)? {
            Some(Checkpoint { held, about, features, .. }) => (Some(held), Some(about), features),
            None => (None, None, None),
        };
        let mut rng = randomness.next_rng();
        let (digest, moment) = (terms.digest(), held.as_ref().map(WeightShares::moment));
        let agreed = agree(channel, party, &terms.net, &terms.format, moment, &digest, fresh(&mut rng)).await;
        let agreed = agreed.map_err(|error| error.of(party))?;
        let mut about = about.unwrap_or_else(|| begin(party, &terms, &kept.brought, &agreed, &mut rng));
        // The peer may know of an opening that this party was stopped before.
        about.opened = terms.from.map_or(about.opened, |mark| mark.opened);
        let plans = terms.owners().map(|owner| plan(&terms, terms.rates[0], owner, coins));
        let plans = plans.collect::<Result<Vec<_>>>()?;
        let trainer = trainer(party, &terms, &plans, agreed, held, kept.masters, &mut randomness)?;
        let mut correlations = Correlations::setup(channel, &mut randomness.next_rng()).await?;
        channel.compare_sums().await?;
        let setup = measurement.finish(channel).stage;
        let (mut features, mut feature_coins) = (None, Recorded::default());
        if terms.evaluates {
            // Those of a checkpoint are of other samples.
            rows = None;
        }
        if rows.is_none() && terms.net.is_on_features() {
            let extraction = Extraction {
                channel,
                correlations: &mut correlations,
                randomness: &mut randomness,
                format: &terms.format,
                counts: [terms.samples.client as usize, terms.net.inputs(0)],
                coins: Some(&mut feature_coins).filter(|_| coins),
                told: settings.told_of_features.as_ref(),
            };
            let (own, stage) = extract(extraction, &part, kept.backbone.as_ref(), &about).await?;
            (rows, features) = (Some(own), Some(stage));
        }
        let plans = plans.into_iter().map(|plan| ((plan.rate, plan.owner), plan)).collect();
        let batches = Batches::of(party, material(part, kept.backbone.as_ref(), rows, &about)?);
        Ok(Self {
            terms,
            party,
            trainer,
            correlations,
            plans,
            coins,
            batches,
            evaluated: 0,
            about,
            setup,
            backbone: kept.backbone,
            features,
            #[cfg(test)]
            feature_coins,
        })
    }

    /// Steps done, or batches evaluated.
    pub(super) fn done(&self) -> Result<u64> {
        Ok(if self.terms.evaluates { self.evaluated } else { self.held()?.done() })
    }

    pub(super) fn held(&self) -> Result<&WeightShares> {
        self.trainer.held().map_err(|error| error.of(self.party))
    }

    /// The next batch.
    pub(super) fn batch(&mut self) -> Result<Chosen> {
        let done = self.done()?;
        Ok(self.batches.at(done, &self.terms, &self.about))
    }

    /// One step, or one batch of an evaluation. Returns what it consumed.
    pub(super) async fn step(&mut self, channel: &mut Channel, coins: Option<&mut Recorded>) -> Result<Demand> {
        let done = self.done()?;
        let key @ (rate, owner) = (self.terms.rate(done), self.terms.place(done).owner);
        if !self.plans.contains_key(&key) {
            self.plans.insert(key, plan(&self.terms, rate, owner, self.coins)?);
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
        let plan = &self.plans[&key];
        let need = plan.cost().ots;
        channel.enter(Stage::Offline);
        self.correlations.ensure(channel, need).await?;
        // A visit for each step: flights are counted in 16 bits.
        channel.enter(Stage::Online);
        let (trainer, ot) = (&mut self.trainer, &mut self.correlations);
        let stepped = if self.terms.evaluates {
            let numbered = Numbered { step: self.evaluated, counted: self.terms.counted(self.evaluated) };
            self.evaluated += 1;
            trainer.evaluate(numbered, plan, channel, ot, given, coins).await
        } else {
            trainer.step(plan, channel, ot, given, coins).await
        };
        stepped.map_err(|error| error.of(self.party))?;
        Ok(Demand { ots: need })
    }

    /// Opens the score of the samples since the last time to whom the terms name, and returns it there.
    pub(super) async fn score(&mut self, channel: &mut Channel) -> Result<Option<Score>> {
        let tally = self.trainer.take_tally();
        let mut score = None;
        // Nothing is opened before both know that they received what was sent.
        channel.compare_sums().await?;
        for to in receivers(self.terms.score_to) {
            let opened = tally.open(self.party, to, channel).await;
            score = opened.map_err(|error| error.of(self.party))?.or(score);
        }
        channel.compare_sums().await?;
        Ok(score)
    }

    /// Writes a checkpoint once both know that they received what was sent. After the last step it says to whom the weights are opened next.
    pub(super) async fn checkpoint(&mut self, channel: &mut Channel, settings: &Settings) -> Result<()> {
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
        let features = self.batches.material.shared.as_ref().map(|shared| &shared.rows);
        checkpoint::write(path, self.party, &self.terms.net, &self.terms.format, &self.about, self.held()?, features)
    }

    /// Opens the masters to whom the terms give them.
    pub(super) async fn close(self, channel: &mut Channel) -> Result<(Terms, StageReport, Option<Vec<Vec<i64>>>)> {
        // Nothing is opened before both have written that it is.
        channel.compare_sums().await?;
        let party = self.party;
        let mut masters = None;
        for to in receivers(self.terms.weights_to) {
            let opened = self.held()?.open(party, to, channel).await;
            masters = opened.map_err(|error| error.of(party))?.or(masters);
        }
        channel.compare_sums().await?;
        Ok((self.terms, self.setup, masters))
    }
}

/// Both parties, or one, or none.
fn receivers(of: Receivers) -> impl Iterator<Item = Party> {
    [Party::Server, Party::Client].into_iter().filter(move |to| of.reaches(*to))
}

/// Bytes that nobody else knows.
fn fresh(rng: &mut impl Rng) -> [u8; 32] {
    let mut bytes = [0; 32];
    rng.fill_bytes(&mut bytes);
    bytes
}

/// A trainer that goes on with `held`, or begins with `masters`, or draws them.
fn trainer(
    party: Party,
    terms: &Terms,
    plans: &[StepPlan],
    agreed: Agreed,
    held: Option<WeightShares>,
    masters: Option<Vec<Vec<i64>>>,
    randomness: &mut Erasing,
) -> Result<Trainer<Lattice<OnceRng>>> {
    let answers = |plan| cost::answers(plan).map(|(answers, _)| (plan, answers));
    let plans = plans.iter().map(answers).collect::<Result<Vec<_>, _>>().map_err(Error::internal)?;
    let lattice = Lattice::new(&plans, party, &agreed, randomness.next_rng()).map_err(Error::internal)?;
    let held = match (held, party) {
        (Some(held), _) => held,
        (None, Party::Client) => WeightShares::first(party, &terms.net, &terms.format, None, &agreed),
        (None, Party::Server) => {
            let drawn = || start::masters(&terms.net, &terms.format, &mut randomness.next_rng());
            WeightShares::first(party, &terms.net, &terms.format, Some(&masters.unwrap_or_else(drawn)), &agreed)
        }
    };
    Trainer::new(party, agreed, lattice, held).map_err(|error| error.of(party))
}

/// What a training that begins is about: its samples, in an order that is their owner's secret and one that both parties know.
fn begin(party: Party, terms: &Terms, brought: &Brought, agreed: &Agreed, rng: &mut impl Rng) -> About {
    let order = if terms.samples.of(party) > 0 { fresh(rng) } else { [0; 32] };
    let digest = brought.samples.map_or([0; 32], |(_, digest)| digest);
    let (samples, before, common) = (terms.samples, brought.before, agreed.order());
    About { samples, digest, before, order, common, opened: Opened::default() }
}

/// What a party's batches are made of; `rows` are its shares of the features of the client's samples.
fn material(
    part: Contribution,
    backbone: Option<&Backbone>,
    rows: Option<RingShare>,
    about: &About,
) -> Result<Material> {
    let labels = |pictures: &Pictures| {
        let order = secret_order(pictures, about);
        Zeroizing::new(order.iter().map(|at| pictures.labels()[*at as usize]).collect())
    };
    let of_client = part.pictures().filter(|_| part.party() == Party::Client);
    let shared = rows.map(|rows| Shared { rows, labels: of_client.map(labels) });
    let own = match (part, backbone) {
        (Contribution::Data(samples) | Contribution::ModelAndData(_, samples), _) => Some(samples),
        // The same coins whenever the training goes on.
        (Contribution::ModelAndPictures(_, pictures), Some(backbone)) => {
            Some(backbone.features_of(&pictures, &mut Seeded::of(&about.order), |_, _| ())?)
        }
        (Contribution::ModelAndPictures(..), None) => return Err(Error::internal("a head without a network")),
        (Contribution::Pictures(_) | Contribution::Model(_), _) => None,
    };
    Ok(Material { own, shared })
}

/// Shares of the features of all samples of the client, by private inference, and what that took.
async fn extract(
    mut extraction: Extraction<'_>,
    part: &Contribution,
    backbone: Option<&Backbone>,
    about: &About,
) -> Result<(RingShare, StageReport)> {
    let mut measurement = Measurement::start(extraction.channel, Stage::Offline);
    let (shares, demand) = match (part, backbone) {
        (Contribution::Pictures(pictures), _) => {
            extraction.client(&*pictures.read, &secret_order(pictures, about)).await?
        }
        (_, Some(backbone)) => extraction.server(backbone.before()).await?,
        _ => return Err(Error::internal("a head without a network")),
    };
    measurement.charge(demand);
    Ok((shares, measurement.finish(extraction.channel).stage))
}

fn plan(terms: &Terms, rate: u8, owner: Party, coins: bool) -> Result<StepPlan> {
    let aim = Aim { evaluates: terms.evaluates, score: terms.score_to != Receivers::None, coins };
    StepPlan::new(&terms.net, terms.format, rate, owner, FLIGHTS, aim).map_err(Error::internal)
}

#[cfg(test)]
mod tests;
