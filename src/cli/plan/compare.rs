//! `lowkey plan --compare`: what other widths of the same architecture would take.
//!
//! Of a bundled network its family's members are planned. Of another network the same layers are planned at other widths: weights
//! and biases are scaled, so that bytes and flights are right within the bit or two that trained weights of that width would
//! differ by; such a network answers nothing of use.

use lowkey::planner::Widths;
use lowkey::report::{human_bytes, human_ms};
use lowkey::{Error, Link, Result};
use lowkey_models::{Network, zoo};
use serde::Serialize;

use super::rescaled::rescaled;
use super::{Record, record};
use crate::cli::table::{Table, number, text as words};
use crate::cli::{Mode, names};

/// One width.
#[derive(Serialize)]
pub struct Row {
    pub bits: u32,
    /// The network's own width.
    pub given: bool,
    /// Percent, of a bundled network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    #[serde(flatten)]
    pub record: Record,
}

/// The family and the width of "mnist-hcnn-w4a4".
fn family(name: &str) -> Option<(&str, u32)> {
    let (family, widths) = name.rsplit_once("-w")?;
    let (weights, activations) = widths.split_once('a')?;
    let [weights, activations] = [weights, activations].map(|bits| bits.parse::<u32>().ok());
    Some((family, weights.filter(|_| weights == activations)?))
}

/// Plans `network` at each of some widths, in their order.
pub fn rows(network: &Network, widths: &[u32], link: Link, mode: Mode) -> Result<Vec<Row>> {
    let name = network.architecture().name.as_str();
    let bundled = |bits: u32| {
        let (family, _) = family(name).filter(|_| zoo::find(name).is_some())?;
        Some(format!("{family}-w{bits}a{bits}"))
    };
    let own = super::rescaled::width(network.architecture());
    let one = |&bits: &u32| -> Result<Row> {
        let plan = |network: &Network| record(network, link, Widths::Tight, mode);
        match bundled(bits) {
            Some(member) => {
                let found = zoo::find(&member).ok_or_else(|| names::unknown_member(&member))?;
                let mut record = plan(&found.network())?;
                record.model = member;
                let accuracy = Some(found.accuracy().percent());
                Ok(Row { bits, given: record.model == name, accuracy, record })
            }
            None => {
                let mut record = match own == Some(bits) {
                    true => plan(network)?,
                    false => plan(&rescaled(network, bits).map_err(|why| {
                        let hint = "train or quantise the network at that width, and plan its file";
                        Error::usage(format!("{name} cannot be planned at {bits} bits: {why}"), hint)
                    })?)?,
                };
                record.model = format!("{name} at {bits} bits");
                Ok(Row { bits, given: own == Some(bits), accuracy: None, record })
            }
        }
    };
    widths.iter().map(one).collect()
}

/// For people.
pub fn text(rows: &[Row]) -> String {
    let mut table = Table::new(&[
        words("network"),
        number("accuracy"),
        number("offline").drop(2),
        number("online").drop(3),
        number("both"),
        number("flights").drop(1),
        number("loopback"),
        number("LAN"),
        number("WAN"),
        number("hint").drop(4),
    ]);
    for row in rows {
        let (total, estimate) = (&row.record.total, &row.record.estimate);
        let both = |times: super::Times| human_ms(times.offline_ms + times.online_ms);
        table.row([
            format!("{}{}", row.record.model, if row.given { " *" } else { "" }),
            row.accuracy.map_or(String::new(), |percent| format!("{percent:.2} %")),
            human_bytes(total.offline_bytes),
            human_bytes(total.online_bytes),
            human_bytes(total.offline_bytes + total.online_bytes),
            total.flights.to_string(),
            both(estimate.loopback),
            both(estimate.lan),
            both(estimate.wan),
            human_bytes(total.hint_bytes),
        ]);
    }
    let mut text = table.for_terminal();
    text += "\nper inference; times are estimates, offline and online together";
    if rows.iter().any(|row| row.given) {
        text += "; * as given";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_read_from_names() {
        assert_eq!(family("mnist-hcnn-w4a4"), Some(("mnist-hcnn", 4)));
        assert_eq!(family("digits"), None);
        assert_eq!(family("mine-w4a8"), None);
    }
}
