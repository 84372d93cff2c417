//! The graph of a file, indexed: who makes a tensor, who reads it, what a node's settings are.

use std::collections::{HashMap, HashSet};
use std::iter::successors;

use super::schema::{AttributeProto, GraphProto, Model, NodeProto, ValueInfo};
use super::stop::Stop;
use super::tensor::{Constant, Element};
use crate::import::ImportProblem;

/// Most nodes of a file.
const MAX_NODES: usize = 1 << 16;
/// Most outputs.
const MAX_OUTPUTS: usize = 32;

/// A graph that is borrowed from a decoded file.
pub(super) struct Graph<'m> {
    pub nodes: Vec<Node<'m>>,
    pub constants: HashMap<&'m str, Constant>,
    /// The nodes that read a tensor, once for each time.
    consumers: HashMap<&'m str, Vec<usize>>,
    makers: HashMap<&'m str, usize>,
    pub input: &'m ValueInfo,
    /// In the order of the file, each once; the first one.
    pub outputs: Vec<&'m str>,
    pub output: &'m str,
    /// Version of the operators of ONNX itself.
    pub opset: i64,
}

/// A node.
#[derive(Clone, Copy)]
pub(super) struct Node<'m> {
    /// Its place in the file.
    pub index: usize,
    pub proto: &'m NodeProto,
}

/// The nodes that the outputs depend on.
fn live<'m>(graph: &'m GraphProto, outputs: &[&'m str]) -> Vec<&'m NodeProto> {
    let makes = |node: &'m NodeProto| node.output.iter().map(move |name| (name.as_str(), node));
    let makers: HashMap<&str, &NodeProto> = graph.node.iter().flat_map(makes).collect();
    let mut open = outputs.to_vec();
    let mut seen: HashSet<&str> = outputs.iter().copied().collect();
    while let Some(name) = open.pop() {
        let inputs = makers.get(name).map_or(&[][..], |node| node.input.as_slice());
        open.extend(inputs.iter().map(String::as_str).filter(|&name| seen.insert(name)));
    }
    graph.node.iter().filter(|node| node.output.iter().any(|name| seen.contains(name.as_str()))).collect()
}

impl<'m> Graph<'m> {
    /// Indexes the graph; its constants are decoded.
    pub fn new(model: &'m Model) -> Result<Graph<'m>, ImportProblem> {
        let damaged = |what: &str| ImportProblem::Damaged(what.to_owned());
        let graph: &GraphProto = model.graph.as_ref().ok_or(ImportProblem::UnknownFormat)?;
        if graph.node.len() > MAX_NODES {
            let (value, limit) = (graph.node.len() as u128, MAX_NODES as u128);
            return Err(ImportProblem::TooLarge { what: "the number of nodes", value, limit });
        }
        let mut constants = HashMap::new();
        for tensor in &graph.initializer {
            constants.insert(tensor.name.as_str(), Constant::read(tensor)?);
        }
        let inputs: Vec<&ValueInfo> =
            graph.input.iter().filter(|info| !constants.contains_key(info.name.as_str())).collect();
        let &[input] = &inputs[..] else {
            return Err(ImportProblem::File {
                reason: format!("the graph has {} inputs", inputs.len()),
                hint: "export a network with one input",
            });
        };
        let mut outputs: Vec<&str> = Vec::new();
        for output in &graph.output {
            if !outputs.contains(&output.name.as_str()) {
                outputs.push(&output.name);
            }
        }
        if outputs.is_empty() || outputs.len() > MAX_OUTPUTS {
            return Err(ImportProblem::File {
                reason: format!("the graph has {} outputs", outputs.len()),
                hint: "export a network with one output, or a few",
            });
        }
        let mut consumers: HashMap<&str, Vec<usize>> = HashMap::new();
        let mut makers = HashMap::new();
        let nodes: Vec<Node> =
            live(graph, &outputs).into_iter().enumerate().map(|(index, proto)| Node { index, proto }).collect();
        for &Node { index, proto } in &nodes {
            for name in proto.output.iter().filter(|name| !name.is_empty()) {
                makers.insert(name.as_str(), index);
            }
            for name in &proto.input {
                consumers.entry(name).or_default().push(index);
            }
        }
        if nodes.is_empty() {
            return Err(damaged("the graph has no nodes"));
        }
        let opset = model.opset_import.iter().find(|set| matches!(set.domain.as_str(), "" | "ai.onnx"));
        let opset = opset.map_or(13, |set| set.version);
        let output = outputs[0];
        Ok(Graph { nodes, constants, consumers, makers, input, outputs, output, opset })
    }

    /// The nodes that read a tensor.
    pub fn consumers(&self, tensor: &str) -> &[usize] {
        self.consumers.get(tensor).map_or(&[], Vec::as_slice)
    }

    pub fn is_output(&self, tensor: &str) -> bool {
        self.outputs.contains(&tensor)
    }

    /// True if a node reads the tensor, or it is the output.
    pub fn is_read(&self, tensor: &str) -> bool {
        self.is_output(tensor) || !self.consumers(tensor).is_empty()
    }

    /// The node that makes a tensor.
    pub fn maker(&self, tensor: &str) -> Option<Node<'m>> {
        self.makers.get(tensor).map(|&index| self.nodes[index])
    }

    /// The only node that reads a tensor, if there is just one and the tensor is no output of the graph.
    pub fn reader(&self, tensor: &str) -> Option<(usize, Node<'m>)> {
        match self.consumers(tensor) {
            &[index] if !self.is_output(tensor) => Some((index, self.nodes[index])),
            _ => None,
        }
    }

    /// The node that makes a tensor, the one that makes its first input, and so on. Nodes stand in order, so this ends.
    pub fn back(&self, tensor: &str) -> impl Iterator<Item = Node<'m>> {
        successors(self.maker(tensor), |node| self.maker(node.input(0)?).filter(|before| before.index < node.index))
    }

    /// The only node that reads a tensor, the only one that reads what that makes, and so on.
    pub fn forth(&self, tensor: &str) -> impl Iterator<Item = Node<'m>> {
        let only = |tensor: &str| self.reader(tensor).map(|(_, node)| node);
        successors(only(tensor), move |node| only(node.output()).filter(|next| next.index > node.index))
    }

    /// The input's type and dimensions; 0 where a dimension has no number.
    pub fn input_type(&self) -> Result<(Element, Vec<usize>), ImportProblem> {
        let tensor = self.input.ty.as_ref().and_then(|ty| ty.tensor.as_ref());
        let tensor = tensor.ok_or_else(|| ImportProblem::Damaged("the input has no type".to_owned()))?;
        let element = Element::of(tensor.elem_type).ok_or_else(|| ImportProblem::File {
            reason: format!("the input has elements of type {}", tensor.elem_type),
            hint: "inputs are floats or integers of 8 bits",
        })?;
        let dims = tensor.shape.as_ref().map_or(&[][..], |shape| &shape.dim);
        let dims = dims.iter().take(8).map(|dim| usize::try_from(dim.value).unwrap_or(0)).collect();
        Ok((element, dims))
    }
}

