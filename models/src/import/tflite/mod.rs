//! TFLite files with 8-bit integers, as LiteRT runs them.
//!
//! | module | what |
//! |---|---|
//! | `flatbuffer` | tables, vectors and strings within bounds |
//! | `names` | the names of all builtin operators |
//! | `obstacles` | everything that stops a file |
//! | `operators` | what becomes of each operator |
//! | `model` | tensors, operators and options of a file |
//! | `round` | the two roundings of the runtime |
//! | `ends` | where the network starts and ends in the graph |
//! | `inputs` | the network's input and output |
//! | `value`, `trouble` | what a tensor is meanwhile, and why something can't be imported |
//! | `walk` | all that is known meanwhile, and the operands of operators |
//! | `file` | operator by operator, from file to network |
//! | `linear` | convolutions and matrices |
//! | `dilated` | convolutions over images in batches |
//! | `transposed` | transposed convolutions |
//! | `pool` | pools and means |
//! | `add` | sums of two tensors |
//! | `binary` | sums and products with constants, maxima |
//! | `quotient` | divisions by constants |
//! | `pointwise` | tables, rescalings |
//! | `reals` | float32 numbers between quantised tensors |
//! | `movement` | elements in another order |
//! | `slice` | parts of tensors |
//! | `resize` | interpolation between neighbours |
//! | `join` | concatenations |
//! | `shape` | reshapes, pads, transpositions, and the arithmetic of shapes |
//!
//! A stored value q of a tensor means scale * (q - zero_point). The network computes on x = q - zero_point, so padding is 0 and a
//! convolution is a plain sum of products, z = sum w x + bias. A requantisation of the runtime is q' = clamp(rule(z) + zero_point'),
//! with one rule for each output channel; it becomes the smallest multiplier, offset and shift that equal it on every reachable z,
//! or the file is refused. What MobileNets need of it is described in
//!
//! > A. Dalskov, D. Escudero, M. Keller: "Secure Evaluation of Quantized Neural Networks", PoPETs 2020(4).

mod add;
mod binary;
mod dilated;
mod ends;
mod file;
mod flatbuffer;
mod inputs;
mod join;
mod linear;
mod model;
mod movement;
mod names;
mod obstacles;
mod operators;
mod pointwise;
mod pool;
mod quotient;
mod reals;
mod resize;
mod round;
mod shape;
mod slice;
mod transposed;
mod trouble;
mod value;
mod walk;

pub use operators::markdown;
pub use round::Kernels;

use crate::import::{ImportError, Imported, Options};
use model::Model;

/// True if the bytes say that they are a TFLite file.
pub(super) fn is_tflite(bytes: &[u8]) -> bool {
    bytes.get(4..8) == Some(b"TFL3")
}

/// Reads a TFLite file.
///
/// The network's input is y = q - (smallest q) in 0..=255, so pixels go in as they are unless there is a preprocessing; its output
/// are the values q - zero_point before any softmax.
///
/// # Errors
/// Whatever is wrong with the file, with the operator and what to do about it.
pub fn import(bytes: &[u8], options: &Options) -> Result<Imported, ImportError> {
    let model = Model::read(bytes)?;
    file::network(&model, options)
}
