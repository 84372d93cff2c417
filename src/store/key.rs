//! The server's key: 32 bytes from which all randomness of its publications is derived.
//!
//! Whoever has it can compute every (u_o, e_o), and with a public hint the weights. It says nothing of any client.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rand::CryptoRng;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::record::{self, Record};
use super::{Store, StoreError, files};
use crate::randomness;

/// A server's key. It is drawn here, and comes from nowhere else but a store.
pub struct Key(Zeroizing<[u8; 32]>);

impl Key {
    /// A new one, for a publication that need not be the same after a restart.
    ///
    /// # Errors
    /// When the operating system has no randomness.
    pub fn fresh() -> Result<Self, StoreError> {
        Ok(Self(randomness::seed()?))
    }

    /// Drawn from a party's own generator, for what ends with its session.
    pub(crate) fn drawn<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut bytes[..]);
        Self(bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
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
        Self(Zeroizing::new(bytes))
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

    fn of_bytes(key: &[u8; 32]) -> Self {
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

/// What becomes of a key that is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Old {
    /// It lies beside the new one, its name followed by the date: a rotation by mistake can be undone.
    Kept,
    /// Its bytes are overwritten, as well as the file system does that.
    Wiped,
}

/// A rotation that was done.
#[derive(Clone, Debug)]
pub struct Rotated {
    /// The key that was; `None` if the file held none.
    pub was: Option<Fingerprint>,
    /// Where it lies now; `None` if it was wiped.
    pub kept: Option<PathBuf>,
    /// The new key.
    pub record: Record,
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
        let key = Key::fresh()?;
        if files::create(&path, key.bytes())? {
            return Ok(key);
        }
        read(&path)?.ok_or_else(|| StoreError::file(&path, io::ErrorKind::NotFound.into()))
    }

    /// The record of the key at hand; `None` if there is no key yet. Changes nothing.
    ///
    /// # Errors
    /// As [`server_key`](Self::server_key), and when the record cannot be read.
    pub fn key_record(&self, now: SystemTime) -> Result<Option<Record>, StoreError> {
        let Some(key) = read(&self.key_path())? else { return Ok(None) };
        self.record_of(&key, now).map(Some)
    }

    /// Replaces the server's key, whatever the old file holds and whoever could read it. Servers that run keep the old key until
    /// they are started again.
    ///
    /// # Errors
    /// When there is no key, or a file cannot be written; the old key is then still in its place.
    pub fn rotate_key(&self, old: Old, now: SystemTime) -> Result<Rotated, StoreError> {
        let path = self.key_path();
        let failed = |error| StoreError::file(&path, error);
        let _lock = self.lock()?;
        let mut file = File::options().read(true).write(old == Old::Wiped).open(&path).map_err(failed)?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(LARGEST));
        (&mut file).take(LARGEST as u64).read_to_end(&mut bytes).map_err(failed)?;
        let kept = match old {
            Old::Kept => Some(set_aside(&path, &bytes, now)?),
            Old::Wiped => None,
        };
        let key = Key::fresh()?;
        files::replace(&path, key.bytes(), files::Readers::Owner)?;
        if old == Old::Wiped {
            wipe(&mut file).map_err(failed)?;
        }
        let was = <&[u8; 32]>::try_from(&bytes[..]).ok().map(Fingerprint::of_bytes);
        let record = Record::new(Fingerprint::of(&key), now);
        record::note(&self.record_path(), &record)?;
        Ok(Rotated { was, kept, record })
    }
}

/// Nothing longer is looked at, in bytes.
const LARGEST: usize = 1 << 10;

/// Reads a key that its owner alone can read; `None` if there is no file.
fn read(path: &Path) -> Result<Option<Key>, StoreError> {
    let failed = |error| StoreError::file(path, error);
    let Some(file) = files::open(path).map_err(failed)? else { return Ok(None) };
    check_readers(&file, path)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(64));
    file.take(33).read_to_end(&mut bytes).map_err(failed)?;
    match <[u8; 32]>::try_from(&bytes[..]) {
        Ok(key) => Ok(Some(Key(Zeroizing::new(key)))),
        Err(_) => Err(failed(io::Error::other("not a key of 32 bytes"))),
    }
}

