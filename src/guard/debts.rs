//! What a client owes: the openings of slots of which it has not heard what becomes of them.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lowkey_mpc::channel::Channel;
use lowkey_mpc::party::Party;
use lowkey_mpc::runtime::Instant;
use serde::{Deserialize, Serialize};

use super::registry::GRACE;
use super::slot::{AuditAnswer, Promise, SlotName};
use crate::error::{Error, Misbehaviour, Result};
use crate::scope::CONTROL;
use crate::session::MAX_CONTROL;

/// Server to client: the slot was what its seed makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// Its number.
    pub slot: u64,
}

/// Server to client, first on a connection of the guarded mode: the slot that its identity has not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owes(pub Option<SlotName>);

/// Most that a client keeps of lost connections; beyond it what it has owed longest is forgotten.
const MOST_OWED: usize = 64;
/// How long it keeps them: for as long as a server takes them, and as it may take a server to find a line lost.
const KEPT: Duration = Duration::from_secs(GRACE.as_secs() + 5 * 60);

/// Why a slot that was not heard of has one.
const UNTIL_MOVED: &str = "the slot is there until this is moved";

/// Client: what opens the slots of its sessions about which it has not heard to be settled, with whatever servers; a copy is the same. An entry
/// is there from before the server can ask for it, so that nothing is lost with a connection, or with a future that is dropped.
///
/// It stays until it is paid: that a server asks for nothing says nothing of another server, nor of a session whose line was lost since it
/// was asked. But no server takes an answer for ever, and the word that one was right may be lost: after a quarter of an hour it is forgotten.
///
/// No input ever meets such a slot: an entry opens nothing as long as its slot is there, and is wiped before the slot is used.
#[derive(Clone, Default)]
pub struct Debts(Arc<Mutex<VecDeque<Debt>>>);

/// Wiped when it is dropped.
struct Debt {
    promise: Promise,
    /// Since the slot is gone: the hash of its MACs, and since when.
    spent: Option<([u8; 32], Instant)>,
}

/// A slot about which its session has not heard the word. Dropped, the slot is gone and what opens it is owed.
pub(super) struct Unheard<'a, S, R, F: FnOnce(S) -> ([u8; 32], R)> {
    debts: &'a Debts,
    name: SlotName,
    /// The slot, and what takes it apart.
    kept: Option<(S, F)>,
}

impl Debts {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.all().len()
    }

    /// True if nothing is owed.
    pub fn is_empty(&self) -> bool {
        self.all().is_empty()
    }

    /// Before the server hears that a slot is complete.
    pub(super) fn expect<S, R, F: FnOnce(S) -> ([u8; 32], R)>(
        &self,
        promise: Promise,
        slot: S,
        open: F,
    ) -> Unheard<'_, S, R, F> {
        let name = *promise.slot();
        self.all().push_back(Debt { promise, spent: None });
        Unheard { debts: self, name, kept: Some((slot, open)) }
    }

    /// The first message of a connection. What is owed is opened if the server asks for it, and is owed no more once the server says that it is
    /// settled.
    ///
    /// # Errors
    /// When the connection fails, or this future is dropped, what is owed is left. When the server asks for a slot that this client does
    /// not owe, nothing is opened.
    pub async fn pay(&self, channel: &mut Channel) -> Result<()> {
        channel.scope(CONTROL);
        let Owes(asked) = channel.recv_control(MAX_CONTROL).await?;
        match asked {
            None => Ok(()),
            Some(slot) => self.open(channel, &slot).await,
        }
    }

    /// Opens a slot that is gone.
    pub(super) async fn open(&self, channel: &mut Channel, slot: &SlotName) -> Result<()> {
        let answer = self.answer(slot).ok_or(Error::Peer(Party::Server, Misbehaviour::NotOwed))?;
        channel.scope(CONTROL);
        channel.send_control(&answer).await?;
        let Settled { slot: found } = channel.recv_control(MAX_CONTROL).await?;
        if found != slot.number {
            return Err(Error::Peer(Party::Server, Misbehaviour::OtherSlot { found, expected: slot.number }));
        }
        self.forget(slot);
        Ok(())
    }

    fn answer(&self, slot: &SlotName) -> Option<AuditAnswer> {
        let all = self.all();
        let debt = all.iter().find(|debt| debt.promise.slot() == slot)?;
        debt.spent.map(|(macs, _)| debt.promise.answer(macs))
    }

    /// The slot is gone.
    fn owe(&self, slot: &SlotName, macs: [u8; 32]) {
        let mut all = self.all();
        if let Some(debt) = all.iter_mut().find(|debt| debt.promise.slot() == slot) {
            debt.spent = Some((macs, Instant::now()));
        }
        // Those of sessions that go on are as many as these.
        let is_spent = |debt: &Debt| debt.spent.is_some();
        if all.iter().filter(|debt| is_spent(debt)).count() > MOST_OWED
            && let Some(oldest) = all.iter().position(is_spent)
        {
            all.remove(oldest);
        }
    }

    fn forget(&self, slot: &SlotName) {
        self.all().retain(|debt| debt.promise.slot() != slot);
    }

    /// Without those that no server takes any more.
    pub(super) fn lapse(&self, now: Instant) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|debt| debt.spent.is_none_or(|(_, since)| now.saturating_duration_since(since) < KEPT));
    }

    fn all(&self) -> MutexGuard<'_, VecDeque<Debt>> {
        self.lapse(Instant::now());
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Debts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Debts({})", self.len())
    }
}

impl<S, R, F: FnOnce(S) -> ([u8; 32], R)> Unheard<'_, S, R, F> {
    /// It may be used: what would open it is gone.
    pub(super) fn used(mut self) -> S {
        self.debts.forget(&self.name);
        self.kept.take().expect(UNTIL_MOVED).0
    }

    /// It is to be opened, and is gone: what is left of it.
    pub(super) fn spent(mut self) -> R {
        self.take_apart().expect(UNTIL_MOVED)
    }

    fn take_apart(&mut self) -> Option<R> {
        let (slot, open) = self.kept.take()?;
        let (macs, rest) = open(slot);
        self.debts.owe(&self.name, macs);
        Some(rest)
    }
}

impl<S, R, F: FnOnce(S) -> ([u8; 32], R)> Drop for Unheard<'_, S, R, F> {
    fn drop(&mut self) {
        self.take_apart();
    }
}
