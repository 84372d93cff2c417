//! What is kept on disk: published models by digest, the digest first seen at each address, the server's own key.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rand::CryptoRng;
use zeroize::Zeroizing;

use crate::error::Error;

/// SHA-256 of a published model's public bytes.
pub type Digest = [u8; 32];

/// A folder of the user's, made on first use.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// The folder given, or the user's cache folder for `lowkey`.
    ///
    /// # Errors
    /// When no folder is given and the system names none for the user.
    pub fn open(folder: Option<PathBuf>) -> Result<Self, Error> {
        let folder = match folder {
            Some(folder) => folder,
            None => directories::ProjectDirs::from("", "", "lowkey")
                .ok_or_else(|| Error::usage("no home folder was found", "name a folder with --cache"))?
                .cache_dir()
                .to_owned(),
        };
        Ok(Self { folder })
    }

    /// The bytes of a published model, if they are here. The caller checks them against the digest.
    pub fn model(&self, digest: &Digest) -> Option<Vec<u8>> {
        fs::read(self.model_path(digest)).ok()
    }

    /// Keeps the bytes of a published model.
    pub fn keep_model(&self, digest: &Digest, bytes: &[u8]) -> Result<(), Error> {
        write_whole(&self.model_path(digest), bytes, false)
    }

    fn model_path(&self, digest: &Digest) -> PathBuf {
        self.folder.join("models").join(hex::encode(digest))
    }

    /// The digest first seen at `address`.
    pub fn known(&self, address: &str) -> Result<Option<Digest>, Error> {
        let path = self.known_path(address);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::file(&path, error)),
        };
        let mut digest = Digest::default();
        hex::decode_to_slice(text.trim(), &mut digest)
            .map_err(|_| Error::file(&path, io::Error::other("not a digest; remove the file to accept any model")))?;
        Ok(Some(digest))
    }

    /// Notes the digest seen at `address`.
    pub fn remember(&self, address: &str, digest: &Digest) -> Result<(), Error> {
        write_whole(&self.known_path(address), hex::encode(digest).as_bytes(), false)
    }

    /// Where the digest first seen at `address` is kept.
    pub fn known_path(&self, address: &str) -> PathBuf {
        let name: String =
            address.chars().map(|c| if c.is_ascii_alphanumeric() || ".-".contains(c) { c } else { '_' }).collect();
        self.folder.join("servers").join(name)
    }

    /// The key from which a server derives the randomness of its publications, so that a restart publishes the same bytes.
    /// Made from `rng` on first use; readable by its owner only.
    pub fn server_key(&self, rng: &mut impl CryptoRng) -> Result<Zeroizing<[u8; 32]>, Error> {
        let path = self.folder.join("server.key");
        let mut key = Zeroizing::new([0; 32]);
        match fs::read(&path).map(Zeroizing::new) {
            Ok(bytes) if bytes.len() == key.len() => key.copy_from_slice(&bytes),
            Ok(_) => return Err(Error::file(&path, io::Error::other("not a key of 32 bytes"))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                rng.fill_bytes(&mut *key);
                write_whole(&path, &*key, true)?;
            }
            Err(error) => return Err(Error::file(&path, error)),
        }
        Ok(key)
    }
}

/// Writes beside the target and renames, so that no reader ever sees half a file. Sessions of one process may write the same
/// file at once.
fn write_whole(path: &Path, bytes: &[u8], private: bool) -> Result<(), Error> {
    static WRITES: AtomicU64 = AtomicU64::new(0);
    let parent = path.parent().expect("the store's files lie in its folder");
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}-{}.part", std::process::id(), WRITES.fetch_add(1, Ordering::Relaxed)));
    let beside = PathBuf::from(beside);
    let attempt = || -> io::Result<()> {
        fs::create_dir_all(parent)?;
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        if private {
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        }
        let mut file = options.open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    let _ = private;
    attempt().map_err(|error| {
        // What is left of it is of no use; the error that matters is the first.
        let _ = fs::remove_file(&beside);
        Error::file(path, error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::SeedableRng;

    #[test]
    fn what_is_kept_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(Some(folder.path().into())).unwrap();
        assert_eq!(store.model(&[1; 32]), None);
        store.keep_model(&[1; 32], b"bytes").unwrap();
        assert_eq!(store.model(&[1; 32]).unwrap(), b"bytes");
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
                        store.remember(&format!("127.0.0.1:{address}"), &digest(address)).unwrap();
                        assert_eq!(store.known(&format!("127.0.0.1:{address}")).unwrap(), Some(digest(address)));
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
        let mut rng = ChaCha20Rng::from_seed([7; 32]);
        let key = store.server_key(&mut rng).unwrap();
        assert_eq!(*store.server_key(&mut rng).unwrap(), *key);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(folder.path().join("server.key")).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        fs::write(folder.path().join("server.key"), b"short").unwrap();
        assert!(store.server_key(&mut rng).is_err());
    }

    #[test]
    fn a_damaged_note_of_a_digest_is_an_error_and_not_a_first_use() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(Some(folder.path().into())).unwrap();
        store.remember("host:1", &[2; 32]).unwrap();
        fs::write(store.known_path("host:1"), "zz").unwrap();
        assert!(store.known("host:1").is_err());
    }
}
