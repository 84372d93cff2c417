//! Digests noted: the model first seen at an address is the only one accepted there until the user says otherwise.
//!
//! A loopback address stands for whatever this machine runs there at the moment, one model today and another tomorrow, and nobody
//! else can answer in its place: nothing is noted for it, and what an earlier version noted counts no more.

use std::fs;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::PathBuf;

use super::{Digest, Store, StoreError, files};

/// Longest note, in bytes.
const LINE: u64 = 1 << 10;

impl Store {
    /// The digest first seen at `address` (host:port); none on loopback.
    ///
    /// # Errors
    /// When the note cannot be read.
    pub fn known(&self, address: &str) -> Result<Option<Digest>, StoreError> {
        if is_loopback(address) {
            return Ok(None);
        }
        let path = self.known_path(address);
        // What is longer than a line is no digest, however it goes on.
        let mut text = Vec::new();
        match files::open(&path) {
            Ok(None) => return Ok(None),
            Ok(Some(file)) => file.take(LINE).read_to_end(&mut text).map_err(|error| StoreError::file(&path, error))?,
            Err(error) => return Err(StoreError::file(&path, error)),
        };
        let mut digest = Digest::default();
        match hex::decode_to_slice(text.trim_ascii(), &mut digest) {
            Ok(()) => Ok(Some(digest)),
            Err(_) => Err(StoreError::Note { path, note: address.to_owned() }),
        }
    }

    /// Notes the digest seen at `address`; not on loopback.
    ///
    /// # Errors
    /// When the note cannot be written.
    pub fn remember(&self, address: &str, digest: &Digest) -> Result<(), StoreError> {
        if is_loopback(address) {
            return Ok(());
        }
        files::replace(&self.known_path(address), hex::encode(digest).as_bytes(), files::Readers::Anyone)
    }

    /// Forgets what was noted for `address`, readable or not. False if nothing was.
    ///
    /// # Errors
    /// When the note is there and cannot be removed.
    pub fn forget(&self, address: &str) -> Result<bool, StoreError> {
        let path = self.known_path(address);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(StoreError::file(&path, error)),
        }
    }

    /// Where the digest first seen at `address` is kept. A model of a server that has several has a note of its own, `NAME@` before the
    /// address.
    pub fn known_path(&self, address: &str) -> PathBuf {
        let plain = |c: char, more: &str| if c.is_ascii_alphanumeric() || more.contains(c) { c } else { '_' };
        let name: String = match address.split_once('@') {
            // '_' and '+' are of the names of models.
            Some((model, address)) => {
                let [model, address]: [String; 2] = [(model, "._-+"), (address, ".-")]
                    .map(|(part, more)| part.chars().map(|c| plain(c, more)).collect());
                format!("{model}@{address}")
            }
            None => address.chars().map(|c| plain(c, ".-")).collect(),
        };
        self.state.join("servers").join(name)
    }
}

/// True if the host of `address` (host:port) is this machine by its name: nobody is asked what other names stand for.
fn is_loopback(address: &str) -> bool {
    let address = address.split_once('@').map_or(address, |(_, address)| address);
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_model_of_a_server_has_a_note() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(Some(folder.path().into())).unwrap();
        let notes = ["host:1", "a@host:1", "a_b@host:1", "a+b@host:1", "a.b@host:1", "a@host:2"];
        for (number, note) in notes.iter().enumerate() {
            assert_eq!(store.known(note).unwrap(), None, "{note}");
            store.remember(note, &[number as u8; 32]).unwrap();
        }
        for (number, note) in notes.iter().enumerate() {
            assert_eq!(store.known(note).unwrap(), Some([number as u8; 32]), "{note}");
        }
    }

    #[test]
    fn nothing_is_noted_on_loopback() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(Some(folder.path().into())).unwrap();
        for address in
            ["127.0.0.1:7117", "digits@127.0.0.1:7117", "127.9.9.9:1", "[::1]:7117", "localhost:7117", "LOCALHOST:1"]
        {
            store.remember(address, &[1; 32]).unwrap();
            assert!(!store.known_path(address).exists(), "{address}");
            // What an earlier version noted.
            files::replace(&store.known_path(address), b"aa", files::Readers::Anyone).unwrap();
            assert_eq!(store.known(address).unwrap(), None, "{address}");
            assert!(store.forget(address).unwrap() && !store.forget(address).unwrap());
        }
        for address in
            ["192.0.2.1:7117", "0.0.0.0:1", "[2001:db8::1]:1", "localhost.example:1", "here", "a_b@192.0.2.1:1"]
        {
            store.remember(address, &[1; 32]).unwrap();
            assert_eq!(store.known(address).unwrap(), Some([1; 32]), "{address}");
            assert!(store.forget(address).unwrap());
            assert_eq!(store.known(address).unwrap(), None, "{address}");
        }
    }
}
