//! `lowkey import --check`: an imported network beside its unapproximated twin, on inputs, in the clear.

use std::path::Path;

use lowkey::{Error, Result};
use lowkey_models::import::{Difference, Twin};
use lowkey_models::{Fit, Network, Tensor};
use serde::Serialize;

use super::{model, say};

/// Most inputs that are looked at.
pub const MOST: usize = 1000;

/// What `--check` found.
#[derive(Serialize)]
pub struct Check {
    /// Inputs, each run through both.
    inputs: usize,
    /// What the twin has otherwise.
    compared_with: String,
    outputs: usize,
    outputs_that_differ: usize,
    /// In steps of the output.
    largest_difference: f64,
    mean_difference: f64,
    /// Real value of a step, where the file says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<f64>,
    /// Inputs with the same class.
    #[serde(skip_serializing_if = "Option::is_none")]
    same_class: Option<usize>,
}

/// Runs both over the inputs of a file, at most [`MOST`] of them.
pub fn check(network: &Network, twin: &Twin, data: &Path) -> Result<Check> {
    let inputs = model::inputs(data, network.architecture(), Fit::Exact)?;
    let inputs: Vec<Tensor> = inputs.iter().take(MOST).collect();
    let failed = |error| Error::Input(Box::new(error));
    let Difference { inputs, outputs, differ, largest, mean, classes } =
        twin.compare(network, &inputs).map_err(failed)?;
    Ok(Check {
        inputs,
        compared_with: compared_with(twin),
        outputs,
        outputs_that_differ: differ,
        largest_difference: largest,
        mean_difference: mean,
        step: network.architecture().output_scale,
        same_class: classes,
    })
}

fn compared_with(twin: &Twin) -> String {
    let requantisations = match twin.requantisations() {
        0 => None,
        1 => Some("one requantisation follows the file's rule itself".to_owned()),
        n => Some(format!("{n} requantisations follow the file's rules themselves")),
    };
    let outputs = twin.rounds_outputs().then(|| "the outputs have the file's own units and biases".to_owned());
    let parts: Vec<String> = requantisations.into_iter().chain(outputs).collect();
    let floats = "the runtime's floats, which only the runtime could show: the notes say how near they are";
    match (parts.is_empty(), twin.has_floats()) {
        (true, false) => "nothing is approximated: the network follows the file's rules itself".to_owned(),
        (true, true) => format!("itself, with integers near {floats}"),
        (false, false) => format!("the same network, where {}", parts.join(" and ")),
        (false, true) => format!("the same network, where {}; both have integers near {floats}", parts.join(" and ")),
    }
}

impl Check {
    /// For people.
    pub fn print(&self) -> Result<()> {
        say(format_args!("check: {} inputs; compared with: {}", self.inputs, self.compared_with))?;
        let step = self.step.map_or(String::new(), |step| format!(" of {step:.3e}"));
        say(format_args!(
            "check: {} of {} outputs differ; by {:.3} steps{step} at most, {:.5} on average",
            self.outputs_that_differ, self.outputs, self.largest_difference, self.mean_difference
        ))?;
        if let Some(same) = self.same_class {
            say(format_args!("check: the same class for {same} of {} inputs", self.inputs))?;
        }
        Ok(())
    }
}
