//! What is kept on disk: in the cache published models by digest; in the state folder the digest first seen at each address, the
//! server's own key, how much it was used, and who is shut out.
//!
//! What lies in the cache can be had again; what lies in the state folder cannot.

mod error;
pub(crate) mod files;
mod key;
mod lifetime;
mod notes;
mod offences;
mod record;
mod rotation;
#[cfg(test)]
mod testing;

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use error::{Folder, NotOffences, NotRecords, StoreError};
pub use key::{Fingerprint, Key};
pub use lifetime::Lifetime;
pub use offences::{Offence, Offences, Shut, SlotPart, Standing};
pub use record::{LONGEST_USE, MOST_INFERENCES, Record, Records, Uses};
pub use rotation::{Old, Rotated};

/// SHA-256 of a published model's public bytes.
pub type Digest = [u8; 32];

/// Puts a file in place of what was there: whenever one looks, one of the two is there, whole.
///
/// # Errors
/// When it cannot be written; then what was there still is.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let path = std::path::absolute(path).map_err(|error| StoreError::file(path, error))?;
    files::replace(&path, bytes, files::Readers::Anyone)
}

/// Two folders of the user's, made on first use.
#[derive(Clone, Debug)]
pub struct Store {
    cache: PathBuf,
    state: PathBuf,
    moved: Vec<Moved>,
}

/// Something that an earlier version kept in the cache and that now lies in the state folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Where it was.
    pub from: PathBuf,
    /// Where it is.
    pub to: PathBuf,
}

impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "moved {} to {}", self.from.display(), self.to.display())
    }
}

impl Store {
    /// One folder for everything; without one, the user's cache and state folders for `lowkey`. As [`open_at`](Self::open_at).
    ///
    /// # Errors
    /// As [`open_at`](Self::open_at).
    pub fn open(folder: Option<PathBuf>) -> Result<Self, StoreError> {
        Self::open_at(folder, None)
    }

    /// Folders for what can be had again and for what cannot.
    ///
    /// | cache | state | state lies in |
    /// |---|---|---|
    /// | none | none | the user's state folder: `$XDG_STATE_HOME/lowkey` on Linux, the local data folder elsewhere |
    /// | given | none | the cache given: one folder for everything |
    /// | any | given | the state folder given |
    ///
    /// State that an earlier version left in the cache is moved, so that digests stay: where both folders are the user's own, or both
    /// are given. A state folder that is given alone takes nothing from the user's own cache.
    ///
    /// # Errors
    /// When a folder is needed and the system names none for the user, or state cannot be moved.
    pub fn open_at(cache: Option<PathBuf>, state: Option<PathBuf>) -> Result<Self, StoreError> {
        let moves = cache.is_some() == state.is_some();
        let state = match (&cache, state) {
            (_, Some(state)) => state,
            (Some(cache), None) => cache.clone(),
            (None, None) => {
                let folders = folders(Folder::State)?;
                folders.state_dir().unwrap_or_else(|| folders.data_local_dir()).to_owned()
            }
        };
        let cache = match cache {
            Some(cache) => cache,
            None => folders(Folder::Cache)?.cache_dir().to_owned(),
        };
        let mut store = Self { cache, state, moved: Vec::new() };
        if moves && store.cache != store.state {
            store.moved = store.take_over()?;
        }
        Ok(store)
    }

    /// What opening moved.
    pub fn moved(&self) -> &[Moved] {
        &self.moved
    }

    /// A key in the cache, where earlier versions kept it, that is not used because it was not moved.
    pub fn stray_key(&self) -> Option<PathBuf> {
        let stray = self.cache.join("server.key");
        (self.cache != self.state && stray.exists()).then_some(stray)
    }

    /// Moves what lies in the cache and belongs in the state folder. What the latter has already stays as it is.
    fn take_over(&self) -> Result<Vec<Moved>, StoreError> {
        let mut moved = Vec::new();
        let key = self.cache.join("server.key");
        if files::adopt(&key, &self.key_path())? {
            moved.push(Moved { from: key, to: self.key_path() });
        }
        let (from, to) = (self.cache.join("servers"), self.state.join("servers"));
        let notes = match fs::read_dir(&from) {
            Ok(notes) => notes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(moved),
            Err(error) => return Err(StoreError::file(&from, error)),
        };
        let mut any = false;
        for note in notes {
            let name = note.map_err(|error| StoreError::file(&from, error))?.file_name();
            if Path::new(&name).extension().is_none_or(|extension| extension != "part") {
                any |= files::adopt(&from.join(&name), &to.join(&name))?;
            }
        }
        if any {
            // It stays if anything is left in it.
            let _ = fs::remove_dir(&from);
            moved.push(Moved { from, to });
        }
        Ok(moved)
    }

