//! The Python package `lowkey`: what it has of Rust. Arrays travel as bytes with the name of their type; `lowkey/*.py` makes arrays of
//! them, and is what people see.
//!
//! Whatever computes or waits does so without the interpreter's lock. Words are in `docs/words.md`.

mod arrays;
mod client;
mod errors;
mod model;
mod server;

use std::ffi::OsString;

use pyo3::prelude::*;

/// The part of `lowkey` that is Rust.
#[pymodule]
mod _lowkey {
    #[pymodule_export]
    use super::answer::Answer;
    #[pymodule_export]
    use super::client::{Client, models};
    #[pymodule_export]
    use super::command;
    #[pymodule_export]
    use super::model::{Model, bundled};
    #[pymodule_export]
    use super::server::Server;
}

mod answer;

/// Runs the `lowkey` command with these arguments, the program's name first; the exit code.
#[pyfunction]
fn command(py: Python<'_>, arguments: Vec<OsString>) -> u8 {
    // An exit code cannot be looked into, except whether it is one of those that the command has.
    let code = py.detach(|| lowkey::command::run(arguments));
    (0..=u8::MAX).find(|&number| std::process::ExitCode::from(number) == code).unwrap_or(70)
}
