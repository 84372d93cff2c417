//! The messages that open a session and steer it, and what both ends keep while it lasts.
//!
//! ```text
//!     setup     client                                        server
//!               Hello { magic, version }          ------->
//!                                                 <-------    Welcome { version, digest, plan, epoch seed, hint length }
//!               Accept { send_hint }              ------->
//!                                                 <-------    the hint, if asked for
//!               silent OT: base OTs and bootstrap <------>
//!               checksums                         <------>
//!     then, any number of times, in the stage that the request names
//!               Request                           ------->
//!               ... the stage ...                 <------>
//!                                                 <-------    Ready (offline) or Done (online)
//! ```
//!
//! Requests, Ready and Done carry the sender's checksums of all frames before them, both ways; an answer is used after they were
//! compared.
//!
//! **Versions.** Whatever else changes, a hello begins with [`MAGIC`] and the client's version, and a server answers a hello of
//! another version with [`Welcome::refusal`], which has the form of version 1 for ever; so each end can name both versions.

use lowkey_mpc::channel::Sums;
use lowkey_mpc::ot::NextIndex;
use lowkey_mpc::wire;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::plan::Reveal;
use crate::store::Digest;

/// The first bytes of a session.
pub const MAGIC: [u8; 8] = *b"lowkey\r\n";
/// The version of the protocol; both ends must have the same.
pub const VERSION: u32 = 3;
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

impl Welcome {
    /// What a client of another version is told: this end's version, and nothing else.
    pub fn refusal() -> Self {
        Self { version: VERSION, digest: [0; 32], epoch: [0; 32], plan_bytes: 0, hint_bytes: 0 }
    }
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
    /// Of all frames before this one.
    pub sums: Sums,
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
    /// Of all frames before this one.
    pub sums: Sums,
}

/// Server to client at the end of an online stage, behind the frame that completes the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Of all frames before this one.
    pub sums: Sums,
}

/// Checks a client's first message.
///
/// # Errors
/// When it is not a hello, or one of another version.
pub fn check_hello(bytes: &[u8]) -> Result<()> {
    let version = bytes.strip_prefix(&MAGIC).and_then(|rest| rest.first_chunk());
    let Some(version) = version else {
        return Err(Error::Peer { peer: "client", what: "something that is not a hello of lowkey".into() });
    };
    check_version("client", u32::from_le_bytes(*version))?;
    wire::decode::<Hello>(bytes, MAX_CONTROL)?;
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Clients of version 1 and of all later ones read it.
    #[test]
    fn a_refusal_has_the_form_of_version_1() {
        let bytes = wire::encode(&Welcome::refusal()).unwrap();
        assert_eq!((bytes.len(), &bytes[..4]), (76, &VERSION.to_le_bytes()[..]));
        assert_eq!(bytes[4..], [0; 72]);
    }

    #[test]
    fn hellos_of_every_version_name_it() {
        let hello = |version: u32, rest: &[u8]| [&MAGIC[..], &version.to_le_bytes(), rest].concat();
        check_hello(&hello(VERSION, &[])).unwrap();
        for (version, rest) in [(0, &[][..]), (VERSION - 1, &[]), (VERSION + 1, &[]), (u32::MAX, &[9; 100])] {
            let error = check_hello(&hello(version, rest)).unwrap_err();
            assert!(matches!(error, Error::Version { peer: "client", found } if found == version), "{error}");
        }
        for bytes in [&hello(VERSION, &[0])[..], &hello(VERSION, &[])[..11], &MAGIC[1..], &[]] {
            assert!(!matches!(check_hello(bytes), Ok(()) | Err(Error::Version { .. })));
        }
    }
}
