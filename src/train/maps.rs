//! Maps that a layer reads: which values are in which patch, and in which window of a pool. It moves values and adds them, nothing else, so
//! that each party does it to its shares alone.
//!
//! ```text
//! columns      X -> a row for each patch          a convolution is a dense layer on these rows
//! uncolumns    the transpose: each value gets the sum of its places in patches
//! ```
//!
//! Of a stride of 1, uncolumns(D W^T) is again a convolution: of D, padded, by the kernels turned round ([`Maps::transposed`]). Its products
//! have one output for each value instead of one for each place in a patch, and a product on shares pays for outputs.
//!
//! Values of maps come position after position, row by row, those of all channels of a position together; so do the 5 x 5 places of a patch.

use super::matrix::Number;

/// Rows and columns of a patch.
pub(super) const KERNEL: usize = 5;
/// Places of a patch.
pub(super) const PLACES: usize = KERNEL * KERNEL;

/// Square maps of some channels, cut into patches of 5 x 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Maps {
    /// Rows, and columns.
    pub(super) side: usize,
    /// Values of a position.
    pub(super) channels: usize,
    /// From patch to patch.
    pub(super) stride: usize,
    /// Zeros above and to the left.
    pub(super) before: usize,
    /// Zeros below and to the right.
    pub(super) after: usize,
}

impl Maps {
    /// Patches in a row, and rows of them.
    pub(super) fn patches(&self) -> usize {
        (self.side + self.before + self.after - KERNEL) / self.stride + 1
    }

    /// Values of a sample.
    pub(super) fn values(&self) -> usize {
        self.side * self.side * self.channels
    }

    /// Values of a patch.
    pub(super) fn inputs(&self) -> usize {
        PLACES * self.channels
    }

    /// For each place of each patch where its channels begin in a sample, `None` in the padding.
    fn places(&self) -> Vec<Option<usize>> {
        let patches = self.patches();
        let inside = |place: usize| place.checked_sub(self.before).filter(|place| *place < self.side);
        let place = |patch: usize, i: usize| {
            let (top, left) = (patch / patches * self.stride, patch % patches * self.stride);
            let (row, column) = inside(top + i / KERNEL).zip(inside(left + i % KERNEL))?;
            Some((row * self.side + column) * self.channels)
        };
        (0..patches * patches * PLACES).map(|i| place(i / PLACES, i % PLACES)).collect()
    }

    /// Patches of samples, one a row.
    ///
    /// # Panics
    /// If these are no whole samples.
    pub(super) fn columns<T: Number>(&self, samples: &[T]) -> Vec<T> {
        assert_eq!(samples.len() % self.values(), 0, "samples of {self:?}");
        let places = self.places();
        let mut rows = Vec::with_capacity(samples.len() / self.values() * places.len() * self.channels);
        let zeros = vec![T::default(); self.channels];
        for sample in samples.chunks_exact(self.values()) {
            for place in &places {
                rows.extend_from_slice(place.map_or(&zeros, |at| &sample[at..at + self.channels]));
            }
        }
        rows
    }

    /// Samples, of which each value is the sum of its places in patches.
    pub(super) fn uncolumns(&self, rows: &[i64]) -> Vec<i64> {
        let places = self.places();
        let mut samples = vec![0; rows.len() / (places.len() * self.channels) * self.values()];
        let rows = rows.chunks_exact(places.len() * self.channels);
        for (sample, rows) in samples.chunks_exact_mut(self.values()).zip(rows) {
            for (place, values) in places.iter().zip(rows.chunks_exact(self.channels)) {
                if let Some(at) = place {
                    sample[*at..].iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
                }
            }
        }
        samples
    }

    /// What gradients of `outputs` maps are cut into, so that a convolution of them gives those of these maps; none of another stride than 1.
    pub(super) fn transposed(&self, outputs: usize) -> Option<Self> {
        let edge = KERNEL - 1;
        let sound = self.stride == 1 && self.before <= edge && self.after <= edge;
        sound.then(|| Self {
            side: self.patches(),
            channels: outputs,
            stride: 1,
            before: edge - self.before,
            after: edge - self.after,
        })
    }

    /// The kernels of that convolution: places in reverse, inputs and outputs exchanged.
    pub(super) fn turned<T: Number>(&self, weights: &[T], outputs: usize) -> Vec<T> {
        let mut turned = Vec::with_capacity(weights.len());
        for place in (0..PLACES).rev() {
            let of_place = &weights[place * self.channels * outputs..][..self.channels * outputs];
            (0..outputs).for_each(|output| turned.extend(of_place.iter().skip(output).step_by(outputs)));
        }
        turned
    }
}

/// Windows of a pool: squares of a map, side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Windows {
    /// Rows of a window, and columns.
    pub(super) pool: usize,
    /// Rows of the maps, and columns.
    pub(super) side: usize,
    /// Values of a position.
    pub(super) channels: usize,
}

impl Windows {
    /// Values of a window.
    pub(super) fn size(&self) -> usize {
        self.pool * self.pool
    }

