//! How far a server's key is from its end, and dates as files have them.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// The latest date that a record can have, in seconds since 1970: in the year 9000.
pub(super) const LATEST: u64 = 221_845_392_000;

/// How far a key is from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// Far.
    Good,
    /// A tenth of its inferences or a month is left.
    Ending,
    /// Its year is over.
    TooOld,
    /// Its inferences are used up.
    UsedUp,
}

impl fmt::Display for Lifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Good => "good",
            Self::Ending => "ending",
            Self::TooOld => "a year old",
            Self::UsedUp => "2^32 inferences",
        })
    }
}

/// Seconds since 1970.
pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
