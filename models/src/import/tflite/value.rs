//! What a tensor of the file is while it is being imported.

use std::rc::Rc;

use super::model::{Element, Tensor};
use super::round::Clamp;
use super::trouble::{Trouble, refuse};
use crate::import::error::ImportProblem;
use crate::network::{Range, Shape, TensorId};

/// A tensor of the file that the network computes.
#[derive(Clone, Debug)]
pub(super) struct Value {
    /// The network's tensor of values q - zero_point.
    pub id: TensorId,
    /// Its shape; the file's element number (h * width + w) * channels + c is `[c, h, w]` there.
    pub grid: Shape,
    /// Its dimensions in the file.
    pub dims: Vec<usize>,
    /// Rows and columns of `fill` around it that are not in `grid` yet: top, left, bottom, right.
    pub padding: [usize; 4],
    /// The value of that padding: 0 for zero points.
    pub fill: i64,
    pub scale: f32,
    pub clamp: Clamp,
}

impl Value {
    /// Height and width, padding included.
    pub fn padded(&self) -> [usize; 2] {
        let [top, left, bottom, right] = self.padding;
        [self.grid[1] + top + bottom, self.grid[2] + left + right]
    }
}

/// A tensor of the file that is an image in batches.
#[derive(Clone, Debug)]
pub(super) struct Apart {
    /// So many rows and columns of batches.
    pub block: [usize; 2],
    /// The image, of four dimensions.
    pub whole: Value,
}

/// What the values of a tensor stand for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Real {
    /// scale * x.
    Stored,
    /// Numbers that the client quantises; nothing else is known of them.
    Input,
    /// One for each of the values from the first on.
    Table(i64, Rc<Vec<f32>>),
}

/// A tensor as a function of the single values of another one.
#[derive(Clone, Debug)]
pub(super) struct Function {
    /// The other one, of the same shape.
    pub root: TensorId,
    /// Values of the tensor, one for each value of the root's range, in order.
    pub table: Vec<i64>,
}

/// Scale, zero point and stored values of a tensor that has one of each.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quantisation {
    pub scale: f32,
    /// Without activation.
    pub clamp: Clamp,
}

/// The stored values of an 8-bit type.
pub(super) fn stored(tensor: &Tensor<'_>) -> Result<Range, Trouble> {
    match tensor.element {
        Element::Int8 => Ok(Range { lo: -128, hi: 127 }),
        Element::UInt8 => Ok(Range { lo: 0, hi: 255 }),
        Element::Float32 => Err(no_integers(tensor).into()),
        other => refuse(format!("tensor {} has elements of type {other}", tensor.name), "export with 8-bit integers"),
    }
}

pub(super) fn quantisation(tensor: &Tensor<'_>) -> Result<Quantisation, Trouble> {
    let Range { lo, hi } = stored(tensor)?;
    let ([scale], [zero_point]) = (&tensor.scale[..], &tensor.zero_point[..]) else {
        let reason = format!("tensor {} has {} scales", tensor.name, tensor.scale.len());
        return refuse(reason, "activations need one scale and one zero point");
    };
    positive(*scale, tensor)?;
    if !(lo..=hi).contains(zero_point) {
        return refuse(format!("tensor {} has the zero point {zero_point}", tensor.name), "it must be a stored value");
    }
    Ok(Quantisation { scale: *scale, clamp: Clamp { zero_point: *zero_point, lo, hi } })
}

/// Refuses scales that are no positive normal numbers.
pub(super) fn positive(scale: f32, tensor: &Tensor<'_>) -> Result<(), Trouble> {
    if scale.is_normal() && scale > 0.0 {
        return Ok(());
    }
    refuse(format!("tensor {} has the scale {scale}", tensor.name), "scales must be positive")
}

/// Why a tensor of float32 numbers is refused.
pub(super) fn no_integers(tensor: &Tensor<'_>) -> ImportProblem {
    ImportProblem::File {
        reason: format!("a float network: its tensor {} has float32 numbers that nothing quantises", tensor.name),
        hint: "quantise the model to 8-bit integers with a representative data set (full integer quantisation)",
    }
}

/// The numbers of a tensor of 32-bit integers.
pub(super) fn integers32(data: &[u8]) -> Vec<i64> {
    data.chunks_exact(4).map(|bytes| i32::from_le_bytes(bytes.try_into().expect("4 bytes")).into()).collect()
}
