//! A client: connects to a server, hands over inputs, gets answers.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lowkey_bridge::Schedule;
use lowkey_models::Architecture;
use lowkey_models::data::Inputs;
use lowkey_mpc::channel::Limits;

use super::Async;
use super::answer::Answer;
use super::values::Values;
use crate::boxed::Boxed;
use crate::client::{Inference, Options, Prepared, Session};
use crate::error::{Error, Result};
use crate::guard::Debts;
use crate::net::{self, Stream, Trust};
use crate::plan::{Plan, Reveal};
use crate::publication::{ClientModel, ProgressHandler};
use crate::report::StageReport;
use crate::session::{MAX_SLOTS, Offer};
use crate::store::{Digest, Store, StoreError};
use crate::threads;

/// A session with a server.
///
/// ```no_run
/// # async fn ask(image: Vec<f32>) -> lowkey::Result<()> {
/// let mut client = lowkey::Client::connect("127.0.0.1:7117").await?;
/// client.prepare(1).await?; // before the image is known, if there is time
/// let answer = client.infer(&image).await?;
/// println!("{:?} in {:.1} ms", answer.class, answer.report.online.ms);
/// client.close().await
/// # }
/// ```
///
/// After an error of the connection or the server the session is over, and so it is where a future of this client is dropped before
/// its end: connect again. Inputs that are refused here change nothing, and the server does not learn of them.
pub struct Client {
    /// `None` once it is over.
    session: Option<Session>,
    ready: VecDeque<Prepared>,
    schedule: Schedule,
    reveal: Reveal,
    model: Arc<ClientModel>,
    setup: StageReport,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (model, digest) = (&self.architecture().name, hex::encode(self.digest()));
        write!(f, "Client {{ model: {model:?}, digest: {digest}, ready: {} }}", self.ready.len())
    }
}

/// How a client connects, and what it asks for; of the twin that connects.
#[derive(Clone)]
pub struct ClientBuilder<T = Async> {
    session: Options,
    trust: Option<Trust>,
    identity: Option<(PathBuf, PathBuf)>,
    plain_anywhere: bool,
    state: Option<PathBuf>,
    schedule: Schedule,
    reveal: Option<Reveal>,
    twin: PhantomData<T>,
}

impl<T> Default for ClientBuilder<T> {
    fn default() -> Self {
        Self {
            twin: PhantomData,
            session: Options::default(),
            trust: None,
            identity: None,
            plain_anywhere: false,
            state: None,
            schedule: Schedule::Prepared,
            reveal: None,
        }
    }
}

impl<T> ClientBuilder<T> {
    /// Asks for the model of this name; a server with only one model needs none.
    pub fn model(mut self, name: impl Into<String>) -> Self {
        self.session.model = Some(name.into());
        self
    }

    /// Accepts the model with this digest and no other.
    pub fn digest(mut self, digest: Digest) -> Self {
        self.session.digest = Some(digest);
        self
    }

    /// How the server is recognised. Without it: by nothing on a loopback address, and elsewhere there is no connection.
    pub fn trust(mut self, trust: Trust) -> Self {
        self.trust = Some(trust);
        self
    }

    /// TLS 1.3; the server's certificate is signed by an authority in this PEM file.
    pub fn authority(self, file: impl Into<PathBuf>) -> Self {
        self.trust(Trust::Authority(file.into()))
    }

    /// A certificate of one's own, and its private key, PEM files, for servers that ask for one.
    pub fn certificate(mut self, chain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.identity = Some((chain.into(), key.into()));
        self
    }

    /// TLS 1.3; the server's certificate is signed by an authority that this system trusts.
    pub fn system_authorities(self) -> Self {
        self.trust(Trust::System)
    }

    /// TLS 1.3; the server's certificate has this SHA-256. Neither its dates nor its names are looked at, nor who signed it.
    pub fn pin(self, certificate: [u8; 32]) -> Self {
        self.trust(Trust::Pin(certificate))
    }

    /// Plain TCP to other machines too: whoever is on the way can change and read the traffic.
    pub fn insecure(mut self) -> Self {
        self.plain_anywhere = true;
        self
    }

    /// A folder in which published models are kept, and the digest first seen at each address, so that a change is refused. Without it
    /// nothing is kept.
    pub fn state(mut self, folder: impl Into<PathBuf>) -> Self {
        self.state = Some(folder.into());
        self
    }

    /// The same, of a store.
    pub fn store(mut self, store: Store) -> Self {
        self.session.store = Some(store);
        self
    }

