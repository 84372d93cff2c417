//! How a model is served: what a server is told before it publishes.

use std::marker::PhantomData;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, SystemTime};

use lowkey_mpc::channel::Limits;
use tokio::sync::watch;

use super::Async;
use super::model::Model;
use super::publisher::{Publisher, check};
use super::server::{Inner, Server, most_bytes};
use crate::admission::{self, Admission};
use crate::boxed::Boxed;
use crate::error::{Error, Result};
use crate::guard::{self, AuditRate, Guarding, Registry};
#[cfg(feature = "websocket")]
use crate::net::websocket::Origins;
use crate::net::{self, Listener, ServerIdentity};
use crate::plan::{Link, Reveal};
use crate::planner::{Target, Widths};
use crate::policy::{AllowList, Policy, Quota};
use crate::publication::ProgressHandler;
use crate::readiness::Readiness;
use crate::server::{Options, Stop};
use crate::store::{Key, Store, StoreError, Uses};
use crate::watch::{Watch, Watcher};

/// Sessions at once, unless said.
const SESSIONS: u16 = 16;
/// The longest time until a connection has said hello.
const HELLO: Duration = Duration::from_secs(10);

/// How a model is served; of the twin that serves it.
pub struct ServerBuilder<T = Async> {
    models: Vec<(String, Model)>,
    target: Target,
    identity: Option<(PathBuf, PathBuf)>,
    plain_anywhere: bool,
    state: Option<PathBuf>,
    store: Option<Store>,
    reveal: Option<Reveal>,
    quota: Option<NonZeroU32>,
    sessions: u16,
    per_address: Option<u16>,
    limits: Limits,
    idle: Duration,
    drain: Option<Duration>,
    progress: Option<ProgressHandler>,
    readiness: Readiness,
    memory: Option<u64>,
    client_authorities: Option<PathBuf>,
    allow: Option<AllowList>,
    watcher: Option<Arc<dyn Watcher>>,
    #[cfg(feature = "websocket")]
    browsers: Browsers,
    guard: Option<AuditRate>,
    twin: PhantomData<T>,
}

/// Where browsers connect, and the pages that are answered.
#[cfg(feature = "websocket")]
#[derive(Clone, Default)]
struct Browsers {
    address: Option<String>,
    origins: Vec<String>,
}

impl<T> ServerBuilder<T> {
    pub(super) fn new(model: Model) -> Self {
        Self {
            models: vec![(model.served_as(), model)],
            target: Link::default().into(),
            identity: None,
            plain_anywhere: false,
            state: None,
            store: None,
            reveal: None,
            quota: None,
            sessions: SESSIONS,
            per_address: None,
            limits: Limits::default(),
            idle: Options::default().idle,
            drain: None,
            progress: None,
            readiness: Readiness::default(),
            memory: None,
            client_authorities: None,
            allow: None,
            watcher: None,
            #[cfg(feature = "websocket")]
            browsers: Browsers::default(),
            guard: None,
            twin: PhantomData,
        }
    }

    /// The other twin, with all that was said.
    pub(super) fn twin<U>(self) -> ServerBuilder<U> {
        ServerBuilder {
            models: self.models,
            target: self.target,
            identity: self.identity,
            plain_anywhere: self.plain_anywhere,
            state: self.state,
            store: self.store,
            reveal: self.reveal,
            quota: self.quota,
            sessions: self.sessions,
            per_address: self.per_address,
            limits: self.limits,
            idle: self.idle,
            drain: self.drain,
            progress: self.progress,
            readiness: self.readiness,
            memory: self.memory,
            client_authorities: self.client_authorities,
            allow: self.allow,
            watcher: self.watcher,
            #[cfg(feature = "websocket")]
            browsers: self.browsers,
            guard: self.guard,
            twin: PhantomData,
        }
    }

