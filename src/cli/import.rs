//! `lowkey import`: from an ONNX or TFLite file to a .lowkey file, with a report of its operations.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use lowkey::plan::PlanError;
use lowkey::planner;
use lowkey::{Error, Link, Model, Result};
use lowkey_models::import::{self, ImportProblem, Imported, Report, Row, Verdict};
use lowkey_models::{Network, zoo};

use serde::Serialize;

use super::check::{Check, check};
use super::foreign::{ImportOptions, PIXELS, in_switches};
use super::{model, print_json, progress, say, several};

#[derive(Args)]
pub struct Arguments {
    /// An ONNX file (QDQ, QCDQ, QOperator, QONNX) or a TFLite file with 8-bit integers.
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Where the network goes; only a report unless given.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Name of the network; that of the file unless given.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Run the network and its unapproximated twin over the inputs of this file (1000 at most), in the clear, and say how far apart
    /// their answers are.
    #[arg(long, value_name = "DATA")]
    check: Option<PathBuf>,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    options: ImportOptions,
}

/// The report as JSON.
#[derive(Serialize)]
struct Record<'r> {
    format: &'r str,
    producer: &'r str,
    input: &'r str,
    output: &'r str,
    rounding: &'r [String],
    operators: Vec<Operator<'r>>,
    notes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nodes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    accumulator_bits: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    check: Option<&'r Check>,
}

#[derive(Serialize)]
struct Operator<'r> {
    operator: &'r str,
    count: usize,
    becomes: &'r str,
    imported: bool,
}

impl<'r> Record<'r> {
    fn of(report: &'r Report) -> Record<'r> {
        let operator = |row: &'r Row| {
            let (becomes, imported) = match &row.verdict {
                Verdict::Imported(what) | Verdict::Dropped(what) => (*what, true),
                Verdict::Unsupported { hint, .. } => (&hint[..], false),
            };
            Operator { operator: &row.op, count: row.count, becomes, imported }
        };
        Record {
            format: &report.format,
            producer: &report.producer,
            input: &report.codings[0],
            output: &report.codings[1],
            rounding: &report.rounding,
            operators: report.rows.iter().map(operator).collect(),
            notes: report.notes.iter().map(|note| in_switches(note)).collect(),
            nodes: None,
            accumulator_bits: None,
            check: None,
        }
    }
}

/// Why a file is not imported, for whoever sees its report.
fn refusal(error: import::ImportError) -> Error {
    let hint = match (&*error.problem, &error.report) {
        (ImportProblem::Io(source), _) if source.kind() == std::io::ErrorKind::InvalidInput => {
            "name a file, and neither a pipe nor a device"
        }
        (ImportProblem::Io(_), _) => "check the path",
        (ImportProblem::Preprocessing(_), _) => PIXELS,
        (_, Some(report)) if !report.rows.is_empty() => {
            "the report above says what became of its operations until then"
        }
        _ => "give a whole ONNX or TFLite file of a quantised network",
    };
    Error::usage(error, hint)
}

/// Refuses a network that has no plan: what is accepted can also run.
fn runs(network: &Network, file: &Path) -> Result<()> {
    let plan = network.folded().map_err(PlanError::from).and_then(|folded| planner::plan(&folded, Link::default()));
    plan.map(|_| ()).map_err(|error| {
        let why = format!("{}: it cannot run privately: {error}", file.display());
        Error::usage(why, "nothing was written; the report above says what its operations became")
    })
}

/// Refuses the name of a bundled network where there is no such file.
fn no_bundled(model: &Path) -> Result<()> {
    if model.to_str().and_then(zoo::find).is_none() || model.exists() {
        return Ok(());
    }
    let name = model.display();
    Err(Error::usage(
        format!("{name}: the name of a bundled network, which is no file to import"),
        format!("it can be used as it is: lowkey plan {name}"),
    ))
}

pub fn run(arguments: Arguments) -> Result<ExitCode> {
    let show = |report: &Report| match arguments.json {
        true => print_json(&Record::of(report)),
        false => say(in_switches(report.to_string().trim_end())),
    };
    no_bundled(&arguments.model)?;
    model::spare(arguments.output.as_deref(), &[&arguments.model])?;
    model::writable(&arguments.output)?;
    arguments.options.note_of(&arguments.model);
    let waiting = progress::spinner("importing");
    let imported = import::read(&arguments.model, &arguments.options.options(arguments.name.clone()));
    waiting.finish_and_clear();
    let Imported { network, report, twin } = match imported {
        Ok(imported) => imported,
        Err(error) => {
            if let Some(report) = error.report.as_ref().filter(|report| !report.rows.is_empty()) {
                show(report)?;
            }
            return Err(refusal(error));
        }
    };
    let model = model::name_classes(Model::from(network), &arguments.options)?;
    let network = model.network();
    let waiting = progress::spinner("planning");
    let runs = runs(network, &arguments.model);
    waiting.finish_and_clear();
    if let Err(error) = runs {
        show(&report)?;
        return Err(error);
    }
    let check = arguments.check.as_ref().map(|data| check(network, &twin, data)).transpose()?;
    if let Some(output) = &arguments.output {
        model.write(output)?;
    }
    let bits = network.bounds().iter().flatten().map(|bounds| bounds.accumulator_bits()).max().unwrap_or(0);
    let nodes = network.architecture().nodes.len();
    if arguments.json {
        let (nodes, accumulator_bits) = (Some(nodes), Some(bits));
        print_json(&Record { nodes, accumulator_bits, check: check.as_ref(), ..Record::of(&report) })?;
        return Ok(ExitCode::SUCCESS);
    }
    show(&report)?;
    let nodes = several(nodes as u64, "node");
    say(match bits {
        0 => format!("{nodes}; none has accumulators"),
        bits => format!("{nodes}; accumulators of {bits} bits at most"),
    })?;
    if let Some(check) = check {
        check.print()?;
    }
    if let Some(output) = &arguments.output {
        say(format_args!("wrote {}; next: lowkey plan {0}", output.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use lowkey_models::{Architecture, Input, LinearWeights, Node, Op, Term, Weights};

    use super::*;

    /// A residual that needs a ring so wide that no parameter set has room for the noise of the layer beside it.
    #[test]
    fn what_cannot_run_is_refused_in_words() {
        let terms = vec![
            Term::Dense { input: 0, outputs: 1, weight_bits: 8 },
            Term::Identity { input: 0, multiplier: 1 << 41 },
        ];
        let architecture = Architecture {
            name: "wide".into(),
            input: Input { shape: [1, 1, 1], bits: 8, zero_point: 0, pixels: None, coding: None },
            nodes: vec![Node { name: "sum".into(), op: Op::Linear { terms } }],
            output: 1,
            rounding: None,
            output_scale: None,
            output_coding: None,
            classes: Vec::new(),
            declared: Default::default(),
        };
        let terms = vec![Some(ndarray::Array4::from_elem((1, 1, 1, 1), 100)), None];
        let weights = Weights { linear: vec![Some(LinearWeights { terms, bias: vec![0] })] };
        let network = Network::new(architecture, weights).unwrap();
        let error = runs(&network, Path::new("wide.onnx")).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("wide.onnx: it cannot run privately: ") && text.contains("sum"), "{text}");
        assert!(!text.contains(['{', '}']), "{text}");
        assert_eq!(error.fault(), lowkey::Fault::User);
    }
}
