//! Who is let in. A connection costs nothing but its socket until it has said hello, and has little time for that; then it takes a
//! seat, or waits in line for one, or is told that the server is full.
//!
//! A seat is for as long as a session lasts. While others wait, a session whose client is late makes room: first those that owe a
//! message that is due, or wait for another session of their own name that does, then those that have asked for nothing for long. So
//! whoever opens many sessions and says nothing, or says it slowly, keeps nobody out; but one seat for each name while it is audited.
//!
//! The first half of a set-up, to the base OTs, holds little but a connection, and may last: of an honest client because its line is
//! long, or because it computes for seconds on a slow machine; of others because they send nothing more, or a byte now and then. Neither
//! is cut for that: after [`LOAN`] its seat is *lent* to those in line, while its client is waited for. It waits for a seat again, before
//! those that have had none, where memory and computing begin, at the first batch of OTs ([`Room::stay`]). Nobody gets there by bytes that
//! could be known before: the base OTs take the client's own computing. So whoever only sends delays others by [`LOAN`], however many
//! seats it has; where the line is longer than there are seats they are lent sooner, so that all who are in it are offered one in that
//! time ([`Admission::loan`]). Who computes its half of the set-up and then stops keeps its seat until it is late, and has to do so again
//! for the next. Where very many seats are lent ([`MANY_LENT`]) those who are late leave.
//!
//! A seat comes with the memory that its session may need, where that is limited; for more slots it asks again.
//!
//! # Who may be cut
//!
//! In the guarded mode a client is [asked to open a slot](crate::guard::audit), and shut out if no answer comes. So a session is *held* from
//! before the coin falls until the answer was compared: it makes no room and is not cut meanwhile. Of a seat, under one lock:
//!
//! - It is held only if it is there, and nobody has asked it to leave, or for its end. Otherwise [`Room::hold`] refuses, and no coin falls.
//! - While it is held nobody asks it to leave. That it has to end ([`Seat::keep`]) is noted at once, so that no further coin falls, and it is
//!   cut when it is held no more: one answer later at most.
//!
//! So no session ends here between its coin and its answer, on whatever thread it computes: one whose future is gone while it proves
//! something, with the next messages in its buffer, finds no seat to hold. And whoever was asked to leave is gone after [`GOODBYE`], so
//! that each counts as one seat for those in line. The one turn of a name is waited for before its session is held: those that wait are
//! late as others are, and nobody has asked them for anything.
//!
//! Locks: a name's turn, then this one, which is let go before the folder's and the registry's are taken.

mod room;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lowkey_mpc::channel::{Attention, Doing};
use lowkey_mpc::runtime::{Instant, timeout};
use tokio::sync::{Notify, watch};

use crate::policy::{Counted, Identity, Refusal};
use crate::watch::Stock;
pub(crate) use room::Hold;
pub use room::Room;

/// Connections that have not said hello. One more turns the oldest away.
const MOST_AT_THE_DOOR: usize = 512;
/// Clients that wait for a seat.
const MOST_IN_LINE: usize = 256;
/// Seats that are lent. Behind each is a connection, and a thread that waits.
const MOST_LENT: usize = 256;
/// With so many lent, those who are late leave, although they are in nobody's way.
const MANY_LENT: usize = MOST_LENT / 2;
/// Threads for what a server does besides: it publishes, and reads files again.
const OTHER_THREADS: usize = 16;
/// A session that has not done half of its set-up after so long lends its seat to those in line while its client is waited for.
const LOAN: Duration = Duration::from_millis(400);
/// How long a client waits for a seat.
const LINE: Duration = Duration::from_secs(5);
/// How often those in line look whether a client is late.
const LOOK: Duration = Duration::from_millis(50);
/// A client between two requests is late after so long, if others wait.
const IDLE: Duration = Duration::from_secs(30);
/// What one answer of an audit may take; so a session that waits for its name's turn is late after so long, if not before.
pub(crate) const TURN: Duration = Duration::from_secs(15);
/// Bytes per second of the slowest line that is not late.
const SLOWEST: u64 = 32 << 10;
/// What a session that has to make room gets to say goodbye.
pub(crate) const GOODBYE: Duration = Duration::from_secs(1);

