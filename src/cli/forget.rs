//! `lowkey forget`: the model noted for a server is forgotten, and the next one seen there is noted.

use std::process::ExitCode;

use clap::Args;
use lowkey::Result;
use lowkey::client::note_of;

use super::{Places, say};

#[derive(Args)]
pub struct Arguments {
    /// The server, host:port, as it was given to `lowkey infer --server`.
    #[arg(value_name = "ADDR")]
    address: String,
    /// The model of a server that has several, as it was given to `lowkey infer --model`.
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    #[command(flatten)]
    places: Places,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let Arguments { address, model, places } = arguments;
    let note = note_of(address, model.as_deref());
    if places.open()?.forget(&note)? {
        say(format_args!("forgot the model of {note}; the next one seen there is noted"))?;
    } else {
        say(format_args!("no model was noted for {note}"))?;
    }
    Ok(ExitCode::SUCCESS)
}
