//! `lowkey demo`: both parties over loopback on a bundled model and bundled images.

use std::process::ExitCode;

use clap::Args;
use lowkey::report::{human_bytes, human_ms};
use lowkey::{Answer, Error, Model, Result};
use lowkey_models::{Labelled, Network, zoo};

use super::local::Local;
use super::model;
use super::records::{InferenceRecord, class_text, layer_table, mean_stage, stage_line};
use super::{DataArgument, LinkArgument, Mode, print_json, say};

#[derive(Args)]
pub struct Arguments {
    /// A bundled model.
    #[arg(long, default_value = "digits", value_name = "NAME")]
    model: String,
    /// How many images.
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    #[command(flatten)]
    mode: Mode,
    #[command(flatten)]
    link: LinkArgument,
    #[command(flatten)]
    data: DataArgument,
    /// Print one JSON object per image instead of text.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> Result<ExitCode> {
    let bundled = zoo::find(&arguments.model).ok_or_else(|| {
        let names: Vec<&str> = zoo::ALL.iter().map(|bundled| bundled.name).collect();
        Error::usage(format!("no bundled model {:?}", arguments.model), format!("there are: {}", names.join(", ")))
    })?;
    let model = Model::from(bundled.network());
    let images = images(&bundled, model.network(), &arguments.data)?;
    let mut local = Local::start(model.clone(), arguments.link.link, arguments.mode)?;
    let outcome = answer(&mut local, &model, &images, &arguments);
    let exact = local.end(outcome)?;
    Ok(if exact { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Answers the images; true if all answers equal the plaintext network's.
fn answer(local: &mut Local, model: &Model, images: &Labelled, arguments: &Arguments) -> Result<bool> {
    let setup = local.client().setup().clone();
    if !arguments.json {
        say(format_args!("{}: {}", model.name(), describe(local)))?;
        say(stage_line("setup", &setup))?;
    }
    let mut answers = Vec::new();
    let mut matching = 0;
    let mut correct = 0;
    for index in 0..images.inputs.len().min(arguments.count as usize) {
        let input = images.inputs.get(index).expect("the index is below the length");
        let answer = local.answer(&input)?;
        let matches = is_plaintext(&answer, &model.answer(&input)?);
        let label = images.labels[index];
        matching += usize::from(matches);
        correct += usize::from(answer.class == Some(label.into()));
        if arguments.json {
            let mut record = InferenceRecord::new(index, &answer, &setup);
            (record.label, record.matches) = (Some(label), Some(matches));
            print_json(&record)?;
        } else {
            let verdict =
                if matches { "equal to the plaintext network" } else { "DIFFERENT from the plaintext network" };
            say(format_args!(
                "image {index:>3}: label {label}, prediction {}, {verdict}; offline {}, online {}, {}",
                class_text(answer.class),
                human_ms(answer.report.offline.ms),
                human_ms(answer.report.online.ms),
                human_bytes(answer.report.offline.bytes() + answer.report.online.bytes())
            ))?;
        }
        answers.push(answer);
    }
    if !arguments.json {
        say(summary(&answers, matching, correct))?;
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

fn describe(local: &Local) -> String {
    let plan = local.client().plan();
    let sets: Vec<String> = plan.sets.iter().map(|set| format!("{} ({} secrets)", set.set.name, set.secrets)).collect();
    format!("{} activations, {}, planned for {}", plan.activations(), sets.join(", "), plan.choices.link)
}

/// Whether a private answer is the one in the clear: its outputs, or the class where it has nothing else.
pub fn is_plaintext(answer: &Answer, plain: &Answer) -> bool {
    match &answer.logits {
        Some(_) => answer.logits == plain.logits,
        None => answer.class == plain.class,
    }
}

fn summary(answers: &[Answer], matching: usize, correct: usize) -> String {
    let n = answers.len();
    let batches: u64 = answers
        .iter()
        .flat_map(|answer| [&answer.report.offline, &answer.report.online])
        .map(|s| s.ot_batch_bytes_sent + s.ot_batch_bytes_received)
        .sum();
    [
        format!("\nmean of {n} inferences (OTs charged by consumption)"),
        stage_line("offline", &mean_stage(answers.iter().map(|answer| &answer.report.offline))),
        stage_line("online", &mean_stage(answers.iter().map(|answer| &answer.report.online))),
        format!("whole OT batches of the run: {}\n", human_bytes(batches)),
        layer_table(answers),
        format!("{correct} of {n} predictions correct, {matching} of {n} equal to the plaintext network"),
    ]
    .join("\n")
}
