//! The messages of an audit, both roles.
//!
//! ```text
//!     client                                             server
//!     commitment                       ------------->    counts the slot
//!                                      <-------------    nonce
//!     b*_0, bodies                     ------------->    v_off, and a hash of each
//!     ... corrections of c, xhat, P    <------------>    ...
//!     Complete { checksums }           ------------->    the coin falls
//!                                      <-------------    Word
//!     Answer                           ------------->    where the word is Open
//!                                      <-------------    Settled
//! ```
//!
//! The checksums are compared first, so that a line that changes bytes is no offence of the client. On a connection that comes later the server begins
//! with what is owed, if anything is, and the last two messages follow.

use lowkey_bridge::OfflineShare;
use lowkey_mpc::channel::{Channel, Sums};
use lowkey_mpc::erasing::OnceRng;
use lowkey_mpc::party::Party;
use rand::CryptoRng;
use serde::{Deserialize, Serialize};

use super::audit::{Audit, AuditRate, Undecided, Usable, Verdict};
use super::registry::Presence;
use super::slot::{Answer, Arrived, ClientHalf, Commitment, Committed, Nonce, Promise, SlotName};
use super::{Denied, Result};
use crate::error::{Error, Misbehaviour};
use crate::offline::{Draws, receive_lattice, send_lattice};
use crate::publication::{ClientModel, ServerModel};
use crate::scope::CONTROL;
use crate::session::MAX_CONTROL;

/// Client to server: all offline messages of the slot were sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Complete {
    /// Of all frames before this one.
    pub sums: Sums,
}

/// Server to client: what the coin said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Word {
    /// The slot may be used.
    Use,
    /// The slot is spent, and to be opened.
    Open,
}

/// Server to client: the slot was what its seed makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// Its number.
    pub slot: u64,
}

/// Server to client, first on a connection of the guarded mode: the slot that its identity has not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owes(pub Option<SlotName>);

/// Client: begins a slot and sends its lattice work. The promise comes with what else the client makes of the slot into a [`Waiting`].
///
/// # Errors
/// When the connection fails, or the server refuses another slot.
pub async fn send(
    channel: &mut Channel,
    model: &ClientModel,
    slot: SlotName,
    rng: &mut OnceRng,
) -> crate::Result<(ClientHalf, Promise)> {
    channel.scope(CONTROL);
    let committed = Committed::new(slot, rng);
    channel.send_control(&committed.commitment()).await?;
    let nonce: Nonce = channel.recv_control(MAX_CONTROL).await?;
    let (seed, promise) = committed.seed(&nonce);
    let halves = send_lattice(channel, model, Draws::Seeded(&seed)).await?;
    Ok((halves.into(), promise))
}

/// Server: lets a slot begin, and receives its lattice work: v_off of every linear node with encrypted terms, and what arrived.
///
/// # Errors
/// When the identity is shut out or has begun too many slots, the connection fails, or a message is none.
pub async fn receive(
    channel: &mut Channel,
    model: &ServerModel,
    slot: SlotName,
    presence: &Presence,
    rng: &mut OnceRng,
) -> Result<(Vec<Option<OfflineShare>>, Arrived)> {
    channel.scope(CONTROL);
    let commitment: Commitment = channel.recv_control(MAX_CONTROL).await.map_err(Error::from)?;
    presence.begin_slot()?;
    let mut arrived = Arrived::new(slot, commitment, rng);
    channel.send_control(&arrived.nonce()).await.map_err(Error::from)?;
    let shares = receive_lattice(channel, model, |bytes| arrived.message(bytes)).await?;
    Ok((shares, arrived))
}

/// Client: a slot about which it has not heard the word.
pub struct Waiting<S> {
    owed: Owed,
    slot: S,
}

/// Client: what opens a slot that is spent, wherever the server asks for it. Wiped when it is dropped.
#[derive(Debug)]
pub struct Owed {
    promise: Promise,
    macs: [u8; 32],
}

/// Client: a connection that was lost, or ended, before the server had said that a slot is settled.
#[derive(Debug)]
pub struct Lost {
    /// Why.
    pub error: Error,
    /// For the next connection, with the same certificate and soon.
    pub owed: Owed,
}

impl<S> Waiting<S> {
    /// With the hash of the MACs of c and xhat that the client holds.
    pub fn new(promise: Promise, macs: [u8; 32], slot: S) -> Self {
        Self { owed: Owed { promise, macs }, slot }
    }

