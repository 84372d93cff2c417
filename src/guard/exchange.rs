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

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lowkey_bridge::OfflineShare;
use lowkey_mpc::channel::{Channel, Sums};
use lowkey_mpc::erasing::OnceRng;
use lowkey_mpc::party::Party;
use rand::CryptoRng;
use serde::{Deserialize, Serialize};

use super::audit::{Audit, AuditRate, Corrections, Undecided, Usable, Verdict};
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
    presence.check()?;
    let mut arrived = Arrived::new(slot, commitment, rng);
    channel.send_control(&arrived.nonce()).await.map_err(Error::from)?;
    let shares = receive_lattice(channel, model, |bytes| arrived.message(bytes)).await?;
    Ok((shares, arrived))
}

/// Client: a slot about which it has not heard the word.
pub struct Waiting<S> {
    promise: Promise,
    slot: S,
}

/// What is left of a slot when the coin has fallen.
#[derive(Debug)]
pub enum Fallen<S, R> {
    /// The slot, to be used.
    Use(S),
    /// It was opened; the rest of it.
    Spent(R),
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
    /// With what opens it.
    pub fn new(promise: Promise, slot: S) -> Self {
        Self { promise, slot }
    }

    /// Hears the word: the slot, and what opens it is gone; or the slot was gone before it was opened, taken apart by `open`, which gives
    /// the hash of the MACs of c and xhat that the client holds, and what is left.
    ///
    /// # Errors
    /// When the connection fails; the slot is gone then, and what opens it is left.
    pub async fn hear<R>(
        self,
        channel: &mut Channel,
        open: impl FnOnce(S) -> ([u8; 32], R),
    ) -> Result<Fallen<S, R>, Lost> {
        let Self { promise, slot } = self;
        match word(channel).await {
            Ok(Word::Use) => Ok(Fallen::Use(slot)),
            Ok(Word::Open) => {
                let (macs, rest) = open(slot);
                Owed { promise, macs }.open(channel).await.map(|()| Fallen::Spent(rest))
            }
            Err(error) => Err(Lost { error, owed: Owed { promise, macs: open(slot).0 } }),
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

/// Most that a client keeps; beyond it what it has owed longest is forgotten.
const MOST_OWED: usize = 64;

/// Client: what its sessions have not heard to be settled, with whatever servers; a copy is the same. It stays until it is paid: that a server asks
/// for nothing says nothing of another server, nor of a session whose line was lost since it was asked. No input ever met such a slot.
#[derive(Clone, Debug, Default)]
pub struct Debts(Arc<Mutex<VecDeque<Owed>>>);

impl Debts {
    /// One more, for a connection to come.
    pub fn add(&self, owed: Owed) {
        let mut all = self.all();
        all.push_back(owed);
        if all.len() > MOST_OWED {
            all.pop_front();
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all().len()
    }

    /// True if nothing is owed.
    pub fn is_empty(&self) -> bool {
        self.all().is_empty()
    }

    fn all(&self) -> MutexGuard<'_, VecDeque<Owed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, slot: &SlotName) -> Option<Owed> {
        let mut all = self.all();
        let place = all.iter().position(|owed| owed.slot() == slot)?;
        all.remove(place)
    }

    /// The first message of a connection. What is owed is opened if the server asks for it, and is owed no more once the server says that it is
    /// settled.
    ///
    /// # Errors
    /// When the connection fails, what is owed is left. When the server asks for a slot that this client does not owe, nothing is opened.
    pub async fn pay(&self, channel: &mut Channel) -> crate::Result<()> {
        channel.scope(CONTROL);
        let Owes(asked) = channel.recv_control(MAX_CONTROL).await?;
        let Some(slot) = asked else { return Ok(()) };
        let owed = self.take(&slot).ok_or(Error::Peer(Party::Server, Misbehaviour::NotOwed))?;
        owed.open(channel).await.map_err(|Lost { error, owed }| {
            self.add(owed);
            error
        })
    }
}

/// Server: hears that a slot is complete, and that no byte of the connection was changed.
///
/// # Errors
/// When the connection fails, or the checksums differ.
pub async fn complete(channel: &mut Channel) -> crate::Result<()> {
    channel.scope(CONTROL);
    let sums = channel.sums();
    let complete: Complete = channel.recv_control(MAX_CONTROL).await?;
    Ok(sums.check(complete.sums)?)
}

/// Server: lets the coin fall over a slot that is [complete], and says so; where it asks, takes the slot apart by `open`, waits for the
/// answer and compares.
///
/// # Errors
/// As [`Undecided::decide`] and [`Audit::answer`].
pub async fn decide<S, R>(
    channel: &mut Channel,
    undecided: Undecided<S>,
    presence: &Presence,
    rate: AuditRate,
    rng: &mut impl CryptoRng,
    open: impl FnOnce(S) -> (Box<dyn Corrections>, R),
) -> Result<Fallen<Usable<S>, R>> {
    channel.scope(CONTROL);
    match undecided.decide(presence, rate, rng, open).await? {
        Verdict::Use(usable) => {
            channel.send_control(&Word::Use).await.map_err(Error::from)?;
            Ok(Fallen::Use(usable))
        }
        Verdict::Audit(audit, rest) => {
            settle(channel, audit, &Word::Open).await?;
            Ok(Fallen::Spent(rest))
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
