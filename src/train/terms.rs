//! The terms of a training. Each party says what it asks for, before anything else is sent; both find the same terms, or the first
//! thing in which they differ.
//!
//! ```text
//! both      Ask { magic, version, network, format, batch, who gets the weights, ..., checkpoints }      -> peer
//! ```
//!
//! What one party leaves open the other one decides. Nothing in it depends on inputs, labels or weights, but for the numbers of samples.

use std::cmp::Reverse;
use std::fmt;

use lowkey_mpc::channel::{Channel, FrameKind};
use lowkey_mpc::error::Error as ProtocolError;
use lowkey_mpc::party::Party;
use lowkey_mpc::wire;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::counts::{Counts, Place};
use super::format::{BATCH, Format, Net};
use super::session::numbers;
use crate::abort::Refusal;
use crate::error::{Error, Misbehaviour, Result};
use crate::session::{self, TRAINING};

/// Both ends must have the same.
const VERSION: u32 = 4;
/// Longest message, in bytes.
const MOST_BYTES: usize = 2048;
/// Most passes over the samples.
pub(super) const MOST_EPOCHS: u32 = 10_000;
/// Most samples.
pub(super) const MOST_SAMPLES: u64 = 1 << 26;
/// Most rates: the last one stays.
const MOST_RATES: usize = 64;
/// j of the rate 2^-j where nobody says.
pub const RATE: u8 = 4;
/// Steps between two checkpoints where nobody says.
const EVERY: u32 = 50;
/// Most layers, and most values of one.
const MOST_LAYERS: usize = 8;
const MOST_WIDTH: u32 = 1 << 16;
/// Most features of all samples together.
pub(super) const MOST_FEATURES: u64 = 1 << 24;
/// Checkpoints that a party keeps: its last, and the one before, which is the peer's last if that was stopped between the two.
pub(super) const KEPT: usize = 2;

/// Who gets the trained weights, or is told a score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Receivers {
    /// The model owner.
    Server,
    /// The data owner.
    Client,
    /// Both.
    Both,
    /// Neither. Weights stay shares, in the checkpoints.
    None,
}

impl Receivers {
    /// Whether `party` is one of them.
    pub fn reaches(self, party: Party) -> bool {
        match self {
            Self::Server => party == Party::Server,
            Self::Client => party == Party::Client,
            Self::Both => true,
            Self::None => false,
        }
    }
}

impl fmt::Display for Receivers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server => "server",
            Self::Client => "client",
            Self::Both => "both",
            Self::None => "none",
        })
    }
}

/// What a party asks for.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The network; the peer has to mean the same.
    pub net: Net,
    /// Who gets the weights; the peer has to say the same.
    pub weights_to: Receivers,
    /// Who is told how the network does on the samples, after each epoch; the peer has to say the same.
    pub score_to: Receivers,
    /// Tell that of samples with the weights of a checkpoint, and train nothing; the peer has to mean the same.
    pub evaluates: bool,
    /// Passes over the samples.
    pub epochs: Option<u32>,
    /// j of the rate 2^-j of each epoch, the last one of all that follow.
    pub rates: Option<Vec<u8>>,
    /// Steps between two checkpoints, 0 for none.
    pub every: Option<u32>,
    /// Go on from a checkpoint whose weights were opened to a party that gets the next ones too, and sees what the steps between made of the
    /// data. Both parties have to say so.
    pub reopen: bool,
}

/// After which step the weights were last opened to a party, if they were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Opened {
    client: Option<u64>,
    server: Option<u64>,
}

impl Opened {
    /// Opened to `to` after step `done`.
    pub(super) fn note(&mut self, to: Receivers, done: u64) {
        for (party, opened) in [(Party::Client, &mut self.client), (Party::Server, &mut self.server)] {
            if to.reaches(party) {
                *opened = Some(done);
            }
        }
    }

    fn to(self, party: Party) -> Option<u64> {
        match party {
            Party::Client => self.client,
            Party::Server => self.server,
        }
    }

    /// What either party knows of.
    fn or(self, other: Self) -> Self {
        Self { client: self.client.max(other.client), server: self.server.max(other.server) }
    }
}

/// A checkpoint as both parties name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// Which sessions led to it.
    pub(super) history: [u8; 32],
    /// Steps done.
    pub(super) done: u64,
    /// What was opened by then. A party may have been stopped before it wrote that.
    pub(super) opened: Opened,
}

