//! Two-party protocols as straight-line programs on bit planes.
//!
//! A protocol is recorded once, both roles side by side, and runs over any number of *lanes*: 64 of them per word
//! operation. What a protocol does never depends on a value, so it is constant-time by construction, and its cost is
//! known before it runs.
//!
//! | step | file | what |
//! |---|---|---|
//! | record | `builder.rs` | [`Builder`]: words, halves, shared bits, and when each party knows them ([`Time`]) |
//! | | `words.rs`, `graph.rs` | local arithmetic; the planes and operations that it comes down to |
//! | | `interact.rs`, `gates.rs` | messages, OLE, polynomial OT, chosen OT; the gates' normal forms |
//! | cost | `cost.rs` | [`Tally`] per lane, [`Cost`] for a number of lanes |
//! | compile | `compile.rs`, `code.rs` | [`Program`]: for each party segments of code between frames |
//! | run | `exec.rs`, `drive.rs` | [`PreparedProgram`], [`ReadyProgram`], and the drivers [`offline`] and [`online`] |
//! | | `machine.rs`, `pads.rs` | the machine that runs a segment; pads from the keys of random OTs |
//!
//! All messages of a party with one time travel in one frame: plane after plane, each ceil(lanes / 8) bytes, lane `l`
//! in bit `l % 8` of byte `l / 8`, bits beyond the last lane zero.

mod builder;
mod code;
mod compile;
mod cost;
mod drive;
mod exec;
mod gates;
mod graph;
mod interact;
mod machine;
mod pads;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod time;
mod words;

pub use builder::{Bit, Builder, Half, Port, Share, Word};
pub use code::Program;
pub use cost::{Cost, FrameCost, Tally};
pub use drive::{offline, online};
pub use exec::{OfflineRun, OnlineRun, PreparedProgram, ReadyProgram, Turn};
pub use gates::{Gate, MAX_BITS, Polynomial};
pub(crate) use graph::Label;
pub use graph::Plane;
pub(crate) use interact::Tap;
pub use time::Time;
