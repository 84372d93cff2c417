//! A session with a server.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lowkey::blocking;
use lowkey::{Error, Result, Reveal};
use pyo3::prelude::*;

use super::answer::{Answer, stage};
use super::arrays::{Elements, shape};
use super::errors::{raised, usage};

/// A client. Threads take turns.
#[pyclass(frozen, module = "lowkey._lowkey")]
pub struct Client {
    /// `None` once it is closed.
    session: Mutex<Option<blocking::Client>>,
    facts: Facts,
}

/// What never changes, so that nobody waits for a step to end to read it.
struct Facts {
    name: String,
    classes: Vec<String>,
    digest: String,
    input_shape: Vec<usize>,
    image_shape: [usize; 3],
    input: String,
    output: String,
    takes_reals: bool,
    setup: (f64, u64, u64),
    not_kept: Vec<String>,
}

impl Facts {
    fn of(client: &blocking::Client) -> Self {
        let architecture = client.architecture();
        let input = &architecture.input;
        Self {
            name: architecture.name.clone(),
            classes: architecture.classes.clone(),
            digest: hex::encode(client.digest()),
            input_shape: shape(input),
            image_shape: input.shape,
            input: architecture.input_line(),
            output: architecture.output_line(),
            takes_reals: input.coding.is_some(),
            setup: stage(client.setup()),
            not_kept: client.not_kept().iter().map(ToString::to_string).collect(),
        }
    }
}

/// 32 bytes, hexadecimal.
fn digest(text: &str, what: &str) -> PyResult<[u8; 32]> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes)
        .map_err(|_| usage(format!("{what} {text:?}"), "give 64 hexadecimal digits"))?;
    Ok(bytes)
}

/// How a server is recognised and waited for.
fn dialling(
    ca: Option<PathBuf>,
    pin: Option<String>,
    timeout: Option<f64>,
    insecure: bool,
) -> PyResult<blocking::ClientBuilder> {
    let mut builder = match (ca, pin) {
        (Some(_), Some(_)) => return Err(usage("both an authority and a pin", "name one of them")),
        (Some(file), None) => blocking::Client::builder().authority(file),
        (None, Some(text)) => blocking::Client::builder().pin(digest(&text, "pin")?),
        (None, None) => blocking::Client::builder(),
    };
    if let Some(seconds) = timeout {
        let timeout = Duration::try_from_secs_f64(seconds).ok().filter(|timeout| !timeout.is_zero());
        let timeout = timeout.ok_or_else(|| usage(format!("a timeout of {seconds} s"), "give seconds above 0"))?;
        builder = builder.timeout(timeout);
    }
    Ok(if insecure { builder.insecure() } else { builder })
}

/// The models of the server at an address, and their digests, in its order.
#[pyfunction]
#[pyo3(signature = (address, *, ca, pin, timeout, insecure))]
pub fn models(
    py: Python<'_>,
    address: String,
    ca: Option<PathBuf>,
    pin: Option<String>,
    timeout: Option<f64>,
    insecure: bool,
) -> PyResult<Vec<(String, String)>> {
    let builder = dialling(ca, pin, timeout, insecure)?;
    let offers = py.detach(|| builder.models(address)).map_err(raised)?;
    Ok(offers.into_iter().map(|offer| (offer.name, hex::encode(offer.digest))).collect())
}

#[pymethods]
impl Client {
    /// Connects and opens a session.
    #[new]
    #[pyo3(signature = (address, *, model, digest, ca, pin, state, reveal_class, timeout, insecure))]
    #[expect(clippy::too_many_arguments, reason = "keywords, given by name")]
    fn new(
        py: Python<'_>,
        address: String,
        model: Option<String>,
        digest: Option<String>,
        ca: Option<PathBuf>,
        pin: Option<String>,
        state: Option<PathBuf>,
        reveal_class: bool,
        timeout: Option<f64>,
        insecure: bool,
    ) -> PyResult<Self> {
        let mut builder = dialling(ca, pin, timeout, insecure)?;
        if let Some(name) = model {
            builder = builder.model(name);
        }
        if let Some(text) = digest {
            builder = builder.digest(self::digest(&text, "digest")?);
        }
        if let Some(folder) = state {
            builder = builder.state(folder);
        }
        if reveal_class {
            builder = builder.reveal(Reveal::Class);
        }
        let client = py.detach(|| builder.connect(address)).map_err(raised)?;
        Ok(Self { facts: Facts::of(&client), session: Mutex::new(Some(client)) })
    }

    /// Answers one input.
    fn infer(&self, py: Python<'_>, values: &[u8], kind: &str) -> PyResult<Answer> {
        let elements = Elements::new(values, kind).map_err(raised)?;
        py.detach(|| self.step(|client| client.infer(elements.values()))).map(Answer).map_err(raised)
    }

    /// Answers one input, and how long the library's own call took, in milliseconds: what benches/infer.py compares with.
    fn infer_timed(&self, py: Python<'_>, values: &[u8], kind: &str) -> PyResult<(f64, Answer)> {
        let elements = Elements::new(values, kind).map_err(raised)?;
        let timed = |client: &mut blocking::Client| {
            let began = Instant::now();
            let answer = client.infer(elements.values())?;
            Ok((1e3 * began.elapsed().as_secs_f64(), Answer(answer)))
        };
        py.detach(|| self.step(timed)).map_err(raised)
    }

    /// Prepares until `count` answers are; how many were added.
    fn prepare(&self, py: Python<'_>, count: usize) -> PyResult<usize> {
        let prepare = |client: &mut blocking::Client| {
            let missing = count.saturating_sub(client.ready());
            client.prepare(missing).map(|()| missing)
        };
        py.detach(|| self.step(prepare)).map_err(raised)
    }

    /// Answers that are prepared.
    #[getter]
    fn ready(&self, py: Python<'_>) -> usize {
        py.detach(|| self.lock().as_ref().map_or(0, blocking::Client::ready))
    }

    #[getter]
    fn name(&self) -> &str {
        &self.facts.name
    }

    #[getter]
    fn classes(&self) -> Vec<String> {
        self.facts.classes.clone()
    }

    /// SHA-256 of what the server published, hexadecimal.
    #[getter]
    fn digest(&self) -> &str {
        &self.facts.digest
    }

    #[getter]
    fn input_shape(&self) -> Vec<usize> {
        self.facts.input_shape.clone()
    }

    #[getter]
    fn image_shape(&self) -> [usize; 3] {
        self.facts.image_shape
    }

    #[getter]
    fn input(&self) -> &str {
        &self.facts.input
    }

    #[getter]
    fn output(&self) -> &str {
        &self.facts.output
    }

    #[getter]
    fn takes_reals(&self) -> bool {
        self.facts.takes_reals
    }

    /// (milliseconds, bytes of both directions, flights) of opening the session.
    #[getter]
    fn setup(&self) -> (f64, u64, u64) {
        self.facts.setup
    }

    #[getter]
    fn not_kept(&self) -> Vec<String> {
        self.facts.not_kept.clone()
    }

    /// Ends the session; a second time does nothing.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.lock().take().map_or(Ok(()), blocking::Client::close)).map_err(raised)
    }
}

impl Client {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<blocking::Client>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn step<T>(&self, step: impl FnOnce(&mut blocking::Client) -> Result<T>) -> Result<T> {
        match self.lock().as_mut() {
            Some(client) => step(client),
            None => Err(Error::usage("the client is closed", "make another one")),
        }
    }
}
