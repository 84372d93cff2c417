//! A plan for people.

use lowkey::report::human_bytes;

use super::{Layer, Record};
use crate::cli::table::{Table, number, text as words};

/// All of it.
pub fn text(record: &Record) -> String {
    let mut lines = vec![format!("{}, planned for {}", record.model, record.link)];
    lines.extend(record.rounding.as_ref().map(|rounding| format!("rounding: {rounding}")));
    lines.push(format!("input: {}\noutput: {}", record.lines[0], record.lines[1]));
    lines.push(layers(&record.layers));
    let total = &record.total;
    lines.push(format!(
        "per inference: {} offline, {} online in {} flights, {} activations",
        human_bytes(total.offline_bytes),
        human_bytes(total.online_bytes),
        total.flights,
        total.activations
    ));
    lines.push(format!(
        "once: setup {}, of it the hint {}",
        human_bytes(total.setup_bytes),
        human_bytes(total.hint_bytes)
    ));
    lines.join("\n")
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
            human_bytes(layer.offline_bytes),
            human_bytes(layer.online_bytes),
        ]);
    }
    table.for_terminal()
}

/// How much of the noise that it may have a layer has, of its margin in bits.
pub fn noise(margin: f64) -> String {
    format!("{:.0} %", 100.0 * (-margin).exp2())
}
