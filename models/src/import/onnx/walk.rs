//! All that is known of a file while it is being imported, and the inputs of its nodes.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::constants;
use super::dims;
use super::graph::{Graph, Node};
use super::input::Input;
use super::kernels::Kernels;
use super::quantiser::Quantiser;
use super::real::{Function, Post, finite};
use super::stop::{Stop, behind_later};
use super::tensor::{Constant, Element};
use super::value::{Derived, Ints, Real, Scale, Value};
use crate::coding::{ArgMax, End};
use crate::import::builder::Builder;
use crate::import::error::Refusal;
use crate::network::TensorId;

/// An import that is under way.
pub(super) struct Walk<'m> {
    pub graph: &'m Graph<'m>,
    pub builder: Builder,
    pub input: Input<'m>,
    /// What is known of each tensor.
    pub values: HashMap<&'m str, Value<'m>>,
    /// Bounds of a `Clip` that was merged with the quantiser before it, by the name of the clip's input.
    pub clips: HashMap<&'m str, (i64, i64)>,
    /// Results may differ by one: asked for, or to find what else is in the way of a file that is refused.
    pub near: bool,
    /// What computes signed activations.
    pub kernels: Kernels,
    /// What is in the way.
    pub refusals: Vec<Refusal>,
    /// What the client does behind the last values, in order.
    pub behind: Vec<End>,
    /// The arg max at the end.
    pub class: Option<ArgMax>,
    /// Tensors behind a softmax that is left out: quantisers leave them as they are.
    pub done: HashSet<&'m str>,
    /// Tensors that follow from others, element by element.
    pub derived: HashMap<TensorId, Derived>,
}

impl<'m> Walk<'m> {
    /// A note on a node.
    pub fn note(&mut self, node: Node<'m>, text: &str) {
        self.builder.report.note(format!("{} \"{}\": {text}", node.op(), node.name()));
    }

