//! `lowkey serve`: a model for clients, several at once.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::Args;
use lowkey::net::{self, Incoming, Listener};
use lowkey::plan::planner::Target;
use lowkey::policy::{Policy, Quota, Visitor};
use lowkey::report::{human_bytes, human_ms};
use lowkey::server::{self, SessionReport};
use lowkey::store::{Lifetime, Record, Store, Uses};
use lowkey::{Error, Result, ServerModel};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::import::ImportOptions;
use super::{
    LinkArgument, Places, Reveal, TimeoutArgument, WidthsArgument, key, model, progress, runtime, say, seed, warn,
};

#[derive(Args)]
pub struct Arguments {
    /// A .lowkey, ONNX or TFLite file, or the name of a bundled model.
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// Where to listen; port 0 picks a free port.
    #[arg(long, default_value = "127.0.0.1:7117", value_name = "ADDR")]
    listen: String,
    /// Certificate chain for TLS 1.3, as PEM.
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Private key of the certificate, as PEM.
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Plain TCP even where others can listen.
    #[arg(long, conflicts_with = "cert")]
    insecure: bool,
    #[command(flatten)]
    link: LinkArgument,
    #[command(flatten)]
    widths: WidthsArgument,
    /// Most sessions at once; further clients wait.
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    sessions: u16,
    /// Refuse clients that ask for more than this.
    #[arg(long, value_enum, default_value_t)]
    reveal: Reveal,
    /// Most inferences per client and hour, by its address (IPv6: its /64 network); no limit unless given.
    #[arg(long, value_name = "N")]
    quota: Option<NonZeroU32>,
    #[command(flatten)]
    places: Places,
    #[command(flatten)]
    timeout: TimeoutArgument,
    /// End a session after this many seconds without a request.
    #[arg(long, default_value_t = 600, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    idle: u64,
    #[command(flatten)]
    import: ImportOptions,
}

/// How often the key is looked at.
const LOOK: Duration = Duration::from_secs(1);
const LOOKS_PER_DAY: u64 = 24 * 60 * 60;

pub fn run(arguments: Arguments) -> Result<ExitCode> {
    let network = model::read(&arguments.model, &arguments.import)?;
    let runtime = runtime()?;
    let identity = arguments.cert.as_deref().zip(arguments.key.as_deref());
    let loopback = runtime.block_on(net::is_loopback(&arguments.listen))?;
    if identity.is_none() && !loopback {
        if !arguments.insecure {
            return Err(Error::usage(
                format!("{} can be reached by others, and there is no certificate", arguments.listen),
                "give --cert and --key, or --insecure; a self-signed certificate: openssl req -x509 -newkey ed25519 -nodes \
                 -subj /CN=lowkey -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=DNS:HOST \
                 -keyout key.pem -out cert.pem",
            ));
        }
        warn("warning: plain TCP: anyone on the way can change or read the traffic\n");
    }
    let architecture = network.architecture();
    model::check_reveal(architecture, network.tensors()[architecture.output].elements(), arguments.reveal)?;
    if let Some(warning) = architecture.picture_warning().filter(|_| architecture.reads_pictures()) {
        warn(format_args!("warning: for pictures: {warning}\n"));
    }
    let store = arguments.places.open()?;
    let server_key = store.server_key(&mut ChaCha20Rng::from_seed(seed()?))?;
    let uses = store.uses(&server_key, SystemTime::now())?;
    check_key(&store, &uses.record()?)?;
    if let Some(stray) = store.stray_key() {
        warn(format_args!("warning: {} is not used; the key is {}\n", stray.display(), store.key_path().display()));
    }
    let policy = Arc::new(Policy {
        class_only: arguments.reveal == Reveal::Class,
        quota: arguments.quota.map(Quota::new),
        uses: Some(uses),
    });
    // An address that is taken shows before the work begins.
    let listener = runtime.block_on(Listener::bind(&arguments.listen, identity))?;
    let target = Target { link: arguments.link.link, widths: arguments.widths.into() };
    let model = ServerModel::publish(&network, target, &server_key, &progress::callback("publishing"))?;
    let outcome = runtime.block_on(async {
        let address = listener.address().map_err(Error::internal)?;
        let mut lines = format!("listening on {address}\n");
        lines += &format!("model {} digest {}", network.architecture().name, hex::encode(model.digest));
        if let Some((certificate, _)) = identity {
            let chain = net::certificates(certificate)?;
            lines += &format!("\ncertificate pin {}", hex::encode(net::pin_of(&chain[0])));
        }
        // A server goes on if nobody reads this.
        let _ = say(lines);
        let options = server::Options {
            limits: arguments.timeout.limits(),
            idle: Duration::from_secs(arguments.idle),
            visitor: Visitor::default(),
        };
        let sessions = Arc::new(Semaphore::new(arguments.sessions.into()));
        tokio::select! {
            outcome = accept(listener, model, options, policy.clone(), sessions) => outcome,
            outcome = watch(&store, &policy) => outcome,
            _ = tokio::signal::ctrl_c() => Ok(()),
        }
    });
    // Sessions in progress end with the process.
    runtime.shutdown_background();
    outcome.and(policy.uses.as_ref().map_or(Ok(()), Uses::give_back))?;
    Ok(ExitCode::SUCCESS)
}

