//! `lowkey optimise`: the changes of a network that an inference within some bytes bears best.

mod plot;
mod record;

use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use clap::Args;
use lowkey::optimise::{OptimiseError, Search};
use lowkey::{Error, Model, Result};
use lowkey_models::choose::knapsack::Unsolved;
use lowkey_models::{Labelled, Network, Tensor, zoo};

use super::distort::File;
use super::foreign::ImportOptions;
use super::{DataArgument, LinkArgument, demo, model, print_json, progress, say, size, toss};
use record::{Accuracy, Record};

#[derive(Args)]
pub struct Arguments {
    /// A .lowkey, ONNX or TFLite file, or the name of a bundled model.
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// What `lowkey distort` measured of it.
    #[arg(long, value_name = "FILE")]
    distortion: PathBuf,
    /// What an inference may take, offline and online, as `lowkey plan` counts it: bytes (900kB, 2MB), or a part of what it takes
    /// now (0.75, 75%). Several, with commas between them, share the planning.
    #[arg(long, value_name = "BYTES", required = true, value_delimiter = ',')]
    budget: Vec<Budget>,
    #[command(flatten)]
    link: LinkArgument,
    /// Where the network goes; only a report unless given. Of several budgets: less-1.lowkey, less-2.lowkey, ... for less.lowkey.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Name of the network; as before unless given.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    data: DataArgument,
    /// How many images of the test part both networks are compared on, evenly spread.
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// Choose for a network that will be trained with its choices (models/train/finetune.py): wraps count a tenth, because training gets
    /// them back. Before that it is less accurate.
    #[arg(long, conflicts_with = "plot")]
    to_train: bool,
    /// Draw distortion against bytes, from the network as it is to the cheapest: an SVG file.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Print one JSON object for each budget instead of text.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    import: ImportOptions,
}

impl Arguments {
    /// The files that the networks go to, by budget.
    fn outputs(&self) -> Vec<Option<PathBuf>> {
        let numbered = |number: usize| {
            let path = self.output.as_ref()?;
            if self.budget.len() == 1 {
                return Some(path.clone());
            }
            let mut name = path.file_stem()?.to_owned();
            name.push(format!("-{number}"));
            if let Some(extension) = path.extension() {
                name.push(".");
                name.push(extension);
            }
            Some(path.with_file_name(name))
        };
        (1..=self.budget.len()).map(numbered).collect()
    }
}

/// What an inference may take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Budget {
    Bytes(u64),
    /// Of what it takes now.
    Part(f64),
}

impl FromStr for Budget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let part = match text.trim().strip_suffix('%') {
            Some(percent) => percent.trim().parse::<f64>().ok().map(|percent| percent / 100.0),
            None => text.trim().parse::<f64>().ok().filter(|part| *part <= 1.0),
        };
        match part {
            Some(part) if part > 0.0 && part <= 1.0 => Ok(Self::Part(part)),
            Some(_) => Err("a part is more than 0 and at most 1, or 100 %".into()),
            None => size::parse(text).map(Self::Bytes),
        }
    }
}

impl Budget {
    fn bytes(self, whole: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Part(part) => (whole as f64 * part) as u64,
        }
    }
}

