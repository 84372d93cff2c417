//! The subgrids of a strided convolution: padded pixels by their row and column modulo the stride, those that taps read.

use std::collections::HashMap;

use crate::conv::ConvShape;

/// The residues that taps meet, numbered in their order: the subgrid of residues (p, q) is row number * columns + column number.
#[derive(Clone, Debug)]
pub(super) struct Subgrids {
    stride: [usize; 2],
    numbers: [HashMap<usize, usize>; 2],
}

/// One tap of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tap {
    pub(super) subgrid: usize,
    /// Row and column in the subgrid, from the pixel of the output.
    pub(super) dy: usize,
    pub(super) dx: usize,
}

impl Subgrids {
    pub(super) fn new(shape: &ConvShape) -> Self {
        let numbers = [0, 1].map(|axis| {
            let mut numbers = HashMap::new();
            for tap in 0..shape.kernel[axis] {
                let next = numbers.len();
                numbers.entry(tap * shape.dilation[axis] % shape.stride[axis]).or_insert(next);
            }
            numbers
        });
        Self { stride: shape.stride, numbers }
    }

    /// All taps, row-major.
    pub(super) fn taps(&self, shape: &ConvShape) -> Vec<Tap> {
        let [rows, columns] = [0, 1].map(|axis| self.along(axis, (shape.kernel[axis] - 1) * shape.dilation[axis] + 1));
        let mut taps = Vec::with_capacity(shape.kernel[0] * shape.kernel[1]);
        for y in (0..shape.kernel[0]).map(|tap| tap * shape.dilation[0]) {
            for x in (0..shape.kernel[1]).map(|tap| tap * shape.dilation[1]) {
                let subgrid = self.number(rows[y], columns[x]).expect("the residues of taps are numbered");
                taps.push(Tap { subgrid, dy: y / self.stride[0], dx: x / self.stride[1] });
            }
        }
        taps
    }

    pub(super) fn count(&self) -> usize {
        self.numbers[0].len() * self.numbers[1].len()
    }

    /// The numbers of the first `size` padded rows (axis 0) or columns.
    pub(super) fn along(&self, axis: usize, size: usize) -> Vec<Option<usize>> {
        (0..size).map(|i| self.numbers[axis].get(&(i % self.stride[axis])).copied()).collect()
    }

    /// The subgrid of a row's and a column's number; `None` where no tap looks.
    pub(super) fn number(&self, row: Option<usize>, column: Option<usize>) -> Option<usize> {
        Some(row? * self.numbers[1].len() + column?)
    }
}
