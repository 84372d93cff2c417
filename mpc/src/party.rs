//! Who takes part and when: the two parties and the three stages.

use serde::{Deserialize, Serialize};
use std::fmt;

/// One of the two parties of a session. Sender and receiver are roles inside one protocol, not parties.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Party {
    /// Holds the input and learns the output.
    Client,
    /// Holds the weights and learns nothing.
    Server,
}

impl Party {
    /// The peer of this party.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Server => "server",
        })
    }
}

/// When a frame is sent. Every frame carries its stage, and a receiver in another stage refuses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Stage {
    /// Once per client and model: handshake, hint, base OTs.
    Setup,
    /// Before an input is known.
    Offline,
    /// Per input.
    Online,
}

impl Stage {
    /// All stages, in the order in which a session meets them.
    pub const ALL: [Self; 3] = [Self::Setup, Self::Offline, Self::Online];

    /// The stage's byte in a frame header, and its place in [`Stage::ALL`].
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Setup => 0,
            Self::Offline => 1,
            Self::Online => 2,
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Setup => "setup",
            Self::Offline => "offline",
            Self::Online => "online",
        })
    }
}
