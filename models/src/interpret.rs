//! The reference interpreter: what a network computes, by definition. Written to be obviously right, not fast; `fast.rs` is
//! tested against it, and so is everything that computes the same thing in secret.

use ndarray::{Array3, Array4};

use crate::error::InputError;
use crate::network::{Input, Op, Range, Shape, Term, Window};
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
        check_input(&self.architecture().input, input)?;
        let mut tensors = vec![input.clone()];
        for (index, node) in self.architecture().nodes.iter().enumerate() {
            let shape = self.tensors()[index + 1].shape;
            let result = match &node.op {
                Op::Linear { .. } => {
                    let (terms, weights) = self.linear(index).expect("the node is linear");
                    linear(terms, weights, &tensors, shape)
                }
                Op::Requantise {
                    input,
                    bits,
                    shift,
                    zero_point,
                } => requantise(&tensors[*input], *bits, shift, *zero_point),
                Op::MaxPool { input, window } => pool(&tensors[*input], window, shape, |values| {
                    values.max().expect("a value in every window")
                }),
                Op::SumPool { input, window } => {
                    pool(&tensors[*input], window, shape, |values| values.sum())
                }
                Op::AvgPool {
                    input,
                    window,
                    multiplier,
                    offset,
                    shift,
                } => pool(&tensors[*input], window, shape, |values| {
                    (multiplier * values.sum::<i64>() + offset) >> shift
                }),
                Op::Flatten { input } => {
                    Tensor::from_shape_vec(shape, tensors[*input].iter().copied().collect())
                        .expect("as many elements")
                }
                Op::Table { input, table } => {
                    let lo = self.tensors()[*input].range.lo;
                    tensors[*input].mapv(|x| table[(x - lo) as usize])
                }
            };
            tensors.push(result);
        }
        Ok(tensors)
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
        return Err(InputError::Shape {
            found: [c, h, w],
            wanted: input.shape,
        });
    }
    let range @ Range { lo, hi } = input.range();
    match tensor.iter().find(|&&value| !range.contains(value)) {
        None => Ok(()),
        Some(&value) => Err(InputError::Value { value, lo, hi }),
    }
}

fn linear(terms: &[Term], weights: &LinearWeights, tensors: &[Tensor], shape: Shape) -> Tensor {
    let mut z = Tensor::from_shape_fn(shape, |(channel, _, _)| weights.bias[channel]);
    for (term, w) in terms.iter().zip(&weights.terms) {
        match (term, w) {
            (Term::Identity { input, multiplier }, None) => z += &(&tensors[*input] * *multiplier),
            (
                Term::Conv {
                    input,
                    groups,
                    window,
                    ..
                },
                Some(w),
            ) => add_conv(&mut z, &tensors[*input], w, *groups, window),
            (Term::Dense { input, .. }, Some(w)) => {
                add_conv(&mut z, &tensors[*input], w, 1, &Window::POINT)
            }
            _ => unreachable!("a network has weights exactly where its terms ask for them"),
        }
    }
    z
}

/// z += w * x, with 0 for what lies in the padding.
fn add_conv(z: &mut Tensor, x: &Tensor, w: &Array4<i32>, groups: usize, window: &Window) {
    let (channels, height, width) = x.dim();
    let (outputs, per_group, _, _) = w.dim();
    debug_assert_eq!(channels, per_group * groups);
    for ((o, row, column), z) in z.indexed_iter_mut() {
        let first = o / (outputs / groups) * per_group;
        for ((i, tap_row, tap_column), &w) in w.index_axis(ndarray::Axis(0), o).indexed_iter() {
            if let Some([r, c]) =
                window.source([height, width], [row, column], [tap_row, tap_column])
            {
                *z += i64::from(w) * x[(first + i, r, c)];
            }
        }
    }
}

/// y = clamp(z >> shift, 0, 2^bits - 1) - zero_point.
fn requantise(z: &Tensor, bits: u32, shift: &[u32], zero_point: i64) -> Tensor {
    let hi = (1 << bits) - 1;
    Tensor::from_shape_fn(z.dim(), |at| {
        let shift = if shift.len() == 1 {
            shift[0]
        } else {
            shift[at.0]
        };
        (z[at] >> shift).clamp(0, hi) - zero_point
    })
}

/// `reduce` over the values of each window that are not padding.
fn pool(
    x: &Tensor,
    window: &Window,
    shape: Shape,
    reduce: impl Fn(&mut dyn Iterator<Item = i64>) -> i64,
) -> Tensor {
    let (_, height, width) = x.dim();
    let [rows, columns] = window.kernel;
    Tensor::from_shape_fn(shape, |(channel, row, column)| {
        let taps = (0..rows).flat_map(|r| (0..columns).map(move |c| [r, c]));
        let mut values = taps
            .filter_map(|tap| window.source([height, width], [row, column], tap))
            .map(|[r, c]| x[(channel, r, c)]);
        reduce(&mut values)
    })
}
