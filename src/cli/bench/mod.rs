//! `lowkey bench`: measurements that compare networks, and a server under load.

mod load;
mod plots;
mod processes;
mod rows;
mod serve;
mod spread;
mod table;
mod widths;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use lowkey::Result;

use super::help;

#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// The bundled networks of a family, width by width, privately: accuracy, parameters, bytes, time, memory.
    #[command(after_help = help::BENCH_WIDTHS)]
    Widths(widths::Arguments),
    /// Many clients at one server: answers per second, how long they wait, the server's memory, and whether all answers are right.
    #[command(after_help = help::BENCH_SERVE)]
    Serve(serve::Arguments),
}

pub fn run(arguments: Arguments) -> Result<ExitCode> {
    match arguments.what {
        What::Widths(arguments) => widths::run(arguments),
        What::Serve(arguments) => serve::run(arguments),
    }
}
