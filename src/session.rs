//! The messages that open a session and steer it, and what both ends keep while it lasts.
//!
//! ```text
//!     setup     client                                        server
//!               Hello { magic, version, ask }     ------->
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
//! A client that asks for the list of models gets a [`Listing`] in place of the welcome, and that is the end. A server answers nothing
//! but a hello of another version before it has admitted the client.
//!
//! **Versions.** Whatever else changes, a hello begins with [`MAGIC`] and the client's version, and a server answers a hello of
//! another version with [`Welcome::refusal`], which has the form of version 1 for ever; so each end can name both versions.

use lowkey_mpc::channel::Sums;
use lowkey_mpc::ot::NextIndex;
use lowkey_mpc::party::Party;
use lowkey_mpc::wire;
use serde::{Deserialize, Serialize};

use crate::abort::Refusal;
use crate::error::{Error, Misbehaviour, Result};
use crate::plan::Reveal;
use crate::store::Digest;

/// The first bytes of a session.
pub const MAGIC: [u8; 8] = *b"lowkey\r\n";
/// Those of a [training](crate::train), which is another protocol: for each to know the other.
pub(crate) const TRAINING: [u8; 8] = *b"lowkey\rt";
/// The version of the protocol; both ends must have the same.
pub const VERSION: u32 = 4;
/// Longest control message other than a plan, in bytes.
pub const MAX_CONTROL: usize = 256;
/// Bytes of the hint per frame.
pub const HINT_CHUNK: usize = 1 << 20;
/// Most slots that may be prepared and not yet used.
pub const MAX_SLOTS: usize = 64;

/// Longest name of a served model, in bytes.
pub const MAX_NAME: usize = 64;
/// Most models of one server.
pub const MAX_MODELS: usize = 64;
/// Longest list of models, in bytes.
pub const MAX_LISTING: usize = 16 << 10;

/// Client to server, first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// [`VERSION`].
    pub version: u32,
    /// What the client wants.
    pub ask: Ask,
}

impl Hello {
    /// Of this version.
    pub fn new(ask: Ask) -> Self {
        Self { magic: MAGIC, version: VERSION, ask }
    }
}

/// What a client wants.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// A session with the server's model, which has only one.
    #[default]
    Only,
    /// A session with the model of this [name](is_name).
    Model(String),
    /// The list of models, and no session.
    List,
    /// A [guarded](crate::guard) session with the model of this name, or with the only one.
    Guarded(Option<String>),
}

impl Ask {
    /// The name of a model, if it has one.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Model(name) | Self::Guarded(Some(name)) => Some(name),
            Self::Only | Self::List | Self::Guarded(None) => None,
        }
    }
}

/// Server to client, where the models were asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// [`VERSION`].
    pub version: u32,
    /// At least one and at most [`MAX_MODELS`], in the server's order.
    pub models: Vec<Offer>,
}

/// A model that a server has. Nothing in it is more than what a session shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Its [name](is_name).
    pub name: String,
    /// Of the published package.
    pub digest: Digest,
    /// Channels, height, width.
    pub input: [u32; 3],
    /// Bits of an input value.
    pub input_bits: u32,
    /// Number of outputs.
    pub outputs: u32,
    /// Bytes of plan and hint, once per client.
    pub package_bytes: u64,
    /// Bytes of an inference before its input is known, both directions, OTs included.
    pub offline_bytes: u64,
    /// Bytes of an inference after that, both directions.
    pub online_bytes: u64,
    /// Flights after that.
    pub flights: u64,
}

/// True of 1 to [`MAX_NAME`] letters, digits, `.`, `_`, `-` and `+` of ASCII.
pub fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && name.chars().all(is_of_names)
}

/// The name nearest to this.
pub fn name_of(text: &str) -> String {
    let name: String = text.chars().take(MAX_NAME).map(|c| if is_of_names(c) { c } else { '_' }).collect();
    if name.is_empty() { "model".into() } else { name }
}

fn is_of_names(c: char) -> bool {
    c.is_ascii_alphanumeric() || "._-+".contains(c)
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

/// Checks a client's first message, and says what it wants.
///
/// # Errors
/// When it is not a hello, or one of another version or of a training, or asks for a name that is none.
pub fn check_hello(bytes: &[u8]) -> Result<Ask> {
    if bytes.starts_with(&TRAINING) {
        return Err(Refusal::NoTraining.into());
    }
    let version = bytes.strip_prefix(&MAGIC).and_then(|rest| rest.first_chunk());
    let Some(version) = version else {
        return Err(Error::Peer(Party::Client, Misbehaviour::Hello));
    };
    check_version(Party::Client, u32::from_le_bytes(*version))?;
    let ask = wire::decode::<Hello>(bytes, MAX_CONTROL)?.ask;
    match ask.name() {
        Some(name) if !is_name(name) => Err(Error::Peer(Party::Client, Misbehaviour::ModelName)),
        _ => Ok(ask),
    }
}

/// Checks a server's list of models, or whatever it answered in its place.
///
/// # Errors
/// When the server has another version, or the list is none: too long, empty, with names that are none or come twice.
pub fn check_listing(bytes: &[u8]) -> Result<Vec<Offer>> {
    let bad = |what| Error::Peer(Party::Server, what);
    let version = bytes.first_chunk().ok_or_else(|| bad(Misbehaviour::Listing))?;
    check_version(Party::Server, u32::from_le_bytes(*version))?;
    let Listing { models, .. } = wire::decode(bytes, MAX_LISTING)?;
    if models.is_empty() || models.len() > MAX_MODELS {
        return Err(bad(Misbehaviour::ListingLength { found: models.len(), most: MAX_MODELS }));
    }
    let mut names: Vec<&str> = models.iter().map(|offer| &*offer.name).collect();
    names.sort_unstable();
    if !names.iter().all(|name| is_name(name)) || names.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(bad(Misbehaviour::ListingNames));
    }
    Ok(models)
}

