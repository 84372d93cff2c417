//! The operators of ONNX and of its dialects in one table: names, what becomes of a node, how it is imported.
//!
//! Reports, refusals, the walk through a graph and the table of the documentation are made from it.

use super::graph::Node;
use super::quantiser::Mode;
use super::real::Function;
use super::stop::Stop;
use super::value::Value;
use super::walk::Walk;
use crate::import::report::Verdict;

/// One or several operators that are imported alike.
pub(super) struct Operator {
    pub names: &'static [&'static str],
    pub becomes: Becomes,
}

/// What becomes of a node.
pub(super) enum Becomes {
    /// Part of the network; as what, and by which function.
    Imported(&'static str, Import),
    /// Nothing, which changes nothing that the network promises; why, and what its value is then.
    Dropped(&'static str, Import),
    /// A refusal; what to do about it.
    Refused(&'static str),
}

/// Imports a node that is not constant.
pub(super) type Import = for<'m> fn(&mut Walk<'m>, Node<'m>) -> Result<Value<'m>, Stop>;

use Becomes::{Dropped, Imported, Refused};

const PART: &str = "part of the requantisation behind it";
const LAYER: &str = "a linear layer";
const WHOLE: &str = "a linear layer and its requantisation";
const QUANTISER: &str = "a requantisation, or quantised weights";
const AVERAGE: &str = "an average pool";
const SHAPE: &str = "a shape, or elements in another order";
const ORDER: &str = "elements in another order";
const TABLE: &str = "a table";
const CONSTANTS: &str = "constants";
pub(super) const CALM: &str = "it changes nothing";
const BEFORE: &str = "the client takes it, of the values before it; their order is the same";

const fn operator(names: &'static [&'static str], becomes: Becomes) -> Operator {
    Operator { names, becomes }
}

/// All that are known; others are refused with [`OTHERS`].
#[rustfmt::skip]
pub(super) const OPERATORS: &[Operator] = &[
    operator(&["Conv"], Imported(LAYER, |walk, node| walk.conv(node))),
    operator(&["Gemm"], Imported(LAYER, |walk, node| walk.gemm(node))),
    operator(&["MatMul"], Imported(LAYER, |walk, node| walk.matmul(node))),
    operator(&["ConvInteger", "MatMulInteger"], Imported(LAYER, |walk, node| walk.integer(node))),
    operator(&["QLinearConv", "QLinearMatMul", "QGemm"], Imported(WHOLE, |walk, node| walk.qlinear(node))),
    operator(&["QuantizeLinear", "Quant", "IntQuant", "BipolarQuant", "MultiThreshold", "Trunc"], Imported(QUANTISER, |walk, node| walk.quantiser_node(node))),
    operator(&["DequantizeLinear"], Imported("a unit", |walk, node| walk.dequantise(node))),
    operator(&["BatchNormalization"], Imported(PART, |walk, node| walk.batch_norm(node))),
    operator(&["Relu"], Imported(PART, |walk, node| walk.clip(node, Some(0.0), None))),
    operator(&["Clip"], Imported(PART, |walk, node| walk.clip_node(node))),
    operator(&["Max", "Min"], Imported(PART, |walk, node| walk.extreme(node))),
    operator(&["Floor"], Imported(PART, |walk, node| walk.round(node, Mode::Floor))),
    operator(&["Ceil"], Imported(PART, |walk, node| walk.round(node, Mode::Ceil))),
    operator(&["Round"], Imported(PART, |walk, node| walk.round(node, Mode::HalfEven))),
    operator(&["BitShift"], Imported(PART, |walk, node| walk.bit_shift(node))),
    operator(&["Mul", "Div", "Sub"], Imported(PART, |walk, node| walk.arithmetic(node))),
    operator(&["Add", "Sum"], Imported("a bias or a residual", |walk, node| walk.add(node))),
    operator(&["QLinearAdd"], Imported("a residual", |walk, node| walk.qlinear_add(node))),
    operator(&["QLinearMul"], Imported("a table, of one tensor", |walk, node| walk.qlinear_mul(node))),
    operator(&["MaxPool", "GlobalMaxPool", "ReduceMax"], Imported("a max pool", |walk, node| walk.max_pool(node))),
    operator(&["AveragePool", "GlobalAveragePool", "ReduceMean"], Imported(AVERAGE, |walk, node| walk.average_pool(node))),
    operator(&["QLinearAveragePool", "QLinearGlobalAveragePool"], Imported(AVERAGE, |walk, node| walk.qlinear_average_pool(node))),
    operator(&["Concat"], Imported("a concatenation", |walk, node| walk.concat(node))),
    operator(&["QLinearConcat"], Imported("a concatenation", |walk, node| walk.qlinear_concat(node))),
    operator(&["Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose"], Imported(SHAPE, |walk, node| walk.reshape(node))),
    operator(&["Pad"], Imported("padding of the layer behind it, or elements in another order", |walk, node| walk.pad(node))),
    operator(&["Sigmoid"], Imported(TABLE, |walk, node| walk.function_or_last(node, Function::Sigmoid))),
    operator(&["Tanh"], Imported(TABLE, |walk, node| walk.function_or_last(node, Function::Tanh))),
    operator(&["HardSwish"], Imported(TABLE, |walk, node| walk.function(node, Function::HardSwish))),
    operator(&["HardSigmoid"], Imported(TABLE, |walk, node| {
        walk.function(node, Function::HardSigmoid(node.float("alpha", 0.2), node.float("beta", 0.5)))
    })),
    operator(&["Gelu"], Imported(TABLE, |walk, node| {
        walk.function(node, Function::Gelu { tanh: node.text("approximate", "none") == "tanh" })
    })),
    operator(&["Elu"], Imported(TABLE, |walk, node| walk.function(node, Function::Elu(node.float("alpha", 1.0))))),
    operator(&["LeakyRelu"], Imported(TABLE, |walk, node| walk.function(node, leaky(node)))),
    operator(&["PRelu"], Imported(TABLE, |walk, node| walk.slopes(node))),
    operator(&["Selu"], Imported(TABLE, |walk, node| {
        walk.function(node, Function::Selu(node.float("alpha", 1.673_263_2), node.float("gamma", 1.050_701)))
    })),
    operator(&["Celu"], Imported(TABLE, |walk, node| walk.function(node, Function::Celu(node.float("alpha", 1.0))))),
    operator(&["ThresholdedRelu"], Imported(TABLE, |walk, node| walk.function(node, Function::ThresholdedRelu(node.float("alpha", 1.0))))),
    operator(&["Swish"], Imported(TABLE, |walk, node| walk.function(node, Function::Swish(node.float("alpha", 1.0))))),
    operator(&["QuickGelu"], Imported(TABLE, |walk, node| walk.function(node, Function::Swish(node.float("alpha", 1.702))))),
    operator(&["Softplus"], Imported(TABLE, |walk, node| walk.function(node, Function::Softplus))),
    operator(&["Softsign"], Imported(TABLE, |walk, node| walk.function(node, Function::Softsign))),
    operator(&["Mish"], Imported(TABLE, |walk, node| walk.function(node, Function::Mish))),
    operator(&["Erf"], Imported(TABLE, |walk, node| walk.function(node, Function::Erf))),
    operator(&["Exp"], Imported(TABLE, |walk, node| walk.function(node, Function::Exp))),
    operator(&["Log"], Imported(TABLE, |walk, node| walk.function(node, Function::Log))),
    operator(&["Sqrt"], Imported(TABLE, |walk, node| walk.function(node, Function::Sqrt))),
    operator(&["Reciprocal"], Imported(TABLE, |walk, node| walk.function(node, Function::Reciprocal))),
    operator(&["Sin"], Imported(TABLE, |walk, node| walk.function(node, Function::Sin))),
    operator(&["Cos"], Imported(TABLE, |walk, node| walk.function(node, Function::Cos))),
    operator(&["Abs"], Imported(TABLE, |walk, node| walk.function(node, Function::Abs))),
    operator(&["Neg"], Imported(TABLE, |walk, node| walk.function(node, Function::Neg))),
    operator(&["Sign"], Imported(TABLE, |walk, node| walk.function(node, Function::Sign))),
    operator(&["Pow"], Imported(TABLE, |walk, node| walk.power(node))),
    operator(&["QLinearSigmoid"], Imported(TABLE, |walk, node| walk.qlinear_function(node, Function::Sigmoid))),
    operator(&["QLinearLeakyRelu"], Imported(TABLE, |walk, node| walk.qlinear_function(node, leaky(node)))),
    operator(&["Split"], Imported(ORDER, |walk, node| walk.split(node))),
    operator(&["Slice"], Imported(ORDER, |walk, node| walk.slice(node))),
    operator(&["Gather"], Imported(ORDER, |walk, node| walk.gather(node))),
    operator(&["GatherND"], Imported(ORDER, |walk, node| walk.gather_nd(node))),
    operator(&["DepthToSpace", "SpaceToDepth"], Imported(ORDER, |walk, node| walk.depth_space(node))),
    operator(&["Resize", "Upsample"], Imported(ORDER, |walk, node| walk.resize(node))),
    operator(&["Expand", "Tile"], Imported(ORDER, |walk, node| walk.repeat(node))),
    operator(&["Constant", "ConstantOfShape"], Imported(CONSTANTS, only_constant)),
    operator(&["Range", "Where", "Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual", "And", "Or", "Not", "Mod"], Imported(CONSTANTS, only_constant)),
    operator(&["ReduceProd", "ReduceSum", "ReduceMin"], Imported(CONSTANTS, only_constant)),
    operator(&["Shape", "Size"], Imported(CONSTANTS, |walk, node| walk.shape_of(node))),
    operator(&["Identity", "Dropout"], Dropped(CALM, |walk, node| Ok(walk.value(node, 0)?.clone()))),
    operator(&["Cast"], Imported("integers of another width, or nothing", |walk, node| walk.cast(node))),
    operator(&["Softmax", "LogSoftmax", "QLinearSoftmax"], Dropped(BEFORE, |walk, node| walk.last(node))),
    operator(&["TopK"], Dropped("of one, at the end: the client finds the largest", |walk, node| walk.top_k(node))),
    operator(&["ArgMax"], Dropped("the network's outputs are the values before it; the client finds the largest", |walk, node| {
        walk.last(node)
    })),
    operator(&["DynamicQuantizeLinear", "DynamicQuantizeMatMul", "MatMulIntegerToFloat"],
        Refused("quantise statically: scales that depend on the input are not imported")),
    operator(&["MatMulNBits"], Refused("keep DequantizeLinear and MatMul apart")),
    operator(&["LSTM", "GRU", "RNN", "Loop", "If", "Scan"], Refused("networks have no loops and no choices")),
    operator(&["ConvTranspose"], Refused("ONNX Runtime computes it in floats; use Resize to the nearest element and Conv")),
    operator(&["LayerNormalization", "InstanceNormalization", "GroupNormalization"],
        Refused("use batch normalisation, whose factors are constant after training")),
];

/// Why other operators are refused, and what to do about it.
pub(super) const UNKNOWN: &str = "no network has this operation";
pub(super) const OTHERS: &str =
    "replace it by layers that are imported: convolutions, matrices, pools, sums, and functions of 8-bit values";

/// The row of an operator.
pub(super) fn find(name: &str) -> Option<&'static Operator> {
    OPERATORS.iter().find(|operator| operator.names.contains(&name))
}

/// What becomes of an operator, or what to do about it.
pub(super) fn verdict(name: &str) -> Result<Verdict, &'static str> {
    match find(name).map(|operator| &operator.becomes) {
        Some(Imported(what, _)) => Ok(Verdict::Imported(what)),
        Some(Dropped(why, _)) => Ok(Verdict::Dropped(why)),
        Some(Refused(hint)) => Err(hint),
        None => Err(OTHERS),
    }
}

