//! What a client hands over: arrays in memory, read as a file of the same elements would be.

use lowkey_models::data::Inputs;
use lowkey_models::{Architecture, Tensor};

use crate::error::{Error, Result};

/// One input of a network.
///
/// | given | is |
/// |---|---|
/// | `&[f32]` | real numbers, which the scale and zero point of the model's file quantise |
/// | `&[u8]`, `&[i8]` | the quantised input of the model's file, of its type; of a bundled network the values 0..2^bits - 1 |
/// | `&[i64]`, `&Tensor` | the integers that the network computes on, zero point subtracted, channels first |
/// | [`Pixels`](Self::Pixels) | a picture |
///
/// Reals and bytes are in the shape and order of the model's file: [`Model::input_line`](crate::Model::input_line) says which.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Values<'a> {
    /// Real numbers.
    Reals(&'a [f32]),
    /// The file's own quantised tensor, unsigned.
    Unsigned(&'a [u8]),
    /// The file's own quantised tensor, signed.
    Signed(&'a [i8]),
    /// The network's own integers.
    Integers(&'a [i64]),
    /// The same, channels first.
    Tensor(&'a Tensor),
    /// Pixels of 8 bits, row by row, the channels of a pixel side by side, as libraries for pictures have them.
    Pixels(&'a [u8]),
}

impl Values<'_> {
    /// The integers that the network computes on, row-major.
    ///
    /// # Errors
    /// When the values are not as many as the network reads, or of a type or range that it does not read.
    pub(crate) fn read(self, architecture: &Architecture) -> Result<Vec<i64>> {
        let input = &architecture.input;
        let inputs = match self {
            Self::Integers(values) => return Ok(values.to_vec()),
            Self::Tensor(tensor) => return Ok(tensor.iter().copied().collect()),
            Self::Reals(values) => Inputs::from_reals(values, input),
            Self::Unsigned(values) => Inputs::from_quantised(values, input),
            Self::Signed(values) => Inputs::from_quantised(values, input),
            Self::Pixels(pixels) => {
                if let Some(warning) = architecture.picture_warning() {
                    tracing::warn!("{warning}");
                }
                Inputs::from_pixels(pixels, input)
            }
        };
        let inputs = inputs.map_err(|problem| Error::Input(Box::new(problem)))?;
        match (inputs.len(), inputs.get(0)) {
            (1, Some(input)) => Ok(input.into_iter().collect()),
            (several, _) => Err(Error::usage(format!("{several} inputs at once"), "hand them over one by one")),
        }
    }
}

/// From a slice, and what holds one.
macro_rules! from_slices {
    ($($element:ty => $variant:ident),*) => {$(
        impl<'a> From<&'a [$element]> for Values<'a> {
            fn from(values: &'a [$element]) -> Self {
                Self::$variant(values)
            }
        }

        impl<'a> From<&'a Vec<$element>> for Values<'a> {
            fn from(values: &'a Vec<$element>) -> Self {
                Self::$variant(values)
            }
        }

        impl<'a, const N: usize> From<&'a [$element; N]> for Values<'a> {
            fn from(values: &'a [$element; N]) -> Self {
                Self::$variant(values)
            }
        }
    )*};
}

from_slices!(f32 => Reals, u8 => Unsigned, i8 => Signed, i64 => Integers);

impl<'a> From<&'a Tensor> for Values<'a> {
    fn from(tensor: &'a Tensor) -> Self {
        Self::Tensor(tensor)
    }
}
