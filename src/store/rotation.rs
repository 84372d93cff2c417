//! A key that is replaced by a new one, and what is known of the key at hand.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use zeroize::Zeroizing;

use super::key::{self, Fingerprint, Key};
use super::record::{self, Record};
use super::{Store, StoreError, files};

/// Nothing longer is looked at, in bytes.
const LARGEST: usize = 1 << 10;

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
    /// The record of the key at hand; `None` if there is no key yet. Changes nothing.
    ///
    /// # Errors
    /// As [`server_key`](Self::server_key), and when the record cannot be read.
    pub fn key_record(&self, now: SystemTime) -> Result<Option<Record>, StoreError> {
        let Some(key) = key::read(&self.key_path())? else { return Ok(None) };
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
        files::replace(&path, &key::to_bytes(&key, now)[..], files::Readers::Owner)?;
        if old == Old::Wiped {
            wipe(&mut file).map_err(failed)?;
        }
        let was = key::from_bytes(&bytes).map(|old| Fingerprint::of(&old));
        let record = Record::new(Fingerprint::of(&key), now);
        record::note(&self.record_path(), &record)?;
        Ok(Rotated { was, kept, record })
    }
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
        key::check_readers(&File::open(&kept).unwrap(), &kept).unwrap();

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
        assert_eq!(bytes, [0; 40]);
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            assert!(!bytes.windows(32).any(|window| window == old.bytes()));
        }
    }

    /// A copy of the key without its records, with a date of the copy.
    #[test]
    fn a_copy_is_as_old_as_the_key() {
        let ((_folder, store), (_other, copy)) = (store(), store());
        let now = SystemTime::now();
        store.server_key().unwrap();
        store.rotate_key(Old::Wiped, now - Duration::from_secs(698 * 24 * 60 * 60)).unwrap();
        let key = std::fs::read(store.key_path()).unwrap();
        assert!(files::create(&copy.key_path(), &key).unwrap());
        let record = copy.key_record(now).unwrap().unwrap();
        assert_eq!(record.lifetime(now), super::super::Lifetime::TooOld, "{record:?}");
        assert_eq!(record.created(), store.key_record(now).unwrap().unwrap().created());
        // A server reads the file once: what it says of the key is known with the key.
        let key = copy.server_key().unwrap();
        std::fs::remove_file(copy.key_path()).unwrap();
        let uses = copy.uses(&key, now).unwrap();
        assert_eq!(uses.record().unwrap().created(), record.created(), "and goes on record as such");
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
