//! `lowkey models`: the bundled networks, what they reach and what they cost.

use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::Args;
use lowkey::plan::{PlanError, planner, predict};
use lowkey::report::human_bytes;
use lowkey::{Link, Result, Reveal, Schedule};
use lowkey_models::zoo::{self, Bundled};
use lowkey_mpc::party::Stage;
use serde::Serialize;

use super::plan::stage_bytes;
use super::table::{Table, number, text};
use super::{LinkArgument, print_json, say};

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    link: LinkArgument,
    /// Print one JSON object per model instead of a table.
    #[arg(long)]
    json: bool,
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
    let rows = rows(arguments.link.link)?;
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

/// All bundled networks, in their order.
fn rows(link: Link) -> Result<Vec<Row>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(zoo::ALL.len());
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<(usize, Row)>> {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(bundled) = zoo::ALL.get(index) else { return Ok(done) };
            done.push((index, row(bundled, link)?));
        }
    };
    let mut rows = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().expect("no panics")).collect::<Result<Vec<_>>>()
    })?;
    let mut rows: Vec<(usize, Row)> = rows.drain(..).flatten().collect();
    rows.sort_by_key(|(index, _)| *index);
    Ok(rows.into_iter().map(|(_, row)| row).collect())
}

fn row(bundled: &Bundled, link: Link) -> Result<Row> {
    let network = bundled.network();
    let plan = planner::plan(&network.folded().map_err(PlanError::from)?, link)?;
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
