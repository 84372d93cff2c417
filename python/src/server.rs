//! A server in the background.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Mutex;
use std::thread::{self, JoinHandle};

use lowkey::blocking;
use lowkey::{Result, Reveal};
use pyo3::prelude::*;

use super::errors::{raised, usage};
use super::model::{Model, link_of};

/// A server that runs on a thread of its own.
#[pyclass(frozen, module = "lowkey._lowkey")]
pub struct Server {
    server: blocking::Server,
    running: Mutex<Option<JoinHandle<Result<()>>>>,
}

#[pymethods]
impl Server {
    /// Publishes models, each by the name it is asked for (`None`: its own), listens, and runs.
    #[new]
    #[pyo3(signature = (models, address, *, link, state, certificate, reveal_class, quota, sessions, insecure))]
    #[expect(clippy::too_many_arguments, reason = "keywords, given by name")]
    fn new(
        py: Python<'_>,
        models: Vec<(Option<String>, PyRef<'_, Model>)>,
        address: String,
        link: &str,
        state: Option<PathBuf>,
        certificate: Option<(PathBuf, PathBuf)>,
        reveal_class: bool,
        quota: Option<NonZeroU32>,
        sessions: Option<u16>,
        insecure: bool,
    ) -> PyResult<Self> {
        let mut models = models.into_iter();
        let Some((name, first)) = models.next() else {
            return Err(usage("no model to serve", "give one, or a dict of several by name"));
        };
        let mut builder = blocking::Server::builder(first.0.clone()).link(link_of(link)?);
        if let Some(name) = name {
            builder = builder.named(name);
        }
        for (name, model) in models {
            builder = builder.with(name.unwrap_or_else(|| model.0.served_as()), model.0.clone());
        }
        if let Some(folder) = state {
            builder = builder.state(folder);
        }
        if let Some((certificates, key)) = certificate {
            builder = builder.tls(certificates, key);
        }
        if reveal_class {
            builder = builder.reveal(Reveal::Class);
        }
        if let Some(quota) = quota {
            builder = builder.quota(quota);
        }
        if let Some(most) = sessions {
            builder = builder.sessions(most);
        }
        if insecure {
            builder = builder.insecure();
        }
        let server = py.detach(|| builder.bind(address)).map_err(raised)?;
        let copy = server.clone();
        let running = Mutex::new(Some(thread::spawn(move || copy.run())));
        Ok(Self { server, running })
    }

    /// host:port.
    #[getter]
    fn address(&self) -> Option<String> {
        self.server.address().map(|address| address.to_string())
    }

    /// SHA-256 of what was published, hexadecimal.
    #[getter]
    fn digest(&self) -> String {
        hex::encode(self.server.digest())
    }

    /// Of each model by its name, in the order in which they were given.
    #[getter]
    fn digests(&self) -> Vec<(String, String)> {
        self.server.models().into_iter().map(|offer| (offer.name, hex::encode(offer.digest))).collect()
    }

    /// SHA-256 of the certificate, hexadecimal.
    #[getter]
    fn pin(&self) -> Option<String> {
        self.server.pin().map(hex::encode)
    }

    /// Ends it, after the inferences that run; a second time does nothing.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| {
            self.server.shutdown();
            let running = self.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
            running.map_or(Ok(()), |running| running.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
        .map_err(raised)
    }
}
