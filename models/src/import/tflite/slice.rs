//! Parts of a tensor: from a start by steps along each axis, as SLICE, STRIDED_SLICE and SPLIT have them.

use super::model::{self, Operator};
use super::movement::{element, positions};
use super::trouble::{Trouble, refuse};
use super::walk::Walk;

/// What is taken along each axis.
pub(super) struct Slice {
    axes: Vec<Along>,
}

#[derive(Clone, Copy)]
struct Along {
    start: i64,
    step: i64,
    count: usize,
    /// Left out of the result.
    shrinks: bool,
}

impl Slice {
    /// `count` entries from `start` along `axis`.
    pub fn along(dims: &[usize], axis: usize, start: usize, count: usize) -> Slice {
        let all = |(at, &size): (usize, &usize)| {
            let (start, count) = if at == axis { (start as i64, count) } else { (0, size) };
            Along { start, step: 1, count, shrinks: false }
        };
        Slice { axes: dims.iter().enumerate().map(all).collect() }
    }

    /// Dimensions of the result.
    pub fn dims(&self) -> Vec<usize> {
        self.axes.iter().filter(|axis| !axis.shrinks).map(|axis| axis.count).collect()
    }

    /// The elements of a tensor of dimensions `dims`.
    pub fn list(&self, dims: &[usize]) -> Vec<i64> {
        let counts: Vec<usize> = self.axes.iter().map(|axis| axis.count).collect();
        positions(&counts, |at| {
            let place = |(axis, &at): (&Along, &usize)| (axis.start + axis.step * at as i64) as usize;
            Some(element(dims, &self.axes.iter().zip(at).map(place).collect::<Vec<_>>()))
        })
    }
}

impl<'m, 'f> Walk<'m, 'f> {
    /// What SLICE or STRIDED_SLICE takes of a tensor of dimensions `dims`.
    pub fn slice_of(&self, operator: &Operator<'f>, dims: &[usize]) -> Result<Slice, Trouble> {
        if operator.code == model::SLICE { self.plain(operator, dims) } else { self.strided(operator, dims) }
    }

    fn plain(&self, operator: &Operator<'f>, dims: &[usize]) -> Result<Slice, Trouble> {
        let (starts, sizes) = (self.whole(operator, 1)?, self.whole(operator, 2)?);
        if starts.len() != dims.len() || sizes.len() != dims.len() {
            return refuse(format!("it slices {dims:?} from {starts:?} by {sizes:?}"), "the file is damaged");
        }
        let mut axes = Vec::new();
        for ((&size, start), count) in dims.iter().zip(starts).zip(sizes) {
            let count = if count == -1 { size as i64 - start } else { count };
            if start < 0 || count < 0 || start + count > size as i64 {
                return refuse(format!("it takes {count} from {start} of {size}"), "the file is damaged");
            }
            axes.push(Along { start, step: 1, count: count as usize, shrinks: false });
        }
        Ok(Slice { axes })
    }

    fn strided(&self, operator: &Operator<'f>, dims: &[usize]) -> Result<Slice, Trouble> {
        let [starts, ends, steps] = [self.whole(operator, 1)?, self.whole(operator, 2)?, self.whole(operator, 3)?];
        let [from, to, ellipsis, new, shrink] =
            [operator.i32(0, 0)?, operator.i32(1, 0)?, operator.i32(2, 0)?, operator.i32(3, 0)?, operator.i32(4, 0)?];
        let offset = operator.i8(5)? != 0;
        if ellipsis != 0 || new != 0 || offset {
            return refuse("it slices with an ellipsis, new axes or offsets", "slice by starts, ends and steps");
        }
        let given = starts.len();
        if ends.len() != given || steps.len() != given || given > dims.len() {
            return refuse(format!("it slices {dims:?} from {starts:?} to {ends:?}"), "the file is damaged");
        }
        let mut axes = Vec::new();
        for (at, &size) in dims.iter().enumerate() {
            let length = size as i64;
            if at >= given {
                axes.push(Along { start: 0, step: 1, count: size, shrinks: false });
                continue;
            }
            let (step, bit) = (steps[at], 1i32 << at);
            if step == 0 {
                return refuse("a step of 0", "the file is damaged");
            }
            let (least, most) = if step > 0 { (0, length) } else { (-1, length - 1) };
            let place = |given: i64| (if given < 0 { given + length } else { given }).clamp(least, most);
            let start = if from & bit != 0 { if step > 0 { 0 } else { length - 1 } } else { place(starts[at]) };
            let shrinks = shrink & bit != 0;
            let end = if to & bit != 0 { if step > 0 { length } else { -1 } } else { place(ends[at]) };
            let count = if shrinks { 1 } else { ((end - start) as f64 / step as f64).ceil().max(0.0) as usize };
            if count == 0 || start < 0 || start >= length {
                return refuse(format!("it takes nothing of {dims:?}"), "tensors must have elements");
            }
            axes.push(Along { start, step, count, shrinks });
        }
        Ok(Slice { axes })
    }
}
