//! Randomness of the operating system. It is drawn here and given by nobody: with a seed that others know there is no secret left.

use rand::TryRng;
use rand::rngs::{SysError, SysRng};
use zeroize::Zeroizing;

/// The operating system gives no randomness.
#[derive(Debug, thiserror::Error)]
#[error("no randomness: {0}")]
pub struct NoRandomness(SysError);

/// 32 fresh bytes.
pub(crate) fn seed() -> Result<Zeroizing<[u8; 32]>, NoRandomness> {
    let mut seed = Zeroizing::new([0; 32]);
    SysRng.try_fill_bytes(&mut *seed).map_err(NoRandomness)?;
    Ok(seed)
}
