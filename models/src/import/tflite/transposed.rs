//! Transposed convolutions: each element of the operand adds a multiple of the kernel to the result, stride by stride.
//!
//! With stride s and padding p, result n takes the weights k = n + p - s i of elements i, so all of k = (n + p) mod s. The results of one
//! remainder are a convolution with every s-th weight; those of all remainders are one convolution with s * s times as many channels,
//! whose results are put in order.

use ndarray::Array4;

use super::linear::{Filter, Rounded};
use super::model::Operator;
use super::movement::{element, positions};
use super::round::Kernels;
use super::shape::bounded;
use super::trouble::{Trouble, refuse};
use super::value::Value;
use super::walk::Walk;
use crate::import::builder::{Sum, weight_width};
use crate::import::report::Verdict;
use crate::import::same;
use crate::network::{Term, Window};

/// One axis of a transposed convolution.
#[derive(Clone, Copy)]
struct Axis {
    /// Of the kernel.
    kernel: usize,
    stride: usize,
    /// Results that are left out before the first one.
    padding: usize,
}

impl Axis {
    /// Of `results` results; as the runtime pads a convolution from them to the operand, with SAME padding.
    fn new(kernel: usize, stride: usize, results: usize, same: bool) -> Axis {
        Axis { kernel, stride, padding: if same { same::padding(results, stride, kernel) / 2 } else { 0 } }
    }

    /// True if the convolution of `results` makes `elements`; the runtime prepares no others.
    fn fits(self, elements: usize, results: usize, same: bool) -> bool {
        let extent = if same { 1 } else { self.kernel };
        results >= extent && (results - extent) / self.stride + 1 == elements
    }

    /// Elements that a result takes at most.
    fn taps(self) -> usize {
        self.kernel.div_ceil(self.stride)
    }

    /// Zeros before and behind the operand's elements.
    fn zeros(self, elements: usize, results: usize) -> Option<[usize; 2]> {
        let last = (results - 1 + self.padding) / self.stride;
        Some([(self.taps() - 1).checked_sub(self.padding / self.stride)?, (last + 1).saturating_sub(elements)])
    }

    /// The remainder of a result, and its place among those.
    fn place(self, result: usize) -> [usize; 2] {
        let at = result + self.padding;
        [at % self.stride, at / self.stride - self.padding / self.stride]
    }
}

/// Where results come from.
struct Geometry {
    axes: [Axis; 2],
    /// Padded so that strides decide the sizes: SAME.
    same: bool,
    /// Of the result: 1, height, width, channels.
    dims: Vec<usize>,
    /// Zeros around the operand: top, left, bottom, right.
    padding: [usize; 4],
}

impl<'m, 'f> Walk<'m, 'f> {
    /// `[out, height, width, in]` weights.
    pub fn transposed(&mut self, operator: &Operator<'f>, name: &str) -> Result<Verdict, Trouble> {
        let x = self.image(operator, 2, name)?;
        let x = self.settled(name, &x)?;
        let filter = self.filter(operator, 0)?;
        let geometry = self.geometry(operator, &x, &filter)?;
        let Geometry { axes, padding, ref dims, .. } = geometry;
        let kernels = self.kernels_of(&x, &geometry)?;
        let window = Window { kernel: axes.map(Axis::taps), padding, ..Window::POINT };
        let weights = by_remainder(&filter, axes);
        let (outputs, made) = (filter.dims[0], weights.dim().0);
        let term =
            Term::Conv { input: x.id, out_channels: made, groups: 1, window, weight_bits: weight_width(&weights) };
        let Some(grid) = self.builder.shape_of(&term) else {
            return refuse("its window is larger than its input", "the file is damaged");
        };
        // The channels of all remainders, one behind the other.
        let each = |values: Vec<i64>| values.iter().copied().cycle().take(made).collect::<Vec<_>>();
        let bias = each(self.bias(operator, 3, outputs)?);
        let scales: Vec<f32> = match filter.scales[..] {
            [one] => vec![one],
            ref all => all.iter().copied().cycle().take(made).collect(),
        };
        let sum = Sum { terms: vec![(term, Some(weights))], bias };
        let rounded = Rounded { scales: &scales, matrix: false, activation: 3, kernels };
        let (id, y) = self.rescaled(operator, name, &x, sum, &rounded)?;
        let parts = Value { id, grid, dims: Vec::new(), padding: [0; 4], fill: 0, scale: y.scale, clamp: y.clamp };
        let list = positions(dims, |at| {
            let ([down, row], [across, column]) = (axes[0].place(at[1]), axes[1].place(at[2]));
            let channel = (down * axes[1].stride + across) * outputs + at[3];
            Some(element(&[grid[1], grid[2], grid[0]], &[row, column, channel]))
        });
        let made = self.moved(&format!("{name}/order"), &parts, dims, &list)?;
        self.define(operator, made);
        Ok(Verdict::Imported("a convolution"))
    }

