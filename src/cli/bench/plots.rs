//! The width study as pictures.

use std::fs;
use std::path::{Path, PathBuf};

use lowkey::plan::Link;
use lowkey::report::{human_bytes, human_ms};
use lowkey::{Error, Result};
use lowkey_models::zoo;

use super::rows::{Row, Stage};
use crate::cli::plots::bars::{self, Bar, Chart, Column};
use crate::cli::plots::cells::{self, Cell};
use crate::cli::plots::families::{family, title};
use crate::cli::plots::panels::{self, Panel, Width};
use crate::cli::plots::svg::{BLUE, MINT, SKY};

/// Draws all of them into a folder; the files written.
pub fn draw(rows: &[Row], folder: &Path) -> Result<Vec<PathBuf>> {
    let pictures = [
        ("bytes", panels::draw(&accuracies(rows))),
        ("time", bars::draw(&times(rows))),
        ("stages", bars::draw(&stages(rows))),
        ("parameters", cells::draw(&parameters(rows))),
    ];
    let write = |(name, svg): (&str, String)| {
        let path = folder.join(format!("{name}.svg"));
        fs::write(&path, svg).map_err(|error| Error::file(&path, error))?;
        Ok(path)
    };
    pictures.into_iter().map(write).collect()
}

/// Rows by architecture, in their order.
fn families(rows: &[Row]) -> Vec<(&str, Vec<&Row>)> {
    let mut groups: Vec<(&str, Vec<&Row>)> = Vec::new();
    for row in rows {
        let name = family(row.network.trim_end_matches(" at 32 bits"));
        match groups.iter_mut().find(|(known, _)| *known == name) {
            Some((_, group)) => group.push(row),
            None => groups.push((name, vec![row])),
        }
    }
    groups
}

/// "w4" under its family.
fn short(row: &Row) -> String {
    if row.straightforward { format!("w{} at 32 bits", row.bits) } else { format!("w{}", row.bits) }
}

/// Bytes against accuracy.
fn accuracies(rows: &[Row]) -> Vec<Panel> {
    let panel = |(family, rows): (&str, Vec<&Row>)| {
        let mut panel = Panel::of(family);
        for row in &rows {
            if row.straightforward {
                panel.baseline = Some((row.bits, row.bytes()));
            } else {
                panel.widths.push(Width { bits: row.bits, bytes: row.bytes(), accuracy: row.accuracy });
            }
        }
        panel.widths.sort_by_key(|width| width.bits);
        let widest = rows.iter().filter(|row| !row.straightforward).max_by_key(|row| row.bits);
        panel.float = widest.and_then(|row| zoo::find(&row.network)).map(|bundled| bundled.float_percent());
        panel
    };
    families(rows).into_iter().map(panel).collect()
}

/// Bars of all rows.
fn groups(rows: &[Row], bars: impl Fn(&Row) -> Vec<Bar>) -> Vec<bars::Group> {
    let group = |(family, rows): (&str, Vec<&Row>)| bars::Group {
        title: title(family).to_owned(),
        rows: rows.into_iter().map(|row| bars::Row { name: short(row), bars: bars(row) }).collect(),
    };
    families(rows).into_iter().map(group).collect()
}

