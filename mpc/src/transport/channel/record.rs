//! A recording of the frames at one end of a channel: the view of that party.

use super::FrameKind;
use crate::party::Stage;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Which way a frame went, seen from the recording end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// To the peer.
    Sent,
    /// From the peer.
    Received,
}

/// A recorded frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Sent or received.
    pub way: Way,
    /// What the frame carries.
    pub kind: FrameKind,
    /// The stage it belongs to.
    pub stage: Stage,
    /// The payload.
    pub payload: Vec<u8>,
}

/// A handle to the frames recorded since [`super::Channel::record`]. Clones share the frames.
#[derive(Clone, Default)]
pub struct Recording(Arc<Mutex<Vec<Recorded>>>);

impl Recording {
    /// Takes out the frames recorded so far, in the order in which this end sent or received them.
    #[must_use]
    pub fn take(&self) -> Vec<Recorded> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn push(&self, way: Way, kind: FrameKind, stage: Stage, payload: &[u8]) {
        let frame = Recorded { way, kind, stage, payload: payload.to_vec() };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(frame);
    }
}

impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recording(..)")
    }
}
