//! Blocks, hashes, generators and bit planes. They know neither parties nor channels.

pub mod bits;
pub mod block;
pub mod erasing;
pub mod hash;
pub mod prg;
pub(crate) mod vectorise;
