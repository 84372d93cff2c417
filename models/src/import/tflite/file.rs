//! From a file to a network: the ends of the graph, then every operator in the order of the file.

use super::ends::Ends;
use super::inputs::input;
use super::model::{Model, Operator};
use super::obstacles::{obstacles, refuse_others};
use super::operators::{self, Becomes};
use super::trouble::{Trouble, describe, refuse};
use super::walk::Walk;
use crate::import::builder::Builder;
use crate::import::error::ImportError;
use crate::import::report::{Report, Verdict};
use crate::import::{Imported, Options};

/// Makes the network.
pub(super) fn network(model: &Model<'_>, options: &Options) -> Result<Imported, ImportError> {
    let mut report = Report { format: "TFLite".into(), producer: model.description.clone(), ..Report::default() };
    report.rule(options.tflite.name());
    refuse_others(model)?;
    let ends = Ends::find(model, &mut report)?;
    let unsupported = |at: &usize| operators::refusal(&model.operators[*at]).is_some();
    if ends.needed.iter().any(unsupported) {
        return Err(obstacles(model, &ends, options, &report, None));
    }
    let start = &model.tensors[ends.inputs[0].tensor];
    let input = input(model, &ends, options, &report)?;
    let name = options.name.as_deref().unwrap_or("network");
    let trouble = |trouble, report: &Report| describe(trouble, "INPUT", &start.name, report);
    let builder = Builder::new(name, input, options.fold, report.clone()).map_err(|o| trouble(o.into(), &report))?;
    let mut walk = Walk::new(model, builder, options);
    walk.start(&ends).map_err(|found| trouble(found, &report))?;
    for (index, operator) in model.operators.iter().enumerate().filter(|(index, _)| ends.needed.contains(index)) {
        let name = model.node(index);
        match walk.operator(operator, &name) {
            Ok(what) => walk.builder.report.count(&operator.name, what),
            Err(trouble) => {
                let first = describe(trouble, &operator.name, &name, &walk.builder.report);
                return Err(obstacles(model, &ends, options, &walk.builder.report, Some((index, first))));
            }
        }
    }
    let last = &model.tensors[ends.outputs[0].tensor];
    let report = walk.builder.report.clone();
    let output = walk.output(&ends);
    let twin = std::mem::take(&mut walk.builder.twin);
    let finished = output.and_then(|(id, scale)| Ok(walk.builder.finish(id, scale)?));
    let (network, report) = finished.map_err(|trouble| describe(trouble, "OUTPUT", &last.name, &report))?;
    Ok(Imported { network, report, twin })
}

impl<'f> Walk<'_, 'f> {
    /// Imports an operator.
    pub fn operator(&mut self, operator: &Operator<'f>, name: &str) -> Result<Verdict, Trouble> {
        match operators::entry(operator.code) {
            Some(Becomes::Imported(_, import)) => match self.real(operator) {
                Some(operand) => self.on_reals(operator, name, operand, *import),
                None if self.reads_batches(operator) => self.on_batches(operator, name, *import),
                None => import(self, operator, name),
            },
            _ => refuse("it lies in the middle of the network", "quantise the whole model to 8-bit integers"),
        }
    }
}
