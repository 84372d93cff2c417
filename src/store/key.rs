//! The server's key: 32 bytes from which all randomness of its publications is derived.
//!
//! Whoever has it can compute every (u_o, e_o), and with a public hint the weights. It says nothing of any client.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rand::CryptoRng;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::lifetime::{LATEST, seconds};
use super::{Store, StoreError, files};
use crate::randomness;

/// Bytes of a key's file: the key, and when it was made, in seconds since 1970, little endian. So a copy of it is as old as the key,
/// wherever and whenever it is copied.
const FILE_BYTES: usize = 40;

/// A server's key. It is drawn here, and comes from nowhere else but a store.
pub struct Key {
    bytes: Zeroizing<[u8; 32]>,
    /// When it was made, in seconds since 1970, of one that has a file. As its file says; an earlier version's is as old as the file.
    made: Option<u64>,
}

impl Key {
    /// A new one, for a publication that need not be the same after a restart.
    ///
    /// # Errors
    /// When the operating system has no randomness.
    pub fn fresh() -> Result<Self, StoreError> {
        Ok(Self { bytes: randomness::seed()?, made: None })
    }

    /// Drawn from a party's own generator, for what ends with its session.
    pub(crate) fn drawn<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut bytes[..]);
        Self { bytes, made: None }
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// When it was made, in seconds since 1970; `None` of one that has no file.
    pub(super) fn made(&self) -> Option<u64> {
        self.made
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key([redacted])")
    }
}

#[cfg(any(test, feature = "deterministic"))]
impl From<[u8; 32]> for Key {
    fn from(bytes: [u8; 32]) -> Self {
        Self { bytes: Zeroizing::new(bytes), made: None }
    }
}

/// By which people tell keys apart, in hexadecimal: half of the SHA-256 of a value that is itself derived from the key by SHA-256.
/// It says nothing about the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// Of a key.
    pub fn of(key: &Key) -> Self {
        Self::of_bytes(key.bytes())
    }

    pub(super) fn of_bytes(key: &[u8; 32]) -> Self {
        let public = Zeroizing::new(labelled(b"lowkey/key/public/1", key));
        Self(hex::encode(&labelled(b"lowkey/key/fingerprint/1", &public)[..16]))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn labelled(label: &[u8], value: &[u8; 32]) -> [u8; 32] {
    Sha256::new_with_prefix((label.len() as u64).to_le_bytes())
        .chain_update(label)
        .chain_update(value)
        .finalize()
        .into()
}

impl Store {
    /// Where the server's key lies.
    pub fn key_path(&self) -> PathBuf {
        self.state.join("server.key")
    }

    /// The key from which a server derives the randomness of its publications, so that a restart publishes the same bytes.
    /// Made on first use. Several servers may start at once on one folder: one makes it and all have the same.
    ///
    /// # Errors
    /// When the key can be read by others than its owner, is not one, or cannot be read or made.
    pub fn server_key(&self) -> Result<Key, StoreError> {
        let path = self.key_path();
        if let Some(key) = read(&path)? {
            return Ok(key);
        }
        let (key, now) = (Key::fresh()?, SystemTime::now());
        if files::create(&path, &to_bytes(&key, now)[..])? {
            return Ok(Key { made: Some(seconds(now)), ..key });
        }
        read(&path)?.ok_or_else(|| StoreError::file(&path, io::ErrorKind::NotFound.into()))
    }
}

/// The file of a key that is made now.
pub(super) fn to_bytes(key: &Key, now: SystemTime) -> Zeroizing<[u8; FILE_BYTES]> {
    let mut bytes = Zeroizing::new([0; FILE_BYTES]);
    let (first, last) = bytes.split_at_mut(32);
    first.copy_from_slice(key.bytes());
    last.copy_from_slice(&seconds(now).to_le_bytes());
    bytes
}

/// The inverse; `None` of what is no key. Earlier versions did not write when it was made.
pub(super) fn from_bytes(bytes: &[u8]) -> Option<Key> {
    let (key, made) = bytes.split_first_chunk::<32>()?;
    let made = match made {
        [] => None,
        made => Some(u64::from_le_bytes(made.try_into().ok()?)),
    };
    made.is_none_or(|made| made <= LATEST).then(|| Key { bytes: Zeroizing::new(*key), made })
}

/// Reads a key that its owner alone can read; `None` if there is no file.
pub(super) fn read(path: &Path) -> Result<Option<Key>, StoreError> {
    let failed = |error| StoreError::file(path, error);
    let Some(file) = files::open(path).map_err(failed)? else { return Ok(None) };
    check_readers(&file, path)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(64));
    (&file).take(FILE_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    let no_key = || failed(io::Error::new(io::ErrorKind::InvalidData, "not a key of 32 bytes and its date"));
    let mut key = from_bytes(&bytes).ok_or_else(no_key)?;
    if key.made.is_none() {
        key.made = file.metadata().and_then(|about| about.modified()).ok().map(seconds);
    }
    Ok(Some(key))
}

#[cfg(unix)]
pub(super) fn check_readers(file: &File, path: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::PermissionsExt;
    let mode = file.metadata().map_err(|error| StoreError::file(path, error))?.permissions().mode() & 0o777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(StoreError::ExposedKey { path: path.to_owned(), mode }) }
}

#[cfg(not(unix))]
pub(super) fn check_readers(_: &File, _: &Path) -> Result<(), StoreError> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_of_the_key_and_not_the_key() {
        assert_eq!(Fingerprint::of_bytes(&[0; 32]).to_string(), "1d7b0bf1712c671122ccf93dc97c7b45");
        assert_ne!(Fingerprint::of_bytes(&[0; 32]), Fingerprint::of_bytes(&[1; 32]));
    }

    #[test]
    fn a_file_is_a_key_and_its_date_or_none() {
        let born = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
        let bytes = to_bytes(&Key::from([7; 32]), born);
        let read = |bytes: &[u8]| from_bytes(bytes).map(|key| (*key.bytes(), key.made));
        assert_eq!(read(&bytes[..]), Some(([7; 32], Some(1_700_000_000))));
        assert_eq!(read(&bytes[..32]), Some(([7; 32], None)), "of an earlier version");
        for length in (0..FILE_BYTES).filter(|length| *length != 32) {
            assert_eq!(read(&bytes[..length]), None, "{length}");
        }
        assert_eq!(read(&[&bytes[..], &[0]].concat()), None);
        assert_eq!(read(&[[7; 32].as_slice(), &(LATEST + 1).to_le_bytes()].concat()), None, "a date beyond all");
    }
}
