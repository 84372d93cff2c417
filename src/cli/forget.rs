//! `lowkey forget`: the model noted for a server is forgotten, and the next one seen there is noted.

use std::process::ExitCode;

use clap::Args;
use lowkey::Result;

use super::{Places, say};

#[derive(Args)]
pub struct Arguments {
    /// The server, host:port, as it was given to `lowkey infer --server`.
    #[arg(value_name = "ADDR")]
    address: String,
    #[command(flatten)]
    places: Places,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let Arguments { address, places } = arguments;
    if places.open()?.forget(address)? {
        say(format_args!("forgot the model of {address}; the next one seen there is noted"))?;
    } else {
        say(format_args!("no model was noted for {address}"))?;
    }
    Ok(ExitCode::SUCCESS)
}
