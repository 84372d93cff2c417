//! Identities: who is there, whose audit is open, who is shut out, and who may still answer.
//!
//! **One audit at a time.** Coins of one identity fall one after the other, in all its sessions, and none falls while an audit is
//! open. A client that stays silent could otherwise harvest in its other sessions until the silence is long enough to be a failure;
//! so the malformed slots that it uses before it is caught are (1 - p) / p on average, however many sessions it has.
//!
//! **Written first.** An audit stands in the state folder as unanswered before the client is asked. A server that stops in between
//! finds the identity shut out when it starts. The coin falls under the folder's lock, so that of several servers one at a time asks.
//!
//! **What cannot be written.** Where the disk is full a name is barred in memory, and written as soon as that goes again.
//!
//! **A way back.** Whoever does not answer is shut out at once and all its sessions end. But the slot is spent, and its answer is as good
//! later as it was then: for a while the identity may come on a new connection to give it, and for nothing else.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{OwnedMutexGuard, watch};

use super::case::Case;
use super::{Denied, Result};
use crate::admission::{Hold, Room, TURN};
use crate::policy::{Identity, Quota};
use crate::store::{Offence, Shut, SlotPart, Store};

/// Most audits that are kept for identities that have lost their line; beyond them the oldest is forgotten, and its identity stays
/// shut out until a pardon.
const MOST_DEBTS: usize = 16;
/// Most that these may take together, in bytes; beyond it the same.
const MOST_DEBT_BYTES: usize = 512 << 20;

/// How long an answer is taken on another connection, unless a server says otherwise.
pub(super) const GRACE: Duration = Duration::from_secs(10 * 60);

/// What a server tolerates of an identity.
#[derive(Clone, Copy, Debug)]
pub struct IdentityLimits {
    /// The longest silence until an audit is answered.
    pub answer: Duration,
    /// How long an answer is taken on another connection.
    pub grace: Duration,
    /// Slots that an identity may begin per hour, opened or not: each costs the server the work of an audit, with the audit's probability.
    pub slots_per_hour: NonZeroU32,
}

impl Default for IdentityLimits {
    fn default() -> Self {
        Self { answer: TURN, grace: GRACE, slots_per_hour: NonZeroU32::new(2000).expect("not zero") }
    }
}

/// The identities of one server.
pub struct Registry {
    store: Store,
    limits: IdentityLimits,
    slots: Quota,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Those that are there.
    people: HashMap<Arc<str>, Person>,
    debts: HashMap<Arc<str>, Debt>,
    /// Those whose line could not be written.
    barred: HashMap<Arc<str>, Shut>,
}

#[derive(Default)]
struct Person {
    /// Sessions, and what they have begun.
    seats: usize,
    turn: Arc<tokio::sync::Mutex<()>>,
    open: Open,
    /// Says true to all its sessions.
    end: watch::Sender<bool>,
}

/// The audit that is open: where its line stands on disk, nothing was failed.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Open {
    audit: Option<u64>,
    /// How often that has changed.
    changes: u64,
}

impl Open {
    fn set(&mut self, audit: Option<u64>) {
        *self = Self { audit, changes: self.changes + 1 };
    }
}

/// An audit whose answer did not come.
pub(super) struct Debt {
    audit: u64,
    case: Box<Case>,
    /// Until when it may still be given.
    until: Instant,
}

impl Registry {
    /// With what the store remembers.
    ///
    /// # Errors
    /// When the record of who is shut out is there and cannot be read.
    pub fn open(store: Store, limits: IdentityLimits) -> Result<Arc<Self>> {
        store.offences()?;
        let slots = Quota::new(limits.slots_per_hour);
        Ok(Arc::new(Self { store, limits, slots, state: Mutex::default() }))
    }

    /// A session of an identity.
    ///
    /// # Errors
    /// [`Denied::Nameless`] without a certificate, [`Denied::ShutOut`], or the record cannot be read.
    pub fn enter(self: &Arc<Self>, client: &Identity) -> Result<Presence> {
        self.enter_in(client, Room::default())
    }

    /// The same of a session that may be cut: not while its audit is open.
    pub(super) fn enter_in(self: &Arc<Self>, client: &Identity, room: Room) -> Result<Presence> {
        let name = client.name.clone().ok_or(Denied::Nameless)?;
        let (seat, turn, ended) = {
            let mut state = self.state();
            let (seat, person) = state.seat(self, &name);
            (seat, person.turn.clone(), person.end.subscribe())
        };
        let presence = Presence { seat, client: client.clone(), turn, ended, room };
        // Whoever is shut out from here on is told by `ended`.
        presence.check()?;
        Ok(presence)
    }

    /// Whether a connection of an identity may lead to something: to a session, or to the answer of an audit. One that has an audit open,
    /// here or on another connection, is told of it by [`owed`](Self::owed).
    ///
    /// # Errors
    /// As [`enter`](Self::enter).
    pub fn admit(self: &Arc<Self>, client: &Identity) -> Result<()> {
        let name = client.name.as_ref().ok_or(Denied::Nameless)?;
        if self.state().may_owe(name) { Ok(()) } else { self.enter(client).map(drop) }
    }

