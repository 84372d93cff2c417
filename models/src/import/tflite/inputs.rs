//! The network's input and output: one tensor of the file, or several one behind the other.

use super::ends::{End, Ends};
use super::model::{self, Element, Model, Tensor};
use super::round::Kernels;
use super::trouble::{Trouble, describe, refuse};
use super::value::{Quantisation, Real, Value, quantisation};
use super::walk::Walk;
use crate::check::MAX_DIMENSION;
use crate::coding::{self, Coding, Dtype, Order, OutputCoding, OutputPart};
use crate::import::error::{ImportError, ImportProblem};
use crate::import::report::Report;
use crate::import::{Options, Preprocessing};
use crate::network::{Input, Shape, TensorId};

/// The network's input: y = q - (smallest q). Several tensors are one vector, each in the file's order.
pub(super) fn input(model: &Model<'_>, ends: &Ends, options: &Options, report: &Report) -> Result<Input, ImportError> {
    let tensors: Vec<&Tensor<'_>> = ends.inputs.iter().map(|start| &model.tensors[start.quantised]).collect();
    let first = tensors[0];
    let refused = |trouble, tensor: &Tensor<'_>| describe(trouble, "INPUT", &tensor.name, report);
    let known: Vec<Quantisation> =
        tensors.iter().map(|x| quantisation(x).map_err(|t| refused(t, x))).collect::<Result<_, _>>()?;
    if let Some(other) = tensors.iter().find(|x| x.element != first.element) {
        let reason = format!("its inputs have elements of types {} and {}", first.element, other.element);
        return Err(ImportProblem::File { reason, hint: "give all inputs one type" }.into());
    }
    let (shape, dims) = match &tensors[..] {
        [_] => (
            shape(model, ends, &model.tensors[ends.inputs[0].tensor])?,
            batchless(&model.tensors[ends.inputs[0].file].dims),
        ),
        all => {
            if ends.inputs.iter().any(|start| !start.steps.is_empty()) {
                let reason = "it computes with float32 numbers before they are quantised".to_owned();
                return Err(ImportProblem::File { reason, hint: "quantise all inputs at once" }.into());
            }
            let total = all.iter().map(|x| x.elements()).sum();
            (vector(total), vec![total])
        }
    };
    let Quantisation { scale, clamp } = known[0];
    let coding = Coding {
        dims,
        order: Order::ChannelsLast,
        dtype: dtype(first.element),
        lowest: clamp.lo,
        highest: clamp.hi,
        scale: known.iter().all(|q| (q.scale, q.clamp) == (scale, clamp)).then_some(scale),
        zero_point: clamp.zero_point,
        steps: ends.inputs[0].steps.clone(),
        rule: match options.tflite {
            Kernels::Double => coding::Rule::Litert,
            Kernels::Single => coding::Rule::Xnnpack,
        },
        integers: ends.inputs.iter().all(|start| start.file == start.tensor),
    };
    let tables = |preprocessing: &Preprocessing| preprocessing.tables(&coding, shape[0]);
    let pixels = options.preprocessing.as_ref().map(tables).transpose()?;
    Ok(Input { shape, bits: 8, zero_point: clamp.zero_point - clamp.lo, pixels, coding: Some(coding) })
}

/// The shape of a single input. One that is a vector until it is reshaped is an image from the start.
fn shape(model: &Model<'_>, ends: &Ends, tensor: &Tensor<'_>) -> Result<Shape, ImportError> {
    let first = model.operators.iter().find(|o| o.inputs.first() == Some(&Some(ends.inputs[0].tensor)));
    let reshaped = first.filter(|o| o.code == model::RESHAPE).and_then(|o| o.outputs.first());
    let reshaped = reshaped.map(|&output| &model.tensors[output].dims);
    let dims = reshaped.filter(|dims| dims.len() == 4 && dims.iter().product::<usize>() == tensor.elements());
    match dims.unwrap_or(&tensor.dims)[..] {
        [1, height, width, channels] => Ok([channels, height, width]),
        [1, length] | [length] => Ok([length, 1, 1]),
        [1, height, width] => Ok([1, height, width]),
        _ => {
            let reason = format!("its input has shape {:?}", tensor.dims);
            Err(ImportProblem::File { reason, hint: "export it for a batch of one image" }.into())
        }
    }
}

impl<'m, 'f> Walk<'m, 'f> {
    /// Names the inputs.
    pub fn start(&mut self, ends: &Ends) -> Result<(), Trouble> {
        let whole = self.builder.tensor(0);
        let mut from = 0;
        for start in &ends.inputs {
            let tensor = &self.model.tensors[start.tensor];
            let Quantisation { scale, clamp } = quantisation(&self.model.tensors[start.quantised])?;
            if start.tensor != start.quantised {
                self.reals.insert(start.tensor, Real::Input);
            }
            let value =
                Value { id: 0, grid: whole.shape, dims: tensor.dims.clone(), padding: [0; 4], fill: 0, scale, clamp };
            let value = if ends.inputs.len() == 1 {
                value
            } else {
                let list: Vec<i64> = (from..from + tensor.elements()).map(|n| n as i64).collect();
                from += list.len();
                let part = self.moved(&tensor.name, &value, &tensor.dims, &list)?;
                // The whole has the zero point of the first one.
                let by = (clamp.lo - clamp.zero_point) - whole.range.lo;
                Value { id: self.builder.apply(&format!("{}/zero", tensor.name), part.id, |x| x + by)?, ..part }
            };
            self.values.insert(start.tensor, value);
        }
        if ends.inputs.len() > 1 {
            let names: Vec<String> = ends
                .inputs
                .iter()
                .map(|start| &self.model.tensors[start.tensor])
                .map(|tensor| format!("{} {:?}", tensor.name, tensor.dims))
                .collect();
            self.builder
                .report
                .note(format!("the input is one vector: {}, each in the file's order", names.join(", ")));
        }
        Ok(())
    }

