//! Cheaper networks by choice: what may be changed of a network, what each change does to its answers, and which to take.
//!
//! A choice is an exact operation: what comes out is an integer network like any other, whose private answer is its interpreter's.
//!
//! | module | what |
//! |---|---|
//! | [`narrow`] | activations and weights of fewer bits |
//! | [`crate::declared`] | sums that wrap in narrower rings, roundings by coins |
//! | [`distortion`] | how much each change alone moves the answers, over inputs |
//! | [`skeleton`] | what a selection makes of each node, without its weights |
//! | [`knapsack`] | one choice for each variable, at the least distortion within a budget; costs may depend on several |
//!
//! A new kind of choice is a variant of [`Change`](distortion::Change) and what [`Table::apply`](distortion::Table::apply) makes of it.

pub mod distortion;
pub mod knapsack;
pub mod narrow;
pub mod skeleton;
