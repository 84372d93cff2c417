//! Networks of real numbers in ONNX files, as PyTorch writes them: what [`crate::ptq`] quantises.
//!
//! Batch normalisations, constants that are added or multiplied, and sums are linear layers here; the normal form of the network merges
//! them. All obstacles of a file are said at once.

mod layers;
mod moves;
mod operators;

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::constants;
use super::external;
use super::file;
use super::graph::{Graph, Node};
use super::is_quantised;
use super::known;
use super::schema;
use super::stop::Stop;
use super::tensor::{Constant, Element};
use super::value::Value;
use crate::check::MAX_ELEMENTS;
use crate::coding::{ArgMax, Coding, Dtype, End, Order, OutputCoding, Rule};
use crate::import::error::Refusal;
use crate::import::{ImportError, ImportProblem, Preprocessing};
use crate::network::{Input, Shape};
use crate::ptq::real::{RealNetwork, RealNode, RealOp};

pub use operators::markdown;

/// Width of the input that a quantised network reads.
const INPUT_BITS: u32 = 8;

/// What the network reads; the file does not say it.
#[derive(Clone, Debug, PartialEq)]
pub enum Reads {
    /// Pictures, which become real numbers in this way.
    Pictures(Preprocessing),
    /// Real numbers between these.
    Reals([f32; 2]),
}

/// True for an ONNX file in which nothing is quantised.
pub fn is_float(bytes: &[u8]) -> bool {
    let model = schema::decode(bytes).ok().and_then(|model| model.graph);
    model.is_some_and(|graph| !graph.node.is_empty() && !graph.node.iter().any(|node| is_quantised(&node.op_type)))
}

/// Reads a network of real numbers; tensors that are stored outside of the file are read from `folder`.
///
/// # Errors
/// Whatever is wrong with the file; all nodes that networks can't have.
pub fn read(bytes: &[u8], folder: Option<&Path>, name: &str, reads: &Reads) -> Result<RealNetwork, ImportError> {
    let mut model = schema::decode(bytes)?;
    external::fill(&mut model, folder)?;
    let graph = Graph::new(&model)?;
    if graph.nodes.iter().any(|node| is_quantised(node.op())) {
        let reason = "parts of it are quantised already".to_owned();
        return Err(ImportProblem::File { reason, hint: "import it as it is, or quantise the float network" }.into());
    }
    let &[output] = &graph.outputs[..] else {
        let reason = format!("the graph has {} outputs", graph.outputs.len());
        return Err(ImportProblem::File { reason, hint: "export a network with one output" }.into());
    };
    let (shape, rank) = input_shape(&graph)?;
    let (input, unit) = input(shape, rank, reads)?;
    let mut reader = Reader {
        constants: known(&graph)?,
        graph: &graph,
        tensors: HashMap::from([(graph.input.name.as_str(), Tensor { id: 0, rank, ends: vec![], class: None })]),
        shapes: vec![shape],
        nodes: vec![],
        refusals: vec![],
    };
    reader.all()?;
    let Some(last) = reader.tensors.get(output).cloned() else {
        return Err(ImportProblem::Damaged("the output does not depend on the input".to_owned()).into());
    };
    let [channels, height, width] = reader.shapes[last.id];
    let coding = OutputCoding {
        dims: if last.rank == 2 { vec![channels * height * width] } else { vec![channels, height, width] },
        order: Order::ChannelsFirst,
        dtype: None,
        zero_point: 0,
        integers: false,
        ends: last.ends,
        probability: false,
        class: last.class,
        parts: vec![],
        units: vec![],
    };
    if last.id == 0 {
        return Err(ImportProblem::Damaged("the graph has no layers".to_owned()).into());
    }
    let name = name.to_owned();
    let network =
        RealNetwork { name, input, unit, nodes: reader.nodes, output: last.id, classes: vec![], coding: Some(coding) };
    Ok(network)
}

