//! Checksums of all frames, headers included: one running sum each way, compared before a result is used.
//!
//! A transport without a checksum of its own can deliver other bytes than were sent, and a protocol on shares would turn them into
//! a wrong answer without noticing. The sums have no key: they find accidents, not attackers.

use super::frame::HEADER_BYTES;
use crate::error::{Error, Result};
use crc32fast::Hasher;
use serde::{Deserialize, Serialize};

/// CRC-32 of everything that one end has sent and received so far.
///
/// A change of bytes in one place of up to four bytes is always found, any other except with probability 2^-32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    /// Of the frames that this end sent.
    pub sent: u32,
    /// Of the frames that this end received.
    pub received: u32,
}

impl Sums {
    /// Compares with the peer's sums of the same frames.
    ///
    /// # Errors
    /// [`Error::Changed`] if one end did not receive what the other sent.
    pub fn check(self, peer: Self) -> Result<()> {
        if (self.sent, self.received) == (peer.received, peer.sent) { Ok(()) } else { Err(Error::Changed) }
    }
}

/// The sums of a channel, as they grow.
#[derive(Debug, Default)]
pub(super) struct Running {
    sent: Hasher,
    received: Hasher,
}

impl Running {
    pub fn sent(&mut self, header: &[u8; HEADER_BYTES], payload: &[u8]) {
        self.sent.update(header);
        self.sent.update(payload);
    }

    pub fn received(&mut self, header: &[u8; HEADER_BYTES], payload: &[u8]) {
        self.received.update(header);
        self.received.update(payload);
    }

    pub fn now(&self) -> Sums {
        Sums { sent: self.sent.clone().finalize(), received: self.received.clone().finalize() }
    }
}
