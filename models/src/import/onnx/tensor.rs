//! Constants: typed, raw and packed data, with limits.

use std::rc::Rc;

use super::schema::TensorProto;
use crate::check::MAX_WEIGHTS;
use crate::import::ImportProblem;

/// Type of the elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    /// 16, 32 or 64 bits; computed with in 32.
    Float,
    /// Two's complement or unsigned, 2 to 64 bits; booleans have 1.
    Int { bits: u32, signed: bool },
}

impl Element {
    pub const UINT8: Element = Element::Int { bits: 8, signed: false };
    pub const INT8: Element = Element::Int { bits: 8, signed: true };

    /// By the number that the schema gives it.
    pub fn of(number: i32) -> Option<Element> {
        let int = |bits, signed| Some(Element::Int { bits, signed });
        match number {
            1 | 10 | 11 | 16 => Some(Element::Float),
            2 => int(8, false),
            3 => int(8, true),
            4 => int(16, false),
            5 => int(16, true),
            6 => int(32, true),
            7 => int(64, true),
            9 => int(1, false),
            12 => int(32, false),
            13 => int(64, false),
            21 => int(4, false),
            22 => int(4, true),
            25 => int(2, false),
            26 => int(2, true),
            _ => None,
        }
    }

    /// True of integers of 8 bits.
    pub fn is_byte(self) -> bool {
        matches!(self, Element::Int { bits: 8, .. })
    }

    /// Smallest and largest value of an integer type of at most 8 bits.
    pub fn small(self) -> Option<(i64, i64)> {
        match self {
            Element::Int { bits, signed: true } if bits <= 8 => Some((-(1 << (bits - 1)), (1 << (bits - 1)) - 1)),
            Element::Int { bits, signed: false } if bits <= 8 => Some((0, (1 << bits) - 1)),
            _ => None,
        }
    }

    /// Smallest and largest value of an integer type that has not all of the 32-bit integers, if it is one; of more bits, without end.
    pub fn wraps(self) -> Option<(i64, i64)> {
        match self {
            Element::Int { bits, signed: true } if bits < 32 => Some((-(1 << (bits - 1)), (1 << (bits - 1)) - 1)),
            Element::Int { bits, signed: false } if bits < 32 => Some((0, (1 << bits) - 1)),
            Element::Int { signed: false, .. } => Some((0, i64::MAX)),
            _ => None,
        }
    }
}

/// A constant tensor.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Constant {
    pub shape: Vec<usize>,
    pub element: Element,
    pub values: Values,
}

/// Its elements, row-major.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Values {
    Float(Rc<Vec<f32>>),
    Int(Rc<Vec<i64>>),
}

impl Constant {
    pub fn floats(shape: Vec<usize>, values: Vec<f32>) -> Constant {
        Constant { shape, element: Element::Float, values: Values::Float(Rc::new(values)) }
    }

    pub fn ints(shape: Vec<usize>, element: Element, values: Vec<i64>) -> Constant {
        Constant { shape, element, values: Values::Int(Rc::new(values)) }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match &self.values {
            Values::Float(values) => values.len(),
            Values::Int(values) => values.len(),
        }
    }

    /// As 32-bit floats.
    pub fn to_floats(&self) -> Rc<Vec<f32>> {
        match &self.values {
            Values::Float(values) => Rc::clone(values),
            Values::Int(values) => Rc::new(values.iter().map(|&v| v as f32).collect()),
        }
    }

    /// As integers; `None` if one is none.
    pub fn to_ints(&self) -> Option<Rc<Vec<i64>>> {
        match &self.values {
            Values::Int(values) => Some(Rc::clone(values)),
            Values::Float(values) => {
                let whole = |&v: &f32| (v.fract() == 0.0 && v.abs() < 1e15).then_some(v as i64);
                values.iter().map(whole).collect::<Option<Vec<i64>>>().map(Rc::new)
            }
        }
    }

    /// The only element, as a float.
    pub fn scalar(&self) -> Option<f32> {
        if self.len() == 1 { self.to_floats().first().copied() } else { None }
    }