pub fn run(arguments: Arguments) -> Result<ExitCode> {
    let sources = [&arguments.model, &arguments.distortion].map(PathBuf::as_path);
    let outputs = arguments.outputs();
    for written in outputs.iter().chain([&arguments.plot]) {
        model::spare(written.as_deref(), &sources)?;
        model::writable(written)?;
    }
    let model = model::read(&arguments.model, &arguments.import)?;
    let file = File::read(&arguments.distortion, model.network())?;
    let images = images(&arguments, model.network())?;
    let before = Model::from(named(model.network(), model.name())?);
    let trained = arguments.to_train.then(|| file.table.clone().to_train());
    let table = trained.as_ref().unwrap_or(&file.table);
    let search = {
        let bar = progress::callback("planning");
        Search::new(model.network(), table, arguments.link.link, &bar).map_err(refused)?
    };
    let mut chosen = Vec::new();
    for (number, (budget, output)) in arguments.budget.iter().zip(&outputs).enumerate() {
        let budget = budget.bytes(search.whole());
        let found = search.within(budget).map_err(refused)?;
        let after = Model::from(named(&found.network, arguments.name.as_deref().unwrap_or(model.name()))?);
        let accuracy =
            images.as_ref().map(|images| accuracy(&before, &after, images, arguments.count as usize)).transpose()?;
        let record = Record::new(&before, &after, &file.table, &search, &found, budget, arguments.link.link, accuracy)?;
        chosen.push(found.bytes);
        if let Some(output) = output {
            after.write(output)?;
        }
        if arguments.json {
            print_json(&record)?;
            continue;
        }
        if number > 0 {
            say("")?;
        }
        say(record.text().trim_end())?;
        if let Some(output) = output {
            say(format_args!(
                "wrote {}; next: lowkey serve --model {0} --link {1}",
                output.display(),
                arguments.link.link
            ))?;
        }
    }
    if let Some(path) = &arguments.plot {
        let svg = plot::draw(&search, before.name(), &chosen).map_err(refused)?;
        std::fs::write(path, svg).map_err(|error| Error::file(path, error))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The same network under a name.
fn named(network: &Network, name: &str) -> Result<Network> {
    let (mut architecture, weights) = network.clone().into_parts();
    architecture.name = name.to_owned();
    Network::new(architecture, weights).map_err(|error| Error::Model(Box::new(error)))
}

fn refused(error: OptimiseError) -> Error {
    let hint = match &error {
        OptimiseError::Unmeasured(_) => "`lowkey distort` with the same arguments goes on where it stopped",
        OptimiseError::Change(_) => "`lowkey distort MODEL -o FILE` measures this network",
        OptimiseError::Plan(_) => "`lowkey plan` says what is in the way",
        OptimiseError::Budget { .. } => {
            "give a larger budget, or measure more changes: `lowkey distort` with --fewer or --coins"
        }
        OptimiseError::Unsolved(Unsolved::TooWide { .. }) => {
            "measure fewer changes: `lowkey distort --fewer 0` has rings alone"
        }
        OptimiseError::Unsolved(_) => "measure the network anew",
    };
    Error::usage(error, hint)
}

/// Labelled images to compare the networks on, if there are any.
fn images(arguments: &Arguments, network: &Network) -> Result<Option<Labelled>> {
    let bundled = arguments.model.to_str().filter(|_| !arguments.model.exists()).and_then(zoo::find);
    let has_demo = bundled.as_ref().is_some_and(|bundled| bundled.demo().is_some());
    let has_data = arguments.data.data.is_some() || std::env::var_os("LOWKEY_DATA").is_some();
    match bundled {
        Some(bundled) if has_demo => demo::images(&bundled, network, &arguments.data).map(Some),
        _ if has_data => model::data_set(&arguments.data, network.architecture()).map(Some),
        _ => Ok(None),
    }
}

/// How often both networks are right on images that are evenly spread.
fn accuracy(before: &Model, after: &Model, images: &Labelled, count: usize) -> Result<Accuracy> {
    const BATCH: usize = 400;
    let count = count.min(images.inputs.len());
    let chosen: Vec<usize> = (0..count).map(|at| at * images.inputs.len() / count).collect();
    let bar = progress::bar("evaluating", count as u64);
    let mut accuracy = Accuracy { images: count, before: 0, after: 0, same: 0 };
    for (part, first) in chosen.chunks(BATCH).zip((0..).step_by(BATCH)) {
        let batch: Vec<Tensor> = part.iter().filter_map(|&at| images.inputs.get(at)).collect();
        let classes = |model: &Model| -> Result<Vec<Option<usize>>> {
            let (answers, _) = toss::answers(model.network(), &batch, first, toss::SEED)?;
            Ok(answers.iter().map(|answer| toss::class_of(model.network(), answer)).collect())
        };
        for ((before, after), &at) in classes(before)?.into_iter().zip(classes(after)?).zip(part) {
            let label = Some(usize::from(images.labels[at]));
            accuracy.before += usize::from(before == label);
            accuracy.after += usize::from(after == label);
            accuracy.same += usize::from(before == after);
        }
        bar.inc(part.len() as u64);
    }
    bar.finish_and_clear();
    Ok(accuracy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_as_people_write_them() {
        for (text, budget) in [
            ("0.75", Budget::Part(0.75)),
            ("75%", Budget::Part(0.75)),
            ("50 %", Budget::Part(0.5)),
            ("1", Budget::Part(1.0)),
            ("900kB", Budget::Bytes(900_000)),
            ("2 MB", Budget::Bytes(2_000_000)),
            ("120000", Budget::Bytes(120_000)),
        ] {
            assert_eq!(text.parse(), Ok(budget), "{text}");
        }
        for text in ["0", "-1", "0%", "101%", "much", "", "NaN", "1e999"] {
            assert!(text.parse::<Budget>().is_err(), "{text}");
        }
        assert_eq!(Budget::Part(0.5).bytes(1001), 500);
    }
}
