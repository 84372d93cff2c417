//! Everything that is known of a file while it is being imported, and the operands of its operators.

use std::collections::HashMap;

use super::model::{Element, Model, Operator, Tensor};
use super::round::Kernels;
use super::trouble::{Trouble, refuse};
use super::value::{Apart, Function, Real, Value, integers32};
use crate::import::Options;
use crate::import::builder::Builder;
use crate::import::report::Verdict;
use crate::network::TensorId;

/// How an operator is imported; the last argument names its node.
pub(super) type Import = for<'m, 'f> fn(&mut Walk<'m, 'f>, &Operator<'f>, &str) -> Result<Verdict, Trouble>;

/// Everything that is known so far.
pub(super) struct Walk<'m, 'f> {
    pub model: &'m Model<'f>,
    pub builder: Builder,
    pub kernels: Kernels,
    /// Near the runtime is good enough.
    pub approximate: bool,
    /// By tensor of the file.
    pub values: HashMap<usize, Value>,
    /// Vectors of whole numbers that describe shapes, by tensor of the file.
    pub numbers: HashMap<usize, Vec<i64>>,
    /// Tensors of the file that hold float32 numbers.
    pub reals: HashMap<usize, Real>,
    /// Such are moved just now.
    pub moves_reals: bool,
    /// Tensors of the file that are images in batches.
    pub apart: HashMap<usize, Apart>,
    /// Rows and columns of the batches that are read just now; 1 of each otherwise.
    pub block: [usize; 2],
    /// Tensors of the network that were made value by value of another one.
    pub functions: HashMap<TensorId, Function>,
    /// Tensors of the network whose interval was too wide, and what is clamped.
    pub narrowed: HashMap<TensorId, TensorId>,
}

impl<'m, 'f> Walk<'m, 'f> {
    pub fn new(model: &'m Model<'f>, builder: Builder, options: &Options) -> Walk<'m, 'f> {
        let (kernels, approximate) = (options.tflite, options.approximate);
        let (values, numbers, reals) = (HashMap::new(), HashMap::new(), HashMap::new());
        let (apart, functions, narrowed) = (HashMap::new(), HashMap::new(), HashMap::new());
        let (moves_reals, block) = (false, [1, 1]);
        Walk {
            model,
            builder,
            kernels,
            approximate,
            values,
            numbers,
            reals,
            moves_reals,
            apart,
            block,
            functions,
            narrowed,
        }
    }

    /// Input number `position`.
    pub fn operand(&self, operator: &Operator<'_>, position: usize) -> Result<usize, Trouble> {
        match operator.inputs.get(position) {
            Some(Some(tensor)) => Ok(*tensor),
            _ => refuse(format!("input {position} is missing"), "the file is damaged"),
        }
    }

    /// Input number `position`, which the network computes.
    pub fn value(&self, operator: &Operator<'_>, position: usize) -> Result<Value, Trouble> {
        let tensor = self.operand(operator, position)?;
        match self.values.get(&tensor) {
            Some(value) => Ok(value.clone()),
            None => {
                let reason = format!(
                    "its operand {} does not depend on the input of the network",
                    self.model.tensors[tensor].name
                );
                refuse(reason, "fold constants before the export")
            }
        }
    }

    /// Input number `position` as an image of one batch, perhaps with padding.
    pub fn image(&mut self, operator: &Operator<'_>, position: usize, name: &str) -> Result<Value, Trouble> {
        let x = self.value(operator, position)?;
        let [1, ..] = x.dims[..] else {
            return refuse(format!("it reads a tensor of shape {:?}", x.dims), "export it for a batch of one image");
        };
        if x.dims.len() != 4 {
            return refuse(
                format!("it reads a tensor of shape {:?} as an image", x.dims),
                "four dimensions are needed",
            );
        }
        let [height, width] = x.padded();
        if x.fill == 0 && x.dims == [1, height, width, x.grid[0]] { Ok(x) } else { self.settled(name, &x) }
    }

    /// Input number `position` without padding, with the shape in the network that its dimensions stand for.
    pub fn whole_value(&mut self, operator: &Operator<'_>, position: usize, name: &str) -> Result<Value, Trouble> {
        let x = self.value(operator, position)?;
        self.settled(name, &x)
    }

    /// Names the result of an operator.
    pub fn define(&mut self, operator: &Operator<'_>, value: Value) {
        self.values.insert(operator.outputs[0], value);
    }

    /// The tensor that an operator makes.
    pub fn result(&self, operator: &Operator<'_>) -> &'m Tensor<'f> {
        &self.model.tensors[operator.outputs[0]]
    }

    /// True for numbers that describe shapes.
    pub fn is_numbers(&self, tensor: usize) -> bool {
        let Tensor { element, data, .. } = &self.model.tensors[tensor];
        self.numbers.contains_key(&tensor)
            || !data.is_empty()
                && matches!(element, Element::Int32 | Element::Int64)
                && !self.values.contains_key(&tensor)
    }

    /// A constant vector of whole numbers.
    pub fn whole(&self, operator: &Operator<'_>, position: usize) -> Result<Vec<i64>, Trouble> {
        let index = self.operand(operator, position)?;
        if let Some(numbers) = self.numbers.get(&index) {
            return Ok(numbers.clone());
        }
        let tensor = &self.model.tensors[index];
        let numbers = match tensor.element {
            Element::Int32 => integers32(tensor.data),
            Element::Int64 => {
                tensor.data.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().expect("8"))).collect()
            }
            _ => Vec::new(),
        };
        if numbers.is_empty() || numbers.len() > 1 << 16 || numbers.len() != tensor.elements() {
            return refuse(format!("tensor {} is no vector of constants", tensor.name), "export with fixed shapes");
        }
        Ok(numbers)
    }
}
