//! A server: publishes a model and answers clients, several at once.

use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lowkey_mpc::channel::Limits;
use tokio::sync::{Semaphore, watch};

use super::Async;
use super::client::not_revealed;
use super::model::Model;
use crate::error::{Error, Result};
use crate::net::{self, Incoming, Listener, Stream};
use crate::plan::planner::{Target, Widths};
use crate::plan::{Link, Plan, Reveal};
use crate::policy::{Policy, Quota, Visitor};
use crate::publication::{ProgressHandler, ServerModel};
use crate::report::{human_bytes, human_ms};
use crate::server::{Options, SessionReport, Stop, serve};
use crate::store::{Digest, Key, Store, Uses};
use crate::threads;

/// How often the key is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Sessions at once, unless said.
const SESSIONS: u16 = 16;

/// A published model that answers clients. A copy is the same server.
///
/// ```no_run
/// # async fn serve() -> lowkey::Result<()> {
/// let model = lowkey::Model::open("mnist.onnx")?;
/// let server = lowkey::Server::builder(model).bind("127.0.0.1:0").await?;
/// println!("listening on {:?}", server.address());
/// let running = tokio::spawn(server.clone().run());
/// // ...
/// server.shutdown().await;
/// running.await.expect("no panic")
/// # }
/// ```
#[derive(Clone)]
pub struct Server(Arc<Inner>);

struct Inner {
    model: Arc<ServerModel>,
    listener: Option<(Listener, SocketAddr)>,
    pin: Option<[u8; 32]>,
    policy: Arc<Policy>,
    store: Option<Store>,
    options: Options,
    sessions: u16,
    /// One for each session that may run.
    permits: Arc<Semaphore>,
    stop: watch::Sender<bool>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (model, digest) = (&self.plan().architecture.name, hex::encode(self.digest()));
        write!(f, "Server {{ model: {model:?}, digest: {digest}, address: {:?} }}", self.address())
    }
}

/// How a model is served; of the twin that serves it.
pub struct ServerBuilder<T = Async> {
    model: Model,
    target: Target,
    identity: Option<(PathBuf, PathBuf)>,
    plain_anywhere: bool,
    state: Option<PathBuf>,
    store: Option<Store>,
    reveal: Reveal,
    quota: Option<NonZeroU32>,
    sessions: u16,
    limits: Limits,
    idle: Duration,
    progress: Option<ProgressHandler>,
    twin: PhantomData<T>,
}

impl<T> ServerBuilder<T> {
    pub(super) fn new(model: Model) -> Self {
        Self {
            model,
            target: Link::default().into(),
            identity: None,
            plain_anywhere: false,
            state: None,
            store: None,
            reveal: Reveal::Logits,
            quota: None,
            sessions: SESSIONS,
            limits: Limits::default(),
            idle: Options::default().idle,
            progress: None,
            twin: PhantomData,
        }
    }

    /// The other twin, with all that was said.
    pub(super) fn twin<U>(self) -> ServerBuilder<U> {
        ServerBuilder {
            model: self.model,
            target: self.target,
            identity: self.identity,
            plain_anywhere: self.plain_anywhere,
            state: self.state,
            store: self.store,
            reveal: self.reveal,
            quota: self.quota,
            sessions: self.sessions,
            limits: self.limits,
            idle: self.idle,
            progress: self.progress,
            twin: PhantomData,
        }
    }

    /// The link to plan for: how many flights a saved byte is worth.
    pub fn link(mut self, link: Link) -> Self {
        self.target.link = link;
        self
    }

    /// How rings are chosen.
    pub fn widths(mut self, widths: Widths) -> Self {
        self.target.widths = widths;
        self
    }

    /// TLS 1.3 with this certificate chain and its private key, PEM files.
    pub fn tls(mut self, certificates: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.identity = Some((certificates.into(), key.into()));
        self
    }

    /// Plain TCP where other machines can connect: whoever is on the way can change and read the traffic.
    pub fn insecure(mut self) -> Self {
        self.plain_anywhere = true;
        self
    }

    /// A folder in which the server's key and the inferences under it are kept, so that a restart publishes the same bytes. Without it
    /// the key is drawn anew at each start, and clients that noted the digest refuse the next one.
    pub fn state(mut self, folder: impl Into<PathBuf>) -> Self {
        self.state = Some(folder.into());
        self
    }

    /// The same, of a store.
    pub fn store(mut self, store: Store) -> Self {
        self.store = Some(store);
        self
    }

