//! The operators of float networks that are read, in one table.

use std::fmt::Write;

use super::Reader;
use crate::coding::End;
use crate::import::onnx::graph::Node;
use crate::import::onnx::stop::Stop;

/// Operators that are read alike.
pub(super) struct Operator {
    pub names: &'static [&'static str],
    /// What they become, for people.
    pub becomes: &'static str,
    pub read: for<'m> fn(&mut Reader<'_, 'm>, Node<'m>) -> Result<(), Stop>,
}

const LINEAR: &str = "part of a linear layer";
const CLIP: &str = "a clip, part of the rounding behind a layer";
const SHAPE: &str = "a shape, or elements in another order";
const END: &str = "left to the client, at the end";

/// All that are read; others are refused.
#[rustfmt::skip]
const OPERATORS: &[Operator] = &[
    Operator { names: &["Conv"], becomes: "a convolution", read: |reader, node| reader.conv(node) },
    Operator { names: &["Gemm"], becomes: "a matrix", read: |reader, node| reader.gemm(node) },
    Operator { names: &["MatMul"], becomes: "a matrix", read: |reader, node| reader.matmul(node) },
    Operator { names: &["BatchNormalization"], becomes: LINEAR, read: |reader, node| reader.batch_norm(node) },
    Operator { names: &["Add", "Sub", "Sum"], becomes: LINEAR, read: |reader, node| reader.sum(node) },
    Operator { names: &["Mul", "Div"], becomes: "part of a linear layer, if one factor is constant", read: |reader, node| reader.multiple(node) },
    Operator { names: &["Neg"], becomes: LINEAR, read: |reader, node| reader.negative(node) },
    Operator { names: &["Relu"], becomes: CLIP, read: |reader, node| reader.clip(node, Some([0.0, f32::INFINITY])) },
    Operator { names: &["Clip"], becomes: CLIP, read: |reader, node| reader.clip(node, None) },
    Operator { names: &["MaxPool", "GlobalMaxPool"], becomes: "a max pool", read: |reader, node| reader.max_pool(node) },
    Operator { names: &["AveragePool", "GlobalAveragePool", "ReduceMean"], becomes: "an average pool with a shift", read: |reader, node| reader.average_pool(node) },
    Operator { names: &["Flatten", "Reshape", "Squeeze", "Unsqueeze"], becomes: SHAPE, read: |reader, node| reader.reshape(node) },
    Operator { names: &["Shape"], becomes: SHAPE, read: |reader, node| reader.shape_of(node) },
    Operator { names: &["Pad"], becomes: "zeros around an image", read: |reader, node| reader.pad(node) },
    Operator { names: &["Slice"], becomes: "elements at a distance", read: |reader, node| reader.slice(node) },
    Operator { names: &["Concat"], becomes: "channels one behind the other", read: |reader, node| reader.concat(node) },
    Operator { names: &["Identity", "Dropout", "Cast"], becomes: "nothing", read: |reader, node| reader.identity(node) },
    Operator { names: &["Softmax"], becomes: END, read: |reader, node| reader.end(node, End::Softmax) },
    Operator { names: &["LogSoftmax"], becomes: END, read: |reader, node| reader.end(node, End::LogSoftmax) },
    Operator { names: &["Sigmoid"], becomes: END, read: |reader, node| reader.end(node, End::Sigmoid) },
    Operator { names: &["Tanh"], becomes: END, read: |reader, node| reader.end(node, End::Tanh) },
    Operator { names: &["ArgMax"], becomes: END, read: |reader, node| reader.arg_max(node) },
    // Folded where its inputs are constant.
    Operator { names: &["Constant", "ConstantOfShape", "Gather", "Transpose", "Sqrt", "Pow", "Reciprocal"], becomes: "constants, where their inputs are", read: |_, node| Err(unknown(node.op())) },
];

/// The operator's entry.
pub(super) fn find(op: &str) -> Option<&'static Operator> {
    OPERATORS.iter().find(|operator| operator.names.contains(&op))
}

/// Why an operator is refused.
pub(super) fn unknown(op: &str) -> Stop {
    let hint = match op {
        "LeakyRelu" | "PRelu" | "Elu" | "Gelu" | "HardSwish" | "HardSigmoid" | "Softplus" | "Mish" | "Swish" => {
            "networks have ReLU and clips between layers: train with ReLU or ReLU6"
        }
        "LSTM" | "GRU" | "RNN" => "networks have no state",
        "LayerNormalization" | "InstanceNormalization" | "GroupNormalization" => "train with batch normalisation",
        "Einsum" | "Attention" => "networks have no products of two activations",
        "Resize" | "Upsample" | "ConvTranspose" => "networks that are quantised here do not enlarge images",
        _ => "networks have nothing like it",
    };
    Stop::new("an operation that float networks here do not have", hint)
}

/// The table for people.
pub fn markdown() -> String {
    let mut text = "| operators | become |\n|---|---|\n".to_owned();
    for operator in OPERATORS {
        let names: Vec<String> = operator.names.iter().map(|name| format!("`{name}`")).collect();
        let _ = writeln!(text, "| {} | {} |", names.join(", "), operator.becomes);
    }
    text
}
