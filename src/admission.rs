//! Who is let in. A connection costs nothing but its socket until it has said hello, and has little time for that; then it takes a
//! seat, or waits in line for one, or is told that the server is full.
//!
//! A seat is for as long as a session lasts. While others wait, a session whose client is late makes room: first those that owe a
//! message that is due, then those that have asked for nothing for long. So whoever opens many sessions and says nothing, or says it
//! slowly, keeps nobody out.
//!
//! A seat comes with the memory that its session may need, where that is limited; for more slots it asks again.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lowkey_mpc::channel::{Attention, Doing};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::policy::Refusal;
use crate::watch::Held;

/// Connections that have not said hello. One more turns the oldest away.
const MOST_AT_THE_DOOR: usize = 512;
/// Clients that wait for a seat.
const MOST_IN_LINE: usize = 256;
/// How long a client waits for a seat.
const LINE: Duration = Duration::from_secs(5);
/// How often those in line look whether a client is late.
const LOOK: Duration = Duration::from_millis(50);
/// A client between two requests is late after so long, if others wait.
const IDLE: Duration = Duration::from_secs(30);
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

/// The seats of one server.
pub(crate) struct Admission {
    seats: usize,
    /// Most seats of one address; loopback has no limit.
    per_address: usize,
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
    address: IpAddr,
    attention: Attention,
    leave: watch::Sender<bool>,
    /// Bytes.
    memory: u64,
    /// When it was asked to leave.
    asked: Option<Instant>,
    /// What it is at may not be cut.
    held: bool,
}

/// What happens at a server's door.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attendance {
    /// Connections that have not said hello.
    pub at_the_door: usize,
    /// Clients that wait for a session.
    pub in_line: usize,
    /// Sessions.
    pub sessions: usize,
    /// Bytes of memory that these may need.
    pub reserved: u64,
    /// What these hold.
    pub held: Held,
}

impl Admission {
    /// `bytes` is what an inference sends: the longer it is, the longer a client may compute between two messages.
    /// `memory` is the most that all sessions may need together.
    pub(crate) fn new(seats: usize, per_address: Option<usize>, memory: Option<u64>, bytes: u64) -> Arc<Self> {
        let patience = Mutex::new(patience(bytes));
        let per_address = per_address.unwrap_or(seats - seats / 4).max(1);
        let memory = memory.unwrap_or(u64::MAX);
        Arc::new(Self { seats, per_address, patience, memory, state: Mutex::default(), changed: Notify::new() })
    }

