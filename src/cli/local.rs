//! Both parties in one process, over loopback TCP, guarded ones over memory: what the demo and evaluations run on.

use std::thread::JoinHandle;

use lowkey::blocking::{Client, Server};
use lowkey::policy::Identity;
use lowkey::{Answer, Error, Link, Model, Result, Tensor};
use tempfile::TempDir;

use super::{Mode, progress};

/// Bytes on their way between the parties of a guarded session.
const PIPE: usize = 1 << 20;

/// A client whose server runs in the same process.
pub struct Local {
    server: Server,
    client: Client,
    running: JoinHandle<Result<()>>,
    /// Where a guarded server remembers who cheated.
    _folder: Option<TempDir>,
}

impl Local {
    /// Publishes a model under a fresh key and opens a session with it.
    pub fn start(model: Model, link: Link, mode: Mode) -> Result<Self> {
        let server =
            Server::builder(model).link(link).progress(progress::callback("publishing")).bind("127.0.0.1:0")?;
        let address = server.address().ok_or_else(|| Error::internal("bound without an address"))?;
        let running = std::thread::spawn({
            let server = server.clone();
            move || server.run()
        });
        let client = Client::builder()
            .schedule(mode.schedule.into())
            .reveal(mode.reveal.into())
            .progress(progress::callback("setup"))
            .connect(address)?;
        Ok(Self { server, client, running, _folder: None })
    }

    /// The same of a guarded session, whose client has a name as one with a certificate has.
    pub fn start_guarded(model: Model, link: Link, mode: Mode) -> Result<Self> {
        let folder = tempfile::tempdir().map_err(|error| Error::file(&std::env::temp_dir(), error))?;
        let server = Server::builder(model)
            .link(link)
            .progress(progress::callback("publishing"))
            .state(folder.path())
            .guard()
            .reveal(mode.reveal.into())
            .build()?;
        let (here, there) = tokio::io::duplex(PIPE);
        let running = std::thread::spawn({
            let (server, client) = (server.clone(), Identity { name: Some("demo".into()), ..Identity::default() });
            move || server.serve_from(there, client).map(drop)
        });
        let client = Client::builder()
            .guard()
            .schedule(mode.schedule.into())
            .reveal(mode.reveal.into())
            .progress(progress::callback("setup"))
            .over(here, "memory")?;
        Ok(Self { server, client, running, _folder: Some(folder) })
    }

    /// The client, for what it knows.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Answers an input.
    pub fn answer(&mut self, input: &Tensor) -> Result<Answer> {
        self.client.infer(input)
    }

    /// Ends the session, whatever came of it, and hands that on.
    pub fn end<T>(self, outcome: Result<T>) -> Result<T> {
        let Self { server, client, running, _folder } = self;
        let closed = client.close();
        server.shutdown();
        let ran = running.join().map_err(|_| Error::internal("the server's thread failed"))?;
        outcome.and_then(|value| closed.and(ran).map(|()| value))
    }
}