impl Mark {
    /// Whether both name the same shares.
    pub(super) fn is(&self, other: &Self) -> bool {
        (self.history, self.done) == (other.history, other.done)
    }
}

/// What both parties agreed on. Public to both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The network.
    pub net: Net,
    /// Its numbers.
    pub(super) format: Format,
    /// The samples of either party.
    pub samples: Counts,
    /// Passes over them.
    pub epochs: u32,
    /// j of the rate 2^-j of each epoch, the last one of all that follow.
    pub rates: Vec<u8>,
    /// Who gets the weights.
    pub weights_to: Receivers,
    /// Who is told a score after each epoch, or of an evaluation.
    pub score_to: Receivers,
    /// Whether these are terms of an evaluation: one pass over the samples, of which all count.
    pub evaluates: bool,
    /// Steps between two checkpoints, 0 for none.
    pub every: u32,
    /// The checkpoint to go on from.
    pub(super) from: Option<Mark>,
}

impl Terms {
    /// Of a party alone.
    pub(super) fn alone(wish: &Wish, samples: Counts) -> Self {
        let Wish { net, weights_to, score_to, evaluates, epochs, rates, every, reopen: _ } = wish.clone();
        let (epochs, every, rates) = (epochs.unwrap_or(1), every.unwrap_or(EVERY), rates.unwrap_or_else(|| vec![RATE]));
        let format = Format::NARROW;
        Self { net, format, samples, epochs, rates, weights_to, score_to, evaluates, every, from: None }
    }

    /// Steps of an epoch: the [batches](Counts::batches) of both parties.
    pub fn steps_per_epoch(&self) -> u64 {
        self.samples.batches(self.evaluates).total()
    }

    /// Whose the batch of a step is, and which of them.
    pub(super) fn place(&self, step: u64) -> Place {
        self.samples.batches(self.evaluates).place(step % self.steps_per_epoch())
    }

    /// Whose batches there are.
    pub(super) fn owners(&self) -> impl Iterator<Item = Party> {
        let batches = self.samples.batches(self.evaluates);
        [Party::Client, Party::Server].into_iter().filter(move |owner| batches.of(*owner) > 0)
    }

    /// How many samples of a step count: all, but in the last batch of either party in an evaluation.
    pub(super) fn counted(&self, step: u64) -> usize {
        let Place { owner, batch } = self.place(step);
        match self.evaluates {
            true => (self.samples.of(owner) - batch * BATCH as u64).min(BATCH as u64) as usize,
            false => BATCH,
        }
    }

    /// Steps of all epochs.
    pub fn steps(&self) -> u64 {
        self.steps_per_epoch() * u64::from(self.epochs)
    }

    /// j of the rate 2^-j of a step.
    pub fn rate(&self, step: u64) -> u8 {
        let epoch = usize::try_from(step / self.steps_per_epoch()).unwrap_or(usize::MAX);
        self.rates[epoch.min(self.rates.len() - 1)]
    }

    /// Who had the weights of an earlier step, and gets those of a later one: the party, and the step.
    fn second_opening(&self) -> Option<(Party, u64)> {
        let opened = self.from?.opened;
        let reached = [Party::Client, Party::Server].into_iter().filter(|party| self.weights_to.reaches(*party));
        reached.filter_map(|party| Some((party, opened.to(party)?))).find(|(_, step)| *step < self.steps())
    }

    /// For the parties to compare, with their checkpoints.
    pub(super) fn digest(&self) -> [u8; 32] {
        let Self { net, format, samples, epochs, rates, weights_to, score_to, evaluates, every, from } = self;
        let all = (numbers(net, format), samples, epochs, rates, weights_to, score_to, evaluates, every, from);
        Sha256::digest(wire::encode(&all).expect("numbers of known sizes are encodable")).into()
    }
}

/// What goes over the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ask {
    magic: [u8; 8],
    version: u32,
    positions: u32,
    widths: Vec<u32>,
    on_features: bool,
    format: [u8; 11],
    batch: u32,
    weights_to: Receivers,
    score_to: Receivers,
    evaluates: bool,
    samples: Option<u64>,
    epochs: Option<u32>,
    rates: Option<Vec<u8>>,
    every: Option<u32>,
    reopen: bool,
    kept: Vec<Mark>,
}

