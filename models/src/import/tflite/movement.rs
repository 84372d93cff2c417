//! Data movement: elements of a tensor in another order, some several times, some left out, zeros between them.
//!
//! A movement is a list: element n of the result, counted as the file does (the last dimension fastest), reads element `list[n]` of
//! the operand, or is a zero point where that is [`ZERO`]. The network counts elements of `[c, h, w]` row by row of each channel; the
//! file's element (h * width + w) * channels + c is the same one. [`axes`] writes a list as sums of short ones.

use super::trouble::{Trouble, refuse};
use super::value::Value;
use super::walk::Walk;
use crate::check::{MAX_ELEMENTS, MAX_TERMS};
use crate::network::{Op, Shape, TensorId};

/// An element that is the zero point.
pub(super) const ZERO: i64 = -1;

impl<'m, 'f> Walk<'m, 'f> {
    /// The elements `list` of x, as a tensor of dimensions `dims`; x must not be padded.
    pub fn moved(&mut self, name: &str, x: &Value, dims: &[usize], list: &[i64]) -> Result<Value, Trouble> {
        self.moved_to(name, x, dims, grid(dims), list)
    }

    /// The same with its shape in the network, whose elements the file counts as always.
    pub fn moved_to(
        &mut self,
        name: &str,
        x: &Value,
        dims: &[usize],
        to: Shape,
        list: &[i64],
    ) -> Result<Value, Trouble> {
        debug_assert_eq!((x.padding, list.len()), ([0; 4], to.iter().product()));
        let order: Vec<i64> = numbers(to).map(|n| list[n]).map(|n| at(x.grid, n)).collect();
        let id = self.select(name, x.id, to, &order)?;
        Ok(Value { id, grid: to, dims: dims.to_vec(), ..x.clone() })
    }

    /// Elements by their numbers in the network.
    pub fn select(&mut self, name: &str, input: TensorId, shape: Shape, order: &[i64]) -> Result<TensorId, Trouble> {
        if self.builder.tensor(input).shape == shape && order.iter().enumerate().all(|(n, &at)| at == n as i64) {
            return Ok(input);
        }
        if order.len() > MAX_ELEMENTS {
            return refuse(format!("it makes {} elements", order.len()), "the layer is larger than networks may be");
        }
        Ok(self.builder.node(name, Op::Select { input, shape, axes: axes(shape, order) }, None)?)
    }

    /// The value with its padding as elements, and with the shape in the network that its dimensions stand for.
    pub fn settled(&mut self, name: &str, x: &Value) -> Result<Value, Trouble> {
        let x = self.without_padding(name, x)?;
        if x.grid == grid(&x.dims) {
            return Ok(x);
        }
        let list: Vec<i64> = (0..x.dims.iter().product::<usize>() as i64).collect();
        self.moved(&format!("{name}/order"), &x, &x.dims.clone(), &list)
    }

    /// The value with its padding as elements.
    pub fn without_padding(&mut self, name: &str, x: &Value) -> Result<Value, Trouble> {
        if x.padding == [0; 4] {
            return Ok(x.clone());
        }
        let ([channels, height, width], [top, left, ..]) = (x.grid, x.padding);
        let [rows, columns] = x.padded();
        let inner = Value { dims: vec![1, height, width, channels], padding: [0; 4], ..x.clone() };
        let dims = [1, rows, columns, channels];
        let list = positions(&dims, |at| {
            let (row, column) = (at[1].checked_sub(top)?, at[2].checked_sub(left)?);
            (row < height && column < width).then_some((row * width + column) * channels + at[3])
        });
        let moved = self.moved_filled(&format!("{name}/padding"), &inner, &dims, &list)?;
        Ok(Value { dims: x.dims.clone(), ..moved })
    }

    /// As [`Walk::moved`], with the value `x.fill` in place of zero points.
    pub fn moved_filled(&mut self, name: &str, x: &Value, dims: &[usize], list: &[i64]) -> Result<Value, Trouble> {
        let (fill, x) = (x.fill, Value { fill: 0, ..x.clone() });
        if fill == 0 || !list.contains(&ZERO) {
            return self.moved(name, &x, dims, list);
        }
        // One element of that value, as a channel of its own.
        let [channels, height, width] = x.grid;
        let one = self.select(&format!("{name}/element"), x.id, [1, 1, 1], &[0])?;
        let one = self.narrow(name, &Value { id: one, grid: [1, 1, 1], dims: vec![1], ..x.clone() })?.id;
        let one = self.builder.apply(&format!("{name}/value"), one, |_| fill)?;
        let one = self.select(&format!("{name}/channel"), one, [1, height, width], &vec![0; height * width])?;
        let id = self.builder.node(&format!("{name}/with"), Op::Concat { inputs: vec![x.id, one] }, None)?;
        let count = channels as i64;
        let place = |&n: &i64| if n == ZERO { count } else { n / count * (count + 1) + n % count };
        let list: Vec<i64> = list.iter().map(place).collect();
        self.moved(name, &Value { id, grid: [channels + 1, height, width], ..x }, dims, &list)
    }
}

/// The shape in the network of a tensor of dimensions `dims`: the last one are channels, the one before is the width.
pub(super) fn grid(dims: &[usize]) -> Shape {
    match *dims {
        [] => [1, 1, 1],
        [channels] => [channels, 1, 1],
        [ref outer @ .., width, channels] => [channels, outer.iter().product(), width],
    }
}

