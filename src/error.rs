//! What can go wrong, whose fault it is, and what to do about it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use lowkey_models::data::{DataError, DataProblem};
use lowkey_mpc::error::Error as ProtocolError;

use crate::node::PlanError;
use crate::randomness::NoRandomness;
use crate::store::{Digest, Folder, NotRecords, StoreError};

pub use crate::abort::{AbortCode, Refusal};

const BUG: &str = "this is a bug: please report it with the command that shows it";

/// The result of a step of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Who has to change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The person at this end: an argument, a file, a model.
    User,
    /// The connection or the program at the other end.
    Peer,
    /// Refused for safety: something is not what was pinned or seen before, or a key is not safe to use.
    Safety,
    /// This program.
    Internal,
}

impl Fault {
    /// The exit code of the command: 2 user, 3 peer, 4 safety, 70 internal. (1: a result differs from the plaintext network.)
    pub fn exit_code(self) -> u8 {
        match self {
            Fault::User => 2,
            Fault::Peer => 3,
            Fault::Safety => 4,
            Fault::Internal => 70,
        }
    }
}

/// An error of the library and of the command.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument that does not make sense.
    #[error("{what}")]
    Usage {
        /// What is wrong.
        what: String,
        /// What to do.
        hint: String,
    },
    /// A file that cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A model file that is not valid. The message names the file.
    #[error("{0}")]
    Model(Box<dyn std::error::Error + Send + Sync>),
    /// An ONNX or TFLite file that cannot be imported. The message names the file, the node and what to do.
    #[error(transparent)]
    Import(#[from] Box<lowkey_models::import::ImportError>),
    /// An input that the network does not read.
    #[error("{0}")]
    Input(Box<dyn std::error::Error + Send + Sync>),
    /// A network for which no parameters exist.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A server's plan that this program does not accept.
    #[error("the server's plan is refused: {0}")]
    Refused(#[source] PlanError),
    /// A connection that could not be made.
    #[error("{address}: {source}")]
    Connect {
        /// The other end.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// An address that cannot be listened on.
    #[error("{address}: {source}")]
    Listen {
        /// Where clients were to connect.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// Plain TCP where others can listen, and nobody said that it may be.
    #[error("{what}")]
    Unprotected {
        /// What is not protected.
        what: String,
        /// What to do.
        hint: String,
    },
    /// The server's certificate is not the trusted one.
    #[error("the certificate of {address} is not the trusted one: {why}")]
    Certificate {
        /// The server.
        address: String,
        /// What is wrong with its certificate.
        why: String,
    },
    /// The other end, or the connection, failed during the session.
    #[error("{0}")]
    Session(#[from] ProtocolError),
    /// The peer sent a valid message with impossible content.
    #[error("the {peer} sent {what}")]
    Peer {
        /// "client" or "server".
        peer: &'static str,
        /// What.
        what: String,
    },
    /// The peer speaks another version of the protocol.
    #[error("the {peer} speaks version {found} of the protocol, this program version {own}")]
    Version {
        /// "client" or "server".
        peer: &'static str,
        /// Its version.
        found: u32,
        /// This program's.
        own: u32,
    },
    /// A slot that does not exist, was used, or comes out of turn.
    #[error("slot {slot} does not exist, was used, or is out of turn")]
    Slot {
        /// Its number.
        slot: u64,
    },
    /// Too much at once.
    #[error("more than {limit} {what}")]
    Busy {
        /// Of what.
        what: &'static str,
        /// How many are allowed.
        limit: usize,
    },
    /// The server's model is not the one expected.
    #[error("the server's model has digest {}, expected {}", hex::encode(found), hex::encode(expected))]
    Digest {
        /// Of the model that the server publishes.
        found: Digest,
        /// Pinned, or seen at the first use.
        expected: Digest,
        /// Under what [it was noted](crate::client::note_of); `None` if it was given as an argument.
        noted: Option<String>,
    },
    /// The server does not allow what the client asks for.
    #[error("refused: {0}")]
    Declined(#[from] Refusal),
    /// What is kept on disk cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A prepared inference lacks a program that its plan has: a bug of this program.
    #[error("internal error: the slot has no program for node {node:?}")]
    MissingProgram {
        /// The node.
        node: String,
    },
    /// The operating system gives no randomness.
    #[error("internal error: {0}")]
    Randomness(#[from] NoRandomness),
    /// A bug of this program.
    #[error("internal error: {0}")]
    Internal(String),
}

impl Error {
    /// An argument that does not make sense, and what to do.
    pub fn usage(what: impl fmt::Display, hint: impl fmt::Display) -> Self {
        Self::Usage { what: what.to_string(), hint: hint.to_string() }
    }

    /// Plain TCP where others can listen, and what to do.
    pub fn unprotected(what: impl fmt::Display, hint: impl fmt::Display) -> Self {
        Self::Unprotected { what: what.to_string(), hint: hint.to_string() }
    }

    /// A file that cannot be read or written.
    pub fn file(path: &Path, source: io::Error) -> Self {
        Self::File { path: path.to_owned(), source }
    }

    /// A bug of this program.
    pub fn internal(what: impl fmt::Display) -> Self {
        Self::Internal(what.to_string())
    }

    /// The same of an address that was to be listened on: no other end has a part in it.
    pub fn of_listening(self) -> Self {
        match self {
            Self::Connect { address, source } => Self::Listen { address, source },
            other => other,
        }
    }

    /// Who has to change something.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Usage { .. }
            | Self::File { .. }
            | Self::Model(_)
            | Self::Import(_)
            | Self::Input(_)
            | Self::Listen { .. }
            | Self::Plan(_) => Fault::User,
            Self::Connect { source, .. } if is_own_address(source) => Fault::User,
            Self::Connect { .. } | Self::Peer { .. } | Self::Refused(_) => Fault::Peer,
            Self::Version { .. } | Self::Slot { .. } | Self::Busy { .. } | Self::Declined(_) => Fault::Peer,
            Self::Session(error) => session_fault(error),
            Self::Digest { .. } | Self::Certificate { .. } | Self::Unprotected { .. } => Fault::Safety,
            Self::Store(error) => store_fault(error),
            Self::MissingProgram { .. } | Self::Randomness(_) | Self::Internal(_) => Fault::Internal,
        }
    }

    /// What to do about it, in one sentence.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Usage { hint, .. } | Self::Unprotected { hint, .. } => hint.clone(),
            Self::Model(_) => "check that it is a whole .lowkey file".into(),
            Self::Import(_) => "`lowkey import` prints what became of each operation".into(),
            Self::Input(error) => input_hint(error.as_ref()).into(),
            Self::Plan(_) => "this network cannot run privately as it is".into(),
            Self::Session(ProtocolError::PeerAborted(code)) => format!("the peer says: {}", AbortCode::describe(*code)),
            Self::Session(ProtocolError::Timeout { .. }) => "check that the other end still runs".into(),
            Self::Session(ProtocolError::Io(error)) if wants_certificate(error) => {
                "the server asks for a certificate, and not for this one: give --cert and --key of one that its owner accepts".into()
            }
            Self::Session(ProtocolError::Disconnected) => {
                "the other end stopped, or one end uses TLS and the other does not".into()
            }
            Self::Session(ProtocolError::Changed) => {
                "the connection is unreliable: use TLS (the server with --cert and --key, the client with --pin or --ca)".into()
            }
            Self::Session(ProtocolError::Protocol { .. }) | Self::Peer { .. } => {
                "check that both ends run the same version of lowkey, both with TLS or both without".into()
            }
            Self::Version { .. } => "install the same version of lowkey at both ends".into(),
            Self::Refused(_) => "the server's owner has to publish the model again with this version of lowkey".into(),
            Self::Connect { source, .. } => connect_hint(source.kind()).into(),
            Self::Listen { source, .. } => listen_hint(source.kind()).into(),
            Self::Certificate { .. } => {
                "if the server's owner confirms its certificate, name it with --pin, or its authority with --ca".into()
            }
            Self::File { source, .. } => file_hint(source.kind())?.into(),
            Self::Digest { noted: Some(note), .. } => format!(
                "if the server's owner confirms the new model, `lowkey forget {}` accepts it at the next connection",
                forgotten(note)
            ),
            Self::Digest { noted: None, .. } => "ask the server's owner for the digest of the current model".into(),
            Self::Declined(refusal) => refusal_hint(*refusal),
            Self::Store(error) => store_hint(error)?,
            Self::MissingProgram { .. } | Self::Randomness(_) | Self::Internal(_) => BUG.into(),
            _ => return None,
        })
    }

    /// The code to send to the peer before giving up; `None` if the peer already knows or cannot hear.
    pub fn abort_code(&self) -> Option<AbortCode> {
        Some(match self {
            Self::Session(ProtocolError::PeerAborted(_) | ProtocolError::Disconnected | ProtocolError::Io(_)) => {
                return None;
            }
            Self::Session(ProtocolError::Timeout { .. }) => AbortCode::Timeout,
            Self::Session(ProtocolError::Protocol { .. }) | Self::Peer { .. } => AbortCode::Protocol,
            Self::Session(ProtocolError::Changed) => AbortCode::Changed,
            Self::Version { .. } => AbortCode::Version,
            Self::Slot { .. } => AbortCode::Slot,
            Self::Busy { .. } => AbortCode::Busy,
            Self::Plan(_) | Self::Refused(_) => AbortCode::Plan,
            Self::Digest { .. } => AbortCode::Digest,
            Self::Declined(refusal) => refusal.code(),
            Self::Store(StoreError::SpentKey { .. }) => AbortCode::SpentKey,
            _ => AbortCode::Internal,
        })
    }

    /// The number in the abort frame: the code, and in its high byte what some codes say more.
    pub(crate) fn abort_number(&self) -> Option<u16> {
        let detail = match self {
            Self::Declined(refusal) => refusal.detail(),
            _ => 0,
        };
        Some(u16::from_le_bytes([self.abort_code()? as u8, detail]))
    }

    /// True if this server's policy refuses what the client asks for, with nobody at fault.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::Declined(_) | Self::Store(StoreError::SpentKey { .. }))
    }

    /// What the client makes of an abort that is a refusal; other errors as they are.
    pub(crate) fn or_declined(self) -> Self {
        match self {
            Self::Session(ProtocolError::PeerAborted(code)) => Refusal::of_number(code).map_or(self, Self::Declined),
            other => other,
        }
    }
}

