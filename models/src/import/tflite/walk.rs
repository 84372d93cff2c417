//! From a file to a network: the ends of the graph, then every operator in the order of the file.

use std::collections::HashMap;

use super::dilated::Apart;
use super::ends::{Ends, no_integers};
use super::inputs::input;
use super::model::{Element, Model, Operator, Tensor};
use super::obstacles::{obstacles, refuse_others};
use super::operators::{self, Becomes};
use super::reals::Real;
use super::round::{Clamp, Rounding};
use crate::import::builder::{Builder, Obstacle};
use crate::import::error::{ImportError, ImportProblem, Refusal};
use crate::import::report::{Report, Verdict};
use crate::import::{Imported, Options};
use crate::network::{Range, Shape, TensorId};

/// A tensor as a function of the single values of another one.
#[derive(Clone, Debug)]
pub(super) struct Function {
    /// The other one, of the same shape.
    pub root: TensorId,
    /// Values of the tensor, one for each value of the root's range, in order.
    pub table: Vec<i64>,
}

/// Why an operator can't be imported.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It is not like those that networks have.
    Refused {
        reason: String,
        hint: &'static str,
    },
    Builder(Obstacle),
    File(ImportProblem),
}

impl From<Obstacle> for Trouble {
    fn from(obstacle: Obstacle) -> Trouble {
        Trouble::Builder(obstacle)
    }
}

impl From<ImportProblem> for Trouble {
    fn from(problem: ImportProblem) -> Trouble {
        Trouble::File(problem)
    }
}

/// Refuses.
pub(super) fn refuse<T>(reason: impl Into<String>, hint: &'static str) -> Result<T, Trouble> {
    Err(Trouble::Refused { reason: reason.into(), hint })
}

/// A tensor of the file that the network computes.
#[derive(Clone, Debug)]
pub(super) struct Value {
    /// The network's tensor of values q - zero_point.
    pub id: TensorId,
    /// Its shape; the file's element number (h * width + w) * channels + c is `[c, h, w]` there.
    pub grid: Shape,
    /// Its dimensions in the file.
    pub dims: Vec<usize>,
    /// Rows and columns of `fill` around it that are not in `grid` yet: top, left, bottom, right.
    pub padding: [usize; 4],
    /// The value of that padding: 0 for zero points.
    pub fill: i64,
    pub scale: f32,
    pub clamp: Clamp,
}

impl Value {
    /// Height and width, padding included.
    pub fn padded(&self) -> [usize; 2] {
        let [top, left, bottom, right] = self.padding;
        [self.grid[1] + top + bottom, self.grid[2] + left + right]
    }
}

/// Everything that is known so far.
pub(super) struct Walk<'m, 'f> {
    pub model: &'m Model<'f>,
    pub builder: Builder,
    pub rounding: Rounding,
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

/// Makes the network.
pub(super) fn network(model: &Model<'_>, options: &Options) -> Result<Imported, ImportError> {
    let mut report = Report { format: "TFLite".into(), producer: model.description.clone(), ..Report::default() };
    report.rule(options.tflite.name());
    refuse_others(model)?;
    let ends = Ends::find(model, &mut report)?;
    let unsupported = |at: &usize| operators::refusal(&model.operators[*at]).is_some();
    if ends.needed.iter().any(unsupported) {
        return Err(obstacles(model, &ends, options, &report, None));
    }
    let start = &model.tensors[ends.inputs[0].tensor];
    let input = input(model, &ends, options, &report)?;
    let name = options.name.as_deref().unwrap_or("network");
    let trouble = |trouble, report: &Report| describe(trouble, "INPUT", &start.name, report);
    let builder = Builder::new(name, input, options.fold, report.clone()).map_err(|o| trouble(o.into(), &report))?;
    let mut walk = Walk::new(model, builder, options);
    walk.start(&ends).map_err(|found| trouble(found, &report))?;
    for (index, operator) in model.operators.iter().enumerate().filter(|(index, _)| ends.needed.contains(index)) {
        let name = node(model, index);
        match walk.operator(operator, &name) {
            Ok(what) => walk.builder.report.count(&operator.name, what),
            Err(trouble) => {
                let first = describe(trouble, &operator.name, &name, &walk.builder.report);
                return Err(obstacles(model, &ends, options, &walk.builder.report, Some((index, first))));
            }
        }
    }
    let last = &model.tensors[ends.outputs[0].tensor];
    let report = walk.builder.report.clone();
    let output = walk.output(&ends);
    let twin = std::mem::take(&mut walk.builder.twin);
    let finished = output.and_then(|(id, scale)| Ok(walk.builder.finish(id, scale)?));
    let (network, report) = finished.map_err(|trouble| describe(trouble, "OUTPUT", &last.name, &report))?;
    Ok(Imported { network, report, twin })
}

/// The name of an operator's node: that of its first result. Converters join the names of all layers that became one.
pub(super) fn node(model: &Model<'_>, index: usize) -> String {
    let output = model.operators[index].outputs.first();
    let name = output.map(|&output| model.tensors[output].name.split(';').next().unwrap_or_default());
    name.filter(|name| !name.is_empty()).map_or_else(|| format!("number {index}"), str::to_owned)
}

/// Scale, zero point and stored values of a tensor that has one of each.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quantisation {
    pub scale: f32,
    /// Without activation.
    pub clamp: Clamp,
}

