//! Two-party computation from silent oblivious transfer, for small integers.

pub mod bits;
pub mod block;
pub mod carry;
pub mod channel;
pub mod convert;
pub mod error;
pub mod extend;
pub mod hash;
pub mod layout;
pub mod ot;
pub mod party;
pub mod prg;
pub mod program;
pub mod requantise;
pub mod select;
mod vectorise;
pub mod wire;
