//! Files that end.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Opens a regular file to read it. Opening a pipe would wait for somebody who writes to it, and a device may never end.
///
/// # Errors
/// The operating system's; [`io::ErrorKind::IsADirectory`], and [`io::ErrorKind::InvalidInput`] for a pipe, a device or a socket.
pub fn open(path: impl AsRef<Path>) -> io::Result<File> {
    let path = path.as_ref();
    let about = fs::metadata(path)?;
    if about.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !about.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    File::open(path)
}
