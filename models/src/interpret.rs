//! The reference interpreter: what a network computes, by definition. Written to be obviously right, not fast; `fast.rs` is
//! tested against it, and so is everything that computes the same thing in secret.

use ndarray::{Array3, Array4, Axis};

use crate::check::TensorInfo;
use crate::declared;
use crate::error::InputError;
use crate::network::{Input, Op, Range, Shape, Term, Window, selected};
use crate::patch::block;
use crate::shape::of_channel;
use crate::weights::{LinearWeights, Network};

/// The values of a tensor: `[channels, height, width]`.
pub type Tensor = Array3<i64>;

impl Network {
    /// The network's answer to `input`, a tensor of values x = y - zero_point of the input's shape and range.
    ///
    /// # Errors
    /// If the input has another shape, or a value outside of the range.
    pub fn run(&self, input: &Tensor) -> Result<Tensor, InputError> {
        let mut tensors = self.run_all(input)?;
        Ok(tensors.swap_remove(self.architecture().output))
    }

    /// All tensors, in order: the input first, then the output of each node.
    ///
    /// # Errors
    /// If the input has another shape, or a value outside of the range.
    pub fn run_all(&self, input: &Tensor) -> Result<Vec<Tensor>, InputError> {
        self.evaluate(input, |_, term, x, z| add_product(term, x, z), |_, _| None, |_, _| {})
    }

    /// All tensors, where `add_term(node, term, x, z)` adds a term with weights, on the tensor x, to z, and a requantisation is
    /// `other(node, accumulator)` where that is something. `seen(node, z)` is shown the sums of linear nodes before they wrap in
    /// declared rings.
    pub(crate) fn evaluate(
        &self,
        input: &Tensor,
        add_term: impl Fn(usize, Weighted<'_>, &Tensor, &mut Tensor),
        other: impl Fn(usize, &Tensor) -> Option<Tensor>,
        seen: impl Fn(usize, &Tensor),
    ) -> Result<Vec<Tensor>, InputError> {
        check_input(&self.architecture().input, input)?;
        let mut tensors = vec![input.clone()];
        for (index, node) in self.architecture().nodes.iter().enumerate() {
            let weights = self.weights().linear[index].as_ref();
            let add_term = |term: Weighted<'_>, x: &Tensor, z: &mut Tensor| add_term(index, term, x, z);
            let other = match node.op {
                Op::Requantise { input, .. } => other(index, &tensors[input]),
                _ => None,
            };
            if let Some(tensor) = other {
                tensors.push(tensor);
                continue;
            }
            let mut made = step(&node.op, weights, self.tensors(), &tensors, add_term);
            if let Op::Linear { .. } = node.op {
                seen(index, &made);
                if let Some(ring) = self.architecture().ring(index) {
                    declared::wrap(&mut made, ring);
                }
            }
            tensors.push(made);
        }
        Ok(tensors)
    }
}

/// A term with weights.
#[derive(Clone, Copy)]
pub(crate) struct Weighted<'w> {
    pub term: &'w Term,
    /// Its position in the node.
    pub position: usize,
    pub weights: &'w Array4<i32>,
}

