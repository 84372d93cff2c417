//! What a channel waits for, for whoever has to choose between several.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::transport::runtime::Instant;

/// A view of one channel. A clone is the same view.
#[derive(Clone, Debug, Default)]
pub struct Attention(Arc<Mutex<State>>);

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Working,
    /// Between two stages, for as long as the peer likes.
    Idle { since: Instant },
    /// For a frame, of so many bytes as far as is known.
    Frame { since: Instant, len: usize },
}

/// What a channel is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// It does not wait for the peer.
    Working,
    /// It has waited so long for the peer to begin something.
    Idle(Duration),
    /// It has waited so long for a frame that is due, of so many bytes as far as is known.
    Owed(Duration, usize),
}

impl Attention {
    /// What the channel is doing.
    #[must_use]
    pub fn doing(&self) -> Doing {
        match *self.state() {
            State::Working => Doing::Working,
            State::Idle { since } => Doing::Idle(since.elapsed()),
            State::Frame { since, len } => Doing::Owed(since.elapsed(), len),
        }
    }

    pub(super) fn works(&self) {
        *self.state() = State::Working;
    }

    pub(super) fn idles(&self) {
        *self.state() = State::Idle { since: Instant::now() };
    }

    /// A frame is due. That a part of it comes does not begin the time anew.
    pub(super) fn waits(&self) {
        *self.state() = State::Frame { since: Instant::now(), len: 0 };
    }

    pub(super) fn expects(&self, bytes: usize) {
        if let State::Frame { len, .. } = &mut *self.state() {
            *len = bytes;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
