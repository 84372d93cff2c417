//! NPY, the format of `numpy.save`: a magic number, a version, a header (a Python dictionary), the data.
//!
//! The header is read here, strictly in the form that numpy writes, because a general reader of Python literals can be made to
//! recurse without end.

use super::{DataProblem, check_dims, check_shape, exactly, header};
use crate::coding::{Coding, Dtype};
use crate::json::printable;
use crate::network::{Input, Range};

/// Inputs y: of bytes and real numbers as the coding of the model's file says, else as they are; and what the user should know.
pub(super) fn inputs(file: &[u8], input: &Input) -> Result<(Vec<u8>, Option<String>), DataProblem> {
    let array = Array::read(file)?;
    let Some(coding) = &input.coding else {
        check_shape(&array.shape, input)?;
        if array.kind.float {
            return Err(no_reals(&array.kind.to_string(), input));
        }
        let top = (1 << input.bits) - 1;
        return Ok((array.integers()?.map(|value| byte(value, top)).collect::<Result<_, _>>()?, None));
    };
    check_dims(&array.shape, coding)?;
    let name = array.kind.to_string();
    let (values, note) = match array.kind {
        Kind { float: true, .. } => (quantised_reals(array.floats()?, &name, input, coding)?, None),
        kind if kind.size == 1 || coding.cast().is_some() => {
            (own_tensor(array.integers()?, &name, kind.range(), input, coding)?, None)
        }
        _ => counted(&array, coding)?,
    };
    Ok((ordered(&values, input, coding), note))
}

/// Real numbers for a network of which nothing says how they are quantised.
pub(super) fn no_reals(found: &str, input: &Input) -> DataProblem {
    let top = (1 << input.bits) - 1;
    let wanted = format!("integers 0..={top}: nothing says how real numbers are quantised");
    DataProblem::Type { found: found.to_owned(), wanted }
}

/// Inputs in the order of the file, in the network's.
pub(super) fn ordered(values: &[u8], input: &Input, coding: &Coding) -> Vec<u8> {
    let elements = input.shape.iter().product();
    values.chunks(elements).flat_map(|one| coding.order.to_network(one, input.shape)).collect()
}

/// Bytes are the file's own quantised tensor, of its type or one that has all its values, or the integers that it casts; `range` are
/// those of the type that they have.
pub(super) fn own_tensor(
    values: impl Iterator<Item = i64>,
    found: &str,
    range: Range,
    input: &Input,
    coding: &Coding,
) -> Result<Vec<u8>, DataProblem> {
    if let Some(dtype) = coding.cast() {
        return cast(values, dtype.range(), input, coding);
    }
    let Range { lo, hi } = coding.dtype.range();
    if !(range.lo <= lo && hi <= range.hi) {
        let real = if coding.scale.is_some() { ", or float32" } else { "" };
        let wanted = format!("{} (its quantised input, {lo}..={hi}){real}", coding.dtype);
        return Err(DataProblem::Type { found: found.to_owned(), wanted });
    }
    let Range { lo, hi } = coding.values();
    values.map(|q| coding.stored(q).ok_or(DataProblem::Value { value: q, lo, hi })).collect()
}

/// Wider integers are no tensor of the file: they count its values from the smallest, 0, 1, ... The note says so where that is not q.
fn counted(array: &Array<'_>, coding: &Coding) -> Result<(Vec<u8>, Option<String>), DataProblem> {
    let Range { lo, hi } = coding.values();
    let step = if coding.dtype == Dtype::Bipolar { 2 } else { 1 };
    let wrong = |value| DataProblem::Value { value, lo: 0, hi: (hi - lo) / step };
    let q = |value: i64| value.checked_mul(step)?.checked_add(lo);
    let y = |value: i64| q(value).and_then(|q| coding.stored(q)).ok_or_else(|| wrong(value));
    let note = (lo != 0).then(|| {
        let (kind, dtype) = (array.kind, coding.dtype);
        format!("{kind} values count from 0, the smallest {dtype} {lo}; an array of int8 holds the {dtype} values themselves")
    });
    Ok((array.integers()?.map(y).collect::<Result<_, _>>()?, note))
}

/// Real numbers are quantised as the model's file does it.
pub(super) fn quantised_reals(
    values: impl Iterator<Item = f32>,
    found: &str,
    input: &Input,
    coding: &Coding,
) -> Result<Vec<u8>, DataProblem> {
    if let Some(dtype) = coding.cast() {
        let wanted = format!("{dtype}, which its file makes real numbers of");
        return Err(DataProblem::Type { found: found.to_owned(), wanted });
    }
    if coding.scale.is_none() {
        let wanted = format!("{} (its quantised input): its file gives no scale", coding.dtype);
        return Err(DataProblem::Type { found: found.to_owned(), wanted });
    }
    let channels = coding.channels(input.shape).into_iter().cycle();
    let y = |(v, channel): (f32, usize)| coding.quantised(v, channel).ok_or(DataProblem::NotANumber);
    values.zip(channels).map(y).collect()
}

