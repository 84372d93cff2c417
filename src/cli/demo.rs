//! `lowkey demo`: both parties over loopback on a bundled model and bundled images.

use std::process::ExitCode;

use clap::Args;
use lowkey::report::{human_bytes, human_ms};
use lowkey::{Error, Inference, Output, Result};
use lowkey_models::data::Inputs;
use lowkey_models::{Labelled, Network, Tensor, argmax, zoo};

use super::local::Local;
use super::model;
use super::records::{InferenceRecord, class_text, layer_table, mean_stage, prediction, stage_line};
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
    let network = bundled.network();
    let images = images(&bundled, &network, &arguments.data)?;
    let mut local = Local::start(&network, arguments.link.link)?;
    let outcome = answer(&mut local, &network, &images, &arguments);
    let exact = local.end(outcome)?;
    Ok(if exact { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Answers the images; true if all answers equal the plaintext network's.
fn answer(local: &mut Local, network: &Network, images: &Labelled, arguments: &Arguments) -> Result<bool> {
    let (schedule, reveal) = (arguments.mode.schedule.into(), arguments.mode.reveal.into());
    let setup = local.client().setup().clone();
    if !arguments.json {
        say(format_args!("{}: {}", network.architecture().name, describe(local)))?;
        say(stage_line("setup", &setup))?;
    }
    let mut inferences = Vec::new();
    let mut matching = 0;
    let mut correct = 0;
    for index in 0..images.inputs.len().min(arguments.count as usize) {
        let input = images.inputs.get(index).expect("the index is below the length");
        let values: Vec<i64> = input.iter().copied().collect();
        let inference = local.answer(schedule, reveal, &values)?;
        let matches = is_plaintext(network, &input, &inference.output)?;
        let label = images.labels[index];
        matching += usize::from(matches);
        let class = prediction(&inference.output, network.architecture());
        correct += usize::from(class == Some(label.into()));
        if arguments.json {
            let mut record = InferenceRecord::new(index, &inference, &setup, network.architecture());
            (record.label, record.matches) = (Some(label), Some(matches));
            print_json(&record)?;
        } else {
            let verdict =
                if matches { "equal to the plaintext network" } else { "DIFFERENT from the plaintext network" };
            say(format_args!(
                "image {index:>3}: label {label}, prediction {}, {verdict}; offline {}, online {}, {}",
                class_text(class),
                human_ms(inference.offline.ms),
                human_ms(inference.online.ms),
                human_bytes(inference.offline.bytes() + inference.online.bytes())
            ))?;
        }
        inferences.push(inference);
    }
    if !arguments.json {
        say(summary(&inferences, matching, correct))?;
    }
    Ok(matching == inferences.len())
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
    let plan = &local.client().model().plan;
    let sets: Vec<String> = plan.sets.iter().map(|set| format!("{} ({} secrets)", set.set.name, set.secrets)).collect();
    format!("{} activations, {}, planned for {}", plan.activations(), sets.join(", "), plan.choices.link)
}

/// Whether a private answer is the plaintext network's.
pub fn is_plaintext(network: &Network, input: &Tensor, output: &Output) -> Result<bool> {
    let plain = network.run(input).map_err(|error| Error::Input(Box::new(error)))?;
    Ok(match output {
        Output::Logits(logits) => plain.iter().eq(logits.iter()),
        Output::Class(class) => argmax(&plain) == *class,
    })
}

fn summary(inferences: &[Inference], matching: usize, correct: usize) -> String {
    let n = inferences.len();
    let batches: u64 = inferences
        .iter()
        .flat_map(|i| [&i.offline, &i.online])
        .map(|s| s.ot_batch_bytes_sent + s.ot_batch_bytes_received)
        .sum();
    [
        format!("\nmean of {n} inferences (OTs charged by consumption)"),
        stage_line("offline", &mean_stage(inferences.iter().map(|i| &i.offline))),
        stage_line("online", &mean_stage(inferences.iter().map(|i| &i.online))),
        format!("whole OT batches of the run: {}\n", human_bytes(batches)),
        layer_table(inferences),
        format!("{correct} of {n} predictions correct, {matching} of {n} equal to the plaintext network"),
    ]
    .join("\n")
}

/// The values of input `index`, row-major.
pub fn values(inputs: &Inputs, index: usize) -> Option<Vec<i64>> {
    inputs.get(index).map(|input| input.iter().copied().collect())
}
