//! Both parties in one process, over loopback TCP: what the demo, evaluations and benchmarks run on.

use lowkey::client::{Client, Options};
use lowkey::net::{self, Listener, Trust};
use lowkey::publication::ServerModel;
use lowkey::{Error, Inference, Link, Result, Reveal, Schedule, server};
use lowkey_models::Network;
use lowkey_mpc::channel::Limits;
use tokio::runtime::{Handle, Runtime};
use tokio::task::JoinHandle;

use super::{progress, runtime, seed};

/// A client whose server runs in the same process.
pub struct Local {
    runtime: Runtime,
    client: Client,
    server: JoinHandle<()>,
}

impl Local {
    /// Publishes a network under a fresh key and opens a session with it.
    pub fn start(network: &Network, link: Link) -> Result<Self> {
        let model = ServerModel::publish(network, link, &seed()?, &progress::callback("publishing"))?;
        let runtime = runtime()?;
        let (client, server) = runtime.block_on(async {
            let listener = Listener::bind("127.0.0.1:0", None).await?;
            let address = listener.address().map_err(Error::internal)?.to_string();
            let session = async move {
                let (incoming, _) = listener.accept().await.map_err(Error::internal)?;
                let stream = incoming.secure().await.map_err(Error::internal)?;
                server::serve(stream, model, server::Options::default(), seed()?).await
            };
            let server = tokio::task::spawn_blocking(|| {
                if let Err(error) = Handle::current().block_on(session) {
                    tracing::warn!("server: {error}");
                }
            });
            let stream = net::connect(&address, &Trust::Plain).await?;
            let progress = progress::callback("setup");
            let options = Options {
                digest: None,
                store: None,
                address: &address,
                limits: Limits::default(),
                progress: &progress,
            };
            Ok::<_, Error>((Client::open(stream, options, seed()?).await?, server))
        })?;
        Ok(Self { runtime, client, server })
    }

    /// The client, for what it knows.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Answers an input.
    pub fn answer(&mut self, schedule: Schedule, reveal: Reveal, input: &[i64]) -> Result<Inference> {
        self.runtime.block_on(self.client.answer(schedule, reveal, input))
    }

    /// Ends the session, whatever came of it, and hands that on.
    pub fn end<T>(self, outcome: Result<T>) -> Result<T> {
        let Self { runtime, client, server } = self;
        let closed = runtime.block_on(async {
            let closed = client.close().await;
            server.await.map_err(Error::internal)?;
            closed
        });
        outcome.and_then(|value| closed.map(|()| value))
    }
}
