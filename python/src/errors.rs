//! Errors as exceptions of the package, with what to do about them.

use lowkey::models::import::ImportProblem;
use lowkey::{Error, Fault};
use pyo3::PyErr;

mod classes {
    pyo3::import_exception!(lowkey._errors, ImportRefused);
    pyo3::import_exception!(lowkey._errors, InputError);
    pyo3::import_exception!(lowkey._errors, InternalError);
    pyo3::import_exception!(lowkey._errors, PeerError);
    pyo3::import_exception!(lowkey._errors, Refused);
}

/// The exception for an error: its class says whose fault it is.
pub fn raised(error: Error) -> PyErr {
    let (message, hint) = (error.to_string(), error.hint());
    match (&error, error.fault()) {
        (Error::Import(refused), _) => classes::ImportRefused::new_err((message, hint, obstacles(&refused.problem))),
        (Error::Declined(_), _) | (_, Fault::Safety) => classes::Refused::new_err((message, hint)),
        (_, Fault::User) => classes::InputError::new_err((message, hint)),
        (_, Fault::Peer) => classes::PeerError::new_err((message, hint)),
        (_, Fault::Internal) => classes::InternalError::new_err((message, hint)),
    }
}

/// An argument that does not make sense.
pub fn usage(what: impl std::fmt::Display, hint: impl std::fmt::Display) -> PyErr {
    raised(Error::usage(what, hint))
}

/// What stands in the way of an import: (operator, node, reason, what to do) of each.
fn obstacles(problem: &ImportProblem) -> Vec<(String, String, String, String)> {
    let rows = match problem {
        ImportProblem::Unsupported { rows } => rows.as_slice(),
        ImportProblem::Refused(row) => std::slice::from_ref(row),
        _ => &[],
    };
    rows.iter().map(|row| (row.op.clone(), row.node.clone(), row.reason.clone(), row.hint.clone())).collect()
}
