//! What both parties know of a protocol before it is recorded: sizes, digits, forms of a result. Plain data, its checks, and the
//! error that they end in; nothing here records or runs.

mod checks;
mod clip;
mod error;
mod finish;
pub(crate) mod floats;
mod layout;
mod part;
mod requantise;

pub(crate) use checks::{check_clip, check_parts, check_ring, check_size};
pub use clip::Clip;
pub use error::LayoutError;
pub use finish::{Finish, small_width};
pub use floats::Floats;
pub use layout::{HighBits, Layout, MAX_TABLE};
pub use part::{MAX_DIGIT, Part};
pub use requantise::{MAX_BITS, MAX_ELL, Spec};
