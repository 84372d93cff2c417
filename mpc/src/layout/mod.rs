//! Which digits a protocol uses: the search for good ones, with the protocols as their own cost functions.

mod argmax;
mod fixed;
mod patch;
mod pool;
mod search;

pub use crate::spec::{HighBits, Layout, LayoutError, MAX_TABLE};
pub use pool::{PoolLayout, PoolPrograms};
pub use search::{Choice, Search};
pub(crate) use search::{Start, frontier};
