//! Two-party computation from silent oblivious transfer, for small integers.

pub mod block;
pub mod channel;
pub mod error;
pub mod hash;
pub mod ot;
pub mod party;
pub mod wire;
