//! Where the inputs of a session lie: in a file, or in a stream, which is read once, before there is a session.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use lowkey::{Error, Result};
use lowkey_models::Architecture;
use lowkey_models::data::{self, DataError, DataProblem, Fit, Inputs, MAX_DATA, is_known};

use super::model;

/// Inputs that are not decoded yet: what the network reads is known once the server has said it.
pub enum Undecoded {
    /// A file, read when it is needed.
    File(PathBuf),
    /// What a stream had in it, and its name.
    Stream(PathBuf, Vec<u8>),
}

impl Undecoded {
    /// Checks that a file can be opened and is of a known form; reads standard input (`-`) to its end, and a pipe or a device within `timeout`.
    pub fn open(path: &Path, timeout: Duration) -> Result<Self> {
        let failed = |error| Error::file(path, error);
        if path == Path::new(model::STANDARD_INPUT) {
            let name = Path::new("standard input");
            return Self::stream(name, all(io::stdin()).map_err(|error| Error::file(name, error))?);
        }
        let about = std::fs::metadata(path).map_err(failed)?;
        if about.is_dir() {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        if about.is_file() {
            let file = File::open(path).map_err(failed)?;
            return match is_known(file).map_err(failed)? {
                true => Ok(Self::File(path.into())),
                false => Err(unknown(path)),
            };
        }
        Self::stream(path, within(timeout, path.into()).map_err(failed)?)
    }

    fn stream(name: &Path, bytes: Vec<u8>) -> Result<Self> {
        match is_known(&bytes[..]).map_err(|error| Error::file(name, error))? {
            true => Ok(Self::Stream(name.into(), bytes)),
            false => Err(unknown(name)),
        }
    }

    /// The most inputs that it may hold, whatever network reads them; `None` if that cannot be said.
    pub fn most(&self) -> Result<Option<usize>, DataError> {
        match self {
            Self::File(path) => data::most_inputs(path),
            Self::Stream(name, bytes) => {
                data::most_inputs_of(bytes).map_err(|problem| DataError { path: name.clone(), problem })
            }
        }
    }

    /// Decodes them, as [`model::inputs`] does.
    pub fn inputs(&self, architecture: &Architecture, fit: Fit) -> Result<Inputs> {
        match self {
            Self::File(path) => model::inputs(path, architecture, fit),
            Self::Stream(name, bytes) => {
                let inputs = Inputs::from_reader(&bytes[..], &architecture.input, fit);
                model::noted(inputs.map_err(|problem| DataError { path: name.clone(), problem }), architecture)
            }
        }
    }
}

/// A file of no form that is read.
fn unknown(path: &Path) -> Error {
    Error::Input(Box::new(DataError { path: path.into(), problem: DataProblem::UnknownFormat }))
}

/// To the end, or one byte beyond what inputs may have.
fn all(stream: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream.take(MAX_DATA + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Opening a pipe waits for somebody who writes, and reading it for its end. A thread waits in our place; nobody waits for the thread.
fn within(timeout: Duration, path: PathBuf) -> io::Result<Vec<u8>> {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || send.send(File::open(path).and_then(all)));
    receive.recv_timeout(timeout).unwrap_or_else(|_| {
        let what = format!("no end of what is written to it within {} s", timeout.as_secs_f64());
        Err(io::Error::new(io::ErrorKind::TimedOut, what))
    })
}
