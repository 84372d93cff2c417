//! Identities: who is there, whose audit is open, who is shut out, and who may still answer.
//!
//! **One audit at a time.** Coins of one identity fall one after the other, in all its sessions, and none falls while an audit is
//! open. A client that stays silent could otherwise harvest in its other sessions until the silence is long enough to be a failure;
//! so the malformed slots that it uses before it is caught are (1 - p) / p on average, however many sessions it has.
//!
//! **Written first.** An audit stands in the state folder as unanswered before the client is asked. A server that stops in between
//! finds the identity shut out when it starts.
//!
//! **A way back.** Whoever does not answer is shut out at once and all its sessions end. But the slot is spent, and its answer is as good
//! later as it was then: for a while the identity may come on a new connection to give it, and for nothing else.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{OwnedMutexGuard, watch};

use super::audit::{Audit, Case};
use super::{Denied, Result};
use crate::policy::{Identity, Quota};
use crate::store::{Offence, Part, Shut, Store};

/// Most audits that are kept for identities that have lost their line; beyond them the oldest is forgotten.
const MOST_DEBTS: usize = 16;

/// What a server tolerates of an identity.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest silence until an audit is answered.
    pub answer: Duration,
    /// How long an answer is taken on another connection.
    pub grace: Duration,
    /// Slots that an identity may begin per hour, opened or not: each costs the server the work of an audit, with the audit's probability.
    pub slots_per_hour: NonZeroU32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(15),
            grace: Duration::from_secs(10 * 60),
            slots_per_hour: NonZeroU32::new(2000).expect("not zero"),
        }
    }
}

/// The identities of one server.
pub struct Registry {
    store: Store,
    limits: Limits,
    slots: Quota,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Those that are there.
    people: HashMap<Arc<str>, Person>,
    debts: HashMap<Arc<str>, Debt>,
}

#[derive(Default)]
struct Person {
    /// Sessions, and what they have begun.
    seats: usize,
    turn: Arc<tokio::sync::Mutex<()>>,
    /// An audit is open: what stands on disk is of that, and nothing was failed.
    open: bool,
    /// Says true to all its sessions.
    end: watch::Sender<bool>,
}

/// An audit whose answer did not come.
pub(super) struct Debt {
    case: Box<Case>,
    /// Until when it may still be given.
    until: Instant,
}

impl Registry {
    /// With what the store remembers.
    ///
    /// # Errors
    /// When the record of who is shut out is there and cannot be read.
    pub fn open(store: Store, limits: Limits) -> Result<Arc<Self>> {
        store.offences()?;
        let slots = Quota::new(limits.slots_per_hour);
        Ok(Arc::new(Self { store, limits, slots, state: Mutex::default() }))
    }

    /// A session of an identity.
    ///
    /// # Errors
    /// [`Denied::Nameless`] without a certificate, [`Denied::ShutOut`], or the record cannot be read.
    pub fn enter(self: &Arc<Self>, client: &Identity) -> Result<Presence> {
        let name = client.name.clone().ok_or(Denied::Nameless)?;
        let (seat, turn, ended) = {
            let mut state = self.state();
            let (seat, person) = state.seat(self, &name);
            (seat, person.turn.clone(), person.end.subscribe())
        };
        let presence = Presence { seat, client: client.clone(), turn, ended };
        // Whoever is shut out from here on is told by `ended`.
        presence.check()?;
        Ok(presence)
    }

    /// The audit that an identity has not answered, if it still may.
    ///
    /// # Errors
    /// [`Denied::Nameless`] without a certificate.
    pub async fn owed(self: &Arc<Self>, client: &Identity) -> Result<Option<Audit>> {
        let name = client.name.clone().ok_or(Denied::Nameless)?;
        let (seat, turn) = {
            let mut state = self.state();
            state.forget_late();
            if !state.debts.contains_key(&name) {
                return Ok(None);
            }
            let (seat, person) = state.seat(self, &name);
            (seat, person.turn.clone())
        };
        let lock = turn.lock_owned().await;
        let debt = self.state().debts.remove(&name);
        Ok(debt.map(|debt| Audit::resumed(debt.case, Turn { until: Some(debt.until), _lock: lock, seat })))
    }

    /// The limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    fn check(&self, name: &str) -> Result<()> {
        // Looked at first: an audit that ends in between is found as it ended.
        let open = self.state().people.get(name).is_some_and(|person| person.open);
        match self.store.offences()?.shut(name) {
            Some(shut) if !(open && shut.offence == Offence::Unanswered) => Err(Denied::ShutOut { shut: shut.clone() }),
            _ => Ok(()),
        }
    }

    fn set_open(&self, name: &str, open: bool) {
        if let Some(person) = self.state().people.get_mut(name) {
            person.open = open;
        }
    }

    /// Ends all sessions of an identity.
    fn end(&self, name: &str) {
        if let Some(person) = self.state().people.get_mut(name) {
            // Sessions that come after a pardon, or an answer, while these end have a word of their own to wait for.
            std::mem::take(&mut person.end).send_replace(true);
            person.open = false;
        }
    }

    fn shut_out(&self, name: &str, offence: Offence) -> Result<()> {
        let shut = Shut::new(offence, SystemTime::now());
        Ok(self.store.change_offences(|all| all.shut_out(name, shut))?)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state();
        write!(f, "Registry {{ people: {}, debts: {} }}", state.people.len(), state.debts.len())
    }
}

