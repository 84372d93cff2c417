//! `lowkey bench`: measurements that compare networks.

mod plots;
mod processes;
mod rows;
mod table;
mod widths;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use lowkey::Result;

#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// The bundled networks of a family, width by width, privately: accuracy, parameters, bytes, time, memory.
    Widths(widths::Arguments),
}

pub fn run(arguments: Arguments) -> Result<ExitCode> {
    match arguments.what {
        What::Widths(arguments) => widths::run(arguments),
    }
}