/// The tensor after `tensors`, made by `op`, before it wraps; `infos` are those of the checker.
pub(crate) fn step(
    op: &Op,
    weights: Option<&LinearWeights>,
    infos: &[TensorInfo],
    tensors: &[Tensor],
    add_term: impl Fn(Weighted<'_>, &Tensor, &mut Tensor),
) -> Tensor {
    let shape = infos[tensors.len()].shape;
    match op {
        Op::Linear { terms } => {
            let weights = weights.expect("a linear node has weights");
            let mut z = Tensor::from_shape_fn(shape, |(channel, _, _)| weights.bias[channel]);
            for (position, (term, array)) in terms.iter().zip(&weights.terms).enumerate() {
                let x = &tensors[term.input()];
                match (term, array) {
                    (Term::Identity { multiplier, .. }, _) => z += &(x * *multiplier),
                    (term, Some(weights)) => add_term(Weighted { term, position, weights }, x, &mut z),
                    (_, None) => unreachable!("a network has weights exactly where its terms ask for them"),
                }
            }
            z
        }
        Op::Scale { input, multiplier } => {
            let bias = &weights.expect("a scale has biases").bias;
            let mut z = tensors[*input].clone();
            for (channel, mut plane) in z.outer_iter_mut().enumerate() {
                let multiplier = of_channel(multiplier, channel);
                plane.mapv_inplace(|z| multiplier * z + bias[channel]);
            }
            z
        }
        Op::Requantise { input, bits, shift, top, zero_point } => {
            requantise(&tensors[*input], top.unwrap_or((1 << bits) - 1), shift, *zero_point)
        }
        Op::Block { input, shift, patch, .. } => block(&tensors[*input], *shift, *patch),
        Op::MaxPool { input, window } => {
            pool(&tensors[*input], window, shape, |values| values.max().expect("a value in every window"))
        }
        Op::SumPool { input, window } => pool(&tensors[*input], window, shape, |values| values.sum()),
        Op::AvgPool { input, window, multiplier, offset, shift, floats } => {
            pool(&tensors[*input], window, shape, |values| {
                let values: Vec<i64> = values.collect();
                let sum: i64 = values.iter().sum();
                let lowered = floats.as_ref().map_or(0, |floats| floats.lowers(sum, values));
                ((multiplier * sum + offset) >> shift) - lowered
            })
        }
        Op::Flatten { input } => {
            Tensor::from_shape_vec(shape, tensors[*input].iter().copied().collect()).expect("as many elements")
        }
        Op::Concat { inputs } => {
            let parts: Vec<_> = inputs.iter().map(|input| tensors[*input].view()).collect();
            ndarray::concatenate(Axis(0), &parts).expect("parts of one height and width")
        }
        Op::Select { input, axes, .. } => {
            let values: Vec<i64> = tensors[*input].iter().copied().collect();
            let chosen = selected(axes).into_iter().map(|at| at.map_or(0, |at| values[at])).collect();
            Tensor::from_shape_vec(shape, chosen).expect("as many elements")
        }
        Op::Table { input, table } => {
            let lo = infos[*input].range.lo;
            tensors[*input].mapv(|x| table[(x - lo) as usize])
        }
    }
}

/// Index of the largest value, in row-major order; ties go to the lowest index.
pub fn argmax(tensor: &Tensor) -> usize {
    let mut best = (0, i64::MIN);
    for (index, &value) in tensor.iter().enumerate() {
        if value > best.1 {
            best = (index, value);
        }
    }
    best.0
}

pub(crate) fn check_input(input: &Input, tensor: &Tensor) -> Result<(), InputError> {
    let [channels, height, width] = input.shape;
    if tensor.dim() != (channels, height, width) {
        let (c, h, w) = tensor.dim();
        return Err(InputError::Shape { found: [c, h, w], wanted: input.shape });
    }
    let range @ Range { lo, hi } = input.range();
    match tensor.iter().find(|&&value| !range.contains(value)) {
        None => Ok(()),
        Some(&value) => Err(InputError::Value { value, lo, hi }),
    }
}

/// z += w * x, with 0 for what lies in the padding; a matrix is a convolution with a window of one element.
pub(crate) fn add_product(Weighted { term, weights: w, .. }: Weighted<'_>, x: &Tensor, z: &mut Tensor) {
    let (window, groups) = match term {
        Term::Conv { window, groups, .. } => (*window, *groups),
        Term::Dense { .. } | Term::Identity { .. } => (Window::POINT, 1),
    };
    let (_, height, width) = x.dim();
    let (outputs, per_group, _, _) = w.dim();
    for ((o, row, column), z) in z.indexed_iter_mut() {
        let first = o / (outputs / groups) * per_group;
        for ((i, tap_row, tap_column), &w) in w.index_axis(Axis(0), o).indexed_iter() {
            if let Some([r, c]) = window.source([height, width], [row, column], [tap_row, tap_column]) {
                *z += i64::from(w) * x[(first + i, r, c)];
            }
        }
    }
}

/// y = clamp(z >> shift, 0, 2^bits - 1) - zero_point.
fn requantise(z: &Tensor, top: i64, shift: &[u32], zero_point: i64) -> Tensor {
    Tensor::from_shape_fn(z.dim(), |at| {
        let shift = of_channel(shift, at.0);
        (z[at] >> shift).clamp(0, top) - zero_point
    })
}

/// `reduce` over the values of each window that are not padding.
fn pool(x: &Tensor, window: &Window, shape: Shape, reduce: impl Fn(&mut dyn Iterator<Item = i64>) -> i64) -> Tensor {
    let (_, height, width) = x.dim();
    let [rows, columns] = window.kernel;
    Tensor::from_shape_fn(shape, |(channel, row, column)| {
        let taps = (0..rows).flat_map(|r| (0..columns).map(move |c| [r, c]));
        let mut values =
            taps.filter_map(|tap| window.source([height, width], [row, column], tap)).map(|[r, c]| x[(channel, r, c)]);
        reduce(&mut values)
    })
}
