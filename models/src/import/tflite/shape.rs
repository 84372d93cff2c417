//! What only moves values: reshapes, pads and concatenations, and the arithmetic of shapes that exports with a free batch do.

use super::linear::renamed;
use super::model::{self, Operator};
use super::round::Activation;
use super::walk::{Trouble, Value, Walk, quantisation, refuse};
use crate::import::report::Verdict;
use crate::network::Op;

impl<'m, 'f> Walk<'m, 'f> {
    /// New dimensions for the same elements.
    pub fn reshape(&mut self, operator: &Operator<'f>) -> Result<Verdict, Trouble> {
        let input = self.operand(operator, 0)?;
        if self.numbers.contains_key(&input) {
            return self.shape_arithmetic(operator);
        }
        let x = self.value(operator, 0)?.unpadded()?.clone();
        let elements: usize = x.grid.iter().product();
        let given = match operator.code {
            model::RESHAPE if operator.inputs.get(1).is_some_and(Option::is_some) => self.whole(operator, 1).ok(),
            model::RESHAPE => Some(operator.i32s(0)?.into_iter().map(i64::from).collect()),
            _ => None,
        };
        let dims =
            given.and_then(|dims| complete(&dims, elements)).unwrap_or_else(|| self.result(operator).dims.clone());
        if dims.iter().try_fold(1usize, |product, &size| product.checked_mul(size)) != Some(elements) {
            return refuse(format!("it makes {dims:?} of {:?}", x.dims), "the file is damaged");
        }
        self.define(operator, Value { dims, ..x });
        Ok(Verdict::Dropped("elements stay where they are"))
    }

    /// Zero points around an image: they become padding of what reads it.
    pub fn pad(&mut self, operator: &Operator<'f>) -> Result<Verdict, Trouble> {
        let mut x = self.value(operator, 0)?.image()?.clone();
        let pads = self.whole(operator, 1)?;
        let [0, 0, top, bottom, left, right, 0, 0] = pads[..] else {
            return refuse(format!("it pads by {pads:?}"), "only height and width may be padded");
        };
        let y = quantisation(self.result(operator))?;
        let same = y.scale == x.scale && y.clamp == x.clamp;
        let zero = match operator.inputs.get(2) {
            Some(&Some(value)) => {
                let value = &self.model.tensors[value];
                let zero = match (value.data, y.clamp.lo) {
                    (&[byte], 0) => i64::from(byte),
                    (&[byte], _) => i64::from(byte as i8),
                    _ => return refuse("its value is no constant", "pad with zeros"),
                };
                zero == y.clamp.zero_point
            }
            _ => true,
        };
        if !(same && zero) {
            return refuse("it pads with something else than the zero point", "pad with zeros, and keep the scale");
        }
        for (padding, more) in x.padding.iter_mut().zip([top, left, bottom, right]) {
            let Some(more) = usize::try_from(more).ok().filter(|&more| more <= 1 << 16) else {
                return refuse(format!("it pads by {pads:?}"), "paddings must not be negative");
            };
            *padding += more;
        }
        let [height, width] = x.padded();
        x.dims = vec![1, height, width, x.grid[0]];
        self.define(operator, x);
        Ok(Verdict::Imported("padding of the next operation"))
    }

