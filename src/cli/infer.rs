//! `lowkey infer`: have a server's model answer images, privately.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use lowkey::error::AbortCode;
use lowkey::net::{self, Trust};
use lowkey::policy::Refusal;
use lowkey::shape::shape;
use lowkey::store::{Digest, Store};
use lowkey::{Client, ClientBuilder, Error, Fault, Result};
use lowkey_models::Fit;
use lowkey_mpc::error::Error as ProtocolError;

use super::records::{InferenceRecord, stage_line};
use super::source::Undecoded;
use super::{
    ModeArguments, Places, Schedule, TimeoutArgument, answers, model, print_json, progress, runtime, say, several, warn,
};

#[derive(Args)]
pub struct Arguments {
    /// The server, host:port.
    #[arg(long, value_name = "ADDR")]
    server: String,
    /// A PNG, JPEG, .npy, .csv or IDX file (.gz too), or - for standard input. Arrays are what the model's own runtime reads: floats, or its quantised integers.
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// Scale a picture so that it covers the network's size, and take the middle.
    #[arg(long)]
    resize: bool,
    /// The first image to take, of a file that has several.
    #[arg(long, default_value_t = 0, value_name = "I")]
    index: usize,
    /// How many images.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    #[command(flatten)]
    mode: ModeArguments,
    /// When the lattice work happens.
    #[arg(long, value_enum, default_value_t)]
    schedule: Schedule,
    #[command(flatten)]
    trust: TrustArguments,
    /// The model to ask for, by its name at the server; a server with only one needs none. `lowkey models --server ADDR` lists them.
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Accept the model with this digest and no other.
    #[arg(long, value_name = "HEX", value_parser = parse_hash)]
    model_digest: Option<Digest>,
    #[command(flatten)]
    places: Places,
    /// Keep nothing and read nothing that was kept, whatever --cache and --state say: the hint is sent again, and the model is compared with
    /// --model-digest alone.
    #[arg(long)]
    no_store: bool,
    /// Pretend to have a link with this delay and rate, to measure [lan, wan].
    #[arg(long, value_name = "LINK")]
    shape: Option<lowkey::Link>,
    #[command(flatten)]
    timeout: TimeoutArgument,
    /// Do for N images ahead what does not depend on them, so that an image waits for its online stage alone.
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = parse_ahead)]
    prepare: usize,
    /// Try up to N times more where the connection is lost, nothing comes in time, or the server is full or ends; each time in a session
    /// and with a slot of its own. With --guard it is at least 6 where the server may wait for the answer of an audit.
    #[arg(long, default_value_t = 0, value_name = "N")]
    retry: u32,
    /// Print every output instead of the best five.
    #[arg(long, conflicts_with = "json")]
    all: bool,
    /// Print one JSON object per image instead of text.
    #[arg(long)]
    json: bool,
}

/// How the server is recognised.
#[derive(Args)]
pub struct TrustArguments {
    /// Certificate authority of the server, as PEM.
    #[arg(long, value_name = "FILE", group = "trust_in")]
    ca: Option<PathBuf>,
    /// Trust the certificate authorities of this system.
    #[arg(long, group = "trust_in")]
    system_roots: bool,
    /// SHA-256 of the server's certificate, as `lowkey serve` prints it; neither its dates nor its names are looked at, nor who signed it.
    #[arg(long, value_name = "HASH", group = "trust_in", value_parser = parse_hash)]
    pin: Option<[u8; 32]>,
    /// Plain TCP even to another machine.
    #[arg(long, group = "trust_in")]
    insecure: bool,
    /// Certificate chain to show to a server that asks for one, as PEM.
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Private key of that certificate, as PEM.
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
}

impl TrustArguments {
    /// What to show to a server that asks who this is.
    pub fn shown(&self) -> Option<(&Path, &Path)> {
        self.cert.as_deref().zip(self.key.as_deref())
    }

