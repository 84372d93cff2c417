//! How far a server's key is from its end.

use std::fmt;

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
