//! From bytes to frames of a stage, and control messages within them.

pub mod channel;
pub mod runtime;
pub mod wire;