/// Whose fault it is that a session failed.
fn session_fault(error: &ProtocolError) -> Fault {
    match error {
        ProtocolError::FrameTooLarge { .. } | ProtocolError::Encode(_) | ProtocolError::Exhausted { .. } => {
            Fault::Internal
        }
        _ => Fault::Peer,
    }
}

/// Whose fault it is that the store cannot be used.
fn store_fault(error: &StoreError) -> Fault {
    match error {
        StoreError::File { .. }
        | StoreError::NoHome(_)
        | StoreError::Note { .. }
        | StoreError::Records { .. }
        | StoreError::Replaced { .. } => Fault::User,
        StoreError::ExposedKey { .. } | StoreError::SpentKey { .. } => Fault::Safety,
        StoreError::Randomness(_) => Fault::Internal,
    }
}

fn store_hint(error: &StoreError) -> Option<String> {
    Some(match error {
        StoreError::File { source, .. } => file_hint(source.kind())?.into(),
        StoreError::NoHome(Folder::Cache) => "name a folder with --cache".into(),
        StoreError::NoHome(Folder::State) => "name a folder with --state".into(),
        StoreError::Note { note, .. } => {
            format!("`lowkey forget {}` removes it, and any model is accepted once", forgotten(note))
        }
        StoreError::Records { source: NotRecords::Form, .. } => {
            "`lowkey key rotate` makes a new key and a new record".into()
        }
        StoreError::Records { source: NotRecords::Version { .. }, .. } => {
            "use the version of lowkey that wrote it".into()
        }
        StoreError::Replaced { .. } => "start the server again".into(),
        StoreError::ExposedKey { path, .. } => format!(
            "chmod 600 {}; if somebody may have read it, `lowkey key rotate --wipe` makes a new one",
            path.display()
        ),
        StoreError::SpentKey { .. } => {
            "`lowkey key rotate` makes a new one; clients that noted or pinned a digest must be told the new one".into()
        }
        StoreError::Randomness(_) => BUG.into(),
    })
}