/// Shape of the input, and how many dimensions the file gives it.
fn input_shape(graph: &Graph<'_>) -> Result<(Shape, usize), ImportProblem> {
    let (element, dims) = graph.input_type()?;
    let problem = |reason: String, hint| Err(ImportProblem::File { reason, hint });
    if element != Element::Float {
        return problem("the input has integers".to_owned(), "export a network that reads real numbers");
    }
    let shape = match dims[..] {
        [_, c, h, w] => [c, h, w],
        [_, c, l] => [c, 1, l],
        [_, n] => [n, 1, 1],
        _ => {
            let hint = "an input is [batch, channels, height, width], [batch, channels, length] or [batch, features]";
            return problem(format!("the input has {} dimensions", dims.len()), hint);
        }
    };
    let elements = shape.iter().try_fold(1usize, |all, &size| all.checked_mul(size));
    if shape.contains(&0) || elements.is_none_or(|elements| elements > MAX_ELEMENTS) {
        let hint = "export with fixed sizes; only the batch may be open";
        return problem("the input's shape is not known, or too large".to_owned(), hint);
    }
    Ok((shape, dims.len()))
}

/// The integers that the quantised network reads: 8 bits, unsigned, with the real value 0 among them; and what one is worth.
fn input(shape: Shape, rank: usize, reads: &Reads) -> Result<(Input, f64), ImportProblem> {
    let channels = shape[0];
    let ends = match reads {
        &Reads::Reals(ends) => ends,
        Reads::Pictures(preprocessing) => {
            preprocessing.suits(channels)?;
            let values = (0..channels).flat_map(|channel| [0, 255].map(|pixel| preprocessing.value(pixel, channel)));
            values.fold([0.0f32; 2], |[lo, hi], v| [lo.min(v), hi.max(v)])
        }
    };
    let [lo, hi] = [ends[0].min(0.0), ends[1].max(0.0)];
    let highest = (1i64 << INPUT_BITS) - 1;
    let scale = (hi - lo) / highest as f32;
    if !(scale.is_normal() && scale > 0.0) {
        let what = "the input's values are all 0, or not finite";
        return Err(ImportProblem::Preprocessing(what.to_owned()));
    }
    let zero_point = (-lo / scale).round_ties_even() as i64;
    let dims = match rank {
        2 => vec![shape[0]],
        3 => vec![shape[0], shape[2]],
        _ => shape.to_vec(),
    };
    let coding = Coding {
        dims,
        order: Order::ChannelsFirst,
        dtype: Dtype::Uint(INPUT_BITS),
        lowest: 0,
        highest,
        scale: Some(scale),
        zero_point,
        steps: vec![],
        rule: Rule::Onnx,
        integers: false,
    };
    let pixels = match reads {
        Reads::Pictures(preprocessing) => Some(preprocessing.tables(&coding, channels)?),
        Reads::Reals(_) => None,
    };
    Ok((Input { shape, bits: INPUT_BITS, zero_point, pixels, coding: Some(coding) }, scale.into()))
}

/// A tensor of the network, as the file has it.
#[derive(Clone)]
struct Tensor {
    id: usize,
    /// How many dimensions it has, the batch included.
    rank: usize,
    /// What the file does behind it, and the client in its place.
    ends: Vec<End>,
    /// An arg max behind it.
    class: Option<ArgMax>,
}

/// A file that is being read.
struct Reader<'g, 'm> {
    graph: &'g Graph<'m>,
    constants: HashMap<&'m str, Value<'m>>,
    tensors: HashMap<&'m str, Tensor>,
    shapes: Vec<Shape>,
    nodes: Vec<RealNode>,
    refusals: Vec<Refusal>,
}