/// The time that so many bytes take on the slowest line.
pub(crate) fn transfer(bytes: u64) -> Duration {
    Duration::from_millis(bytes.saturating_mul(1000) / SLOWEST)
}

/// The time that a client may compute between two messages of an inference of so many bytes.
fn patience(bytes: u64) -> Duration {
    Duration::from_secs(2) + Duration::from_micros(bytes)
}

/// Threads that wait or compute for a server of so many seats, at most: one for each session, with a seat or one that is lent.
pub(crate) fn threads(seats: usize) -> usize {
    seats + MOST_LENT + OTHER_THREADS
}

/// The seats of one server.
pub(crate) struct Admission {
    seats: usize,
    /// Most seats of one client, as quotas count clients; loopback has no limit.
    per_client: usize,
    /// A client that owes a message is late after so long, if others wait.
    patience: Mutex<Duration>,
    /// Most bytes of all sessions together.
    memory: u64,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    door: VecDeque<(u64, Arc<Notify>)>,
    seats: Vec<Taken>,
    /// With the memory that each asks for.
    line: VecDeque<(u64, u64)>,
    next: u64,
}

struct Taken {
    number: u64,
    client: Counted,
    attention: Attention,
    leave: watch::Sender<bool>,
    tenure: Tenure,
    began: Instant,
    /// Bytes that it may need; while its seat is lent others have these too.
    memory: u64,
    /// Since when the client is being sent so many bytes, which it may be slow to read.
    sends: Option<(Instant, u64)>,
    /// It is cut, or will be when it is not held.
    cut: bool,
    /// It may not be cut.
    held: bool,
    /// Since when it waits for another session of its name.
    queued: Option<Instant>,
}

/// Whose a seat is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tenure {
    /// A session's that may lend it.
    Begun,
    /// Somebody else's: it was lent.
    Lent,
    /// The session's, to its end.
    Kept,
}

impl Taken {
    /// It makes room: it was asked to leave.
    fn asked(&self) -> bool {
        *self.leave.borrow()
    }

    fn is_lent(&self) -> bool {
        self.tenure == Tenure::Lent
    }

    /// For how long it could have lent its seat, of which it has had the use for so long by then; `None` if it computes now.
    fn unused(&self, loan: Duration) -> Option<Duration> {
        let waits = self.sends.is_some() || self.attention.doing() != Doing::Working;
        let lends = self.tenure == Tenure::Begun && waits && !self.asked() && !self.cut;
        lends.then(|| self.began.elapsed().checked_sub(loan)).flatten()
    }
}

/// Why a session was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// It had to make room, and did not within [`GOODBYE`].
    ForRoom,
    /// All sessions are.
    AtTheEnd,
}

/// What happens at a server's door.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attendance {
    /// Connections that have not said hello.
    pub at_the_door: usize,
    /// Clients that wait for a session, or to go on with one whose seat is lent.
    pub in_line: usize,
    /// Sessions, and those that begin; while others wait also such as have lent them their seats.
    pub sessions: usize,
    /// Bytes of memory that sessions with a seat may need.
    pub reserved: u64,
    /// What these hold.
    pub held: Stock,
}

impl Admission {
    /// `bytes` is what an inference sends: the longer it is, the longer a client may compute between two messages.
    /// `memory` is the most that all sessions may need together.
    pub(crate) fn new(seats: usize, per_client: Option<usize>, memory: Option<u64>, bytes: u64) -> Arc<Self> {
        let patience = Mutex::new(patience(bytes));
        let per_client = per_client.unwrap_or(seats - seats / 4).max(1);
        let memory = memory.unwrap_or(u64::MAX);
        Arc::new(Self { seats, per_client, patience, memory, state: Mutex::default(), changed: Notify::new() })
    }

    /// Other models are served from now on.
    pub(crate) fn expect(&self, bytes: u64) {
        *self.patience.lock().unwrap_or_else(PoisonError::into_inner) = patience(bytes);
    }

