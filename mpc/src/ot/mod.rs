//! Correlated OT in both directions, from nothing but a channel.

mod cots;
#[cfg(test)]
pub(crate) mod ideal;

pub use cots::{Cots, OtCount, ReceivedCots, SentCots};