/// Operators of ONNX Runtime alone, and of QONNX; all others are ONNX's.
const RUNTIME: &[&str] = &[
    "QGemm",
    "QLinearAdd",
    "QLinearMul",
    "QLinearAveragePool",
    "QLinearGlobalAveragePool",
    "QLinearConcat",
    "QLinearSigmoid",
    "QLinearLeakyRelu",
    "QLinearSoftmax",
    "QuickGelu",
    "DynamicQuantizeMatMul",
    "MatMulIntegerToFloat",
    "MatMulNBits",
];
const QONNX: &[&str] = &["Quant", "IntQuant", "BipolarQuant", "MultiThreshold", "Trunc"];

/// The tables for people, in Markdown: operators of each dialect and what becomes of them.
pub fn markdown() -> String {
    let row = |name: &str, becomes: &Becomes| {
        let what = match becomes {
            Imported(what, _) => (*what).to_owned(),
            Dropped(why, _) => format!("left out: {why}"),
            Refused(hint) => format!("refused: {hint}"),
        };
        format!("| {name} | {what} |\n")
    };
    let own = |name: &&str| [RUNTIME, QONNX].iter().any(|list| list.contains(name));
    let table = |title: &str, of: &dyn Fn(&&str) -> bool| {
        let names = OPERATORS.iter().flat_map(|operator| operator.names.iter().map(|name| (name, &operator.becomes)));
        let rows: String = names.filter(|(name, _)| of(name)).map(|(name, becomes)| row(name, becomes)).collect();
        format!("## {title}\n\n| operator | becomes |\n|---|---|\n{rows}\n")
    };
    let tables = [
        table("ONNX", &|name| !own(name)),
        table("ONNX Runtime (com.microsoft)", &|name| RUNTIME.contains(name)),
        table("QONNX", &|name| QONNX.contains(name)),
    ];
    format!("{}All others are refused, by name: {OTHERS}.\n", tables.concat())
}

fn leaky(node: Node<'_>) -> Function {
    Function::LeakyRelu(node.float("alpha", 0.01))
}

fn only_constant<'m>(_: &mut Walk<'m>, node: Node<'m>) -> Result<Value<'m>, Stop> {
    Err(Stop::new(format!("{} in this place", node.op()), "only constants may be computed like this"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_stands_in_one_row() {
        let mut names: Vec<&str> = OPERATORS.iter().flat_map(|operator| operator.names).copied().collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "a name is in two rows");
        for name in RUNTIME.iter().chain(QONNX) {
            assert!(names.contains(name), "{name} is no operator");
        }
        assert!(matches!(verdict("Conv"), Ok(Verdict::Imported(_))));
        assert!(matches!(verdict("Identity"), Ok(Verdict::Dropped(_))));
        assert!(verdict("LSTM").is_err_and(|hint| hint.contains("loops")));
        assert!(verdict("Sinh").is_err_and(|hint| hint.contains("replace it")));
    }
}
