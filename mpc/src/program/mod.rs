//! Two-party protocols as straight-line programs on bit planes.

mod builder;
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
pub use compile::Program;
pub use cost::{Cost, FrameCost, Tally};
pub use drive::{offline, online};
pub use exec::{OfflineRun, OnlineRun, Prepared, Ready, Step};
pub use gates::{Gate, MAX_BITS, Polynomial};
pub(crate) use graph::Label;
pub use graph::Plane;
pub(crate) use interact::Tap;
pub use time::Time;
