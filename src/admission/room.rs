//! What a session does with its seat.

use std::fmt;
use std::sync::Arc;

use lowkey_mpc::runtime::Instant;

use super::{Admission, full};
use crate::policy::Refusal;

/// A session's seat, and the memory that comes with it; without a seat nobody cuts it, and there is as much memory as it likes.
#[derive(Clone, Default)]
pub struct Room(Option<(Arc<Admission>, u64)>);

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Room({:?})", self.0.as_ref().map(|(_, number)| number))
    }
}

impl Room {
    pub(super) fn new(admission: Arc<Admission>, number: u64) -> Self {
        Self(Some((admission, number)))
    }

    /// Asks for so many bytes in all. Waits for others to give some back, for as long as one waits for a seat.
    ///
    /// # Errors
    /// [`Refusal::Full`] if that is too much.
    pub(crate) async fn resize(&self, memory: u64) -> Result<(), Refusal> {
        let Some((admission, number)) = &self.0 else { return Ok(()) };
        admission.in_line(|| Ok(admission.resize(*number, memory).then_some(()))).await
    }

    /// Half of the set-up is done, and what comes takes memory and time: keeps the seat from now on, which was [lent](super) meanwhile
    /// if others waited. Then it waits for one again, before those that have none yet.
    ///
    /// # Errors
    /// [`Refusal::Full`] if none becomes free in time.
    pub(crate) async fn stay(&self) -> Result<(), Refusal> {
        match &self.0 {
            Some((admission, number)) => admission.stay(*number).await,
            None => Ok(()),
        }
    }

    /// While this is kept the client is being sent so many bytes and the session waits for nothing but that.
    pub(crate) fn sends(&self, bytes: u64) -> Sends {
        self.set_sends(Some((Instant::now(), bytes)));
        Sends(self.clone())
    }

    fn set_sends(&self, what: Option<(Instant, u64)>) {
        if let Some((admission, number)) = &self.0 {
            admission.sends(*number, what);
        }
    }

    /// While this is kept the session is neither asked to make room nor cut: for what its client would be blamed for, and which has a time of
    /// its own.
    ///
    /// # Errors
    /// [`Refusal::Full`] if it was asked to make room, or is cut: it may not begin what must not be cut.
    pub(crate) fn hold(&self) -> Result<Hold, Refusal> {
        let stays = self.0.as_ref().is_none_or(|(admission, number)| admission.hold(*number));
        if stays { Ok(Hold(self.clone())) } else { Err(full()) }
    }

    /// While this is kept the session waits for another one of its name: it is late when that takes long.
    pub(crate) fn queue(&self) -> Queued {
        self.set_queued(Some(Instant::now()));
        Queued(self.clone())
    }

    fn set_queued(&self, since: Option<Instant>) {
        if let Some((admission, number)) = &self.0 {
            admission.queue(*number, since);
        }
    }
}

/// Keeps a session from being cut.
pub(crate) struct Hold(Room);

impl Drop for Hold {
    fn drop(&mut self) {
        if let Hold(Room(Some((admission, number)))) = self {
            admission.release(*number);
        }
    }
}

/// A session that waits for another one of its name.
pub(crate) struct Queued(Room);

impl Drop for Queued {
    fn drop(&mut self) {
        self.0.set_queued(None);
    }
}

/// A session whose client is being sent something.
pub(crate) struct Sends(Room);

impl Drop for Sends {
    fn drop(&mut self) {
        self.0.set_sends(None);
    }
}