/// Checks the peer's version.
///
/// # Errors
/// When it is another one.
pub fn check_version(peer: Party, version: u32) -> Result<()> {
    if version == VERSION {
        return Ok(());
    }
    Err(Error::Version { peer, found: version, own: VERSION })
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
        let only = wire::encode(&Ask::Only).unwrap();
        assert_eq!(check_hello(&hello(VERSION, &only)).unwrap(), Ask::Only);
        for (version, rest) in [(0, &[][..]), (VERSION - 1, &[]), (VERSION + 1, &[]), (u32::MAX, &[9; 100])] {
            let error = check_hello(&hello(version, rest)).unwrap_err();
            assert!(
                matches!(error, Error::Version { peer: Party::Client, found, own: VERSION } if found == version),
                "{error}"
            );
        }
        for bytes in
            [&hello(VERSION, &[])[..], &hello(VERSION, &[0; 5]), &hello(VERSION, &only)[..11], &MAGIC[1..], &[]]
        {
            assert!(!matches!(check_hello(bytes), Ok(_) | Err(Error::Version { .. })));
        }
        for bytes in [&MAGIC[1..], &MAGIC, &[]] {
            assert!(matches!(check_hello(bytes), Err(Error::Peer(Party::Client, Misbehaviour::Hello))));
        }
    }

    #[test]
    fn names_are_short_and_plain() {
        let hello = |name: &str| wire::encode(&Hello::new(Ask::Model(name.into()))).unwrap();
        let guarded = |name: &str| wire::encode(&Hello::new(Ask::Guarded(Some(name.into())))).unwrap();
        for name in ["a", "mnist-minionn-w4a4", "B.2_x+", &"n".repeat(MAX_NAME)] {
            assert_eq!(check_hello(&hello(name)).unwrap(), Ask::Model(name.into()));
            assert_eq!(check_hello(&guarded(name)).unwrap(), Ask::Guarded(Some(name.into())));
            assert_eq!(name_of(name), name);
        }
        for name in ["", "a b", "a/b", "ä", "a\n", &"n".repeat(MAX_NAME + 1), &"n".repeat(MAX_CONTROL)] {
            check_hello(&hello(name)).unwrap_err();
            check_hello(&guarded(name)).unwrap_err();
            assert!(is_name(&name_of(name)), "{name:?}");
        }
    }

    fn offer(name: &str) -> Offer {
        let (input, bytes) = ([u32::MAX; 3], u64::MAX);
        Offer {
            name: name.into(),
            digest: [1; 32],
            input,
            input_bits: 32,
            outputs: u32::MAX,
            package_bytes: bytes,
            offline_bytes: bytes,
            online_bytes: bytes,
            flights: bytes,
        }
    }

    #[test]
    fn a_list_has_bounds() {
        let listing = |version, models: Vec<Offer>| wire::encode(&Listing { version, models }).unwrap();
        let name = |index: usize| format!("{}{index:03}", "n".repeat(MAX_NAME - 3));
        let most: Vec<Offer> = (0..MAX_MODELS).map(|index| offer(&name(index))).collect();
        let longest = listing(VERSION, most.clone());
        assert!(longest.len() <= MAX_LISTING);
        assert_eq!(check_listing(&longest).unwrap(), most);
        let more = [most, vec![offer("one-more")]].concat();
        let wrong = |models| match check_listing(&listing(VERSION, models)) {
            Err(Error::Peer(Party::Server, misbehaviour)) => misbehaviour,
            other => panic!("{other:?}"),
        };
        for models in [vec![], more] {
            let length = models.len();
            assert!(
                matches!(wrong(models), Misbehaviour::ListingLength { found, most: MAX_MODELS } if found == length)
            );
        }
        for models in [vec![offer("a"), offer("b"), offer("a")], vec![offer("\u{1b}[2J")], vec![offer("")]] {
            assert!(matches!(wrong(models), Misbehaviour::ListingNames));
        }
        assert!(matches!(check_listing(&[]), Err(Error::Peer(Party::Server, Misbehaviour::Listing))));
        assert!(check_listing(&longest[..longest.len() - 1]).is_err());
        let refusal = wire::encode(&Welcome { version: 9, ..Welcome::refusal() }).unwrap();
        for bytes in [listing(9, vec![offer("a")]), refusal] {
            assert!(matches!(
                check_listing(&bytes),
                Err(Error::Version { peer: Party::Server, found: 9, own: VERSION })
            ));
        }
    }
}
