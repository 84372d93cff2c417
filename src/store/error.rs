//! What can go wrong with what is kept on disk.

use std::io;
use std::path::{Path, PathBuf};

use super::lifetime::Lifetime;
use crate::randomness::NoRandomness;

/// An error of the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A file that cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The system names no folder for the user.
    #[error("no home folder was found")]
    NoHome(Folder),
    /// What was noted of a server is no digest.
    #[error("{}: not a digest", path.display())]
    Note {
        /// The file.
        path: PathBuf,
        /// Under what [it was noted](crate::client::note_of).
        note: String,
    },
    /// The file of what is known of each key is none.
    #[error("{}: {source}", path.display())]
    Records {
        /// The file.
        path: PathBuf,
        /// Why.
        source: NotRecords,
    },
    /// The file of who is shut out is none.
    #[error("{}: {source}", path.display())]
    Offences {
        /// The file.
        path: PathBuf,
        /// Why.
        source: NotOffences,
    },
    /// The file of who is shut out would be too long, or have a name that is none.
    #[error("{}: it would have more than {most} bytes, or a name that is none", path.display())]
    TooManyOffences {
        /// The file.
        path: PathBuf,
        /// Its most bytes.
        most: u64,
    },
    /// The key of a running server was replaced.
    #[error("{}: it has no record of the key in use, which was replaced", path.display())]
    Replaced {
        /// The file of records.
        path: PathBuf,
    },
    /// The server's key can be read by others than its owner.
    #[error("the key {} can be read by others (mode {mode:o})", path.display())]
    ExposedKey {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The server's key is past its lifetime.
    #[error("the key {} is past its lifetime: {lifetime}", path.display())]
    SpentKey {
        /// The file.
        path: PathBuf,
        /// Which end it came to.
        lifetime: Lifetime,
    },
    /// No key can be drawn.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
}

/// One of the store's two folders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Folder {
    /// What can be had again.
    Cache,
    /// What cannot.
    State,
}

/// Why bytes are not the file of what is known of each key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRecords {
    /// Too long, not the form, or a date that cannot be.
    #[error("not a record of keys")]
    Form,
    /// Of another version.
    #[error("a record of keys of version {found}, this program writes {own}")]
    Version {
        /// The file's.
        found: u32,
        /// This program's.
        own: u32,
    },
}

/// Why bytes are not the file of who is shut out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotOffences {
    /// Too long, not the form, or a date or a name that cannot be.
    #[error("not a record of who is shut out")]
    Form,
    /// Of another version.
    #[error("a record of who is shut out of version {found}, this program writes {own}")]
    Version {
        /// The file's.
        found: u32,
        /// This program's.
        own: u32,
    },
}

impl StoreError {
    /// A file that cannot be read or written.
    pub(super) fn file(path: &Path, source: io::Error) -> Self {
        Self::File { path: path.to_owned(), source }
    }
}
