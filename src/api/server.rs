//! A server: publishes a model and answers clients, several at once.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use lowkey_mpc::error::Error as ProtocolError;
use rustls::pki_types::CertificateDer;
use tokio::sync::watch;

use super::model::Model;
use super::publisher::Publisher;
use crate::admission::{Admission, Attendance, Cut, GOODBYE};
use crate::boxed::Boxed;
use crate::catalogue::{Catalogue, Served};
use crate::error::{Error, Result};
use crate::net::{Incoming, Listener, ServerIdentity, Stream, pin_of};
use crate::policy::{AllowList, Identity, Policy, Visitor};
use crate::publication::ServerModel;
use crate::readiness::Readiness;
use crate::server::{Greeted, Options, SessionReport};
use crate::session::Offer;
use crate::store::{Digest, Store, StoreError, Uses};
use crate::threads;
use crate::watch::Watch;

/// How often the key is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Published models that answer clients. A copy is the same server.
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
pub struct Server(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) catalogue: Mutex<Arc<Catalogue>>,
    pub(super) publisher: Publisher,
    /// One at a time reloads.
    pub(super) reloading: tokio::sync::Mutex<()>,
    /// Until the server runs.
    pub(super) listener: Mutex<Option<Listener>>,
    pub(super) address: Option<SocketAddr>,
    pub(super) browsers: Option<SocketAddr>,
    pub(super) identity: Option<ServerIdentity>,
    pub(super) policy: Arc<Policy>,
    pub(super) store: Option<Store>,
    pub(super) options: Options,
    pub(super) admission: Arc<Admission>,
    pub(super) watch: Arc<Watch>,
    /// The longest time until a connection has said hello.
    pub(super) hello: Duration,
    /// What runs at the end may take so long.
    pub(super) drain: Option<Duration>,
    pub(super) stop: watch::Sender<bool>,
    /// Says true when that time is over.
    pub(super) cut: watch::Sender<bool>,
    pub(super) readiness: Readiness,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let models = self.models();
        let models: Vec<_> =
            models.iter().map(|offer| format!("{} {}", offer.name, hex::encode(offer.digest))).collect();
        write!(f, "Server {{ models: {models:?}, address: {:?} }}", self.address())
    }
}

impl Server {
    /// Where clients connect; `None` of a server that listens nowhere.
    pub fn address(&self) -> Option<SocketAddr> {
        self.0.address
    }

    /// Where browsers connect; `None` of a server that has no such address.
    pub fn websocket_address(&self) -> Option<SocketAddr> {
        self.0.browsers
    }

    /// The digest of what was published first, for clients to pin.
    pub fn digest(&self) -> Digest {
        self.0.catalogue().first().offer.digest
    }

    /// What clients can ask for now, as the server lists it.
    pub fn models(&self) -> Vec<Offer> {
        self.0.catalogue().all().iter().map(|served| served.offer.clone()).collect()
    }

    /// What is served now, the first of several.
    pub fn model(&self) -> Arc<ServerModel> {
        self.0.catalogue().first().model.clone()
    }

    /// SHA-256 of the server's certificate, for clients to pin; `None` without TLS.
    pub fn pin(&self) -> Option<[u8; 32]> {
        self.0.identity.as_ref().map(ServerIdentity::pin)
    }

    /// Publishes these models, by name, under the same key, and reads the certificate and its key again. Sessions that are there keep what
    /// they have; those that come get what is new. A model that has not changed is not made again.
    ///
    /// # Errors
    /// As [`ServerBuilder::build`](super::ServerBuilder::build) has, or a file of the certificate is none. Then everything stays as it was.
    pub async fn reload(&self, models: Vec<(String, Model)>) -> Result<()> {
        let _one = self.0.reloading.lock().await;
        let credentials = self.0.identity.as_ref().map(ServerIdentity::read_again).transpose()?;
        let published = self.0.catalogue().all().iter().map(|served| served.model.clone()).collect();
        let catalogue = self.0.publisher.publish(models, published, None).await?;
        self.0.admission.expect(most_bytes(&catalogue));
        *self.0.catalogue.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(catalogue);
        if let (Some(identity), Some(credentials)) = (&self.0.identity, credentials) {
            identity.use_from_now_on(credentials);
        }
        Ok(())
    }

    /// The count of inferences under the server's key; `None` without a store.
    pub fn uses(&self) -> Option<&Uses> {
        self.0.policy.uses.as_ref()
    }

