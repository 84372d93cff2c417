//! Where a network starts and ends in the graph, and what lies outside: floating-point ends and the softmax.

use std::collections::{HashMap, HashSet};

use super::model::{self, Element, Model, Operator};
use super::names::{CUSTOM, is_compiled};
use super::reals::MOVEMENTS;
use super::value::{integers32, no_integers};
use crate::coding::{self, ArgMax, InputStep};
use crate::import::error::{ImportError, ImportProblem};
use crate::import::report::{Report, Verdict};

/// Most elements that a resizing at the end makes. Whoever has what it reads can do it: in the clear it costs nothing.
const MOST_RESIZED: usize = 1 << 20;

/// Where a network starts and ends in the graph.
pub(super) struct Ends {
    /// Those that the outputs depend on, in the order of the file.
    pub inputs: Vec<Start>,
    /// In the order of the file; each once.
    pub outputs: Vec<End>,
    /// Operators that the outputs depend on, without those that are left out.
    pub needed: HashSet<usize>,
}

/// An input.
pub(super) struct Start {
    /// The file's.
    pub file: usize,
    /// The one that the network reads.
    pub tensor: usize,
    /// The quantised one that it is, perhaps with elements in another order.
    pub quantised: usize,
    /// What the client does before it quantises.
    pub steps: Vec<InputStep>,
}

/// An output.
#[derive(Clone)]
pub(super) struct End {
    /// The file's.
    pub file: usize,
    /// The logits.
    pub tensor: usize,
    /// What the client does in place of the operators behind.
    pub behind: Vec<coding::End>,
    /// What a softmax multiplies its values by.
    pub beta: f32,
    /// The file takes the largest one.
    pub class: Option<ArgMax>,
}

/// Which operator makes each tensor.
type Makers = HashMap<usize, usize>;

impl Ends {
    pub fn find(model: &Model<'_>, report: &mut Report) -> Result<Ends, ImportError> {
        let mut makers = Makers::new();
        for (index, operator) in model.operators.iter().enumerate() {
            makers.extend(operator.outputs.iter().map(|&output| (output, index)));
        }
        let mut dropped = HashSet::new();
        let mut outputs: Vec<End> = Vec::new();
        for &file in &model.outputs {
            for end in ends(model, &makers, file, &mut dropped, report) {
                if outputs.iter().all(|known| known.tensor != end.tensor) {
                    outputs.push(end);
                }
            }
        }
        let mut needed = HashSet::new();
        let mut read = HashSet::new();
        let mut open: Vec<usize> = outputs.iter().map(|end| end.tensor).collect();
        while let Some(tensor) = open.pop() {
            read.insert(tensor);
            if let Some(&index) = makers.get(&tensor).filter(|&&index| needed.insert(index)) {
                open.extend(model.operators[index].inputs.iter().flatten());
            }
        }
        let mut inputs = Vec::new();
        for &file in model.inputs.iter().filter(|input| read.contains(input)) {
            inputs.push(start(model, file, &mut needed, report)?);
        }
        if inputs.is_empty() {
            let reason = "its output does not depend on its input".to_owned();
            return Err(ImportProblem::File { reason, hint: "export the whole network" }.into());
        }
        Ok(Ends { inputs, outputs, needed })
    }
}

