//! Randomness of the operating system. It is drawn here and given by nobody: with a seed that others know there is no secret left.

use rand::TryRng;
use rand::rngs::SysRng;
use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// 32 fresh bytes.
pub(crate) fn seed() -> Result<Zeroizing<[u8; 32]>> {
    let mut seed = Zeroizing::new([0; 32]);
    SysRng.try_fill_bytes(&mut *seed).map_err(|error| Error::internal(format!("no randomness: {error}")))?;
    Ok(seed)
}