/// The list of a movement: `of` is asked for each position of the result and answers with an element of the operand.
pub(super) fn positions(dims: &[usize], of: impl Fn(&[usize]) -> Option<usize>) -> Vec<i64> {
    let mut at = vec![0; dims.len()];
    let count: usize = dims.iter().product();
    let mut list = Vec::with_capacity(count);
    for _ in 0..count {
        list.push(of(&at).map_or(ZERO, |element| element as i64));
        for axis in (0..dims.len()).rev() {
            at[axis] += 1;
            if at[axis] < dims[axis] {
                break;
            }
            at[axis] = 0;
        }
    }
    list
}

/// The element of a tensor of dimensions `dims` at a position.
pub(super) fn element(dims: &[usize], at: &[usize]) -> usize {
    dims.iter().zip(at).fold(0, |sum, (size, at)| sum * size + at)
}

/// The file's numbers of the elements of `[c, h, w]`, in the network's order.
pub(super) fn numbers([channels, height, width]: Shape) -> impl Iterator<Item = usize> {
    (0..channels).flat_map(move |c| (0..height * width).map(move |place| place * channels + c))
}

/// The network's number of the file's element n.
fn at([channels, height, width]: Shape, n: i64) -> i64 {
    let channels = channels as i64;
    if n < 0 { ZERO } else { n % channels * (height * width) as i64 + n / channels }
}

/// Axes of an [`Op::Select`] that name the elements `order` of a tensor of shape `shape`.
fn axes(shape: Shape, order: &[i64]) -> Vec<Vec<i64>> {
    let mut all = Vec::new();
    let mut rest = order.to_vec();
    for size in shape[..2].iter().copied() {
        match split(&rest, size) {
            Some((axis, inner)) => {
                all.extend(shortened(axis));
                rest = inner;
            }
            None => break,
        }
    }
    all.extend(shortened(rest));
    all.retain(|axis| axis[..] != [0]);
    if all.is_empty() {
        all.push(vec![0]);
    }
    if all.len() > MAX_TERMS { vec![order.to_vec()] } else { all }
}

/// A list as `size` entries, each added to all of an inner list; `None` if it is no such sum.
fn split(list: &[i64], size: usize) -> Option<(Vec<i64>, Vec<i64>)> {
    let inner = list.len() / size;
    if size == 0 || inner * size != list.len() {
        return None;
    }
    // The first row with an element, and the rows and columns that have some.
    let rows: Vec<&[i64]> = list.chunks_exact(inner).collect();
    let first = rows.iter().find(|row| row.iter().any(|&n| n >= 0))?;
    let column = first.iter().position(|&n| n >= 0)?;
    let base = first[column];
    let axis: Vec<i64> = rows.iter().map(|row| row[column]).collect();
    let least = axis.iter().copied().filter(|&n| n >= 0).min()?;
    let columns: Vec<i64> = first.iter().map(|&n| if n < 0 { ZERO } else { n - base + least }).collect();
    if columns.iter().any(|&n| n < ZERO) || columns.iter().zip(*first).any(|(&n, &at)| n < 0 && at >= 0) {
        return None;
    }
    let axis: Vec<i64> = axis.iter().map(|&n| if n < 0 { ZERO } else { n - least }).collect();
    let sum = |row: i64, column: i64| if row < 0 || column < 0 { ZERO } else { row + column };
    let equal = rows.iter().zip(&axis).all(|(row, &by)| row.iter().zip(&columns).all(|(&n, &c)| n == sum(by, c)));
    equal.then_some((axis, columns))
}

/// A long list as two axes, where it is one: with an inner axis of about the square root.
fn shortened(list: Vec<i64>) -> Vec<Vec<i64>> {
    if list.len() < 32 {
        return vec![list];
    }
    let step = list[1] - list[0];
    let run = (1..list.len()).find(|&n| list[n] - list[n - 1] != step).unwrap_or(list.len());
    let root = list.len().isqrt();
    let divisors = (2..=root).rev().filter(|size| list.len().is_multiple_of(*size));
    let sizes = [list.len() / run.max(1)].into_iter().filter(|&size| size > 1).chain(divisors.take(4));
    for size in sizes {
        if let Some((outer, inner)) = split(&list, size) {
            return vec![outer, inner];
        }
    }
    vec![list]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::selected;

    fn check(shape: Shape, order: &[i64], most: usize) {
        let axes = axes(shape, order);
        let chosen: Vec<i64> = selected(&axes).into_iter().map(|at| at.map_or(ZERO, |at| at as i64)).collect();
        assert_eq!(chosen, order, "{axes:?}");
        assert!(axes.iter().map(Vec::len).sum::<usize>() <= most, "{axes:?}");
    }

    #[test]
    fn movements_are_sums_of_short_axes() {
        // A vector of 16 * 12 * 8 elements as an image, which the file counts by channels last.
        let shape = [8, 16, 12];
        let order: Vec<i64> = numbers(shape).map(|n| n as i64).collect();
        check(shape, &order, 8 + 16 + 12);
        // Back, and an image as it is.
        let back: Vec<i64> = (0..8 * 16 * 12).map(|n| at(shape, n)).collect();
        check([8 * 16 * 12, 1, 1], &back, 300);
        check(shape, &(0..8 * 16 * 12).collect::<Vec<_>>(), 100);
        // Two rows and a column of padding around 3 x 4.
        let padded = positions(&[1, 5, 5, 2], |at| {
            let (row, column) = (at[1].checked_sub(2)?, at[2].checked_sub(1)?);
            Some((row * 4 + column) * 2 + at[3])
        });
        let order: Vec<i64> = numbers([2, 5, 5]).map(|n| at([2, 3, 4], padded[n])).collect();
        check([2, 5, 5], &order, 12);
        // No order at all.
        let order: Vec<i64> = (0..60).map(|n| n * 7 % 31).collect();
        check([3, 4, 5], &order, 60);
        check([3, 4, 5], &[ZERO; 60], 60);
    }
}
