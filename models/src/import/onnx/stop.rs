//! Why a node can't be imported.

use crate::import::ImportProblem;
use crate::import::builder::Obstacle;

/// Why a node can't be imported.
pub(super) enum Stop {
    /// It is not like networks have it: why, what to do, and whether results that may differ by one help.
    Refused { reason: String, hint: String, near: bool },
    /// The network has no such node.
    Obstacle(Obstacle),
    /// The file is bad.
    Problem(ImportProblem),
}

impl Stop {
    pub fn new(reason: impl Into<String>, hint: impl Into<String>) -> Stop {
        Stop::Refused { reason: reason.into(), hint: hint.into(), near: false }
    }

    /// The same for what is accepted where results may be approximate.
    pub fn near(reason: impl Into<String>, hint: impl Into<String>) -> Stop {
        Stop::Refused { reason: reason.into(), hint: hint.into(), near: true }
    }
}

impl From<Obstacle> for Stop {
    fn from(obstacle: Obstacle) -> Stop {
        Stop::Obstacle(obstacle)
    }
}

impl From<ImportProblem> for Stop {
    fn from(problem: ImportProblem) -> Stop {
        Stop::Problem(problem)
    }
}

/// Why steps that do not rise alike on all channels can't follow what is put off.
pub(super) fn behind_later() -> Stop {
    let hint = "quantise the values before the pool or the reshape";
    Stop::new("it follows a pool or a reshape of values that nothing has quantised", hint)
}