/// The stored values of an 8-bit type.
pub(super) fn stored(tensor: &Tensor<'_>) -> Result<Range, Trouble> {
    match tensor.element {
        Element::Int8 => Ok(Range { lo: -128, hi: 127 }),
        Element::UInt8 => Ok(Range { lo: 0, hi: 255 }),
        Element::Float32 => Err(no_integers(tensor).into()),
        other => refuse(format!("tensor {} has elements of type {other}", tensor.name), "export with 8-bit integers"),
    }
}

pub(super) fn quantisation(tensor: &Tensor<'_>) -> Result<Quantisation, Trouble> {
    let Range { lo, hi } = stored(tensor)?;
    let ([scale], [zero_point]) = (&tensor.scale[..], &tensor.zero_point[..]) else {
        let reason = format!("tensor {} has {} scales", tensor.name, tensor.scale.len());
        return refuse(reason, "activations need one scale and one zero point");
    };
    positive(*scale, tensor)?;
    if !(lo..=hi).contains(zero_point) {
        return refuse(format!("tensor {} has the zero point {zero_point}", tensor.name), "it must be a stored value");
    }
    Ok(Quantisation { scale: *scale, clamp: Clamp { zero_point: *zero_point, lo, hi } })
}

/// Refuses scales that are no positive normal numbers.
pub(super) fn positive(scale: f32, tensor: &Tensor<'_>) -> Result<(), Trouble> {
    if scale.is_normal() && scale > 0.0 {
        return Ok(());
    }
    refuse(format!("tensor {} has the scale {scale}", tensor.name), "scales must be positive")
}

pub(super) fn describe(trouble: Trouble, op: &str, node: &str, report: &Report) -> ImportError {
    let refusal =
        |reason: String, hint: &str| Refusal { op: op.into(), node: node.into(), reason, hint: hint.into() }.into();
    let problem = match trouble {
        Trouble::File(problem) => problem,
        Trouble::Refused { reason, hint } => refusal(reason, hint),
        Trouble::Builder(obstacle) => {
            let hint = match obstacle {
                Obstacle::Model(_) => "the layer is larger or wider than networks may be",
                _ => "use the other rounding, or other scales",
            };
            refusal(obstacle.to_string(), hint)
        }
    };
    ImportError { report: Some(Box::new(report.clone())), ..ImportError::from(problem) }
}

impl<'m, 'f> Walk<'m, 'f> {
    pub fn new(model: &'m Model<'f>, builder: Builder, options: &Options) -> Walk<'m, 'f> {
        let (rounding, approximate) = (options.tflite, options.approximate);
        let (values, numbers, reals) = (HashMap::new(), HashMap::new(), HashMap::new());
        let (apart, functions, narrowed) = (HashMap::new(), HashMap::new(), HashMap::new());
        let (moves_reals, block) = (false, [1, 1]);
        Walk {
            model,
            builder,
            rounding,
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

    /// Imports an operator.
    pub fn operator(&mut self, operator: &Operator<'f>, name: &str) -> Result<Verdict, Trouble> {
        match operators::entry(operator.code) {
            Some(Becomes::Imported(_, import)) => match self.real(operator) {
                Some(operand) => self.on_reals(operator, name, operand, *import),
                None if self.reads_batches(operator) => self.on_batches(operator, name, *import),
                None => import(self, operator, name),
            },
            _ => refuse("it lies in the middle of the network", "quantise the whole model to 8-bit integers"),
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

/// The numbers of a tensor of 32-bit integers.
pub(super) fn integers32(data: &[u8]) -> Vec<i64> {
    data.chunks_exact(4).map(|bytes| i32::from_le_bytes(bytes.try_into().expect("4 bytes")).into()).collect()
}
