//! The messages that open a session and steer it, and what both ends keep while it lasts.
//!
//! ```text
//!     setup     client                                        server
//!               Hello { magic, version }          ------->
//!                                                 <-------    Welcome { version, digest, plan, epoch seed, hint length }
//!               Accept { send_hint }              ------->
//!                                                 <-------    the hint, if asked for
//!               silent OT: base OTs and bootstrap <------>
//!     then, any number of times, in the stage that the request names
//!               Request                           ------->
//!               ... the stage ...                 <------>
//! ```

use lowkey_mpc::ot::NextIndex;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::plan::Reveal;
use crate::store::Digest;

/// The first bytes of a session.
pub const MAGIC: [u8; 8] = *b"lowkey\r\n";
/// The version of the protocol; both ends must have the same.
pub const VERSION: u32 = 1;
/// Longest control message other than a plan, in bytes.
pub const MAX_CONTROL: usize = 256;
/// Bytes of the hint per frame.
pub const HINT_CHUNK: usize = 1 << 20;
/// Most slots that may be prepared and not yet used.
pub const MAX_SLOTS: usize = 64;

/// Client to server, first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// [`VERSION`].
    pub version: u32,
}

/// Server to client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// [`VERSION`].
    pub version: u32,
    /// Of the published package.
    pub digest: Digest,
    /// Public seed of the masks.
    pub epoch: [u8; 32],
    /// Length of the plan's text, which follows.
    pub plan_bytes: u32,
    /// Length of the hint.
    pub hint_bytes: u32,
}

/// Client to server: the model is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accept {
    /// True if the client does not have the hint.
    pub send_hint: bool,
}

/// Client to server: what comes next. The frame's stage is the request's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// What.
    pub action: Action,
    /// The next unused OT of each direction: both ends must be at the same place.
    pub ots: NextIndex,
}

/// What a client can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Offline stage: prepare slot `slot`, the next unused number.
    Prepare {
        /// Numbered from 0 without gaps.
        slot: u64,
        /// How the output will be opened.
        reveal: Reveal,
    },
    /// Online stage: use a slot.
    Run {
        /// A prepared slot that was not used.
        slot: u64,
    },
    /// Online stage: an inference in the direct schedule, under the next unused slot number.
    Direct {
        /// The slot number that it burns.
        slot: u64,
        /// How the output is opened.
        reveal: Reveal,
    },
    /// The end of the session.
    Close,
}

/// Server to client at the end of an offline stage: the slot is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// The slot.
    pub slot: u64,
}

/// Checks the peer's version.
///
/// # Errors
/// When it is another one.
pub fn check_version(peer: &'static str, version: u32) -> Result<()> {
    if version == VERSION {
        return Ok(());
    }
    Err(Error::Version { peer, found: version })
}