/// The arguments of `lowkey forget` for a note.
fn forgotten(note: &str) -> String {
    match note.split_once('@') {
        Some((model, address)) => format!("{address} --model {model}"),
        None => note.to_owned(),
    }
}

fn refusal_hint(refusal: Refusal) -> String {
    match refusal {
        Refusal::ClassOnly => "ask with --reveal class".into(),
        Refusal::Quota { wait_minutes } => format!("wait {wait_minutes} min, or ask the server's owner for more"),
        Refusal::SpentKey => "the server's owner has to publish the model under a new key".into(),
        Refusal::Full { wait_seconds } => format!("try again in {wait_seconds} s"),
        Refusal::Unknown => "ask the server's owner to put your certificate on the list".into(),
        Refusal::NoModel | Refusal::WhichModel => {
            "name one of its models with --model; `lowkey models --server ADDR` lists them".into()
        }
    }
}

/// True if an address was not one, or cannot be listened on: the other end has no part in it.
fn is_own_address(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrInUse, AddrNotAvailable, InvalidInput, PermissionDenied};
    matches!(error.kind(), AddrInUse | AddrNotAvailable | InvalidInput | PermissionDenied)
}

fn listen_hint(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::AddrInUse | io::ErrorKind::InvalidInput | io::ErrorKind::PermissionDenied => connect_hint(kind),
        _ => "choose an address of this machine: 127.0.0.1:7117 for itself alone, 0.0.0.0:7117 for others too",
    }
}

