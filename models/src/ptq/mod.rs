//! Post-training quantisation: from a network of real numbers to one of small integers with shifts alone.
//!
//! ```text
//! y = clamp((sum of W_i x_i + sum of m_k x_k + b) >> s, 0, top)
//! ```
//!
//! A tensor of activations has a *unit* V, the real value of 1. A layer has a *step* d = V / 2^s, the real value of one unit of its
//! accumulators: w = round(W U / d) for an input of unit U, m = U / d for a skip. Unit and shift of a layer minimise the squared error of
//! its weights, weighted by the power of what they meet, and of its activations, on calibration data. Layers are done in order, on the
//! quantised results of those before; the bias takes up the mean error that is left.
//!
//! | module | what |
//! |---|---|
//! | [`real`] | networks of real numbers, and their normal form |
//! | `from_network` | integer networks with free scales as such |
//! | [`mod@run`] | their evaluation |
//! | `units` | which tensors must have one unit |
//! | `rows` | the weights of a layer row by row, and what a step makes of them |
//! | `fit` | unit, shift and step of a layer |
//! | `layers` | layer by layer over the samples |
//! | `build` | the integer network |
//!
//! Nothing here is exact, and nothing here needs to be: whatever comes out is an integer network like any other.

mod build;
mod fit;
mod from_network;
mod layers;
mod parts;
pub mod real;
mod rows;
pub mod run;
mod units;

pub use from_network::from_network;
use ndarray::Array3;

use crate::error::ModelError;
use crate::interpret::Tensor;
use crate::weights::Network;
use real::RealNetwork;

/// Fewest bits of activations and weights.
pub const LEAST_BITS: u32 = 2;

/// Most bits of activations and weights.
pub const MOST_BITS: u32 = 8;

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Of activations and weights, 2..=8. The input has what it has.
    pub bits: u32,
    /// A shift for each channel instead of one for each layer. They are public.
    pub channel_shifts: bool,
}

/// An input to calibrate with.
#[derive(Clone, Debug)]
pub struct Sample {
    /// What the network of real numbers reads.
    pub real: Array3<f32>,
    /// What the integer network reads, as floats.
    pub stored: Array3<f32>,
}

impl Sample {
    /// What the integer network reads.
    pub fn integers(&self) -> Tensor {
        self.stored.mapv(|x| x as i64)
    }
}

/// A quantised network.
#[derive(Clone, Debug)]
pub struct Quantised {
    /// It.
    pub network: Network,
    /// Its linear layers in order.
    pub layers: Vec<Layer>,
    /// What the user should know, a sentence each.
    pub warnings: Vec<String>,
}

/// What became of a linear layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Its name.
    pub name: String,
    /// One, or one for each channel; empty for the layer that is the answer.
    pub shifts: Vec<u32>,
    /// The multipliers of its skips.
    pub multipliers: Vec<i64>,
    /// Mean square of what is off in its result, over that of the result, on the samples.
    pub error: f64,
}

/// Why a network is not quantised.
#[derive(Debug, thiserror::Error)]
pub enum PtqError {
    /// No samples.
    #[error("there is no input to calibrate with")]
    NoSamples,
    /// Widths that there are not.
    #[error("{0} bits: 2 to 8 are possible")]
    Bits(u32),
    /// A node whose inputs do not fit it.
    #[error("the layer \"{0}\" does not fit what it reads")]
    Shape(String),
    /// Values that are not finite.
    #[error("the layer \"{0}\" has values that are not finite")]
    NotFinite(String),
    /// Joined tensors that can't have one unit.
    #[error("\"{0}\" joins an input and its own average, which have different units")]
    Units(String),
    /// What came out breaks a rule.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// Quantises a network.
///
/// # Errors
/// No samples, impossible widths, a network that is not consistent, or one over a limit of integer networks.
pub fn quantise(network: RealNetwork, samples: &[Sample], settings: &Settings) -> Result<Quantised, PtqError> {
    if !(LEAST_BITS..=MOST_BITS).contains(&settings.bits) {
        return Err(PtqError::Bits(settings.bits));
    }
    if samples.is_empty() {
        return Err(PtqError::NoSamples);
    }
    network.shapes().map_err(PtqError::Shape)?;
    let network = network.normalised();
    let fitted = layers::fit(&network, samples, settings)?;
    build::build(network, fitted)
}
