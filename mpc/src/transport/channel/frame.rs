//! The frame header: 8 bytes before every payload.
//!
//! ```text
//! byte   0..4    4      5       6..8
//!        length  kind   stage   depth      little-endian; length of the payload, without the header
//! ```

use crate::error::{Error, Result};
use crate::party::Stage;
use std::fmt;

/// Bytes of a frame header.
pub const HEADER_BYTES: usize = 8;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FrameKind {
    /// A control message, encoded by [`crate::wire`].
    Control,
    /// A message of a protocol on shares.
    Data,
    /// A message of OT extension.
    OtBatch,
    /// The server's published hint.
    Hint,
    /// The sender gives up; the payload is a code of two bytes.
    Abort,
}

impl FrameKind {
    /// All kinds; the position is the code in the header.
    pub const ALL: [Self; 5] = [Self::Control, Self::Data, Self::OtBatch, Self::Hint, Self::Abort];

    /// The kind's byte in a frame header, and its place in [`FrameKind::ALL`].
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for FrameKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Control => "control",
            Self::Data => "data",
            Self::OtBatch => "OT batch",
            Self::Hint => "hint",
            Self::Abort => "abort",
        })
    }
}

/// A decoded frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub len: u32,
    pub kind: FrameKind,
    pub stage: Stage,
    pub depth: u16,
}

impl Header {
    pub fn encode(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..4].copy_from_slice(&self.len.to_le_bytes());
        bytes[4] = self.kind.code();
        bytes[5] = self.stage.code();
        bytes[6..8].copy_from_slice(&self.depth.to_le_bytes());
        bytes
    }

    /// Fails with [`Error::Protocol`] if kind or stage are not known.
    pub fn decode(bytes: [u8; HEADER_BYTES]) -> Result<Self> {
        let [l0, l1, l2, l3, kind, stage, d0, d1] = bytes;
        Ok(Self {
            len: u32::from_le_bytes([l0, l1, l2, l3]),
            kind: *FrameKind::ALL
                .get(usize::from(kind))
                .ok_or_else(|| Error::protocol("frame kind", "a code from 0 to 4", kind))?,
            stage: *Stage::ALL
                .get(usize::from(stage))
                .ok_or_else(|| Error::protocol("frame stage", "a code from 0 to 2", stage))?,
            depth: u16::from_le_bytes([d0, d1]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn codes_are_positions() {
        for (code, kind) in FrameKind::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(kind.code()), code);
        }
        for (code, stage) in Stage::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(stage.code()), code);
        }
    }

    #[test]
    fn bytes_are_pinned() {
        let header = Header { len: 0x0102_0304, kind: FrameKind::OtBatch, stage: Stage::Offline, depth: 0x0506 };
        assert_eq!(header.encode(), [4, 3, 2, 1, 2, 1, 6, 5]);
    }

    proptest! {
        #[test]
        fn decode_inverts_encode_or_refuses(bytes: [u8; HEADER_BYTES]) {
            match Header::decode(bytes) {
                Ok(header) => prop_assert_eq!(header.encode(), bytes),
                Err(error) => {
                    prop_assert!(error.is_peer_fault());
                    prop_assert!(bytes[4] > 4 || bytes[5] > 2);
                }
            }
        }
    }
}