    /// What the connection tolerates.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.session.limits = limits;
        self
    }

    /// Gives up after so long without progress.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.session.limits.timeout = timeout;
        self
    }

    /// Told (layers done, layers in all) while a published model is made ready.
    pub fn progress(mut self, told: impl Fn(usize, usize) + Send + Sync + 'static) -> Self {
        self.session.progress = Some(Arc::new(told) as ProgressHandler);
        self
    }

    /// What is revealed: the outputs unless said, and in a [guarded](Self::guard) session the class alone.
    pub fn reveal(mut self, reveal: Reveal) -> Self {
        self.reveal = Some(reveal);
        self
    }

    /// When the lattice work happens: before the input is known unless said.
    pub fn schedule(mut self, schedule: Schedule) -> Self {
        self.schedule = schedule;
        self
    }

    /// A [guarded](crate::guard) session, with a server that has them: it need not trust this client, whose privacy is then claimed against
    /// a semi-honest server alone. A certificate of one's own is needed. The class alone is asked for, unless [said](Self::reveal). Connecting
    /// again with a clone of this builder answers an audit in which the line was lost, within ten minutes: [`owes`](Self::owes) says whether
    /// there is one.
    pub fn guard(mut self) -> Self {
        self.session.guard = Some(self.session.guard.unwrap_or_default());
        self
    }

    /// Slots of guarded sessions, of this builder and its clones, that a server may still ask to open since the line was lost before it said
    /// what becomes of them, or a future of its was dropped; and those that sessions wait for now. Whoever has some after a session has failed
    /// should connect again soon: the server may have shut this client out until it does. After a quarter of an hour no server asks for them,
    /// and they are forgotten.
    pub fn owes(&self) -> usize {
        self.session.guard.as_ref().map_or(0, Debts::len)
    }

    /// The other twin, with all that was said.
    pub(super) fn twin<U>(self) -> ClientBuilder<U> {
        let Self { session, trust, identity, plain_anywhere, state, schedule, reveal, .. } = self;
        ClientBuilder { session, trust, identity, plain_anywhere, state, schedule, reveal, twin: PhantomData }
    }
}

impl ClientBuilder {
    /// Connects to `address` (host:port) and opens a session.
    ///
    /// # Errors
    /// When nothing answers there, it is not recognised, its model is not the expected one, or it is no server of this version.
    pub async fn connect(self, address: impl ToString) -> Result<Client> {
        let address = address.to_string();
        let stream = self.reach(&address).await?;
        self.over(stream, address).await
    }

    /// Asks the server at `address` (host:port) which models it has; there is no session.
    ///
    /// # Errors
    /// When nothing answers there, it is not recognised, it is full, or it is no server of this version.
    pub async fn models(self, address: impl ToString) -> Result<Vec<Offer>> {
        let stream = self.reach(&address.to_string()).await?;
        crate::client::models(stream, self.session.limits).await
    }

    fn reach<'a>(&'a self, address: &'a str) -> Boxed<'a, Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let trust = match &self.trust {
                Some(trust) => trust.clone(),
                None if self.plain_anywhere || net::is_loopback(address).await? => Trust::Plain,
                None => {
                    let what = format!("nothing says how to recognise the server at {address}");
                    return Err(Error::unprotected(
                        what,
                        "name an authority or a pin; plain TCP where it is asked for",
                    ));
                }
            };
            let identity = self.identity.as_ref().map(|(chain, key)| (&**chain, &**key));
            net::connect_as(address, &trust, identity, self.session.limits.timeout).await
        })
    }

    /// Opens a session over a stream of bytes to a server, which is known as `name`.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn over(self, stream: impl Stream + 'static, name: impl ToString) -> Result<Client> {
        self.open(Box::new(stream), name.to_string()).await
    }

    fn open(self, stream: Box<dyn Stream>, name: String) -> Boxed<'static, Result<Client>> {
        Box::pin(async move {
            let Self { mut session, state, schedule, reveal, .. } = self;
            if session.guard.is_some() && schedule == Schedule::Direct {
                return Err(Error::usage("a guarded session has no direct schedule", "leave the schedule out"));
            }
            let reveal = reveal.unwrap_or_else(|| Reveal::default_for(session.guard.is_some()));
            session.address = name;
            if let Some(folder) = state {
                session.store = Some(Store::open(Some(folder))?);
            }
            let session = threads::converse(async move || Session::open(stream, session).await).await??;
            let (model, setup) = (session.model().clone(), session.setup().clone());
            let architecture = &model.plan.architecture;
            let refused = not_revealed(architecture, model.plan.answer.lanes, reveal);
            let mut client = Client { session: Some(session), ready: VecDeque::new(), schedule, reveal, model, setup };
            match refused {
                None => Ok(client),
                Some(error) => {
                    let _ = client.end().await;
                    Err(error)
                }
            }
        })
    }
}

