//! `lowkey models`: the bundled networks, what they reach and what they cost; or the models of a server.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::Args;
use lowkey::cost::predict;
use lowkey::plan::{Plan, PlanError};
use lowkey::planner::{self, Target, Widths};
use lowkey::report::human_bytes;
use lowkey::{Error, Link, Result, Reveal, Schedule};
use lowkey_models::Network;
use lowkey_models::zoo::{self, Bundled};
use lowkey_mpc::party::Stage;
use serde::Serialize;

use super::infer::TrustArguments;
use super::plan::stage_bytes;
use super::plots::families::{family, width};
use super::plots::panels::{self, Panel, Width};
use super::table::{Table, number, text};
use super::{LinkArgument, Places, TimeoutArgument, model, print_json, progress, say};

mod cheaper;
mod offered;

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    link: LinkArgument,
    /// List the models of this server instead, host:port.
    #[arg(long, value_name = "ADDR")]
    server: Option<String>,
    #[command(flatten)]
    trust: TrustArguments,
    #[command(flatten)]
    places: Places,
    #[command(flatten)]
    timeout: TimeoutArgument,
    /// Print one JSON object per model instead of a table.
    #[arg(long)]
    json: bool,
    /// Draw bytes against accuracy into an SVG file instead, beside the same networks at 32-bit integers.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["json", "server"])]
    plot: Option<PathBuf>,
    /// Draw the networks of this file instead, which were made cheaper, beside the bundled ones that they come from.
    #[arg(long, value_name = "FILE", requires = "plot")]
    cheaper: Option<PathBuf>,
}

#[derive(Serialize)]
struct Row {
    name: &'static str,
    /// Channels, height, width.
    input: [usize; 3],
    input_bits: u32,
    /// Percent of `images` test images.
    accuracy: f64,
    images: usize,
    /// Of the model's file.
    file_bytes: usize,
    activations: usize,
    /// Per inference, both directions, prepared.
    offline_bytes: u64,
    online_bytes: u64,
    flights: u64,
    /// Whether images come with it.
    images_bundled: bool,
}

pub fn run(arguments: Arguments) -> Result<ExitCode> {
    if let Some(server) = &arguments.server {
        return offered::run(server, &arguments);
    }
    if let Some(option) = arguments.trust.given() {
        return Err(Error::usage(
            format!("{option} is about a server, and none is named"),
            "name it with --server ADDR, or leave that out for the bundled models",
        ));
    }
    model::writable(&arguments.plot)?;
    if let (Some(path), Some(cheaper)) = (&arguments.plot, &arguments.cheaper) {
        model::spare(Some(path), &[cheaper])?;
    }
    let every = || rows(&zoo::ALL.iter().collect::<Vec<_>>(), arguments.link.link);
    if let Some(path) = &arguments.plot {
        let panels = match &arguments.cheaper {
            None => panels(&every()?, arguments.link.link)?,
            Some(file) => cheaper::panels(file)?,
        };
        let svg = panels::draw(&panels);
        fs::write(path, svg).map_err(|error| Error::file(path, error))?;
        say(format_args!("wrote {}", path.display()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows = every()?;
    if arguments.json {
        rows.iter().try_for_each(print_json)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&[
        text("model"),
        text("input").drop(3),
        number("accuracy"),
        number("file").drop(2),
        number("activations").drop(1),
        number("bytes"),
        number("flights"),
    ]);
    for row in &rows {
        let [channels, height, width] = row.input;
        table.row([
            row.name.to_owned(),
            format!("{channels}x{height}x{width}"),
            format!("{:.2} %", row.accuracy),
            human_bytes(row.file_bytes as u64),
            row.activations.to_string(),
            human_bytes(row.offline_bytes + row.online_bytes),
            row.flights.to_string(),
        ]);
    }
    say(table.for_terminal())?;
    say(format_args!("bytes and flights of one inference, planned for {}", arguments.link.link))?;
    say("images come with digits alone; `lowkey plan NAME` has the layers")?;
    Ok(ExitCode::SUCCESS)
}

/// Bundled networks, in their order.
fn rows(networks: &[&Bundled], link: Link) -> Result<Vec<Row>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(networks.len());
    let next = AtomicUsize::new(0);
    let bar = progress::bar("planning", networks.len() as u64);
    let work = || -> Result<Vec<(usize, Row)>> {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(bundled) = networks.get(index) else { return Ok(done) };
            done.push((index, row(bundled, link)?));
            bar.inc(1);
        }
    };
    let mut rows = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().expect("no panics")).collect::<Result<Vec<_>>>()
    })?;
    bar.finish_and_clear();
    let mut rows: Vec<(usize, Row)> = rows.drain(..).flatten().collect();
    rows.sort_by_key(|(index, _)| *index);
    Ok(rows.into_iter().map(|(_, row)| row).collect())
}

fn row(bundled: &Bundled, link: Link) -> Result<Row> {
    let network = bundled.network();
    let plan = plan(&network, link.into())?;
    let prediction = predict(&plan, Schedule::Prepared, Reveal::Logits);
    let input = &network.architecture().input;
    let accuracy = bundled.accuracy();
    Ok(Row {
        name: bundled.name,
        input: input.shape,
        input_bits: input.bits,
        accuracy: accuracy.percent(),
        images: accuracy.images,
        file_bytes: bundled.file().len(),
        activations: plan.activations(),
        offline_bytes: stage_bytes(&prediction, Stage::Offline, Schedule::Prepared),
        online_bytes: stage_bytes(&prediction, Stage::Online, Schedule::Prepared),
        flights: prediction.flights(Stage::Online, &[]),
        images_bundled: bundled.demo().is_some(),
    })
}

fn plan(network: &Network, target: Target) -> Result<Plan> {
    Ok(planner::plan(&network.folded().map_err(PlanError::from)?, target)?)
}

/// Panels of the architectures that are there at several widths, and what 32-bit integers would take at four bits.
fn panels(rows: &[Row], link: Link) -> Result<Vec<Panel>> {
    let mut panels: Vec<(&str, Panel)> = Vec::new();
    let bar = progress::bar("planning at 32 bits", rows.iter().filter(|row| width(row.name) == 4).count() as u64);
    for row in rows {
        let (family, bits) = (family(row.name), width(row.name));
        let bytes = (row.offline_bytes + row.online_bytes) as f64;
        if panels.last().is_none_or(|(last, _)| *last != family) {
            panels.push((family, Panel::of(family)));
        }
        let bundled = zoo::find(row.name).expect("rows are of bundled networks");
        let panel = &mut panels.last_mut().expect("one was pushed").1;
        panel.widths.push(Width { bits, bytes, accuracy: row.accuracy });
        // That of the widest, which come last.
        panel.float = Some(bundled.float_percent());
        if bits == 4 {
            let plan = plan(&bundled.network(), Target { link, widths: Widths::Straightforward })?;
            let prediction = predict(&plan, Schedule::Prepared, Reveal::Logits);
            let bytes = |stage| stage_bytes(&prediction, stage, Schedule::Prepared);
            panel.baseline = Some((bits, (bytes(Stage::Offline) + bytes(Stage::Online)) as f64));
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok(panels.into_iter().map(|(_, panel)| panel).filter(|panel| panel.widths.len() > 1).collect())
}