    /// What is known of an input.
    pub fn value(&self, node: Node<'m>, index: usize) -> Result<&Value<'m>, Stop> {
        let missing = || Stop::new(format!("input {index} is missing"), "the file is damaged, or not in order");
        node.input(index).and_then(|name| self.values.get(name)).ok_or_else(missing)
    }

    /// An input of real numbers.
    pub fn real(&self, node: Node<'m>, index: usize) -> Result<Rc<Real<'m>>, Stop> {
        match self.value(node, index)? {
            Value::Real(real) => Ok(Rc::clone(real)),
            Value::Input { .. } => Err(Stop::new(
                "it reads the graph's input, which nothing has quantised",
                "quantise the input: QuantizeLinear, Quant, or an input of 8-bit integers",
            )),
            Value::Ints(_) => Err(Stop::new("integers where real numbers are expected", "put DequantizeLinear before")),
            Value::Constant(_) | Value::Scaled(_) => {
                Err(Stop::new("a constant where an activation is expected", "fold constants before the export"))
            }
            Value::Class(_) => Err(Stop::new("it reads an argmax", "end the network there")),
        }
    }

    /// An input of integers with the zero point that the node declares.
    pub fn ints(&self, node: Node<'m>, index: usize, zero: i64) -> Result<Ints, Stop> {
        match self.value(node, index)? {
            Value::Ints(ints) if ints.zero == zero => Ok(*ints),
            Value::Ints(ints) => {
                let reason = format!("a zero point of {zero} where the values were made with {}", ints.zero);
                Err(Stop::new(reason, "use one zero point for a tensor"))
            }
            _ => Err(Stop::new("real numbers where integers are expected", "put QuantizeLinear before")),
        }
    }

    /// A constant input.
    pub fn constant(&self, node: Node<'m>, index: usize) -> Result<Constant, Stop> {
        let changing = || Stop::new(format!("input {index} is not constant"), "fold constants before the export");
        self.value(node, index)?.constant().ok_or_else(changing)
    }

    /// A constant input, unless it is left out.
    pub fn optional(&self, node: Node<'m>, index: usize) -> Result<Option<Constant>, Stop> {
        node.input(index).map(|_| self.constant(node, index)).transpose()
    }

    /// An input that is one number.
    pub fn scalar(&self, node: Node<'m>, index: usize) -> Result<f32, Stop> {
        let many = || Stop::new(format!("input {index} is not one number"), "quantise activations by tensor");
        self.constant(node, index)?.scalar().ok_or_else(many)
    }

    /// A zero point; 0 if it is left out.
    pub fn zero(&self, node: Node<'m>, index: usize) -> Result<i64, Stop> {
        if node.input(index).is_none() { Ok(0) } else { Ok(self.scalar(node, index)? as i64) }
    }

    /// The type of a zero point, which is that of the values.
    pub fn element(&self, node: Node<'m>, index: usize) -> Result<Element, Stop> {
        let zero = self.optional(node, index)?;
        Ok(constants::target_element(node, zero.as_ref()))
    }

    /// The quantiser that scale and zero point of a node describe.
    pub fn onnx_quantiser(&self, node: Node<'m>, scale: usize, zero: usize) -> Result<Quantiser, Stop> {
        let small = self.element(node, zero)?.small();
        let small = small.ok_or_else(|| Stop::new("results of more than 8 bits", "quantise to at most 8 bits"))?;
        Quantiser::onnx(self.scalar(node, scale)?, self.zero(node, zero)?, small)
    }

    pub(super) fn cast(&mut self, node: Node<'m>) -> Result<Value<'m>, Stop> {
        let to = i32::try_from(node.int("to", 1)).ok().and_then(Element::of);
        match (self.value(node, 0)?.clone(), to) {
            (value @ (Value::Real(_) | Value::Input { .. }), Some(Element::Float)) => Ok(value),
            (Value::Real(real), Some(element)) => self.cast_real(node, &real, element),
            (Value::Ints(ints), Some(Element::Float)) if ints.zero == 0 => Ok(self.with_unit(ints, 1.0)),
            (Value::Ints(ints), Some(Element::Int { bits: 16.., signed }))
                if ints.zero == 0 && (signed || self.builder.tensor(ints.id).range.lo >= 0) =>
            {
                Ok(self.with_unit(ints, 1.0))
            }
            (Value::Class(value), _) => Ok(Value::Class(value)),
            (Value::Ints(ints), Some(element)) if element == ints.element => Ok(Value::Ints(ints)),
            _ => Err(Stop::new("a change of type", "quantise with QuantizeLinear and DequantizeLinear")),
        }
    }

    pub(super) fn dequantise(&mut self, node: Node<'m>) -> Result<Value<'m>, Stop> {
        if let Value::Real(real) = self.value(node, 0)?.clone() {
            return self.accumulator(node, &real);
        }
        let (unit, zero) = (self.scalar(node, 1)?, self.zero(node, 2)?);
        let ints = self.ints(node, 0, zero)?;
        Quantiser::onnx(unit, zero, (0, 0))?;
        let pair = node.input(0).is_some_and(|name| {
            self.becomes_unsigned(name, ints.element)
                && self.graph.maker(name).is_some_and(|n| n.op() == "QuantizeLinear")
        });
        if pair {
            return Ok(self.with_unit(Ints { zero: zero + 128, element: Element::UINT8, ..ints }, unit));
        }
        Ok(self.with_unit(ints, unit))
    }

    /// Where it has no integers for signed bytes ([`Kernels::X86`]), ONNX Runtime makes unsigned ones of them between a quantiser and a
    /// `DequantizeLinear` that alone reads it, and is itself read once, or ends the graph.
    pub(super) fn becomes_unsigned(&self, quantised: &str, element: Element) -> bool {
        element == Element::INT8
            && self.kernels == Kernels::X86
            && self.graph.reader(quantised).is_some_and(|(_, reader)| {
                let ends = self.graph.is_output(reader.output()) && self.graph.consumers(reader.output()).is_empty();
                reader.op() == "DequantizeLinear" && (ends || self.graph.reader(reader.output()).is_some())
            })
    }

    fn with_unit(&self, ints: Ints, unit: f32) -> Value<'m> {
        let scale = Scale { id: ints.id, unit, error: 0.0, quantised: Some((ints.zero, ints.element)) };
        Value::Real(Rc::new(Real::tensor(scale, self.builder.tensor(ints.id).shape[0], ints.layout)))
    }

    pub(super) fn batch_norm(&mut self, node: Node<'m>) -> Result<Value<'m>, Stop> {
        let real = self.real(node, 0)?;
        let list = |index: usize| -> Result<Vec<f32>, Stop> {
            let values = self.constant(node, index)?.to_floats();
            if values.len() == real.channels {
                Ok(values.to_vec())
            } else if !real.later.is_empty() {
                Err(behind_later())
            } else {
                Err(Stop::new("not one number per channel", "the file is not consistent"))
            }
        };
        let (gamma, beta, mean, variance) = (list(1)?, list(2)?, list(3)?, list(4)?);
        let epsilon = node.float("epsilon", 1e-5);
        if node.int("training_mode", 0) != 0 {
            return Err(Stop::new("it is in training mode", "export the model in evaluation mode: model.eval()"));
        }
        // As the runtime does it: a reciprocal, a product.
        let scale: Vec<f32> = gamma.iter().zip(&variance).map(|(g, v)| 1.0 / (v + epsilon).sqrt() * g).collect();
        let bias: Vec<f32> = (0..scale.len()).map(|c| beta[c] - mean[c] * scale[c]).collect();
        finite(&scale)?;
        finite(&bias)?;
        self.after(&real, Post::Norm { scale, bias })
    }

    /// True if nothing but changes of shape, an arg max or a softmax follows.
    pub(super) fn ends(&self, name: &'m str) -> bool {
        self.ends_with(name, &[])
    }

    /// The same, where `more` operators may follow.
    fn ends_with(&self, name: &'m str, more: &[&str]) -> bool {
        let mut name = name;
        while !self.graph.is_output(name) {
            let next = self.graph.reader(name).map(|(_, node)| node);
            let calm = ["ArgMax", "TopK", "Cast", "Identity", "Squeeze", "Unsqueeze", "Reshape", "Flatten"];
            let Some(next) = next.filter(|n| calm.contains(&n.op()) || more.contains(&n.op())) else { return false };
            if next.op() == "TopK" {
                return next.proto.output.iter().all(|name| !self.graph.is_read(name) || self.ends(name));
            }
            name = next.output();
        }
        // An output that something else reads is in the middle.
        self.graph.consumers(name).is_empty()
    }

    /// A function at the end, which the client has, or a table.
    pub(super) fn function_or_last(&mut self, node: Node<'m>, function: Function) -> Result<Value<'m>, Stop> {
        if self.ends(node.output()) { self.last(node) } else { self.function(node, function) }
    }

    /// `Softmax`, `Sigmoid`, `Tanh` and `ArgMax` at the end: the client has them.
    pub(super) fn last(&mut self, node: Node<'m>) -> Result<Value<'m>, Stop> {
        let softmax = matches!(node.op(), "Softmax" | "LogSoftmax" | "QLinearSoftmax");
        let quantised = softmax && !self.ends(node.output());
        if quantised && self.ends_with(node.output(), &["QuantizeLinear", "DequantizeLinear"]) {
            self.done.insert(node.output());
            self.note(node, "what it makes is quantised behind it; here it stays real numbers");
        } else if !self.ends(node.output()) {
            return Err(Stop::new("it is not the last operation", "only a softmax or argmax at the end is left out"));
        }
        let value = self.value(node, 0)?.clone();
        let rank = match &value {
            Value::Ints(ints) => ints.layout.rank,
            Value::Real(real) => real.layout.rank,
            Value::Class(_) => return Ok(value),
            _ => 2,
        };
        // Before version 13 a softmax is one over all dimensions from its axis on.
        let opset = if node.op() == "QLinearSoftmax" { node.int("opset", 13) } else { self.graph.opset };
        let joined = softmax && opset < 13;
        let default = match node.op() {
            "ArgMax" => 0,
            _ if joined && node.op() != "QLinearSoftmax" => 1,
            _ => -1,
        };
        let axis = node.int("axis", default);
        let axis = if axis < 0 { axis + rank as i64 } else { axis };
        if !matches!(node.op(), "Sigmoid" | "Tanh") && (axis != 1 || joined && rank == 4 && self.is_image(&value)?) {
            return Err(Stop::new("it does not run over the channels", "let it run over axis 1"));
        }
        match node.op() {
            "ArgMax" => {
                self.class = Some(ArgMax { last: node.int("select_last_index", 0) != 0 });
                return Ok(Value::Class(Box::new(value)));
            }
            "Sigmoid" => self.behind.push(End::Sigmoid),
            "Tanh" => self.behind.push(End::Tanh),
            "LogSoftmax" => self.behind.push(End::LogSoftmax),
            _ => self.behind.push(End::Softmax),
        }
        Ok(value)
    }

    /// `TopK` of one at the end: its index is the class.
    pub(super) fn top_k(&mut self, node: Node<'m>) -> Result<Value<'m>, Stop> {
        let k = match node.input(1) {
            Some(_) => self.scalar(node, 1)? as i64,
            None => node.int("k", 1),
        };
        let read = |index: usize| node.proto.output.get(index).filter(|name| self.graph.is_read(name));
        let value = self.value(node, 0)?.clone();
        let rank = self.dims_of(&value)?.len();
        let axis = dims::axis(node.int("axis", -1), rank)?;
        let indices = read(1).map(String::as_str);
        let indices = indices.filter(|&name| self.ends(name));
        match indices {
            Some(indices) if k == 1 && node.int("largest", 1) == 1 && axis == 1 && !self.is_image(&value)? => {
                self.class = Some(ArgMax { last: false });
                let class = Value::Class(Box::new(value));
                self.values.insert(indices, class.clone());
                Ok(class)
            }
            _ if k != 1 => Err(Stop::new(format!("the {k} largest"), "end the network before it: the client sorts")),
            _ => Err(Stop::new("it is not the class at the end", "end the network before it")),
        }
    }

    fn is_image(&self, value: &Value<'m>) -> Result<bool, Stop> {
        let shape = match value {
            Value::Ints(ints) => self.builder.tensor(ints.id).shape,
            Value::Real(real) => self.shape(real)?,
            _ => return Ok(false),
        };
        Ok(shape[1..] != [1, 1])
    }
}

/// `real`, and a step on each element.
pub(super) fn then<'m>(real: &Real<'m>, post: Post) -> Value<'m> {
    let mut real = real.clone();
    real.post.push(post);
    Value::Real(Rc::new(real))
}
