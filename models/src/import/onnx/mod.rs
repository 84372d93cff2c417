//! ONNX files: QONNX, QDQ, QCDQ and QOperator.
//!
//! | module | what |
//! |---|---|
//! | `schema` | the messages of the format |
//! | `external` | tensors in files of their own |
//! | `calm` | what the runtime leaves out before it looks at anything else |
//! | `tensor`, `constants`, `arrays` | constants, and what is computed from constants alone |
//! | `stop` | why a node can't be imported |
//! | `graph`, `propagation` | the graph, and where the runtime moves its quantisers |
//! | `dims` | dimensions and axes |
//! | `input`, `client`, `ahead` | what quantises the input, and what the client does before |
//! | `value`, `real`, `quantiser` | integers and real numbers, and the functions between them |
//! | `integers`, `joint` | functions of integers, and of two numbers that follow from one |
//! | `walk` | all that is known meanwhile, and the inputs of nodes |
//! | `operators` | which operators there are, and what becomes of them |
//! | `file` | node by node, from graph to network |
//! | `linear`, `pool`, `pointwise`, `uneven`, `shape`, `moves`, `padding` | the operations |
//! | `quantise` | nodes that quantise |
//! | `requantise`, `fused`, `pairs`, `both`, `finely` | from accumulators, sums and products to activations |
//! | `whole` | dialects whose accumulators stay integers |
//! | `chain` | averages that ONNX Runtime computes as a chain of floats |
//! | `doubts`, `chance` | what floats decide, how often, and how far exact arithmetic is from them |
//! | `output`, `outputs` | what the network answers |
//! | [`float`] | networks of real numbers, which are to be quantised |
//!
//! A quantised value q means scale * (q - zero_point); the network computes on x = q - zero_point. Between two quantisers the file
//! has functions of real numbers. They are collected, and become one function from accumulator to value, which is evaluated in 32-bit
//! floats in the order of the runtime:
//!
//! - *QDQ and QCDQ*: ONNX Runtime, with its default optimisations, merges `DequantizeLinear`, a linear node, and `QuantizeLinear` into
//!   one operation on integers: half_to_even(float(z) * (x_scale * w_scale / y_scale)) + zero_point. So does this import. Without
//!   optimisations the runtime adds up floats, and results may differ by one.
//! - *QOperator*: the same rule.
//! - *QONNX*, and whatever the runtime does not merge: floats are added up in an order that nobody promises. If units are powers of
//!   two, or no accumulator comes near a boundary, the result is the same in every order, and the network equals it. Otherwise the
//!   file is refused, unless results may be approximate: then exact arithmetic takes the place of float sums. Either way the report
//!   says in how many inferences the order decides.

mod ahead;
mod arrays;
mod both;
mod calm;
mod chain;
mod chance;
mod client;
mod constants;
mod dims;
mod doubts;
mod external;
mod file;
mod finely;
pub mod float;
mod fused;
mod graph;
mod input;
mod integers;
mod joint;
mod kernels;
mod linear;
mod moves;
mod operators;
mod output;
mod outputs;
mod padding;
mod pairs;
mod pointwise;
mod pool;
mod propagation;
mod quantise;
mod quantiser;
mod real;
mod requantise;
mod schema;
mod shape;
mod stop;
mod tensor;
mod uneven;
mod value;
mod walk;
mod whole;

pub use kernels::Kernels;
pub use operators::markdown;

use std::collections::{HashMap, HashSet};
use std::path::Path;

use crate::import::builder::Builder;
use crate::import::error::Refusal;
use crate::import::report::{Report, Verdict};
use crate::import::{ImportError, ImportProblem, Imported, Options};
use graph::Graph;
use input::Input;
use stop::Stop;
use value::Value;
use walk::Walk;

/// Reads an ONNX file.
///
/// The network's input are values q - zero_point of the quantised input; its output those of the last quantised tensor, or the
/// accumulators of the last layer, before any softmax.
///
/// # Errors
/// Whatever is wrong with the file, with the node and what to do about it.
pub fn import(bytes: &[u8], options: &Options) -> Result<Imported, ImportError> {
    import_beside(bytes, None, options)
}

