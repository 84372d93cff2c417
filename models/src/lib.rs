//! Small-integer networks: what they are, what they compute, and the files they and their inputs come in. Nothing here is secret.
//!
//! A network multiplies activations of 1 to 8 bits with weights of 1 to 8 bits, adds up exactly, and requantises the sums to few
//! bits again:
//!
//! ```text
//! z = sum of W_i x_i + sum of M_k x_k + bias          linear: convolutions, matrices, residuals (an accumulator)
//! y = clamp(z >> shift, 0, 2^bits - 1)                requantise; the value carried on is x = y - zero_point (an activation)
//! ```
//!
//! Pools, flattening and tables go from activations to activations. [`Network::run`] is the definition of the right answer:
//! whatever computes the same network in secret is compared with it, bit for bit.
//!
//! | module | what |
//! |---|---|
//! | [`network`] | the public description: [`Architecture`], its nodes and windows, names and ranges of tensors (`shape`) |
//! | [`check`] | the rules that an architecture keeps, its tensors, the limits (`limits`) |
//! | [`weights`] | the private half, and [`Network`]: both halves, checked |
//! | [`interpret`] | the reference interpreter; [`Network::run_batch`] is a faster one with the same results |
//! | [`declared`], [`rings`], [`coins`] | what is chosen beyond operations: rings in which sums wrap, found by data, and roundings by coins |
//! | [`blocks`] | one sign for a patch of pixels |
//! | [`floats`] | averages that the rounding errors of floats decide |
//! | [`bounds`] | reachable accumulators, hence the width of the ring of each layer |
//! | `fold` | the equivalent network with one shift per layer and small biases |
//! | [`json`], [`mod@file`] | the architecture as JSON, the network as a safetensors file |
//! | [`data`] | inputs from PNG, IDX, NPY and CSV files |
//! | [`coding`], [`answer`] | how the file of an imported network codes its input and output, and what an answer means |
//! | [`zoo`] | networks that come with the crate |
//! | [`ptq`] | from networks of real numbers to small integers, calibrated on data |
//! | [`choose`] | cheaper networks by choice: distortion, the knapsack |
//! | `random` | random networks for property tests (feature `random`) |
//!
//! Files and architectures may come from strangers: they are read with limits, into typed errors that name the place and the
//! numbers. Words are in `docs/words.md`.
//!
//! ```
//! use lowkey_models::{argmax, zoo};
//!
//! let digits = zoo::find("digits").expect("it is bundled");
//! let (network, demo) = (digits.network(), digits.demo().expect("it has demo inputs"));
//! let logits = network.run(&demo.inputs.get(0).expect("360 of them"))?;
//! assert_eq!(argmax(&logits), usize::from(demo.labels[0]));
//! # Ok::<(), lowkey_models::InputError>(())
//! ```

pub mod answer;
pub mod blocks;
pub mod bounds;
pub mod check;
pub mod choose;
pub mod coding;
pub mod coins;
pub mod data;
pub mod declared;
pub mod error;
mod fast;
pub mod file;
pub mod floats;
mod fold;
pub mod import;
pub mod interpret;
pub mod json;
mod limits;
pub mod network;
pub mod parallel;
mod patch;
pub mod ptq;
#[cfg(feature = "random")]
pub mod random;
pub mod regular;
pub mod rescale;
pub mod rings;
mod separate;
mod shape;
pub mod weights;
pub mod zoo;

pub use answer::ClassRule;
pub use bounds::LinearBounds;
pub use check::TensorInfo;
pub use coding::{Coding, OutputCoding};
pub use data::{DataError, DataProblem, Fit, Inputs, Labelled, quantise, read_labels};
pub use error::{InputError, Kind, ModelError, Place, Problem};
pub use file::{FileError, FileProblem};
pub use interpret::{Tensor, argmax};
pub use json::JsonError;
pub use network::{Architecture, Declared, Input, Node, Op, Range, Shape, TensorId, Term, Window, selected};
pub use weights::{LinearWeights, Network, Weights};