    /// The most that clients are shown: the outputs unless said. [`Reveal::Class`] refuses clients that ask for more.
    pub fn reveal(mut self, most: Reveal) -> Self {
        self.reveal = most;
        self
    }

    /// Most inferences per client and hour, by its address; no limit unless said.
    pub fn quota(mut self, per_hour: NonZeroU32) -> Self {
        self.quota = Some(per_hour);
        self
    }

    /// Most sessions at once, 16 unless said; further clients wait.
    pub fn sessions(mut self, most: u16) -> Self {
        self.sessions = most.max(1);
        self
    }

    /// What each connection tolerates.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Gives a session up after so long without progress.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.limits.timeout = timeout;
        self
    }

    /// Ends a session after so long without a request, 10 minutes unless said.
    pub fn idle(mut self, longest: Duration) -> Self {
        self.idle = longest;
        self
    }

    /// Told (layers done, layers in all) while the model is published.
    pub fn progress(mut self, told: impl Fn(usize, usize) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(told) as ProgressHandler);
        self
    }
}

impl ServerBuilder {
    /// Listens on `address` (host:port; port 0 picks a free one) and publishes the model. Clients wait until the server
    /// [runs](Server::run).
    ///
    /// # Errors
    /// When the address cannot be listened on, or others can connect there and nothing protects them; and as [`build`](Self::build).
    pub async fn bind(self, address: impl ToString) -> Result<Server> {
        let address = address.to_string();
        if self.identity.is_none() && !self.plain_anywhere && !net::is_loopback(&address).await? {
            let what = format!("{address} can be reached by others, and there is no certificate");
            return Err(Error::unprotected(what, "give a certificate and its key; plain TCP where it is asked for"));
        }
        let identity = self.identity.as_ref().map(|(certificates, key)| (&**certificates, &**key));
        let pin = identity.map(|(certificates, _)| pin(certificates)).transpose()?;
        // An address that is taken shows before the work begins.
        let listener = Listener::bind(&address, identity).await?;
        let address = listener.address().map_err(Error::internal)?;
        self.publish(Some((listener, address)), pin).await
    }

    /// Publishes the model without listening anywhere: [`Server::serve`] takes streams of any kind.
    ///
    /// # Errors
    /// When a layer fits no parameter set, the server's key cannot be read or is past its lifetime, or the class alone is to be revealed
    /// of a network whose class it would not be.
    pub async fn build(self) -> Result<Server> {
        self.publish(None, None).await
    }

    async fn publish(self, listener: Option<(Listener, SocketAddr)>, pin: Option<[u8; 32]>) -> Result<Server> {
        let Self { model, target, state, store, reveal, quota, sessions, limits, idle, progress, .. } = self;
        let network = model.network();
        let outputs = network.tensors()[network.architecture().output].elements();
        if let Some(error) = not_revealed(network.architecture(), outputs, reveal) {
            return Err(error);
        }
        let store = match state {
            Some(folder) => Some(Store::open(Some(folder))?),
            None => store,
        };
        let (key, uses) = match &store {
            None => (Key::fresh()?, None),
            Some(store) => {
                let key = store.server_key()?;
                let uses = store.uses(&key, SystemTime::now())?;
                check_key(store, &uses)?;
                (key, Some(uses))
            }
        };
        let model = threads::compute(move || {
            let told = |done, all| progress.iter().for_each(|told| told(done, all));
            ServerModel::publish(model.network(), target, &key, &told)
        })
        .await??;
        let (stop, asked) = watch::channel(false);
        let options = Options { limits, idle, visitor: Visitor::default(), stop: Stop::new(asked) };
        let policy = Arc::new(Policy { class_only: reveal == Reveal::Class, quota: quota.map(Quota::new), uses });
        let permits = Arc::new(Semaphore::new(sessions.into()));
        Ok(Server(Arc::new(Inner { model, listener, pin, policy, store, options, sessions, permits, stop })))
    }
}

/// The pin of a certificate chain.
fn pin(certificates: &Path) -> Result<[u8; 32]> {
    Ok(net::pin_of(&net::certificates(certificates)?[0]))
}

/// Refuses a key past its lifetime.
fn check_key(store: &Store, uses: &Uses) -> Result<()> {
    use crate::store::Lifetime::{Ending, Good, TooOld, UsedUp};
    match uses.record()?.lifetime(SystemTime::now()) {
        Good | Ending => Ok(()),
        lifetime @ (TooOld | UsedUp) => Err(Error::SpentKey { path: store.key_path(), lifetime }),
    }
}

