//! NPY, the format of `numpy.save`, for integers: a magic number, a version, a header (a Python dictionary), the data.
//!
//! The header is read here, strictly in the form that numpy writes, because a general reader of Python literals can be made to
//! recurse without end.

use super::{DataProblem, check_shape, exactly, header};
use crate::network::Input;

/// Inputs y, as they are.
pub(super) fn inputs(file: &[u8], input: &Input) -> Result<Vec<u8>, DataProblem> {
    bytes(file, (1 << input.bits) - 1, |shape| check_shape(shape, input))
}

/// Labels `[N]`.
pub(super) fn labels(file: &[u8]) -> Result<Vec<u8>, DataProblem> {
    bytes(file, 255, |shape| if shape.len() == 1 { Ok(()) } else { Err(DataProblem::NotLabels) })
}

/// The values in row-major order, all in 0..=hi, if `accept` likes the shape.
fn bytes(file: &[u8], hi: i64, accept: impl Fn(&[usize]) -> Result<(), DataProblem>) -> Result<Vec<u8>, DataProblem> {
    let (text, data) = split(file).ok_or_else(|| header("NPY", "it ends too early"))?;
    let Header { kind, fortran, shape } =
        Header::parse(text).ok_or_else(|| header("NPY", format!("not as numpy writes it: {text:?}")))?;
    accept(&shape)?;
    let read: fn(&[u8]) -> i64 = match kind {
        "|u1" => |b| b[0].into(),
        "|i1" => |b| (b[0] as i8).into(),
        "<i2" => |b| i16::from_le_bytes([b[0], b[1]]).into(),
        ">i2" => |b| i16::from_be_bytes([b[0], b[1]]).into(),
        "<i4" => |b| i32::from_le_bytes([b[0], b[1], b[2], b[3]]).into(),
        ">i4" => |b| i32::from_be_bytes([b[0], b[1], b[2], b[3]]).into(),
        "<i8" => |b| i64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]),
        ">i8" => |b| i64::from_be_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]),
        _ => return Err(header("NPY", format!("type {kind}; u1, i1, i2, i4 and i8 are read"))),
    };
    // The type's last character is its size in bytes.
    let size = usize::from(kind.as_bytes()[2] - b'0');
    exactly(data, &shape, size)?;
    let byte = |value: i64| match u8::try_from(value) {
        Ok(byte) if i64::from(byte) <= hi => Ok(byte),
        _ => Err(DataProblem::Value { value, hi }),
    };
    let values: Vec<u8> = data.chunks(size).map(|bytes| byte(read(bytes))).collect::<Result<_, _>>()?;
    Ok(if fortran { row_major(&values, &shape) } else { values })
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

/// From the order in which the first index runs fastest.
fn row_major(values: &[u8], shape: &[usize]) -> Vec<u8> {
    use ndarray::{ArrayView, IxDyn, ShapeBuilder};
    let view = ArrayView::from_shape(IxDyn(shape).f(), values).expect("the length was checked");
    view.iter().copied().collect()
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