    /// Accepts clients until [`shutdown`](Self::shutdown), and then waits for the inferences that run. What becomes of a session is
    /// in the log (`tracing`).
    ///
    /// # Errors
    /// When the server listens nowhere, runs already or has done so, or its key comes to its end.
    pub async fn run(self) -> Result<()> {
        self.serve_all().await
    }

    fn serve_all(self) -> Boxed<'static, Result<()>> {
        Box::pin(async move {
            let Some(listener) = self.0.take_listener() else {
                return Err(Error::usage(
                    "the server listens nowhere, or did so before",
                    "bind one, or hand it streams",
                ));
            };
            let mut stop = self.0.options.stop.clone();
            if !stop.is_asked() {
                self.0.readiness.begins();
            }
            let outcome = tokio::select! {
                () = stop.asked() => Ok(()),
                outcome = self.watch_key() => outcome,
                () = self.0.watch.count() => Ok(()),
                outcome = self.accept(&listener) => outcome,
            };
            drop(listener);
            self.shutdown().await;
            outcome
        })
    }

    fn accept<'a>(&'a self, listener: &'a Listener) -> Boxed<'a, Result<()>> {
        Box::pin(async move {
            loop {
                match listener.accept().await {
                    Ok((incoming, address)) => {
                        let visit = self.0.clone().visit(incoming, address.ip());
                        // What becomes of it is told where it happens.
                        tokio::spawn(visit);
                    }
                    Err(error) => {
                        // Out of file descriptors, say: others are still being served.
                        tracing::warn!("accept: {error}");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        })
    }

    /// Ends when the key does.
    async fn watch_key(&self) -> Result<()> {
        let (Some(uses), Some(store)) = (self.uses(), &self.0.store) else { return std::future::pending().await };
        loop {
            tokio::time::sleep(LOOK).await;
            if let Some(lifetime) = uses.spent(SystemTime::now()) {
                // Whoever was refused hears why.
                tokio::time::sleep(LOOK).await;
                return Err(StoreError::SpentKey { path: store.key_path(), lifetime }.into());
            }
        }
    }

    /// Serves one client over a stream of bytes, until it closes the session; for the quota all such clients are one. Where this future is dropped
    /// its session is cut, whatever it is at: the client of a guarded session may be shut out for that.
    ///
    /// # Errors
    /// When the client or the connection fails, or the server is shut down.
    pub async fn serve(&self, stream: impl Stream + 'static) -> Result<SessionReport> {
        self.serve_from(stream, Identity::default()).await
    }

    /// The same for a client at an address, or of a name, by which the quota and the sessions of one address count. Whoever calls this
    /// has made sure who it is: a list of those who may ask is not looked at.
    ///
    /// # Errors
    /// As [`serve`](Self::serve).
    pub async fn serve_from(
        &self,
        stream: impl Stream + 'static,
        client: impl Into<Identity> + Send,
    ) -> Result<SessionReport> {
        let client = client.into();
        if *self.0.stop.borrow() {
            return Err(Error::usage("the server is shut down", "build another one"));
        }
        let greeted = Greeted::meet(Box::new(stream), self.0.options.limits).await;
        let greeted = greeted.inspect_err(|error| self.0.watch.dismissed(client.address, error))?;
        self.0.clone().session(greeted, client).await
    }

    /// Whether it takes clients: everything is published, it runs (or listens nowhere), and was not asked to end.
    pub fn ready(&self) -> bool {
        self.0.readiness.is_ready()
    }

    /// The same, and more, to be looked at from elsewhere.
    pub fn readiness(&self) -> Readiness {
        self.0.readiness.clone()
    }

    /// Answers the clients of another list from now on. Sessions that run go on, with the quotas that they began with.
    pub fn allow(&self, list: AllowList) {
        *self.0.policy.allow.write().unwrap_or_else(PoisonError::into_inner) = Some(list);
    }

    /// Who is there now.
    pub fn attendance(&self) -> Attendance {
        Attendance { held: self.0.watch.held(), ..self.0.admission.attendance() }
    }

    /// Accepts no more clients, ends each session when the request that it is at is done, and waits for that; no longer than the
    /// [builder](super::ServerBuilder::drain) says, and then cuts the sessions that are left.
    pub async fn shutdown(&self) {
        self.0.readiness.ends();
        self.0.stop.send_replace(true);
        drop(self.0.take_listener());
        if let Some(longest) = self.0.drain
            && tokio::time::timeout(longest, self.0.admission.empty()).await.is_err()
        {
            tracing::warn!("{} sessions did not end within {longest:?} and are cut", self.attendance().sessions);
            self.0.cut.send_replace(true);
        }
        self.0.admission.empty().await;
        if let Some(Err(error)) = self.uses().map(Uses::give_back) {
            tracing::warn!("{error}");
        }
    }
}

impl Inner {
    fn take_listener(&self) -> Option<Listener> {
        self.listener.lock().unwrap_or_else(|broken| broken.into_inner()).take()
    }

    fn catalogue(&self) -> Arc<Catalogue> {
        self.catalogue.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A connection: hello, and a session if there is room.
    fn visit(self: Arc<Self>, incoming: Incoming, client: IpAddr) -> Boxed<'static, Result<SessionReport>> {
        Box::pin(async move {
            let knock = self.admission.knock();
            let mut stop = self.options.stop.clone();
            let late = std::io::Error::from(std::io::ErrorKind::TimedOut);
            let greeted = tokio::select! {
                greeted = tokio::time::timeout(self.hello, self.greet(incoming)) => greeted.unwrap_or_else(|_| Err(hello(late))),
                () = knock.turned_away() => Err(hello(std::io::Error::other("too many connections that say nothing"))),
                () = stop.asked() => Err(hello(std::io::Error::other("the server ends"))),
            };
            let (greeted, certificate) = greeted.inspect_err(|error| self.watch.dismissed(client, error))?;
            drop(knock);
            let client = match self.policy.identify(client, certificate.as_deref()) {
                Ok(client) => client,
                Err(refusal) => {
                    let pin = certificate.map_or_else(String::new, |certificate| hex::encode(pin_of(&certificate)));
                    self.watch.stranger(client, &pin);
                    let error = greeted.refuse(refusal).await;
                    self.watch.dismissed(client, &error);
                    return Err(error);
                }
            };
            self.session(greeted, client).await
        })
    }

    /// With the certificate that the client has shown.
    async fn greet(&self, incoming: Incoming) -> Result<(Greeted, Option<CertificateDer<'static>>)> {
        let (stream, certificate) = incoming.secure().await.map_err(hello)?;
        Ok((Greeted::meet(stream, self.options.limits).await?, certificate))
    }

    /// A session, on a thread of its own.
    fn session(self: Arc<Self>, greeted: Greeted, client: Identity) -> Boxed<'static, Result<SessionReport>> {
        Box::pin(async move {
            let catalogue = self.catalogue();
            // Whoever asks for none, or for none that is there, is told so once it is admitted.
            let served = catalogue.find(greeted.ask()).ok().flatten();
            let memory = served.map_or(0, |served| served.memory().with_slots(1));
            let name = served.map_or_else(String::new, |served| served.offer.name.clone());
            let came = Instant::now();
            let seat = match self.admission.seat(&client, greeted.attention(), memory).await {
                Ok(seat) => seat,
                Err(refusal) => {
                    let error = greeted.refuse(refusal).await;
                    self.watch.dismissed(client.address, &error);
                    return Err(error);
                }
            };
            let watch = self.watch.session(client.clone(), &name, came.elapsed());
            let visitor = Visitor::new(self.policy.clone(), client);
            let stop = self.options.stop.clone().or(seat.leave());
            let options = Options { visitor, stop, watch: watch.clone(), room: seat.room(), ..self.options.clone() };
            let session = threads::converse(async move || greeted.serve(catalogue, options).await);
            let cut = |after| Err(Error::Session(ProtocolError::Timeout { after }));
            let outcome = match seat.keep(session, self.cut.subscribe()).await {
                Ok(outcome) => outcome.flatten(),
                Err(Cut::ForRoom) => cut(GOODBYE),
                Err(Cut::AtTheEnd) => cut(self.drain.unwrap_or_default()),
            };
            watch.ended(outcome.as_ref().map(|_| ()));
            outcome
        })
    }
}

/// What the longest inference sends.
pub(super) fn most_bytes(catalogue: &Catalogue) -> u64 {
    catalogue.all().iter().map(Served::inference_bytes).max().unwrap_or_default()
}

/// A connection that came to no hello.
fn hello(source: std::io::Error) -> Error {
    Error::Connect { address: "before its hello".into(), source }
}
