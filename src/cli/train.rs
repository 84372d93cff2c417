//! `lowkey train`: two parties train a network, the one with data, the other one with the first weights and perhaps with data too.

mod data;
mod door;
mod record;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{ArgGroup, Args, ValueEnum};
use lowkey::error::Misbehaviour;
use lowkey::net::{self, Listener, ServerIdentity, Stream};
use lowkey::policy::Refusal;
use lowkey::shape::shape;
use lowkey::train::{
    self, Contribution, Cost, Counts, FeatureCost, Net, Progress, Rehearsal, Score, Settings, Told, ToldOfFeatures,
    Trained, Wish,
};
use lowkey::{Error, Model, Party, Result};
use lowkey_models::{Labelled, Network};
use lowkey_mpc::error::Error as ProtocolError;
use serde::Serialize;

use super::infer::TrustArguments;
use super::{TimeoutArgument, model, print_json, progress, runtime, say, serve, warn};
use data::Data;
use door::Door;
use record::{EpochRecord, EvaluationRecord, PlanRecord, Record, RehearsalRecord, StepRecord};

#[derive(Args)]
#[command(
    group = ArgGroup::new("role").required(true),
    override_usage = "lowkey train [OPTIONS] <--listen ADDR|--server ADDR|--rehearse|--plan>"
)]
pub struct Arguments {
    /// Be the model owner, and wait for the data owner there; port 0 picks a free port.
    #[arg(long, group = "role", value_name = "ADDR")]
    listen: Option<String>,
    /// Be the data owner; the model owner, host:port.
    #[arg(long, group = "role", value_name = "ADDR", requires = "data")]
    server: Option<String>,
    /// Train in the clear, with the data alone: what accuracy to expect, and whether all values keep to their ranges. With --net head by whoever
    /// has the network of --model, and samples like those of the data owner.
    #[arg(long, group = "role", requires = "data")]
    rehearse: bool,
    /// Show what a training, or with --evaluate an evaluation, would send, and do nothing.
    #[arg(long, group = "role", conflicts_with_all = ["data", "output", "checkpoint"])]
    plan: bool,
    /// With --plan: how many samples the data owner has.
    #[arg(long, default_value_t = 60_000, value_name = "N", requires = "plan",
          value_parser = clap::value_parser!(u64).range(128..=1 << 26))]
    samples: u64,
    /// With --plan: how many the model owner has, if it has some too.
    #[arg(long, value_name = "N", requires = "plan", value_parser = clap::value_parser!(u64).range(128..=1 << 26))]
    server_samples: Option<u64>,
    /// Train nothing: tell how a network does whose weights are shares, in the checkpoints of both parties. Whoever has --data measures on t10k-... of
    /// a folder, or on a file of images with --labels.
    #[arg(long, conflicts_with_all = ["rehearse", "output", "weights_to", "epochs", "rate", "every", "resume", "reopen"])]
    evaluate: bool,
    /// What is trained; both parties have to say the same. A is 784-128-128-10; C two convolutions of 20 and 50 maps with max pools, 500, 10; D a
    /// convolution of 5 maps, 100, 10; head a new last layer for the network of --model; others are dense layers by their numbers of values, as
    /// in 64-32-10.
    #[arg(long, default_value = "A", value_name = "NET")]
    net: Net,
    /// A folder with IDX files: train-images-idx3-ubyte and train-labels-idx1-ubyte (.gz too), and t10k-... to measure on; or a file of images
    /// with --labels: IDX, or NPY of floats from 0 to 1, or of bytes from 0 to 16, where 16 stands for 1. The model owner may have data too: the
    /// network is trained on those of both.
    #[arg(long, value_name = "DIR|FILE")]
    data: Option<PathBuf>,
    /// Labels of a file of images: IDX or NPY.
    #[arg(long, value_name = "FILE", requires = "data")]
    labels: Option<PathBuf>,
    /// How many passes over the samples [default: 1]. A party that does not say takes what the other says, here and below.
    #[arg(long, value_name = "N")]
    epochs: Option<u32>,
    /// Samples of a step; no other number yet.
    #[arg(long, default_value = "128", value_name = "N", value_parser = parse_batch)]
    batch: u32,
    /// The rate is 2^-J: J for each epoch, the last one of all that follow [default: 4].
    #[arg(long, value_name = "J,J", value_delimiter = ',', value_parser = parse_rate)]
    rate: Option<Vec<u8>>,
    /// Who gets the trained weights; both parties have to say the same. With none they stay shares, in the checkpoints.
    #[arg(long, value_enum, default_value = "server", value_name = "WHO")]
    weights_to: Receivers,
    /// Who is told after each epoch how many of its samples were right, and the mean loss; or the same of an evaluation. Both parties have to say
    /// the same.
    #[arg(long, value_enum, default_value = "none", value_name = "WHO", conflicts_with = "rehearse")]
    score_to: Receivers,
    /// Model owner: go on from the weights of this file, which a training wrote; random ones unless given. With --net head: the network whose last
    /// layer is trained anew.
    #[arg(long, value_name = "FILE", conflicts_with = "server")]
    model: Option<PathBuf>,
    /// Where the trained network goes, for whom the weights are.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Where this party keeps its shares, and with .before behind the name the ones before; for its own eyes.
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Steps between two checkpoints [default: 50].
    #[arg(long, value_name = "N")]
    every: Option<u32>,
    /// Go on from the last checkpoint that both parties have.
    #[arg(long, requires = "checkpoint")]
    resume: bool,
    /// With --resume: go on although a party has had the weights of an earlier step, and gets later ones: it sees what the steps between made of the
    /// data. Both parties have to say so.
    #[arg(long, requires = "resume")]
    reopen: bool,
    #[command(flatten)]
    trust: TrustArguments,
    /// Model owner: let none in but a data owner with a certificate that an authority in this PEM file has signed.
    #[arg(long, value_name = "FILE", requires = "cert", conflicts_with = "server")]
    client_ca: Option<PathBuf>,
    /// Pretend to have a link with this delay and rate, to measure [lan, wan].
    #[arg(long, value_name = "LINK", conflicts_with = "listen")]
    shape: Option<lowkey::Link>,
    #[command(flatten)]
    timeout: TimeoutArgument,
    /// Print JSON objects, one for each epoch and one at the end, instead of text.
    #[arg(long)]
    json: bool,
}

