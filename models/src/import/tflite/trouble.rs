//! Why a file, or one of its operators, can't be imported.

use crate::import::builder::Obstacle;
use crate::import::error::{ImportError, ImportProblem, Refusal};
use crate::import::report::Report;

/// Why an operator can't be imported.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It is not like those that networks have.
    Refused {
        reason: String,
        hint: &'static str,
    },
    Builder(Obstacle),
    File(ImportProblem),
}

impl From<Obstacle> for Trouble {
    fn from(obstacle: Obstacle) -> Trouble {
        Trouble::Builder(obstacle)
    }
}

impl From<ImportProblem> for Trouble {
    fn from(problem: ImportProblem) -> Trouble {
        Trouble::File(problem)
    }
}

/// Refuses.
pub(super) fn refuse<T>(reason: impl Into<String>, hint: &'static str) -> Result<T, Trouble> {
    Err(Trouble::Refused { reason: reason.into(), hint })
}

/// The error of a node, with what is known of the file so far.
pub(super) fn describe(trouble: Trouble, op: &str, node: &str, report: &Report) -> ImportError {
    let refusal =
        |reason: String, hint: &str| Refusal { op: op.into(), node: node.into(), reason, hint: hint.into() }.into();
    let problem = match trouble {
        Trouble::File(problem) => problem,
        Trouble::Refused { reason, hint } => refusal(reason, hint),
        Trouble::Builder(obstacle) => {
            let hint = match obstacle {
                Obstacle::Model(_) => "the layer is larger or wider than networks may be",
                _ => "use the other rounding, or other scales",
            };
            refusal(obstacle.to_string(), hint)
        }
    };
    ImportError { report: Some(Box::new(report.clone())), ..ImportError::from(problem) }
}