impl Ask {
    fn new(wish: &Wish, samples: Option<u64>, kept: &[Mark]) -> Self {
        let (positions, widths) = wish.net.shape();
        let small = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
        Self {
            magic: TRAINING,
            version: VERSION,
            positions: small(positions),
            widths: widths.into_iter().map(small).collect(),
            on_features: wish.net.is_on_features(),
            format: Format::NARROW.bytes(),
            batch: small(BATCH),
            weights_to: wish.weights_to,
            score_to: wish.score_to,
            evaluates: wish.evaluates,
            samples,
            epochs: wish.epochs,
            rates: wish.rates.clone(),
            every: wish.every,
            reopen: wish.reopen,
            kept: kept.to_vec(),
        }
    }

    /// What the peer sent, if an honest one could have.
    fn decode(bytes: &[u8], peer: Party) -> Result<Self> {
        if peer == Party::Client && bytes.starts_with(&session::MAGIC) {
            return Err(Refusal::OnlyTraining.into());
        }
        let version = bytes.strip_prefix(&TRAINING).and_then(|rest| rest.first_chunk());
        let Some(version) = version else { return Err(Error::Peer(peer, Misbehaviour::Hello)) };
        let found = u32::from_le_bytes(*version);
        if found != VERSION {
            return Err(Error::Version { peer, found, own: VERSION });
        }
        let ask: Self = wire::decode(bytes, MOST_BYTES)?;
        let least = if ask.evaluates { 1 } else { BATCH as u64 };
        let sound = ask.widths.len() <= MOST_LAYERS + 1
            && ask.kept.len() <= KEPT
            && ask.rates.as_ref().is_none_or(|rates| (1..=MOST_RATES).contains(&rates.len()))
            && !(ask.evaluates && (ask.epochs.is_some() || ask.rates.is_some()))
            && ask.epochs.is_none_or(|epochs| (1..=MOST_EPOCHS).contains(&epochs))
            && ask.samples.is_none_or(|samples| (least..=MOST_SAMPLES).contains(&samples));
        match sound {
            true => Ok(ask),
            false => {
                Err(ProtocolError::protocol("terms of a training", "what one can have", "beyond every limit").into())
            }
        }
    }

    /// How many features the model owner's network has.
    fn features(&self) -> Result<usize> {
        match (self.positions, &self.widths[..]) {
            (1, [features @ 1..=MOST_WIDTH, _]) => Ok(*features as usize),
            _ => {
                let found = self.network();
                Err(ProtocolError::protocol("a head", "one layer on the features of a network", found).into())
            }
        }
    }

    fn network(&self) -> String {
        if self.on_features {
            return "a head".to_owned();
        }
        let widths: Vec<String> = self.widths.iter().map(u32::to_string).collect();
        match self.positions {
            1 => widths.join("-"),
            n => format!("{} at {n} positions", widths.join("-")),
        }
    }
}

impl Wish {
    /// To train `net` for the model owner; the rest is left to the peer.
    pub fn new(net: Net) -> Self {
        let (weights_to, score_to) = (Receivers::Server, Receivers::None);
        Self { net, weights_to, score_to, evaluates: false, epochs: None, rates: None, every: None, reopen: false }
    }

    /// To tell `score_to` how `net` does with the weights of a checkpoint.
    pub fn to_evaluate(net: Net, score_to: Receivers) -> Self {
        Self { weights_to: Receivers::None, score_to, evaluates: true, ..Self::new(net) }
    }