    /// For each place in a window the values that are there, of all windows: by samples, windows, channels.
    pub(super) fn cut<T: Number>(&self, samples: &[T]) -> Vec<Vec<T>> {
        let rows: Vec<&[T]> = samples.chunks_exact(self.channels).collect();
        let of = |place: usize| {
            let chosen = self.positions(rows.len()).skip(place).step_by(self.size());
            chosen.flat_map(|at| rows[at].iter().copied()).collect()
        };
        (0..self.size()).map(of).collect()
    }

    /// Samples from the values of each place.
    pub(super) fn join<T: Number>(&self, places: &[Vec<T>]) -> Vec<T> {
        let count = places.len() * places[0].len();
        let mut samples = vec![T::default(); count];
        for (i, at) in self.positions(count / self.channels).enumerate() {
            let from = &places[i % self.size()][i / self.size() * self.channels..][..self.channels];
            samples[at * self.channels..][..self.channels].copy_from_slice(from);
        }
        samples
    }

    /// The positions of all windows of so many positions, window after window.
    fn positions(&self, count: usize) -> impl Iterator<Item = usize> + '_ {
        let (across, area) = (self.side / self.pool, self.side * self.side);
        (0..count).map(move |i| {
            let (sample, window, place) = (i / area, i % area / self.size(), i % self.size());
            let row = window / across * self.pool + place / self.pool;
            sample * area + row * self.side + window % across * self.pool + place % self.pool
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::matrix::{multiply, transpose};

    const D: Maps = Maps { side: 28, channels: 1, stride: 2, before: 1, after: 2 };
    const SMALL: Maps = Maps { side: 6, channels: 3, stride: 1, before: 1, after: 2 };

    fn numbers(count: usize) -> Vec<i64> {
        (0..count as i64).map(|i| i * i % 31 - 15).collect()
    }

    #[test]
    fn patches_are_those_of_a_convolution() {
        let image: Vec<i64> = (1..=784).collect();
        let patches = D.columns(&image);
        assert_eq!(patches.len(), 196 * 25);
        assert_eq!(patches[..7], [0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(patches[25 * 15..][..5], [30, 31, 32, 33, 34]);
        assert_eq!(patches[195 * 25..][..3], [25 * 28 + 26, 25 * 28 + 27, 25 * 28 + 28]);
        assert_eq!(patches[195 * 25 + 15..][..5], [0; 5]);
        let two = SMALL.columns(&numbers(2 * SMALL.values()));
        assert_eq!(two.len(), 2 * 25 * 75);
        // The middle of the patch at row 1, column 2 of the second sample: it is at row 2, column 3.
        let middle = &two[(25 + 5 + 2) * 75 + 12 * 3..][..3];
        assert_eq!(middle, &numbers(2 * SMALL.values())[SMALL.values() + (2 * 6 + 3) * 3..][..3]);
    }

    /// <columns(x), y> = <x, uncolumns(y)> for all x and y.
    #[test]
    fn uncolumns_is_the_transpose() {
        let inner = |a: &[i64], b: &[i64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<i64>();
        for maps in [D, SMALL] {
            let x = numbers(2 * maps.values());
            let y: Vec<i64> = numbers(maps.columns(&x).len()).into_iter().rev().collect();
            assert_eq!(inner(&maps.columns(&x), &y), inner(&x, &maps.uncolumns(&y)), "{maps:?}");
        }
    }

    /// Gradients go back by a convolution of the gradients: what a step on shares multiplies, for what the twin does.
    #[test]
    fn gradients_go_back_by_a_convolution() {
        for maps in [SMALL, Maps { before: 0, after: 0, ..SMALL }, Maps { before: 4, after: 0, ..SMALL }] {
            let (n, rows) = (4, 2 * maps.patches() * maps.patches());
            let (weights, delta) = (numbers(maps.inputs() * n), numbers(rows * n));
            let wanted = maps.uncolumns(&multiply(&delta, &transpose(&weights, n), n, maps.inputs()));
            let back = maps.transposed(n).unwrap();
            let found = multiply(&back.columns(&delta), &maps.turned(&weights, n), back.inputs(), maps.channels);
            assert_eq!(found, wanted, "{maps:?}");
        }
        assert_eq!(D.transposed(5), None);
    }

    #[test]
    fn windows_are_cut_and_joined() {
        let windows = Windows { pool: 2, side: 4, channels: 3 };
        let samples: Vec<u64> = (0..2 * 16 * 3).collect();
        let places = windows.cut(&samples);
        assert_eq!(places.iter().map(Vec::len).collect::<Vec<_>>(), [24; 4]);
        // The second window of the second sample: rows 0 and 1, columns 2 and 3.
        let first: Vec<u64> = places.iter().map(|place| place[12 + 3]).collect();
        assert_eq!(first, [(16 + 2) * 3, (16 + 3) * 3, (16 + 6) * 3, (16 + 7) * 3]);
        assert_eq!(windows.join(&places), samples);
    }
}
