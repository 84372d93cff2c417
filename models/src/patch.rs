//! Patches of [blocks](crate::blocks): where they are, and what becomes of their pixels.

use ndarray::{Array3, Axis};

use crate::network::{Range, Window};

/// Height and width of a patch; `None` for an identity.
pub type Patch = Option<[usize; 2]>;

/// The patches of a map, side by side; the last of a row or column may reach beyond it.
pub fn patches(patch: [usize; 2], map: [usize; 2]) -> Window {
    let beyond = |axis: usize| map[axis].next_multiple_of(patch[axis]) - map[axis];
    Window { kernel: patch, stride: patch, padding: [0, 0, beyond(0), beyond(1)], dilation: [1, 1] }
}

/// The values of a block: |t| < 2^(bits-1).
pub(crate) fn values_of(bits: u32) -> Range {
    let end = 1 << (bits - 1);
    Range { lo: 1 - end, hi: end - 1 }
}

/// y of sums z.
pub(crate) fn block(z: &Array3<i64>, shift: u32, patch: Patch) -> Array3<i64> {
    let mut values = z.mapv(|z| z >> shift);
    let Some([rows, columns]) = patch else { return values };
    for mut plane in values.outer_iter_mut() {
        for mut strip in plane.axis_chunks_iter_mut(Axis(0), rows) {
            for mut patch in strip.axis_chunks_iter_mut(Axis(1), columns) {
                if patch.sum() <= 0 {
                    patch.fill(0);
                }
            }
        }
    }
    values
}
