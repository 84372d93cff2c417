//! What becomes of each operator: the one table from which verdicts, dispatch, hints and the list for people come.

use super::model::Operator;
use super::names::{BUILTIN, is_compiled, number};
use super::walk::Import;

/// What becomes of an operator.
pub(super) struct Entry {
    /// Its number in the schema.
    pub code: i32,
    pub becomes: Becomes,
}

pub(super) enum Becomes {
    /// A part of the network, or nothing; as what, for people.
    Imported(&'static str, Import),
    /// Nothing, but at the end of a network only; why.
    Outside(&'static str),
    /// A refusal: why, and what to do about it.
    Refused { reason: &'static str, hint: &'static str },
}

const fn imported(name: &str, what: &'static str, import: Import) -> Entry {
    Entry { code: number(name), becomes: Becomes::Imported(what, import) }
}

const fn outside(name: &str, why: &'static str) -> Entry {
    Entry { code: number(name), becomes: Becomes::Outside(why) }
}

const fn refused(name: &str, reason: &'static str, hint: &'static str) -> Entry {
    Entry { code: number(name), becomes: Becomes::Refused { reason, hint } }
}

const fn stateful(name: &str) -> Entry {
    let (reason, hint) = ("it keeps a state from one input to the next", "stateful models are out of reach");
    Entry { code: number(name), becomes: Becomes::Refused { reason, hint } }
}

const fn product(name: &str) -> Entry {
    let (reason, hint) = ("it multiplies or divides activations", "products of two activations are out of reach");
    Entry { code: number(name), becomes: Becomes::Refused { reason, hint } }
}

/// All operators of which more is known than the name.
pub(super) const OPERATORS: &[Entry] = &[
    imported("CONV_2D", "a convolution", |walk, operator, name| walk.convolution(operator, name)),
    imported("DEPTHWISE_CONV_2D", "a depthwise convolution", |walk, operator, name| walk.depthwise(operator, name)),
    imported("FULLY_CONNECTED", "a matrix", |walk, operator, name| walk.dense(operator, name)),
    imported("TRANSPOSE_CONV", "a convolution, whose results are put in order", |walk, operator, name| {
        walk.transposed(operator, name)
    }),
    imported("AVERAGE_POOL_2D", "an average pool, one for each size of windows", |walk, operator, name| {
        walk.average_pool(operator, name)
    }),
    imported("MEAN", "an average pool", |walk, operator, name| walk.mean(operator, name)),
    imported("SUM", "a sum pool and a requantisation", |walk, operator, name| walk.mean(operator, name)),
    imported("REDUCE_MAX", "a max pool", |walk, operator, name| walk.reduce_extreme(operator, name)),
    imported("REDUCE_MIN", "a max pool of negatives", |walk, operator, name| walk.reduce_extreme(operator, name)),
    imported("MAX_POOL_2D", "a max pool", |walk, operator, name| walk.max_pool(operator, name)),
    imported("ADD", "a sum", |walk, operator, name| walk.binary(operator, name)),
    imported("SUB", "a difference", |walk, operator, name| walk.binary(operator, name)),
    imported("MUL", "a requantisation, with a constant; a table, of one tensor", |walk, operator, name| {
        walk.binary(operator, name)
    }),
    imported("DIV", "a requantisation, by a constant", |walk, operator, name| walk.binary(operator, name)),
    imported("PRELU", "a requantisation, with a constant", |walk, operator, name| walk.binary(operator, name)),
    imported("MAXIMUM", "requantisations", |walk, operator, name| walk.binary(operator, name)),
    imported("MINIMUM", "requantisations", |walk, operator, name| walk.binary(operator, name)),
    imported("LEAKY_RELU", "a table or a requantisation", |walk, operator, name| walk.leaky(operator, name)),
    imported("QUANTIZE", "a rescaling", |walk, operator, name| walk.quantise(operator, name)),
    imported("RELU", "a table or a requantisation", |walk, operator, name| walk.table(operator, name)),
    imported("RELU6", "a table or a requantisation", |walk, operator, name| walk.table(operator, name)),
    imported("LOGISTIC", "a table or a requantisation", |walk, operator, name| walk.table(operator, name)),
    imported("TANH", "a table or a requantisation", |walk, operator, name| walk.table(operator, name)),
    imported("RELU_N1_TO_1", "a table or a requantisation", |walk, operator, name| walk.table(operator, name)),
    imported("RELU_0_TO_1", "a table or a requantisation", |walk, operator, name| walk.table(operator, name)),
    imported("ELU", "a table or a requantisation", |walk, operator, name| walk.table(operator, name)),
    imported("EXP", "a table or a requantisation", |walk, operator, name| walk.table(operator, name)),
    imported("LOG", "a table or a requantisation", |walk, operator, name| walk.table(operator, name)),
    imported("SQRT", "a table or a requantisation", |walk, operator, name| walk.table(operator, name)),
    imported("NEG", "a table or a requantisation", |walk, operator, name| walk.table(operator, name)),
    imported("ABS", "a table", |walk, operator, name| walk.table(operator, name)),
    imported("GELU", "a table", |walk, operator, name| walk.table(operator, name)),
    imported("HARD_SWISH", "a table", |walk, operator, name| walk.table(operator, name)),
    imported("RESHAPE", "nothing: elements stay where they are", |walk, operator, name| walk.reshape(operator, name)),
    imported("SQUEEZE", "nothing: elements stay where they are", |walk, operator, name| walk.reshape(operator, name)),
    imported("EXPAND_DIMS", "nothing: elements stay where they are", |walk, operator, name| {
        walk.reshape(operator, name)
    }),
    imported("PAD", "padding of the next operation, or elements in another order", |walk, operator, name| {
        walk.pad(operator, name)
    }),
    imported("PADV2", "padding of the next operation, or elements in another order", |walk, operator, name| {
        walk.pad(operator, name)
    }),
    imported("MIRROR_PAD", "elements in another order", |walk, operator, name| walk.mirror(operator, name)),
    imported("CONCATENATION", "a concatenation", |walk, operator, name| walk.concatenate(operator, name)),
    imported("PACK", "a concatenation, or a shape", |walk, operator, name| walk.pack(operator, name)),
    imported("UNPACK", "elements in another order", |walk, operator, name| walk.unpack(operator, name)),
    imported("SPLIT", "elements in another order", |walk, operator, name| walk.split(operator, name)),
    imported("SPLIT_V", "elements in another order", |walk, operator, name| walk.split(operator, name)),
    imported("SLICE", "elements in another order, or a shape", |walk, operator, name| walk.slice(operator, name)),
    imported("STRIDED_SLICE", "elements in another order, or a shape", |walk, operator, name| {
        walk.slice(operator, name)
    }),
    imported("GATHER", "elements in another order, or a shape", |walk, operator, name| walk.gather(operator, name)),
    imported("TILE", "elements in another order", |walk, operator, name| walk.tile(operator, name)),
    imported("TRANSPOSE", "elements in another order", |walk, operator, name| walk.transpose(operator, name)),
    imported("DEPTH_TO_SPACE", "elements in another order", |walk, operator, name| walk.blocks(operator, name, false)),
    imported("SPACE_TO_DEPTH", "elements in another order", |walk, operator, name| walk.blocks(operator, name, true)),
    imported("RESIZE_NEAREST_NEIGHBOR", "elements in another order", |walk, operator, name| {
        walk.nearest(operator, name)
    }),
    imported("RESIZE_BILINEAR", "a sum of neighbours, where their weights are short", |walk, operator, name| {
        walk.bilinear(operator, name)
    }),
    imported("REVERSE_V2", "elements in another order", |walk, operator, name| walk.reverse(operator, name)),
    imported("BROADCAST_TO", "elements in another order", |walk, operator, name| walk.broadcast(operator, name)),
    imported("SPACE_TO_BATCH_ND", "the dilation of the convolution behind it", |walk, operator, name| {
        walk.space_to_batch(operator, name)
    }),
    imported("BATCH_TO_SPACE_ND", "the dilation of the convolution before it", |walk, operator, name| {
        walk.batch_to_space(operator, name)
    }),
    imported("SHAPE", "nothing: shapes are known", |walk, operator, _| walk.shape_arithmetic(operator)),
    outside("SOFTMAX", "a softmax is left out at the end of a network only"),
    imported("DEQUANTIZE", "nothing: float32 numbers are those of the quantised tensor", |walk, operator, name| {
        walk.dequantise(operator, name)
    }),
    outside("LOG_SOFTMAX", "a softmax is left out at the end of a network only"),
    outside("ARG_MAX", "the largest channel is taken at the end of a network only"),
    refused("WHILE", "it is a loop", "control flow is out of reach: export a model without"),
    refused("IF", "it is a branch", "control flow is out of reach: export a model without"),
    refused("L2_NORMALIZATION", "it divides by a norm", "normalisations of activations are out of reach"),
    refused("L2_POOL_2D", "it takes roots of sums of squares", "average or max pools can be imported"),
    refused("RSQRT", "it divides by roots", "normalisations of activations are out of reach"),
    stateful("LSTM"),
    stateful("RNN"),
    stateful("SVDF"),
    stateful("UNIDIRECTIONAL_SEQUENCE_RNN"),
    stateful("UNIDIRECTIONAL_SEQUENCE_LSTM"),
    stateful("BIDIRECTIONAL_SEQUENCE_RNN"),
    stateful("BIDIRECTIONAL_SEQUENCE_LSTM"),
    stateful("CALL_ONCE"),
    stateful("VAR_HANDLE"),
    stateful("READ_VARIABLE"),
    stateful("ASSIGN_VARIABLE"),
    product("BATCH_MATMUL"),
    product("SQUARED_DIFFERENCE"),
];

/// What is known of an operator; `None` if that is at most its name.
pub(super) fn entry(code: i32) -> Option<&'static Becomes> {
    OPERATORS.iter().find(|entry| entry.code == code).map(|entry| &entry.becomes)
}

/// Why an operator can't be a part of a network, and what to do about it; `None` if it can.
pub(super) fn refusal(operator: &Operator<'_>) -> Option<(&'static str, &'static str)> {
    let none = "no network has this operation";
    match entry(operator.code) {
        Some(Becomes::Imported(..)) => None,
        Some(Becomes::Refused { reason, hint }) => Some((reason, hint)),
        Some(Becomes::Outside(why)) => Some((none, why)),
        None if is_compiled(&operator.name) => {
            Some(("it was compiled for an accelerator", "import the file from before the compilation"))
        }
        None => Some((none, "replace it before the export; docs/operators-tflite.md has those that are supported")),
    }
}

/// The table for people, in Markdown: operators and what becomes of them.
pub fn markdown() -> String {
    let row = |entry: &Entry| {
        let what = match &entry.becomes {
            Becomes::Imported(what, _) => (*what).to_owned(),
            Becomes::Outside(why) => format!("left out at the end of a network ({why})"),
            Becomes::Refused { reason, hint } => format!("refused: {reason}; {hint}"),
        };
        format!("| {} | {what} |\n", BUILTIN[entry.code as usize])
    };
    let rows: String = OPERATORS.iter().map(row).collect();
    format!("| operator | becomes |\n|---|---|\n{rows}| all others | refused, by name |\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operator_has_one_row() {
        for (at, entry) in OPERATORS.iter().enumerate() {
            let name = BUILTIN[entry.code as usize];
            assert!(OPERATORS[..at].iter().all(|other| other.code != entry.code), "{name} twice");
            assert!(markdown().contains(&format!("| {name} | ")), "{name}");
        }
    }
}
