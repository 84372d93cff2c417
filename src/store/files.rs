//! Files that are whole or absent, whoever else writes them and whatever stops half way.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::SystemTime;

use tempfile::NamedTempFile;
use zeroize::Zeroizing;

use super::StoreError;

/// Who may read a file that is made here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readers {
    /// Its owner.
    Owner,
    /// Whoever the user's umask lets.
    Anyone,
}

impl Readers {
    fn mode(self) -> u32 {
        match self {
            Self::Owner => 0o600,
            Self::Anyone => 0o666,
        }
    }
}

/// Opens a file to read it; `None` if there is none. What is no regular file is refused: a pipe would be waited for.
pub(crate) fn open(path: &Path) -> io::Result<Option<File>> {
    let opened = lowkey_models::regular::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput => io::Error::other(format!("{error}; remove it")),
        _ => error,
    });
    found(opened)
}

/// `None` where there is no such file.
fn found<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        outcome => outcome.map(Some),
    }
}

/// Reads a file of at most `most` bytes; `None` if there is none.
pub(crate) fn read(path: &Path, most: u64) -> io::Result<Option<Vec<u8>>> {
    let bytes = head(path, most + 1)?;
    match &bytes {
        Some(bytes) if bytes.len() as u64 > most => Err(io::Error::other(format!("more than {most} bytes; remove it"))),
        _ => Ok(bytes),
    }
}

/// The first bytes of a file, `most` or fewer; `None` if there is none.
pub(crate) fn head(path: &Path, most: u64) -> io::Result<Option<Vec<u8>>> {
    let Some(file) = open(path)? else { return Ok(None) };
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Puts `bytes` at `path`, in place of what was there.
pub(crate) fn replace(path: &Path, bytes: &[u8], readers: Readers) -> Result<(), StoreError> {
    let put = || -> io::Result<()> {
        stage(path, bytes, readers.mode(), None)?.persist(path)?;
        settle(path);
        Ok(())
    };
    put().map_err(|error| StoreError::file(path, error))
}

/// Whether something can be put at `path`, an absolute one, as [`replace`] does.
pub(crate) fn check_target(path: &Path) -> Result<(), StoreError> {
    let put = || match path.is_dir() || path.file_name().is_none() {
        true => Err(io::Error::from(io::ErrorKind::IsADirectory)),
        false => stage(path, &[], Readers::Owner.mode(), None).map(drop),
    };
    put().map_err(|error| StoreError::file(path, error))
}

/// Puts `bytes` at `path` if nothing is there; for its owner's eyes. Of several that try at once, in whatever processes, exactly
/// one is told true; by then the file is whole and on the disk.
pub(crate) fn create(path: &Path, bytes: &[u8]) -> Result<bool, StoreError> {
    let put = || {
        let staged = stage(path, bytes, Readers::Owner.mode(), None)?;
        link(staged, path)
    };
    put().map_err(|error| StoreError::file(path, error))
}

/// Moves a file to a place where nothing is, across file systems too, with its mode and date. False if there was nothing to
/// move, or something at the other place.
pub(crate) fn adopt(from: &Path, to: &Path) -> Result<bool, StoreError> {
    let Some(mut file) = open(from).map_err(|error| StoreError::file(from, error))? else { return Ok(false) };
    let mut bytes = Zeroizing::new(Vec::new());
    let about = file.metadata().map_err(|error| StoreError::file(from, error))?;
    file.read_to_end(&mut bytes).map_err(|error| StoreError::file(from, error))?;
    let put = || link(stage(to, &bytes, mode_of(&about), about.modified().ok())?, to);
    let moved = put().map_err(|error| StoreError::file(to, error))?;
    if moved {
        match fs::remove_file(from) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(StoreError::file(from, error)),
            _ => settle(from),
        }
    }
    Ok(moved)
}

/// A lock that one process holds at a time, until the file is dropped.
pub(crate) fn lock(path: &Path) -> Result<File, StoreError> {
    let take = || -> io::Result<File> {
        make_folder(path, Readers::Owner.mode())?;
        let mut options = File::options();
        options.write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, Readers::Owner.mode());
        let file = options.open(path)?;
        file.lock()?;
        Ok(file)
    };
    take().map_err(|error| StoreError::file(path, error))
}

/// Writes and syncs beside `path`; what is not put in its place is removed when it is dropped.
fn stage(path: &Path, bytes: &[u8], mode: u32, modified: Option<SystemTime>) -> io::Result<NamedTempFile> {
    let parent = make_folder(path, mode)?;
    let mut builder = tempfile::Builder::new();
    let name = path.file_name().unwrap_or_default().to_string_lossy() + ".";
    builder.prefix(&*name).suffix(".part");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(mode));
    let _ = mode;
    let mut staged = builder.tempfile_in(parent)?;
    staged.write_all(bytes)?;
    if let Some(modified) = modified {
        staged.as_file().set_modified(modified)?;
    }
    staged.as_file().sync_all()?;
    Ok(staged)
}

/// Gives a staged file its name unless that is taken.
fn link(staged: NamedTempFile, path: &Path) -> io::Result<bool> {
    match staged.persist_noclobber(path) {
        Ok(_) => {
            settle(path);
            Ok(true)
        }
        Err(failed) if failed.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(failed) => Err(failed.error),
    }
}

/// Makes the folder of a file, open to whoever may read the file; returns it.
fn make_folder(path: &Path, mode: u32) -> io::Result<&Path> {
    let parent = path.parent().expect("the store's files lie in its folders");
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, mode | (mode & 0o444) >> 2);
    let _ = mode;
    builder.recursive(true).create(parent)?;
    Ok(parent)
}

/// Syncs the folder of a file, so that its name outlives a loss of power. Some file systems cannot; the file is whole there too.
fn settle(path: &Path) {
    if let Some(folder) = path.parent().and_then(|parent| File::open(parent).ok()) {
        let _ = folder.sync_all();
    }
}

#[cfg(unix)]
fn mode_of(about: &fs::Metadata) -> u32 {
    std::os::unix::fs::PermissionsExt::mode(&about.permissions()) & 0o777
}

#[cfg(not(unix))]
fn mode_of(_: &fs::Metadata) -> u32 {
    Readers::Owner.mode()
}
