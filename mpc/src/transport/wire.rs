//! Control messages on the wire: fixed-width little-endian fields, a byte limit, no trailing bytes.
//!
//! This is the only file that knows the encoding. Do not put sequences of zero-sized items into a message:
//! their length is not bounded by the number of bytes.

use crate::error::{Error, Result};
use bincode::Options;
use serde::{Serialize, de::DeserializeOwned};

fn options(limit: u64) -> impl Options {
    bincode::DefaultOptions::new().with_fixint_encoding().reject_trailing_bytes().with_limit(limit)
}

/// Encodes a message.
///
/// # Errors
/// [`Error::Encode`] if the type cannot be encoded, for example a sequence of unknown length.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>> {
    options(u64::from(u32::MAX)).serialize(message).map_err(|error| Error::Encode(error.to_string()))
}

/// Decodes a message of at most `limit` bytes; allocates no more than the bytes justify.
///
/// # Errors
/// [`Error::Protocol`] if the bytes are too long, too short, or not a `T`.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<T> {
    if bytes.len() > limit {
        return Err(Error::protocol("length of a control message", format_args!("at most {limit}"), bytes.len()));
    }
    options(limit as u64).deserialize(bytes).map_err(|error| {
        Error::protocol("control message", std::any::type_name::<T>(), format_args!("undecodable ({error})"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Hello {
        version: u16,
        name: String,
        sizes: Vec<u32>,
        party: crate::party::Party,
    }

    fn hello() -> Hello {
        Hello { version: 1, name: "tiny".into(), sizes: vec![1, 2, 3], party: crate::party::Party::Server }
    }

    #[test]
    fn round_trip_with_fixed_width_fields() {
        let bytes = encode(&hello()).unwrap();
        assert_eq!(bytes.len(), 2 + (8 + 4) + (8 + 3 * 4) + 4);
        assert_eq!(decode::<Hello>(&bytes, bytes.len()).unwrap(), hello());
    }

    #[test]
    fn rejects_trailing_truncated_oversized_and_huge_lengths() {
        let good = encode(&hello()).unwrap();
        let mut trailing = good.clone();
        trailing.push(0);
        assert!(decode::<Hello>(&trailing, 1000).unwrap_err().is_peer_fault());
        for cut in 0..good.len() {
            assert!(decode::<Hello>(&good[..cut], 1000).unwrap_err().is_peer_fault());
        }
        assert!(decode::<Hello>(&good, good.len() - 1).unwrap_err().is_peer_fault());
        let mut huge = good;
        huge[2..10].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(decode::<Hello>(&huge, 1000).unwrap_err().is_peer_fault());
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(message) = decode::<Hello>(&bytes, 200) {
                prop_assert_eq!(encode(&message).unwrap(), bytes);
            }
        }
    }
}
