//! The same without `async`: client and server with runtimes of their own.
//!
//! ```no_run
//! use lowkey::Model;
//! use lowkey::blocking::{Client, Server};
//!
//! # fn main() -> lowkey::Result<()> {
//! let server = Server::builder(Model::open("digits")?).bind("127.0.0.1:0")?;
//! let running = std::thread::spawn({
//!     let server = server.clone();
//!     move || server.run()
//! });
//! let mut client = Client::connect(server.address().expect("bound"))?;
//! let answer = client.infer(&[0u8; 64])?;
//! println!("{:?}", answer.class);
//! client.close()?;
//! server.shutdown();
//! running.join().expect("no panic")
//! # }
//! ```

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use lowkey_models::Architecture;
use lowkey_models::data::Inputs;
use tokio::runtime::{Handle, Runtime};

use super::answer::Answer;
use super::model::Model;
use super::values::Values;
use super::{Async, Blocking, client, server_builder};
use crate::admission::Attendance;
use crate::error::Result;
use crate::net::Stream;
use crate::plan::Plan;
use crate::policy::{AllowList, Identity};
use crate::publication::ServerModel;
use crate::readiness::Readiness;
use crate::report::StageReport;
use crate::server::SessionReport;
use crate::session::Offer;
use crate::store::{Digest, StoreError, Uses};
use crate::threads;

/// How a client connects, and what it asks for.
pub type ClientBuilder = client::ClientBuilder<Blocking>;
/// How a model is served.
pub type ServerBuilder = server_builder::ServerBuilder<Blocking>;

/// Threads of a client that may block: for its session, and for looking up names.
const CLIENT_THREADS: usize = 16;

/// A runtime that is put away without waiting, so that it can be dropped anywhere.
#[derive(Debug)]
struct Own(Option<Runtime>);

impl Own {
    /// A client's: its session takes one thread.
    fn new() -> Result<Arc<Self>> {
        Self::with(CLIENT_THREADS)
    }

    /// With so many threads that may block.
    fn with(threads: usize) -> Result<Arc<Self>> {
        Ok(Arc::new(Self(Some(threads::runtime(threads)?))))
    }

    /// Waits for a future, on a thread of its own where this one belongs to a runtime.
    fn wait<F>(&self, future: F) -> F::Output
    where
        F: Future + Send,
        F::Output: Send,
    {
        let runtime = self.0.as_ref().expect("until it is dropped");
        if Handle::try_current().is_err() {
            return runtime.block_on(future);
        }
        let waited = std::thread::scope(|scope| scope.spawn(|| runtime.block_on(future)).join());
        waited.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl ClientBuilder {
    /// Connects to `address` (host:port) and opens a session.
    ///
    /// # Errors
    /// When nothing answers there, it is not recognised, its model is not the expected one, or it is no server of this version.
    pub fn connect(self, address: impl ToString) -> Result<Client> {
        let (runtime, address) = (Own::new()?, address.to_string());
        let inner = runtime.wait(self.twin::<Async>().connect(address))?;
        Ok(Client { inner, runtime })
    }

    /// Asks the server at `address` (host:port) which models it has; there is no session.
    ///
    /// # Errors
    /// When nothing answers there, it is not recognised, it is full, or it is no server of this version.
    pub fn models(self, address: impl ToString) -> Result<Vec<Offer>> {
        let (runtime, address) = (Own::new()?, address.to_string());
        runtime.wait(self.twin::<Async>().models(address))
    }

    /// Opens a session over a stream of bytes to a server, which is known as `name`.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn over(self, stream: impl Stream + 'static, name: impl ToString) -> Result<Client> {
        let (runtime, name) = (Own::new()?, name.to_string());
        let inner = runtime.wait(self.twin::<Async>().over(stream, name))?;
        Ok(Client { inner, runtime })
    }
}

impl ServerBuilder {
    /// Listens on `address` (host:port; port 0 picks a free one) and publishes the model. Clients wait until the server
    /// [runs](Server::run).
    ///
    /// # Errors
    /// When the address cannot be listened on, or others can connect there and nothing protects them; and as [`build`](Self::build).
    pub fn bind(self, address: impl ToString) -> Result<Server> {
        let (runtime, address) = (Own::with(self.threads())?, address.to_string());
        let inner = runtime.wait(self.twin::<Async>().bind(address))?;
        Ok(Server { inner, runtime })
    }

    /// Publishes the model without listening anywhere: [`Server::serve`] takes streams of any kind.
    ///
    /// # Errors
    /// When a layer fits no parameter set, the server's key cannot be read or is past its lifetime, or the class alone is to be revealed
    /// of a network whose class it would not be.
    pub fn build(self) -> Result<Server> {
        let runtime = Own::with(self.threads())?;
        let inner = runtime.wait(self.twin::<Async>().build())?;
        Ok(Server { inner, runtime })
    }
}

/// [`crate::Client`] for threads that wait.
#[derive(Debug)]
pub struct Client {
    inner: crate::Client,
    runtime: Arc<Own>,
}

impl Client {
    /// As [`crate::Client::connect`].
    ///
    /// # Errors
    /// As there.
    pub fn connect(address: impl ToString) -> Result<Self> {
        Self::builder().connect(address)
    }

