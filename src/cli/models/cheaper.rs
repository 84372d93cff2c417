//! Networks that were made cheaper, as a study found them, beside the bundled ones that they come from.

use std::path::Path;

use lowkey::{Error, Link, Result};
use lowkey_models::regular;
use lowkey_models::zoo::{self, Bundled};
use serde::Deserialize;

use super::super::plots::families::{family, width};
use super::super::plots::panels::{Cheaper, Panel, Way, Width};
use super::rows;

/// A network: a record of `benches/results/choice/networks.json`.
#[derive(Deserialize)]
struct Network {
    /// The bundled network that it was made from.
    from: String,
    /// The line that it is planned for.
    link: String,
    way: Way,
    /// Of an inference for that line, offline and online.
    bytes: u64,
    /// Right answers.
    right: u32,
    /// Of so many test images.
    images: u32,
}

/// A panel for each family and line, in order of the file.
pub fn panels(file: &Path) -> Result<Vec<Panel>> {
    let text = regular::open(file).and_then(std::io::read_to_string).map_err(|error| Error::file(file, error))?;
    let wrong = |why: String| {
        let expected = "it is a list like benches/results/choice/networks.json";
        Error::usage(format!("{}: {why}", file.display()), expected)
    };
    let networks: Vec<Network> = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    let mut panels: Vec<(&str, Link, Panel)> = Vec::new();
    for network in &networks {
        let link: Link = network.link.parse().map_err(|_| wrong(format!("there is no line {:?}", network.link)))?;
        if zoo::find(&network.from).is_none() {
            return Err(wrong(format!("{:?} is not bundled", network.from)));
        }
        if network.images == 0 || network.right > network.images || network.bytes == 0 {
            return Err(wrong(format!(
                "{} of {} images right in {} bytes",
                network.right, network.images, network.bytes
            )));
        }
        let own = family(&network.from);
        let place = panels.iter().position(|(family, other, _)| *family == own && *other == link);
        let panel = match place {
            Some(place) => &mut panels[place].2,
            None => {
                panels.push((own, link, panel(own, link)?));
                &mut panels.last_mut().expect("one was pushed").2
            }
        };
        let one = Cheaper {
            bytes: network.bytes as f64,
            accuracy: 100.0 * f64::from(network.right) / f64::from(network.images),
        };
        match panel.cheaper.iter_mut().find(|(way, _)| *way == network.way) {
            Some((_, others)) => others.push(one),
            None => panel.cheaper.push((network.way, vec![one])),
        }
    }
    for (_, _, panel) in &mut panels {
        panel.cheaper.sort_by_key(|(way, _)| *way);
        panel.cheaper.iter_mut().for_each(|(_, networks)| networks.sort_by(|a, b| a.bytes.total_cmp(&b.bytes)));
    }
    Ok(panels.into_iter().map(|(_, _, panel)| panel).collect())
}

/// The bundled networks of a family, planned for a line.
fn panel(own: &str, link: Link) -> Result<Panel> {
    let bundled: Vec<&Bundled> = zoo::ALL.iter().filter(|network| family(network.name) == own).collect();
    let mut panel = Panel { peer: None, ..Panel::of(own) };
    panel.title = format!("{}, {link}", panel.title);
    for row in rows(&bundled, link)? {
        let bytes = (row.offline_bytes + row.online_bytes) as f64;
        panel.widths.push(Width { bits: width(row.name), bytes, accuracy: row.accuracy });
    }
    Ok(panel)
}