    /// The first of these options that was given.
    pub fn given(&self) -> Option<&'static str> {
        let options = [
            ("--ca", self.ca.is_some()),
            ("--system-roots", self.system_roots),
            ("--pin", self.pin.is_some()),
            ("--insecure", self.insecure),
            ("--cert", self.cert.is_some()),
        ];
        options.iter().find(|(_, given)| *given).map(|(name, _)| *name)
    }

    /// Whether plain TCP was asked for.
    pub fn insecure(&self) -> bool {
        self.insecure
    }

    /// Trust in a server, which may be on this machine.
    pub fn of(&self, server: &str, loopback: bool) -> Result<Trust> {
        Ok(match (&self.ca, self.pin) {
            (Some(path), _) => Trust::Authority(path.clone()),
            (_, Some(pin)) => Trust::Pin(pin),
            _ if self.system_roots => Trust::System,
            _ if loopback => Trust::Plain,
            _ if self.insecure => {
                warn("warning: plain TCP: anyone on the way can change or read the traffic\n");
                Trust::Plain
            }
            _ => {
                return Err(Error::unprotected(
                    format!("nothing says how to recognise the server at {server}"),
                    "give --ca FILE, --pin HASH or --system-roots, or --insecure for plain TCP",
                ));
            }
        })
    }
}

pub fn parse_hash(text: &str) -> Result<[u8; 32], String> {
    let mut hash = [0; 32];
    hex::decode_to_slice(text, &mut hash).map_err(|_| "expected 64 hexadecimal digits".to_owned())?;
    Ok(hash)
}

/// A server keeps no more.
fn parse_ahead(text: &str) -> Result<usize, String> {
    let most = lowkey::session::MAX_SLOTS;
    let count = text.parse().ok().filter(|count| *count <= most);
    count.ok_or_else(|| format!("expected a number up to {most}"))
}