    /// Other models are served from now on.
    pub(crate) fn expect(&self, bytes: u64) {
        *self.patience.lock().unwrap_or_else(PoisonError::into_inner) = patience(bytes);
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
    /// [`Refusal::Full`] if none becomes free in time, the line is long, or the address has as many as it may.
    pub(crate) async fn seat(
        self: &Arc<Self>,
        address: IpAddr,
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
        let until = Instant::now() + LINE;
        loop {
            let changed = self.changed.notified();
            if let Some(seat) = self.take((place.number, memory), address, &attention)? {
                return Ok(seat);
            }
            if Instant::now() >= until {
                return Err(full());
            }
            let _ = tokio::time::timeout(LOOK, changed).await;
        }
    }

    /// A seat, if there is one for this place in line; otherwise asks somebody who is late to leave.
    fn take(
        self: &Arc<Self>,
        (place, memory): (u64, u64),
        address: IpAddr,
        attention: &Attention,
    ) -> Result<Option<Seat>, Refusal> {
        let mut state = self.state();
        let own = state.seats.iter().filter(|taken| taken.address == address).count();
        if !address.is_loopback() && !address.is_unspecified() && own >= self.per_address {
            return Err(full());
        }
        let first = state.line.iter().take_while(|&&(number, _)| number != place);
        let (before, theirs) = first.fold((0, 0), |(count, bytes), (_, memory)| (count + 1, bytes + memory));
        if state.seats.len() + before < self.seats && state.reserved() + theirs + memory <= self.memory {
            let (leave, left) = watch::channel(false);
            let taken =
                Taken { number: place, address, attention: attention.clone(), leave, memory, asked: None, held: false };
            state.seats.push(taken);
            return Ok(Some(Seat { admission: self.clone(), number: place, left }));
        }
        // One seat for each that waits up to here.
        let leaving = state.seats.iter().filter(|taken| taken.asked.is_some()).count();
        if leaving <= before
            && let Some(late) = state.seats.iter_mut().max_by_key(|taken| self.lateness(taken))
            && self.lateness(late).is_some()
        {
            late.asked = Some(Instant::now());
            late.leave.send_replace(true);
        }
        Ok(None)
    }

    /// How late a client is: one that owes a message more than one that asks for nothing; `None` if it is not.
    fn lateness(&self, taken: &Taken) -> Option<(bool, Duration)> {
        if taken.asked.is_some() || taken.held {
            return None;
        }
        match taken.attention.doing() {
            Doing::Working => None,
            Doing::Idle(since) => since.checked_sub(IDLE).map(|late| (false, late)),
            Doing::Owed(since, bytes) => {
                let patience = *self.patience.lock().unwrap_or_else(PoisonError::into_inner);
                since.checked_sub(patience + transfer(bytes as u64)).map(|late| (true, late))
            }
        }
    }

    /// Gives a session so much memory, if there is so much; giving back always succeeds.
    fn resize(&self, session: u64, memory: u64) -> bool {
        let mut state = self.state();
        let reserved = state.reserved();
        let Some(taken) = state.seats.iter_mut().find(|taken| taken.number == session) else { return true };
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

    fn hold(&self, session: u64, held: bool) {
        if let Some(taken) = self.state().seats.iter_mut().find(|taken| taken.number == session) {
            taken.held = held;
        }
        if !held {
            self.changed.notify_waiters();
        }
    }

    /// What happens now; nobody here knows what sessions hold.
    pub(crate) fn attendance(&self) -> Attendance {
        let state = self.state();
        Attendance {
            at_the_door: state.door.len(),
            in_line: state.line.len(),
            sessions: state.seats.len(),
            reserved: state.reserved(),
            held: Held::default(),
        }
    }

    /// Waits until all seats are free.
    pub(crate) async fn empty(&self) {
        loop {
            let changed = self.changed.notified();
            if self.state().seats.is_empty() {
                return;
            }
            let _ = tokio::time::timeout(LOOK, changed).await;
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

    /// Memory that sessions may need.
    fn reserved(&self) -> u64 {
        self.seats.iter().map(|taken| taken.memory).sum()
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
    /// Waits until it has to make room for somebody else.
    pub(crate) async fn needed(&self) {
        if self.left.clone().wait_for(|leave| *leave).await.is_err() {
            std::future::pending().await
        }
    }

    /// Waits until its session may be cut.
    pub(crate) async fn released(&self) {
        loop {
            let changed = self.admission.changed.notified();
            let is_held = |taken: &Taken| taken.number == self.number && taken.held;
            if !self.admission.state().seats.iter().any(is_held) {
                return;
            }
            let _ = tokio::time::timeout(LOOK, changed).await;
        }
    }

    /// Says true when it has to make room.
    pub(crate) fn leave(&self) -> watch::Receiver<bool> {
        self.left.clone()
    }

    /// The memory of its session.
    pub(crate) fn room(&self) -> Room {
        Room(Some((self.admission.clone(), self.number)))
    }
}

/// The memory that a session may need; without a seat there is as much as it likes.
#[derive(Clone, Default)]
pub struct Room(Option<(Arc<Admission>, u64)>);

impl std::fmt::Debug for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Room({:?})", self.0.as_ref().map(|(_, number)| number))
    }
}

impl Room {
    /// Asks for so many bytes in all. Waits for others to give some back, for as long as one waits for a seat.
    ///
    /// # Errors
    /// [`Refusal::Full`] if that is too much.
    pub(crate) async fn resize(&self, memory: u64) -> Result<(), Refusal> {
        let Some((admission, number)) = &self.0 else { return Ok(()) };
        let until = Instant::now() + LINE;
        loop {
            let changed = admission.changed.notified();
            if admission.resize(*number, memory) {
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(full());
            }
            let _ = tokio::time::timeout(LOOK, changed).await;
        }
    }
}

impl Room {
    /// While this is kept the session's client is not late, and is not cut where it was asked to leave before: for what it would be blamed
    /// for, and which has a time of its own.
    pub(crate) fn hold(&self) -> Hold {
        self.set_held(true);
        Hold(self.clone())
    }

    fn set_held(&self, held: bool) {
        if let Some((admission, number)) = &self.0 {
            admission.hold(*number, held);
        }
    }
}

/// Keeps a session from being cut.
pub(crate) struct Hold(Room);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.set_held(false);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.admission.state().seats.retain(|taken| taken.number != self.number);
        self.admission.changed.notify_waiters();
    }
}
