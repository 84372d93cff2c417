//! Which input elements each pool window reads.

use lowkey_models::{Shape, Window};

/// Stands for an element of the padding.
const PADDING: u32 = u32::MAX;

/// The elements of all windows of a pool: one list per tap, one entry per output element.
#[derive(Clone, Debug)]
pub struct Windows {
    taps: Vec<Vec<u32>>,
}

impl Windows {
    /// The windows of a pool over an input of `shape`, whose output has `output` rows and columns.
    pub fn new(window: &Window, shape: Shape, output: [usize; 2]) -> Self {
        let [channels, height, width] = shape;
        let taps = (0..window.kernel[0]).flat_map(|r| (0..window.kernel[1]).map(move |t| [r, t]));
        let list = |tap: [usize; 2]| {
            let mut list = Vec::with_capacity(channels * output[0] * output[1]);
            for channel in 0..channels {
                for y in 0..output[0] {
                    for x in 0..output[1] {
                        let source = window.source([height, width], [y, x], tap);
                        list.push(source.map_or(PADDING, |[y, x]| ((channel * height + y) * width + x) as u32));
                    }
                }
            }
            list
        };
        Self { taps: taps.map(list).collect() }
    }

    /// One element for each entry, 0 where it is `None`: for what is read in another order.
    pub fn select(selected: &[Option<usize>]) -> Self {
        Self { taps: vec![selected.iter().map(|at| at.map_or(PADDING, |at| at as u32)).collect()] }
    }

    /// Elements of a window.
    pub fn size(&self) -> usize {
        self.taps.len()
    }

    /// For each tap the values that it reads, `padding` where it reads none.
    pub fn gather<'a>(&'a self, values: &'a [u64], padding: u64) -> impl Iterator<Item = Vec<u64>> + 'a {
        let read = move |&index: &u32| if index == PADDING { padding } else { values[index as usize] };
        self.taps.iter().map(move |tap| tap.iter().map(read).collect())
    }

    /// Windows: entries of each tap.
    pub(crate) fn count(&self) -> usize {
        self.taps.first().map_or(0, Vec::len)
    }

    /// What belongs to each of so many elements, of values by tap as [`gather`](Self::gather) gives them; those of the padding go.
    pub(super) fn scatter(&self, taps: impl Iterator<Item = impl AsRef<[u64]>>, elements: usize) -> Vec<u64> {
        let mut all = vec![0; elements];
        for (tap, values) in self.taps.iter().zip(taps) {
            for (&index, value) in tap.iter().zip(values.as_ref()) {
                if index != PADDING {
                    all[index as usize] = *value;
                }
            }
        }
        all
    }

    /// The sum of each window, wrapping; padding counts as 0.
    pub fn sum(&self, values: &[u64]) -> Vec<u64> {
        let mut sum = vec![0u64; self.count()];
        for tap in &self.taps {
            for (sum, &index) in sum.iter_mut().zip(tap) {
                if index != PADDING {
                    *sum = sum.wrapping_add(values[index as usize]);
                }
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selections_read_each_element_once() {
        let axes = [vec![0, 3], vec![2, -1, 0]];
        let windows = Windows::select(&lowkey_models::selected(&axes));
        assert_eq!(windows.sum(&[1, 2, 3, 4, 5, 6]), [3, 0, 1, 6, 0, 4]);
    }

    #[test]
    fn windows_read_what_they_cover() {
        let window = Window { kernel: [2, 2], stride: [2, 1], padding: [1, 0, 0, 0], dilation: [1, 1] };
        let windows = Windows::new(&window, [2, 3, 2], window.output([3, 2]).unwrap());
        assert_eq!(windows.size(), 4);
        let values: Vec<u64> = (1..=12).collect();
        // Rows (padding, 0) and (1, 2), columns (0, 1), both channels.
        assert_eq!(windows.sum(&values), [3, 18, 15, 42]);
        let taps: Vec<_> = windows.gather(&values, 99).collect();
        let patches = Windows::new(&lowkey_models::blocks::patches([2, 2], [3, 3]), [1, 3, 3], [2, 2]);
        let map: Vec<u64> = (1..=9).collect();
        assert_eq!(patches.scatter(patches.gather(&map, 0), 9), map);
        assert_eq!(taps, [[99, 3, 99, 9], [99, 4, 99, 10], [1, 5, 7, 11], [2, 6, 8, 12]]);
    }
}
