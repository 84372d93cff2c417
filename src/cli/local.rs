//! Both parties in one process, over loopback TCP: what the demo, evaluations and benchmarks run on.

use std::sync::Arc;

use lowkey::client::{Client, Options};
use lowkey::net::{self, Listener, Trust};
use lowkey::publication::ServerModel;
use lowkey::{Error, Link, Result, server};
use lowkey_models::Network;
use lowkey_mpc::channel::Limits;
use tokio::runtime::{Handle, Runtime};

use super::{progress, runtime, seed};

/// A client whose server runs in the same process.
pub struct Local {
    pub runtime: Runtime,
    pub client: Client,
}

impl Local {
    /// Publishes a network under a fresh key and opens a session with it.
    pub fn start(network: &Network, link: Link) -> Result<Self> {
        let model = ServerModel::publish(network, link, &seed()?, &progress::callback("publishing"))?;
        let runtime = runtime()?;
        let address = runtime.block_on(async {
            let listener = Listener::bind("127.0.0.1:0", None).await?;
            let address = listener.address().map_err(Error::internal)?;
            tokio::spawn(serve_forever(listener, model));
            Ok::<_, Error>(address.to_string())
        })?;
        let client = runtime.block_on(async {
            let stream = net::connect(&address, &Trust::Plain).await?;
            let progress = progress::callback("setup");
            let options =
                Options { digest: None, store: None, address: &address, limits: Limits::default(), progress: &progress };
            Client::open(stream, options, seed()?).await
        })?;
        Ok(Self { runtime, client })
    }
}

async fn serve_forever(listener: Listener, model: Arc<ServerModel>) {
    while let Ok((incoming, _)) = listener.accept().await {
        let model = model.clone();
        tokio::task::spawn_blocking(move || {
            Handle::current().block_on(async {
                let (Ok(stream), Ok(seed)) = (incoming.secure().await, seed()) else { return };
                if let Err(error) = server::serve(stream, model, server::Options::default(), seed).await {
                    tracing::warn!("server: {error}");
                }
            });
        });
    }
}
