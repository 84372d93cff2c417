//! Why a step fails, and whose fault that is.

use lowkey_bridge::BridgeError;
use lowkey_mpc::error::Error as ProtocolError;
use lowkey_mpc::party::Party;

use crate::error::{Error, Misbehaviour};

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// The channel failed, or the peer broke a protocol.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// A product failed.
    #[error(transparent)]
    Product(#[from] BridgeError),
    /// A step failed midway, and its shares are gone.
    #[error("a step failed before: go on from a checkpoint, in a new session")]
    Lost,
    /// The shares are not those that the session was agreed on for.
    #[error("these shares are not those that the session was agreed on for: agree with the checkpoint to go on from")]
    OtherShares,
}

impl StepError {
    /// As the error of `party`'s session.
    pub(super) fn of(self, party: Party) -> Error {
        match self {
            Self::Protocol(error) => error.into(),
            Self::Product(error) if error.is_peer_fault() => {
                Error::Peer(party.other(), Misbehaviour::Ciphertexts(error))
            }
            error @ (Self::Product(_) | Self::Lost | Self::OtherShares) => Error::internal(error),
        }
    }
}
