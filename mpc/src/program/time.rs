//! When a value is known, counted in flights.

use crate::party::Stage;
use serde::{Deserialize, Serialize};

/// The moment at which a party knows a value.
///
/// A message sent at one time arrives at the next of the same stage, so the time of an online value is the
/// number of one-way latencies before it. All messages of a party with one time travel in one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Time {
    /// Known from the correlations alone.
    Prepared,
    /// Known before the inputs are, after this many offline messages.
    Offline(u32),
    /// Known this many flights after the inputs.
    Online(u32),
}

impl Time {
    /// What a party knows at the start of the offline stage.
    pub const OFFLINE: Self = Self::Offline(0);
    /// What a party knows at the start of the online stage.
    pub const START: Self = Self::Online(0);

    /// When a message sent now arrives.
    #[must_use]
    pub fn arrival(self) -> Self {
        match self {
            Self::Prepared => Self::Offline(1),
            Self::Offline(round) => Self::Offline(round + 1),
            Self::Online(flight) => Self::Online(flight + 1),
        }
    }

    /// The stage in which a frame of this time is sent.
    #[must_use]
    pub fn stage(self) -> Stage {
        match self {
            Self::Prepared | Self::Offline(_) => Stage::Offline,
            Self::Online(_) => Stage::Online,
        }
    }

    /// The flights before this time; -1 for everything offline.
    #[must_use]
    pub fn flights(self) -> i64 {
        match self {
            Self::Prepared | Self::Offline(_) => -1,
            Self::Online(flight) => i64::from(flight),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_stay_in_their_stage() {
        assert_eq!(Time::OFFLINE.arrival(), Time::Offline(1));
        assert_eq!(Time::START.arrival(), Time::Online(1));
        assert!(Time::Prepared < Time::OFFLINE && Time::Offline(9) < Time::START);
        assert_eq!(Time::Offline(9).arrival().flights(), -1);
        assert_eq!(Time::Prepared.arrival().stage(), Stage::Offline);
    }
}