impl State {
    fn forget_late(&mut self) {
        let now = Instant::now();
        self.debts.retain(|_, debt| debt.until > now);
    }

    fn owe(&mut self, name: Arc<str>, debt: Debt) {
        self.forget_late();
        if self.debts.len() >= MOST_DEBTS
            && let Some(oldest) = self.debts.iter().min_by_key(|(_, debt)| debt.until).map(|(name, _)| name.clone())
        {
            self.debts.remove(&oldest);
        }
        self.debts.insert(name, debt);
    }

    /// Makes a person known, or keeps it so.
    fn seat(&mut self, registry: &Arc<Registry>, name: &Arc<str>) -> (Seat, &mut Person) {
        let person = self.people.entry(name.clone()).or_default();
        person.seats += 1;
        (Seat { registry: registry.clone(), name: name.clone() }, person)
    }

    fn leave(&mut self, name: &str) {
        if let Some(person) = self.people.get_mut(name) {
            person.seats -= 1;
            if person.seats == 0 {
                self.people.remove(name);
            }
        }
    }
}

/// Keeps a person known, so that there is one turn and one word to its sessions as long as anything of it is there.
struct Seat {
    registry: Arc<Registry>,
    name: Arc<str>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.registry.state().leave(&self.name);
    }
}

/// One session of an identity.
pub struct Presence {
    seat: Seat,
    client: Identity,
    turn: Arc<tokio::sync::Mutex<()>>,
    ended: watch::Receiver<bool>,
}

impl Presence {
    /// The identity.
    pub fn name(&self) -> &str {
        &self.seat.name
    }

    /// Says true when the session has to end.
    pub fn ended(&self) -> watch::Receiver<bool> {
        self.ended.clone()
    }

    /// A session, which ends at once when its identity is shut out.
    ///
    /// # Errors
    /// [`Denied::ShutOut`] then; otherwise those of the session.
    pub async fn run<T, E: From<Denied>>(
        &self,
        session: impl Future<Output = std::result::Result<T, E>>,
    ) -> std::result::Result<T, E> {
        let mut ended = self.ended.clone();
        let end = async {
            if ended.wait_for(|ended| *ended).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            () = end => Err(E::from(self.check().err().unwrap_or(Denied::Ended))),
            outcome = session => outcome,
        }
    }

    /// A slot is begun: before the server's nonce is given.
    ///
    /// # Errors
    /// [`Denied::ShutOut`], or the identity's slots of this hour are used up.
    pub fn begin_slot(&self) -> Result<()> {
        self.check()?;
        // The client's own quota is of inferences, not of slots.
        let client = Identity { quota: None, ..self.client.clone() };
        Ok(self.seat.registry.slots.take(&client, Instant::now())?)
    }

    /// Not shut out, here or by another server of the same folder.
    fn check(&self) -> Result<()> {
        let Seat { registry, name } = &self.seat;
        let ended = *self.ended.borrow();
        registry.check(name)?;
        if ended { Err(Denied::Ended) } else { Ok(()) }
    }

    /// Waits until no audit of the identity is open.
    pub(super) async fn turn(&self) -> Result<Turn> {
        let lock = self.turn.clone().lock_owned().await;
        self.check()?;
        let (seat, _) = self.seat.registry.state().seat(&self.seat.registry, &self.seat.name);
        Ok(Turn { until: None, _lock: lock, seat })
    }
}

impl std::fmt::Debug for Presence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Presence({})", self.name())
    }
}

/// The right of an identity to a coin, or to an audit: one at a time.
pub(super) struct Turn {
    /// Of an audit that was begun on another connection.
    until: Option<Instant>,
    _lock: OwnedMutexGuard<()>,
    seat: Seat,
}

impl Turn {
    pub(super) fn limit(&self) -> Duration {
        self.seat.registry.limits.answer
    }

    /// Before the client is asked.
    pub(super) fn begin(&self) -> Result<()> {
        let Seat { registry, name } = &self.seat;
        registry.set_open(name, true);
        registry.shut_out(name, Offence::Unanswered).inspect_err(|_| registry.set_open(name, false))
    }

    /// The slot was what its seed makes.
    pub(super) fn passed(&self) -> Result<()> {
        let Seat { registry, name } = &self.seat;
        registry.store.change_offences(|all| all.clear(name))?;
        registry.set_open(name, false);
        Ok(())
    }

    /// It was not.
    pub(super) fn failed(&self, part: Part) -> Result<()> {
        let Seat { registry, name } = &self.seat;
        registry.end(name);
        tracing::warn!(name = &**name, "shut out: {part}");
        registry.shut_out(name, Offence::Differs(part))
    }

    /// No answer came.
    pub(super) fn unanswered(&self, case: Box<Case>) {
        let Seat { registry, name } = &self.seat;
        registry.end(name);
        tracing::warn!(name = &**name, "shut out: an audit was not answered");
        let until = self.until.unwrap_or_else(|| Instant::now() + registry.limits.grace);
        registry.state().owe(name.clone(), Debt { case, until });
    }
}