impl<'m> Reader<'_, 'm> {
    fn all(&mut self) -> Result<(), ImportProblem> {
        let mut unknown: HashSet<&str> = HashSet::new();
        for &node in &self.graph.nodes {
            if self.constants.contains_key(node.output()) {
                continue;
            }
            // Nothing can be said of what follows a refused node, but of its kind.
            let follows = node.proto.input.iter().any(|name| unknown.contains(name.as_str()));
            let stop = match operators::find(node.op()) {
                None => Some(operators::unknown(node.op())),
                Some(_) if follows => None,
                Some(operator) => match self.step(node, operator) {
                    Ok(()) => continue,
                    Err(stop) => Some(stop),
                },
            };
            match stop.map(|stop| file::problem(node, stop, true)) {
                Some(ImportProblem::Refused(refusal)) => self.refusals.push(refusal),
                Some(problem) => return Err(problem),
                None => {}
            }
            unknown.extend(node.proto.output.iter().map(String::as_str));
        }
        match std::mem::take(&mut self.refusals) {
            rows if rows.is_empty() => Ok(()),
            mut rows if rows.len() == 1 => Err(rows.swap_remove(0).into()),
            rows => Err(ImportProblem::Unsupported { rows }),
        }
    }

    fn step(&mut self, node: Node<'m>, operator: &operators::Operator) -> Result<(), Stop> {
        let known = |name: &String| self.constants.get(name.as_str()).cloned();
        let inputs: Vec<Option<Value>> = node.proto.input.iter().map(known).collect();
        if inputs.iter().zip(&node.proto.input).all(|(value, name)| value.is_some() || name.is_empty()) {
            let folded = constants::fold(node, &inputs)?;
            let value = folded.ok_or_else(|| Stop::new("all its inputs are constant", "fold constants before"))?;
            self.constants.insert(node.output(), value);
            return Ok(());
        }
        (operator.read)(self, node)
    }

    /// Input `index`, which depends on the network's input and has nothing behind it.
    fn tensor(&self, node: Node<'m>, index: usize) -> Result<&Tensor, Stop> {
        let tensor = node.input(index).and_then(|name| self.tensors.get(name));
        let tensor = tensor.ok_or_else(|| {
            Stop::new(
                format!("input {index} is a constant, or missing"),
                "put the activation first, the constant second",
            )
        })?;
        if tensor.ends.is_empty() && tensor.class.is_none() {
            Ok(tensor)
        } else {
            Err(Stop::new("it reads probabilities or classes", "end the network with them"))
        }
    }

    fn constant(&self, node: Node<'m>, index: usize) -> Result<Constant, Stop> {
        let value = node.input(index).and_then(|name| self.constants.get(name)).and_then(Value::constant);
        value.ok_or_else(|| Stop::new(format!("input {index} is not constant"), "networks have constant weights"))
    }

    fn optional(&self, node: Node<'m>, index: usize) -> Result<Option<Constant>, Stop> {
        node.input(index).map(|_| self.constant(node, index)).transpose()
    }

    fn shape(&self, tensor: &Tensor) -> Shape {
        self.shapes[tensor.id]
    }

    /// Dimensions of the file's tensor, a batch of one included.
    fn dims(&self, tensor: &Tensor) -> Vec<usize> {
        super::value::Layout::of_rank(tensor.rank).dims(self.shape(tensor))
    }

    /// The node's output is the result of an operation.
    fn push(&mut self, node: Node<'m>, op: RealOp, rank: usize) -> Result<(), Stop> {
        let shape = op.shape(&self.shapes);
        let shape =
            shape.ok_or_else(|| Stop::new("shapes that do not fit each other", "the file is not consistent"))?;
        if shape.iter().try_fold(1usize, |all, &n| all.checked_mul(n)).is_none_or(|all| all > MAX_ELEMENTS) {
            return Err(Stop::new("a tensor that is too large", "networks have limits: use smaller layers"));
        }
        self.nodes.push(RealNode { name: node.name().to_owned(), op });
        self.shapes.push(shape);
        let id = self.nodes.len();
        self.tensors.insert(node.output(), Tensor { id, rank, ends: vec![], class: None });
        Ok(())
    }

    /// The node's output is a tensor that there is.
    fn same(&mut self, node: Node<'m>, tensor: Tensor) {
        self.tensors.insert(node.output(), tensor);
    }
}