/// Integers of the file's input, within `range`, which it casts to real numbers.
fn cast(
    values: impl Iterator<Item = i64>,
    range: Range,
    input: &Input,
    coding: &Coding,
) -> Result<Vec<u8>, DataProblem> {
    let Range { lo, hi } = range;
    let channels = coding.channels(input.shape).into_iter().cycle();
    let y = |(v, channel): (i64, usize)| match range.contains(v) {
        true => coding.quantised(v as f32, channel).ok_or(DataProblem::NotANumber),
        false => Err(DataProblem::Value { value: v, lo, hi }),
    };
    values.zip(channels).map(y).collect()
}

/// All numbers of an array of floats.
pub(super) fn floats(file: &[u8]) -> Result<Option<Vec<f32>>, DataProblem> {
    let array = Array::read(file)?;
    array.kind.float.then(|| Ok(array.floats()?.collect())).transpose()
}

/// All numbers of an array.
pub(super) fn reals(file: &[u8]) -> Result<Vec<f32>, DataProblem> {
    let array = Array::read(file)?;
    match array.kind.float {
        true => Ok(array.floats()?.collect()),
        false => Ok(array.integers()?.map(|value| value as f32).collect()),
    }
}

/// The first dimension.
pub(super) fn rows(file: &[u8]) -> Result<Option<usize>, DataProblem> {
    Ok(Array::read(file)?.shape.first().copied())
}

/// Labels `[N]`.
pub(super) fn labels(file: &[u8]) -> Result<Vec<u8>, DataProblem> {
    let array = Array::read(file)?;
    if array.shape.len() != 1 || array.kind.float {
        return Err(DataProblem::NotLabels);
    }
    array.integers()?.map(|value| byte(value, 255)).collect()
}

/// A value in 0..=hi.
pub(super) fn byte(value: i64, hi: i64) -> Result<u8, DataProblem> {
    match u8::try_from(value) {
        Ok(byte) if i64::from(byte) <= hi => Ok(byte),
        _ => Err(DataProblem::Value { value, lo: 0, hi }),
    }
}

/// The type of the elements.
#[derive(Clone, Copy)]
struct Kind {
    float: bool,
    signed: bool,
    big_endian: bool,
    /// In bytes.
    size: usize,
}

impl Kind {
    fn parse(text: &str) -> Result<Kind, DataProblem> {
        let unknown = || header("NPY", format!("type {text}; i1, i2, i4, i8, u1, u2, u4, u8, f4 and f8 are read"));
        let &[order, kind, size] = text.as_bytes() else { return Err(unknown()) };
        let size = usize::from(size.wrapping_sub(b'0'));
        let known = match kind {
            b'i' | b'u' => [1, 2, 4, 8].contains(&size),
            b'f' => [4, 8].contains(&size),
            _ => false,
        };
        let ordered = matches!(order, b'<' | b'>') && size > 1 || order == b'|' && size == 1;
        if !(known && ordered) {
            return Err(unknown());
        }
        Ok(Kind { float: kind == b'f', signed: kind != b'u', big_endian: order == b'>', size })
    }

    /// The values of a type of integers, as far as an `i64` holds them.
    fn range(self) -> Range {
        let bits = 8 * self.size as u32;
        let all = |bits: u32| (1i64 << (bits - 1)) - 1 + (1i64 << (bits - 1));
        match (self.signed, bits) {
            (true, 64) => Range { lo: i64::MIN, hi: i64::MAX },
            (false, 64) => Range { lo: 0, hi: i64::MAX },
            (true, bits) => Range { lo: -(1 << (bits - 1)), hi: (1 << (bits - 1)) - 1 },
            (false, bits) => Range { lo: 0, hi: all(bits) },
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = if self.float {
            "float"
        } else if self.signed {
            "int"
        } else {
            "uint"
        };
        write!(f, "{name}{}", 8 * self.size)
    }
}

/// A file.
struct Array<'f> {
    kind: Kind,
    shape: Vec<usize>,
    fortran: bool,
    data: &'f [u8],
}

