//! What can go wrong, whose fault it is, and what to do about it.

#![deny(clippy::wildcard_enum_match_arm)]

mod misbehaviour;
mod remedy;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use lowkey_mpc::error::Error as ProtocolError;
use lowkey_mpc::party::Party;

use crate::node::PlanError;
use crate::randomness::NoRandomness;
use crate::store::{Digest, StoreError};

pub use crate::abort::{AbortCode, Refusal};
pub use misbehaviour::Misbehaviour;
pub use remedy::Remedy;

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

/// An error of the library.
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
    /// The peer sent what an honest one does not.
    #[error("the {0} sent {1}")]
    Peer(Party, #[source] Misbehaviour),
    /// The peer speaks another version of the protocol.
    #[error("the {peer} speaks version {found} of the protocol, this program version {own}")]
    Version {
        /// Who.
        peer: Party,
        /// Its version.
        found: u32,
        /// This program's.
        own: u32,
    },
    /// A session that has ended, by an error or by its user, is asked for more.
    #[error("the session is over")]
    SessionOver,
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
    /// The parties of a training do not ask for the same.
    #[error("{what}: this end asks for {own}, the {peer} for {theirs}")]
    Terms {
        /// In what they differ.
        what: &'static str,
        /// What this end asks for.
        own: String,
        /// The other end.
        peer: Party,
        /// What it asks for.
        theirs: String,
    },
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
        if let Self::Connect { address, source } = self { Self::Listen { address, source } } else { self }
    }

    /// Who has to change something.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Usage { .. }
            | Self::SessionOver
            | Self::File { .. }
            | Self::Model(_)
            | Self::Import(_)
            | Self::Input(_)
            | Self::Listen { .. }
            | Self::Terms { .. }
            | Self::Plan(_) => Fault::User,
            Self::Connect { source, .. } if is_own_address(source) => Fault::User,
            Self::Connect { .. } | Self::Peer(..) | Self::Refused(_) => Fault::Peer,
            Self::Version { .. } | Self::Slot { .. } | Self::Busy { .. } | Self::Declined(_) => Fault::Peer,
            Self::Session(error) => session_fault(error),
            Self::Digest { .. } | Self::Certificate { .. } | Self::Unprotected { .. } => Fault::Safety,
            Self::Store(error) => store_fault(error),
            Self::MissingProgram { .. } | Self::Randomness(_) | Self::Internal(_) => Fault::Internal,
        }
    }

    /// What to do about it, in one sentence.
    pub fn hint(&self) -> Option<String> {
        self.remedy().map(|remedy| remedy.to_string())
    }

    /// The code to send to the peer before giving up; `None` if the peer already knows or cannot hear.
    pub fn abort_code(&self) -> Option<AbortCode> {
        match self {
            Self::Session(error) => session_code(error),
            // The peer finds the same.
            Self::Terms { .. } => None,
            Self::Peer(..) => Some(AbortCode::Protocol),
            Self::Version { .. } => Some(AbortCode::Version),
            Self::Slot { .. } => Some(AbortCode::Slot),
            Self::Busy { .. } => Some(AbortCode::Busy),
            Self::Plan(_) | Self::Refused(_) => Some(AbortCode::Plan),
            Self::Digest { .. } => Some(AbortCode::Digest),
            Self::Declined(refusal) => Some(refusal.code()),
            Self::Input(_) => Some(AbortCode::Input),
            Self::Store(error) => Some(store_code(error)),
            Self::Usage { .. }
            | Self::SessionOver
            | Self::File { .. }
            | Self::Model(_)
            | Self::Import(_)
            | Self::Connect { .. }
            | Self::Listen { .. }
            | Self::Certificate { .. }
            | Self::Unprotected { .. }
            | Self::MissingProgram { .. }
            | Self::Randomness(_)
            | Self::Internal(_) => Some(AbortCode::Internal),
        }
    }

    /// The number in the abort frame: the code, and in its high byte what some codes say more.
    pub(crate) fn abort_number(&self) -> Option<u16> {
        let detail = if let Self::Declined(refusal) = self { refusal.detail() } else { 0 };
        Some(u16::from_le_bytes([self.abort_code()? as u8, detail]))
    }

    /// True if this server's policy refuses what the client asks for, with nobody at fault.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::Declined(_) | Self::Store(StoreError::SpentKey { .. }))
    }

    /// What the client makes of an abort that is a refusal; other errors as they are.
    pub(crate) fn or_declined(self) -> Self {
        let refusal =
            if let Self::Session(ProtocolError::PeerAborted(code)) = self { Refusal::of_number(code) } else { None };
        refusal.map_or(self, Self::Declined)
    }
}

/// Whose fault it is that a session failed.
fn session_fault(error: &ProtocolError) -> Fault {
    match error {
        ProtocolError::Io(_)
        | ProtocolError::Disconnected
        | ProtocolError::Timeout { .. }
        | ProtocolError::PeerAborted(_)
        | ProtocolError::Changed
        | ProtocolError::Protocol { .. }
        | ProtocolError::Cheated => Fault::Peer,
        ProtocolError::FrameTooLarge { .. }
        | ProtocolError::Encode(_)
        | ProtocolError::Exhausted { .. }
        | ProtocolError::OtherSession => Fault::Internal,
        // The lint above lists what is missing here.
        _ => Fault::Internal,
    }
}

/// What the peer is told of a session that failed.
fn session_code(error: &ProtocolError) -> Option<AbortCode> {
    match error {
        ProtocolError::PeerAborted(_) | ProtocolError::Disconnected | ProtocolError::Io(_) => None,
        ProtocolError::Timeout { .. } => Some(AbortCode::Timeout),
        ProtocolError::Protocol { .. } | ProtocolError::Cheated => Some(AbortCode::Protocol),
        ProtocolError::Changed => Some(AbortCode::Changed),
        ProtocolError::FrameTooLarge { .. }
        | ProtocolError::Encode(_)
        | ProtocolError::Exhausted { .. }
        | ProtocolError::OtherSession => Some(AbortCode::Internal),
        _ => Some(AbortCode::Internal),
    }
}

/// Whose fault it is that the store cannot be used.
fn store_fault(error: &StoreError) -> Fault {
    match error {
        StoreError::File { .. }
        | StoreError::NoHome(_)
        | StoreError::Note { .. }
        | StoreError::Records { .. }
        | StoreError::Offences { .. }
        | StoreError::TooManyOffences { .. }
        | StoreError::Replaced { .. } => Fault::User,
        StoreError::ExposedKey { .. } | StoreError::SpentKey { .. } => Fault::Safety,
        StoreError::Randomness(_) => Fault::Internal,
    }
}

/// What the peer is told where the store cannot be used.
fn store_code(error: &StoreError) -> AbortCode {
    match error {
        StoreError::SpentKey { .. } => AbortCode::SpentKey,
        StoreError::File { .. }
        | StoreError::NoHome(_)
        | StoreError::Note { .. }
        | StoreError::Records { .. }
        | StoreError::Offences { .. }
        | StoreError::TooManyOffences { .. }
        | StoreError::Replaced { .. }
        | StoreError::ExposedKey { .. }
        | StoreError::Randomness(_) => AbortCode::Internal,
    }
}

/// True if an address was not one, or cannot be listened on: the other end has no part in it.
fn is_own_address(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrInUse, AddrNotAvailable, InvalidInput, PermissionDenied};
    matches!(error.kind(), AddrInUse | AddrNotAvailable | InvalidInput | PermissionDenied)
}
