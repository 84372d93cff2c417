//! What can go wrong in a session, and whose fault it is.

use std::fmt::Display;
use std::io;
use std::time::Duration;

/// The result of a protocol step.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the channel or of a protocol. None of its fields depends on a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The transport failed.
    #[error("the connection failed: {0}")]
    Io(#[source] io::Error),

    /// The peer closed the connection, or an earlier error left it unusable.
    #[error("the connection is closed")]
    Disconnected,

    /// Not a single byte moved for this long while one was due.
    #[error("the peer made no progress for {after:?}")]
    Timeout {
        /// The limit that was exceeded.
        after: Duration,
    },

    /// The peer sent an abort frame.
    #[error("the peer aborted with code {0}")]
    PeerAborted(u16),

    /// One end did not receive what the other sent: the connection is at fault.
    #[error("bytes changed in transit: the checksums of both ends differ")]
    Changed,

    /// The peer sent something other than what the protocol prescribes.
    #[error("the peer broke the protocol: {what} is {found}, expected {expected}")]
    Protocol {
        /// The field or property that is wrong.
        what: &'static str,
        /// What the protocol prescribes.
        expected: String,
        /// What arrived.
        found: String,
    },

    /// The client opened something that it did not hold, or spoiled what it made: it deviates on purpose. What exactly is not told.
    #[error("the client cheated: what it opened is not what it held")]
    Cheated,

    /// Authenticated bits or triples met a guard of another session, under another Delta: the caller's fault.
    #[error("authenticated bits of another session: they are of no use in this one")]
    OtherSession,

    /// A frame of our own exceeds what a frame may carry: our configuration is at fault.
    #[error("a frame of {len} bytes exceeds the limit of {max}")]
    FrameTooLarge {
        /// Length of the payload in bytes.
        len: usize,
        /// The largest payload allowed, in bytes.
        max: usize,
    },

    /// A message of our own could not be encoded: our bug.
    #[error("a control message could not be encoded: {0}")]
    Encode(String),

    /// A protocol asked for more correlations than the pool holds: the caller's fault.
    #[error("{need} correlated OTs are needed where {received_by} receives, {have} are left")]
    Exhausted {
        /// The receiving party of the direction that ran dry.
        received_by: crate::party::Party,
        /// How many were asked for.
        need: usize,
        /// How many are left.
        have: usize,
    },
}

impl Error {
    /// A protocol violation of the peer: `what` is `found` where `expected` was due.
    #[must_use]
    pub fn protocol(what: &'static str, expected: impl Display, found: impl Display) -> Self {
        Self::Protocol { what, expected: expected.to_string(), found: found.to_string() }
    }

    /// True if the peer, not we or the network, is at fault.
    #[must_use]
    pub fn is_peer_fault(&self) -> bool {
        matches!(self, Self::Protocol { .. } | Self::Cheated)
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof, WriteZero};
        match error.kind() {
            BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof | WriteZero => {
                Self::Disconnected
            }
            _ => Self::Io(error),
        }
    }
}
