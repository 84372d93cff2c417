//! The reference interpreter: what a network computes, by definition. Written to be obviously right, not fast; `fast.rs` is
//! tested against it, and so is everything that computes the same thing in secret.

use ndarray::{Array3, Array4, Axis};

use crate::error::InputError;
use crate::network::{Input, Op, Range, Shape, Term, Window};
use crate::weights::Network;

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
        self.evaluate(input, |index, position, z, x| {
            let (terms, weights) = self.linear(index).expect("the node is linear");
            let array = weights.terms[position].as_ref().expect("the term has weights");
            add_conv(z, x, &terms[position], array);
        })
    }

    /// All tensors, where `add_term(node, term, z, x)` adds a term with weights on the tensor x to z.
    pub(crate) fn evaluate(
        &self,
        input: &Tensor,
        add_term: impl Fn(usize, usize, &mut Tensor, &Tensor),
    ) -> Result<Vec<Tensor>, InputError> {
        check_input(&self.architecture().input, input)?;
        let mut tensors = vec![input.clone()];
        for (index, node) in self.architecture().nodes.iter().enumerate() {
            let shape = self.tensors()[index + 1].shape;
            let result = match &node.op {
                Op::Linear { terms } => {
                    let (_, weights) = self.linear(index).expect("the node is linear");
                    let mut z = Tensor::from_shape_fn(shape, |(channel, _, _)| weights.bias[channel]);
                    for (position, term) in terms.iter().enumerate() {
                        let x = &tensors[term.input()];
                        match term {
                            Term::Identity { multiplier, .. } => z += &(x * *multiplier),
                            Term::Conv { .. } | Term::Dense { .. } => add_term(index, position, &mut z, x),
                        }
                    }
                    z
                }
                Op::Requantise { input, bits, shift, zero_point } => {
                    requantise(&tensors[*input], *bits, shift, *zero_point)
                }
                Op::MaxPool { input, window } => {
                    pool(&tensors[*input], window, shape, |values| values.max().expect("a value in every window"))
                }
                Op::SumPool { input, window } => pool(&tensors[*input], window, shape, |values| values.sum()),
                Op::AvgPool { input, window, multiplier, offset, shift } => {
                    pool(&tensors[*input], window, shape, |values| (multiplier * values.sum::<i64>() + offset) >> shift)
                }
                Op::Flatten { input } => {
                    Tensor::from_shape_vec(shape, tensors[*input].iter().copied().collect()).expect("as many elements")
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
        return Err(InputError::Shape { found: [c, h, w], wanted: input.shape });
    }
    let range @ Range { lo, hi } = input.range();
    match tensor.iter().find(|&&value| !range.contains(value)) {
        None => Ok(()),
        Some(&value) => Err(InputError::Value { value, lo, hi }),
    }
}

/// z += w * x, with 0 for what lies in the padding; `term` is a convolution or a matrix, which is a convolution with a window of
/// one element.
pub(crate) fn add_conv(z: &mut Tensor, x: &Tensor, term: &Term, w: &Array4<i32>) {
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
fn requantise(z: &Tensor, bits: u32, shift: &[u32], zero_point: i64) -> Tensor {
    let hi = (1 << bits) - 1;
    Tensor::from_shape_fn(z.dim(), |at| {
        let shift = if shift.len() == 1 { shift[0] } else { shift[at.0] };
        (z[at] >> shift).clamp(0, hi) - zero_point
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
