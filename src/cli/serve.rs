//! `lowkey serve`: a model for clients, several at once.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Args;
use lowkey::guard::AuditRate;
use lowkey::net;
use lowkey::policy::AllowList;
use lowkey::store::{Lifetime, Store, Uses};
use lowkey::{Error, Model, Offer, Result, Server, ServerBuilder};

use super::foreign::{ImportOptions, in_switches};
use super::{
    LinkArgument, ModeArguments, Places, Reveal, TimeoutArgument, WidthsArgument, key, log, metrics, model, progress,
    runtime_with, say, size, warn,
};

#[derive(Args)]
pub struct Arguments {
    /// A .lowkey, ONNX or TFLite file, or the name of a bundled model. Again for each more; clients ask for them by name, and NAME=FILE
    /// gives another name than the model's own.
    #[arg(long = "model", value_name = "[NAME=]FILE", required = true)]
    models: Vec<PathBuf>,
    /// Where to listen; port 0 picks a free port.
    #[arg(long, default_value = "127.0.0.1:7117", value_name = "ADDR")]
    listen: String,
    /// Listen here too, for browsers: the same in messages of a WebSocket, with TLS if there is a certificate.
    #[arg(long, value_name = "ADDR")]
    websocket: Option<String>,
    /// Answer pages of this origin, as in https://example.org, and no others. Again for each more [default: those of this machine, if
    /// the address for browsers is a loopback one].
    #[arg(long = "origin", value_name = "ORIGIN", requires = "websocket")]
    origins: Vec<String>,
    /// Certificate chain for TLS 1.3, as PEM.
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Private key of the certificate, as PEM.
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Answer none but clients with a certificate that an authority in this PEM file has signed. --guard needs it.
    #[arg(long, value_name = "FILE", requires = "cert")]
    client_ca: Option<PathBuf>,
    /// Of these, answer none but those of this list: a name, sha256:HASH or dns:NAME of its certificate, and inferences per hour if they are
    /// limited, on each line.
    #[arg(long, value_name = "FILE", requires = "client_ca")]
    allow: Option<PathBuf>,
    #[command(flatten)]
    mode: ModeArguments,
    /// Open prepared slots with this probability [default: 1/2].
    #[arg(long, value_name = "P", requires = "guard")]
    guard_audit: Option<AuditRate>,
    /// Plain TCP even where others can listen.
    #[arg(long, conflicts_with = "cert")]
    insecure: bool,
    #[command(flatten)]
    link: LinkArgument,
    #[command(flatten)]
    widths: WidthsArgument,
    /// Most sessions at once; further clients wait some seconds, and hear that the server is full.
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    sessions: u16,
    /// Most sessions at once of one client, by its name, or without a certificate by its address (IPv6: its /64 network) [default: three
    /// quarters of all; loopback has no limit]. Behind a balancer all have its address: as many as --sessions then.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    sessions_per_address: Option<u16>,
    /// Most memory that all sessions may need together, apart from the model, as in 2G; `lowkey plan` prints what one needs. Clients for
    /// whom there is no room wait some seconds, and hear that the server is full.
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    memory: Option<u64>,
    /// Most inferences per client and hour, by its name, or without a certificate by its address (IPv6: its /64 network); no limit
    /// unless given.
    #[arg(long, value_name = "N")]
    quota: Option<NonZeroU32>,
    #[command(flatten)]
    places: Places,
    #[command(flatten)]
    timeout: TimeoutArgument,
    /// End a session after this many seconds without a request.
    #[arg(long, default_value_t = 600, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    idle: u64,
    /// After SIGTERM or Ctrl-C, cut inferences that still run after this many seconds; a second signal cuts them at once [default: they
    /// end].
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=86_400))]
    drain: Option<u64>,
    /// Answer GET /metrics (for Prometheus), /healthz and /readyz there, over plain HTTP: for probes, not for clients.
    #[arg(long, value_name = "ADDR")]
    metrics: Option<String>,
    /// How the log on standard error is written.
    #[arg(long, value_enum, default_value_t)]
    log_format: log::Format,
    #[command(flatten)]
    import: ImportOptions,
}