    /// Reads a tensor of a file.
    pub fn read(tensor: &TensorProto) -> Result<Constant, ImportProblem> {
        let damaged = |what: &str| ImportProblem::Damaged(format!("the tensor {:?} {what}", tensor.name));
        if tensor.data_location == 1 {
            return Err(ImportProblem::File {
                reason: format!("the tensor {:?} is stored in another file", tensor.name),
                hint: "save the model as one file: onnx.save(model, path, save_as_external_data=False)",
            });
        }
        let element = Element::of(tensor.data_type).ok_or_else(|| ImportProblem::File {
            reason: format!("the tensor {:?} has elements of type {}", tensor.name, tensor.data_type),
            hint: "floats and integers of 2, 4, 8, 16, 32 and 64 bits are read",
        })?;
        let mut count = 1u128;
        let mut shape = Vec::with_capacity(tensor.dims.len().min(8));
        if tensor.dims.len() > 8 {
            return Err(damaged("has more than 8 dimensions"));
        }
        for &dim in &tensor.dims {
            let dim = usize::try_from(dim).map_err(|_| damaged("has a negative dimension"))?;
            count = count.saturating_mul(dim as u128);
            shape.push(dim);
        }
        if count == 0 && !is_small(&shape) {
            return Err(damaged("has dimensions that no array has"));
        }
        if count > MAX_WEIGHTS as u128 {
            return Err(ImportProblem::TooLarge {
                what: "a tensor's elements",
                value: count,
                limit: MAX_WEIGHTS as u128,
            });
        }
        let count = count as usize;
        let values = values(tensor, element, count).ok_or_else(|| damaged("has not as much data as its shape says"))?;
        Ok(Constant { shape, element, values })
    }
}

/// True of dimensions whose product is a number, those that are 0 left out: products of some of them are numbers too.
pub(super) fn is_small(dims: &[usize]) -> bool {
    dims.iter()
        .try_fold(1usize, |all, &size| all.checked_mul(size.max(1)).filter(|&all| all as u64 <= 1 << 40))
        .is_some()
}

/// The elements; `None` if their number is wrong.
fn values(tensor: &TensorProto, element: Element, count: usize) -> Option<Values> {
    let raw = &tensor.raw_data;
    if raw.is_empty() && count > 0 {
        typed(tensor, element, count)
    } else {
        unpack(raw, tensor.data_type, element, count)
    }
}

fn exactly<T>(values: Vec<T>, count: usize) -> Option<Vec<T>> {
    (values.len() == count).then_some(values)
}

fn typed(tensor: &TensorProto, element: Element, count: usize) -> Option<Values> {
    Some(match (element, tensor.data_type) {
        (_, 1) => Values::Float(Rc::new(exactly(tensor.float_data.clone(), count)?)),
        (_, 11) => Values::Float(Rc::new(exactly(tensor.double_data.iter().map(|&v| v as f32).collect(), count)?)),
        (_, 10) => Values::Float(Rc::new(exactly(tensor.int32_data.iter().map(|&v| half(v as u16)).collect(), count)?)),
        (_, 16) => {
            Values::Float(Rc::new(exactly(tensor.int32_data.iter().map(|&v| brain(v as u16)).collect(), count)?))
        }
        (_, 12 | 13) => {
            let ints: Option<Vec<i64>> = tensor.uint64_data.iter().map(|&v| i64::try_from(v).ok()).collect();
            Values::Int(Rc::new(exactly(ints?, count)?))
        }
        (_, 7) => Values::Int(Rc::new(exactly(tensor.int64_data.clone(), count)?)),
        (Element::Int { bits: bits @ (2 | 4), signed }, _) => {
            let bytes: Vec<u8> = tensor.int32_data.iter().map(|&v| v as u8).collect();
            Values::Int(Rc::new(nibbles(&bytes, bits, signed, count)?))
        }
        (Element::Int { bits, signed }, _) => {
            let value = |&v: &i32| narrow(v.into(), bits, signed);
            Values::Int(Rc::new(exactly(tensor.int32_data.iter().map(value).collect(), count)?))
        }
        (Element::Float, _) => return None,
    })
}

