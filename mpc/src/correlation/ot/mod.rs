//! `sent ^ b Delta = received`: correlated OT in both directions, from nothing but a channel.
//!
//! | file | what |
//! |---|---|
//! | [`base`] | a few random OTs from public-key cryptography |
//! | [`coins`] | public randomness to which both parties committed: matrices, and keys of hashes |
//! | [`softspoken`] | correlated OTs from 128 of these, 15 bits each; `ggm.rs`: its trees, `consistency.rs`: its checks, `transpose.rs`: its columns |
//! | [`silent`] | correlated OTs from earlier ones, 0.75 bits each; `half_tree.rs`: its noise, `lpn.rs`: its matrix |
//! | `setup.rs` | [`coins`], [`base`], then [`softspoken`], in both directions at once |
//! | [`Correlations`] | the pool: batches of [`silent`] on demand; `source.rs`: one direction |
//! | [`Cots`] | OTs that were taken out of the pool, to be spent once |

pub mod base;
pub mod coins;
mod consistency;
mod cots;
mod ggm;
mod half_tree;
#[cfg(test)]
pub(crate) mod ideal;
mod lpn;
mod pool;
pub mod price;
mod setup;
pub mod silent;
pub mod softspoken;
mod source;
mod transpose;

pub(crate) use cots::Run;
pub use cots::{Chooser, Cots, Half, OtCount, ReceivedCots, SentCots};
pub use pool::{Correlations, CotParts, NextIndex};
