//! CSV: one input per row, numbers between commas, semicolons or tabs; a first row of words is a header.

use super::DataProblem;
use super::npy::byte;
use crate::coding::Coding;
use crate::json::printable;
use crate::network::{Input, Range};

/// How many bytes tell text from something else.
pub(super) const LOOKED_AT: usize = 4096;

/// True for text whose beginning has digits and no control characters but blanks.
pub(super) fn is_csv(bytes: &[u8]) -> bool {
    let start = &bytes[..bytes.len().min(LOOKED_AT)];
    let text = match std::str::from_utf8(start) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => std::str::from_utf8(&start[..error.valid_up_to()]).unwrap_or(""),
        Err(_) => return false,
    };
    let printed = |c: char| !c.is_control() || matches!(c, '\n' | '\r' | '\t');
    let separated = text.lines().take(2).any(|line| line.split(SEPARATORS).any(|field| number(field).is_some()));
    separated && text.chars().all(printed)
}

const SEPARATORS: [char; 3] = [',', ';', '\t'];

fn number(field: &str) -> Option<f64> {
    field.trim().trim_matches('"').parse().ok()
}

/// Lines that are rows, each with its number from 0: neither empty ones nor a header.
fn lines(file: &[u8]) -> Result<impl Iterator<Item = (usize, &str)>, DataProblem> {
    let text = std::str::from_utf8(file).map_err(|_| DataProblem::UnknownFormat)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let is_header = |line: &str| line.split(SEPARATORS).all(|field| number(field).is_none());
    let is_row = move |(index, line): &(usize, &str)| !(line.trim().is_empty() || *index == 0 && is_header(line));
    Ok(text.lines().enumerate().filter(is_row))
}

/// How many rows there are.
pub(super) fn rows(file: &[u8]) -> Result<usize, DataProblem> {
    Ok(lines(file)?.count())
}

/// All numbers, row by row.
pub(super) fn numbers(file: &[u8]) -> Result<Vec<f32>, DataProblem> {
    let mut numbers = Vec::new();
    for (index, line) in lines(file)? {
        for field in line.split(SEPARATORS) {
            let value = number(field).ok_or_else(|| not_a_number(index, field))?;
            numbers.push(value as f32);
        }
    }
    Ok(numbers)
}

fn not_a_number(index: usize, field: &str) -> DataProblem {
    DataProblem::Row { line: index + 1, what: format!("\"{}\" is no number", printable(field)) }
}

/// Rows as inputs: real numbers that the coding of the model's file quantises, or the integers y where there is none.
pub(super) fn inputs(file: &[u8], input: &Input) -> Result<Vec<u8>, DataProblem> {
    let coding = input.coding.as_ref();
    if let Some(coding) = coding.filter(|coding| coding.scale.is_none()) {
        let wanted = format!("{} in .npy: its file gives no scale for numbers in rows", coding.dtype);
        return Err(DataProblem::Type { found: "rows of numbers".into(), wanted });
    }
    let elements: usize = input.shape.iter().product();
    let channels = coding.map(|coding| coding.channels(input.shape));
    let mut values = Vec::new();
    for (index, line) in lines(file)? {
        let wrong = |what: String| DataProblem::Row { line: index + 1, what };
        let fields: Vec<&str> = line.split(SEPARATORS).collect();
        if fields.len() != elements {
            return Err(wrong(format!("{} numbers, the network reads {elements}", fields.len())));
        }
        let mut row = Vec::with_capacity(elements);
        for (at, field) in fields.iter().enumerate() {
            let value = number(field).ok_or_else(|| not_a_number(index, field))?;
            row.push(match (coding, &channels) {
                (Some(coding), _) if coding.cast().is_some_and(|dtype| !whole(value, dtype.range())) => {
                    let dtype = coding.cast().map_or_else(String::new, |dtype| dtype.to_string());
                    return Err(wrong(format!("{value}, but the network reads {dtype}")));
                }
                (Some(coding), Some(channels)) => {
                    coding.quantised(value as f32, channels[at]).ok_or(DataProblem::NotANumber)?
                }
                _ if value.fract() != 0.0 => {
                    return Err(wrong(format!(
                        "{value}, but the network reads integers 0..={}",
                        (1 << input.bits) - 1
                    )));
                }
                _ => byte(value as i64, (1 << input.bits) - 1)?,
            });
        }
        values.extend(to_network(coding, &row, input));
    }
    if values.is_empty() { Err(DataProblem::Empty) } else { Ok(values) }
}

fn whole(value: f64, range: Range) -> bool {
    value.fract() == 0.0 && (range.lo as f64..=range.hi as f64).contains(&value)
}

fn to_network(coding: Option<&Coding>, row: &[u8], input: &Input) -> Vec<u8> {
    match coding {
        Some(coding) => coding.order.to_network(row, input.shape),
        None => row.to_vec(),
    }
}
