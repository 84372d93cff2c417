//! What a session does with its seat.

use std::fmt;
use std::sync::Arc;

use lowkey_mpc::runtime::{Instant, timeout};

use super::{Admission, LINE, LOOK, full};
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
        let until = Instant::now() + LINE;
        loop {
            let changed = admission.changed.notified();
            if admission.resize(*number, memory) {
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(full());
            }
            let _ = timeout(LOOK, changed).await;
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
