//! The parts of a TFLite file that an import reads: tensors, operators and their options, by the field numbers of the schema.
//!
//! The schema is `tflite/converter/schema/schema.fbs` of LiteRT; numbers of fields are part of the format and never change.

use std::fmt;

use super::flatbuffer::{Table, bounded};
use super::names::{BUILTIN, CUSTOM, number};
use crate::import::error::ImportProblem;

/// Most tensors, and most operators.
const MAX_PARTS: usize = 1 << 16;
/// Most dimensions of a tensor.
const MAX_RANK: usize = 8;

/// Most numbers and characters that describe tensors and operators, weights and biases aside: a small file could otherwise name
/// one long list many times.
const MAX_DESCRIPTIONS: usize = 1 << 22;

/// A file.
#[derive(Debug)]
pub(super) struct Model<'f> {
    /// What the program that wrote it says about it.
    pub description: String,
    pub tensors: Vec<Tensor<'f>>,
    /// In an order in which they can be executed.
    pub operators: Vec<Operator<'f>>,
    /// Tensors.
    pub inputs: Vec<usize>,
    /// Tensors.
    pub outputs: Vec<usize>,
}

/// A tensor.
#[derive(Debug)]
pub(super) struct Tensor<'f> {
    pub name: String,
    /// With 1 for dimensions that are not known, usually the batch.
    pub dims: Vec<usize>,
    pub element: Element,
    /// The bytes of a constant; empty for others.
    pub data: &'f [u8],
    /// One for the tensor, or one for each channel.
    pub scale: Vec<f32>,
    /// As many as scales.
    pub zero_point: Vec<i64>,
    /// Along which there is a scale for each channel.
    pub axis: usize,
    /// Compressed, or in another file.
    pub indirect: bool,
}

/// The type of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    Float32,
    Int32,
    UInt8,
    Int64,
    Int8,
    /// By its number in the schema.
    Other(i8),
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Element::Float32 => "float32",
            Element::Int32 => "int32",
            Element::UInt8 => "uint8",
            Element::Int64 => "int64",
            Element::Int8 => "int8",
            Element::Other(1) => "float16",
            Element::Other(5) => "string",
            Element::Other(6) => "bool",
            Element::Other(7) => "int16",
            Element::Other(10) => "float64",
            Element::Other(17) => "int4",
            Element::Other(number) => return write!(f, "number {number}"),
        })
    }
}

/// An operator.
#[derive(Debug)]
pub(super) struct Operator<'f> {
    pub name: String,
    /// Its number in the schema.
    pub code: i32,
    /// Tensors; `None` where an input is left out.
    pub inputs: Vec<Option<usize>>,
    /// Tensors.
    pub outputs: Vec<usize>,
    /// `None` means that every option has its default.
    options: Option<Table<'f>>,
}

impl Operator<'_> {
    /// Option number `field` of its table.
    pub fn i8(&self, field: usize) -> Result<i8, ImportProblem> {
        self.options.map_or(Ok(0), |options| options.i8(field, 0))
    }

    pub fn f32(&self, field: usize) -> Result<f32, ImportProblem> {
        self.options.map_or(Ok(0.0), |options| Ok(f32::from_bits(options.u32(field, 0)?)))
    }

    /// The same where the whole table may be left out.
    pub fn f32_or(&self, field: usize, without: f32) -> Result<f32, ImportProblem> {
        if self.options.is_some() { self.f32(field) } else { Ok(without) }
    }

    pub fn i32(&self, field: usize, default: i32) -> Result<i32, ImportProblem> {
        self.options.map_or(Ok(default), |options| options.i32(field, default))
    }

    pub fn i32s(&self, field: usize) -> Result<Vec<i32>, ImportProblem> {
        self.options.map_or(Ok(Vec::new()), |options| options.i32s(field))
    }
}

impl Tensor<'_> {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.dims.iter().product()
    }
}

impl<'f> Model<'f> {
    /// The name of an operator's node: that of its first result. Converters join the names of all layers that became one.
    pub fn node(&self, index: usize) -> String {
        let output = self.operators[index].outputs.first();
        let name = output.map(|&output| self.tensors[output].name.split(';').next().unwrap_or_default());
        name.filter(|name| !name.is_empty()).map_or_else(|| format!("number {index}"), str::to_owned)
    }

