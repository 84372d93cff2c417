//! `lowkey bench widths`: every width of a family of networks, privately, both parties on loopback.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use lowkey::plan::Link;
use lowkey::planner::Widths;
use lowkey::report::StageReport;
use lowkey::{Error, Model, Result};
use lowkey_models::zoo::{self, Bundled};
use lowkey_models::{Labelled, Network, regular};

use super::rows::{LayerRow, Row, Shaped, Stage, over};
use super::{plots, processes, table};
use crate::cli::demo::images;
use crate::cli::ending::Ending;
use crate::cli::eval::right;
use crate::cli::plan as planning;
use crate::cli::plots::families::width;
use crate::cli::{DataArgument, LinkArgument, Mode, names, print_json, progress, say, warn};

#[derive(Args)]
pub struct Arguments {
    /// The networks whose names start with this: mnist, cifar, mnist-hcnn, ...; all of them unless given.
    #[arg(long, value_name = "FAMILY", default_value = "", hide_default_value = true)]
    zoo: String,
    /// Images answered privately for each network.
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// Images evaluated in the clear for the accuracy; all unless given.
    #[arg(long, value_name = "N")]
    images: Option<usize>,
    /// Where the table and the pictures go.
    #[arg(long, default_value = "target/bench-widths", value_name = "DIR")]
    out: PathBuf,
    /// Measure over a link with this delay and rate, too [lan, wan].
    #[arg(long, value_name = "LINK")]
    shape: Option<Link>,
    /// Leave out the row at 32-bit integers.
    #[arg(long)]
    no_baseline: bool,
    /// Measure nothing: draw the pictures of the widths.json in --out again.
    #[arg(long, conflicts_with_all = ["shape", "json"])]
    redraw: bool,
    #[command(flatten)]
    data: DataArgument,
    #[command(flatten)]
    link: LinkArgument,
    /// Print one JSON object per network instead of a table.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> Result<ExitCode> {
    if arguments.redraw {
        draw(&read(&arguments.out.join("widths.json"))?, &arguments.out)?;
        return Ok(ExitCode::SUCCESS);
    }
    let named = |network: &&Bundled| network.name.starts_with(&arguments.zoo);
    let networks: Vec<&Bundled> = zoo::ALL.iter().filter(named).collect();
    if networks.is_empty() {
        return Err(Error::usage(
            format!("no bundled network starts with {:?}", arguments.zoo),
            names::hint(&arguments.zoo),
        ));
    }
    fs::create_dir_all(&arguments.out).map_err(|error| Error::file(&arguments.out, error))?;
    let rows = rows(&networks, &arguments)?;
    if !arguments.json {
        say(table::text(&rows, false).trim_end())?;
    }
    write(&rows, &arguments.out)?;
    draw(&rows, &arguments.out)?;
    Ok(Ending::of_comparison(rows.iter().all(|row| row.mismatches == 0)).into())
}

/// The rows of an earlier run.
fn read(path: &Path) -> Result<Vec<Row>> {
    let text = regular::open(path).and_then(std::io::read_to_string).map_err(|error| Error::file(path, error))?;
    let not_own = |error| {
        Error::usage(
            format!("{} is no file of this command: {error}", path.display()),
            "measure anew, without --redraw",
        )
    };
    serde_json::from_str(&text).map_err(not_own)
}

/// Measures all networks, each as soon as the one before is done.
fn rows(networks: &[&Bundled], arguments: &Arguments) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let bar = progress::bar("networks", networks.len() as u64);
    for bundled in networks {
        let network = bundled.network();
        let data = images(bundled, &network, &arguments.data)?;
        let count = arguments.images.unwrap_or(usize::MAX).clamp(1, data.labels.len());
        let (correct, _) = right(&network, &data, count)?;
        let subject = Subject {
            bundled,
            network: &network,
            data: &data,
            images: count,
            accuracy: 100.0 * correct as f64 / count as f64,
        };
        // Both rows are the same network: the baseline shows what the choice of widths saves.
        for straightforward in [false, true] {
            if straightforward && (arguments.no_baseline || width(bundled.name) != 4) {
                continue;
            }
            let row = measure(&subject, straightforward, arguments)?;
            if arguments.json {
                print_json(&row)?;
            }
            rows.push(row);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(rows)
}

/// The rows as files, for people and for programs.
fn write(rows: &[Row], folder: &Path) -> Result<()> {
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).map_err(|error| Error::file(&path, error))
    };
    write("widths.csv", &table::csv(rows))?;
    write("widths.txt", &table::text(rows, true))?;
    write("widths.json", &(serde_json::to_string_pretty(rows).map_err(Error::internal)? + "\n"))
}

/// Draws the pictures, and says where they are.
fn draw(rows: &[Row], folder: &Path) -> Result<()> {
    for path in plots::draw(rows, folder)? {
        tracing::info!("wrote {}", path.display());
    }
    warn(format_args!("table and pictures are in {}\n", folder.display()));
    Ok(())
}

