//! What the bytes and the time of a frame are counted under: the name of its node, or one of these.

/// What belongs to no layer.
pub(crate) const KEYS: &str = "keys";
/// OT extension.
pub(crate) const OT: &str = "ot extension";
/// Triples of the guarded mode.
pub(crate) const TRIPLES: &str = "triples";
/// The input.
pub(crate) const INPUT: &str = "input";
/// The output.
pub(crate) const OUTPUT: &str = "output";
/// Requests and their answers.
pub(crate) const CONTROL: &str = "control";