    /// Channels one behind the other.
    pub fn concatenate(&mut self, operator: &Operator<'f>, name: &str) -> Result<Verdict, Trouble> {
        let y = quantisation(self.result(operator))?;
        let mut parts = Vec::new();
        for position in 0..operator.inputs.len() {
            let x = self.value(operator, position)?.unpadded()?.clone();
            if x.scale != y.scale || x.clamp != y.clamp {
                return refuse("its inputs have different scales", "give all inputs of a concatenation one scale");
            }
            parts.push(x);
        }
        if Activation::of(operator.i8(1)?) != Some(Activation::None) {
            return refuse("it has an activation function", "put the activation behind it");
        }
        let Some(first) = parts.first().cloned() else { return refuse("it has no inputs", "the file is damaged") };
        let rank = first.dims.len() as i64;
        let axis = operator.i32(0, 0)?;
        let axis = if axis < 0 { i64::from(axis) + rank } else { axis.into() };
        let vector = |x: &Value| x.grid[1..] == [1, 1] && x.dims.last() == Some(&x.grid[0]);
        let fits = |x: &Value| x.dims.len() as i64 == rank && (x.image().is_ok() || vector(x));
        if axis != rank - 1 || !parts.iter().all(fits) {
            return refuse(format!("it runs along axis {axis}"), "only channels can be concatenated");
        }
        let inputs: Vec<usize> = parts.iter().map(|x| x.id).collect();
        let id = if inputs.len() == 1 { inputs[0] } else { self.builder.node(name, Op::Concat { inputs }, None)? };
        let grid = self.builder.tensor(id).shape;
        let mut dims = first.dims.clone();
        *dims.last_mut().expect("a rank of at least 1") = grid[0];
        self.define(operator, Value { grid, dims, ..renamed(&first, id) });
        Ok(Verdict::Imported("a concatenation"))
    }

    /// SHAPE, STRIDED_SLICE and PACK of shapes, which are known.
    pub fn shape_arithmetic(&mut self, operator: &Operator<'f>) -> Result<Verdict, Trouble> {
        let numbers = match operator.code {
            model::SHAPE => self.value(operator, 0)?.dims.iter().map(|&size| size as i64).collect(),
            model::PACK => {
                let mut packed = Vec::new();
                for position in 0..operator.inputs.len() {
                    let [one] = self.whole(operator, position)?[..] else {
                        return refuse("it packs vectors", "export with fixed shapes");
                    };
                    packed.push(one);
                }
                packed
            }
            model::STRIDED_SLICE => self.slice(operator)?,
            _ => self.whole(operator, 0)?,
        };
        self.numbers.insert(operator.outputs[0], numbers);
        Ok(Verdict::Dropped("shapes are known"))
    }

    /// A slice of a vector of numbers.
    fn slice(&self, operator: &Operator<'f>) -> Result<Vec<i64>, Trouble> {
        let Some(numbers) = self.numbers.get(&self.operand(operator, 0)?) else {
            return refuse("it slices activations", "only shapes can be sliced");
        };
        let length = numbers.len() as i64;
        let masks = [operator.i32(0, 0)?, operator.i32(1, 0)?];
        let mut ends = [0, length];
        for (position, end) in ends.iter_mut().enumerate() {
            let [given] = self.whole(operator, position + 1)?[..] else {
                return refuse("it slices more than a vector", "export with fixed shapes");
            };
            if masks[position] & 1 == 0 {
                *end = (if given < 0 { given + length } else { given }).clamp(0, length);
            }
        }
        let [step] = self.whole(operator, 3)?[..] else { return refuse("it has no step", "export with fixed shapes") };
        let Some(step) = usize::try_from(step).ok().filter(|&step| step > 0) else {
            return refuse(format!("a step of {step}"), "export with fixed shapes");
        };
        if operator.i32(4, 0)? & 1 != 0 {
            ends[1] = (ends[0] + 1).min(length);
        }
        Ok((ends[0]..ends[1]).step_by(step).map(|index| numbers[index as usize]).collect())
    }
}

/// Dimensions of which one may be -1; `None` if they do not have that many elements.
fn complete(dims: &[i64], elements: usize) -> Option<Vec<usize>> {
    let known = dims.iter().filter(|&&size| size != -1).try_fold(1i64, |product, &size| product.checked_mul(size))?;
    let known = usize::try_from(known).ok().filter(|&known| known > 0 && elements.is_multiple_of(known))?;
    let free = dims.iter().filter(|&&size| size == -1).count();
    (free == 1 || free == 0 && known == elements && !dims.is_empty())
        .then(|| dims.iter().map(|&size| if size == -1 { elements / known } else { size as usize }).collect())
}
