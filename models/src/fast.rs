//! The interpreter for many inputs: the same evaluation as `interpret.rs`, with convolutions as inner products of 16-bit
//! numbers (the windows of the input are laid out as rows first). Results are the same, bit for bit.

use ndarray::Array4;

use crate::bounds::term_bounds;
use crate::error::InputError;
use crate::interpret::{Tensor, Weighted, add_product};
use crate::network::{Term, Window};
use crate::parallel;
use crate::weights::Network;

/// Most 16-bit numbers that are laid out at a time.
const BLOCK: usize = 1 << 18;

impl Network {
    /// The answers to many inputs, each as [`Network::run`] gives it.
    ///
    /// # Errors
    /// If an input has another shape, or a value outside of the range.
    pub fn run_batch(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, InputError> {
        self.run_batch_with(inputs, |_, _| None, |_, _| {})
    }

    /// The same, on all cores.
    ///
    /// # Errors
    /// As [`run_batch`](Self::run_batch).
    pub fn run_batch_parallel(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, InputError> {
        let mut all = Vec::with_capacity(inputs.len());
        for part in parallel::parts(inputs, |part| self.run_batch(part)) {
            all.extend(part?);
        }
        Ok(all)
    }

    /// The same as [`run_batch`](Self::run_batch), where the requantisation of a node is `other(node, accumulator)` if that is something, and
    /// `seen(node, z)` is shown sums before they wrap.
    pub(crate) fn run_batch_with(
        &self,
        inputs: &[Tensor],
        other: impl Fn(usize, &Tensor) -> Option<Tensor>,
        seen: impl Fn(usize, &Tensor),
    ) -> Result<Vec<Tensor>, InputError> {
        let packed: Vec<Vec<Option<Packed>>> =
            (0..self.architecture().nodes.len()).map(|index| self.pack(index)).collect();
        inputs
            .iter()
            .map(|input| {
                let add = |index: usize, term: Weighted<'_>, x: &Tensor, z: &mut Tensor| match &packed[index]
                    [term.position]
                {
                    Some(packed) => packed.add(x, z),
                    None => add_product(term, x, z),
                };
                let mut tensors = self.evaluate(input, add, &other, &seen)?;
                Ok(tensors.swap_remove(self.architecture().output))
            })
            .collect()
    }

    /// The terms of node `index` that 16-bit factors and 32-bit sums hold; `None` for the others and for identities.
    fn pack(&self, index: usize) -> Vec<Option<Packed>> {
        let Some((terms, weights)) = self.linear(index) else { return Vec::new() };
        (0..terms.len())
            .map(|position| {
                let term = &terms[position];
                let array = weights.terms[position].as_ref()?;
                let range = self.tensors()[term.input()].range;
                let sums = term_bounds(position, terms, weights, self.tensors());
                let small =
                    range.magnitude() <= i16::MAX as u64 && sums.iter().all(|sum| sum.magnitude() <= i32::MAX as u64);
                small.then(|| Packed::new(term, array))
            })
            .collect()
    }
}

/// A convolution with its weights as rows of 16-bit numbers.
struct Packed {
    window: Window,
    groups: usize,
    /// Input channels and output channels of a group.
    channels: [usize; 2],
    /// Length of a row: taps of a group, rounded up to a multiple of 8.
    row: usize,
    rows: Vec<i16>,
}

impl Packed {
    fn new(term: &Term, array: &Array4<i32>) -> Packed {
        let (window, groups) = match term {
            Term::Conv { window, groups, .. } => (*window, *groups),
            Term::Dense { .. } | Term::Identity { .. } => (Window::POINT, 1),
        };
        let (outputs, inputs, height, width) = array.dim();
        let taps = inputs * height * width;
        let row = taps.next_multiple_of(8);
        let mut rows = vec![0; outputs * row];
        for (slot, w) in rows.chunks_mut(row).flat_map(|r| &mut r[..taps]).zip(array) {
            *slot = *w as i16;
        }
        Packed { window, groups, channels: [inputs, outputs / groups], row, rows }
    }

    /// z += w * x.
    fn add(&self, x: &Tensor, z: &mut Tensor) {
        let (_, _, columns) = z.dim();
        let (_, height, width) = x.dim();
        let x = x.as_slice().expect("tensors are row-major");
        let plane = z.len() / z.dim().0;
        let z = z.as_slice_mut().expect("tensors are row-major");
        let [inputs, outputs] = self.channels;
        let step = (BLOCK / self.row).clamp(1, plane);
        let mut laid_out = vec![0i16; step * self.row];
        for group in 0..self.groups {
            let x = &x[group * inputs * height * width..][..inputs * height * width];
            for start in (0..plane).step_by(step) {
                let end = (start + step).min(plane);
                for (at, row) in (start..end).zip(laid_out.chunks_mut(self.row)) {
                    self.lay_out(row, x, [height, width], [at / columns, at % columns]);
                }
                for o in group * outputs..(group + 1) * outputs {
                    let w = &self.rows[o * self.row..][..self.row];
                    for (z, row) in z[o * plane..][start..end].iter_mut().zip(laid_out.chunks(self.row)) {
                        *z += i64::from(dot(w, row));
                    }
                }
            }
        }
    }

    /// The inputs of output element `at`, in the order of the weights, 0 for padding.
    fn lay_out(&self, row: &mut [i16], x: &[i64], size: [usize; 2], at: [usize; 2]) {
        let [height, width] = self.window.kernel;
        let plane = size[0] * size[1];
        for (tap, slots) in (0..height).flat_map(|r| (0..width).map(move |c| [r, c])).zip(0..) {
            let source = self.window.source(size, at, tap).map(|[r, c]| r * size[1] + c);
            for channel in 0..self.channels[0] {
                row[channel * height * width + slots] = source.map_or(0, |i| x[channel * plane + i] as i16);
            }
        }
    }
}

/// The caller makes sure that the sum fits 32 bits; partial sums may wrap.
fn dot(a: &[i16], b: &[i16]) -> i32 {
    a.iter().zip(b).fold(0i32, |sum, (&a, &b)| sum.wrapping_add(i32::from(a).wrapping_mul(i32::from(b))))
}
