//! A plan for people.

use lowkey::report::{human_bytes, human_ms};

use super::{Estimate, Layer, Record, Times};
use crate::cli::table::{Table, number, text as words};

/// All of it.
pub fn text(record: &Record) -> String {
    let mut lines = vec![format!("{}, planned for {}", record.model, record.link)];
    lines.extend(
        record.rounding.as_ref().map(|rounding| format!("rounding: {}", rounding.replace("; ", "\nrounding: "))),
    );
    lines.push(format!("input: {}\noutput: {}", record.lines[0], record.lines[1]));
    lines.push(layers(&record.layers));
    let total = &record.total;
    lines.push(format!(
        "per inference: {} offline, {} online, {} flights, {} activations",
        human_bytes(total.offline_bytes),
        human_bytes(total.online_bytes),
        total.flights,
        total.activations
    ));
    if let Some(tossed) = record.tossed {
        lines.push(format!("rounded by coins of the client: {tossed} activations (docs/quantise.md)"));
    }
    if let Some(guarded) = &record.guarded {
        lines.push(format!(
            "guarded: {} for the slot that is used, {} for each opened before it,\n  one on average",
            human_bytes(guarded.slot_bytes),
            human_bytes(guarded.opened_bytes)
        ));
    }
    lines.push(format!(
        "once: setup {}, of it the hint {}",
        human_bytes(total.setup_bytes),
        human_bytes(total.hint_bytes)
    ));
    lines.push(String::new());
    lines.push(estimates(&record.estimate, record.guarded.is_some()));
    let memory = &record.memory;
    lines.push(format!(
        "a session at a server: up to {}, working {} more, {} per slot",
        human_bytes(memory.session),
        human_bytes(memory.work),
        human_bytes(memory.slot)
    ));
    lines.join("\n")
}

/// Seconds and memory; of guarded sessions that is a bound, for batches of triples are rarely whole.
fn estimates(estimate: &Estimate, guarded: bool) -> String {
    let mut table = Table::new(&[words("estimated"), number("loopback"), number("LAN"), number("WAN")]);
    let links = [estimate.loopback, estimate.lan, estimate.wan];
    let row = |name: &str, pick: fn(Times) -> f64| {
        let [loopback, lan, wan] =
            links.map(|times| if pick(times) > 0.0 { human_ms(pick(times)) } else { "-".into() });
        [name.to_owned(), loopback, lan, wan]
    };
    table.row(row("offline", |times| times.offline_ms));
    table.row(row("online", |times| times.online_ms));
    let memory = |bytes| format!("{:.0} MB", bytes as f64 / 1e6);
    format!(
        "{}\nmemory at its peak{}: client {}, server {}",
        table.for_terminal(),
        if guarded { ", at most" } else { "" },
        memory(estimate.client_memory_bytes),
        memory(estimate.server_memory_bytes)
    )
}

fn layers(layers: &[Layer]) -> String {
    let mut table = Table::new(&[
        words("layer"),
        words("kind").drop(5),
        number("sums").drop(4),
        number("ring").drop(3),
        number("lattice").drop(6),
        number("wire").drop(1),
        number("noise").drop(2),
        number("activations"),
        number("offline"),
        number("online"),
    ]);
    let bytes = |bytes: u64| if bytes > 0 { human_bytes(bytes) } else { "-".to_owned() };
    let number = |value: Option<u64>| value.map_or(String::new(), |value| value.to_string());
    for layer in layers {
        table.row([
            layer.name.clone(),
            layer.kind.to_owned(),
            number(layer.accumulator_bits.map(u64::from)),
            layer.ring_bits.to_string(),
            layer.torus_bits.zip(layer.degree).map_or(String::new(), |(torus, degree)| format!("{torus}/{degree}")),
            number(layer.wire_bits.map(u64::from)),
            layer.noise_margin_bits.map_or(String::new(), noise),
            number(Some(layer.activations as u64).filter(|&n| n > 0)),
            bytes(layer.offline_bytes),
            bytes(layer.online_bytes),
        ]);
    }
    table.for_terminal()
}

/// How much of the noise that it may have a layer has, of its margin in bits.
pub fn noise(margin: f64) -> String {
    format!("{:.0} %", 100.0 * (-margin).exp2())
}
