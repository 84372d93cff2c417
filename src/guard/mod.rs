//! The guarded mode (`docs/guard.md`): sessions in which a client that cheats learns nothing, audits of prepared slots, and the identities
//! that answer for them (`docs/guard-audit.md`).
//!
//! | module | what |
//! |---|---|
//! | [`slot`] | the seed of a slot, made by both parties; the slot computed again from it, and the first part that differs |
//! | [`audit`] | the coin: [`Undecided`] -> [`Usable`] or [`Audit`], each moved by value |
//! | `case` | what is kept of a slot that is to be opened: [`Corrections`], and the comparison |
//! | `bits` | the client's values as authenticated bits, out of the circuits that would have read them; the comparison of their MACs |
//! | [`Circuits`] | the nonlinear layers of a plan as circuits, and which have none; `layer`, `products`: what these read and make |
//! | `session` | sessions of both roles; [`Forecast`]: what they send |
//! | [`registry`] | [`Presence`] of an identity in a session; one audit at a time; who still owes an answer |
//! | [`store`](crate::store) | who is shut out, on disk: [`Offences`](crate::store::Offences) |
//! | [`exchange`] | the messages of an audit, both roles |
//! | `debts` | [`Debts`]: what a client owes whose line was lost |
//!
//! A session calls, in this order:
//!
//! | server | client |
//! |---|---|
//! | [`Registry::admit`], before anything is computed | |
//! | [`Registry::owed`], [`exchange::collect`]: an audit of an earlier connection comes first | [`Debts::pay`] |
//! | [`Registry::enter`], and all that follows within [`Presence::run`] | |
//! | for each slot: triples, [`exchange::receive`] | [`exchange::send`] |
//! | the corrections and proofs of all circuits | the same |
//! | [`exchange::complete`], [`Undecided::new`], [`exchange::decide`] | [`Waiting::new`](exchange::Waiting::new), [`hear`](exchange::Waiting::hear) |
//! | [`Usable::begin`], and then the first online byte | the slot that was heard of |

#![deny(clippy::wildcard_enum_match_arm)]

pub mod audit;
mod bits;
mod case;
mod circuits;
mod debts;
pub mod exchange;
mod layer;
mod products;
pub mod registry;
pub(crate) mod session;
pub mod slot;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use crate::offline::SlotSeed;
pub use audit::{Audit, AuditRate, Undecided, Usable, Verdict};
pub use case::Corrections;
pub use circuits::Circuits;
pub use exchange::Debts;
pub use registry::{IdentityLimits, Presence, Registry};
pub use session::cost::Forecast;
#[cfg(not(target_arch = "wasm32"))]
pub use session::server::Guarding;
pub use slot::{Arrived, AuditAnswer, ClientHalf, Commitment, Committed, Nonce, Promise, SlotName};

use crate::error::Refusal;
use crate::store::{Shut, SlotPart, StoreError};

/// The result of a step of the guarded mode.
pub type Result<T, E = Denied> = std::result::Result<T, E>;

/// Why an identity does not go on.
#[derive(Debug, thiserror::Error)]
pub enum Denied {
    /// It has no name: the guarded mode is for clients with certificates, which cost something.
    #[error("the guarded mode needs a client with a certificate")]
    Nameless,
    /// It failed an audit before.
    #[error("shut out: {}", shut.offence)]
    ShutOut {
        /// Since when, and why.
        shut: Shut,
    },
    /// It was shut out while this session ran, and pardoned since.
    #[error("the identity was shut out while this session ran")]
    Ended,
    /// It failed this audit.
    #[error("the audit failed: {0}")]
    Failed(SlotPart),
    /// It did not answer this audit.
    #[error("an audit was not answered within {after:?}")]
    Silent {
        /// The longest silence.
        after: Duration,
    },
    /// Too many slots in this hour.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The connection, a file, or a bug.
    #[error(transparent)]
    Other(#[from] crate::Error),
}

impl From<Denied> for crate::Error {
    /// What the client is told: not which part was wrong.
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Nameless => Refusal::Unknown.into(),
            Denied::ShutOut { .. } | Denied::Ended | Denied::Failed(_) => Refusal::ShutOut.into(),
            Denied::Silent { after } => lowkey_mpc::error::Error::Timeout { after }.into(),
            Denied::Refused(refusal) => refusal.into(),
            Denied::Other(error) => error,
        }
    }
}

impl From<StoreError> for Denied {
    fn from(error: StoreError) -> Self {
        Self::Other(error.into())
    }
}