impl Server {
    /// A server of this model.
    pub fn builder(model: Model) -> ServerBuilder {
        ServerBuilder::new(model)
    }

    /// Where clients connect; `None` of a server that listens nowhere.
    pub fn address(&self) -> Option<SocketAddr> {
        self.0.listener.as_ref().map(|(_, address)| *address)
    }

    /// The digest of what was published, for clients to pin.
    pub fn digest(&self) -> Digest {
        self.0.model.digest
    }

    /// SHA-256 of the server's certificate, for clients to pin; `None` without TLS.
    pub fn pin(&self) -> Option<[u8; 32]> {
        self.0.pin
    }

    /// How the model runs.
    pub fn plan(&self) -> &Plan {
        &self.0.model.plan
    }

    /// The count of inferences under the server's key; `None` without a store.
    pub fn uses(&self) -> Option<&Uses> {
        self.0.policy.uses.as_ref()
    }

    /// Accepts clients until [`shutdown`](Self::shutdown), and then waits for the inferences that run. What becomes of a session is
    /// in the log (`tracing`).
    ///
    /// # Errors
    /// When the server listens nowhere, or its key comes to its end.
    pub async fn run(self) -> Result<()> {
        let Some((listener, _)) = &self.0.listener else {
            return Err(Error::usage("the server listens nowhere", "bind it, or hand it streams"));
        };
        let mut stop = self.0.options.stop.clone();
        let outcome = tokio::select! {
            () = stop.asked() => Ok(()),
            outcome = self.watch_key() => outcome,
            outcome = self.accept(listener) => outcome,
        };
        self.shutdown().await;
        outcome
    }

    async fn accept(&self, listener: &Listener) -> Result<()> {
        loop {
            let permit = self.0.permits.clone().acquire_owned().await.map_err(Error::internal)?;
            match listener.accept().await {
                Ok((incoming, address)) => {
                    let session = self.0.clone().session(Source::Socket(incoming), address.ip());
                    tokio::spawn(async move {
                        match session.await {
                            Ok(report) => tracing::info!("{address}: {}", describe(&report)),
                            Err(error) => tracing::warn!("{address}: {error}"),
                        }
                        drop(permit);
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

    /// Ends when the key does.
    async fn watch_key(&self) -> Result<()> {
        let (Some(uses), Some(store)) = (self.uses(), &self.0.store) else { return std::future::pending().await };
        loop {
            tokio::time::sleep(LOOK).await;
            if let Some(lifetime) = uses.spent(SystemTime::now()) {
                // Whoever was refused hears why.
                tokio::time::sleep(LOOK).await;
                return Err(Error::SpentKey { path: store.key_path(), lifetime });
            }
        }
    }

    /// Serves one client over a stream of bytes, until it closes the session; for the quota all such clients are one.
    ///
    /// # Errors
    /// When the client or the connection fails, or the server is shut down.
    pub async fn serve(&self, stream: impl Stream + 'static) -> Result<SessionReport> {
        let _permit = self.0.permits.clone().acquire_owned().await.map_err(Error::internal)?;
        if *self.0.stop.borrow() {
            return Err(Error::usage("the server is shut down", "build another one"));
        }
        self.0.clone().session(Source::Stream(Box::new(stream)), Ipv4Addr::UNSPECIFIED.into()).await
    }

    /// Accepts no more clients, ends each session when the request that it is at is done, and waits for that.
    pub async fn shutdown(&self) {
        self.0.stop.send_replace(true);
        // Permits come back as sessions end.
        let _all = self.0.permits.acquire_many(self.0.sessions.into()).await;
        if let Some(Err(error)) = self.uses().map(Uses::give_back) {
            tracing::warn!("{error}");
        }
    }
}

/// Where a session comes from.
enum Source {
    Socket(Incoming),
    Stream(Box<dyn Stream>),
}

impl Inner {
    /// A session, on a thread of its own.
    async fn session(self: Arc<Self>, source: Source, client: IpAddr) -> Result<SessionReport> {
        let visitor = Visitor::new(self.policy.clone(), client);
        let options = Options { visitor, ..self.options.clone() };
        threads::converse(async move || {
            let stream = match source {
                Source::Stream(stream) => stream,
                Source::Socket(incoming) => tokio::time::timeout(options.limits.timeout, incoming.secure())
                    .await
                    .map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))
                    .flatten()
                    .map_err(|source| Error::Connect { address: "TLS handshake".into(), source })?,
            };
            serve(stream, self.model.clone(), options).await
        })
        .await?
    }
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