    /// What the operator makes of an image, and from where.
    fn geometry(&self, operator: &Operator<'f>, x: &Value, filter: &Filter) -> Result<Geometry, Trouble> {
        let [outputs, rows, columns, inputs] = filter.dims[..] else {
            return refuse(format!("its weights have shape {:?}", filter.dims), "four dimensions are needed");
        };
        if inputs != x.grid[0] || outputs == 0 {
            return refuse(format!("its weights read {inputs} of {} channels", x.grid[0]), "the file is damaged");
        }
        let sizes: Vec<usize> =
            self.whole(operator, 0)?.into_iter().filter_map(|size| usize::try_from(size).ok()).collect();
        let stride = [operator.i32(2, 0)?, operator.i32(1, 0)?].map(|stride| usize::try_from(stride).unwrap_or(0));
        let (&[1, height, width, channels], true) = (&sizes[..], stride.iter().all(|stride| (1..=64).contains(stride)))
        else {
            return refuse(format!("it makes {sizes:?} with strides {stride:?}"), "the file is damaged");
        };
        let dims = bounded(&[1, height, width, channels])?;
        let same = operator.i8(0)? == 0;
        let axes = [Axis::new(rows, stride[0], height, same), Axis::new(columns, stride[1], width, same)];
        let fits = axes[0].fits(x.grid[1], height, same) && axes[1].fits(x.grid[2], width, same);
        let whole = fits && channels == outputs && dims.iter().all(|&n| n > 0);
        let damaged = || refuse(format!("it makes {sizes:?} of {:?}", x.dims), "the file is damaged");
        if !whole {
            return damaged();
        }
        let zeros = [axes[0].zeros(x.grid[1], height), axes[1].zeros(x.grid[2], width)];
        let [Some([top, bottom]), Some([left, right])] = zeros else { return damaged() };
        Ok(Geometry { axes, same, dims, padding: [top, left, bottom, right] })
    }

    /// Whose rounding it has.
    fn kernels_of(&self, x: &Value, &Geometry { axes, same, .. }: &Geometry) -> Result<Kernels, Trouble> {
        // XNNPACK takes no others (CalculateTransposeConvPaddings of its delegate); the runtime's own kernel does, and rounds signed
        // numbers as the reference kernel does.
        let delegated = !same || axes.iter().all(|axis| axis.kernel >= axis.stride);
        match self.kernels {
            // Unsigned ones it rounds by where they lie: in vectors half up, the rest half away from 0.
            Kernels::Single if !delegated && x.clamp.lo == 0 => {
                let reason = "XNNPACK does not run it, for its strides are larger than its kernel, with SAME padding; the kernel \
                              that runs it rounds unsigned numbers by their places";
                let hint = "round as the reference kernels do, use signed numbers, or a kernel as large as the strides";
                refuse(reason, hint)
            }
            Kernels::Single if !delegated => Ok(Kernels::Double),
            kernels => Ok(kernels),
        }
    }
}

/// The weights of each remainder, the last one first, as channels of their own.
fn by_remainder(filter: &Filter, [down, across]: [Axis; 2]) -> Array4<i32> {
    let (outputs, inputs) = (filter.dims[0], filter.dims[3]);
    let remainders = down.stride * across.stride;
    let shape = [outputs * remainders, inputs, down.taps(), across.taps()];
    Array4::from_shape_fn(shape, |(channel, input, row, column)| {
        let (part, output) = (channel / outputs, channel % outputs);
        let weight = |axis: Axis, remainder: usize, tap: usize| remainder + axis.stride * (axis.taps() - 1 - tap);
        let row = weight(down, part / across.stride, row);
        let column = weight(across, part % across.stride, column);
        if row < down.kernel && column < across.kernel {
            filter.values[element(&filter.dims, &[output, row, column, input])]
        } else {
            0
        }
    })
}
