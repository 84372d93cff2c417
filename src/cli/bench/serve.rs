//! `lowkey bench serve`: many clients at one server: how many answers, how long each waits, how much memory, and whether all are right.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use lowkey::net::Trust;
use lowkey::policy::Refusal;
use lowkey::report::peak_memory;
use lowkey::store::Store;
use lowkey::{Architecture, Client, Error, Model, Result, Tensor};
use rand::RngExt;
use tokio::sync::mpsc;

use super::load::Load;
use super::processes::{self, Process};
use super::spread::Spread;
use crate::cli::demo::is_plaintext;
use crate::cli::ending::Ending;
use crate::cli::{LinkArgument, Mode, TimeoutArgument, print_json, progress, runtime, runtime_with, say, warn};

#[derive(Args)]
pub struct Arguments {
    /// Clients at once.
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    clients: u16,
    /// Answers for each client.
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// Answers per session; all of a client's unless given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    per_session: Option<u32>,
    /// The model: a bundled one or a file. With --server, what its answers are compared with.
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// A server that runs, host:port; without it one is started in a process of its own.
    #[arg(long, value_name = "ADDR")]
    server: Option<String>,
    /// The model to ask that server for, by its name there; a server with only one needs none.
    #[arg(long, value_name = "NAME", requires = "server")]
    ask: Option<String>,
    /// SHA-256 of that server's certificate; without it, plain TCP on this machine.
    #[arg(long, value_name = "HASH", requires = "server", value_parser = crate::cli::infer::parse_hash)]
    pin: Option<[u8; 32]>,
    /// Seats of the server that is started; as many as clients unless given.
    #[arg(long, value_name = "N", conflicts_with = "server", value_parser = clap::value_parser!(u16).range(1..))]
    sessions: Option<u16>,
    #[command(flatten)]
    mode: Mode,
    #[command(flatten)]
    link: LinkArgument,
    #[command(flatten)]
    timeout: TimeoutArgument,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// What a client tells.
enum Event {
    Opened(f64),
    Answered { offline: f64, online: f64, all: f64, right: Option<bool> },
    Refused,
    Failed(String),
}

/// What all clients share.
struct Task {
    address: String,
    trust: Trust,
    store: Store,
    model: Option<Model>,
    /// Its name at the server.
    ask: Option<String>,
    mode: Mode,
    timeout: Duration,
    count: u32,
    per_session: u32,
}

/// A client that hears so often in a row that the server is full gives up, seconds apart.
const PATIENCE: usize = 600;

pub fn run(arguments: Arguments) -> Result<ExitCode> {
    let folder = tempfile::tempdir().map_err(|error| Error::file(&std::env::temp_dir(), error))?;
    let (server, address) = match &arguments.server {
        Some(address) => (None, address.clone()),
        None => {
            own_server(&arguments, folder.path().join("server")).map(|(server, address)| (Some(server), address))?
        }
    };
    let trust = match arguments.pin {
        Some(pin) => Trust::Pin(pin),
        None if runtime()?.block_on(lowkey::net::is_loopback(&address))? => Trust::Plain,
        None => return Err(Error::unprotected(format!("{address} is another machine"), "give --pin HASH")),
    };
    let model = match (&arguments.model, &server) {
        (Some(name), _) => Some(Model::open(name)?),
        (None, Some(_)) => Some(Model::open(DEFAULT)?),
        (None, None) => None,
    };
    if model.is_none() {
        warn("note: no --model to compare with: wrong answers are not counted\n");
    }
    let task = Task {
        address,
        trust,
        store: Store::open(Some(folder.path().join("clients")))?,
        model,
        ask: arguments.ask,
        mode: arguments.mode,
        timeout: arguments.timeout.duration(),
        count: arguments.count,
        per_session: arguments.per_session.unwrap_or(arguments.count),
    };
    // A thread for each client's session.
    let load =
        runtime_with(usize::from(arguments.clients) + 16)?.block_on(all(task, arguments.clients, server.as_ref()))?;
    if arguments.json {
        print_json(&load)?;
    } else {
        say(load.text())?;
    }
    let ending = match (load.wrong, load.failed) {
        (None | Some(0), 0) => Ending::Success,
        (None | Some(0), _) => Ending::Peer,
        _ => Ending::Differs,
    };
    Ok(ending.into())
}

const DEFAULT: &str = "digits";

fn own_server(arguments: &Arguments, folder: PathBuf) -> Result<(Process, String)> {
    let model = arguments.model.as_deref().unwrap_or(DEFAULT);
    let sessions = arguments.sessions.unwrap_or(arguments.clients).to_string();
    let link = arguments.link.link.to_string();
    processes::serve(model, &["--link", &link, "--sessions", &sessions], &folder)
}

/// Runs all clients, and sums up what they tell.
async fn all(task: Task, clients: u16, server: Option<&Process>) -> Result<Load> {
    let total = usize::from(clients) * task.count as usize;
    let compared = task.model.is_some();
    let (task, start) = (Arc::new(task), Instant::now());
    let (tell, mut told) = mpsc::unbounded_channel();
    for number in 0..clients {
        tokio::spawn(client(task.clone(), number, tell.clone()));
    }
    drop(tell);
    let bar = progress::bar("inferring", total as u64);
    let [mut waits, mut offline, mut online, mut whole] = [const { Vec::new() }; 4];
    let (mut wrong, mut refused, mut errors) = (0, 0, BTreeMap::new());
    let mut peaks = Vec::new();
    while let Some(event) = told.recv().await {
        match event {
            Event::Opened(ms) => waits.push(ms),
            Event::Answered { offline: before, online: after, all, right } => {
                offline.push(before);
                online.push(after);
                whole.push(all);
                wrong += usize::from(right == Some(false));
                bar.inc(1);
            }
            Event::Refused => refused += 1,
            Event::Failed(why) => {
                *errors.entry(why).or_insert(0) += 1;
                bar.inc(1);
            }
        }
        if whole.len() * 10 >= (peaks.len() + 1) * total {
            peaks.extend(server.and_then(|server| peak_memory(Some(server.id()))));
        }
    }
    bar.finish_and_clear();
    let seconds = start.elapsed().as_secs_f64();
    let answers = whole.len();
    Ok(Load {
        clients,
        answers,
        seconds,
        answers_per_second: answers as f64 / seconds,
        wrong: compared.then_some(wrong),
        failed: errors.values().sum(),
        refused,
        errors,
        wait_ms: Spread::of(waits),
        offline_ms: Spread::of(offline),
        online_ms: Spread::of(online),
        answer_ms: Spread::of(whole),
        server_peak_bytes: peaks,
        client_peak_bytes: peak_memory(None),
    })
}

/// One client: sessions one after the other until it has tried `count` times.
async fn client(task: Arc<Task>, number: u16, tell: mpsc::UnboundedSender<Event>) {
    let mut left = task.count;
    while left > 0 {
        let begun = Instant::now();
        let opened = open(&task, &tell).await;
        let outcome = match opened {
            Ok(mut client) => {
                let _ = tell.send(Event::Opened(ms(begun)));
                let outcome = answers(&task, number, &mut client, &mut left, &tell).await;
                outcome.and(client.close().await)
            }
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            let _ = tell.send(Event::Failed(error.to_string()));
            left = left.saturating_sub(1);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Opens a session; where the server is full, when it says that there may be room.
async fn open(task: &Task, tell: &mpsc::UnboundedSender<Event>) -> Result<Client> {
    let mut builder = Client::builder()
        .store(task.store.clone())
        .trust(task.trust.clone())
        .timeout(task.timeout)
        .reveal(task.mode.reveal.into())
        .schedule(task.mode.schedule.into());
    if let Some(name) = &task.ask {
        builder = builder.model(name);
    }
    let mut refusals = 0;
    loop {
        match builder.clone().connect(&task.address).await {
            Err(Error::Declined(Refusal::Full { wait_seconds })) if refusals < PATIENCE => {
                refusals += 1;
                let _ = tell.send(Event::Refused);
                tokio::time::sleep(Duration::from_secs(u64::from(wait_seconds).max(1))).await;
            }
            outcome => return outcome,
        }
    }
}

/// The answers of one session.
async fn answers(
    task: &Task,
    number: u16,
    client: &mut Client,
    left: &mut u32,
    tell: &mpsc::UnboundedSender<Event>,
) -> Result<()> {
    for _ in 0..task.per_session.min(*left) {
        let input = input(task.model.as_ref(), client.architecture(), usize::from(number) + *left as usize);
        let begun = Instant::now();
        let answer = client.infer(&input).await?;
        let all = ms(begun);
        let right = task.model.as_ref().map(|model| is_plaintext(&answer, model, &input)).transpose()?;
        let (offline, online) = (answer.report.offline.ms, answer.report.online.ms);
        let _ = tell.send(Event::Answered { offline, online, all, right });
        *left -= 1;
    }
    Ok(())
}

/// A bundled image, or random values that the network reads.
fn input(model: Option<&Model>, architecture: &Architecture, index: usize) -> Tensor {
    if let Some(demo) = model.and_then(Model::demo) {
        return demo.inputs.get(index % demo.inputs.len()).expect("the index is below the length");
    }
    let (input, mut rng) = (&architecture.input, rand::rng());
    let largest = (1i64 << input.bits) - 1;
    Tensor::from_shape_simple_fn(input.shape, || rng.random_range(0..=largest) - input.zero_point)
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
