//! The sender's message of one batch: the sums of its trees.

use super::Preset;
use crate::error::{Error, Result};
use crate::primitive::block::Block;

/// Version of the message format.
const VERSION: u8 = 3;

/// Bytes before the sums: version, reserved, length of the check, index.
pub(super) const PREFIX_BYTES: usize = 1 + 1 + 2 + 8;

/// The sender's message of one batch.
///
/// ```text
/// byte  0        1         2..4            4..12                    12..
///       version  reserved  length of the   index of the first       t x d blocks c
///                = 0       check = 0       usable OT of the batch
/// ```
///
/// The check of the sums goes by two messages of its own ([`Unchecked`](super::Unchecked)), since it needs them all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchMessage {
    pub(super) first: u64,
    /// d for each tree.
    pub(super) sums: Vec<Block>,
}

impl BatchMessage {
    /// The message as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Preset::at(self.first).message_bytes());
        bytes.extend_from_slice(&[VERSION, 0, 0, 0]);
        bytes.extend_from_slice(&self.first.to_le_bytes());
        bytes.extend_from_slice(bytemuck::cast_slice(&self.sums));
        bytes
    }

    /// Reads a message whose first usable OT must have index `first`.
    ///
    /// # Errors
    /// [`Error::Protocol`] if length, version, length of the check, or index differ.
    pub fn decode(bytes: &[u8], first: u64) -> Result<Self> {
        let expected = Preset::at(first).message_bytes();
        if bytes.len() != expected {
            return Err(Error::protocol("length of an OT batch", expected, bytes.len()));
        }
        let (prefix, sums) = bytes.split_at(PREFIX_BYTES);
        if prefix[0] != VERSION || prefix[1] != 0 {
            return Err(Error::protocol("version of an OT batch", VERSION, format_args!("{:?}", &prefix[..2])));
        }
        let check = u16::from_le_bytes([prefix[2], prefix[3]]);
        if check != 0 {
            return Err(Error::protocol("check length of an OT batch", 0, check));
        }
        let found = u64::from_le_bytes(std::array::from_fn(|i| prefix[4 + i]));
        if found != first {
            return Err(Error::protocol("first index of an OT batch", first, found));
        }
        Ok(Self { first, sums: sums.chunks_exact(Block::BYTES).map(bytemuck::pod_read_unaligned).collect() })
    }
}
