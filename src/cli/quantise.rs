//! `lowkey quantise`: from a float ONNX file, or an integer network with free scales, to one of small integers with shifts alone.

mod before;
mod data;
mod record;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use lowkey::{Error, Model, Result};
use lowkey_models::ptq::{self, PtqError, Quantised, Settings};

use super::import::ImportOptions;
use super::{DataArgument, model, print_json, say};
use before::Before;
use data::Data;
use record::Record;

/// Fewer bits than this need training.
const UNTRAINED: u32 = 5;

#[derive(Args)]
pub struct Arguments {
    /// A float ONNX file, as PyTorch exports it; or a quantised network with free scales, which gets shifts in their place.
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    #[command(flatten)]
    data: DataArgument,
    /// Width of activations and weights; the input has 8 bits.
    #[arg(long, default_value_t = 8, value_name = "BITS", value_parser = clap::value_parser!(u32).range(2..=8))]
    bits: u32,
    /// A shift for each channel instead of one for each layer: more accurate at few bits, at 10 to 20 % more bytes. Shifts are public.
    #[arg(long)]
    channel_shifts: bool,
    /// How many images units and shifts are chosen by.
    #[arg(long, default_value_t = 256, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    calibrate: u32,
    /// How many images of the test part are looked at; all unless given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    count: Option<u32>,
    /// Where the network goes; only a report unless given.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Name of the network; that of the file unless given.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    options: ImportOptions,
}

pub fn run(arguments: Arguments) -> Result<ExitCode> {
    let (name, arrays) = (arguments.name.as_deref(), data::arrays(&arguments.data));
    let before = Before::read(&arguments.model, name, arrays, &arguments.options)?;
    let data = Data::find(&arguments.data, &before)?;
    let mut notes = Vec::new();
    if before.whole.is_none() && arrays.is_none() && arguments.options.options(None).preprocessing.is_none() {
        let note =
            "pictures are read as pixel / 255: say --pixel-scale, --mean and --std if training did something else";
        notes.push(note.to_owned());
    }
    notes.extend(data.note().map(str::to_owned));
    if arguments.bits < UNTRAINED {
        let bits = arguments.bits;
        notes.push(format!("{bits} bits cost accuracy without training: models/train has networks that learn theirs"));
    }
    let samples = data.samples(&before, arguments.calibrate as usize)?;
    let settings = Settings { bits: arguments.bits, channel_shifts: arguments.channel_shifts };
    let quantised = ptq::quantise(before.real.clone(), &samples, &settings);
    let Quantised { network, layers, warnings } = quantised.map_err(|error| refused(&arguments.model, error))?;
    notes.extend(warnings);
    let model = model::name_classes(Model::from(network), &arguments.options)?;
    let most = arguments.count.map(|count| count as usize);
    let accuracy = data.accuracy(&before, model.network(), most)?;
    let record = Record::new(&model, &before, &settings, samples.len(), accuracy, &layers, notes)?;
    if let Some(output) = &arguments.output {
        model.write(output)?;
    }
    if arguments.json {
        print_json(&record)?;
    } else {
        say(record.text().trim_end())?;
        if let Some(output) = &arguments.output {
            say(format_args!("wrote {}; next: lowkey plan {0}", output.display()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn refused(path: &Path, error: PtqError) -> Error {
    let hint = match error {
        PtqError::NoSamples => "give data with --data",
        PtqError::Bits(_) => "give --bits 8, 6 or 4",
        PtqError::NotFinite(_) => "the network's weights or the preprocessing are not right",
        PtqError::Shape(_) | PtqError::Units(_) => "the network is none that is quantised here",
        PtqError::Model(_) => "networks have limits: use smaller layers",
    };
    Error::usage(format!("{}: {error}", path.display()), hint)
}