    /// Refuses what no training can have, before there is a connection.
    ///
    /// # Errors
    /// [`Error::Usage`].
    pub(super) fn check(&self) -> Result<()> {
        let (_, widths) = self.net.shape();
        if widths.len() > MOST_LAYERS + 1 || widths.iter().any(|width| *width > MOST_WIDTH as usize) {
            let what =
                format!("a network of {} layers, the widest of {:?} values", widths.len() - 1, widths.iter().max());
            return Err(Error::usage(what, format!("at most {MOST_LAYERS} layers of {MOST_WIDTH} values are trained")));
        }
        if self.epochs.is_some_and(|epochs| !(1..=MOST_EPOCHS).contains(&epochs)) {
            return Err(Error::usage("a training of no epochs or of too many", format!("give 1 to {MOST_EPOCHS}")));
        }
        if self.net.is_on_features() && !matches!(self.weights_to, Receivers::Server | Receivers::None) {
            let what = format!("the weights of a head for {}", self.weights_to);
            return Err(Error::usage(
                what,
                "what is before the head is the model owner's: give it the weights, or nobody yet",
            ));
        }
        let trains = self.epochs.is_some() || self.rates.is_some() || self.every.is_some() || self.reopen;
        if self.evaluates && (trains || self.weights_to != Receivers::None) {
            return Err(Error::usage("an evaluation trains nothing and opens no weights", "ask for the score alone"));
        }
        if self.evaluates && self.score_to == Receivers::None {
            return Err(Error::usage("an evaluation that nobody is told of", "say at both ends who is told the score"));
        }
        let rates = self.rates.as_deref();
        if rates.is_some_and(|rates| !(1..=MOST_RATES).contains(&rates.len())) {
            return Err(Error::usage("that many rates", format!("give 1 to {MOST_RATES}; the last one stays")));
        }
        for rate in rates.unwrap_or(&[RATE]) {
            let checked = Format::NARROW.check(&self.net, *rate);
            checked.map_err(|error| Error::usage(format!("rate 2^-{rate}: {error}"), "give 1 to 8, as in 4,4,6"))?;
        }
        Ok(())
    }
}

/// Hears what the peer asks for.
///
/// # Errors
/// Those of the channel, and of a peer that speaks something else.
pub(super) async fn hear(channel: &mut Channel) -> Result<Ask> {
    let peer = channel.party().other();
    Ask::decode(&channel.recv_at_most(FrameKind::Control, MOST_BYTES).await?, peer)
}

/// Tells the peer what this party asks for, and finds what both mean; `heard` is what the peer asks for, if it has said so before. `samples` are
/// this party's; `kept` its checkpoints, the last one first.
///
/// # Errors
/// [`Error::Terms`] at both parties where they differ; those of the channel, and of a peer that speaks something else.
pub(super) async fn settle(
    channel: &mut Channel,
    wish: &Wish,
    samples: Option<u64>,
    kept: &[Mark],
    heard: Option<Ask>,
) -> Result<Terms> {
    let own = Ask::new(wish, samples, kept);
    channel.send_control(&own).await?;
    // Where both differ nothing else is sent, and this party may end before it is written.
    channel.flush().await?;
    let theirs = match heard {
        Some(ask) => ask,
        None => hear(channel).await?,
    };
    merge(wish, &own, &theirs, channel.party().other())
}

fn merge(wish: &Wish, own: &Ask, theirs: &Ask, peer: Party) -> Result<Terms> {
    let differ = |what, own: String, theirs: String| Err(Error::Terms { what, own, peer, theirs });
    let net = net_of(wish, own, theirs, peer)?;
    if own.format != theirs.format {
        return differ("the numbers' format", hex::encode(own.format), hex::encode(theirs.format));
    }
    if own.batch != theirs.batch {
        return differ("the batch", own.batch.to_string(), theirs.batch.to_string());
    }
    if own.evaluates != theirs.evaluates {
        let say = |evaluates| if evaluates { "an evaluation" } else { "a training" }.to_owned();
        return differ("what is done", say(own.evaluates), say(theirs.evaluates));
    }
    if own.score_to != theirs.score_to {
        return differ("who is told a score", own.score_to.to_string(), theirs.score_to.to_string());
    }
    if own.weights_to != theirs.weights_to {
        return differ("who gets the weights", own.weights_to.to_string(), theirs.weights_to.to_string());
    }
    let epochs = either("epochs", own.epochs, theirs.epochs, peer)?.unwrap_or(1);
    let rates = own.rates.as_ref().zip(theirs.rates.as_ref());
    if let Some((own, theirs)) = rates.filter(|(own, theirs)| own != theirs) {
        return differ("the rates", format!("{own:?}"), format!("{theirs:?}"));
    }
    let rates = own.rates.clone().or(theirs.rates.clone()).unwrap_or_else(|| vec![RATE]);
    let every = either("steps between checkpoints", own.every, theirs.every, peer)?.unwrap_or(EVERY);
    let samples = match peer {
        Party::Server => samples_of(&net, own, theirs),
        Party::Client => samples_of(&net, theirs, own),
    }?;
    let from = common_mark(own, theirs, peer)?;
    // Rates of the peer are as public as one's own, and have to fit too.
    if let Some(rate) = rates.iter().find(|rate| Format::NARROW.check(&net, **rate).is_err()) {
        return Err(ProtocolError::protocol("a rate of the training", "one that the network trains at", rate).into());
    }
    let format = Format::NARROW;
    let Wish { weights_to, score_to, evaluates, .. } = *wish;
    let terms = Terms { net, format, samples, epochs, rates, weights_to, score_to, evaluates, every, from };
    match terms.second_opening() {
        Some((to, step)) if !own.reopen => {
            let what = format!(
                "the {to} has had the weights of step {step}: with those of step {} it would see what the steps between made of the data",
                terms.steps()
            );
            Err(Error::usage(what, "if that is meant, reopen the weights at both ends"))
        }
        Some(_) if !theirs.reopen => differ("a second opening of the weights", "one".to_owned(), "none".to_owned()),
        _ => Ok(terms),
    }
}