    /// Has less patience, or more.
    #[cfg(test)]
    pub(crate) fn suffer(&self, patience: Duration) {
        *self.patience.lock().unwrap() = patience;
    }

    /// A connection that has said nothing yet.
    pub(crate) fn knock(self: &Arc<Self>) -> Knock {
        let mut state = self.state();
        if state.door.len() >= MOST_AT_THE_DOOR
            && let Some((_, oldest)) = state.door.pop_front()
        {
            oldest.notify_one();
        }
        let (number, away) = (state.number(), Arc::new(Notify::new()));
        state.door.push_back((number, away.clone()));
        drop(state);
        Knock { admission: self.clone(), number, away }
    }

    /// A seat, and so much memory, for a client that has said hello; in line, if there is none.
    ///
    /// # Errors
    /// [`Refusal::Full`] if none becomes free in time, the line is long, or the client has as many as it may.
    pub(crate) async fn seat(
        self: &Arc<Self>,
        client: &Identity,
        attention: Attention,
        memory: u64,
    ) -> Result<Seat, Refusal> {
        let place = {
            let mut state = self.state();
            if state.line.len() >= MOST_IN_LINE {
                return Err(full());
            }
            let number = state.number();
            state.line.push_back((number, memory));
            Place { admission: self, number }
        };
        self.in_line(|| self.take((place.number, memory), client, &attention)).await
    }

    /// Looks again and again, for as long as one waits in line.
    ///
    /// # Errors
    /// [`Refusal::Full`] if nothing comes of it.
    async fn in_line<T>(&self, mut look: impl FnMut() -> Result<Option<T>, Refusal>) -> Result<T, Refusal> {
        let until = Instant::now() + LINE;
        loop {
            let changed = self.changed.notified();
            if let Some(found) = look()? {
                return Ok(found);
            }
            if Instant::now() >= until {
                return Err(full());
            }
            let _ = timeout(LOOK, changed).await;
        }
    }

    /// A seat, if there is one for this place in line.
    fn take(
        self: &Arc<Self>,
        (place, memory): (u64, u64),
        client: &Identity,
        attention: &Attention,
    ) -> Result<Option<Seat>, Refusal> {
        let mut state = self.state();
        let (address, client) = (client.address.to_canonical(), Counted::from(client));
        let own = state.seats.iter().filter(|taken| taken.client == client).count();
        if !address.is_loopback() && !address.is_unspecified() && own >= self.per_client {
            return Err(full());
        }
        if !self.find_room(&mut state, place, memory) {
            return Ok(None);
        }
        let (leave, left) = watch::channel(false);
        let (number, attention, tenure) = (place, attention.clone(), Tenure::Begun);
        let (began, sends, cut, held, queued) = (Instant::now(), None, false, false, None);
        state.seats.push(Taken { number, client, attention, leave, tenure, began, memory, sends, cut, held, queued });
        Ok(Some(Seat { admission: self.clone(), number: place, left }))
    }

    /// Whether there is a seat for this place in line, with so much memory: a free one, or one that is lent. Those who are late are asked
    /// to leave if there is no free one.
    fn find_room(&self, state: &mut State, place: u64, memory: u64) -> bool {
        let first = state.line.iter().take_while(|&&(number, _)| number != place);
        let (before, theirs) = first.fold((0, 0), |(count, bytes), (_, memory)| (count + 1, bytes + memory));
        let fits = |state: &State| {
            state.taken().count() + before < self.seats && state.reserved() + theirs + memory <= self.memory
        };
        if fits(state) {
            return true;
        }
        if state.lent().count() >= MANY_LENT {
            for late in state.lent().filter(|taken| self.lateness(taken).is_some()) {
                late.leave.send_replace(true);
            }
        }
        let loan = self.loan(state.line.len());
        while state.lend(loan) {
            if fits(state) {
                return true;
            }
        }
        // One seat for each that waits up to here. Who was asked is not held, and leaves soon.
        let leaving = state.taken().filter(|taken| taken.asked()).count();
        if leaving <= before
            && let Some(late) = state.taken().max_by_key(|taken| self.lateness(taken))
            && self.lateness(late).is_some()
        {
            late.leave.send_replace(true);
        }
        false
    }

