//! What two parties hold in common before they compute, is spent once, and says nothing of their inputs.

pub mod demand;
pub mod ot;
