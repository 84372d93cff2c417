//! `lowkey quantise`: from a float ONNX file, or an integer network with free scales, to one of small integers with shifts alone.

pub(super) mod before;
pub(super) mod data;
mod record;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use lowkey::{Error, Model, Result};
use lowkey_models::ptq::{self, PtqError, Quantised, Sample, Settings};
use lowkey_models::rings::{self, CalibrationError};
use lowkey_models::{Labelled, Network, Op, Tensor, zoo};

use super::foreign::ImportOptions;
use super::toss::{self, Tossed};
use super::{DataArgument, demo, model, print_json, say};
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
    /// Width of activations and weights, 2 to 8; the input has 8 bits.
    #[arg(long, default_value_t = 8, value_name = "BITS", value_parser = clap::value_parser!(u32).range(2..=8))]
    bits: u32,
    /// A shift for each channel instead of one for each layer: more accurate at few bits, at 10 to 20 % more bytes. Shifts are public.
    #[arg(long)]
    channel_shifts: bool,
    /// Keep the integers of a quantised network as they are, and choose rings alone.
    #[arg(long, conflicts_with_all = ["bits", "channel_shifts"])]
    keep: bool,
    /// How wide the sums of a layer may get before they wrap: as the weights allow, or as images need it, which costs fewer bytes
    /// and now and then changes an answer [worst; calibrated].
    #[arg(long, value_enum, default_value_t, value_name = "HOW", hide_possible_values = true)]
    rings: Rings,
    /// Bits of a calibrated ring beyond those that images need; below 0 sums of theirs wrap.
    #[arg(long, default_value_t = rings::SPARE, value_name = "BITS", allow_negative_numbers = true, requires = "rings",
        value_parser = clap::value_parser!(i32).range(-8..=16))]
    spare: i32,
    /// Round by coins of the client, of all bits of a layer's shift but these: 1 costs no accuracy, 0 a little. Answers to one
    /// image then differ a little from each other; see SECURITY.md for what that shows.
    #[arg(long, value_name = "LEFT", value_parser = clap::value_parser!(u32).range(0..=8))]
    coins: Option<u32>,
    /// One sign for each patch of pixels of these layers in place of one for each pixel: names with HxW, the size of a patch, with map
    /// for the whole map, or with identity for no sign at all. Costs accuracy; see docs/quantise.md.
    #[arg(long, value_name = "LAYER:PATCH,..", value_delimiter = ',', value_parser = parse_block)]
    blocks: Vec<(String, Shape)>,
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

/// The patches of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Patch([usize; 2]),
    Map,
    Identity,
}

/// A layer's name and its patches.
fn parse_block(text: &str) -> std::result::Result<(String, Shape), String> {
    let wrong = || "give a layer's name, a colon, and HxW, map or identity".to_owned();
    let (name, shape) = text.rsplit_once(':').ok_or_else(wrong)?;
    let shape = match shape {
        "map" => Shape::Map,
        "identity" => Shape::Identity,
        sides => {
            let (height, width) = sides.split_once('x').ok_or_else(wrong)?;
            let side = |text: &str| text.parse().map_err(|_| wrong());
            Shape::Patch([side(height)?, side(width)?])
        }
    };
    Ok((name.to_owned(), shape))
}

/// How wide sums may get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Rings {
    /// As the weights allow.
    #[default]
    Worst,
    /// As images need it.
    Calibrated,
}

