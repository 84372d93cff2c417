//! What is kept of a slot that is to be opened, and the comparison with what its seed makes.

use std::sync::Arc;

use super::slot::{Arrived, AuditAnswer, ClientHalf};
use crate::publication::ClientModel;
use crate::store::SlotPart;

/// The server's half of the bits of a slot that its client has authenticated: c and xhat.
pub trait Corrections: Send {
    /// True if `macs` is the hash of the MACs that the client holds of exactly these values, of a slot for this model.
    fn agree(&self, model: &ClientModel, opened: &ClientHalf, macs: &[u8; 32]) -> bool;

    /// What it takes to keep them, in bytes.
    fn bytes(&self) -> usize;
}

/// What is compared, under the model of its slot.
pub(super) struct Case {
    pub(super) arrived: Arrived,
    pub(super) corrections: Box<dyn Corrections>,
    pub(super) model: Arc<ClientModel>,
}

impl Case {
    /// What it takes to keep it, in bytes, without the model.
    pub(super) fn bytes(&self) -> usize {
        self.arrived.bytes() + self.corrections.bytes()
    }

    /// Computes the slot again: the first part that differs, if one does.
    ///
    /// # Errors
    /// As [`Arrived::open`].
    pub(super) fn open(&self, answer: &AuditAnswer) -> crate::Result<Option<SlotPart>> {
        Ok(match self.arrived.open(&self.model, answer)? {
            Err(part) => Some(part),
            Ok(opened) => {
                (!self.corrections.agree(&self.model, &opened, answer.macs())).then_some(SlotPart::Corrections)
            }
        })
    }
}