    /// The first model is asked for by this name, and not by its [own](Model::served_as).
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.models[0].0 = name.into();
        self
    }

    /// One more model, and the name by which clients ask for it. Where there is only one they need no name.
    pub fn with(mut self, name: impl Into<String>, model: Model) -> Self {
        self.models.push((name.into(), model));
        self
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

    /// Clients have to show a certificate that an authority in this PEM file has signed. They are known by its first DNS name, or by the
    /// beginning of its SHA-256. Takes [TLS](Self::tls).
    pub fn client_authorities(mut self, file: impl Into<PathBuf>) -> Self {
        self.client_authorities = Some(file.into());
        self
    }

    /// Of these clients, none but those of a list, which are known by their names there.
    pub fn allow(mut self, list: AllowList) -> Self {
        self.allow = Some(list);
        self
    }

    /// Listens on this address too (host:port), for browsers, which bring the same frames in messages of a WebSocket; with TLS if there is
    /// a certificate. Pages of this machine are answered if the address is a loopback one, and others if they are [named](Self::origin).
    #[cfg(feature = "websocket")]
    pub fn websocket(mut self, address: impl ToString) -> Self {
        self.browsers.address = Some(address.to_string());
        self
    }

    /// Answers pages of this origin, as in `https://example.org`, and no others than those that are named. Again for each more.
    #[cfg(feature = "websocket")]
    pub fn origin(mut self, origin: impl Into<String>) -> Self {
        self.browsers.origins.push(origin.into());
        self
    }

    /// Answers [guarded](crate::guard) sessions and no others: a client that cheats learns no more than the answers to its inputs. Clients have to be
    /// known by certificates of [authorities](Self::client_authorities), and who is caught is kept in the [state](Self::state): both are needed. Half of
    /// the prepared slots are opened, unless [said otherwise](Self::audit_rate). The class alone is shown, unless [said otherwise](Self::reveal): it
    /// says far less of the weights to whoever gets a malformed slot into use than the outputs do.
    pub fn guard(mut self) -> Self {
        self.guard = Some(self.guard.unwrap_or_default());
        self
    }

    /// The same, with this probability that a slot is opened.
    pub fn audit_rate(mut self, rate: AuditRate) -> Self {
        self.guard = Some(rate);
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

    /// The most that clients are shown: the outputs unless said, and of a [guarded](Self::guard) server the class alone. [`Reveal::Class`]
    /// refuses clients that ask for more.
    pub fn reveal(mut self, most: Reveal) -> Self {
        self.reveal = Some(most);
        self
    }

    /// Most inferences per client and hour, by its name or its address; no limit unless said. A list may give a name another one.
    pub fn quota(mut self, per_hour: NonZeroU32) -> Self {
        self.quota = Some(per_hour);
        self
    }

    /// Most sessions at once, 16 unless said. Further clients wait in line for some seconds, and are then told that the server is full.
    /// Each takes a thread of the runtime that may block, and there [have to be enough](Server::threads) of these.
    pub fn sessions(mut self, most: u16) -> Self {
        self.sessions = most.max(1);
        self
    }

    /// Most sessions at once of one client, by its name, its IPv4 address or its IPv6 network of 64 bits; three quarters of all unless
    /// said. Loopback has no limit. Behind a balancer all clients have its address.
    pub fn sessions_per_address(mut self, most: u16) -> Self {
        self.per_address = Some(most.max(1));
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

    /// How long the inferences that run when the server is asked to end may take; then their sessions are cut. To their own ends unless
    /// said: each stage has a deadline. The audit of a guarded session is waited for, 15 seconds at most and no second one: its client would be
    /// shut out.
    pub fn drain(mut self, longest: Duration) -> Self {
        self.drain = Some(longest);
        self
    }

    /// Most bytes of memory that all sessions may need together, apart from the model; no limit unless said. Clients for whom there is
    /// no room wait, and are then told that the server is full. A plan says [what a session needs](crate::plan::ServerMemory).
    pub fn memory(mut self, most: u64) -> Self {
        self.memory = Some(most);
        self
    }

    /// Is told what the server does.
    pub fn watcher(mut self, watcher: impl Watcher + 'static) -> Self {
        self.watcher = Some(Arc::new(watcher));
        self
    }

    /// Told (layers done, layers in all) while the model is published.
    pub fn progress(mut self, told: impl Fn(usize, usize) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(told) as ProgressHandler);
        self
    }

    /// As [`Server::threads`] says of it.
    pub(super) fn threads(&self) -> usize {
        Server::threads(self.sessions)
    }

    /// Says from now on what the server is at: it is not ready while it publishes.
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
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
        self.check_protected(&address).await?;
        if self.identity.is_none() && self.client_authorities.is_some() {
            return Err(Error::usage(
                "clients show certificates over TLS alone",
                "give the server a certificate and its key",
            ));
        }
        if self.client_authorities.is_none() && self.allow.is_some() {
            return Err(Error::usage(
                "a list of clients, and nothing makes them show who they are",
                "name the authorities of their certificates",
            ));
        }
        if self.client_authorities.is_none() && self.guard.is_some() {
            return Err(Error::usage(
                "a guarded server, and nothing makes clients show who they are",
                "name the authorities of their certificates: who is caught is shut out by name",
            ));
        }
        let authorities = self.client_authorities.as_deref();
        let read = |(chain, key): &(PathBuf, PathBuf)| ServerIdentity::read(chain, key, authorities);
        let identity = self.identity.as_ref().map(read).transpose()?;
        // An address that is taken shows before the work begins.
        let listener = self.listen(&address, identity.clone()).await?;
        self.publish(Some(listener), identity).await
    }

    /// Refuses plain TCP where others can connect, unless that is asked for. Returns whether only this machine can.
    async fn check_protected(&self, address: &str) -> Result<bool> {
        let loopback = net::is_loopback(address).await.map_err(Error::of_listening)?;
        if self.identity.is_none() && !self.plain_anywhere && !loopback {
            let what = format!("{address} can be reached by others, and there is no certificate");
            return Err(Error::unprotected(what, "give a certificate and its key; plain TCP where it is asked for"));
        }
        Ok(loopback)
    }

    #[cfg(not(feature = "websocket"))]
    async fn listen(&self, address: &str, identity: Option<ServerIdentity>) -> Result<Listener> {
        Listener::bind(address, identity).await
    }

    /// On the address for browsers too, if there is one.
    #[cfg(feature = "websocket")]
    async fn listen(&self, address: &str, identity: Option<ServerIdentity>) -> Result<Listener> {
        let Browsers { address: browsers, origins } = &self.browsers;
        if browsers.is_none() && !origins.is_empty() {
            return Err(Error::usage("an origin of pages, and no address for browsers", "name the address too"));
        }
        let mut listener = Listener::bind(address, identity).await?;
        if let Some(address) = browsers {
            let origins = Origins::new(origins.iter().cloned(), self.check_protected(address).await?)?;
            listener.bind_websocket(address, origins).await?;
        }
        Ok(listener)
    }

    /// Publishes the model without listening anywhere: [`Server::serve`] takes streams of any kind.
    ///
    /// # Errors
    /// When a layer fits no parameter set, the server's key cannot be read or is past its lifetime, or the class alone is to be revealed
    /// of a network whose class it would not be.
    pub async fn build(self) -> Result<Server> {
        self.publish(None, None).await
    }

    fn most_revealed(&self) -> Reveal {
        self.reveal.unwrap_or_else(|| Reveal::default_for(self.guard.is_some()))
    }

    fn publish(self, listener: Option<Listener>, identity: Option<ServerIdentity>) -> Boxed<'static, Result<Server>> {
        Box::pin(async move {
            let reveal = self.most_revealed();
            let Self { models, target, state, store, quota, sessions, per_address, limits, idle, drain, .. } = self;
            let (progress, readiness, memory, allow, watch) =
                (self.progress, self.readiness, self.memory, self.allow, Watch::new(self.watcher));
            check(&models, reveal)?;
            let store = match state {
                Some(folder) => Some(Store::open(Some(folder))?),
                None => store,
            };
            let (key, uses) = match &store {
                None => (Key::fresh()?, None),
                Some(store) => own_key(store).map(|(key, uses)| (key, Some(uses)))?,
            };
            let guard = self.guard.map(|rate| guarding(rate, store.as_ref())).transpose()?;
            let publisher = Publisher { target, reveal, memory, key: Arc::new(key), guard };
            let catalogue = publisher.publish(models, Vec::new(), progress).await?;
            let (stop, asked) = watch::channel(false);
            let options = Options { limits, idle, stop: Stop::new(asked), ..Options::default() };
            let policy = Arc::new(Policy {
                class_only: reveal == Reveal::Class,
                quota: quota.map(Quota::new).unwrap_or_default(),
                allow: RwLock::new(allow),
                uses,
            });
            let admission =
                Admission::new(sessions.into(), per_address.map(usize::from), memory, most_bytes(&catalogue));
            let hello = HELLO.min(limits.timeout);
            if listener.is_none() {
                // Whoever has it hands it streams; a listener takes clients when the server runs.
                readiness.begins();
            }
            let address = listener.as_ref().map(Listener::address).transpose().map_err(Error::internal)?;
            let browsers =
                listener.as_ref().map(Listener::websocket_address).transpose().map_err(Error::internal)?.flatten();
            let listener = Mutex::new(listener);
            Ok(Server(Arc::new(Inner {
                catalogue: Mutex::new(Arc::new(catalogue)),
                publisher,
                reloading: tokio::sync::Mutex::default(),
                listener,
                address,
                browsers,
                identity,
                policy,
                store,
                options,
                admission,
                watch,
                hello,
                drain,
                stop,
                cut: watch::Sender::new(false),
                readiness,
            })))
        })
    }
}