fn unpack(raw: &[u8], data_type: i32, element: Element, count: usize) -> Option<Values> {
    let floats = |values: Vec<f32>| exactly(values, count).map(|values| Values::Float(Rc::new(values)));
    let ints = |values: Vec<i64>| exactly(values, count).map(|values| Values::Int(Rc::new(values)));
    match (element, data_type) {
        (_, 1) => floats(chunks(raw, f32::from_le_bytes)?),
        (_, 11) => floats(chunks(raw, |bytes| f64::from_le_bytes(bytes) as f32)?),
        (_, 10) => floats(chunks(raw, |bytes| half(u16::from_le_bytes(bytes)))?),
        (_, 16) => floats(chunks(raw, |bytes| brain(u16::from_le_bytes(bytes)))?),
        (Element::Int { bits: bits @ (2 | 4), signed }, _) => ints(nibbles(raw, bits, signed, count)?),
        (Element::Int { bits, signed }, _) => ints(match bits {
            16 => chunks(raw, |bytes: [u8; 2]| narrow(u16::from_le_bytes(bytes).into(), 16, signed))?,
            32 if !signed => chunks(raw, |bytes| i64::from(u32::from_le_bytes(bytes)))?,
            64 if !signed => {
                chunks(raw, u64::from_le_bytes)?.into_iter().map(i64::try_from).collect::<Result<_, _>>().ok()?
            }
            32 => chunks(raw, |bytes| i64::from(i32::from_le_bytes(bytes)))?,
            64 => chunks(raw, i64::from_le_bytes)?,
            _ => raw.iter().map(|&byte| narrow(byte.into(), 8, signed)).collect(),
        }),
        (Element::Float, _) => None,
    }
}

/// The low `bits` bits of `value` as a number of the type.
fn narrow(value: i64, bits: u32, signed: bool) -> i64 {
    if bits >= 32 {
        return value;
    }
    let unused = i64::BITS - bits;
    if signed { value << unused >> unused } else { value & ((1 << bits) - 1) }
}

fn chunks<const N: usize, T>(raw: &[u8], value: impl Fn([u8; N]) -> T) -> Option<Vec<T>> {
    let (chunks, rest) = raw.as_chunks::<N>();
    rest.is_empty().then(|| chunks.iter().map(|&chunk| value(chunk)).collect())
}

/// Several elements in a byte, the first in its low bits.
fn nibbles(bytes: &[u8], bits: u32, signed: bool, count: usize) -> Option<Vec<i64>> {
    let per_byte = (8 / bits) as usize;
    if bytes.len() != count.div_ceil(per_byte) {
        return None;
    }
    let element = |index: usize| {
        let shifted = bytes[index / per_byte] >> (index % per_byte * bits as usize);
        narrow(shifted.into(), bits, signed)
    };
    Some((0..count).map(element).collect())
}

/// A float of 16 bits, IEEE.
fn half(bits: u16) -> f32 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, mantissa) = (i32::from(bits >> 10 & 31), f32::from(bits & 1023));
    sign * match exponent {
        0 => mantissa * 2f32.powi(-24),
        31 if mantissa == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1024.0 + mantissa) * 2f32.powi(exponent - 25),
    }
}

/// A float of 16 bits, the upper half of one of 32.
fn brain(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(dims: &[i64], data_type: i32, raw: &[u8]) -> TensorProto {
        TensorProto { dims: dims.to_vec(), data_type, raw_data: raw.to_vec(), ..TensorProto::default() }
    }

    fn ints(constant: &Constant) -> Vec<i64> {
        constant.to_ints().expect("integers").to_vec()
    }

    #[test]
    fn packed_and_typed_data_give_the_same_values() {
        let packed = Constant::read(&tensor(&[3], 22, &[0xf1, 0x08])).expect("three elements of four bits");
        assert_eq!(ints(&packed), [1, -1, -8]);
        let unsigned = Constant::read(&tensor(&[3], 21, &[0xf1, 0x08])).expect("three elements of four bits");
        assert_eq!(ints(&unsigned), [1, 15, 8]);
        let typed = TensorProto { int32_data: vec![0xf1, 0x08], ..tensor(&[3], 22, &[]) };
        assert_eq!(Constant::read(&typed).expect("typed"), packed);
        assert_eq!(ints(&Constant::read(&tensor(&[2], 3, &[0x7f, 0x80])).expect("bytes")), [127, -128]);
        assert_eq!(ints(&Constant::read(&tensor(&[1], 6, &[0, 0, 0, 0x80])).expect("a word")), [i64::from(i32::MIN)]);
        let halves = Constant::read(&tensor(&[3], 10, &[0, 0x3c, 1, 0, 0, 0xc2])).expect("halves");
        assert_eq!(*halves.to_floats(), [1.0, 2f32.powi(-24), -3.0]);
    }

    #[test]
    fn wrong_sizes_are_refused() {
        for bad in [
            tensor(&[2], 1, &[0; 7]),
            tensor(&[-1], 1, &[0; 4]),
            tensor(&[1 << 40, 1 << 40], 3, &[]),
            tensor(&[5], 22, &[0; 2]),
            tensor(&[1], 8, &[0]),
            TensorProto { data_location: 1, ..tensor(&[1], 3, &[]) },
        ] {
            assert!(Constant::read(&bad).is_err(), "{bad:?}");
        }
    }
}