impl<'f> Array<'f> {
    fn read(file: &'f [u8]) -> Result<Array<'f>, DataProblem> {
        let (text, data) = split(file).ok_or_else(|| header("NPY", "it ends too early"))?;
        let Header { kind, fortran, shape } = Header::parse(text)
            .ok_or_else(|| header("NPY", format!("not as numpy writes it: \"{}\"", printable(text.trim()))))?;
        Ok(Array { kind: Kind::parse(kind)?, shape, fortran, data })
    }

    /// The elements as little-endian words of 8 bytes, in row-major order.
    fn words(&self) -> Result<impl Iterator<Item = [u8; 8]> + use<'f>, DataProblem> {
        let Kind { size, big_endian, .. } = self.kind;
        exactly(self.data, &self.shape, size)?;
        let (data, fortran, shape) = (self.data, self.fortran, self.shape.clone());
        Ok((0..data.len() / size).map(move |at| {
            let index = if fortran { column_major(at, &shape) } else { at };
            let mut word = [0; 8];
            word[..size].copy_from_slice(&data[index * size..][..size]);
            if big_endian {
                word[..size].reverse();
            }
            word
        }))
    }

    /// Integers; what an `i64` does not hold becomes the largest.
    fn integers(&self) -> Result<impl Iterator<Item = i64> + use<'f>, DataProblem> {
        let Kind { size, signed, .. } = self.kind;
        let spare = 64 - 8 * size as u32;
        Ok(self.words()?.map(move |word| match signed {
            true => i64::from_le_bytes(word) << spare >> spare,
            false => i64::try_from(u64::from_le_bytes(word)).unwrap_or(i64::MAX),
        }))
    }

    /// Real numbers; those of 64 bits are rounded to 32.
    fn floats(&self) -> Result<impl Iterator<Item = f32> + use<'f>, DataProblem> {
        let single = self.kind.size == 4;
        Ok(self.words()?.map(move |word| match single {
            true => f32::from_le_bytes([word[0], word[1], word[2], word[3]]),
            false => f64::from_le_bytes(word) as f32,
        }))
    }
}

/// The header's text and the data.
fn split(file: &[u8]) -> Option<(&str, &[u8])> {
    let (_magic, rest) = file.split_at_checked(6)?;
    let (length, rest) = match rest {
        [1, 0, a, b, rest @ ..] => (u16::from_le_bytes([*a, *b]).into(), rest),
        [2 | 3, 0, a, b, c, d, rest @ ..] => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, rest),
        _ => return None,
    };
    let (text, data) = rest.split_at_checked(length)?;
    Some((std::str::from_utf8(text).ok()?, data))
}

/// Where element `at` of the row-major order lies in the order in which the first index runs fastest.
fn column_major(at: usize, shape: &[usize]) -> usize {
    let (mut rest, mut index, mut step) = (at, 0, shape.iter().product::<usize>());
    for &size in shape.iter().rev() {
        step /= size;
        index += rest % size * step;
        rest /= size;
    }
    index
}

struct Header<'t> {
    kind: &'t str,
    fortran: bool,
    shape: Vec<usize>,
}

impl<'t> Header<'t> {
    /// `{'descr': '<i8', 'fortran_order': False, 'shape': (3, 4), }` and blanks.
    fn parse(text: &'t str) -> Option<Header<'t>> {
        let (mut kind, mut fortran, mut shape) = (None, None, None);
        let mut rest = text.trim().strip_prefix('{')?.strip_suffix('}')?.trim_start();
        while !rest.is_empty() {
            let (key, after) = quoted(rest)?;
            let value = after.trim_start().strip_prefix(':')?.trim_start();
            rest = match key {
                "descr" => {
                    let (value, after) = quoted(value)?;
                    kind.replace(value).is_none().then_some(after)?
                }
                "fortran_order" => {
                    let (value, after) = match value.strip_prefix("True") {
                        Some(after) => (true, after),
                        None => (false, value.strip_prefix("False")?),
                    };
                    fortran.replace(value).is_none().then_some(after)?
                }
                "shape" => {
                    let (inside, after) = value.strip_prefix('(')?.split_once(')')?;
                    let sizes = inside.split(',').map(str::trim).filter(|size| !size.is_empty());
                    let sizes: Option<Vec<usize>> = sizes.map(|size| size.parse().ok()).collect();
                    shape.replace(sizes?).is_none().then_some(after)?
                }
                _ => return None,
            };
            rest = rest.trim_start();
            rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
        }
        let shape = shape.filter(|shape| shape.len() <= 8)?;
        Some(Header { kind: kind?, fortran: fortran?, shape })
    }
}

/// The text between quotes at the start, and what follows.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    text[1..].split_once(quote)
}
