//! Small-integer networks: description, reference interpreter, files, data.
pub mod check;
pub mod error;
pub mod interpret;
pub mod network;
pub mod weights;

pub use check::TensorInfo;
pub use error::{InputError, Kind, ModelError, Place, Problem};
pub use interpret::{Tensor, argmax};
pub use network::{Architecture, Input, Node, Op, Range, Shape, TensorId, Term, Window};
pub use weights::{LinearWeights, Network, Weights};
