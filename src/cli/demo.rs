//! `lowkey demo`: both parties in one process on a bundled model and bundled images.

use std::process::ExitCode;

use clap::Args;
use lowkey::{Answer, Model, Result, Tensor};
use lowkey_models::{Labelled, Network, zoo};

use super::ending::Ending;
use super::local::Local;
use super::model;
use super::records::{InferenceRecord, stage_line};
use super::{DataArgument, LinkArgument, ModeArguments, Schedule, answers, names, print_json, say, warn};

#[derive(Args)]
pub struct Arguments {
    /// A bundled model; `lowkey eval --private` runs one of a file.
    #[arg(long, default_value = "digits", value_name = "NAME")]
    model: String,
    /// How many images.
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    #[command(flatten)]
    mode: ModeArguments,
    /// When the lattice work happens.
    #[arg(long, value_enum, default_value_t)]
    schedule: Schedule,
    #[command(flatten)]
    link: LinkArgument,
    #[command(flatten)]
    data: DataArgument,
    /// Print one JSON object per image instead of text.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> Result<ExitCode> {
    let bundled = zoo::find(&arguments.model).ok_or_else(|| names::unknown(&arguments.model))?;
    let model = Model::from(bundled.network());
    let images = images(&bundled, model.network(), &arguments.data)?;
    let start = if arguments.mode.guard { Local::start_guarded } else { Local::start };
    let mut local = start(model.clone(), arguments.link.link, arguments.mode.with(arguments.schedule))?;
    let outcome = answer(&mut local, &model, &images, &arguments);
    let exact = local.end(outcome)?;
    Ok(Ending::of_comparison(exact).into())
}

/// Answers the images; true if all answers equal the plaintext network's.
fn answer(local: &mut Local, model: &Model, images: &Labelled, arguments: &Arguments) -> Result<bool> {
    let setup = local.client().setup().clone();
    if !arguments.json {
        say(answers::intro(model.name(), local.client().plan()))?;
        say(stage_line("setup", &setup))?;
        say(answers::demo_titles())?;
    }
    let mut answers = Vec::new();
    let mut matching = 0;
    let mut correct = 0;
    let count = images.inputs.len().min(arguments.count as usize);
    if count < arguments.count as usize {
        warn(format_args!("note: there are {count} images; --count {} takes all of them\n", arguments.count));
    }
    for index in 0..count {
        let input = images.inputs.get(index).expect("the index is below the length");
        let answer = local.answer(&input)?;
        let matches = is_plaintext(&answer, model, &input)?;
        let label = images.labels[index];
        matching += usize::from(matches);
        correct += usize::from(answer.class == Some(label.into()));
        if arguments.json {
            let mut record = InferenceRecord::new(index, &answer, &setup);
            (record.label, record.matches) = (Some(label), Some(matches));
            print_json(&record)?;
        } else {
            say(answers::demo_row(index, label, matches, &answer, model.architecture()))?;
        }
        answers.push(answer);
    }
    if !arguments.json {
        say(answers::demo_summary(&answers, matching, correct))?;
    }
    Ok(matching == answers.len())
}

/// The bundled images, or those of a data set where they may not be bundled.
pub fn images(bundled: &zoo::Bundled, network: &Network, data: &DataArgument) -> Result<Labelled> {
    match bundled.demo() {
        Some(demo) if data.data.is_none() => {
            Ok(Labelled { inputs: demo.inputs, labels: demo.labels.into_iter().map(u16::from).collect() })
        }
        _ => model::data_set(data, network.architecture()),
    }
}

/// Whether a private answer is the one in the clear, with the same coins: its outputs, or the class where it has nothing else.
pub fn is_plaintext(answer: &Answer, model: &Model, input: &Tensor) -> Result<bool> {
    let plain = model.answer_with(input, &answer.report.coins)?;
    Ok(match &answer.logits {
        Some(_) => answer.logits == plain.logits,
        None => answer.class == plain.class,
    })
}
