//! `lowkey plan`: how a model would run, layer by layer, before anything runs.

mod compare;
mod estimate;
mod rescaled;
mod text;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use lowkey::cost::{Prediction, predict};
use lowkey::guard::{AuditRate, Circuits, Forecast};
use lowkey::plan::{Nonlinear, NonlinearKind, Plan, ServerMemory, Step};
use lowkey::planner::{self, Detail, Target, Widths};
use lowkey::report::charged_bytes;
use lowkey::{Link, Result, Reveal, Schedule, publication};
use lowkey_models::{Coding, Network, OutputCoding};
use lowkey_mpc::party::{Party, Stage};
use serde::Serialize;

pub use estimate::{Estimate, Times};
pub use text::noise;

use super::foreign::ImportOptions;
use super::{LinkArgument, Mode, WidthsArgument, model, print_json, progress, say};
use crate::cli;

#[derive(Args)]
pub struct Arguments {
    /// A .lowkey, ONNX or TFLite file, or the name of a bundled model.
    #[arg(value_name = "FILE")]
    model: PathBuf,
    /// What the client is shown [default: logits; with --guard class].
    #[arg(long, value_enum)]
    reveal: Option<cli::Reveal>,
    /// When the lattice work happens.
    #[arg(long, value_enum, default_value_t)]
    schedule: cli::Schedule,
    #[command(flatten)]
    link: LinkArgument,
    #[command(flatten)]
    widths: WidthsArgument,
    /// Plan guarded sessions, in which half of the prepared slots are opened.
    #[arg(long, conflicts_with_all = ["compare", "schedule"])]
    guard: bool,
    /// What other widths of the same architecture would take, with commas: 2,4,8.
    #[arg(long, value_name = "BITS", value_delimiter = ',', conflicts_with = "straightforward",
          value_parser = clap::value_parser!(u32).range(1..=8))]
    compare: Vec<u32>,
    /// Print one JSON object (with --compare one per width) instead of text.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    import: ImportOptions,
}

#[derive(Serialize)]
pub struct Record {
    pub model: String,
    /// The rounding rule of the program that the network was imported from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rounding: Option<String>,
    /// Of an imported network: shape, order, type, scale and zero point of the file's input and output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<Coding>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Output>,
    #[serde(skip)]
    pub lines: [String; 2],
    pub link: String,
    pub layers: Vec<Layer>,
    pub total: Total,
    /// Activations that are rounded by coins of the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tossed: Option<u64>,
    pub estimate: Estimate,
    /// Of a server, apart from the model.
    pub memory: ServerMemory,
    /// Of guarded sessions: the total is a mean over audits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guarded: Option<Audited>,
}

/// What the offline stage of a guarded session is made of.
#[derive(Clone, Copy, Serialize)]
pub struct Audited {
    /// Of one slot that is used, its triples included.
    pub slot_bytes: u64,
    /// Of each slot that is opened before it.
    pub opened_bytes: u64,
}

#[derive(Serialize)]
pub struct Output {
    #[serde(flatten)]
    pub coding: OutputCoding,
    pub scale: Option<f64>,
}

#[derive(Serialize)]
pub struct Layer {
    pub name: String,
    pub kind: &'static str,
    /// Smallest ring that holds every accumulator; linear layers only.
    pub accumulator_bits: Option<u32>,
    /// Ring of the result.
    pub ring_bits: u32,
    pub torus_bits: Option<u32>,
    pub degree: Option<usize>,
    /// Bits that an input element takes on the wire offline; online it takes its ring.
    pub wire_bits: Option<u32>,
    pub noise_margin_bits: Option<f64>,
    pub activations: usize,
    /// Both directions, OTs included at their price.
    pub offline_bytes: u64,
    pub online_bytes: u64,
    /// By which it makes the online stage longer.
    pub flights: u64,
}

#[derive(Serialize)]
pub struct Total {
    pub hint_bytes: u64,
    pub setup_bytes: u64,
    pub offline_bytes: u64,
    pub online_bytes: u64,
    pub flights: u64,
    pub activations: usize,
}