impl<'m> Node<'m> {
    /// The operation.
    pub fn op(&self) -> &'m str {
        &self.proto.op_type
    }

    /// True if it makes integers of real numbers.
    pub fn is_quantiser(&self) -> bool {
        matches!(self.op(), "QuantizeLinear" | "Quant" | "IntQuant" | "BipolarQuant" | "MultiThreshold")
    }

    /// A name to print: its own, or that of its first output.
    pub fn name(&self) -> &'m str {
        if self.proto.name.is_empty() { self.output() } else { &self.proto.name }
    }

    /// The first output.
    pub fn output(&self) -> &'m str {
        self.proto.output.first().map_or("", String::as_str)
    }

    /// Input `index`, unless it is left out.
    pub fn input(&self, index: usize) -> Option<&'m str> {
        self.proto.input.get(index).map(String::as_str).filter(|name| !name.is_empty())
    }

    fn attribute(&self, name: &str) -> Option<&'m AttributeProto> {
        self.proto.attribute.iter().find(|attribute| attribute.name == name)
    }

    /// True if it has the setting.
    pub fn has(&self, name: &str) -> bool {
        self.attribute(name).is_some()
    }

    pub fn int(&self, name: &str, default: i64) -> i64 {
        self.attribute(name).map_or(default, |attribute| attribute.i)
    }

    pub fn float(&self, name: &str, default: f32) -> f32 {
        self.attribute(name).map_or(default, |attribute| attribute.f)
    }

    pub fn ints(&self, name: &str) -> Option<&'m [i64]> {
        self.attribute(name).map(|attribute| attribute.ints.as_slice())
    }

    pub fn floats(&self, name: &str) -> Option<&'m [f32]> {
        self.attribute(name).map(|attribute| attribute.floats.as_slice())
    }

    /// A text, in lower case.
    pub fn text(&self, name: &str, default: &str) -> String {
        let bytes = self.attribute(name).map_or(default.as_bytes(), |attribute| &attribute.s);
        String::from_utf8_lossy(bytes).to_ascii_lowercase()
    }

    /// The constant of a `Constant` node.
    pub fn value(&self) -> Result<Constant, Stop> {
        if let Some(tensor) = self.attribute("value").and_then(|attribute| attribute.t.as_ref()) {
            return Ok(Constant::read(tensor)?);
        }
        let int64 = Element::Int { bits: 64, signed: true };
        if let Some(attribute) = self.attribute("value_float") {
            return Ok(Constant::floats(vec![], vec![attribute.f]));
        }
        if let Some(attribute) = self.attribute("value_int") {
            return Ok(Constant::ints(vec![], int64, vec![attribute.i]));
        }
        if let Some(attribute) = self.attribute("value_floats") {
            return Ok(Constant::floats(vec![attribute.floats.len()], attribute.floats.clone()));
        }
        if let Some(attribute) = self.attribute("value_ints") {
            return Ok(Constant::ints(vec![attribute.ints.len()], int64, attribute.ints.clone()));
        }
        Err(Stop::new("a constant without a numeric value", "export numbers as tensors"))
    }

    /// A non-negative setting for each of two axes, `default` where it is left out.
    pub fn pair(&self, name: &str, default: usize) -> Result<[usize; 2], Stop> {
        let wrong = || Stop::new(format!("{name} is not two small numbers"), "networks have two spatial dimensions");
        let size = |v: i64| usize::try_from(v).ok().filter(|&v| v <= 1 << 16).ok_or_else(wrong);
        match self.ints(name) {
            None => Ok([default; 2]),
            // One spatial dimension: images of one row.
            Some(&[b]) => Ok([1, size(b)?]),
            Some(&[a, b]) => Ok([size(a)?, size(b)?]),
            Some(_) => Err(wrong()),
        }
    }
}