/// The same; tensors that are stored outside of the file are read from its folder.
pub(crate) fn import_beside(bytes: &[u8], folder: Option<&Path>, options: &Options) -> Result<Imported, ImportError> {
    let mut model = schema::decode(bytes)?;
    external::fill(&mut model, folder)?;
    let calm = calm::simplify(&mut model);
    let graph = Graph::new(&model)?;
    let mut report = Report {
        format: format_of(&graph).to_owned(),
        producer: format!("{} {}", model.producer_name, model.producer_version).trim().to_owned(),
        ..Report::default()
    };
    let attach = |problem: ImportProblem, report: &Report| ImportError {
        report: Some(Box::new(report.clone())),
        ..ImportError::from(problem)
    };
    if !graph.nodes.iter().any(|node| is_quantised(node.op())) {
        let reason = "a float network: nothing in it is quantised".to_owned();
        let hint =
            "quantise it first: lowkey's quantiser does, or onnxruntime's quantize_static; or train it with Brevitas";
        return Err(attach(ImportProblem::File { reason, hint }, &report));
    }
    calm.iter().for_each(|op| report.count(op, Verdict::Dropped(operators::CALM)));
    count_operations(&graph, &mut report);
    let name = options.name.clone().unwrap_or_else(|| model.graph.as_ref().map_or("", |graph| &graph.name).to_owned());
    network(&graph, &name, options, report.clone()).map_err(|problem| {
        // Operations that no network has are said in any case, whatever else is in the way.
        let mut rows = unsupported(&graph);
        let problem = match problem {
            problem if rows.is_empty() => problem,
            ImportProblem::Refused(refusal) => {
                rows.extend(Some(refusal).filter(|row| operators::verdict(&row.op).is_ok()));
                ImportProblem::Unsupported { rows }
            }
            ImportProblem::Unsupported { rows: more } => {
                rows.extend(more.into_iter().filter(|row| operators::verdict(&row.op).is_ok()));
                ImportProblem::Unsupported { rows }
            }
            other => other,
        };
        attach(problem, &report)
    })
}

fn network<'m>(graph: &'m Graph<'m>, name: &str, options: &Options, report: Report) -> Result<Imported, ImportProblem> {
    let mut values = known(graph)?;
    let near = options.approximate;
    let located = |(node, stop): (Option<graph::Node>, Stop)| match (node, stop) {
        (Some(node), stop) => file::problem(node, stop, near),
        (None, Stop::Problem(problem)) => problem,
        (None, _) => ImportProblem::Damaged("the input can't be read".to_owned()),
    };
    let input = Input::find(graph, &values).map_err(located)?;
    let first = graph.nodes[0];
    let network_input =
        input.network(options.preprocessing.as_ref()).map_err(|stop| file::problem(first, stop, near))?;
    let builder = Builder::new(name, network_input, options.fold, report);
    let mut builder = builder.map_err(|obstacle| file::problem(first, obstacle.into(), near))?;
    builder.near = options.approximate;
    let value = match input.element {
        Some(element) => {
            Value::Ints(value::Ints { id: 0, zero: input.quantiser.zero as i64, element, layout: input.layout })
        }
        None if input.whole => {
            let scale = value::Scale { id: 0, unit: 1.0, error: 0.0, quantised: None };
            builder.report.note("nothing says which integers the file reads: 0 to 255 are taken");
            Value::Real(std::rc::Rc::new(value::Real::tensor(scale, input.shape[0], input.layout)))
        }
        None => Value::Input { flat: false },
    };
    values.insert(&graph.input.name, value);
    values.extend(input.passed.iter().map(|&(name, flat)| (name, Value::Input { flat })));
    let (clips, behind) = (HashMap::new(), Vec::new());
    let (refusals, done, derived) = (vec![], HashSet::new(), HashMap::new());
    let kernels = options.onnx;
    let mut walk =
        Walk { graph, builder, input, values, clips, near, kernels, refusals, behind, class: None, done, derived };
    walk.all()?;
    let last = graph.maker(graph.output).unwrap_or(first);
    let (id, unit) = match graph.outputs[..] {
        [name] => {
            let output = walk.values.get(name).cloned();
            let output = output.ok_or_else(|| ImportProblem::Damaged("nothing makes the output".to_owned()))?;
            walk.output(&output, last).map_err(|stop| file::problem(last, stop, near))?
        }
        _ => walk.outputs().map_err(|(node, stop)| file::problem(node.unwrap_or(first), stop, near))?,
    };
    let twin = std::mem::take(&mut walk.builder.twin);
    let (network, report) =
        walk.builder.finish(id, unit).map_err(|obstacle| file::problem(last, obstacle.into(), near))?;
    Ok(Imported { network, report, twin })
}

