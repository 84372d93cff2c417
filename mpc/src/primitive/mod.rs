//! Blocks, hashes, generators and bit planes. They know neither parties nor channels.

pub mod bits;
pub mod block;
pub mod erasing;
pub(crate) mod field;
pub mod hash;
pub mod prg;
pub(crate) mod vectorise;
#[cfg(target_arch = "x86_64")]
pub(crate) mod wide;