/// True if the other end has ended the connection for want of a certificate that it accepts.
fn wants_certificate(error: &io::Error) -> bool {
    use rustls::AlertDescription as Alert;
    let alert = match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(rustls::Error::AlertReceived(alert)) => alert,
        _ => return false,
    };
    let about = [
        Alert::CertificateRequired,
        Alert::BadCertificate,
        Alert::UnsupportedCertificate,
        Alert::CertificateRevoked,
        Alert::CertificateExpired,
        Alert::CertificateUnknown,
        Alert::UnknownCA,
        Alert::DecryptError,
        Alert::AccessDenied,
    ];
    about.contains(alert)
}

fn connect_hint(kind: io::ErrorKind) -> &'static str {
    use io::ErrorKind::{AddrInUse, AddrNotAvailable, InvalidData, InvalidInput, PermissionDenied, UnexpectedEof};
    match kind {
        AddrInUse => "another program listens there: choose another port; 0 picks a free one",
        AddrNotAvailable => "choose an address of this machine",
        InvalidInput => "an address is host:port",
        PermissionDenied => "choose a port from 1024 on",
        InvalidData | UnexpectedEof => "check that the server uses TLS: it does where it runs with --cert and --key",
        _ => "check the address and that the server runs",
    }
}

fn input_hint(error: &(dyn std::error::Error + Send + Sync + 'static)) -> &'static str {
    let problem = error.downcast_ref::<DataError>().map(|error| &error.problem);
    match problem.or_else(|| error.downcast_ref::<DataProblem>()) {
        Some(DataProblem::Value { .. }) => {
            "integers in .npy are the network's quantised input; pixels of 8 bits are quantised for you if the file is PNG or IDX"
        }
        Some(DataProblem::Type { .. }) => {
            "arrays in .npy are what the model's own runtime reads: `lowkey plan` prints it"
        }
        _ => {
            "inputs are PNG, JPEG, .npy, .csv or IDX files, of the size that the network reads; --resize scales pictures"
        }
    }
}

fn file_hint(kind: io::ErrorKind) -> Option<&'static str> {
    use io::ErrorKind::{IsADirectory, NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem, StorageFull};
    Some(match kind {
        NotFound | IsADirectory | NotADirectory => "check the path",
        PermissionDenied | ReadOnlyFilesystem => "name a place that you may read and write",
        StorageFull => "make room on the disk",
        _ => return None,
    })
}
