//! How many samples each party has, and whose the batch of a step is: public, and the same for both.
//!
//! A batch is of one owner. With B_c and B_s batches in an epoch and B = B_c + B_s, step i of it is
//!
//! ```text
//! of the client, its batch floor(i B_c / B),         where floor((i + 1) B_c / B) > floor(i B_c / B)
//! of the server, its batch i - floor(i B_c / B),     else
//! ```
//!
//! so the two kinds lie evenly between one another.

use std::fmt;

use lowkey_mpc::party::Party;
use serde::{Deserialize, Serialize};

use super::format::BATCH;

/// How many samples each party has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// The data owner.
    pub client: u64,
    /// The model owner.
    pub server: u64,
}

/// Whose a batch is, and which of that party's batches of the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) owner: Party,
    pub(super) batch: u64,
}

impl Counts {
    /// Of one party.
    pub fn of(self, party: Party) -> u64 {
        match party {
            Party::Client => self.client,
            Party::Server => self.server,
        }
    }

    /// Of both.
    pub fn total(self) -> u64 {
        self.client + self.server
    }

    /// Batches of an epoch, of each party's samples. What does not fill one waits for another epoch, which has another order; of an
    /// evaluation the last one of each party is filled up.
    pub fn batches(self, evaluates: bool) -> Self {
        let batches = |samples: u64| match evaluates {
            true => samples.div_ceil(BATCH as u64),
            false => samples / BATCH as u64,
        };
        Self { client: batches(self.client), server: batches(self.server) }
    }

    /// Of an epoch of so many batches, those of step `step`.
    ///
    /// # Panics
    /// If there is no batch.
    pub(super) fn place(self, step: u64) -> Place {
        let before = |steps: u64| (u128::from(steps) * u128::from(self.client) / u128::from(self.total())) as u64;
        let batch = before(step);
        match before(step + 1) > batch {
            true => Place { owner: Party::Client, batch },
            false => Place { owner: Party::Server, batch: step - batch },
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.server {
            0 => write!(f, "{} samples", self.client),
            server => write!(f, "{} samples ({server} the server's)", self.total()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every batch of either party once in an epoch, in its order, and as evenly as can be: after any number of steps each party has had its
    /// part of them up to one.
    #[test]
    fn batches_of_both_lie_evenly() {
        for (client, server) in [(1, 0), (0, 1), (5, 0), (1, 1), (3, 2), (2, 7), (234, 234), (468, 1), (1, 30)] {
            let counts = Counts { client, server };
            let (mut seen, total) = (Counts::default(), counts.total());
            for step in 0..total {
                let Place { owner, batch } = counts.place(step);
                assert_eq!(batch, seen.of(owner), "step {step} of {counts:?}");
                match owner {
                    Party::Client => seen.client += 1,
                    Party::Server => seen.server += 1,
                }
                assert!((seen.client * total).abs_diff((step + 1) * client) < total, "step {step} of {counts:?}");
            }
            assert_eq!(seen, counts);
        }
    }

    #[test]
    fn batches_are_full_but_of_evaluations() {
        let counts = Counts { client: 300, server: 127 };
        assert_eq!(counts.batches(false), Counts { client: 2, server: 0 });
        assert_eq!(counts.batches(true), Counts { client: 3, server: 1 });
        assert_eq!((counts.total(), counts.of(Party::Server)), (427, 127));
        assert_eq!(counts.to_string(), "427 samples (127 the server's)");
        assert_eq!(Counts { client: 300, server: 0 }.to_string(), "300 samples");
    }
}