/// Refuses a key past its lifetime, and announces the end of one that comes near it.
fn check_key(store: &Store, record: &Record) -> Result<()> {
    let path = store.key_path();
    match record.lifetime(SystemTime::now()) {
        Lifetime::Good => {}
        Lifetime::Ending => warn(format_args!(
            "warning: the key {} ends on {}, and {} are left: `lowkey key rotate` makes a new one\n",
            path.display(),
            key::ends(record),
            record.inferences_left()
        )),
        lifetime => return Err(Error::SpentKey { path, lifetime }),
    }
    Ok(())
}

/// Ends when the key does. Announces that once a day.
async fn watch(store: &Store, policy: &Policy) -> Result<()> {
    let Some(uses) = &policy.uses else { return std::future::pending().await };
    let mut rounds = 0;
    loop {
        tokio::time::sleep(LOOK).await;
        rounds += 1;
        if let Some(lifetime) = uses.spent(SystemTime::now()) {
            // Whoever was refused hears why.
            tokio::time::sleep(LOOK).await;
            return Err(Error::SpentKey { path: store.key_path(), lifetime });
        }
        if rounds % LOOKS_PER_DAY == 0 {
            check_key(store, &uses.record()?)?;
        }
    }
}

async fn accept(
    listener: Listener,
    model: Arc<ServerModel>,
    options: server::Options,
    policy: Arc<Policy>,
    sessions: Arc<Semaphore>,
) -> Result<()> {
    loop {
        let permit = sessions.clone().acquire_owned().await.map_err(Error::internal)?;
        match listener.accept().await {
            Ok((incoming, address)) => {
                let model = model.clone();
                let visitor = Visitor::new(policy.clone(), address.ip());
                let options = server::Options { visitor, ..options.clone() };
                tokio::task::spawn_blocking(move || {
                    let outcome = session(incoming, model, options, permit);
                    match outcome {
                        Ok(report) => tracing::info!("{address}: {}", describe(&report)),
                        Err(error) => tracing::warn!("{address}: {error}"),
                    }
                });
            }
            Err(error) => {
                // Out of file descriptors, say: others are still being served.
                tracing::warn!("accept: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn session(
    incoming: Incoming,
    model: Arc<ServerModel>,
    options: server::Options,
    _permit: OwnedSemaphorePermit,
) -> Result<SessionReport> {
    Handle::current().block_on(async {
        let handshake = tokio::time::timeout(options.limits.timeout, incoming.secure()).await;
        let stream = handshake
            .map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))
            .flatten()
            .map_err(|source| Error::Connect { address: "TLS handshake".into(), source })?;
        server::serve(stream, model, options, seed()?).await
    })
}

fn describe(report: &SessionReport) -> String {
    format!(
        "{} inferences, setup {} in {}, offline {} in {}, online {} in {}",
        report.inferences,
        human_bytes(report.setup.bytes()),
        human_ms(report.setup.ms),
        human_bytes(report.offline.bytes()),
        human_ms(report.offline.ms),
        human_bytes(report.online.bytes()),
        human_ms(report.online.ms)
    )
}
