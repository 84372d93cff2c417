//! A certificate that signs itself, as files.

use std::path::{Path, PathBuf};

/// Writes a certificate for `localhost` and its key, `cert.pem` and `key.pem` of a folder; returns where they lie.
pub fn write(folder: &Path) -> [PathBuf; 2] {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    [("cert.pem", made.cert.pem()), ("key.pem", made.signing_key.serialize_pem())].map(|(name, text)| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    })
}
