//! The width study as a table: for the terminal, as CSV, as JSON.

use std::fmt::Write;

use lowkey::report::{human_bytes, human_ms};

use super::rows::Row;
use crate::cli::plan::noise;
use crate::cli::table::{Table, number, text as words};
use crate::cli::terminal::Paint;

/// The widest accumulator.
fn accumulator(row: &Row) -> Option<u32> {
    row.layers.iter().filter_map(|layer| layer.accumulator_bits).max()
}

/// The parameter sets in use, "32/1024+64/2048".
fn sets(row: &Row) -> String {
    let mut sets: Vec<(u32, usize)> =
        row.layers.iter().filter_map(|layer| Some((layer.torus_bits?, layer.degree?))).collect();
    sets.sort_unstable();
    sets.dedup();
    sets.iter().map(|(torus, degree)| format!("{torus}/{degree}")).collect::<Vec<_>>().join("+")
}

/// The smallest margin.
fn margin(row: &Row) -> Option<f64> {
    row.layers.iter().filter_map(|layer| layer.noise_margin_bits).min_by(f64::total_cmp)
}

fn mega(bytes: Option<u64>) -> String {
    bytes.map_or(String::new(), |bytes| format!("{:.0}", bytes as f64 / 1e6))
}

/// For people: at the terminal's width, or whole.
pub fn text(rows: &[Row], whole: bool) -> String {
    let table = table(rows);
    let mut text = if whole { table.whole() } else { table.for_terminal() };
    text.push('\n');
    for row in rows.iter().filter(|row| row.mismatches > 0) {
        let (wrong, of) = (row.mismatches, row.private_images);
        let _ = writeln!(text, "{}: {wrong} of {of} DIFFER from the plaintext network", row.network);
    }
    for (row, shaped) in rows.iter().filter_map(|row| Some((row, row.shaped?))) {
        let _ = writeln!(
            text,
            "{} measured over {}: offline {}, online {}",
            row.network,
            shaped.link,
            human_ms(shaped.offline_ms),
            human_ms(shaped.online_ms)
        );
    }
    text
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(&[
        words("network"),
        number("accuracy"),
        number("offline"),
        number("online"),
        number("bytes"),
        number("B/act."),
        number("LAN"),
        number("WAN"),
        number("flights").drop(6),
        number("setup").drop(5),
        number("hint").drop(4),
        number("sums").drop(3),
        number("lattice").drop(1),
        number("noise").drop(2),
        number("client MB").drop(7),
        number("server MB").drop(8),
    ]);
    for row in rows {
        // It stands under the row that it is compared with.
        let network = if row.straightforward { "  the same at 32 bits" } else { &row.network };
        table.painted(
            [
                network.to_owned(),
                format!("{:.2} %", row.accuracy),
                human_ms(row.offline.ms),
                human_ms(row.online.ms),
                human_bytes(row.bytes() as u64),
                format!("{:.1}", row.bytes() / row.activations as f64),
                human_ms(row.lan_ms),
                human_ms(row.wan_ms),
                format!("{:.0}", row.online.flights),
                human_bytes(row.setup.bytes as u64),
                human_bytes(row.hint_bytes),
                accumulator(row).map_or(String::new(), |bits| bits.to_string()),
                sets(row),
                margin(row).map_or(String::new(), noise),
                mega(row.client_peak_bytes),
                mega(row.server_peak_bytes),
            ],
            (row.mismatches > 0).then_some(Paint::Red),
        );
    }
    table
}

/// For spreadsheets: one line per network, named columns, no units in cells.
pub fn csv(rows: &[Row]) -> String {
    let mut text = "network,straightforward,bits,accuracy_percent,images,private_images,mismatches,accumulator_bits,torus_degree,\
                    noise_margin_bits,hint_bytes,activations,setup_bytes,setup_ms,offline_bytes,offline_ms,online_bytes,online_ms,\
                    online_flights,lan_ms,wan_ms,lan_online_ms,wan_online_ms,shape,shaped_offline_ms,shaped_online_ms,\
                    client_peak_bytes,server_peak_bytes\n"
        .to_owned();
    for row in rows {
        let bits: Vec<String> =
            row.layers.iter().filter_map(|layer| layer.accumulator_bits).map(|bits| bits.to_string()).collect();
        let cells = [
            row.network.clone(),
            row.straightforward.to_string(),
            row.bits.to_string(),
            format!("{:.2}", row.accuracy),
            row.images.to_string(),
            row.private_images.to_string(),
            row.mismatches.to_string(),
            bits.join(" "),
            sets(row),
            margin(row).map_or(String::new(), |bits| format!("{bits:.3}")),
            row.hint_bytes.to_string(),
            row.activations.to_string(),
            format!("{:.0}", row.setup.bytes),
            format!("{:.3}", row.setup.ms),
            format!("{:.0}", row.offline.bytes),
            format!("{:.3}", row.offline.ms),
            format!("{:.0}", row.online.bytes),
            format!("{:.3}", row.online.ms),
            format!("{:.0}", row.online.flights),
            format!("{:.3}", row.lan_ms),
            format!("{:.3}", row.wan_ms),
            format!("{:.3}", row.lan_online_ms),
            format!("{:.3}", row.wan_online_ms),
            row.shaped.map_or(String::new(), |shaped| shaped.link.to_string()),
            row.shaped.map_or(String::new(), |shaped| format!("{:.3}", shaped.offline_ms)),
            row.shaped.map_or(String::new(), |shaped| format!("{:.3}", shaped.online_ms)),
            row.client_peak_bytes.map_or(String::new(), |bytes| bytes.to_string()),
            row.server_peak_bytes.map_or(String::new(), |bytes| bytes.to_string()),
        ];
        text += &cells.join(",");
        text.push('\n');
    }
    text
}
