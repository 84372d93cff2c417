//! What protocols are recorded from: each takes a builder and shares, and leaves shares. Those with a `program` run alone too.

pub mod carry;
pub mod clamp;
pub mod compare;
pub mod convert;
pub mod extend;
pub(crate) mod floats;
pub mod select;
pub mod widen;
