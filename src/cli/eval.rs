//! `lowkey eval`: accuracy of the integer network on a data set, and of some images privately.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use lowkey::report::{human_bytes, human_ms};
use lowkey::{Error, Model, Result};
use lowkey_models::rings::Wraps;
use lowkey_models::{ClassRule, Labelled, Network, Tensor, zoo};
use serde::Serialize;

use super::demo::{images, is_plaintext};
use super::ending::Ending;
use super::foreign::ImportOptions;
use super::local::Local;
use super::records::median;
use super::toss::{self, Tossed};
use super::{DataArgument, LinkArgument, Mode, model, print_json, progress, say, several};

/// Images evaluated at once in the clear.
const BATCH: usize = 400;

#[derive(Args)]
pub struct Arguments {
    /// A .lowkey, ONNX or TFLite file, or the name of a bundled model.
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    #[command(flatten)]
    data: DataArgument,
    /// Answer this many images privately too, both parties in this process, and compare.
    #[arg(long, default_value_t = 0, value_name = "N")]
    private: usize,
    /// Whose pseudo-random coins round the results of a network that has coins.
    #[arg(long, default_value_t = toss::SEED, value_name = "SEED")]
    coins_seed: u64,
    #[command(flatten)]
    mode: Mode,
    #[command(flatten)]
    link: LinkArgument,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    import: ImportOptions,
}

#[derive(Serialize)]
struct Record {
    images: usize,
    correct: usize,
    /// Percent.
    accuracy: f64,
    /// Of networks that declare rings.
    #[serde(skip_serializing_if = "Option::is_none")]
    wraps: Option<Wrapped>,
    /// Of networks that round by coins.
    #[serde(skip_serializing_if = "Option::is_none")]
    coins: Option<Tossed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    private: Option<Private>,
}

/// How often sums wrapped in declared rings.
#[derive(Clone, Debug, Serialize)]
pub struct Wrapped {
    /// Sums that did.
    sums: u64,
    /// Sums that have such a ring.
    of: u64,
    /// Images with one that did.
    images: u64,
    /// By layer, where some did.
    layers: BTreeMap<String, u64>,
}

impl Wrapped {
    /// Of `images` inferences; `None` if the network declares no ring.
    pub fn of(network: &Network, wraps: Wraps, images: usize) -> Option<Wrapped> {
        let of = network.ringed_sums() * images as u64;
        (of > 0).then(|| Wrapped { sums: wraps.sums(), of, images: wraps.inputs, layers: wraps.nodes })
    }

    /// For people.
    pub fn text(&self) -> String {
        match self.sums {
            0 => format!("none of {} sums in declared rings wrapped", self.of),
            sums => {
                let each = self.layers.iter().map(|(name, count)| format!("{name} {count}"));
                let each: Vec<String> = each.collect();
                format!(
                    "{sums} of {} sums in declared rings wrapped, in {}: {}",
                    self.of,
                    several(self.images, "image"),
                    each.join(", ")
                )
            }
        }
    }
}

#[derive(Serialize)]
struct Private {
    images: usize,
    mismatches: usize,
    online_ms_median: f64,
    offline_ms_median: f64,
    bytes_per_image: f64,
}

