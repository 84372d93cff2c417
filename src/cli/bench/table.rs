//! The width study as a table: for the terminal, as CSV, as JSON.

use std::fmt::Write;

use lowkey::report::{human_bytes, human_ms};

use super::rows::Row;

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

/// For people.
pub fn text(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<36} {:>8} {:>4} {:>17} {:>6} {:>9} {:>9} {:>8} {:>8} {:>9} {:>9} {:>7} {:>8} {:>8} {:>11}\n",
        "network",
        "accuracy",
        "acc",
        "torus/N",
        "margin",
        "hint",
        "setup",
        "offline",
        "online",
        "bytes",
        "per act.",
        "flights",
        "LAN",
        "WAN",
        "peak MB"
    );
    for row in rows {
        let wrong = match row.mismatches {
            0 => String::new(),
            n => format!("  {n} of {} DIFFER from the plaintext network", row.private_images),
        };
        let _ = writeln!(
            text,
            "{:<36} {:>6.2} % {:>4} {:>17} {:>6} {:>9} {:>9} {:>8} {:>8} {:>9} {:>7.1} B {:>7.0} {:>8} {:>8} {:>11}{wrong}",
            row.network,
            row.accuracy,
            accumulator(row).map_or(String::new(), |bits| bits.to_string()),
            sets(row),
            margin(row).map_or(String::new(), |bits| format!("{bits:.2}")),
            human_bytes(row.hint_bytes),
            human_bytes(row.setup.bytes as u64),
            human_ms(row.offline.ms),
            human_ms(row.online.ms),
            human_bytes(row.bytes() as u64),
            row.bytes() / row.activations as f64,
            row.online.flights,
            human_ms(row.lan_ms),
            human_ms(row.wan_ms),
            format!("{} / {}", mega(row.client_peak_bytes), mega(row.server_peak_bytes)),
        );
    }
    for (row, shaped) in rows.iter().filter_map(|row| Some((row, row.shaped?))) {
        let _ = writeln!(
            text,
            "{:<36} measured over {}: offline {}, online {}",
            row.network,
            shaped.link,
            human_ms(shaped.offline_ms),
            human_ms(shaped.online_ms)
        );
    }
    text
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