    /// The `length` bytes of a published model, if they are here; a file of another length is not looked at. The caller checks them
    /// against the digest.
    pub fn model(&self, digest: &Digest, length: u64) -> Option<Vec<u8>> {
        let path = self.model_path(digest);
        let whole = fs::metadata(&path).is_ok_and(|about| about.len() == length);
        whole.then(|| files::read(&path, length).ok().flatten()).flatten()
    }

    /// Keeps the bytes of a published model.
    pub fn keep_model(&self, digest: &Digest, bytes: &[u8]) -> Result<(), StoreError> {
        files::replace(&self.model_path(digest), bytes, files::Readers::Anyone)
    }

    fn model_path(&self, digest: &Digest) -> PathBuf {
        self.cache.join("models").join(hex::encode(digest))
    }
}

fn folders(wanted: Folder) -> Result<directories::ProjectDirs, StoreError> {
    directories::ProjectDirs::from("", "", "lowkey").ok_or(StoreError::NoHome(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(Some(folder.path().into())).unwrap();
        assert_eq!(store.model(&[1; 32], 5), None);
        store.keep_model(&[1; 32], b"bytes").unwrap();
        assert_eq!(store.model(&[1; 32], 5).unwrap(), b"bytes");
        assert_eq!((store.model(&[1; 32], 4), store.model(&[1; 32], 6)), (None, None), "of another length");
        assert_eq!(store.known("host:1").unwrap(), None);
        store.remember("host:1", &[2; 32]).unwrap();
        assert_eq!(store.known("host:1").unwrap(), Some([2; 32]));
        assert_eq!(store.known("host:2").unwrap(), None);
    }

    /// Addresses that differ after the last dot, and several sessions of one process.
    #[test]
    fn writes_at_the_same_time_do_not_meet() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(Some(folder.path().into())).unwrap();
        let digest = |address: u8| [address; 32];
        std::thread::scope(|scope| {
            for thread in 0..8u8 {
                let store = &store;
                scope.spawn(move || {
                    for _ in 0..20 {
                        let address = thread % 4;
                        store.remember(&format!("192.0.2.1:{address}"), &digest(address)).unwrap();
                        assert_eq!(store.known(&format!("192.0.2.1:{address}")).unwrap(), Some(digest(address)));
                    }
                });
            }
        });
        let files = fs::read_dir(folder.path().join("servers")).unwrap();
        assert_eq!(files.count(), 4, "nothing is left beside the four notes");
    }

    #[test]
    fn the_server_key_is_made_once_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(Some(folder.path().into())).unwrap();
        let key = store.server_key().unwrap();
        assert_eq!(store.server_key().unwrap().bytes(), key.bytes());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(folder.path().join("server.key")).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        fs::write(folder.path().join("server.key"), b"short").unwrap();
        assert!(store.server_key().is_err());
    }

    /// As a server that was stopped within its first write leaves it, and as several at once make it.
    #[test]
    fn servers_that_start_at_once_have_one_key() {
        const SERVERS: usize = 8;
        for round in 0..20 {
            let folder = tempfile::tempdir().unwrap();
            let start = std::sync::Barrier::new(SERVERS);
            let keys: Vec<_> = std::thread::scope(|scope| {
                let server = |_| {
                    let (folder, start) = (folder.path().join("state"), &start);
                    scope.spawn(move || {
                        let store = Store::open(Some(folder)).unwrap();
                        start.wait();
                        store.server_key().unwrap()
                    })
                };
                let servers: Vec<_> = (0..SERVERS).map(server).collect();
                servers.into_iter().map(|server| server.join().unwrap()).collect()
            });
            assert!(keys.iter().all(|key| key.bytes() == keys[0].bytes()), "round {round}: different keys");
            let files: Vec<_> = fs::read_dir(folder.path().join("state")).unwrap().collect();
            assert_eq!(files.len(), 1, "round {round}: nothing is left beside the key: {files:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_key_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(Some(folder.path().into())).unwrap();
        let key = store.server_key().unwrap();
        for mode in [0o604, 0o640, 0o644, 0o660, 0o602, 0o610] {
            fs::set_permissions(store.key_path(), PermissionsExt::from_mode(mode)).unwrap();
            let refused = store.server_key();
            assert!(matches!(refused, Err(StoreError::ExposedKey { mode: found, .. }) if found == mode), "{mode:o}");
        }
        for mode in [0o600, 0o400] {
            fs::set_permissions(store.key_path(), PermissionsExt::from_mode(mode)).unwrap();
            assert_eq!(store.server_key().unwrap().bytes(), key.bytes(), "{mode:o}");
        }
    }

    /// What a version that knew one folder has left in the cache.
    #[test]
    fn state_in_the_cache_is_moved_once() {
        let folder = tempfile::tempdir().unwrap();
        let [cache, state] = ["cache", "state"].map(|name| folder.path().join(name));
        let old = Store::open(Some(cache.clone())).unwrap();
        let key = old.server_key().unwrap();
        let made = std::time::SystemTime::now() - std::time::Duration::from_secs(100 * 24 * 60 * 60);
        fs::File::options().write(true).open(old.key_path()).unwrap().set_modified(made).unwrap();
        old.remember("host:1", &[1; 32]).unwrap();
        old.remember("host:2", &[2; 32]).unwrap();
        old.keep_model(&[3; 32], b"bytes").unwrap();

        assert_eq!(old.moved(), [], "one folder for everything has nothing to move");
        let store = Store::open_at(Some(cache.clone()), Some(state.clone())).unwrap();
        let names: Vec<_> = store.moved().iter().map(|moved| moved.to.file_name().unwrap().to_owned()).collect();
        assert_eq!(names, ["server.key", "servers"]);
        assert_eq!(store.server_key().unwrap().bytes(), key.bytes());
        assert_eq!(store.known("host:1").unwrap(), Some([1; 32]));
        assert_eq!(store.known("host:2").unwrap(), Some([2; 32]));
        assert_eq!(store.model(&[3; 32], 5).unwrap(), b"bytes");
        assert!(!cache.join("server.key").exists() && !cache.join("servers").exists());
        assert_eq!(fs::metadata(store.key_path()).unwrap().modified().unwrap(), made, "it is no younger");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(store.key_path()).unwrap().permissions().mode() & 0o777, 0o600);
        }

        // Only once; what the state folder has stays, and the other key is named.
        let other = Store::open(Some(cache.clone())).unwrap();
        other.server_key().unwrap();
        other.remember("host:1", &[9; 32]).unwrap();
        let store = Store::open_at(Some(cache.clone()), Some(state.clone())).unwrap();
        assert_eq!(store.moved(), []);
        assert_eq!(store.server_key().unwrap().bytes(), key.bytes());
        assert_eq!(store.known("host:1").unwrap(), Some([1; 32]));
        assert_eq!(store.stray_key(), Some(cache.join("server.key")));
    }

    /// Moving does not hide that others could read it.
    #[cfg(unix)]
    #[test]
    fn a_key_that_others_can_read_is_moved_and_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let [cache, state] = ["cache", "state"].map(|name| folder.path().join(name));
        let old = Store::open(Some(cache.clone())).unwrap();
        old.server_key().unwrap();
        fs::set_permissions(old.key_path(), PermissionsExt::from_mode(0o644)).unwrap();
        let store = Store::open_at(Some(cache), Some(state)).unwrap();
        assert_eq!(store.moved().len(), 1);
        assert!(matches!(store.server_key(), Err(StoreError::ExposedKey { mode: 0o644, .. })));
    }

    #[test]
    fn several_move_at_once() {
        for _ in 0..20 {
            let folder = tempfile::tempdir().unwrap();
            let [cache, state] = ["cache", "state"].map(|name| folder.path().join(name));
            let old = Store::open(Some(cache.clone())).unwrap();
            let key = old.server_key().unwrap();
            old.remember("host:1", &[1; 32]).unwrap();
            let start = std::sync::Barrier::new(4);
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    let (cache, state, start, key) = (cache.clone(), state.clone(), &start, &key);
                    scope.spawn(move || {
                        start.wait();
                        let store = Store::open_at(Some(cache), Some(state)).unwrap();
                        assert_eq!(store.server_key().unwrap().bytes(), key.bytes());
                        assert_eq!(store.known("host:1").unwrap(), Some([1; 32]));
                    });
                }
            });
        }
    }

    #[test]
    fn a_damaged_note_of_a_digest_is_an_error_and_not_a_first_use() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(Some(folder.path().into())).unwrap();
        store.remember("host:1", &[2; 32]).unwrap();
        for damaged in ["", "zz", &"0".repeat(1 << 20)] {
            fs::write(store.known_path("host:1"), damaged).unwrap();
            let error = store.known("host:1").unwrap_err();
            assert!(matches!(&error, StoreError::Note { note, .. } if note == "host:1"), "{error}");
        }
    }
}