#[cfg(unix)]
fn check_readers(file: &File, path: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::PermissionsExt;
    let mode = file.metadata().map_err(|error| StoreError::file(path, error))?.permissions().mode() & 0o777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(StoreError::ExposedKey { path: path.to_owned(), mode }) }
}

#[cfg(not(unix))]
fn check_readers(_: &File, _: &Path) -> Result<(), StoreError> {
    Ok(())
}

/// Keeps what a key file held beside it, under the day's date and the first number that is free.
fn set_aside(path: &Path, bytes: &[u8], now: SystemTime) -> Result<PathBuf, StoreError> {
    let day = time::OffsetDateTime::from(now).date();
    for number in 1.. {
        let mut name = path.as_os_str().to_owned();
        name.push(if number == 1 { format!(".{day}") } else { format!(".{day}.{number}") });
        let aside = PathBuf::from(name);
        if files::create(&aside, bytes)? {
            return Ok(aside);
        }
    }
    unreachable!("some number is free")
}

/// Overwrites a file that has lost its name.
fn wipe(file: &mut File) -> io::Result<()> {
    let length = file.metadata()?.len();
    file.rewind()?;
    io::copy(&mut io::repeat(0).take(length), file)?;
    file.flush()?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::super::testing::store;
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_fingerprint_is_of_the_key_and_not_the_key() {
        assert_eq!(Fingerprint::of_bytes(&[0; 32]).to_string(), "1d7b0bf1712c671122ccf93dc97c7b45");
        assert_ne!(Fingerprint::of_bytes(&[0; 32]), Fingerprint::of_bytes(&[1; 32]));
    }

    #[test]
    fn a_rotation_can_be_undone() {
        let (_folder, store) = store();
        let old = store.server_key().unwrap();
        let day = std::time::UNIX_EPOCH + Duration::from_secs(20_000 * 24 * 60 * 60);
        store.uses(&old, day).unwrap().count(day).unwrap();
        let rotated = store.rotate_key(Old::Kept, day).unwrap();
        let new = store.server_key().unwrap();
        assert_ne!(old.bytes(), new.bytes());
        assert_eq!((rotated.was.unwrap(), rotated.record.fingerprint), (Fingerprint::of(&old), Fingerprint::of(&new)));
        let kept = rotated.kept.unwrap();
        assert_eq!(kept.file_name().unwrap(), "server.key.2024-10-04");
        assert_eq!(store.record_of(&new, day).unwrap().inferences, 0);
        // The same day again.
        let again = store.rotate_key(Old::Kept, day).unwrap().kept.unwrap();
        assert_eq!(again.file_name().unwrap(), "server.key.2024-10-04.2");
        #[cfg(unix)]
        check_readers(&File::open(&kept).unwrap(), &kept).unwrap();

        // A key that comes back has its record.
        std::fs::rename(kept, store.key_path()).unwrap();
        assert_eq!(store.server_key().unwrap().bytes(), old.bytes());
        assert_eq!(store.key_record(day).unwrap().unwrap().inferences, 1);
    }

    #[test]
    fn a_key_that_is_wiped_is_nowhere() {
        let (folder, store) = store();
        let old = store.server_key().unwrap();
        let file = File::open(store.key_path()).unwrap();
        assert!(store.rotate_key(Old::Wiped, SystemTime::now()).unwrap().kept.is_none());
        let mut bytes = Vec::new();
        { file }.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, [0; 32]);
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            assert!(!bytes.windows(32).any(|window| window == old.bytes()));
        }
    }

    /// Whatever is wrong with the old key, a rotation mends it.
    #[test]
    fn a_rotation_needs_no_good_key() {
        let (_folder, store) = store();
        assert!(store.rotate_key(Old::Kept, SystemTime::now()).is_err(), "there is none");
        assert!(!store.key_path().exists());
        store.server_key().unwrap();
        std::fs::write(store.key_path(), b"short").unwrap();
        std::fs::write(store.record_path(), b"not a record").unwrap();
        assert!(store.server_key().is_err());
        let rotated = store.rotate_key(Old::Kept, SystemTime::now()).unwrap();
        assert_eq!((rotated.was, std::fs::read(rotated.kept.unwrap()).unwrap()), (None, b"short".to_vec()));
        let key = store.server_key().unwrap();
        store.uses(&key, SystemTime::now()).unwrap().count(SystemTime::now()).unwrap();
    }
}
