//! From a file to a network: the ends of the graph, then every operator in the order of the file.

use std::collections::HashMap;

use super::ends::{Ends, no_integers, refuse_unsupported};
use super::model::{self, Element, Model, Operator, Tensor};
use super::operators::{self, Becomes};
use super::round::{Clamp, Rounding};
use crate::coding::{self, Coding, Dtype, Order, OutputCoding};
use crate::import::builder::{Builder, Obstacle};
use crate::import::error::{ImportError, ImportProblem, Refusal};
use crate::import::report::{Report, Verdict};
use crate::import::{Imported, Options, Preprocessing};
use crate::network::{Input, Range, Shape, TensorId};

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
    /// Rows and columns of zero points around it that are not in `grid` yet: top, left, bottom, right.
    pub padding: [usize; 4],
    pub scale: f32,
    pub clamp: Clamp,
}

impl Value {
    /// Refuses a value with padding around it.
    pub fn unpadded(&self) -> Result<&Value, Trouble> {
        if self.padding == [0; 4] {
            return Ok(self);
        }
        refuse("it reads the result of a PAD", "only convolutions and pools may follow a PAD")
    }

    /// Height and width, padding included.
    pub fn padded(&self) -> [usize; 2] {
        let [top, left, bottom, right] = self.padding;
        [self.grid[1] + top + bottom, self.grid[2] + left + right]
    }

