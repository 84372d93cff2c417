//! The `lowkey` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    lowkey::command::run(std::env::args_os())
}