    pub fn read(bytes: &'f [u8]) -> Result<Model<'f>, ImportProblem> {
        if !super::is_tflite(bytes) {
            return Err(ImportProblem::UnknownFormat);
        }
        let root = Table::root(bytes)?;
        let version = root.u32(0, 0)?;
        if version != 3 {
            return Err(ImportProblem::Damaged(format!("its schema has version {version}, this reads version 3")));
        }
        // Others are bodies of loops and branches, or entries of their own.
        let graph = *root.tables(2)?.first().ok_or_else(|| ImportProblem::Damaged("it has no graph".into()))?;
        let (buffers, codes) = (root.tables(4)?, root.tables(1)?);
        let (tensors, operators) = (graph.tables(0)?, graph.tables(3)?);
        bounded("the number of tensors", tensors.len(), MAX_PARTS)?;
        bounded("the number of operators", operators.len(), MAX_PARTS)?;
        let mut described = 0;
        let mut describe = |size: usize| {
            described += size;
            bounded("the length of all names, scales and lists of tensors", described, MAX_DESCRIPTIONS)
        };
        let tensor = |table| -> Result<Tensor<'f>, ImportProblem> {
            let tensor = tensor(table, bytes, &buffers)?;
            describe(tensor.name.len() + 3 * tensor.scale.len())?;
            Ok(tensor)
        };
        let tensors = tensors.iter().map(tensor).collect::<Result<Vec<_>, _>>()?;
        let operator = |table| -> Result<Operator<'f>, ImportProblem> {
            let operator = operator(table, &codes, tensors.len())?;
            describe(operator.name.len() + operator.inputs.len() + operator.outputs.len())?;
            Ok(operator)
        };
        let operators = operators.iter().map(operator).collect::<Result<Vec<_>, _>>()?;
        let ends = |field| -> Result<Vec<usize>, ImportProblem> {
            let index =
                |i| known(i, tensors.len())?.ok_or_else(|| ImportProblem::Damaged("an end without tensor".into()));
            graph.i32s(field)?.into_iter().map(index).collect()
        };
        let (inputs, outputs) = (ends(1)?, ends(2)?);
        Ok(Model { description: root.string(3)?, tensors, operators, inputs, outputs })
    }
}

/// The tensor number `index`; `None` for -1.
fn known(index: i32, count: usize) -> Result<Option<usize>, ImportProblem> {
    match usize::try_from(index) {
        Ok(index) if index < count => Ok(Some(index)),
        Err(_) if index == -1 => Ok(None),
        _ => Err(ImportProblem::Damaged(format!("tensor {index} of {count}"))),
    }
}

fn tensor<'f>(table: &Table<'f>, bytes: &'f [u8], buffers: &[Table<'f>]) -> Result<Tensor<'f>, ImportProblem> {
    let dims = table.i32s(0)?;
    bounded("the number of dimensions of a tensor", dims.len(), MAX_RANK)?;
    let dims: Vec<usize> = dims.iter().map(|&size| size.max(if size < 0 { 1 } else { 0 }) as usize).collect();
    if dims.iter().try_fold(1usize, |product, &size| product.checked_mul(size)).is_none() {
        return Err(ImportProblem::Damaged("a tensor of too many elements".into()));
    }
    let element = match table.i8(1, 0)? {
        0 => Element::Float32,
        2 => Element::Int32,
        3 => Element::UInt8,
        4 => Element::Int64,
        9 => Element::Int8,
        other => Element::Other(other),
    };
    let buffer = table.u32(2, 0)? as usize;
    let buffer = buffers.get(buffer).ok_or_else(|| ImportProblem::Damaged(format!("buffer {buffer} is not there")))?;
    let mut data = buffer.data(0)?;
    // Files of more than 2 GB keep data behind the tables.
    let (start, length) = (buffer.u64(1, 0)?, buffer.u64(2, 0)?);
    if start > 1 {
        let range = usize::try_from(start).ok().zip(usize::try_from(length).ok());
        data = range
            .and_then(|(start, length)| bytes.get(start..)?.get(..length))
            .ok_or_else(|| ImportProblem::Damaged("a buffer leaves the file".into()))?;
    }
    let (mut scale, mut zero_point, mut axis) = (Vec::new(), Vec::new(), 0);
    if let Some(quantisation) = table.table(4)? {
        scale = quantisation.f32s(2)?;
        zero_point = quantisation.i64s(3)?;
        axis = quantisation.i32(6, 0)?.max(0) as usize;
        if zero_point.is_empty() {
            zero_point = vec![0; scale.len()];
        }
        if zero_point.len() != scale.len() {
            return Err(ImportProblem::Damaged(format!("{} scales, {} zero points", scale.len(), zero_point.len())));
        }
    }
    let indirect = table.table(6)?.is_some() || table.u32(10, 0)? != 0;
    Ok(Tensor { name: table.string(3)?, dims, element, data, scale, zero_point, axis, indirect })
}