    /// The network's output, and the real value of one unit of it; the builder learns how the file codes it.
    pub fn output(&mut self, ends: &Ends) -> Result<(TensorId, Option<f64>), Trouble> {
        let values = ends.outputs.iter().map(|end| self.end(end)).collect::<Result<Vec<Value>, Trouble>>()?;
        let (id, scale, coding) = match &values[..] {
            [value] => self.one_output(&ends.outputs[0], value),
            all => self.joined_outputs(ends, all)?,
        };
        self.builder.output_coding = Some(coding);
        Ok((id, scale.map(f64::from)))
    }

    /// What the network has of an output of the file.
    fn end(&mut self, end: &End) -> Result<Value, Trouble> {
        let tensor = &self.model.tensors[end.tensor];
        let Some(value) = self.values.get(&end.tensor).cloned() else {
            let reason = format!("its output {} does not depend on its input", tensor.name);
            return refuse(reason, "export the network up to its logits");
        };
        if self.reals.get(&end.tensor).is_some_and(|real| *real != Real::Stored) {
            let reason = "it ends in float32 numbers that are none of a quantised tensor";
            return refuse(reason, "quantise the whole model to 8-bit integers");
        }
        self.settled(&tensor.name, &value)
    }

    /// True if the file answers with stored integers.
    fn is_stored(&self, end: &End) -> bool {
        self.model.tensors[end.file].element != Element::Float32 && end.file == end.tensor
    }

    /// The tensor, its scale and its coding, of the only output.
    fn one_output(&mut self, end: &End, value: &Value) -> (TensorId, Option<f32>, OutputCoding) {
        let maker = self.model.operators.iter().find(|o| o.outputs.contains(&end.tensor)).map(|o| o.code);
        let [channels, height, width] = value.grid;
        let vector = [height, width] == [1, 1];
        let coding = OutputCoding {
            dims: if vector { vec![channels] } else { vec![height, width, channels] },
            order: Order::ChannelsLast,
            dtype: Some(stored(value)),
            zero_point: value.clamp.zero_point,
            integers: self.is_stored(end),
            ends: end.behind.clone(),
            probability: maker == Some(model::LOGISTIC),
            class: end.class,
            parts: Vec::new(),
            units: Vec::new(),
        };
        if end.beta != 1.0 {
            let note = format!("the softmax has the beta {}, which is in the output's scale", end.beta);
            self.builder.report.note(note);
        }
        (value.id, Some(value.scale * end.beta), coding)
    }

    /// The same of several, as one vector.
    fn joined_outputs(&mut self, ends: &Ends, all: &[Value]) -> Result<(TensorId, Option<f32>, OutputCoding), Trouble> {
        let alike = |x: &Value| (x.scale, x.clamp) == (all[0].scale, all[0].clamp);
        let same = all.iter().all(alike);
        let id = self.one_vector("outputs", all)?;
        let parts = parts(self.model, ends, all);
        let told: Vec<String> = parts.iter().map(OutputPart::to_string).collect();
        self.builder.report.note(format!("the output is one vector: {}", told.join("; ")));
        let coding = OutputCoding {
            dims: vec![self.builder.tensor(id).shape.iter().product()],
            order: Order::ChannelsFirst,
            dtype: same.then(|| stored(&all[0])),
            zero_point: if same { all[0].clamp.zero_point } else { 0 },
            integers: same && ends.outputs.iter().all(|end| self.is_stored(end)),
            ends: Vec::new(),
            probability: false,
            class: None,
            parts: coding::told(parts),
            units: Vec::new(),
        };
        Ok((id, Some(all[0].scale).filter(|_| same), coding))
    }
}

/// What the outputs are that lie one behind the other.
fn parts(model: &Model<'_>, ends: &Ends, values: &[Value]) -> Vec<OutputPart> {
    let part = |(end, value): (&End, &Value)| {
        let (name, scale) = (&model.tensors[end.tensor].name, f64::from(value.scale * end.beta));
        let known = OutputPart::new(name, batchless(&value.dims), Some(scale), value.clamp.zero_point);
        OutputPart { ends: end.behind.clone(), before: end.class.map(|_| "ARG_MAX".to_owned()), ..known }
    };
    ends.outputs.iter().zip(values).map(part).collect()
}

/// A shape of so many elements, in the file's order, whose dimensions are not too long.
fn vector(total: usize) -> Shape {
    let height = (1..=total).find(|part| total.is_multiple_of(*part) && total / part <= MAX_DIMENSION);
    match height {
        Some(height) => [total / height, height, 1],
        None => [total, 1, 1],
    }
}

/// Dimensions without the batch of one.
fn batchless(dims: &[usize]) -> Vec<usize> {
    match dims {
        [1, rest @ ..] if !rest.is_empty() => rest.to_vec(),
        _ => dims.to_vec(),
    }
}

fn stored(x: &Value) -> Dtype {
    if x.clamp.lo == 0 { Dtype::Uint(8) } else { Dtype::Int(8) }
}

fn dtype(element: Element) -> Dtype {
    if element == Element::UInt8 { Dtype::Uint(8) } else { Dtype::Int(8) }
}