pub fn run(arguments: Arguments) -> Result<ExitCode> {
    let model = model::read(&arguments.model, &arguments.import)?;
    let network = model.network();
    let outputs = network.tensors()[network.architecture().output].elements();
    match network.architecture().class_rule(outputs) {
        ClassRule::None(why) => return Err(no_class(why)),
        ClassRule::Each { .. } => return Err(no_class("it has one for each position of an image")),
        ClassRule::Largest { .. } | ClassRule::Scaled { .. } | ClassRule::Above(_) => {
            model::check_reveal(network.architecture(), outputs, arguments.mode.reveal)?
        }
    }
    // A name that is no file's is a bundled model's, and some have images.
    let bundled = arguments.model.to_str().filter(|_| !arguments.model.exists()).and_then(zoo::find);
    let data = match &bundled {
        Some(bundled) => images(bundled, network, &arguments.data)?,
        None => model::data_set(&arguments.data, network.architecture())?,
    };
    let count = data.inputs.len();
    let (correct, wraps) = right_with(network, &data, count, arguments.coins_seed)?;
    let wraps = Wrapped::of(network, wraps, count);
    let coins = Tossed::of(network, arguments.coins_seed);
    let private = match arguments.private {
        0 => None,
        most => {
            let mut local = Local::start(model.clone(), arguments.link.link, arguments.mode)?;
            let outcome = privately(&mut local, &model, &data, most.min(count));
            Some(local.end(outcome)?)
        }
    };
    let record =
        Record { images: count, correct, accuracy: 100.0 * correct as f64 / count as f64, wraps, coins, private };
    if arguments.json {
        print_json(&record)?;
    } else {
        say(format_args!("{}: {correct} of {count} correct, {:.2} %", network.architecture().name, record.accuracy))?;
        if let Some(wraps) = &record.wraps {
            say(wraps.text())?;
        }
        if let Some(coins) = &record.coins {
            say(coins.text())?;
        }
        if let Some(private) = &record.private {
            say(format_args!(
                "{} privately: {} differ from the plaintext network\nmedian offline {}, online {}; {} per image",
                private.images,
                private.mismatches,
                human_ms(private.offline_ms_median),
                human_ms(private.online_ms_median),
                human_bytes(private.bytes_per_image as u64)
            ))?;
        }
    }
    let exact = record.private.is_none_or(|private| private.mismatches == 0);
    Ok(Ending::of_comparison(exact).into())
}

fn no_class(why: &str) -> Error {
    Error::usage(format!("the network gives no class: {why}"), "an accuracy needs a network that tells classes apart")
}

/// How many of the first `count` images the integer network gets right, and how often sums wrapped.
pub fn right(network: &Network, data: &Labelled, count: usize) -> Result<(usize, Wraps)> {
    right_with(network, data, count, toss::SEED)
}

/// The same, with the coins of a seed.
fn right_with(network: &Network, data: &Labelled, count: usize, seed: u64) -> Result<(usize, Wraps)> {
    let bar = progress::bar("evaluating", count as u64);
    let (mut correct, mut wraps) = (0, Wraps::default());
    for first in (0..count).step_by(BATCH) {
        let batch: Vec<Tensor> = (first..(first + BATCH).min(count)).filter_map(|i| data.inputs.get(i)).collect();
        let (answers, own) = toss::answers(network, &batch, first, seed)?;
        wraps = wraps.and(own);
        let is_right =
            |(answer, label): &(&Tensor, &u16)| toss::class_of(network, answer) == Some(usize::from(**label));
        correct += answers.iter().zip(&data.labels[first..]).filter(is_right).count();
        bar.inc(batch.len() as u64);
    }
    bar.finish_and_clear();
    Ok((correct, wraps))
}

/// Answers the first `count` images privately.
fn privately(local: &mut Local, model: &Model, data: &Labelled, count: usize) -> Result<Private> {
    let bar = progress::bar("privately", count as u64);
    let (mut mismatches, mut bytes) = (0, 0);
    let (mut online, mut offline) = (Vec::new(), Vec::new());
    for index in 0..count {
        let input = data.inputs.get(index).expect("the index is below the length");
        let answer = local.answer(&input)?;
        mismatches += usize::from(!is_plaintext(&answer, model, &input)?);
        let report = &answer.report;
        bytes += report.offline.bytes() + report.online.bytes();
        online.push(report.online.ms);
        offline.push(report.offline.ms);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(Private {
        images: count,
        mismatches,
        online_ms_median: median(online),
        offline_ms_median: median(offline),
        bytes_per_image: bytes as f64 / count as f64,
    })
}
