//! A store of its own for a test.

use super::Store;

/// With its folder, which goes with it.
pub(super) fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(Some(folder.path().into())).unwrap();
    (folder, store)
}