    /// After how long each of s seats is lent when n are in line: [`LOAN`] (s / (s + n))^2. If those who get one do no more than wait, then
    /// (s + n)^2 / (s [`LOAN`]) of them get one in a second, and so all n of them within [`LOAN`] n / (s + n).
    fn loan(&self, line: usize) -> Duration {
        let share = self.seats as f64 / (self.seats + line) as f64;
        LOAN.mul_f64(share * share)
    }

    /// Has the seat from now on, until it ends; if it was lent, in line for another.
    async fn stay(&self, session: u64) -> Result<(), Refusal> {
        let (place, memory) = {
            let mut state = self.state();
            let Some(taken) = state.seat(session) else { return Ok(()) };
            if !taken.is_lent() {
                taken.tenure = Tenure::Kept;
                return Ok(());
            }
            let memory = taken.memory;
            // It was here before those who wait for their first.
            let at = state.line.partition_point(|&(number, _)| number < session);
            state.line.insert(at, (session, memory));
            (Place { admission: self, number: session }, memory)
        };
        self.in_line(|| {
            let mut state = self.state();
            if !self.find_room(&mut state, place.number, memory) {
                return Ok(None);
            }
            if let Some(taken) = state.seat(session) {
                taken.tenure = Tenure::Kept;
            }
            Ok(Some(()))
        })
        .await
    }

    /// How late a client is: one that owes a message, or whose name does in another session, more than one that asks for nothing; `None` if
    /// it is not.
    fn lateness(&self, taken: &Taken) -> Option<(bool, Duration)> {
        if taken.asked() || taken.held {
            return None;
        }
        let patience = || *self.patience.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(since) = taken.queued {
            return since.elapsed().checked_sub(patience().min(TURN)).map(|late| (true, late));
        }
        match taken.attention.doing() {
            Doing::Working => taken.sends.and_then(|(since, bytes)| {
                let late = since.elapsed().checked_sub(patience() + transfer(bytes));
                late.map(|late| (true, late))
            }),
            Doing::Idle(since) => since.checked_sub(IDLE).map(|late| (false, late)),
            Doing::Owed(since, bytes) => {
                since.checked_sub(patience() + transfer(bytes as u64)).map(|late| (true, late))
            }
        }
    }

    /// Gives a session so much memory, if there is so much; giving back always succeeds.
    fn resize(&self, session: u64, memory: u64) -> bool {
        let mut state = self.state();
        let reserved = state.reserved();
        let Some(taken) = state.seat(session) else { return true };
        if memory > taken.memory && reserved - taken.memory + memory > self.memory {
            return false;
        }
        let less = memory < taken.memory;
        taken.memory = memory;
        if less {
            self.changed.notify_waiters();
        }
        true
    }

    /// From now on it is not cut; false if it leaves.
    fn hold(&self, session: u64) -> bool {
        let mut state = self.state();
        let stays = state.seat(session).filter(|taken| !taken.asked() && !taken.cut);
        stays.map(|taken| taken.held = true).is_some()
    }

    fn release(&self, session: u64) {
        if let Some(taken) = self.state().seat(session) {
            taken.held = false;
        }
        self.changed.notify_waiters();
    }

    fn sends(&self, session: u64, what: Option<(Instant, u64)>) {
        if let Some(taken) = self.state().seat(session) {
            taken.sends = what;
        }
    }

    fn queue(&self, session: u64, since: Option<Instant>) {
        if let Some(taken) = self.state().seat(session) {
            taken.queued = since;
        }
    }

    /// From now on it is not held again; true if it is not now.
    fn cut(&self, session: u64) -> bool {
        let mut state = self.state();
        let Some(taken) = state.seat(session) else { return true };
        taken.cut = true;
        !taken.held
    }

    /// What happens now; nobody here knows what sessions hold.
    pub(crate) fn attendance(&self) -> Attendance {
        let state = self.state();
        Attendance {
            at_the_door: state.door.len(),
            in_line: state.line.len(),
            sessions: state.seats.len(),
            reserved: state.reserved(),
            held: Stock::default(),
        }
    }