/// Why the class alone cannot be revealed, if it was asked for.
pub(super) fn not_revealed(architecture: &Architecture, outputs: usize, reveal: Reveal) -> Option<Error> {
    let why = architecture.class_rule(outputs).not_revealed().filter(|_| reveal == Reveal::Class)?;
    let what =
        format!("the class alone would be the index of the largest output, which is not this network's class: {why}");
    Some(Error::usage(what, "reveal the logits"))
}

impl Client {
    /// Connects to `address` (host:port) on this machine and opens a session; keeps nothing on disk.
    ///
    /// # Errors
    /// As [`ClientBuilder::connect`].
    pub async fn connect(address: impl ToString) -> Result<Self> {
        Self::builder().connect(address).await
    }

    /// Whatever is not the default.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// Answers an input: with a slot that was [prepared](Self::prepare), or prepares one first.
    ///
    /// # Errors
    /// When the input is not what the network reads (nothing is sent, and the session goes on), or the connection or the server fails
    /// (the session is over). There is no retry.
    pub async fn infer<'a>(&mut self, input: impl Into<Values<'a>>) -> Result<Answer> {
        let values = input.into().read(self.architecture())?;
        let inference = self.answer(values).await?;
        Ok(Answer::new(inference, self.architecture()))
    }

    fn answer(&mut self, values: Vec<i64>) -> Boxed<'_, Result<Inference>> {
        Box::pin(async move {
            self.session()?.check_input(&values)?;
            let (schedule, reveal) = (self.schedule, self.reveal);
            let ready = self.ready.pop_front();
            self.step(async move |session: &mut Session| match ready {
                Some(slot) => session.infer(slot, &values).await,
                None => session.answer(schedule, reveal, &values).await,
            })
            .await
        })
    }

    /// Does everything for `count` more answers that does not depend on their inputs.
    ///
    /// # Errors
    /// When there would be more than a server keeps, or the connection or the server fails (the session is over).
    pub async fn prepare(&mut self, count: usize) -> Result<()> {
        if self.schedule == Schedule::Direct {
            return Err(Error::usage("nothing is prepared in the direct schedule", "leave the preparation out"));
        }
        if self.ready.len().saturating_add(count) > MAX_SLOTS {
            return Err(Error::usage(format!("more than {MAX_SLOTS} prepared answers"), "use some of them first"));
        }
        for _ in 0..count {
            let slot = self.prepare_one().await?;
            self.ready.push_back(slot);
        }
        Ok(())
    }

    fn prepare_one(&mut self) -> Boxed<'_, Result<Prepared>> {
        Box::pin(async move {
            let reveal = self.reveal;
            self.step(async move |session: &mut Session| session.prepare(reveal).await).await
        })
    }

    /// Answers that are prepared.
    pub fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Reads inputs from a PNG, NPY, CSV or IDX file, as the network reads them.
    ///
    /// # Errors
    /// When it is none, or its inputs are not what the network reads.
    pub fn read_inputs(&self, path: impl AsRef<std::path::Path>) -> Result<Inputs> {
        Inputs::read(path, &self.architecture().input).map_err(|error| Error::Input(Box::new(error)))
    }

    /// The public half of the server's network.
    pub fn architecture(&self) -> &Architecture {
        &self.model.plan.architecture
    }

    /// How it runs.
    pub fn plan(&self) -> &Plan {
        &self.model.plan
    }

    /// The digest of what the server published.
    pub fn digest(&self) -> Digest {
        self.model.digest
    }

    /// What opening the session took.
    pub fn setup(&self) -> &StageReport {
        &self.setup
    }

    /// Why files of the store could not be written. Answers do without; the next session gets the hint again, and compares the model with
    /// nothing.
    pub fn not_kept(&self) -> &[StoreError] {
        self.session.as_ref().map_or(&[], Session::not_kept)
    }

    /// Ends the session.
    ///
    /// # Errors
    /// When the connection fails.
    pub async fn close(mut self) -> Result<()> {
        self.end().await
    }

    fn end(&mut self) -> Boxed<'_, Result<()>> {
        Box::pin(async move {
            match self.session.take() {
                Some(session) => threads::converse(async move || session.close().await).await?,
                None => Ok(()),
            }
        })
    }

    fn session(&self) -> Result<&Session> {
        self.session.as_ref().ok_or(Error::SessionOver)
    }

    /// Takes the session to a thread that may compute, and back.
    async fn step<T, F>(&mut self, step: F) -> Result<T>
    where
        T: Send + 'static,
        F: AsyncFnOnce(&mut Session) -> Result<T> + Send + 'static,
    {
        let mut session = self.session.take().ok_or(Error::SessionOver)?;
        let (session, outcome) = threads::converse(async move || {
            let outcome = step(&mut session).await;
            (session, outcome)
        })
        .await?;
        // What is over is closed, so that the server is not kept waiting.
        self.session = Some(session).filter(|session| !session.is_over());
        outcome
    }
}
