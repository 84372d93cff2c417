//! A browser has no sockets.

use std::path::Path;
use std::time::Duration;

use super::{Stream, Trust};
use crate::error::{Error, Result};

fn no_sockets<T>() -> Result<T> {
    Err(Error::usage("a browser has no sockets", "open a session over a stream of bytes: `ClientBuilder::over`"))
}

/// Nothing can be reached by its address.
pub(crate) async fn connect_as(
    _address: &str,
    _trust: &Trust,
    _identity: Option<(&Path, &Path)>,
    _timeout: Duration,
) -> Result<Box<dyn Stream>> {
    no_sockets()
}

/// Nothing can be looked up.
pub(crate) async fn is_loopback(_address: &str) -> Result<bool> {
    no_sockets()
}