/// The constants of the file and what follows from them alone.
fn known<'m>(graph: &Graph<'m>) -> Result<HashMap<&'m str, Value<'m>>, ImportProblem> {
    let mut values: HashMap<&str, Value> =
        graph.constants.iter().map(|(&name, constant)| (name, Value::Constant(constant.clone()))).collect();
    for &node in &graph.nodes {
        let inputs: Vec<Option<Value>> =
            node.proto.input.iter().map(|name| values.get(name.as_str()).cloned()).collect();
        let missing = |(value, name): (&Option<Value>, &String)| value.is_none() && !name.is_empty();
        if inputs.iter().zip(&node.proto.input).any(missing) {
            continue;
        }
        let value = constants::fold(node, &inputs).map_err(|stop| file::problem(node, stop, false))?;
        if let Some(value) = value {
            values.insert(node.output(), value);
        }
    }
    Ok(values)
}

/// Whether an operation makes or reads quantised numbers.
fn is_quantised(op: &str) -> bool {
    ["Quant", "QLinear", "QGemm", "Dequantize", "DynamicQuantize", "Trunc"].iter().any(|part| op.contains(part))
        || matches!(
            op,
            "MultiThreshold"
                | "Floor"
                | "Round"
                | "Ceil"
                | "ConvInteger"
                | "MatMulInteger"
                | "MatMulIntegerToFloat"
                | "MatMulNBits"
        )
}

/// Counts the operations.
fn count_operations(graph: &Graph, report: &mut Report) {
    for node in &graph.nodes {
        let verdict = operators::verdict(node.op());
        report.count(
            node.op(),
            verdict.unwrap_or_else(|hint| Verdict::Unsupported { node: node.name().to_owned(), hint: hint.to_owned() }),
        );
    }
}

/// The operations that no network has, the first node of each.
fn unsupported(graph: &Graph) -> Vec<Refusal> {
    let mut rows: Vec<Refusal> = Vec::new();
    for node in &graph.nodes {
        let Err(hint) = operators::verdict(node.op()) else { continue };
        if rows.iter().all(|row| row.op != node.op()) {
            let (op, node) = (node.op().to_owned(), node.name().to_owned());
            let reason = operators::UNKNOWN.to_owned();
            rows.push(Refusal { op, node, reason, hint: hint.to_owned() });
        }
    }
    rows
}

fn format_of(graph: &Graph) -> &'static str {
    let has = |ops: &[&str]| graph.nodes.iter().any(|node| ops.contains(&node.op()));
    if has(&["Quant", "IntQuant", "BipolarQuant", "MultiThreshold", "Trunc"]) {
        "QONNX"
    } else if has(&["QLinearConv", "QLinearMatMul", "QGemm", "ConvInteger", "MatMulInteger"]) {
        "ONNX QOperator"
    } else if graph.nodes.iter().any(|node| {
        node.op() == "QuantizeLinear" && graph.reader(node.output()).is_some_and(|(_, next)| next.op() == "Clip")
    }) {
        "ONNX QCDQ"
    } else {
        "ONNX QDQ"
    }
}

#[cfg(test)]
mod tests {
    use super::schema::{
        AttributeProto, Dimension, GraphProto, Model, NodeProto, Shape, TensorProto, TensorType, Type, ValueInfo,
    };
    use super::*;

    /// More than any recursion can be deep, and less than a file may have.
    const LONG: usize = 30_000;

    fn node(op: &str, input: &[&str], output: &str) -> NodeProto {
        let input = input.iter().map(|&name| name.to_owned()).collect();
        NodeProto { op_type: op.to_owned(), input, output: vec![output.to_owned()], ..NodeProto::default() }
    }

    fn info(name: &str, dims: &[i64]) -> ValueInfo {
        let dim = dims.iter().map(|&value| Dimension { value }).collect();
        let tensor = TensorType { elem_type: 1, shape: Some(Shape { dim }) };
        ValueInfo { name: name.to_owned(), ty: Some(Type { tensor: Some(tensor) }) }
    }

    /// So many nodes of one operation in a row; the last tensor's name.
    fn row(nodes: &mut Vec<NodeProto>, op: &NodeProto, from: &str) -> String {
        let mut last = from.to_owned();
        for index in 0..LONG {
            let output = format!("{from}/{index}");
            nodes.push(NodeProto { input: vec![last], output: vec![output.clone()], ..op.clone() });
            last = output;
        }
        last
    }

    fn number(name: &str, v: f32) -> TensorProto {
        TensorProto { name: name.to_owned(), data_type: 1, float_data: vec![v], ..TensorProto::default() }
    }

