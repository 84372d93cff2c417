//! Node by node, from graph to network.

use std::collections::HashSet;

use super::constants;
use super::graph::Node;
use super::operators::{self, Becomes};
use super::requantise::BEFORE_FUNCTIONS;
use super::stop::Stop;
use super::value::Value;
use super::walk::Walk;
use crate::import::ImportProblem;
use crate::import::builder::Obstacle;
use crate::import::error::Refusal;

/// Most refusals for which a file is looked at further.
const MAX_REFUSALS: usize = 32;

impl<'m> Walk<'m> {
    /// Imports all nodes that are not constant.
    pub fn all(&mut self) -> Result<(), ImportProblem> {
        let mut unknown: HashSet<&str> = HashSet::new();
        for &node in &self.graph.nodes {
            if self.values.contains_key(node.output()) {
                continue;
            }
            // Nothing can be said of what follows a refused node.
            let follows = node.proto.input.iter().any(|name| unknown.contains(name.as_str()));
            let value = if follows { None } else { self.attempt(node)? };
            match value {
                Some(value) => drop(self.values.insert(node.output(), value)),
                None => unknown.extend(node.proto.output.iter().map(String::as_str)),
            }
        }
        match std::mem::take(&mut self.refusals) {
            rows if rows.is_empty() => Ok(()),
            mut rows if rows.len() == 1 && self.known(&rows[0].op) => Err(rows.swap_remove(0).into()),
            rows => Err(ImportProblem::Unsupported { rows }),
        }
    }

    fn known(&self, op: &str) -> bool {
        operators::verdict(op).is_ok()
    }

    /// A node's value; `None` if it is refused. What is refused for being inexact goes on as if that had been accepted.
    fn attempt(&mut self, node: Node<'m>) -> Result<Option<Value<'m>>, ImportProblem> {
        let stop = match self.step(node) {
            Ok(value) => return Ok(Some(value)),
            Err(stop) => stop,
        };
        match problem(node, stop, self.near) {
            ImportProblem::Refused(refusal) => self.refusals.push(refusal),
            other => return Err(other),
        }
        if self.near || self.refusals.len() > MAX_REFUSALS {
            return Ok(None);
        }
        (self.near, self.builder.near) = (true, true);
        let value = self.step(node).ok();
        (self.near, self.builder.near) = (false, false);
        Ok(value)
    }

    fn step(&mut self, node: Node<'m>) -> Result<Value<'m>, Stop> {
        let known = |name: &String| self.values.get(name.as_str()).cloned();
        let inputs: Vec<Option<Value>> = node.proto.input.iter().map(known).collect();
        let constant = |(value, name): (&Option<Value>, &String)| match value {
            Some(value) => matches!(value, Value::Constant(_) | Value::Scaled(_)),
            None => name.is_empty(),
        };
        if inputs.iter().zip(&node.proto.input).all(constant) {
            if let Some(value) = constants::fold(node, &inputs)? {
                return Ok(value);
            }
            return Err(Stop::new("all its inputs are constant", "fold constants before the export"));
        }
        // Only convolutions read padding that is not there.
        if !matches!(node.op(), "Conv" | "QLinearConv" | "ConvInteger" | "Pad" | "QuantizeLinear" | "DequantizeLinear")
        {
            for name in &node.proto.input {
                if let Some(value) = self.values.get(name.as_str()).filter(|value| value.padding() != [0; 4]).cloned() {
                    let filled = self.filled(node, &value)?;
                    self.values.insert(name, filled);
                }
            }
        }
        if node.input(0).is_some_and(|name| self.done.contains(name)) {
            self.done.insert(node.output());
            if matches!(node.op(), "QuantizeLinear" | "DequantizeLinear") {
                return Ok(self.value(node, 0)?.clone());
            }
        }
        if !matches!(node.op(), "Flatten" | "Reshape" | "Squeeze" | "Unsqueeze" | "Transpose") {
            self.quantised_ahead(node)?;
        }
        match operators::find(node.op()).map(|operator| &operator.becomes) {
            Some(Becomes::Imported(_, import) | Becomes::Dropped(_, import)) => {
                let value = self.along_rows(node, *import)?;
                value.map_or_else(|| import(self, node), Ok)
            }
            Some(Becomes::Refused(hint)) => Err(Stop::new(operators::UNKNOWN, *hint)),
            None => Err(Stop::new(operators::UNKNOWN, operators::OTHERS)),
        }
    }
}

/// What is wrong with a node. Nothing is advised that was given already: `approximate`.
pub(super) fn problem(node: Node<'_>, stop: Stop, approximate: bool) -> ImportProblem {
    let refused = |reason: String, hint: &str, near: bool| {
        let more = if near && !approximate { ", or accept results that may differ by one (approximate)" } else { "" };
        let (op, node, hint) = (node.op().to_owned(), node.name().to_owned(), format!("{hint}{more}"));
        ImportProblem::Refused(Refusal { op, node, reason, hint })
    };
    let obstacle = match stop {
        Stop::Refused { reason, hint, near } => return refused(reason, &hint, near),
        Stop::Problem(problem) => return problem,
        Stop::Obstacle(obstacle) => obstacle,
    };
    let (hint, near) = match obstacle {
        Obstacle::Model(_) => ("networks have limits: use fewer bits, or smaller layers", true),
        Obstacle::TooLong { .. } => ("use fewer bits, smaller layers, or one scale for all channels", true),
        Obstacle::NoFit { .. } if approximate => {
            let reason = format!("{obstacle}, and none is within one step of it, or steps lie less than 64 apart");
            return refused(
                reason,
                "quantise the values before the function, or use scales that are powers of two",
                false,
            );
        }
        Obstacle::NoFit { .. } => ("use a scale that is a power of two", true),
        Obstacle::NotMonotone { .. } => (BEFORE_FUNCTIONS, false),
        Obstacle::TooWide { .. } => ("quantise to at most 8 bits", false),
        Obstacle::Falling { .. } => ("give all channels the same sign", false),
    };
    refused(obstacle.to_string(), hint, near)
}