/// Milliseconds of both stages, over three links.
fn times(rows: &[Row]) -> Chart {
    let spread = rows.iter().all(|row| row.online.quartiles_ms.is_some());
    let over = |stage: Stage, link: Link| if link == Link::Loopback { stage.ms } else { stage.over(link) };
    let bar = |row: &Row, link: Link| {
        let offline = over(row.offline, link);
        let at = |ms: f64| over(Stage { ms, ..row.online }, link);
        match row.online.quartiles_ms {
            Some([low, median, high]) => {
                Bar { parts: vec![offline, at(median)], whisker: Some([low, high].map(|ms| offline + at(ms))) }
            }
            None => Bar { parts: vec![offline, at(row.online.ms)], whisker: None },
        }
    };
    let links = [(Link::Loopback, "loopback"), (Link::Lan, "LAN"), (Link::Wan, "WAN")];
    let how = if spread {
        "offline: mean, its share of the OT batches included; online: median, the whisker spans the middle half of the runs"
    } else {
        "means, the share of the OT batches included"
    };
    Chart {
        title: "How long a private answer takes".to_owned(),
        lines: vec![
            how.to_owned(),
            "loopback measured; LAN (3 Gbit/s, 0.3 ms round trip) and WAN (100 Mbit/s, 40 ms) computed from that, the bytes and the flights".to_owned(),
        ],
        parts: vec![("offline, before there is an image", SKY), ("online", BLUE)],
        columns: links.iter().map(|(_, name)| Column { title: (*name).to_owned(), show: human_ms }).collect(),
        groups: groups(rows, |row| links.iter().map(|(link, _)| bar(row, *link)).collect()),
    }
}

/// Bytes of both stages, and of the set-up.
fn stages(rows: &[Row]) -> Chart {
    let show = |bytes: f64| human_bytes(bytes as u64);
    let column = |title: &str| Column { title: title.to_owned(), show };
    Chart {
        title: "What a private answer sends".to_owned(),
        lines: vec!["both directions; oblivious transfers at their price, in the stage that consumes them".to_owned()],
        parts: vec![("offline, before there is an image", SKY), ("online", BLUE), ("set-up", MINT)],
        columns: vec![column("one inference"), column("set-up, once per session")],
        groups: groups(rows, |row| {
            let bar = |parts: Vec<f64>| Bar { parts, whisker: None };
            vec![bar(vec![row.offline.bytes, row.online.bytes]), bar(vec![0.0, 0.0, row.setup.bytes])]
        }),
    }
}

/// Parameters of all layers.
fn parameters(rows: &[Row]) -> Vec<cells::Group> {
    let cells = |row: &Row| {
        let cell = |layer: &super::rows::LayerRow| Cell {
            accumulator_bits: layer.accumulator_bits,
            set: layer.torus_bits.zip(layer.degree),
        };
        row.layers.iter().map(cell).collect()
    };
    let group = |(family, rows): (&str, Vec<&Row>)| cells::Group {
        title: title(family).to_owned(),
        rows: rows.into_iter().map(|row| cells::Row { name: short(row), cells: cells(row) }).collect(),
    };
    families(rows).into_iter().map(group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn earlier() -> Vec<Row> {
        serde_json::from_str(include_str!("../../../benches/results/mnist/widths.json")).unwrap()
    }

    #[test]
    fn rows_are_grouped_by_architecture() {
        let rows = earlier();
        let groups = families(&rows);
        assert_eq!(
            groups.iter().map(|(name, rows)| (*name, rows.len())).collect::<Vec<_>>(),
            [("mnist-cryptonets", 7), ("mnist-hcnn", 7), ("mnist-minionn", 7)]
        );
        let panels = accuracies(&rows);
        assert!(
            panels.iter().all(|panel| panel.widths.len() == 6 && panel.baseline.is_some_and(|(bits, _)| bits == 4))
        );
        assert_eq!(panels[2].float, Some(99.43));
    }

    /// The middle of the runs, and a whisker about it; a link adds to both.
    #[test]
    fn bars_end_at_the_median() {
        let mut rows = earlier();
        rows.truncate(1);
        rows[0].offline = Stage { ms: 3.0, bytes: 0.0, flights: 0.0, quartiles_ms: None };
        rows[0].online = Stage { ms: 50.0, bytes: 0.0, flights: 10.0, quartiles_ms: Some([1.0, 2.0, 4.0]) };
        let chart = times(&rows);
        let bars = &chart.groups[0].rows[0].bars;
        assert_eq!((&bars[0].parts, bars[0].whisker), (&vec![3.0, 2.0], Some([4.0, 7.0])));
        assert_eq!((&bars[2].parts, bars[2].whisker), (&vec![3.0, 202.0], Some([204.0, 207.0])));
    }
}
