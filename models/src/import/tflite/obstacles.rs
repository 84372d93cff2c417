//! Everything that stops a file at once: kinds of files that are none of 8-bit integers, operators that no network has, and those that
//! are not like networks have them. After the first refusal each operator is looked at by itself, on tensors as the file declares them.

use super::ends::Ends;
use super::model::{Element, Model, Operator};
use super::movement::grid;
use super::names::number;
use super::operators;
use super::reals::takes_reals;
use super::trouble::Trouble;
use super::value::{Quantisation, Value, quantisation};
use super::walk::Walk;
use crate::import::Options;
use crate::import::builder::Builder;
use crate::import::error::{ImportError, ImportProblem, Refusal};
use crate::import::report::{Report, Verdict};
use crate::network::{Input, Op, Window};

/// Operators with weights.
const LAYERS: [i32; 3] = [number("CONV_2D"), number("DEPTHWISE_CONV_2D"), number("FULLY_CONNECTED")];

/// Operators that take images apart, and put them together.
const BATCHES: [i32; 2] = [number("SPACE_TO_BATCH_ND"), number("BATCH_TO_SPACE_ND")];

/// Refuses files of floating-point activations, and of wide ones, by what they are.
pub(super) fn refuse_others(model: &Model<'_>) -> Result<(), ImportProblem> {
    let layers: Vec<&Operator<'_>> =
        model.operators.iter().filter(|operator| LAYERS.contains(&operator.code)).collect();
    let output = |operator: &&&Operator<'_>| operator.outputs.first().map(|&tensor| model.tensors[tensor].element);
    let all = |element: Element| !layers.is_empty() && layers.iter().all(|layer| output(&layer) == Some(element));
    let file = |reason: &str, hint: &'static str| Err(ImportProblem::File { reason: reason.into(), hint });
    let full = "quantise the model to 8-bit integers with a representative data set (full integer quantisation)";
    if all(Element::Float32) {
        let weights = |operator: &&Operator<'_>| {
            let tensor = operator.inputs.get(1).copied().flatten().map(|tensor| model.tensors[tensor].element);
            matches!(tensor, Some(Element::Int8 | Element::UInt8))
        };
        if layers.iter().any(weights) {
            return file("dynamic range quantisation: its weights are 8-bit integers, its activations float32", full);
        }
        return file("a float network: all its layers compute with float32 numbers", full);
    }
    if all(Element::Other(7)) {
        return file("a network of 16-bit activations", "quantise activations to 8 bits, not to 16 (int16x8)");
    }
    Ok(())
}

/// All obstacles of a file: a first one if there is one, and those of the operators behind it.
pub(super) fn obstacles(
    model: &Model<'_>,
    ends: &Ends,
    options: &Options,
    report: &Report,
    first: Option<(usize, ImportError)>,
) -> ImportError {
    let mut report = report.clone();
    let mut rows = Vec::new();
    let from = first.as_ref().map_or(0, |(index, _)| index + 1);
    if let Some((_, error)) = &first {
        match &*error.problem {
            ImportProblem::Refused(refusal) => rows.push(refusal.clone()),
            // A word about the file, or damage.
            _ => return first.expect("it is there").1,
        }
    }
    let needed = |(index, _): &(usize, &Operator<'_>)| *index >= from && ends.needed.contains(index);
    for (index, operator) in model.operators.iter().enumerate().filter(needed) {
        let row = |reason: String, hint: &str| Refusal {
            op: operator.name.clone(),
            node: model.node(index),
            reason,
            hint: hint.to_owned(),
        };
        let found = match operators::refusal(operator) {
            Some((reason, hint)) => Some(row(reason.to_owned(), hint)),
            None => alone(model, options, operator).map(|(reason, hint)| row(reason, hint)),
        };
        if let Some(found) = found {
            let verdict = Verdict::Unsupported { node: found.node.clone(), hint: found.hint.clone() };
            report.count(&operator.name, verdict);
            rows.push(found);
        }
    }
    match (&rows[..], first) {
        ([_], Some((_, error))) => error,
        _ => ImportError { report: Some(Box::new(report)), ..ImportProblem::Unsupported { rows }.into() },
    }
}

/// Why an operator is refused on any tensors of the declared shapes and scales; `None` if it is not, or if that says nothing.
fn alone(model: &Model<'_>, options: &Options, operator: &Operator<'_>) -> Option<(String, &'static str)> {
    let refused = |trouble| match trouble {
        Trouble::Refused { reason, hint } | Trouble::File(ImportProblem::File { reason, hint }) => Some((reason, hint)),
        _ => None,
    };
    let read: Vec<usize> =
        operator.inputs.iter().flatten().copied().filter(|&input| model.tensors[input].data.is_empty()).collect();
    let &first = read.first()?;
    if model.tensors[first].element == Element::Float32 {
        let (reason, hint) = ("it computes with float32 numbers", "quantise the whole model to 8-bit integers");
        return (!takes_reals(operator.code)).then(|| (reason.to_owned(), hint));
    }
    let of = |tensor: usize| quantisation(&model.tensors[tensor]);
    if !matches!(model.tensors[first].element, Element::Int8 | Element::UInt8) {
        return None;
    }
    let Quantisation { scale, clamp } = match of(first) {
        Ok(known) => known,
        Err(trouble) => return refused(trouble),
    };
    let dims = &model.tensors[first].dims;
    // Of batches nothing is known here.
    let batches = |operator: &Operator<'_>| BATCHES.contains(&operator.code);
    if BATCHES[1] == operator.code || dims.first().is_some_and(|&size| size > 1) && model.operators.iter().any(batches)
    {
        return None;
    }
    let shape = grid(dims);
    let input = Input { shape, bits: 8, zero_point: clamp.zero_point - clamp.lo, pixels: None, coding: None };
    let builder = Builder::new("one", input, options.fold, Report::default()).ok()?;
    let mut walk = Walk::new(model, builder, options);
    let value = Value { id: 0, grid: shape, dims: dims.clone(), padding: [0; 4], fill: 0, scale, clamp };
    for &tensor in &read {
        let known = of(tensor).ok()?;
        if model.tensors[tensor].dims != *dims || known.clamp != clamp {
            return None;
        }
        // Each is a tensor of its own.
        let window = Window::POINT;
        let id = walk.builder.node("other", Op::MaxPool { input: 0, window }, None).ok()?;
        walk.values.insert(tensor, Value { id, scale: known.scale, ..value.clone() });
    }
    walk.operator(operator, "one").err().and_then(refused)
}
