//! Small-integer networks: description, reference interpreter, files, data.
pub mod bounds;
pub mod check;
pub mod error;
mod fast;
pub mod file;
pub mod fold;
pub mod interpret;
pub mod json;
pub mod network;
#[cfg(feature = "random")]
pub mod random;
pub mod weights;

pub use bounds::LinearBounds;
pub use check::TensorInfo;
pub use error::{InputError, Kind, ModelError, Place, Problem};
pub use file::{FileError, FileProblem};
pub use interpret::{Tensor, argmax};
pub use json::JsonError;
pub use network::{Architecture, Input, Node, Op, Range, Shape, TensorId, Term, Window};
pub use weights::{LinearWeights, Network, Weights};