/// The network that both mean. The model owner knows how many features a head has.
fn net_of(wish: &Wish, own: &Ask, theirs: &Ask, peer: Party) -> Result<Net> {
    if own.on_features && theirs.on_features {
        let owner = if peer == Party::Server { theirs } else { own };
        return Ok(Net::on_features(owner.features()?));
    }
    let sizes = |ask: &Ask| (ask.on_features, ask.positions, ask.widths.clone());
    match sizes(own) == sizes(theirs) {
        true => Ok(wish.net.clone()),
        false => Err(Error::Terms { what: "the network", own: own.network(), peer, theirs: theirs.network() }),
    }
}

/// How many samples there are, if the data owner has some and the features of these are not too many.
fn samples_of(net: &Net, client: &Ask, server: &Ask) -> Result<Counts> {
    let Some(samples) = client.samples else {
        return Err(ProtocolError::protocol("terms of a training", "samples of the client", "none").into());
    };
    let values = samples.saturating_mul(net.inputs(0) as u64);
    if net.is_on_features() && values > MOST_FEATURES {
        let what = format!("{samples} samples of {} features", net.inputs(0));
        return Err(Error::usage(what, format!("at most {MOST_FEATURES} features are kept")));
    }
    Ok(Counts { client: samples, server: server.samples.unwrap_or(0) })
}

/// The last checkpoint that both have; `None` where neither has one.
fn common_mark(own: &Ask, theirs: &Ask, peer: Party) -> Result<Option<Mark>> {
    let differ = |what, own: String, theirs: String| Err(Error::Terms { what, own, peer, theirs });
    match (own.kept.is_empty(), theirs.kept.is_empty()) {
        (true, true) => Ok(None),
        (false, false) => {
            let theirs_of = |mark: &Mark| theirs.kept.iter().find(|other| other.is(mark));
            let with_theirs =
                |mark: &Mark| theirs_of(mark).map(|other| Mark { opened: mark.opened.or(other.opened), ..*mark });
            // Of two after as many steps the last one, which comes first.
            if let Some(mark) = own.kept.iter().filter_map(with_theirs).min_by_key(|mark| Reverse(mark.done)) {
                return Ok(Some(mark));
            }
            let steps = |ask: &Ask| ask.kept.iter().map(|mark| mark.done.to_string()).collect::<Vec<_>>().join(" and ");
            let [own, theirs] = [own, theirs].map(|ask| format!("its steps {}", steps(ask)));
            differ("the checkpoint to go on from", own, theirs)
        }
        (fresh, _) => {
            let say = |fresh| if fresh { "a new training" } else { "to go on from a checkpoint" }.to_owned();
            differ("where to begin", say(fresh), say(!fresh))
        }
    }
}

/// What one party says and the other leaves open, or both say.
fn either<T: PartialEq + fmt::Display>(
    what: &'static str,
    own: Option<T>,
    theirs: Option<T>,
    peer: Party,
) -> Result<Option<T>> {
    match (own, theirs) {
        (Some(own), Some(theirs)) if own != theirs => {
            Err(Error::Terms { what, own: own.to_string(), peer, theirs: theirs.to_string() })
        }
        (own, theirs) => Ok(own.or(theirs)),
    }
}

#[cfg(test)]
mod tests;