impl Arguments {
    /// How the log is written.
    pub fn log_format(&self) -> log::Format {
        self.log_format
    }
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub fn run(arguments: Arguments) -> Result<ExitCode> {
    let runtime = runtime_with(Server::threads(arguments.sessions))?;
    check_guard(&arguments)?;
    let exposed = runtime.block_on(exposed(&arguments))?;
    let address = exposed.unwrap_or(&arguments.listen);
    check_protection(address, arguments.cert.is_some(), arguments.insecure, exposed.is_none())?;
    let outcome = runtime.block_on(serve(&arguments));
    runtime.shutdown_background();
    outcome.map(|()| ExitCode::SUCCESS)
}

/// The address that others can reach, if there is one.
async fn exposed(arguments: &Arguments) -> Result<Option<&String>> {
    for address in [Some(&arguments.listen), arguments.websocket.as_ref()].into_iter().flatten() {
        if !net::is_loopback(address).await.map_err(Error::of_listening)? {
            return Ok(Some(address));
        }
    }
    Ok(None)
}

/// Refuses a guarded mode in which nobody could be shut out.
fn check_guard(arguments: &Arguments) -> Result<()> {
    if arguments.mode.guard && arguments.client_ca.is_none() {
        return Err(Error::usage(
            "--guard shuts out by name who is caught, and nothing makes clients show who they are",
            "give --client-ca FILE, the authority that signs the clients' certificates, with --cert and --key of this server",
        ));
    }
    Ok(())
}

/// Refuses plain TCP where others can listen, unless that is asked for; then it warns.
pub fn check_protection(listen: &str, certified: bool, insecure: bool, loopback: bool) -> Result<()> {
    if certified || loopback {
        return Ok(());
    }
    if !insecure {
        return Err(Error::unprotected(
            format!("{listen} can be reached by others, and there is no certificate"),
            "give --cert and --key, or --insecure; a self-signed certificate: openssl req -x509 -newkey ed25519 -nodes \
             -subj /CN=lowkey -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=DNS:HOST \
             -keyout key.pem -out cert.pem",
        ));
    }
    warn("warning: plain TCP: anyone on the way can change or read the traffic\n");
    Ok(())
}

/// A server as the arguments want it.
fn configured(mut builder: ServerBuilder, arguments: &Arguments, store: &Store) -> Result<ServerBuilder> {
    builder = builder
        .store(store.clone())
        .link(arguments.link.link)
        .widths(arguments.widths.into())
        .reveal(arguments.mode.reveal().into())
        .sessions(arguments.sessions)
        .limits(arguments.timeout.limits())
        .idle(Duration::from_secs(arguments.idle))
        .progress(progress::callback("publishing"));
    if let (Some(certificates), Some(key)) = (&arguments.cert, &arguments.key) {
        builder = builder.tls(certificates, key);
    }
    if let Some(authorities) = &arguments.client_ca {
        builder = builder.client_authorities(authorities);
    }
    if let Some(list) = &arguments.allow {
        builder = builder.allow(AllowList::read(list)?);
    }
    if let Some(address) = &arguments.websocket {
        builder = arguments.origins.iter().fold(builder.websocket(address), ServerBuilder::origin);
    }
    if arguments.mode.guard {
        builder = builder.guard();
    }
    if let Some(rate) = arguments.guard_audit {
        builder = builder.audit_rate(rate);
    }
    if arguments.insecure {
        builder = builder.insecure();
    }
    if let Some(most) = arguments.sessions_per_address {
        builder = builder.sessions_per_address(most);
    }
    if let Some(seconds) = arguments.drain {
        builder = builder.drain(Duration::from_secs(seconds));
    }
    if let Some(most) = arguments.memory {
        builder = builder.memory(most);
    }
    if let Some(quota) = arguments.quota {
        builder = builder.quota(quota);
    }
    Ok(builder)
}

/// Reads the models, publishes them, says so, and serves until it is asked to stop.
async fn serve(arguments: &Arguments) -> Result<()> {
    let hangup = Hangup::listen()?;
    // As process 1 of a container there is no other way to end it, and reading and publishing take long.
    let mut stop = Stop::listen()?;
    let models = tokio::select! {
        models = read_and_check(arguments) => models?,
        () = stop.asked() => return Ok(()),
    };
    let store = &arguments.places.open()?;
    let mut builder = configured(builder(models)?, arguments, store)?;
    if let Some(stray) = store.stray_key() {
        warn(format_args!("warning: {} is not used; the key is {}\n", stray.display(), store.key_path().display()));
    }
    // Before the work begins, so that it can be seen.
    let board = match &arguments.metrics {
        Some(address) => Some(metrics::Board::listen(address, arguments.memory, builder.readiness()).await?),
        None => None,
    };
    if let Some((board, _)) = &board {
        builder = builder.watcher(board.clone());
    }
    let server = tokio::select! {
        server = builder.bind(&arguments.listen) => server?,
        () = stop.asked() => return Ok(()),
    };
    announce(store, &server)?;
    let address = server.address().ok_or_else(|| Error::internal("bound without an address"))?;
    if let Some((board, _)) = &board {
        board.published(&server);
    }
    let board = board.map(|(_, address)| format!("\nmetrics on {address}")).unwrap_or_default();
    // A server goes on if nobody reads this.
    let browsers = server.websocket_address().map(|address| format!("\nbrowsers on {address}")).unwrap_or_default();
    let _ = say(format_args!("listening on {address}\n{}{browsers}{board}", published(&server)));
    tokio::select! {
        outcome = server.clone().run() => outcome,
        () = reloads(hangup, &server, arguments) => Ok(()),
        error = reminders(store, &server) => Err(error),
        () = stop.asked() => {
            // What runs is finished, unless it is asked again.
            tokio::select! {
                () = server.shutdown() => {}
                () = stop.asked() => {}
            }
            Ok(())
        }
    }
}

/// Announces the end of the key every day, until that fails.
async fn reminders(store: &Store, server: &Server) -> Error {
    loop {
        tokio::time::sleep(DAY).await;
        if let Err(error) = announce(store, server) {
            return error;
        }
    }
}

/// Reads the files again at every SIGHUP.
async fn reloads(mut hangup: Hangup, server: &Server, arguments: &Arguments) {
    loop {
        hangup.heard().await;
        match reload(server, arguments).await {
            Ok(()) => drop(say(format_args!("reloaded\n{}", published(server)))),
            Err(error) => tracing::error!("reload: {error}; what was served is served on"),
        }
    }
}

/// The models of `--model`, on a thread of their own.
async fn read_and_check(arguments: &Arguments) -> Result<Vec<(String, Model)>> {
    let (models, options, reveal) = (arguments.models.clone(), arguments.import.clone(), arguments.mode.reveal());
    let work = tokio::task::spawn_blocking(move || {
        let models = read(&models, &options)?;
        check(&models, reveal).map(|()| models)
    });
    work.await.map_err(Error::internal)?
}

/// The models of `--model`, each with its name.
fn read(models: &[PathBuf], options: &ImportOptions) -> Result<Vec<(String, Model)>> {
    let read = |argument: &PathBuf| {
        let (name, file) = split(argument);
        let model = model::read(&file, options)?;
        Ok((name.unwrap_or_else(|| model.served_as()), model))
    };
    models.iter().map(read).collect()
}

/// Name and file of `[NAME=]FILE`; what is a file as a whole has no name.
fn split(argument: &Path) -> (Option<String>, PathBuf) {
    match argument.to_str().and_then(|text| text.split_once('=')) {
        Some((name, file)) if !argument.exists() => (Some(name.to_owned()), file.into()),
        _ => (None, argument.to_owned()),
    }
}

/// Refuses what `--reveal` does not go with, and warns of inputs that nothing is said of.
fn check(models: &[(String, Model)], reveal: Reveal) -> Result<()> {
    for (_, model) in models {
        let (network, architecture) = (model.network(), model.architecture());
        model::check_reveal(architecture, network.tensors()[architecture.output].elements(), reveal)?;
        if let Some(warning) = architecture.picture_warning().filter(|_| architecture.reads_pictures()) {
            warn(format_args!("warning: for pictures: {}\n", in_switches(&warning)));
        }
    }
    Ok(())
}

/// A server of all of them.
fn builder(models: Vec<(String, Model)>) -> Result<ServerBuilder> {
    let mut models = models.into_iter();
    let (name, first) = models.next().ok_or_else(|| Error::internal("no model"))?;
    let builder = Server::builder(first).named(name);
    Ok(models.fold(builder, |builder, (name, model)| builder.with(name, model)))
}

/// Reads the files again, and serves what is in them to whoever comes from now on.
async fn reload(server: &Server, arguments: &Arguments) -> Result<()> {
    let allow = arguments.allow.as_ref().map(|list| AllowList::read(list)).transpose()?;
    server.reload(read_and_check(arguments).await?).await?;
    allow.into_iter().for_each(|list| server.allow(list));
    Ok(())
}

/// What clients pin: a line for each model, and one for the certificate.
fn published(server: &Server) -> String {
    let model = |offer: &Offer| format!("model {} digest {}", offer.name, hex::encode(offer.digest));
    let pin = server.pin().map(|pin| format!("certificate pin {}", hex::encode(pin)));
    server.models().iter().map(model).chain(pin).collect::<Vec<_>>().join("\n")
}

/// SIGHUP where there is one, from now on.
struct Hangup {
    #[cfg(unix)]
    signal: tokio::signal::unix::Signal,
}

impl Hangup {
    fn listen() -> Result<Self> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            Ok(Self { signal: signal(SignalKind::hangup()).map_err(Error::internal)? })
        }
        #[cfg(not(unix))]
        Ok(Self {})
    }

    /// Until it comes.
    async fn heard(&mut self) {
        #[cfg(unix)]
        if self.signal.recv().await.is_some() {
            return;
        }
        std::future::pending().await
    }
}

/// Ctrl-C, and SIGTERM where there is one, from now on.
struct Stop {
    #[cfg(unix)]
    signals: [tokio::signal::unix::Signal; 2],
}

impl Stop {
    fn listen() -> Result<Self> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let hear = |kind| signal(kind).map_err(Error::internal);
            Ok(Self { signals: [hear(SignalKind::interrupt())?, hear(SignalKind::terminate())?] })
        }
        #[cfg(not(unix))]
        Ok(Self {})
    }

    /// Until one comes.
    async fn asked(&mut self) {
        #[cfg(unix)]
        {
            let [interrupt, terminate] = &mut self.signals;
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
    }
}

/// Announces the end of a key that comes near it.
fn announce(store: &Store, server: &Server) -> Result<()> {
    let Some(record) = server.uses().map(Uses::record).transpose()? else { return Ok(()) };
    if record.lifetime(SystemTime::now()) == Lifetime::Ending {
        warn(format_args!(
            "warning: the key {} ends on {}, and {} are left: `lowkey key rotate` makes a new one\n",
            store.key_path().display(),
            key::ends(&record),
            record.inferences_left()
        ));
    }
    Ok(())
}