/// What becomes of an operator that comes last.
enum Last {
    /// It is of the network.
    Stays,
    /// It is left out, for this reason.
    Out(&'static str),
    /// The client takes the softmax, or its logarithm.
    Softmax { log: bool },
    /// The client takes the largest.
    Largest,
    /// The client does it.
    Client(coding::End),
    /// The answer is what it reads.
    Read,
    /// The answers are what it reads, each of which may have its own end: an operator that the file brings.
    AllRead,
}

/// The ends that lie before an output of the file: one, or the operands of an operator of its own that comes last.
fn ends(
    model: &Model<'_>,
    makers: &Makers,
    file: usize,
    dropped: &mut HashSet<usize>,
    report: &mut Report,
) -> Vec<End> {
    let mut end = End { file, tensor: file, behind: Vec::new(), beta: 1.0, class: None };
    // Each step goes to an operator that was not there before, or stops.
    let mut seen = HashSet::new();
    while let Some((index, operator, before)) =
        maker(model, makers, end.tensor).filter(|(index, ..)| seen.insert(*index))
    {
        let last = last(model, makers, operator, before, &end);
        let why = match last {
            Last::Stays => break,
            Last::Out(why) => why,
            Last::Softmax { .. } => "the client takes the softmax, or the largest logit",
            Last::Largest => "the client takes the largest",
            Last::Client(_) => "the client does it",
            Last::Read | Last::AllRead => "it is left out: the answer is what it reads",
        };
        if dropped.insert(index) {
            report.count(&operator.name, Verdict::Dropped(why));
        }
        if let Last::Read | Last::AllRead = last {
            report.note(format!("the answer is what {} reads, not what it makes of it", operator.name));
        }
        match last {
            Last::Stays | Last::Out(_) => {}
            Last::Softmax { log } => {
                end.beta = beta(operator).unwrap_or(1.0);
                end.behind.insert(0, if log { coding::End::LogSoftmax } else { coding::End::Softmax });
            }
            Last::Largest => end.class = Some(ArgMax { last: false }),
            Last::Client(function) => end.behind.insert(0, function),
            Last::Read => end.file = before,
            Last::AllRead => {
                let made = operator.inputs.iter().flatten().filter(|input| makers.contains_key(input));
                let behind = |&tensor: &usize| End { file: tensor, tensor, behind: Vec::new(), beta: 1.0, class: None };
                // Their own ends: dequantisations, say.
                return made.map(behind).map(|end| plain(model, makers, end, dropped, report)).collect();
            }
        }
        end.tensor = before;
    }
    vec![end]
}

/// The operator that makes a tensor, its number, and the first tensor that it reads.
fn maker<'a, 'f>(model: &'a Model<'f>, makers: &Makers, tensor: usize) -> Option<(usize, &'a Operator<'f>, usize)> {
    let index = *makers.get(&tensor)?;
    let operator = &model.operators[index];
    Some((index, operator, (*operator.inputs.first()?)?))
}

/// What becomes of the operator before `end`, which reads the tensor `before`.
fn last(model: &Model<'_>, makers: &Makers, operator: &Operator<'_>, before: usize, end: &End) -> Last {
    let follows =
        |codes: &[i32]| maker(model, makers, before).is_some_and(|(_, operator, _)| codes.contains(&operator.code));
    let softmax = || follows(&[model::SOFTMAX, model::LOG_SOFTMAX]);
    let resizes = || follows(&[model::RESIZE_BILINEAR]) && large(model, before);
    let is_first = end.behind.is_empty();
    match operator.code {
        model::SOFTMAX | model::LOG_SOFTMAX if beta(operator).is_some() && is_first => {
            Last::Softmax { log: operator.code == model::LOG_SOFTMAX }
        }
        model::DEQUANTIZE => Last::Out("the network answers with integers"),
        model::QUANTIZE | model::RESHAPE | model::SQUEEZE if softmax() => {
            Last::Out("it follows a softmax that is left out")
        }
        model::RESHAPE | model::SQUEEZE | model::CAST if follows(&[model::ARG_MAX]) => {
            Last::Out("it follows an arg max that is left out")
        }
        model::ARG_MAX if resizes() && is_first => Last::Out("it follows a resizing that is left out"),
        model::ARG_MAX if over_channels(model, operator, before) && is_first => Last::Largest,
        // Functions of single float32 numbers.
        model::LOGISTIC if float(model, before) && is_first => Last::Client(coding::End::Sigmoid),
        model::TANH if float(model, before) && is_first => Last::Client(coding::End::Tanh),
        model::EXP | model::LOG | model::SQRT if float(model, before) && is_first => Last::Read,
        model::RESIZE_BILINEAR if large(model, end.tensor) && is_first => Last::Read,
        CUSTOM if !is_compiled(&operator.name) => Last::AllRead,
        _ => Last::Stays,
    }
}

/// True for what is worth no private interpolation.
fn large(model: &Model<'_>, tensor: usize) -> bool {
    model.tensors[tensor].elements() > MOST_RESIZED
}

fn float(model: &Model<'_>, tensor: usize) -> bool {
    model.tensors[tensor].element == Element::Float32
}

/// The beta of a softmax, if it is positive; a logarithm of one has none.
fn beta(operator: &Operator<'_>) -> Option<f32> {
    let beta = if operator.code == model::LOG_SOFTMAX { 1.0 } else { operator.f32_or(0, 1.0).ok()? };
    Some(beta).filter(|beta| beta.is_normal() && *beta > 0.0)
}

/// An end before dequantisations.
fn plain(model: &Model<'_>, makers: &Makers, mut end: End, dropped: &mut HashSet<usize>, report: &mut Report) -> End {
    while let Some(&index) = makers.get(&end.tensor) {
        let operator = &model.operators[index];
        let (model::DEQUANTIZE, Some(&Some(before))) = (operator.code, operator.inputs.first()) else { break };
        if dropped.insert(index) {
            report.count(&operator.name, Verdict::Dropped("the network answers with integers"));
        }
        end.tensor = before;
    }
    end
}

/// True if an ARG_MAX runs over the last dimension.
fn over_channels(model: &Model<'_>, operator: &Operator<'_>, before: usize) -> bool {
    let Some(&Some(axis)) = operator.inputs.get(1) else { return false };
    let axis = model.tensors[axis].data.get(..4).map(integers32);
    let rank = model.tensors[before].dims.len() as i64;
    axis.is_some_and(|axis| axis == [rank - 1] || axis == [-1])
}

/// Where an input of the file is quantised: at once, behind sums and products with a constant, or behind what moves its elements.
fn start(
    model: &Model<'_>,
    file: usize,
    needed: &mut HashSet<usize>,
    report: &mut Report,
) -> Result<Start, ImportError> {
    let mut start = Start { file, tensor: file, quantised: file, steps: Vec::new() };
    if model.tensors[file].element != Element::Float32 {
        return Ok(start);
    }
    let none = || ImportError::from(no_integers(&model.tensors[file]));
    let mut open = vec![file];
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    while let Some(tensor) = open.pop().filter(|_| found.len() < 1 << 10) {
        for (index, operator) in model.operators.iter().enumerate() {
            if !operator.inputs.contains(&Some(tensor)) || !needed.contains(&index) {
                continue;
            }
            if operator.code == model::QUANTIZE {
                found.extend(operator.outputs.first());
                if tensor == start.tensor && alone(model, needed, tensor) {
                    report.count(&operator.name, Verdict::Dropped("the network reads quantised values"));
                    needed.remove(&index);
                    start.tensor = operator.outputs[0];
                }
                continue;
            }
            let step = step(model, operator, tensor).filter(|_| tensor == start.tensor && alone(model, needed, tensor));
            if let Some(step) = step {
                report.count(&operator.name, Verdict::Dropped("the client does it before it quantises"));
                needed.remove(&index);
                start.steps.push(step);
                start.tensor = operator.outputs[0];
            } else if !MOVEMENTS.contains(&operator.code) {
                return Err(none());
            }
            open.extend(operator.outputs.iter().filter(|&&output| seen.insert(output)));
        }
    }
    start.quantised = *found.first().ok_or_else(none)?;
    Ok(start)
}

/// True for a tensor with one reader.
fn alone(model: &Model<'_>, needed: &HashSet<usize>, tensor: usize) -> bool {
    let reads = |(at, operator): &(usize, &Operator<'_>)| {
        needed.contains(at) && operator.inputs.contains(&Some(tensor)) && !model.outputs.contains(&tensor)
    };
    model.operators.iter().enumerate().filter(reads).count() == 1
}

/// A sum, difference, product or quotient of a real input and a constant: one, or one for each channel.
fn step(model: &Model<'_>, operator: &Operator<'_>, input: usize) -> Option<InputStep> {
    let &[Some(one), Some(other)] = &operator.inputs[..] else { return None };
    let (first, constant) = if one == input { (true, other) } else { (false, one) };
    let constant = &model.tensors[constant];
    let list: Vec<f32> =
        constant.data.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().expect("4 bytes"))).collect();
    let channels = model.tensors[input].dims.last().copied().unwrap_or(1);
    let fits = list.len() == 1 || list.len() == channels && constant.dims.last() == Some(&channels);
    let plain = constant.element == Element::Float32 && !constant.indirect && operator.i8(0).ok()? == 0;
    if !fits || !plain || list.iter().any(|number| !number.is_finite()) {
        return None;
    }
    match operator.code {
        model::ADD => Some(InputStep::Add(list)),
        model::SUB if first => Some(InputStep::Sub(list)),
        model::SUB => Some(InputStep::From(list)),
        model::MUL => Some(InputStep::Mul(list)),
        model::DIV if first && list.iter().all(|&number| number != 0.0) => Some(InputStep::Div(list)),
        _ => None,
    }
}
