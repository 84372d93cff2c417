//! Where a network starts and ends in the graph, and what lies outside: floating-point ends and the softmax.

use std::collections::{HashMap, HashSet};

use super::model::{self, Element, Model, Operator, Tensor};
use super::operators;
use crate::coding::End;
use crate::import::error::{ImportError, ImportProblem, Refusal};
use crate::import::report::{Report, Verdict};

/// Where a network starts and ends in the graph.
pub(super) struct Ends {
    /// The quantised input.
    pub input: usize,
    /// The logits.
    pub output: usize,
    /// Operators before the one and behind the other.
    pub dropped: HashSet<usize>,
    /// Operators that the logits depend on.
    pub needed: HashSet<usize>,
    /// What the client does in place of those behind.
    pub behind: Vec<End>,
}

impl Ends {
    pub fn find(model: &Model<'_>, report: &mut Report) -> Result<Ends, ImportError> {
        let (&[mut input], &[mut output]) = (&model.inputs[..], &model.outputs[..]) else {
            let reason = format!("it has {} inputs and {} outputs", model.inputs.len(), model.outputs.len());
            return Err(ImportProblem::File { reason, hint: "export a model with one of each" }.into());
        };
        let mut makers = HashMap::new();
        for (index, operator) in model.operators.iter().enumerate() {
            makers.extend(operator.outputs.iter().map(|&output| (output, index)));
        }
        let source = |tensor: usize| {
            let index = *makers.get(&tensor)?;
            let operator = &model.operators[index];
            Some((index, operator, (*operator.inputs.first()?)?))
        };
        let (mut dropped, mut behind) = (HashSet::new(), Vec::new());
        // Each step goes to an operator that was not there before, or stops.
        while let Some((index, operator, before)) = source(output).filter(|(index, ..)| !dropped.contains(index)) {
            let softmax = || source(before).is_some_and(|(_, operator, _)| operator.code == model::SOFTMAX);
            let why = match operator.code {
                model::SOFTMAX => "the client takes the softmax, or the largest logit",
                model::DEQUANTIZE => "the network answers with integers",
                model::QUANTIZE | model::RESHAPE | model::SQUEEZE if softmax() => {
                    "it follows a softmax that is left out"
                }
                _ => break,
            };
            if operator.code == model::SOFTMAX {
                let beta = f32::from_bits(operator.i32(0, 1f32.to_bits() as i32)? as u32);
                if beta != 1.0 {
                    let reason = format!("its softmax has a beta of {beta}");
                    return Err(ImportProblem::File { reason, hint: "export it with a beta of 1" }.into());
                }
                behind.push(End::Softmax);
            }
            report.count(&operator.name, Verdict::Dropped(why));
            dropped.insert(index);
            output = before;
        }
        if model.tensors[input].element == Element::Float32 {
            let readers = model.operators.iter().enumerate().filter(|(_, o)| o.inputs.contains(&Some(input)));
            let readers: Vec<(usize, &Operator<'_>)> = readers.collect();
            let [(index, operator)] = readers[..] else {
                return Err(no_integers(&model.tensors[input]).into());
            };
            let (model::QUANTIZE, &[quantised]) = (operator.code, &operator.outputs[..]) else {
                return Err(no_integers(&model.tensors[input]).into());
            };
            report.count(&operator.name, Verdict::Dropped("the network reads quantised values"));
            dropped.insert(index);
            input = quantised;
        }
        let mut needed = HashSet::new();
        let mut open = vec![output];
        while let Some(tensor) = open.pop() {
            let maker = makers.get(&tensor).filter(|index| !dropped.contains(index));
            if let Some(&index) = maker.filter(|&&index| needed.insert(index)) {
                open.extend(model.operators[index].inputs.iter().flatten());
            }
        }
        behind.reverse();
        Ok(Ends { input, output, dropped, needed, behind })
    }

    /// What makes the logits.
    pub fn maker(&self, model: &Model<'_>) -> Option<i32> {
        let made = |operator: &&Operator<'_>| operator.outputs.first() == Some(&self.output);
        model.operators.iter().find(made).map(|operator| operator.code)
    }
}

pub(super) fn no_integers(tensor: &Tensor<'_>) -> ImportProblem {
    ImportProblem::File {
        reason: format!("a float network: its tensor {} has float32 numbers that nothing quantises", tensor.name),
        hint: "quantise the model to 8-bit integers with a representative data set (full integer quantisation)",
    }
}

/// All operators that no network has at once.
pub(super) fn refuse_unsupported(model: &Model<'_>, ends: &Ends, report: &Report) -> Result<(), ImportError> {
    let mut report = report.clone();
    let mut rows = Vec::new();
    for (index, operator) in model.operators.iter().enumerate().filter(|(index, _)| ends.needed.contains(index)) {
        let Some((reason, hint)) = operators::refusal(operator.code) else { continue };
        let node = operator.outputs.first().map_or(format!("number {index}"), |&o| model.tensors[o].name.clone());
        report.count(&operator.name, Verdict::Unsupported { node: node.clone(), hint: hint.clone() });
        rows.push(Refusal { op: operator.name.clone(), node, reason: reason.into(), hint });
    }
    if rows.is_empty() {
        return Ok(());
    }
    let problem = ImportProblem::Unsupported { rows };
    Err(ImportError { report: Some(Box::new(report)), ..problem.into() })
}