impl Server {
    /// A server of this model.
    pub fn builder(model: Model) -> ServerBuilder {
        ServerBuilder::new(model)
    }

    /// Threads that may block, which a server of so many sessions takes of its runtime, at most: one for each session, one for each of 256
    /// clients whose seats are lent, and 16 for the rest. A runtime has 512 unless `max_blocking_threads` says more; that is enough for 240
    /// sessions. Where there are fewer, sessions wait for each other, with their seats.
    pub fn threads(sessions: u16) -> usize {
        admission::threads(sessions.into())
    }
}

/// The identities of guarded sessions, as a store remembers them.
fn guarding(rate: AuditRate, store: Option<&Store>) -> Result<Guarding> {
    let Some(store) = store else {
        let what = "a guarded server without a state folder would let in again who was shut out";
        return Err(Error::usage(what, "name a state folder"));
    };
    Ok(Guarding { registry: Registry::open(store.clone(), guard::IdentityLimits::default())?, rate })
}

/// A store's key, which is not past its lifetime, and where its inferences are counted.
fn own_key(store: &Store) -> Result<(Key, Uses)> {
    let key = store.server_key()?;
    let uses = store.uses(&key, SystemTime::now())?;
    check_key(store, &uses)?;
    Ok((key, uses))
}

/// Refuses a key past its lifetime.
fn check_key(store: &Store, uses: &Uses) -> Result<()> {
    use crate::store::Lifetime::{Ending, Good, TooOld, UsedUp};
    match uses.record()?.lifetime(SystemTime::now()) {
        Good | Ending => Ok(()),
        lifetime @ (TooOld | UsedUp) => Err(StoreError::SpentKey { path: store.key_path(), lifetime }.into()),
    }
}