    /// Waits until all seats are free.
    pub(crate) async fn empty(&self) {
        loop {
            let changed = self.changed.notified();
            if self.state().seats.is_empty() {
                return;
            }
            let _ = timeout(LOOK, changed).await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn seat(&mut self, session: u64) -> Option<&mut Taken> {
        self.seats.iter_mut().find(|taken| taken.number == session)
    }

    /// Seats, but for those that are lent.
    fn taken(&self) -> impl Iterator<Item = &Taken> {
        self.seats.iter().filter(|taken| !taken.is_lent())
    }

    /// Seats that are lent, by those who have them.
    fn lent(&self) -> impl Iterator<Item = &Taken> {
        self.seats.iter().filter(|taken| taken.is_lent())
    }

    /// Memory that sessions with a seat may need.
    fn reserved(&self) -> u64 {
        self.taken().map(|taken| taken.memory).sum()
    }

    /// Lends the seat that could have been for the longest time; false if there is none.
    fn lend(&mut self, loan: Duration) -> bool {
        if self.lent().count() >= MOST_LENT {
            return false;
        }
        let unused = self.seats.iter_mut().filter(|taken| taken.unused(loan).is_some());
        unused.max_by_key(|taken| taken.unused(loan)).map(|taken| taken.tenure = Tenure::Lent).is_some()
    }
}

fn full() -> Refusal {
    Refusal::Full { wait_seconds: LINE.as_secs() as u8 }
}

/// A connection at the door.
pub(crate) struct Knock {
    admission: Arc<Admission>,
    number: u64,
    away: Arc<Notify>,
}

impl Knock {
    /// Waits until it is turned away.
    pub(crate) async fn turned_away(&self) {
        self.away.notified().await
    }
}

impl Drop for Knock {
    fn drop(&mut self) {
        self.admission.state().door.retain(|(number, _)| *number != self.number);
    }
}

/// A place in line.
struct Place<'a> {
    admission: &'a Admission,
    number: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.admission.state().line.retain(|(number, _)| *number != self.number);
        self.admission.changed.notify_waiters();
    }
}

/// A session's place in the server.
pub(crate) struct Seat {
    admission: Arc<Admission>,
    number: u64,
    left: watch::Receiver<bool>,
}

impl Seat {
    /// A session in this seat: until it ends, or has to make room and does not, or until `end` says true.
    ///
    /// # Errors
    /// When it was cut. Until then it could [hold](Room::hold) its seat, and no more; what it computes meanwhile goes on to where it next
    /// waits.
    pub(crate) async fn keep<T>(
        &self,
        session: impl Future<Output = T>,
        mut end: watch::Receiver<bool>,
    ) -> Result<T, Cut> {
        let makes_room = async {
            said(&mut self.left.clone()).await;
            // It is not held.
            tokio::time::sleep(GOODBYE).await;
            self.released().await;
        };
        let ends = async {
            said(&mut end).await;
            self.released().await;
        };
        tokio::select! {
            outcome = session => Ok(outcome),
            () = makes_room => Err(Cut::ForRoom),
            () = ends => Err(Cut::AtTheEnd),
        }
    }

    /// Lets it be held no more, and waits until it is not.
    async fn released(&self) {
        loop {
            let changed = self.admission.changed.notified();
            if self.admission.cut(self.number) {
                return;
            }
            let _ = timeout(LOOK, changed).await;
        }
    }

    /// Says true when it has to make room.
    pub(crate) fn leave(&self) -> watch::Receiver<bool> {
        self.left.clone()
    }

    /// The memory of its session.
    pub(crate) fn room(&self) -> Room {
        Room::new(self.admission.clone(), self.number)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.admission.state().seats.retain(|taken| taken.number != self.number);
        self.admission.changed.notify_waiters();
    }
}

/// Waits until the sender says true.
async fn said(told: &mut watch::Receiver<bool>) {
    if told.wait_for(|told| *told).await.is_err() {
        // Nobody is left who could.
        std::future::pending().await
    }
}