/// Who gets the trained weights, or is told a score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Receivers {
    /// The model owner.
    Server,
    /// The data owner.
    Client,
    /// Both.
    Both,
    /// Neither.
    None,
}

impl From<Receivers> for train::Receivers {
    fn from(receivers: Receivers) -> Self {
        match receivers {
            Receivers::Server => Self::Server,
            Receivers::Client => Self::Client,
            Receivers::Both => Self::Both,
            Receivers::None => Self::None,
        }
    }
}

fn parse_batch(text: &str) -> Result<u32, String> {
    text.parse().ok().filter(|batch| *batch == 128).ok_or_else(|| "a step has 128 samples".to_owned())
}

fn parse_rate(text: &str) -> Result<u8, String> {
    text.trim().parse().map_err(|_| "J is a whole number, in 2^-J".to_owned())
}

pub fn run(arguments: Arguments) -> Result<ExitCode> {
    if arguments.plan {
        return plan(&arguments);
    }
    check(&arguments)?;
    let Arguments { batch: 128, .. } = arguments else { return Err(Error::internal("a batch of another size")) };
    // What is wrong with it is found before anybody is asked.
    let (part, held_out) = part(&arguments)?;
    if arguments.rehearse {
        return rehearse(&arguments, &part, held_out);
    }
    settings(&arguments, None).check(&part)?;
    let runtime = runtime()?;
    let outcome = runtime.block_on(async {
        match &arguments.server {
            Some(address) => take_part(&arguments, address, part).await,
            None => host(&arguments, arguments.listen.as_deref().unwrap_or_default(), part).await,
        }
    });
    runtime.shutdown_background();
    match arguments.evaluate {
        true => show(arguments.json, &EvaluationRecord::new(&outcome?), EvaluationRecord::text)?,
        false => report(&arguments, outcome?, held_out)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A head belongs to a network.
fn headless() -> Error {
    Error::usage("a head, and no network that it belongs to", "name that with --model")
}

/// What this party has, and samples to measure on.
fn part(arguments: &Arguments) -> Result<(Contribution, Option<Labelled>)> {
    let Arguments { net, evaluate, .. } = arguments;
    let (labels, owner) = (arguments.labels.as_deref(), arguments.listen.is_some());
    if owner && net.is_on_features() && arguments.model.is_none() {
        return Err(headless());
    }
    let model = || arguments.model.as_ref().map(network).transpose();
    let Some(path) = &arguments.data else { return Ok((Contribution::Model(model()?), None)) };
    if net.is_on_features() {
        let pictures = data::pictures(path, labels, *evaluate)?;
        return Ok(match model()?.filter(|_| owner) {
            Some(network) => (Contribution::ModelAndPictures(network, pictures), None),
            None => (Contribution::Pictures(pictures), None),
        });
    }
    let Data { samples, held_out } = match evaluate {
        true => Data { samples: data::held_out(path, labels, net)?, held_out: None },
        false => Data::read(path, labels, net)?,
    };
    Ok(match owner {
        true => (Contribution::ModelAndData(model()?, samples), held_out),
        false => (Contribution::Data(samples), held_out),
    })
}

/// The network of a file.
fn network(file: &PathBuf) -> Result<Box<Network>> {
    Ok(Box::new(Model::open(file)?.network().clone()))
}

/// A training by one party alone.
fn rehearse(arguments: &Arguments, part: &Contribution, held_out: Option<Labelled>) -> Result<ExitCode> {
    let bar = progress::callback("rehearsing");
    let told = |done, steps, score: Option<Score>| {
        bar(done as usize, steps as usize);
        if let Some(score) = score {
            let epoch = EpochRecord::new(done, steps, arguments.epochs.unwrap_or(1), &score);
            // A rehearsal goes on if nobody reads this.
            let _ = show(arguments.json, &epoch, EpochRecord::text);
        }
    };
    let wish = settings(arguments, None).wish;
    let (samples, rehearsal) = match (part, &arguments.model) {
        (Contribution::Data(samples), None) => (samples.len(), train::rehearse(&wish, samples, told)?),
        (Contribution::Pictures(pictures), Some(file)) => {
            let of_features = told_of_features();
            let of_features = |done, samples| of_features(done, samples);
            (pictures.count(), train::rehearse_head(&wish, network(file)?.as_ref(), pictures, of_features, told)?)
        }
        (Contribution::Pictures(_), None) => {
            return Err(Error::usage(
                "the rehearsal of a head, and no network that it belongs to",
                "name that with --model; a data owner that does not have it cannot rehearse",
            ));
        }
        _ => return Err(Error::usage("a rehearsal that goes on from a --model", "leave --model out")),
    };
    let Rehearsal { network, steps, overflows, spare_bits } = rehearsal;
    let mut record = RehearsalRecord::new(&arguments.net, samples, steps, overflows, spare_bits);
    let model = Model::from(network);
    if let Some(output) = &arguments.output {
        model.write(output)?;
    }
    if let Some(data) = held_out {
        record.measured(super::eval::right(model.network(), &data, data.inputs.len())?.0, data.inputs.len());
    }
    show(arguments.json, &record, RehearsalRecord::text)?;
    Ok(ExitCode::SUCCESS)
}

fn plan(arguments: &Arguments) -> Result<ExitCode> {
    if arguments.model.is_some() && !arguments.net.is_on_features() {
        return Err(Error::usage(
            format!("what {} costs does not depend on a --model", arguments.net),
            "leave --model out, or say --net head for a new last layer of that network",
        ));
    }
    let rate = arguments.rate.as_ref().and_then(|rates| rates.first()).copied().unwrap_or(train::RATE);
    let features = match (arguments.net.is_on_features(), &arguments.model) {
        (false, _) => None,
        (true, Some(file)) => Some(FeatureCost::of(network(file)?.as_ref())?),
        (true, None) => {
            return Err(headless());
        }
    };
    let net = features.as_ref().map_or(&arguments.net, |features| &features.head);
    let score = arguments.score_to != Receivers::None;
    let cost = |owner| {
        let cost = match arguments.evaluate {
            true => Cost::of_evaluation(net, owner),
            false => Cost::of_step(net, rate, owner, score),
        };
        cost.map_err(|error| Error::usage(format!("{net}: {error}"), "give another network or rate"))
    };
    let counts = Counts { client: arguments.samples, server: arguments.server_samples.unwrap_or(0) };
    let costs = [cost(Party::Client)?, cost(Party::Server)?];
    let record = PlanRecord::new(net, counts, &costs, features.as_ref(), arguments.evaluate);
    show(arguments.json, &record, PlanRecord::text)?;
    Ok(ExitCode::SUCCESS)
}

/// Refuses what would be noticed after hours.
fn check(arguments: &Arguments) -> Result<()> {
    if arguments.resume && arguments.model.is_some() && !arguments.net.is_on_features() {
        return Err(Error::usage(
            "--resume goes on from the weights of a checkpoint, --model from others",
            "leave one out",
        ));
    }
    if arguments.rehearse {
        return model::writable(&arguments.output);
    }
    if arguments.evaluate {
        return check_evaluation(arguments);
    }
    let party = if arguments.listen.is_some() { Party::Server } else { Party::Client };
    let weights_to = train::Receivers::from(arguments.weights_to);
    match (&arguments.output, weights_to.reaches(party)) {
        (None, true) => Err(Error::usage(
            format!("--weights-to {weights_to} gives this party the weights, and there is no file for them"),
            "name it with --output",
        )),
        (Some(_), false) => Err(Error::usage(
            format!("--weights-to {weights_to} gives this party no weights"),
            "leave --output out, or say --weights-to both at both parties",
        )),
        (None, false) if weights_to == train::Receivers::None && arguments.checkpoint.is_none() => Err(Error::usage(
            "--weights-to none leaves shares, and there is no file for them",
            "name it with --checkpoint",
        )),
        (Some(_), true) => model::writable(&arguments.output),
        (None, false) => Ok(()),
    }
}

fn check_evaluation(arguments: &Arguments) -> Result<()> {
    let refuse = |what: &str, hint| Err(Error::usage(what, hint));
    if arguments.checkpoint.is_none() {
        return refuse("an evaluation, and no shares of weights", "name this party's checkpoint with --checkpoint");
    }
    if arguments.score_to == Receivers::None {
        return refuse("an evaluation that nobody is told of", "say --score-to server, client or both at both parties");
    }
    if arguments.model.is_some() && !arguments.net.is_on_features() {
        return refuse(
            "an evaluation of the weights of a --model",
            "leave --model out: the weights are those of the checkpoints; `lowkey eval` measures a network in the clear",
        );
    }
    Ok(())
}

fn settings(arguments: &Arguments, told: Option<Told>) -> Settings {
    let (net, score_to) = (arguments.net.clone(), arguments.score_to.into());
    let wish = match arguments.evaluate {
        true => Wish::to_evaluate(net, score_to),
        false => Wish {
            weights_to: arguments.weights_to.into(),
            score_to,
            epochs: arguments.epochs,
            rates: arguments.rate.clone(),
            every: arguments.every,
            reopen: arguments.reopen,
            ..Wish::new(net)
        },
    };
    Settings {
        checkpoint: arguments.checkpoint.clone(),
        resume: arguments.resume || arguments.evaluate,
        limits: arguments.timeout.limits(),
        told,
        told_of_features: arguments.net.is_on_features().then(told_of_features),
        ..Settings::new(wish)
    }
}

/// Draws a bar.
fn told_of_features() -> ToldOfFeatures {
    let bar = progress::callback("features");
    Arc::new(move |done, samples| bar(done as usize, samples as usize))
}

/// The data owner's session.
async fn take_part(arguments: &Arguments, address: &str, part: Contribution) -> Result<Trained> {
    let trust = arguments.trust.of(address, net::is_loopback(address).await?)?;
    let stream = net::connect_as(address, &trust, arguments.trust.shown(), arguments.timeout.duration()).await?;
    let stream: Box<dyn Stream> = match arguments.shape {
        Some(link) => Box::new(shape(stream, link)),
        None => stream,
    };
    train::train(stream, part, settings(arguments, Some(told(arguments)))).await
}

/// The model owner's session: with the first who speaks of a training.
async fn host(arguments: &Arguments, address: &str, part: Contribution) -> Result<Trained> {
    let loopback = net::is_loopback(address).await.map_err(Error::of_listening)?;
    let identity = match arguments.trust.shown() {
        Some((chain, key)) => Some(ServerIdentity::read(chain, key, arguments.client_ca.as_deref())?),
        None => None,
    };
    serve::check_protection(address, identity.is_some(), arguments.trust.insecure(), loopback)?;
    let pin = identity.as_ref().map(ServerIdentity::pin);
    let listener = Listener::bind(address, identity).await?;
    let address = listener.address().map_err(Error::internal)?;
    let pin = pin.map(|pin| format!("\ncertificate pin {}", hex::encode(pin))).unwrap_or_default();
    // With --json it is not among the objects.
    if arguments.json {
        warn(format_args!("listening on {address}{pin}\n"))
    } else {
        say(format_args!("listening on {address}{pin}"))?
    }
    let mut door = Door::default();
    loop {
        let begun = Arc::new(AtomicBool::new(false));
        let outcome = async {
            let met = door.next(&listener, arguments.timeout.limits()).await?;
            let told = told(arguments);
            let mut settings = settings(arguments, None);
            let of_features = settings.told_of_features.take();
            let [first, later] = [begun.clone(), begun.clone()];
            settings.told_of_features = Some(Arc::new(move |done, samples| {
                first.store(true, Ordering::Relaxed);
                of_features.iter().for_each(|told| told(done, samples));
            }));
            settings.told = Some(Arc::new(move |progress| {
                later.store(true, Ordering::Relaxed);
                told(progress);
            }));
            met.train(part.clone(), settings).await
        };
        match outcome.await {
            Err(error) if is_stranger(&error) && !begun.load(Ordering::Relaxed) => {
                warn(format_args!("note: {error}; waiting for another data owner\n"));
            }
            outcome => return outcome,
        }
    }
}

/// Whether who came may have been anybody, before a training has begun.
fn is_stranger(error: &Error) -> bool {
    matches!(
        error,
        Error::Connect { .. }
            | Error::Peer(_, Misbehaviour::Hello)
            | Error::Declined(Refusal::OnlyTraining)
            | Error::Session(
                ProtocolError::Disconnected
                    | ProtocolError::Io(_)
                    | ProtocolError::Timeout { .. }
                    | ProtocolError::Protocol { .. }
                    | ProtocolError::PeerAborted(_)
            )
    )
}

/// Draws a bar, and says what an epoch took.
fn told(arguments: &Arguments) -> Told {
    let (json, evaluate) = (arguments.json, arguments.evaluate);
    let bar = progress::callback(if evaluate { "evaluating" } else { "training" });
    Arc::new(move |progress: &Progress| {
        bar(progress.done as usize, progress.steps as usize);
        if !evaluate && progress.done.is_multiple_of(progress.steps_per_epoch) {
            // A training goes on if nobody reads this.
            let _ = show(json, &StepRecord::new(progress), StepRecord::text);
        }
    })
}

/// Writes the network, measures it, says what it took.
fn report(arguments: &Arguments, trained: Trained, held_out: Option<Labelled>) -> Result<()> {
    let mut record = Record::new(&trained);
    if let Some((network, output)) = trained.network.zip(arguments.output.as_ref()) {
        let model = Model::from(network);
        model.write(output)?;
        record.wrote(output);
        if let Some(data) = held_out {
            record.measured(super::eval::right(model.network(), &data, data.inputs.len())?.0, data.inputs.len());
        }
    }
    show(arguments.json, &record, Record::text)
}

/// As an object or as text.
fn show<R: Serialize>(json: bool, record: &R, text: impl Fn(&R) -> String) -> Result<()> {
    if json { print_json(record) } else { say(text(record)) }
}