pub fn run(arguments: Arguments) -> Result<ExitCode> {
    model::named(&arguments.model)?;
    let sources = [Some(&*arguments.model), arguments.data.data.as_deref()];
    model::spare(arguments.output.as_deref(), &sources.into_iter().flatten().collect::<Vec<_>>())?;
    model::writable(&arguments.output)?;
    let (name, arrays) = (arguments.name.as_deref(), data::arrays(&arguments.data));
    let before = match arguments.keep {
        true => Before::kept(&arguments.model, name, &arguments.options)?,
        false => Before::read(&arguments.model, name, arrays, &arguments.options)?,
    };
    let data = match bundled(&arguments.model, &arguments.data)? {
        Some(images) => Data::bundled(&arguments.data, images),
        None => Data::find(&arguments.data, &before)?,
    };
    let mut notes = about(&arguments, &before, &data);
    let samples = data.samples(&before, arguments.calibrate as usize)?;
    let settings = Settings { bits: arguments.bits, channel_shifts: arguments.channel_shifts };
    let made = match &before.whole {
        Some(model) if arguments.keep => {
            Ok(Quantised { network: model.network().clone(), layers: vec![], warnings: vec![] })
        }
        _ => ptq::quantise(before.real.clone(), &samples, &settings),
    };
    let Quantised { network, layers, warnings } = made.map_err(|error| refused(&arguments.model, error))?;
    notes.extend(warnings);
    let network = declared(&arguments, network, &samples, &mut notes)?;
    let model = model::name_classes(Model::from(network), &arguments.options)?;
    let most = arguments.count.map(|count| count as usize);
    let accuracy = data.accuracy(&before, model.network(), most)?;
    let settings = (!arguments.keep).then_some(settings);
    let record = Record::new(&model, &before, settings, samples.len(), accuracy, &layers, notes)?;
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

/// What is to be known of the data and of the width before anything is made.
fn about(arguments: &Arguments, before: &Before, data: &Data) -> Vec<String> {
    let mut notes = Vec::new();
    let are_pictures = data::arrays(&arguments.data).is_none();
    if before.whole.is_none() && are_pictures && arguments.options.options(None).preprocessing.is_none() {
        let note =
            "pictures are read as pixel / 255: say --pixel-scale, --mean and --std if training did something else";
        notes.push(note.to_owned());
    }
    notes.extend(data.note().map(str::to_owned));
    if arguments.bits < UNTRAINED && !arguments.keep {
        let bits = arguments.bits;
        notes
            .push(format!("{bits} bits cost accuracy without training: train such a network (lowkey.train in Python)"));
    }
    notes
}

/// The network with these blocks.
fn with_blocks(network: &Network, blocks: &[(String, Shape)]) -> Result<Network> {
    let architecture = network.architecture();
    let unknown = |name: &str| {
        let rounding = architecture.nodes.iter().filter(|node| matches!(node.op, Op::Requantise { .. }));
        let known: Vec<&str> = rounding.map(|node| node.name.as_str()).collect();
        Error::usage(format!("no layer is called {name:?}"), format!("one of {}", known.join(", ")))
    };
    let patch_of = |(name, shape): &(String, Shape)| {
        let index = architecture.position(name).ok_or_else(|| unknown(name))?;
        let [_, height, width] = network.tensors()[index + 1].shape;
        let patch = match shape {
            Shape::Patch(patch) => Some(*patch),
            Shape::Map => Some([height, width]),
            Shape::Identity => None,
        };
        Ok((name.clone(), patch))
    };
    let patches = blocks.iter().map(patch_of).collect::<Result<_>>()?;
    network.with_blocks(&patches).map_err(|error| Error::usage(error, "give the layer another patch, or leave it out"))
}

/// The network with the blocks, the coins and the rings that were asked for.
fn declared(
    arguments: &Arguments,
    mut network: Network,
    samples: &[Sample],
    notes: &mut Vec<String>,
) -> Result<Network> {
    if !arguments.blocks.is_empty() {
        network = with_blocks(&network, &arguments.blocks)?;
        notes.push(format!("{} pixels of an inference have a sign for each patch alone", network.blocked()));
    }
    if let Some(left) = arguments.coins {
        network = network.with_coins(left).map_err(|error| Error::Model(Box::new(error)))?;
        notes.push(match Tossed::of(&network, toss::SEED) {
            Some(tossed) => tossed.text(),
            None => "no result has a shift that is worth a coin".into(),
        });
    }
    // Rings have room for coins.
    if arguments.rings == Rings::Calibrated {
        let samples: Vec<Tensor> = samples.iter().map(Sample::integers).collect();
        network =
            network.calibrated(&samples, arguments.spare).map_err(|error| uncalibrated(&arguments.model, error))?;
        if !network.architecture().has_rings() {
            notes.push("no ring is narrower than the weights need it".into());
        }
    }
    Ok(network)
}

/// The images that come with a bundled network, where no others are given.
fn bundled(model: &Path, data: &DataArgument) -> Result<Option<Labelled>> {
    let named = model.to_str().filter(|_| data.data.is_none() && !model.exists()).and_then(zoo::find);
    let images = |bundled: &zoo::Bundled| demo::images(bundled, &bundled.network(), data);
    named.filter(|bundled| bundled.demo().is_some()).map(|bundled| images(&bundled)).transpose()
}

fn uncalibrated(path: &Path, error: CalibrationError) -> Error {
    let hint = match error {
        CalibrationError::NoSamples => "give data with --data",
        CalibrationError::Input(_) => "the data do not suit the network",
        CalibrationError::Model(_) => "give a number of bits to spare that is nearer to 1",
    };
    Error::usage(format!("{}: {error}", path.display()), hint)
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