    /// What an identity has to answer, and its turn to: [`owed`](Self::owed).
    pub(super) async fn owing(self: &Arc<Self>, client: &Identity, room: &Room) -> Result<Option<(Box<Case>, Turn)>> {
        let name = client.name.clone().ok_or(Denied::Nameless)?;
        let (seat, turn) = {
            let mut state = self.state();
            if !state.may_owe(&name) {
                return Ok(None);
            }
            let (seat, person) = state.seat(self, &name);
            (seat, person.turn.clone())
        };
        let lock = wait_for(turn, room).await;
        let asked = self.standing(&name)?.and_then(|shut| shut.audit());
        let hold = room.hold()?;
        let debt = self.state().debts.remove(&name).filter(|debt| asked == Some(debt.audit));
        Ok(debt.map(|Debt { audit, case, until }| {
            (case, Turn { audit, until: Some(until), _lock: lock, seat, _hold: Some(hold) })
        }))
    }

    /// The limits.
    pub fn limits(&self) -> &IdentityLimits {
        &self.limits
    }

    /// Why a name is shut out, or has an audit open.
    fn standing(&self, name: &str) -> Result<Option<Shut>> {
        let barred = self.state().barred.get(name).cloned();
        if let Some(shut) = barred
            && self.shut_out(name, shut.clone()).is_err()
        {
            return Ok(Some(shut));
        }
        Ok(self.store.offences()?.shut(name).cloned())
    }

    fn check(&self, name: &str) -> Result<()> {
        loop {
            let before = self.audit_open(name);
            let Some(shut) = self.standing(name)? else { return Ok(()) };
            match shut.audit() {
                // Begun or ended in between, so that neither look says whose line it is.
                Some(_) if before != self.audit_open(name) => {}
                Some(audit) if before.audit == Some(audit) => return Ok(()),
                _ => return Err(Denied::ShutOut { shut }),
            }
        }
    }

    fn audit_open(&self, name: &str) -> Open {
        self.state().people.get(name).map(|person| person.open).unwrap_or_default()
    }

    fn set_open(&self, name: &str, audit: Option<u64>) {
        if let Some(person) = self.state().people.get_mut(name) {
            person.open.set(audit);
        }
    }

    /// Ends all sessions of an identity; what it owed is owed no more.
    fn end(&self, name: &str) {
        let mut state = self.state();
        state.debts.remove(name);
        if let Some(person) = state.people.get_mut(name) {
            // Sessions that come after a pardon, or an answer, while these end have a word of their own to wait for.
            std::mem::take(&mut person.end).send_replace(true);
            person.open.set(None);
        }
    }

    /// Shuts a name out on the disk, or in memory until that can be written.
    fn shut_out(&self, name: &str, shut: Shut) -> Result<()> {
        let written = self.store.change_offences(|all| all.shut_out(name, shut.clone()));
        let mut state = self.state();
        match &written {
            Ok(()) if shut.offence != Offence::Unanswered || state.barred.get(name) == Some(&shut) => {
                state.barred.remove(name);
            }
            Ok(()) => {}
            Err(_) => state.bar(name, shut),
        }
        Ok(written?)
    }

