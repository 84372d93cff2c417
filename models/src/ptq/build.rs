//! The integer network, node by node.

use std::collections::HashSet;

use ndarray::Array4;

use super::layers::{Fitted, Outcome};
use super::real::{RealNetwork, RealOp, RealTerm};
use super::rows::Whole;
use super::units::Average;
use super::{PtqError, Quantised};
use crate::check::MAX_NAME;
use crate::network::{Architecture, Node, Op, Term, Window};
use crate::weights::{LinearWeights, Network, Weights};

/// Puts it together.
pub(super) fn build(network: RealNetwork, outcome: Outcome) -> Result<Quantised, PtqError> {
    let Outcome { nodes: fitted, layers, warnings, unit } = outcome;
    let RealNetwork { name, input, nodes, output, classes, coding, .. } = network;
    let names = names(nodes.iter().map(|node| &node.name[..]));
    let (mut made, mut linear) = (Vec::new(), Vec::new());
    for ((node, fitted), name) in nodes.into_iter().zip(fitted).zip(names) {
        let (op, weights) = operation(node.op, fitted);
        made.push(Node { name, op });
        linear.push(weights);
    }
    let architecture = Architecture {
        name: shortened(&name, "network"),
        input,
        nodes: made,
        output,
        rounding: None,
        output_scale: Some(unit).filter(|unit| unit.is_normal() && *unit > 0.0),
        output_coding: coding,
        classes,
        declared: Default::default(),
    };
    Ok(Quantised { network: Network::new(architecture, Weights { linear })?, layers, warnings })
}

fn operation(op: RealOp, fitted: Fitted) -> (Op, Option<LinearWeights>) {
    match (op, fitted) {
        (RealOp::Linear { terms, .. }, Fitted::Linear(whole, bias)) => {
            let (terms, arrays) = terms.iter().zip(whole).map(|(real, whole)| term(real, whole)).unzip();
            (Op::Linear { terms }, Some(LinearWeights { terms: arrays, bias }))
        }
        (RealOp::Clip { input, .. }, Fitted::Requantise(fit, bits)) => {
            let top = Some(fit.top).filter(|&top| top != (1 << bits) - 1);
            (Op::Requantise { input, bits, shift: fit.shifts, top, zero_point: fit.zero_point }, None)
        }
        (RealOp::AveragePool { input, window, .. }, Fitted::Average(average)) => match average {
            Average::Sum => (Op::SumPool { input, window }, None),
            _ => {
                let (multiplier, offset, shift) = average.numbers();
                (Op::AvgPool { input, window, multiplier, offset, shift, floats: None }, None)
            }
        },
        (RealOp::MaxPool { input, window }, _) => (Op::MaxPool { input, window }, None),
        (RealOp::Flatten { input }, _) => (Op::Flatten { input }, None),
        (RealOp::Concat { inputs }, _) => (Op::Concat { inputs }, None),
        (RealOp::Select { input, shape, axes }, _) => (Op::Select { input, shape, axes }, None),
        (RealOp::Linear { .. } | RealOp::Clip { .. } | RealOp::AveragePool { .. }, _) => {
            unreachable!("each node was fitted as what it is")
        }
    }
}

fn term(real: &RealTerm, whole: Whole) -> (Term, Option<Array4<i32>>) {
    match (real, whole) {
        (RealTerm::Weights { input, dense: true, .. }, Whole::Weights(weights, weight_bits)) => {
            (Term::Dense { input: *input, outputs: weights.dim().0, weight_bits }, Some(weights))
        }
        (RealTerm::Weights { input, window, groups, .. }, Whole::Weights(weights, weight_bits)) => {
            let (input, window, groups, out_channels) = (*input, *window, *groups, weights.dim().0);
            (Term::Conv { input, out_channels, groups, window, weight_bits }, Some(weights))
        }
        (real, Whole::Identity(multiplier)) => (Term::Identity { input: real.input(), multiplier }, None),
        (real, Whole::Points(points, weight_bits)) => {
            let count = points.len();
            let (input, window) = (real.input(), Window::POINT);
            let term = Term::Conv { input, out_channels: count, groups: count, window, weight_bits };
            (term, Some(Array4::from_shape_vec((count, 1, 1, 1), points).expect("one for each channel")))
        }
        (RealTerm::Identity { .. }, Whole::Weights(..)) => unreachable!("a skip has no weights"),
    }
}

/// Names that networks may have, each once.
fn names<'n>(all: impl Iterator<Item = &'n str>) -> Vec<String> {
    let mut taken = HashSet::new();
    let mut unique = |name: &str| {
        let name = shortened(name, "node");
        let numbered = std::iter::once(name.clone()).chain((2..).map(|n| format!("{name}_{n}")));
        let free = numbered.into_iter().find(|name| taken.insert(name.clone()));
        free.expect("there are enough numbers")
    };
    all.map(&mut unique).collect()
}

/// A name without control characters, short enough to get a number.
fn shortened(name: &str, default: &str) -> String {
    let mut kept = String::new();
    for c in name.chars().filter(|c| !c.is_control()) {
        if kept.len() + c.len_utf8() > MAX_NAME - 16 {
            break;
        }
        kept.push(c);
    }
    if kept.is_empty() { default.to_owned() } else { kept }
}
