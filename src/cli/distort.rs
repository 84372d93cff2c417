//! `lowkey distort`: how much each change of a network moves its answers, into a file that `lowkey optimise` reads.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use lowkey::{Error, Model, Result, store};
use lowkey_models::choose::distortion::{Change, DistortionError, Kinds, Measuring, Table as Distortions, Toss};
use lowkey_models::ptq::Sample;
use lowkey_models::{Network, Tensor, regular};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::foreign::ImportOptions;
use super::quantise::before::Before;
use super::quantise::data::Data;
use super::table::{Table, number, text as words};
use super::{DataArgument, model, print_json, progress, say, toss, warn};

/// What a distortion file begins with.
const FORMAT: &str = "lowkey distortion 1";
/// Largest distortion file, in bytes.
const MAX_FILE: u64 = 16 << 20;

#[derive(Args)]
pub struct Arguments {
    /// A .lowkey, ONNX or TFLite file, or the name of a bundled model.
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    #[command(flatten)]
    data: DataArgument,
    /// Where the measurements go. What such a file has of the same model and images is not measured again.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// How many images of the training part are measured on; rings are calibrated on as many others.
    #[arg(long, default_value_t = 256, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    count: u32,
    /// Bits that an activation may give up at most.
    #[arg(long, default_value_t = 2, value_name = "BITS", value_parser = clap::value_parser!(u32).range(0..=7))]
    fewer: u32,
    /// Bits that the weights of a layer may give up at most. Training makes up for them (models/train/finetune.py); there is little to
    /// gain without.
    #[arg(long, default_value_t = 0, value_name = "BITS", value_parser = clap::value_parser!(u32).range(0..=7))]
    weights: u32,
    /// Measure coins of the client, too: of all bits of a shift but these, and of all but one. They change what a client
    /// learns: see SECURITY.md.
    #[arg(long, value_name = "LEFT", value_parser = clap::value_parser!(u32).range(0..=8))]
    coins: Option<u32>,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    import: ImportOptions,
}

/// A distortion file.
#[derive(Serialize, Deserialize)]
pub struct File {
    format: String,
    /// Its name, for people.
    model: String,
    /// SHA-256 of the network, in hex.
    network: String,
    /// SHA-256 of all images, in hex.
    images: String,
    #[serde(flatten)]
    pub table: Distortions,
}

impl File {
    /// Reads the measurements of a network.
    pub fn read(path: &Path, network: &Network) -> Result<File> {
        let file = Self::load(path)?;
        if file.network != digest_of(network)? {
            return Err(Error::usage(
                format!("{}: measured of another network, {:?}", path.display(), file.model),
                "`lowkey distort MODEL -o FILE` measures this one",
            ));
        }
        let (done, all) = file.table.progress();
        if done < all {
            return Err(Error::usage(
                format!("{}: {done} of {all} measurements", path.display()),
                "`lowkey distort` with the same arguments goes on where it stopped",
            ));
        }
        Ok(file)
    }

    fn load(path: &Path) -> Result<File> {
        let mut text = Vec::new();
        let read = regular::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut text));
        read.map_err(|error| Error::file(path, error))?;
        let wrong = |why: String| {
            Error::usage(format!("{}: no distortion file: {why}", path.display()), "`lowkey distort` writes such files")
        };
        if text.len() as u64 > MAX_FILE {
            return Err(wrong(format!("it has more than {MAX_FILE} bytes")));
        }
        let file: File = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
        if file.format != FORMAT {
            return Err(wrong(format!("its format is {:?}, not {FORMAT:?}", file.format)));
        }
        Ok(file)
    }

    /// Writes it whole or not at all.
    fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).map_err(Error::internal)?;
        Ok(store::write(path, format!("{text}\n").as_bytes())?)
    }
}

/// Why measuring ended.
enum Stopped {
    Measuring(DistortionError),
    File(Error),
}

impl From<DistortionError> for Stopped {
    fn from(error: DistortionError) -> Self {
        Self::Measuring(error)
    }
}