    fn byte(name: &str, data_type: i32, v: i32) -> TensorProto {
        TensorProto { name: name.to_owned(), data_type, int32_data: vec![v], ..TensorProto::default() }
    }

    /// A quantised image that a row of nodes changes, a convolution, its quantised result and another row.
    fn long(before: &NodeProto, after: &NodeProto) -> Result<Imported, ImportProblem> {
        let weights = TensorProto { dims: vec![1; 4], ..byte("w", 3, 3) };
        let mut nodes = vec![
            node("QuantizeLinear", &["x", "scale", "zero"], "q"),
            node("DequantizeLinear", &["q", "scale", "zero"], "real"),
            node("DequantizeLinear", &["w", "scale", "w zero"], "weights"),
        ];
        let image = row(&mut nodes, before, "real");
        nodes.push(node("Conv", &[&image, "weights"], "sum"));
        nodes.push(node("QuantizeLinear", &["sum", "scale", "zero"], "sum/q"));
        nodes.push(node("DequantizeLinear", &["sum/q", "scale", "zero"], "result"));
        let output = row(&mut nodes, after, "result");
        let graph = GraphProto {
            node: nodes,
            initializer: vec![number("scale", 0.5), byte("zero", 2, 0), byte("w zero", 3, 0), weights],
            input: vec![info("x", &[1, 1, 2, 2])],
            output: vec![info(&output, &[1, 4])],
            ..GraphProto::default()
        };
        let model = Model { graph: Some(graph), ..Model::default() };
        let graph = Graph::new(&model)?;
        network(&graph, "long", &Options::default(), Report::default())
    }

    /// A convolution with this bias, in front of a sum with this number.
    fn with_numbers(bias: f32, more: f32) -> Result<Imported, ImportProblem> {
        let weights = TensorProto { dims: vec![1; 4], ..byte("w", 3, 3) };
        let list = TensorProto { dims: vec![1], ..number("bias", bias) };
        let graph = GraphProto {
            node: vec![
                node("QuantizeLinear", &["x", "scale", "zero"], "q"),
                node("DequantizeLinear", &["q", "scale", "zero"], "real"),
                node("DequantizeLinear", &["w", "scale", "w zero"], "weights"),
                node("Conv", &["real", "weights", "bias"], "sum"),
                node("QuantizeLinear", &["sum", "scale", "zero"], "sum/q"),
                node("DequantizeLinear", &["sum/q", "scale", "zero"], "sum/real"),
                node("Add", &["sum/real", "more"], "more/real"),
                node("QuantizeLinear", &["more/real", "scale", "zero"], "y"),
            ],
            initializer: vec![
                number("scale", 0.5),
                byte("zero", 2, 0),
                byte("w zero", 3, 0),
                weights,
                list,
                number("more", more),
            ],
            input: vec![info("x", &[1, 1, 2, 2])],
            output: vec![info("y", &[1, 1, 2, 2])],
            ..GraphProto::default()
        };
        let model = Model { graph: Some(graph), ..Model::default() };
        network(&Graph::new(&model)?, "numbers", &Options::default(), Report::default())
    }

    #[test]
    fn constants_that_are_not_finite_are_refused() {
        with_numbers(0.25, 1.0).expect("finite numbers");
        for (bias, more) in [(f32::NAN, 1.0), (f32::INFINITY, 1.0), (0.25, f32::NAN), (0.25, f32::NEG_INFINITY)] {
            let error = with_numbers(bias, more).expect_err("no numbers").to_string();
            assert!(error.contains("not finite"), "{error}");
        }
    }

    #[test]
    fn long_rows_of_nodes_are_no_deep_ones() {
        let zeros = AttributeProto { name: "pads".into(), ints: vec![0; 8], ..AttributeProto::default() };
        let pad = NodeProto { attribute: vec![zeros], ..node("Pad", &[], "") };
        let (flatten, concat) = (node("Flatten", &[], ""), node("Concat", &[], ""));
        let imported = long(&pad, &flatten).expect("powers of two are exact");
        assert_eq!(imported.network.architecture().output_scale, Some(0.5));
        // Joined values that nothing quantises are kept one in the other.
        let axis = AttributeProto { name: "axis".into(), i: 1, ..AttributeProto::default() };
        let text = long(&NodeProto { attribute: vec![axis], ..concat }, &flatten).expect_err("too deep").to_string();
        assert!(text.contains("parts of parts"), "{text}");
    }
}
