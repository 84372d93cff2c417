//! Tensors one behind the other: concatenations along any axis, packs, and several outputs as one.

use super::model::Operator;
use super::movement::{numbers, positions};
use super::round::Activation;
use super::shape::{axis, bounded};
use super::trouble::{Trouble, refuse};
use super::value::{Value, quantisation};
use super::walk::Walk;
use crate::check::MAX_TERMS;
use crate::import::report::Verdict;
use crate::network::{Op, Shape, TensorId};

impl<'m, 'f> Walk<'m, 'f> {
    /// Tensors one behind the other along an axis.
    pub fn concatenate(&mut self, operator: &Operator<'f>, name: &str) -> Result<Verdict, Trouble> {
        let mut parts = Vec::new();
        for position in 0..operator.inputs.len() {
            let x = self.whole_value(operator, position, name)?;
            parts.push(self.joined_scale(operator, name, &x)?);
        }
        if Activation::of(operator.i8(1)?) != Some(Activation::None) {
            return refuse("it has an activation function", "put the activation behind it");
        }
        let Some(first) = parts.first().cloned() else { return refuse("it has no inputs", "the file is damaged") };
        let axis = axis(operator.i32(0, 0)?, first.dims.len())?;
        self.join(operator, name, &parts, axis)?;
        Ok(Verdict::Imported("a concatenation"))
    }

    /// Tensors of one shape along a new axis, or numbers that describe a shape.
    pub fn pack(&mut self, operator: &Operator<'f>, name: &str) -> Result<Verdict, Trouble> {
        if operator.inputs.iter().flatten().all(|&input| self.is_numbers(input)) {
            return self.shape_arithmetic(operator);
        }
        let mut parts = Vec::new();
        for position in 0..operator.inputs.len() {
            let x = self.value(operator, position)?;
            self.same_scale(operator, &x)?;
            parts.push(self.without_padding(name, &x)?);
        }
        let Some(rank) = parts.first().map(|x| x.dims.len()) else {
            return refuse("it has no inputs", "the file is damaged");
        };
        let axis = axis(operator.i32(1, 0)?, rank + 1)?;
        for x in &mut parts {
            if x.dims.len() != rank {
                return refuse("its inputs have different shapes", "the file is damaged");
            }
            x.dims.insert(axis, 1);
            *x = self.settled(name, x)?;
        }
        self.join(operator, name, &parts, axis)?;
        Ok(Verdict::Imported("a concatenation"))
    }

    /// Joins parts along an axis: as channels where that is the last one, else in an order in which it comes first.
    fn join(&mut self, operator: &Operator<'f>, name: &str, parts: &[Value], axis: usize) -> Result<(), Trouble> {
        let first = &parts[0];
        let alike = |x: &Value| {
            x.dims.len() == first.dims.len()
                && x.dims.iter().zip(&first.dims).enumerate().all(|(at, (one, other))| at == axis || one == other)
        };
        if !parts.iter().all(alike) {
            return refuse("its inputs have different shapes", "the file is damaged");
        }
        let mut dims = first.dims.clone();
        dims[axis] = parts.iter().map(|x| x.dims[axis]).sum();
        bounded(&dims)?;
        if axis + 1 == dims.len() {
            let inputs: Vec<TensorId> = parts.iter().map(|x| x.id).collect();
            let id = self.concat(name, &inputs)?;
            self.define(operator, Value { id, grid: self.builder.tensor(id).shape, dims, ..first.clone() });
            return Ok(());
        }
        let (outer, inner) = (first.dims[..axis].iter().product(), first.dims[axis + 1..].iter().product());
        let mut inputs = Vec::new();
        for x in parts {
            // The network counts [axis, outer, inner] row by row; its file counts the axis last.
            let along = x.dims[axis];
            let list = positions(&[outer, inner, along], |at| Some((at[0] * along + at[2]) * inner + at[1]));
            inputs.push(self.moved_to(&format!("{name}/part"), x, &x.dims, [along, outer, inner], &list)?.id);
        }
        let id = self.concat(name, &inputs)?;
        let (along, joined) = (dims[axis], self.builder.tensor(id).shape);
        // Back: element (outer, axis, inner) of the file is (outer * inner) * axis there.
        let list = positions(&[outer, along, inner], |at| Some((at[0] * inner + at[2]) * along + at[1]));
        let x = Value { id, grid: joined, ..first.clone() };
        let y = self.moved(&format!("{name}/order"), &x, &dims, &list)?;
        self.define(operator, y);
        Ok(())
    }

    /// Channels one behind the other, any number of tensors.
    pub fn concat(&mut self, name: &str, inputs: &[TensorId]) -> Result<TensorId, Trouble> {
        let mut inputs = inputs.to_vec();
        while inputs.len() > 1 {
            let mut next = Vec::new();
            for some in inputs.chunks(MAX_TERMS) {
                next.push(match some {
                    [one] => *one,
                    some => self.builder.node(name, Op::Concat { inputs: some.to_vec() }, None)?,
                });
            }
            inputs = next;
        }
        Ok(inputs[0])
    }

    /// An operand of a concatenation in the scale of the result: unsigned numbers are rescaled in 32-bit floats, others may not differ
    /// (`ConcatenationWithScaling`).
    fn joined_scale(&mut self, operator: &Operator<'f>, name: &str, x: &Value) -> Result<Value, Trouble> {
        if self.moves_reals {
            return Ok(x.clone());
        }
        let y = quantisation(self.result(operator))?;
        if (y.scale, y.clamp) == (x.scale, x.clamp) {
            return Ok(x.clone());
        }
        if y.clamp.lo != 0 || x.clamp.lo != 0 {
            return refuse("its inputs have different scales", "give all inputs of a concatenation one scale");
        }
        let scale = x.scale * (1.0 / y.scale);
        let bias = -(x.clamp.zero_point as f32) * scale;
        let zero = x.clamp.zero_point;
        let stored = |x: i64| y.clamp.apply(((x + zero) as f32 * scale + bias).round() as i64);
        let x = self.narrow(name, x)?;
        let id = self.builder.apply(&format!("{name}/rescaled"), x.id, |x| stored(x) - y.clamp.zero_point)?;
        Ok(Value { id, scale: y.scale, clamp: y.clamp, ..x })
    }

    /// The flattened elements of several tensors, one behind the other and each in the file's order: for several outputs.
    pub fn one_vector(&mut self, name: &str, parts: &[Value]) -> Result<TensorId, Trouble> {
        let sizes: Vec<usize> = parts.iter().map(|x| x.dims.iter().product()).collect();
        // As many columns as all have in common: the network counts row by row.
        let columns = sizes.iter().copied().reduce(divisor).unwrap_or(1);
        let mut inputs = Vec::new();
        for (x, size) in parts.iter().zip(sizes) {
            let x = self.without_padding(name, x)?;
            let shape = if columns == 1 { [size, 1, 1] } else { [size / columns, 1, columns] };
            let list: Vec<i64> = numbers_of_rows(shape).collect();
            inputs.push(self.moved_to(&format!("{name}/order"), &x, &x.dims, shape, &list)?.id);
        }
        self.concat(name, &inputs)
    }
}

/// For each element of the file's order of a shape, its number row by row.
fn numbers_of_rows(shape: Shape) -> impl Iterator<Item = i64> {
    let mut rows = vec![0; shape.iter().product()];
    for (row, file) in numbers(shape).enumerate() {
        rows[file] = row as i64;
    }
    rows.into_iter()
}

/// The greatest common divisor.
fn divisor(one: usize, other: usize) -> usize {
    if other == 0 { one } else { divisor(other, one % other) }
}