    /// Shuts an identity out for what was found, and ends all its sessions: in this order, so that a crash in between forgets nothing.
    fn convict(&self, name: &str, offence: Offence) -> Result<()> {
        tracing::warn!(name, "shut out: {offence}");
        let written = self.shut_out(name, Shut::new(offence, SystemTime::now()));
        self.end(name);
        written
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

    /// An audit whose lost line nobody has noticed yet is no debt before it lapses: it is whoever's turn it is.
    fn may_owe(&mut self, name: &str) -> bool {
        self.forget_late();
        let busy = |person: &Person| person.turn.try_lock().is_err();
        self.debts.contains_key(name) || self.people.get(name).is_some_and(busy)
    }

    fn owe(&mut self, name: Arc<str>, debt: Debt) {
        self.forget_late();
        self.debts.insert(name, debt);
        let bytes = |debts: &HashMap<_, Debt>| debts.values().map(|debt| debt.case.bytes()).sum::<usize>();
        while self.debts.len() > MOST_DEBTS || bytes(&self.debts) > MOST_DEBT_BYTES {
            let oldest = self.debts.iter().min_by_key(|(_, debt)| debt.until).map(|(name, _)| name.clone());
            self.debts.remove(&oldest.expect("none takes nothing"));
        }
    }

    /// What was found stays before what is only feared.
    fn bar(&mut self, name: &str, shut: Shut) {
        match self.barred.get(name) {
            Some(own) if own.offence != Offence::Unanswered => {}
            _ => drop(self.barred.insert(name.into(), shut)),
        }
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
    room: Room,
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

    /// A check of the computation has failed, [`Cheated`](lowkey_mpc::error::Error::Cheated): the identity is shut out, and all its
    /// sessions end.
    ///
    /// # Errors
    /// When that cannot be written; it is shut out all the same, by this server.
    pub fn cheated(&self) -> Result<()> {
        self.seat.registry.convict(self.name(), Offence::Cheated)
    }

    /// Not shut out, here or by another server of the same folder.
    ///
    /// # Errors
    /// [`Denied::ShutOut`], [`Denied::Ended`] if it was and has been pardoned since, or the record cannot be read.
    pub(super) fn check(&self) -> Result<()> {
        let Seat { registry, name } = &self.seat;
        let ended = *self.ended.borrow();
        registry.check(name)?;
        if ended { Err(Denied::Ended) } else { Ok(()) }
    }

    /// Waits until no audit of the identity is open. Meanwhile the session may be cut, and makes room where others wait.
    ///
    /// # Errors
    /// [`Denied::ShutOut`] or [`Denied::Ended`] by then, or the record cannot be read.
    pub(super) async fn turn(&self) -> Result<Turn> {
        let lock = wait_for(self.turn.clone(), &self.room).await;
        self.check()?;
        let (seat, _) = self.seat.registry.state().seat(&self.seat.registry, &self.seat.name);
        Ok(Turn { audit: rand::random(), until: None, _lock: lock, seat, _hold: None })
    }

    /// The same for a coin: from here on the session is not cut, until the turn, or the audit that it becomes, is over.
    ///
    /// # Errors
    /// As [`turn`](Self::turn), and [`Refusal::Full`](crate::policy::Refusal::Full) in a session that has to leave.
    pub(super) async fn turn_for_coin(&self) -> Result<Turn> {
        let turn = self.turn().await?;
        Ok(Turn { _hold: Some(self.room.hold()?), ..turn })
    }
}

impl std::fmt::Debug for Presence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Presence({})", self.name())
    }
}

/// Waits for a name's turn.
async fn wait_for(turn: Arc<tokio::sync::Mutex<()>>, room: &Room) -> OwnedMutexGuard<()> {
    if let Ok(lock) = turn.clone().try_lock_owned() {
        return lock;
    }
    let _queued = room.queue();
    turn.lock_owned().await
}

/// The right of an identity to a coin, or to an audit: one at a time.
pub(super) struct Turn {
    /// What is written of the audit.
    audit: u64,
    /// Of an audit that was begun on another connection.
    until: Option<Instant>,
    _lock: OwnedMutexGuard<()>,
    seat: Seat,
    /// Of a session that may not be cut now.
    _hold: Option<Hold>,
}

impl Turn {
    pub(super) fn limit(&self) -> Duration {
        self.seat.registry.limits.answer
    }

    /// Before the client is asked: the coin, which is true where the slot is to be opened. It falls if nobody asks the identity by now.
    ///
    /// # Errors
    /// [`Denied::ShutOut`], or the record cannot be read: no coin has fallen. The line cannot be written: it has.
    pub(super) fn begin(&self, coin: impl FnOnce() -> bool) -> Result<()> {
        let Seat { registry, name } = &self.seat;
        let begun = registry.store.change_offences(|all| {
            if let Some(shut) = all.shut(name) {
                return Err(Denied::ShutOut { shut: shut.clone() });
            }
            if coin() {
                registry.state().debts.remove(name);
                registry.set_open(name, Some(self.audit));
                all.shut_out(name, Shut::asked(self.audit, SystemTime::now()));
            }
            Ok(())
        });
        begun?
    }

    /// The slot was what its seed makes: nothing is open any more.
    ///
    /// # Errors
    /// When that cannot be written; the audit is still open then.
    pub(super) fn passed(&self) -> Result<()> {
        let Seat { registry, name } = &self.seat;
        registry.store.change_offences(|all| all.clear(name, self.audit))?;
        let mut state = registry.state();
        if state.barred.get(name).and_then(Shut::audit) == Some(self.audit) {
            state.barred.remove(name);
        }
        drop(state);
        registry.set_open(name, None);
        Ok(())
    }

    /// It was not: the identity is shut out, and all its sessions end.
    ///
    /// # Errors
    /// When that cannot be written; it is shut out all the same, by this server.
    pub(super) fn failed(&self, part: SlotPart) -> Result<()> {
        let Seat { registry, name } = &self.seat;
        registry.convict(name, Offence::Differs(part))
    }

    /// No answer came: the identity is shut out, all its sessions end, and it owes the answer for the time of grace.
    pub(super) fn unanswered(&self, case: Box<Case>) {
        let Seat { registry, name } = &self.seat;
        registry.end(name);
        tracing::warn!(name = &**name, "shut out: an audit was not answered");
        // Its line is there, unless it was pardoned meanwhile, or could not be written.
        if let Err(error) = registry.shut_out(name, Shut::asked(self.audit, SystemTime::now())) {
            tracing::error!(name = &**name, %error, "shut out in memory only");
        }
        let until = self.until.unwrap_or_else(|| Instant::now() + registry.limits.grace);
        registry.state().owe(name.clone(), Debt { audit: self.audit, case, until });
    }
}