    /// Whatever is not the default.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// As [`crate::Client::infer`].
    ///
    /// # Errors
    /// As there.
    pub fn infer<'a>(&mut self, input: impl Into<Values<'a>>) -> Result<Answer> {
        let values = input.into();
        self.runtime.wait(self.inner.infer(values))
    }

    /// As [`crate::Client::prepare`].
    ///
    /// # Errors
    /// As there.
    pub fn prepare(&mut self, count: usize) -> Result<()> {
        self.runtime.wait(self.inner.prepare(count))
    }

    /// Answers that are prepared.
    pub fn ready(&self) -> usize {
        self.inner.ready()
    }

    /// As [`crate::Client::read_inputs`].
    ///
    /// # Errors
    /// As there.
    pub fn read_inputs(&self, path: impl AsRef<Path>) -> Result<Inputs> {
        self.inner.read_inputs(path)
    }

    /// The public half of the server's network.
    pub fn architecture(&self) -> &Architecture {
        self.inner.architecture()
    }

    /// How it runs.
    pub fn plan(&self) -> &Plan {
        self.inner.plan()
    }

    /// The digest of what the server published.
    pub fn digest(&self) -> Digest {
        self.inner.digest()
    }

    /// What opening the session took.
    pub fn setup(&self) -> &StageReport {
        self.inner.setup()
    }

    /// As [`crate::Client::not_kept`].
    pub fn not_kept(&self) -> &[StoreError] {
        self.inner.not_kept()
    }

    /// As [`crate::Client::close`].
    ///
    /// # Errors
    /// As there.
    pub fn close(self) -> Result<()> {
        self.runtime.wait(self.inner.close())
    }
}

/// [`crate::Server`] for threads that wait. A copy is the same server.
#[derive(Clone, Debug)]
pub struct Server {
    inner: crate::Server,
    runtime: Arc<Own>,
}

impl Server {
    /// A server of this model.
    pub fn builder(model: Model) -> ServerBuilder {
        ServerBuilder::new(model)
    }

    /// Where clients connect; `None` of a server that listens nowhere.
    pub fn address(&self) -> Option<SocketAddr> {
        self.inner.address()
    }

    /// As [`Server::websocket_address`](crate::Server::websocket_address).
    pub fn websocket_address(&self) -> Option<SocketAddr> {
        self.inner.websocket_address()
    }

    /// The digest of what was published first, for clients to pin.
    pub fn digest(&self) -> Digest {
        self.inner.digest()
    }

    /// As [`crate::Server::models`].
    pub fn models(&self) -> Vec<Offer> {
        self.inner.models()
    }

    /// As [`crate::Server::reload`].
    ///
    /// # Errors
    /// As there.
    pub fn reload(&self, models: Vec<(String, Model)>) -> Result<()> {
        self.runtime.wait(self.inner.reload(models))
    }

    /// SHA-256 of the server's certificate, for clients to pin; `None` without TLS.
    pub fn pin(&self) -> Option<[u8; 32]> {
        self.inner.pin()
    }

    /// What is served now, the first of several.
    pub fn model(&self) -> Arc<ServerModel> {
        self.inner.model()
    }

    /// The count of inferences under the server's key; `None` without a store.
    pub fn uses(&self) -> Option<&Uses> {
        self.inner.uses()
    }

    /// As [`crate::Server::run`]: until another thread shuts the server down.
    ///
    /// # Errors
    /// As there.
    pub fn run(&self) -> Result<()> {
        self.runtime.wait(self.inner.clone().run())
    }

    /// As [`crate::Server::serve`].
    ///
    /// # Errors
    /// As there.
    pub fn serve(&self, stream: impl Stream + 'static) -> Result<SessionReport> {
        self.runtime.wait(self.inner.serve(stream))
    }

    /// As [`crate::Server::serve_from`].
    ///
    /// # Errors
    /// As there.
    pub fn serve_from(
        &self,
        stream: impl Stream + 'static,
        client: impl Into<Identity> + Send,
    ) -> Result<SessionReport> {
        self.runtime.wait(self.inner.serve_from(stream, client))
    }

    /// As [`crate::Server::ready`].
    pub fn ready(&self) -> bool {
        self.inner.ready()
    }

    /// As [`crate::Server::readiness`].
    pub fn readiness(&self) -> Readiness {
        self.inner.readiness()
    }

    /// As [`crate::Server::allow`].
    pub fn allow(&self, list: AllowList) {
        self.inner.allow(list);
    }

    /// Who is there now.
    pub fn attendance(&self) -> Attendance {
        self.inner.attendance()
    }

    /// As [`crate::Server::shutdown`].
    pub fn shutdown(&self) {
        self.runtime.wait(self.inner.shutdown());
    }
}