pub fn run(arguments: Arguments) -> Result<ExitCode> {
    let model = {
        let _waiting = progress::spinner("reading the network");
        model::read(&arguments.model, &arguments.import)?
    };
    let waiting = progress::spinner("planning");
    let mode = Mode { reveal: cli::shown(arguments.reveal, arguments.guard), schedule: arguments.schedule };
    if !arguments.compare.is_empty() {
        let rows = compare::rows(model.network(), &arguments.compare, arguments.link.link, mode)?;
        waiting.finish_and_clear();
        if arguments.json {
            rows.iter().try_for_each(print_json)?;
        } else {
            say(compare::text(&rows))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let (link, widths) = (arguments.link.link, arguments.widths.into());
    let record = record_of(model.network(), link, widths, mode, arguments.guard)?;
    waiting.finish_and_clear();
    if arguments.json {
        print_json(&record)?
    } else {
        say(text::text(&record))?
    }
    Ok(ExitCode::SUCCESS)
}

/// Plans a network.
pub fn record(network: &Network, link: Link, widths: Widths, mode: Mode) -> Result<Record> {
    record_of(network, link, widths, mode, false)
}

/// Plans a network, for guarded sessions or for others.
fn record_of(network: &Network, link: Link, widths: Widths, mode: Mode, guarded: bool) -> Result<Record> {
    let folded = network.folded().map_err(lowkey::plan::PlanError::from)?;
    let plan = &planner::plan(&folded, Target { link, widths })?;
    let (schedule, reveal): (Schedule, Reveal) = (mode.schedule.into(), mode.reveal.into());
    model::check_reveal(&plan.architecture, plan.answer.lanes, mode.reveal)?;
    let circuits = if guarded { Some(Circuits::derive(plan)?) } else { None };
    let forecast = circuits.as_ref().map(|circuits| Forecast::new(plan, circuits, reveal));
    let (prediction, offline_bytes, audited) = match forecast {
        None => {
            let prediction = predict(plan, schedule, reveal);
            let offline_bytes = stage_bytes(&prediction, Stage::Offline, schedule);
            (prediction, offline_bytes, None)
        }
        Some(forecast) => {
            let offline_bytes = forecast.mean_offline_bytes(AuditRate::default()) as u64;
            let audited = Audited { slot_bytes: forecast.offline_bytes(1), opened_bytes: forecast.opened_bytes() };
            (forecast.slot, offline_bytes, Some(audited))
        }
    };
    let output = plan.architecture.output_coding.clone();
    let total = Total {
        hint_bytes: plan.hint_bytes() as u64,
        setup_bytes: publication::setup_bytes(plan)?,
        offline_bytes,
        online_bytes: stage_bytes(&prediction, Stage::Online, schedule),
        flights: prediction.flights(Stage::Online, &[]),
        activations: plan.activations(),
    };
    let charged = |step: &Nonlinear| match &circuits {
        None => charged_bytes(step.programs.of(schedule).demand() * step.lanes),
        Some(circuits) => circuits.charged_bytes(step.node),
    };
    let memory = circuits.as_ref().map_or_else(|| plan.server_memory(), |circuits| circuits.server_memory(plan));
    let layers = layers(plan, &planner::details(&folded, plan), &prediction, schedule, charged);
    Ok(Record {
        model: plan.architecture.name.clone(),
        rounding: plan.architecture.rounding.clone(),
        input: plan.architecture.input.coding.clone(),
        output: output.map(|coding| Output { coding, scale: plan.architecture.output_scale }),
        lines: [plan.architecture.input_line(), plan.architecture.output_line()],
        link: plan.choices.link.to_string(),
        layers,
        estimate: Estimate::new(plan, &memory, &total, &prediction),
        memory,
        guarded: audited,
        tossed: Some(folded.tosses()).filter(|&tossed| tossed > 0),
        total,
    })
}

/// Bytes of a stage, the OTs charged to the stage that consumes them.
pub fn stage_bytes(prediction: &Prediction, stage: Stage, schedule: Schedule) -> u64 {
    let frames = prediction.bytes(stage, Party::Client) + prediction.bytes(stage, Party::Server);
    let charged = if stage == stage_of_ots(schedule) { charged_bytes(prediction.demand) } else { 0 };
    frames + charged
}

fn stage_of_ots(schedule: Schedule) -> Stage {
    match schedule {
        Schedule::Prepared => Stage::Offline,
        Schedule::Direct => Stage::Online,
    }
}

fn layers(
    plan: &Plan,
    details: &[Detail],
    prediction: &Prediction,
    schedule: Schedule,
    charged: impl Fn(&Nonlinear) -> u64,
) -> Vec<Layer> {
    let mut layers = Vec::new();
    for (node, step) in plan.steps.pairs() {
        let name = plan.name(node).to_owned();
        let mut offline_bytes = prediction.scope_bytes(Stage::Offline, &name);
        let mut online_bytes = prediction.scope_bytes(Stage::Online, &name);
        let mut layer = Layer {
            kind: plan.operator(node),
            accumulator_bits: None,
            ring_bits: plan.holdings[node.output()].ring_bits(),
            torus_bits: None,
            degree: None,
            wire_bits: None,
            noise_margin_bits: None,
            activations: 0,
            offline_bytes: 0,
            online_bytes: 0,
            flights: prediction.scope_flights(Stage::Online, &name),
            name,
        };
        match step {
            Step::Linear(linear) => {
                layer.accumulator_bits = Some(details[*linear].accumulator_bits);
                if let Some(encrypted) = &plan.linear[*linear].encrypted {
                    let parameters = &encrypted.parameters;
                    layer.torus_bits = Some(parameters.set.torus_bits);
                    layer.degree = Some(parameters.set.degree);
                    layer.wire_bits = Some(parameters.low_width());
                    layer.noise_margin_bits = details[*linear].noise_margin_bits;
                }
            }
            Step::Nonlinear(step) => {
                let charged = charged(step);
                match stage_of_ots(schedule) {
                    Stage::Offline => offline_bytes += charged,
                    _ => online_bytes += charged,
                }
                let Nonlinear { kind, lanes, .. } = &**step;
                if let NonlinearKind::Requantise { .. }
                | NonlinearKind::Dither { .. }
                | NonlinearKind::Rescale { .. }
                | NonlinearKind::Carries = kind
                {
                    layer.activations = *lanes;
                }
            }
            Step::Local { .. } | Step::Reshape => {}
        }
        (layer.offline_bytes, layer.online_bytes) = (offline_bytes, online_bytes);
        layers.push(layer);
    }
    layers
}
