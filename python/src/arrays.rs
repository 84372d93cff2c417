//! Elements of arrays: bytes in the machine's order, and the name of their type.

use lowkey::models::data::Inputs;
use lowkey::models::{Input, Tensor};
use lowkey::{Error, Result, Values};

/// Dimensions of one input, as the model's file has them.
pub fn shape(input: &Input) -> Vec<usize> {
    input.coding.as_ref().map_or_else(|| input.shape.to_vec(), |coding| coding.dims.clone())
}

/// Elements of one input or a batch.
pub enum Elements<'a> {
    Reals(Vec<f32>),
    Signed(Vec<i8>),
    Unsigned(&'a [u8]),
    Pixels(&'a [u8]),
}

impl<'a> Elements<'a> {
    /// Of an array in row-major order; `kind` is the type of its elements, or "pixels".
    pub fn new(bytes: &'a [u8], kind: &str) -> Result<Self> {
        match kind {
            "float32" => Ok(Self::Reals(reals(bytes)?)),
            "int8" => Ok(Self::Signed(bytes.iter().map(|&byte| byte.cast_signed()).collect())),
            "uint8" => Ok(Self::Unsigned(bytes)),
            "pixels" => Ok(Self::Pixels(bytes)),
            other => Err(Error::usage(format!("an array of {other}"), "give float32, int8 or uint8")),
        }
    }

    /// As one input.
    pub fn values(&self) -> Values<'_> {
        match self {
            Self::Reals(values) => values.into(),
            Self::Signed(values) => values.into(),
            Self::Unsigned(values) => (*values).into(),
            Self::Pixels(values) => Values::Pixels(values),
        }
    }

    /// As a batch: what the network reads of each.
    pub fn batch(&self, input: &Input) -> Result<Vec<Tensor>> {
        let inputs = match self {
            Self::Reals(values) => Inputs::from_reals(values, input),
            Self::Signed(values) => Inputs::from_quantised(values, input),
            Self::Unsigned(values) => Inputs::from_quantised(values, input),
            Self::Pixels(values) => Inputs::from_pixels(values, input),
        };
        Ok(inputs.map_err(|problem| Error::Input(Box::new(problem)))?.iter().collect())
    }
}

/// The elements of a float32 array.
pub fn reals(bytes: &[u8]) -> Result<Vec<f32>> {
    let (reals, []) = bytes.as_chunks::<4>() else {
        return Err(Error::usage("bytes that are no float32 array", "hand over whole elements"));
    };
    Ok(reals.iter().map(|&real| f32::from_ne_bytes(real)).collect())
}
