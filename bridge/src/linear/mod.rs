//! A linear layer whose weights one party knows, applied to an encrypted activation.

pub mod budget;
pub mod by_set;
pub mod client;
pub mod keys;
pub mod layer;
mod meetings;
#[cfg(test)]
mod noise_tests;
pub mod packing;
pub mod publish;
pub mod server;