pub fn run(arguments: Arguments) -> Result<ExitCode> {
    let model = model::read(&arguments.model, &arguments.import)?;
    let images = images(&arguments, &model)?;
    let (calibration, measured): (Vec<_>, Vec<_>) = images.iter().enumerate().partition(|(at, _)| at % 2 == 0);
    let [calibration, measured] =
        [calibration, measured].map(|part| part.into_iter().map(|(_, image)| image.clone()).collect::<Vec<Tensor>>());
    let kinds = Kinds { fewer: arguments.fewer, weights: arguments.weights, coins: arguments.coins };
    let coins_of = |image| -> Toss { Box::new(toss::coins_of(toss::SEED, image)) };
    let (measuring, table) =
        Measuring::start(model.network(), &calibration, measured, kinds, coins_of).map_err(refused)?;
    let mut file = File {
        format: FORMAT.into(),
        model: model.name().to_owned(),
        network: digest_of(model.network())?,
        images: digest_of_images(&images),
        table,
    };
    if arguments.output.exists() {
        let older = File::load(&arguments.output)?;
        if (&older.network, &older.images) != (&file.network, &file.images) {
            return Err(Error::usage(
                format!("{}: measured of another model, or on other images", arguments.output.display()),
                "name another file with -o, or remove this one",
            ));
        }
        file.table.resume(&older.table);
    }
    let mut table = file.table.clone();
    let bar = progress::callback("measuring");
    let filled = measuring.fill(&mut table, |table| {
        let (done, all) = table.progress();
        bar(done, all);
        file.table.clone_from(table);
        file.write(&arguments.output).map_err(Stopped::File)
    });
    filled.map_err(|stopped| match stopped {
        Stopped::Measuring(error) => refused(error),
        Stopped::File(error) => error,
    })?;
    file.table = table;
    file.write(&arguments.output)?;
    if arguments.json {
        return print_json(&file).map(|()| ExitCode::SUCCESS);
    }
    say(text(&file))?;
    say(format_args!(
        "wrote {}; next: lowkey optimise {} --distortion {0} --budget 75%",
        arguments.output.display(),
        arguments.model.display()
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn refused(error: DistortionError) -> Error {
    let hint = match error {
        DistortionError::NoInputs => "give more images with --data",
        DistortionError::Input(_) => "the data do not suit the network",
        DistortionError::Narrow(_) | DistortionError::Model(_) | DistortionError::Table(_) => {
            "measure the network anew, into another file"
        }
    };
    Error::usage(error, hint)
}

/// Images to calibrate with and to measure on, one after the other; those that a bundled model comes with where no others are named.
fn images(arguments: &Arguments, model: &Model) -> Result<Vec<Tensor>> {
    let count = 2 * arguments.count as usize;
    if let (None, Some(demo)) = (&arguments.data.data, model.demo()) {
        let count = count.min(demo.inputs.len());
        return Ok((0..count).filter_map(|at| demo.inputs.get(at * demo.inputs.len() / count)).collect());
    }
    let before = Before::kept(&arguments.model, None, &arguments.import)?;
    let data = Data::find(&arguments.data, &before)?;
    if let Some(note) = data.note() {
        warn(format_args!("note: {note}\n"));
    }
    Ok(data.samples(&before, count)?.iter().map(Sample::integers).collect())
}

fn digest_of(network: &Network) -> Result<String> {
    let bytes = network.to_bytes_without_digest().map_err(|error| Error::Model(Box::new(error)))?;
    Ok(hex::encode(Sha256::digest(bytes)))
}

fn digest_of_images(images: &[Tensor]) -> String {
    let mut sum = Sha256::new();
    images.iter().flatten().for_each(|value| sum.update(value.to_le_bytes()));
    hex::encode(sum.finalize())
}

/// A row for each variable, a column for each change.
fn text(file: &File) -> String {
    let table = &file.table;
    let mut rows = Table::new(&[words("layer"), words("change"), number("distortion"), number("images").drop(1)]);
    for (variable, of) in table.variables.iter().enumerate() {
        for (option, entry) in of.options.iter().enumerate() {
            let change = match entry.change {
                Change::Spare(spare) => format!("ring, {spare} to spare"),
                Change::Fewer(1) => "1 bit fewer".to_owned(),
                Change::Fewer(bits) => format!("{bits} bits fewer"),
                Change::Weights(1) => "weights, 1 bit fewer".to_owned(),
                Change::Weights(bits) => format!("weights, {bits} bits fewer"),
                Change::Coin { left } => format!("coin, {left} left"),
            };
            let distortion = table.distortion(variable, option + 1).map_or_else(String::new, |d| format!("{d:.4}"));
            let changed = entry.measured.map_or_else(String::new, |measured| measured.inputs.to_string());
            rows.row([of.nodes.join(", "), change, distortion, changed]);
        }
    }
    format!(
        "{}: measured on {} images, rings calibrated on {} others\n{}\n\
         distortion: squared change of all outputs over their variance\n\
         images: on which something changed",
        file.model,
        table.inputs,
        table.calibrated,
        rows.for_terminal()
    )
}