pub fn run(arguments: Arguments) -> Result<ExitCode> {
    if arguments.prepare > 0 && arguments.schedule == Schedule::Direct {
        return Err(Error::usage(
            "nothing is prepared in the direct schedule",
            "leave --prepare out, or --schedule direct",
        ));
    }
    // Whether it holds an image is known once the server has said what its network reads.
    let source = Undecoded::open(&arguments.input, arguments.timeout.duration())?;
    let last = arguments.index.saturating_add(arguments.count as usize);
    if last > 1
        && let Some(most) = source.most().map_err(|error| Error::Input(Box::new(error)))?.filter(|most| *most < last)
    {
        return Err(beyond(&arguments, most));
    }
    let runtime = runtime()?;
    let trust = arguments.trust.of(&arguments.server, runtime.block_on(net::is_loopback(&arguments.server))?)?;
    let store = if arguments.no_store { None } else { Some(arguments.places.open()?) };
    // Sessions of one builder answer for one another: an audit in which the line was lost comes first in the next one.
    let builder = if arguments.mode.guard { Client::builder().guard() } else { Client::builder() };
    let place = Place { arguments: &arguments, builder, trust, store, source };
    runtime.block_on(async {
        let mut next = arguments.index;
        let mut attempt = 0;
        while let Err(error) = session(&place, &mut next).await {
            // Who leaves with an audit open is shut out: it comes again unasked.
            let most = if place.builder.owes() > 0 { arguments.retry.max(LEAST_TO_PAY) } else { arguments.retry };
            let Some(pause) = pause(&error, attempt).filter(|_| attempt < most) else { return Err(error) };
            attempt += 1;
            let seconds = pause.as_secs();
            warn(format_args!("{error}; trying again in {seconds} s ({attempt} of {most})\n"));
            tokio::time::sleep(pause).await;
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// More images are asked for than there are.
fn beyond(arguments: &Arguments, images: usize) -> Error {
    Error::usage(
        format!("{} has {}", arguments.input.display(), several(images as u64, "image")),
        format!("--index {} --count {} goes beyond them; the first has index 0", arguments.index, arguments.count),
    )
}

/// What every attempt begins with.
struct Place<'a> {
    arguments: &'a Arguments,
    builder: ClientBuilder,
    trust: Trust,
    store: Option<Store>,
    source: Undecoded,
}

/// A session for the images from `next` on.
async fn session(place: &Place<'_>, next: &mut usize) -> Result<()> {
    let arguments = place.arguments;
    let identity = arguments.trust.shown();
    let stream = net::connect_as(&arguments.server, &place.trust, identity, arguments.timeout.duration()).await?;
    let stream: Box<dyn net::Stream> = match arguments.shape {
        Some(link) => Box::new(shape(stream, link)),
        None => stream,
    };
    let mut builder = place
        .builder
        .clone()
        .limits(arguments.timeout.limits())
        .schedule(arguments.schedule.into())
        .reveal(arguments.mode.reveal().into())
        .progress(progress::callback("setup"));
    if let Some(name) = &arguments.model {
        builder = builder.model(name);
    }
    if let Some(digest) = arguments.model_digest {
        builder = builder.digest(digest);
    }
    if let Some(store) = &place.store {
        builder = builder.store(store.clone());
    }
    let mut client = builder.over(stream, &arguments.server).await?;
    for error in client.not_kept() {
        warn(format_args!("note: {error}; the session goes on without it\n"));
    }
    // Only now is it known what the network reads; a wrong file costs the server nothing more.
    let outcome = infer(&mut client, place, next).await;
    match outcome {
        Ok(()) => client.close().await,
        Err(error) => {
            let _ = client.close().await;
            Err(error)
        }
    }
}

/// Attempts to come back of a client that a server may have shut out because the line was lost.
const LEAST_TO_PAY: u32 = 6;

/// How long to wait before another attempt; `None` where another one would not help, or something was wrong. Whether there is one
/// depends on the connection and on what the server says of itself, and never on an answer.
fn pause(error: &Error, attempt: u32) -> Option<Duration> {
    let passing = [AbortCode::Busy as u16, AbortCode::Timeout as u16, AbortCode::Stopping as u16];
    match error {
        Error::Declined(Refusal::Full { wait_seconds }) => Some(Duration::from_secs((*wait_seconds).into())),
        Error::Session(ProtocolError::PeerAborted(code)) if !passing.contains(code) => None,
        Error::Connect { .. }
        | Error::Session(
            ProtocolError::Disconnected
            | ProtocolError::Io(_)
            | ProtocolError::Timeout { .. }
            | ProtocolError::PeerAborted(_),
        ) if error.fault() == Fault::Peer => Some(Duration::from_secs(1 << attempt.min(5))),
        _ => None,
    }
}

async fn infer(client: &mut Client, place: &Place<'_>, next: &mut usize) -> Result<()> {
    let arguments = place.arguments;
    let architecture = client.architecture().clone();
    let outputs = client.plan().answer.lanes;
    model::say_codings(&architecture, outputs);
    let fit = if arguments.resize { Fit::Scaled } else { Fit::Exact };
    let inputs = place.source.inputs(&architecture, fit)?;
    let end = arguments.index.checked_add(arguments.count as usize).filter(|&end| end <= inputs.len());
    let end = end.ok_or_else(|| beyond(arguments, inputs.len()))?;
    let setup = client.setup().clone();
    if !arguments.json {
        // Its name at the server, where that is known.
        let name = arguments.model.as_deref().unwrap_or(&architecture.name);
        say(format_args!("model {name}, digest\n  {}", hex::encode(client.digest())))?;
        say(stage_line("setup", &setup))?;
    }
    if arguments.prepare > 0 {
        client.prepare(arguments.prepare.min(end - *next)).await?;
    }
    let bar = progress::bar("inferring", (end - *next) as u64);
    let mut given = Vec::new();
    for index in *next..end {
        let input = inputs.get(index).expect("the index was checked");
        let answer = client.infer(&input).await?;
        let record = InferenceRecord::new(index, &answer, &setup);
        if arguments.json {
            print_json(&record)?;
        } else {
            say(answers::answer_line(index, &answer, &architecture))?;
            if let Some(table) = answers::outputs_table(&answer, &architecture).filter(|_| arguments.all) {
                say(table)?;
            }
            say(answers::cost_line(&answer))?;
        }
        given.push(answer);
        *next = index + 1;
        bar.inc(1);
        // The next image finds its slot ready.
        let missing = (end - index - 1).min(arguments.prepare).saturating_sub(client.ready());
        if missing > 0 {
            client.prepare(missing).await?;
        }
    }
    bar.finish_and_clear();
    if !arguments.json {
        if given.len() > 1 {
            say(answers::mean(&given))?;
        }
        answers::batches(&given).map_or(Ok(()), say)?;
    }
    Ok(())
}
