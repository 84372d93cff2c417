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
//!     AuditAnswer                      ------------->    where the word is Open
//!                                      <-------------    Settled
//! ```
//!
//! The checksums are compared first, so that a line that changes bytes is no offence of the client. On a connection that comes later the server begins
//! with what is owed, if anything is, and the last two messages follow.

use lowkey_mpc::channel::{Channel, Sums};
use lowkey_mpc::erasing::OnceRng;
use rand::CryptoRng;
use serde::{Deserialize, Serialize};

use super::audit::{Audit, AuditRate, Undecided, Usable, Verdict};
use super::case::Corrections;
pub use super::debts::{Debts, Owes, Settled};
use super::registry::Presence;
use super::slot::{Arrived, AuditAnswer, ClientHalf, Commitment, Committed, Nonce, Promise, SlotName};
use super::{Denied, Result};
use crate::error::Error;
use crate::offline::{Draws, receive_lattice, send_lattice};
use crate::publication::{ClientModel, ServerModel};
use crate::scope::CONTROL;
use crate::session::MAX_CONTROL;
use crate::slot::OfflineShares;

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

/// Server: answers the commitment to a slot with its nonce, and receives its lattice work: v_off of every linear node with encrypted terms,
/// and what arrived.
///
/// # Errors
/// When the identity is shut out, the connection fails, or a message is none. That it has not begun too many slots was seen before
/// ([`Presence::begin_slot`]).
pub async fn receive(
    channel: &mut Channel,
    model: &ServerModel,
    slot: SlotName,
    presence: &Presence,
    rng: &mut OnceRng,
) -> Result<(OfflineShares, Arrived)> {
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

impl<S> Waiting<S> {
    /// With what opens it.
    pub fn new(promise: Promise, slot: S) -> Self {
        Self { promise, slot }
    }

    /// Hears the word: the slot, and what opens it is gone; or the slot was gone before it was opened, taken apart by `open`, which gives
    /// the hash of the MACs of c and xhat that the client holds, and what is left.
    ///
    /// # Errors
    /// When the connection fails, or this future is dropped, the slot is gone; what opens it is among `debts` then, for the next connection,
    /// with the same certificate and soon.
    pub async fn hear<R>(
        self,
        channel: &mut Channel,
        debts: &Debts,
        open: impl FnOnce(S) -> ([u8; 32], R),
    ) -> crate::Result<Fallen<S, R>> {
        let name = *self.promise.slot();
        let unheard = debts.expect(self.promise, self.slot, open);
        match word(channel).await? {
            Word::Use => Ok(Fallen::Use(unheard.used())),
            Word::Open => {
                let rest = unheard.spent();
                debts.open(channel, &name).await?;
                Ok(Fallen::Spent(rest))
            }
        }
    }
}

/// Client: says that a slot is complete, and hears what the coin says.
///
/// # Errors
/// When the connection fails.
async fn word(channel: &mut Channel) -> crate::Result<Word> {
    channel.scope(CONTROL);
    channel.send_control(&Complete { sums: channel.sums() }).await?;
    Ok(channel.recv_control(MAX_CONTROL).await?)
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

/// Server: asks, and waits for the answer. The client hears that it was right; of a wrong one it hears that it is shut out.
///
/// # Errors
/// As [`Audit::answer`].
async fn settle(channel: &mut Channel, audit: Audit, question: &impl Serialize) -> Result<()> {
    let slot = audit.slot().number;
    let asked = async {
        channel.send_control(question).await?;
        Ok(channel.recv_control::<AuditAnswer>(MAX_CONTROL).await?)
    };
    audit.answer(asked).await?;
    channel.send_control(&Settled { slot }).await.map_err(|error| Denied::Other(error.into()))
}