/// A network, and what it reaches in the clear.
struct Subject<'a> {
    bundled: &'a Bundled,
    network: &'a Network,
    data: &'a Labelled,
    /// Images evaluated.
    images: usize,
    /// Percent.
    accuracy: f64,
}

/// Runs a network privately.
fn measure(subject: &Subject<'_>, straightforward: bool, arguments: &Arguments) -> Result<Row> {
    let &Subject { bundled, network, data, images, accuracy } = subject;
    let widths = if straightforward { Widths::Straightforward } else { Widths::Tight };
    let planned = planning::record(network, arguments.link.link, widths, Mode::default())?;
    let count = data.labels.len().min(arguments.count as usize);
    let (run, shaped) = runs(subject, straightforward, arguments, count)?;
    let offline = Stage::mean(&run.lines, |line| &line.stages.offline);
    let online = Stage::mean(&run.lines, |line| &line.stages.online);
    Ok(Row {
        network: format!("{}{}", bundled.name, if straightforward { " at 32 bits" } else { "" }),
        straightforward,
        bits: width(bundled.name),
        images,
        accuracy,
        private_images: count,
        mismatches: mismatches(network, data, &run.lines)?,
        layers: planned.layers.iter().filter_map(layer_row).collect(),
        hint_bytes: planned.total.hint_bytes,
        activations: planned.total.activations,
        setup: Stage::mean(&run.lines[..1], |line| &line.stages.setup),
        offline,
        online,
        lan_ms: over(Link::Lan, offline, online),
        wan_ms: over(Link::Wan, offline, online),
        lan_online_ms: online.over(Link::Lan),
        wan_online_ms: online.over(Link::Wan),
        shaped,
        client_peak_bytes: run.client_peak,
        server_peak_bytes: run.server_peak,
    })
}

/// A run over loopback, and the stages' times over a shaped link if one was asked for.
fn runs(
    subject: &Subject<'_>,
    straightforward: bool,
    arguments: &Arguments,
    count: usize,
) -> Result<(processes::Run, Option<Shaped>)> {
    let folder = tempfile::tempdir().map_err(|error| Error::file(&std::env::temp_dir(), error))?;
    let inputs = folder.path().join("inputs.npy");
    fs::write(&inputs, npy(subject.data, count)).map_err(|error| Error::file(&inputs, error))?;
    let run = |shape: Option<Link>| {
        processes::run(&processes::Task {
            model: subject.bundled.name,
            straightforward,
            link: arguments.link.link,
            shape,
            inputs: &inputs,
            count,
            cache: &folder.path().join(if shape.is_some() { "shaped" } else { "loopback" }),
        })
    };
    let loopback = run(None)?;
    let shaped = |link| -> Result<Shaped> {
        let lines = run(Some(link))?.lines;
        let of = |pick: fn(&processes::Line) -> &StageReport| Stage::mean(&lines, pick).ms;
        let (offline_ms, online_ms) = (of(|line| &line.stages.offline), of(|line| &line.stages.online));
        Ok(Shaped { link, offline_ms, online_ms })
    };
    Ok((loopback, arguments.shape.map(shaped).transpose()?))
}

/// How many private results are not those of the network in the clear.
fn mismatches(network: &Network, data: &Labelled, lines: &[processes::Line]) -> Result<usize> {
    let model = Model::from(network.clone());
    let mut mismatches = 0;
    for (input, line) in data.inputs.iter().zip(lines) {
        mismatches += usize::from(model.answer(&input)?.logits.as_ref() != Some(&line.logits));
    }
    Ok(mismatches)
}

/// The row of a linear layer; `None` of others.
fn layer_row(layer: &planning::Layer) -> Option<LayerRow> {
    layer.accumulator_bits.map(|bits| LayerRow {
        name: layer.name.clone(),
        accumulator_bits: Some(bits),
        ring_bits: layer.ring_bits,
        torus_bits: layer.torus_bits,
        degree: layer.degree,
        noise_margin_bits: layer.noise_margin_bits,
    })
}

/// The first `count` inputs as an NPY file of quantised values, as `lowkey infer` reads them.
fn npy(data: &Labelled, count: usize) -> Vec<u8> {
    let [channels, height, width] = data.inputs.shape();
    let header =
        format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({count}, {channels}, {height}, {width}), }}");
    // The header's length makes the data start at a multiple of 64.
    let header = format!("{header:<width$}\n", width = (header.len() + 11).next_multiple_of(64) - 11);
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(data.inputs.stored().take(count).flatten());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_survive_their_file() {
        let bundled = zoo::find("digits").unwrap();
        let (network, demo) = (bundled.network(), bundled.demo().unwrap());
        let data = Labelled { inputs: demo.inputs, labels: demo.labels.into_iter().map(u16::from).collect() };
        let bytes = npy(&data, 7);
        assert_eq!((bytes.len() - 7 * 64) % 64, 0);
        let read = lowkey_models::Inputs::from_bytes(&bytes, &network.architecture().input).unwrap();
        assert!(read.iter().eq(data.inputs.iter().take(7)));
    }
}
