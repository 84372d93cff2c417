//! Inference slots: what both parties prepare before an input exists. A slot is used once, by being moved.

use lowkey_bridge::OfflineShare;
use lowkey_mpc::ot::base::SessionId;
use lowkey_mpc::program;
use zeroize::Zeroizing;

use crate::answer::AnswerReady;

/// The client's half of a prepared inference. Not cloneable, never stored; using it moves it.
pub struct ClientSlot {
    /// A slot works in its own session only.
    pub(crate) session: SessionId,
    pub(crate) number: u64,
    /// xhat of every stored tensor.
    pub(crate) pads: Vec<Zeroizing<Vec<u64>>>,
    /// One per node with a program.
    pub(crate) programs: Vec<Option<program::Ready>>,
    pub(crate) answer: AnswerReady,
}

impl std::fmt::Debug for ClientSlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ClientSlot({}, [redacted])", self.number)
    }
}

/// The server's half of a prepared inference.
pub(crate) struct ServerSlot {
    pub(crate) number: u64,
    /// v_off of every linear node with encrypted terms.
    pub(crate) shares: Vec<Option<OfflineShare>>,
    pub(crate) programs: Vec<Option<program::Ready>>,
    pub(crate) answer: AnswerReady,
}
