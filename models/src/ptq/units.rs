//! Which tensors must have one unit: the parts of a concatenation, and what keeps the unit of its input. How averages are rounded.

use super::PtqError;
use super::real::{RealNetwork, RealOp};
use crate::network::Window;

/// Fractional bits of a multiplied average.
const AVERAGE_BITS: u32 = 12;

/// How the average of windows of n elements becomes an integer; S is a window's sum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Average {
    /// S itself: what nothing rounds later.
    Sum,
    /// (S + half) >> shift, the nearest power of two to n.
    Shift(u32),
    /// (multiplier S + half) >> shift, about S / n: units stay.
    Scaled(i64, u32),
}

impl Average {
    /// What a unit is worth, over what it was worth before, where the real value is S / divisor.
    pub fn ratio(self, window: &Window, divisor: f64) -> f64 {
        match self {
            Average::Sum => 1.0 / divisor,
            Average::Shift(shift) => f64::from(shift).exp2() / divisor,
            Average::Scaled(..) => elements(window) / divisor,
        }
    }

    /// Multiplier, offset and shift.
    pub fn numbers(self) -> (i64, i64, u32) {
        let (multiplier, shift) = match self {
            Average::Sum => (1, 0),
            Average::Shift(shift) => (1, shift),
            Average::Scaled(multiplier, shift) => (multiplier, shift),
        };
        (multiplier, if shift == 0 { 0 } else { 1 << (shift - 1) }, shift)
    }
}

/// The classes of tensors that share a unit.
pub(super) struct Units {
    /// By tensor; a class is named by one of its tensors.
    classes: Vec<usize>,
    /// By node, for averages.
    pub averages: Vec<Option<Average>>,
}

impl Units {
    /// The classes of a network in normal form.
    ///
    /// # Errors
    /// A concatenation whose parts can't have one unit.
    pub fn of(network: &RealNetwork) -> Result<Units, PtqError> {
        let count = network.nodes.len() + 1;
        let mut classes: Vec<usize> = (0..count).collect();
        // What a unit of the tensor is worth, in units of its class.
        let mut worth = vec![1.0f64; count];
        let mut averages = vec![None; network.nodes.len()];
        for (index, node) in network.nodes.iter().enumerate() {
            let tensor = index + 1;
            match &node.op {
                RealOp::Linear { .. } | RealOp::Clip { .. } => {}
                RealOp::MaxPool { input, .. } | RealOp::Flatten { input } | RealOp::Select { input, .. } => {
                    (classes[tensor], worth[tensor]) = (classes[*input], worth[*input]);
                }
                RealOp::AveragePool { input, window, divisor } => {
                    let average = average(network, tensor, window);
                    averages[index] = Some(average);
                    classes[tensor] = classes[*input];
                    worth[tensor] = worth[*input] * average.ratio(window, f64::from(*divisor));
                }
                RealOp::Concat { inputs } => {
                    let first = inputs[0];
                    for &input in inputs {
                        if worth[input] != worth[first] {
                            return Err(PtqError::Units(node.name.clone()));
                        }
                        let (from, to) = (classes[input], classes[first]);
                        // The network's input keeps its unit, whatever it is joined with.
                        let (from, to) = if from == 0 { (to, from) } else { (from, to) };
                        classes.iter_mut().filter(|class| **class == from).for_each(|class| *class = to);
                    }
                    (classes[tensor], worth[tensor]) = (classes[first], worth[first]);
                }
            }
        }
        Ok(Units { classes, averages })
    }

    /// The class of a tensor.
    pub fn class(&self, tensor: usize) -> usize {
        self.classes[tensor]
    }
}

/// How the average that makes `tensor` is rounded.
fn average(network: &RealNetwork, tensor: usize, window: &Window) -> Average {
    let count = elements(window);
    let shift = count.log2().round() as u32;
    if f64::from(shift).exp2() == count {
        return if answers(network, tensor) { Average::Sum } else { Average::Shift(shift) };
    }
    if answers(network, tensor) {
        Average::Sum
    } else if joins(network, tensor) {
        let shift = shift + AVERAGE_BITS;
        Average::Scaled((f64::from(shift).exp2() / count).round() as i64, shift)
    } else {
        Average::Shift(shift)
    }
}

/// Elements of a window.
fn elements(window: &Window) -> f64 {
    (window.kernel[0] * window.kernel[1]) as f64
}

/// True if the tensor, perhaps in another shape, is the answer and nothing else.
fn answers(network: &RealNetwork, tensor: usize) -> bool {
    match network.readers(tensor)[..] {
        [] => network.output == tensor,
        [reader] => {
            network.output != tensor
                && matches!(network.nodes[reader].op, RealOp::Flatten { .. })
                && answers(network, reader + 1)
        }
        _ => false,
    }
}

/// True if a concatenation reads the tensor, or what keeps its unit.
fn joins(network: &RealNetwork, tensor: usize) -> bool {
    network.readers(tensor).into_iter().any(|reader| match network.nodes[reader].op {
        RealOp::Concat { .. } => true,
        RealOp::Linear { .. } | RealOp::Clip { .. } => false,
        _ => joins(network, reader + 1),
    })
}
