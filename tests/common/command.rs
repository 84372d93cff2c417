//! The command, with nothing of the user's environment.

use std::process::{Command, Stdio};

/// `lowkey` with these arguments, and nothing to read.
pub fn lowkey(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lowkey"));
    command.args(arguments).stdin(Stdio::null());
    for variable in ["LOWKEY_DATA", "LOWKEY_STATE", "LOWKEY_CACHE", "RUST_LOG", "RUST_BACKTRACE"] {
        command.env_remove(variable);
    }
    command
}