    /// Hears the word: the slot, and what opens it is gone; or none, and the slot was gone before it was opened.
    ///
    /// # Errors
    /// When the connection fails; the slot is gone then, and what opens it is left.
    pub async fn hear(self, channel: &mut Channel) -> Result<Option<S>, Lost> {
        let Self { owed, slot } = self;
        match word(channel).await {
            Ok(Word::Use) => Ok(Some(slot)),
            Ok(Word::Open) => {
                drop(slot);
                owed.open(channel).await.map(|()| None)
            }
            Err(error) => Err(Lost { error, owed }),
        }
    }
}

async fn word(channel: &mut Channel) -> crate::Result<Word> {
    channel.scope(CONTROL);
    channel.send_control(&Complete { sums: channel.sums() }).await?;
    Ok(channel.recv_control(MAX_CONTROL).await?)
}

impl Owed {
    /// Which slot.
    pub fn slot(&self) -> &SlotName {
        self.promise.slot()
    }

    /// Opens the slot.
    async fn open(self, channel: &mut Channel) -> Result<(), Lost> {
        match self.answer(channel).await {
            Ok(()) => Ok(()),
            Err(error) => Err(Lost { error, owed: self }),
        }
    }

    async fn answer(&self, channel: &mut Channel) -> crate::Result<()> {
        channel.scope(CONTROL);
        channel.send_control(&self.promise.answer(self.macs)).await?;
        let Settled { slot } = channel.recv_control(MAX_CONTROL).await?;
        let expected = self.slot().number;
        if slot != expected {
            return Err(Error::Peer(Party::Server, Misbehaviour::OtherSlot { found: slot, expected }));
        }
        Ok(())
    }
}

/// Client: the first message of a later connection. What was owed is opened if the server asks for it, and not owed if it does not.
///
/// # Errors
/// When the connection fails, what is owed is left. When the server asks for a slot that this client does not owe, nothing is opened.
pub async fn pay(channel: &mut Channel, owed: Option<Owed>) -> Result<(), (Error, Option<Owed>)> {
    channel.scope(CONTROL);
    let Owes(asked) = match channel.recv_control(MAX_CONTROL).await {
        Ok(owes) => owes,
        Err(error) => return Err((error.into(), owed)),
    };
    match (asked, owed) {
        (None, _) => Ok(()),
        (Some(slot), Some(owed)) if slot == *owed.slot() => {
            owed.open(channel).await.map_err(|lost| (lost.error, Some(lost.owed)))
        }
        (Some(_), owed) => Err((Error::Peer(Party::Server, Misbehaviour::NotOwed), owed)),
    }
}

/// Server: lets the coin fall when the slot is complete, and says so; where it asks, waits for the answer and compares. The slot, or none.
///
/// # Errors
/// As [`Undecided::decide`] and [`Audit::answer`].
pub async fn decide<S>(
    channel: &mut Channel,
    undecided: Undecided<S>,
    presence: &Presence,
    rate: AuditRate,
    rng: &mut impl CryptoRng,
) -> Result<Option<Usable<S>>> {
    channel.scope(CONTROL);
    let sums = channel.sums();
    let complete: Complete = channel.recv_control(MAX_CONTROL).await.map_err(Error::from)?;
    sums.check(complete.sums).map_err(Error::from)?;
    match undecided.decide(presence, rate, rng).await? {
        Verdict::Use(usable) => {
            channel.send_control(&Word::Use).await.map_err(Error::from)?;
            Ok(Some(usable))
        }
        Verdict::Audit(audit) => {
            settle(channel, audit, &Word::Open).await?;
            Ok(None)
        }
    }
}

/// Server: the first message of a connection, and the audit that is owed, if one is.
///
/// # Errors
/// As [`Audit::answer`].
pub async fn collect(channel: &mut Channel, owed: Option<Audit>) -> Result<()> {
    channel.scope(CONTROL);
    match owed {
        None => Ok(channel.send_control(&Owes(None)).await.map_err(Error::from)?),
        Some(audit) => {
            let owes = Owes(Some(*audit.slot()));
            settle(channel, audit, &owes).await
        }
    }
}

/// Asks, and waits for the answer.
async fn settle(channel: &mut Channel, audit: Audit, question: &impl Serialize) -> Result<()> {
    let slot = audit.slot().number;
    let asked = async {
        channel.send_control(question).await?;
        Ok(channel.recv_control::<Answer>(MAX_CONTROL).await?)
    };
    audit.answer(asked).await?;
    channel.send_control(&Settled { slot }).await.map_err(|error| Denied::Other(error.into()))
}
