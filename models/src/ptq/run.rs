//! Real networks on inputs, in 32-bit floats; also quantised layers on integers, which are such floats.

use ndarray::{Array2, Array3, Array4, ArrayView2, Axis, s};

use super::real::{RealNetwork, RealOp, RealTerm};
use crate::network::{Shape, Window, selected};
use crate::parallel::each;
use crate::shape::of_channel;

/// The answers to inputs in real numbers.
pub fn run(network: &RealNetwork, inputs: &[Array3<f32>]) -> Vec<Array3<f32>> {
    each(inputs, |input| {
        let mut tensors = vec![input.clone()];
        for node in &network.nodes {
            tensors.push(step(&node.op, &|tensor| &tensors[tensor]));
        }
        tensors.swap_remove(network.output)
    })
}

/// What an operation makes of the tensors that it reads.
pub(super) fn step<'t>(op: &RealOp, tensor: &impl Fn(usize) -> &'t Array3<f32>) -> Array3<f32> {
    match op {
        RealOp::Linear { terms, bias } => {
            let mut sum: Option<Array3<f32>> = None;
            for term in terms {
                let product = product(term, tensor(term.input()));
                sum = Some(match sum {
                    None => product,
                    Some(sum) => sum + product,
                });
            }
            let mut sum = sum.expect("a layer has terms");
            for (channel, mut plane) in sum.outer_iter_mut().enumerate() {
                plane += bias[channel];
            }
            sum
        }
        RealOp::Clip { input, lo, hi } => tensor(*input).mapv(|x| x.max(*lo).min(*hi)),
        RealOp::MaxPool { input, window } => {
            pool(tensor(*input), window, |values| values.fold(f32::NEG_INFINITY, f32::max))
        }
        RealOp::AveragePool { input, window, divisor } => {
            pool(tensor(*input), window, |values| values.sum::<f32>()) / *divisor
        }
        RealOp::Flatten { input } => {
            let x = tensor(*input);
            Array3::from_shape_vec((x.len(), 1, 1), x.iter().copied().collect()).expect("as many elements")
        }
        RealOp::Concat { inputs } => {
            let parts: Vec<_> = inputs.iter().map(|&input| tensor(input).view()).collect();
            ndarray::concatenate(Axis(0), &parts).expect("parts of one size")
        }
        RealOp::Select { input, shape, axes } => {
            let x: Vec<f32> = tensor(*input).iter().copied().collect();
            let chosen = selected(axes).into_iter().map(|at| at.map_or(0.0, |at| x[at])).collect();
            Array3::from_shape_vec(*shape, chosen).expect("as many elements")
        }
    }
}

/// A term on its tensor.
pub(super) fn product(term: &RealTerm, x: &Array3<f32>) -> Array3<f32> {
    match term {
        RealTerm::Weights { window, groups, weights, .. } => convolve(x, weights, window, *groups),
        RealTerm::Identity { factor, .. } => {
            let mut z = x.clone();
            for (channel, mut plane) in z.outer_iter_mut().enumerate() {
                plane *= of_channel(factor, channel);
            }
            z
        }
    }
}

/// A convolution as products of matrices: the windows of each group are laid out as columns.
fn convolve(x: &Array3<f32>, w: &Array4<f32>, window: &Window, groups: usize) -> Array3<f32> {
    let (_, height, width) = x.dim();
    let (outputs, inputs, taps_h, taps_w) = w.dim();
    let [rows, columns] = window.output([height, width]).expect("shapes were checked");
    let (taps, each) = (inputs * taps_h * taps_w, outputs / groups);
    let matrix = ArrayView2::from_shape((outputs, taps), w.as_slice().expect("row-major")).expect("as many elements");
    let mut z = Array2::zeros((outputs, rows * columns));
    for group in 0..groups {
        let laid_out = lay_out(x, group * inputs, inputs, window, [rows, columns]);
        let part = s![group * each..(group + 1) * each, ..];
        ndarray::linalg::general_mat_mul(1.0, &matrix.slice(part), &laid_out, 0.0, &mut z.slice_mut(part));
    }
    z.into_shape_with_order((outputs, rows, columns)).expect("as many elements")
}

/// `[channels * taps, places]`: what each place reads, 0 for padding.
fn lay_out(
    x: &Array3<f32>,
    first: usize,
    channels: usize,
    window: &Window,
    [rows, columns]: [usize; 2],
) -> Array2<f32> {
    let (_, height, width) = x.dim();
    let [taps_h, taps_w] = window.kernel;
    let mut out = Array2::zeros((channels * taps_h * taps_w, rows * columns));
    for ((tap, mut line), channel) in out
        .outer_iter_mut()
        .enumerate()
        .map(|(at, line)| ((at % (taps_h * taps_w), line), first + at / (taps_h * taps_w)))
    {
        let tap = [tap / taps_w, tap % taps_w];
        for (place, slot) in line.iter_mut().enumerate() {
            if let Some([r, c]) = window.source([height, width], [place / columns, place % columns], tap) {
                *slot = x[(channel, r, c)];
            }
        }
    }
    out
}

/// `reduce` over the values of each window that are not padding.
fn pool(x: &Array3<f32>, window: &Window, reduce: impl Fn(&mut dyn Iterator<Item = f32>) -> f32) -> Array3<f32> {
    let (channels, height, width) = x.dim();
    let [rows, columns]: [usize; 2] = window.output([height, width]).expect("shapes were checked");
    let shape: Shape = [channels, rows, columns];
    let [kernel_h, kernel_w] = window.kernel;
    Array3::from_shape_fn(shape, |(channel, row, column)| {
        let taps = (0..kernel_h).flat_map(|r| (0..kernel_w).map(move |c| [r, c]));
        let mut values =
            taps.filter_map(|tap| window.source([height, width], [row, column], tap)).map(|[r, c]| x[(channel, r, c)]);
        reduce(&mut values)
    })
}