    /// Checks that the file sees an image of this shape: batch, height, width, channels.
    pub fn image(&self) -> Result<&Value, Trouble> {
        let [height, width] = self.padded();
        if self.dims == [1, height, width, self.grid[0]] {
            return Ok(self);
        }
        refuse(
            format!("it reads a tensor of shape {:?} as an image", self.dims),
            "a vector never becomes an image again",
        )
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
}

/// Makes the network.
pub(super) fn network(model: &Model<'_>, options: &Options) -> Result<Imported, ImportError> {
    let mut report = Report { format: "TFLite".into(), producer: model.description.clone(), ..Report::default() };
    report.rule(options.tflite.name());
    let ends = Ends::find(model, &mut report)?;
    refuse_unsupported(model, &ends, &report)?;
    let start = &model.tensors[ends.input];
    let (input, value) = input(model, start, &ends, options, &report)?;
    let name = options.name.as_deref().unwrap_or("network");
    let trouble = |trouble, report: &Report| describe(trouble, "INPUT", &start.name, report);
    let builder = Builder::new(name, input, options.fold, report.clone()).map_err(|o| trouble(o.into(), &report))?;
    let (rounding, approximate) = (options.tflite, options.approximate);
    let mut walk = Walk { model, builder, rounding, approximate, values: HashMap::new(), numbers: HashMap::new() };
    walk.values.insert(ends.input, value);
    for (index, operator) in model.operators.iter().enumerate() {
        if ends.dropped.contains(&index) || !ends.needed.contains(&index) {
            continue;
        }
        // Converters join the names of all layers that became one.
        let name = model.tensors[operator.outputs[0]].name.split(';').next().unwrap_or_default().to_owned();
        match walk.operator(operator, &name) {
            Ok(what) => walk.builder.report.count(&operator.name, what),
            Err(trouble) => return Err(describe(trouble, &operator.name, &name, &walk.builder.report)),
        }
    }
    let last = &model.tensors[ends.output];
    let output = walk.values.get(&ends.output).and_then(|value| value.unpadded().ok().cloned());
    let Some(value) = output.filter(|value| value.grid[0] == 1 || value.grid[1..] == [1, 1] || value.image().is_ok())
    else {
        let reason = format!("its output {} is no vector and no image of activations", last.name);
        return Err(ImportProblem::File { reason, hint: "export the network up to its logits" }.into());
    };
    let report = walk.builder.report.clone();
    if !ends.behind.is_empty() && value.grid[1..] != [1, 1] && value.dims.len() != 4 {
        let reason = format!("its softmax runs over the columns of an image {:?}", value.dims);
        return Err(ImportProblem::File { reason, hint: "let it run over classes" }.into());
    }
    let dims = if value.grid[1..] == [1, 1] { vec![value.grid[0]] } else { batchless(&value.dims) };
    walk.builder.output_coding = Some(OutputCoding {
        dims,
        order: Order::ChannelsLast,
        dtype: Some(dtype(last.element)),
        zero_point: value.clamp.zero_point,
        integers: last.element != Element::Float32 && model.outputs[0] == ends.output,
        ends: ends.behind.clone(),
        probability: ends.maker(model) == Some(model::LOGISTIC),
        class: None,
    });
    let (network, report) = walk
        .builder
        .finish(value.id, Some(value.scale.into()))
        .map_err(|obstacle| describe(obstacle.into(), "OUTPUT", &last.name, &report))?;
    Ok(Imported { network, report })
}

/// The network's input and the value that it stands for.
fn input(
    model: &Model<'_>,
    tensor: &Tensor<'_>,
    ends: &Ends,
    options: &Options,
    report: &Report,
) -> Result<(Input, Value), ImportError> {
    let quantisation = quantisation(tensor).map_err(|t| describe(t, "INPUT", &tensor.name, report))?;
    // An input that is a vector until it is reshaped is an image from the start.
    let first = model.operators.iter().find(|o| o.inputs.first() == Some(&Some(ends.input)));
    let reshaped = first.filter(|o| o.code == model::RESHAPE).and_then(|o| o.outputs.first());
    let reshaped = reshaped.map(|&output| &model.tensors[output].dims);
    let dims = reshaped.filter(|dims| dims.len() == 4 && dims.iter().product::<usize>() == tensor.elements());
    let grid = match dims.unwrap_or(&tensor.dims)[..] {
        [1, height, width, channels] => [channels, height, width],
        [1, length] | [length] => [length, 1, 1],
        [1, height, width] => [1, height, width],
        _ => {
            let reason = format!("its input has shape {:?}", tensor.dims);
            return Err(ImportProblem::File { reason, hint: "export it for a batch of one image" }.into());
        }
    };
    let clamp = quantisation.clamp;
    let coding = Coding {
        dims: batchless(&model.tensors[model.inputs[0]].dims),
        order: Order::ChannelsLast,
        dtype: dtype(tensor.element),
        lowest: clamp.lo,
        highest: clamp.hi,
        scale: Some(quantisation.scale),
        zero_point: clamp.zero_point,
        steps: Vec::new(),
        rule: match options.tflite {
            Rounding::Double => coding::Rule::Litert,
            Rounding::Single => coding::Rule::Xnnpack,
        },
        integers: model.inputs[0] == ends.input,
    };
    let tables = |preprocessing: &Preprocessing| preprocessing.tables(&coding, grid[0]);
    let pixels = options.preprocessing.as_ref().map(tables).transpose().map_err(|reason| ImportProblem::File {
        reason,
        hint: "give one of each, or one for each channel, deviations above 0",
    })?;
    let zero_point = clamp.zero_point - clamp.lo;
    let input = Input { shape: grid, bits: 8, zero_point, pixels, coding: Some(coding) };
    let value = Value { id: 0, grid, dims: tensor.dims.clone(), padding: [0; 4], scale: quantisation.scale, clamp };
    Ok((input, value))
}

/// Dimensions without the batch of one.
fn batchless(dims: &[usize]) -> Vec<usize> {
    match dims {
        [1, rest @ ..] if !rest.is_empty() => rest.to_vec(),
        _ => dims.to_vec(),
    }
}

fn dtype(element: Element) -> Dtype {
    if element == Element::UInt8 { Dtype::Uint(8) } else { Dtype::Int(8) }
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

fn describe(trouble: Trouble, op: &str, node: &str, report: &Report) -> ImportError {
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
    fn operator(&mut self, operator: &Operator<'f>, name: &str) -> Result<Verdict, Trouble> {
        match operators::entry(operator.code) {
            Some(Becomes::Imported(_, import)) => import(self, operator, name),
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

    /// Names the result of an operator.
    pub fn define(&mut self, operator: &Operator<'_>, value: Value) {
        self.values.insert(operator.outputs[0], value);
    }

    /// The tensor that an operator makes.
    pub fn result(&self, operator: &Operator<'_>) -> &'m Tensor<'f> {
        &self.model.tensors[operator.outputs[0]]
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