fn operator<'f>(table: &Table<'f>, codes: &[Table<'f>], tensors: usize) -> Result<Operator<'f>, ImportProblem> {
    let index = table.u32(0, 0)? as usize;
    let code = codes.get(index).ok_or_else(|| ImportProblem::Damaged(format!("operator code {index} is not there")))?;
    // Codes above 127 are in the newer field only.
    let (old, new) = (i32::from(code.i8(0, 0)?), code.i32(3, 0)?);
    let number = old.max(new);
    let name = match usize::try_from(number).ok().and_then(|number| BUILTIN.get(number)) {
        Some(_) if number == CUSTOM => code.string(1)?,
        Some(name) => (*name).to_owned(),
        None => format!("operator {number}"),
    };
    let inputs = table.i32s(1)?.into_iter().map(|i| known(i, tensors)).collect::<Result<_, _>>()?;
    let outputs = table.i32s(2)?.into_iter().map(|i| known(i, tensors)).collect::<Result<Option<_>, _>>()?;
    let outputs = outputs.ok_or_else(|| ImportProblem::Damaged("an operator without output".into()))?;
    Ok(Operator { name, code: number, inputs, outputs, options: table.table(4)? })
}

// Numbers of the operators that code tells apart.
pub(super) const DEQUANTIZE: i32 = number("DEQUANTIZE");
pub(super) const SPLIT_V: i32 = number("SPLIT_V");
pub(super) const SLICE: i32 = number("SLICE");
pub(super) const GATHER: i32 = number("GATHER");
pub(super) const LOG_SOFTMAX: i32 = number("LOG_SOFTMAX");
pub(super) const ARG_MAX: i32 = number("ARG_MAX");
pub(super) const ADD: i32 = number("ADD");
pub(super) const SUB: i32 = number("SUB");
pub(super) const MUL: i32 = number("MUL");
pub(super) const PRELU: i32 = number("PRELU");
pub(super) const MAXIMUM: i32 = number("MAXIMUM");
pub(super) const MINIMUM: i32 = number("MINIMUM");
pub(super) const LOGISTIC: i32 = number("LOGISTIC");
pub(super) const HARD_SWISH: i32 = number("HARD_SWISH");
pub(super) const PACK: i32 = number("PACK");
pub(super) const QUANTIZE: i32 = number("QUANTIZE");
pub(super) const RELU: i32 = number("RELU");
pub(super) const RELU6: i32 = number("RELU6");
pub(super) const RESHAPE: i32 = number("RESHAPE");
pub(super) const RESIZE_BILINEAR: i32 = number("RESIZE_BILINEAR");
pub(super) const SHAPE: i32 = number("SHAPE");
pub(super) const SOFTMAX: i32 = number("SOFTMAX");
pub(super) const SQUEEZE: i32 = number("SQUEEZE");
pub(super) const STRIDED_SLICE: i32 = number("STRIDED_SLICE");
pub(super) const TANH: i32 = number("TANH");
pub(super) const SUM: i32 = number("SUM");
pub(super) const REDUCE_MIN: i32 = number("REDUCE_MIN");
pub(super) const RELU_N1_TO_1: i32 = number("RELU_N1_TO_1");
pub(super) const RELU_0_TO_1: i32 = number("RELU_0_TO_1");
pub(super) const GELU: i32 = number("GELU");
pub(super) const ABS: i32 = number("ABS");
pub(super) const NEG: i32 = number("NEG");
pub(super) const EXP: i32 = number("EXP");
pub(super) const LOG: i32 = number("LOG");
pub(super) const ELU: i32 = number("ELU");
pub(super) const SQRT: i32 = number("SQRT");
pub(super) const CAST: i32 = number("CAST");
pub(super) const DIV: i32 = number("DIV");
