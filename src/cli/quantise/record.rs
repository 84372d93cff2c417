//! What `lowkey quantise` says.

use std::collections::BTreeMap;
use std::fmt::Write;

use lowkey::planner::Widths;
use lowkey::report::human_bytes;
use lowkey::{Link, Model, Result};
use lowkey_models::ptq::{Layer, Settings};
use lowkey_models::{LinearBounds, Network, Node};
use serde::Serialize;

use super::super::eval::Wrapped;
use super::super::table::{Table, number, text as words};
use super::super::{Mode, plan};
use super::before::Before;

/// How often the two networks are right, and agree.
#[derive(Clone, Debug, Serialize)]
pub struct Accuracy {
    pub images: usize,
    /// The network that was given is right, where there are labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<usize>,
    /// The one that was made is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<usize>,
    /// Both have the same class.
    pub same: usize,
    /// Of a network that declares rings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wraps: Option<Wrapped>,
}

/// A layer with a declared ring.
#[derive(Clone, Debug, Serialize)]
struct Ring {
    name: String,
    /// The widest of its channels.
    ring_bits: u32,
    /// What the weights would need.
    worst_bits: u32,
}

/// What a link carries for one inference.
#[derive(Clone, Debug, Serialize)]
pub struct Cost {
    pub link: String,
    /// Both directions, OTs included at their price.
    pub offline_bytes: u64,
    pub online_bytes: u64,
    pub flights: u64,
    pub activations: usize,
}

impl Cost {
    fn bytes(&self) -> u64 {
        self.offline_bytes + self.online_bytes
    }
}

#[derive(Clone, Debug, Serialize)]
struct Row {
    name: String,
    /// Smallest and largest; the layer that is the answer has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    shift: Option<[u32; 2]>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    multipliers: Vec<i64>,
    /// Mean square of what is off, over that of the layer's results.
    error: f64,
}

#[derive(Clone, Debug, Serialize)]
pub struct Record {
    model: String,
    /// Where the integers are new.
    #[serde(skip_serializing_if = "Option::is_none")]
    bits: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel_shifts: Option<bool>,
    calibrated_on: usize,
    input: String,
    output: String,
    layers: Vec<Row>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rings: Vec<Ring>,
    #[serde(skip_serializing_if = "Option::is_none")]
    accuracy: Option<Accuracy>,
    accumulator_bits: u32,
    costs: Vec<Cost>,
    /// Of the network that was given, if it has integers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    costs_before: Vec<Cost>,
    notes: Vec<String>,
}

/// What a model costs over each link.
pub fn costs(model: &Model) -> Result<Vec<Cost>> {
    let cost = |link: &str| -> Result<Cost> {
        let link: Link = link.parse().map_err(lowkey::Error::internal)?;
        let total = plan::record(model.network(), link, Widths::Tight, Mode::default())?.total;
        let (offline_bytes, online_bytes) = (total.offline_bytes, total.online_bytes);
        Ok(Cost {
            link: link.to_string(),
            offline_bytes,
            online_bytes,
            flights: total.flights,
            activations: total.activations,
        })
    };
    ["lan", "metered"].into_iter().map(cost).collect()
}

/// The declared rings of a network, as its plan has them: shifts are folded.
fn rings(network: &Network) -> Result<Vec<Ring>> {
    let failed = |error| lowkey::Error::Model(Box::new(error));
    let folded = network.folded().map_err(failed)?;
    let plain = folded.with_rings(BTreeMap::new()).map_err(failed)?;
    let bits = |bounds: &Option<LinearBounds>| bounds.as_ref().map_or(0, LinearBounds::accumulator_bits);
    let nodes = folded.architecture().nodes.iter().zip(folded.bounds()).zip(plain.bounds()).enumerate();
    let ringed = nodes.filter(|(index, _)| folded.architecture().ring(*index).is_some());
    let ring = |(_, ((node, own), plain)): (usize, ((&Node, _), _))| Ring {
        name: node.name.clone(),
        ring_bits: bits(&own),
        worst_bits: bits(&plain),
    };
    Ok(ringed.map(ring).collect())
}

impl Record {
    /// Plans the network, too: what is written can run.
    pub fn new(
        model: &Model,
        before: &Before,
        settings: Option<Settings>,
        samples: usize,
        accuracy: Option<Accuracy>,
        layers: &[Layer],
        notes: Vec<String>,
    ) -> Result<Record> {
        let row = |layer: &Layer| Row {
            name: layer.name.clone(),
            shift: layer.shifts.iter().min().zip(layer.shifts.iter().max()).map(|(&least, &most)| [least, most]),
            multipliers: layer.multipliers.clone(),
            error: layer.error,
        };
        let bounds = model.network().bounds();
        Ok(Record {
            model: model.name().to_owned(),
            bits: settings.map(|settings| settings.bits),
            channel_shifts: settings.map(|settings| settings.channel_shifts),
            calibrated_on: samples,
            input: model.input_line(),
            output: model.output_line(),
            layers: layers.iter().map(row).collect(),
            rings: rings(model.network())?,
            accuracy,
            accumulator_bits: bounds.iter().flatten().map(|bounds| bounds.accumulator_bits()).max().unwrap_or(0),
            costs: costs(model)?,
            costs_before: before.whole.as_ref().map(costs).transpose()?.unwrap_or_default(),
            notes,
        })
    }

    /// The same for people.
    pub fn text(&self) -> String {
        let bits = self.bits.map(|bits| format!("{bits} bits, ")).unwrap_or_default();
        let mut text = format!("{}: {bits}calibrated on {} images\n", self.model, self.calibrated_on);
        let mut table =
            Table::new(&[words("layer"), number("shift"), number("skips").drop(2), number("off by").drop(1)]);
        for row in &self.layers {
            let shift = match row.shift {
                None => "-".to_owned(),
                Some([least, most]) if least == most => most.to_string(),
                Some([least, most]) => format!("{least}..{most}"),
            };
            let skips: Vec<String> = row.multipliers.iter().map(i64::to_string).collect();
            table.row([row.name.clone(), shift, skips.join(","), format!("{:.2} %", 100.0 * row.error.sqrt())]);
        }
        if !self.layers.is_empty() {
            let _ = writeln!(text, "{}", table.for_terminal());
        }
        if !self.rings.is_empty() {
            let mut table = Table::new(&[words("layer"), number("ring"), number("weights need")]);
            for Ring { name, ring_bits, worst_bits } in &self.rings {
                table.row([name.clone(), ring_bits.to_string(), worst_bits.to_string()]);
            }
            let _ = writeln!(text, "{}", table.for_terminal());
        }
        let _ = writeln!(text, "input: {}\noutput: {}", self.input, self.output);
        if let Some(Accuracy { images, before, after, same, .. }) = &self.accuracy {
            let percent = |count: usize| 100.0 * count as f64 / *images as f64;
            let _ = match before.zip(*after) {
                Some((before, after)) => writeln!(
                    text,
                    "accuracy on {images} test images: {:.2} % before, {:.2} % after;\nthe same class on {:.2} %",
                    percent(before),
                    percent(after),
                    percent(*same)
                ),
                None => writeln!(text, "the same class on {:.2} % of {images} inputs", percent(*same)),
            };
        }
        if let Some(wraps) = self.accuracy.as_ref().and_then(|accuracy| accuracy.wraps.as_ref()) {
            let _ = writeln!(text, "{}", wraps.text());
        }
        for (at, cost) in self.costs.iter().enumerate() {
            let Cost { link, flights, activations, .. } = cost;
            let each = if *activations == 0 { 0.0 } else { cost.bytes() as f64 / *activations as f64 };
            let before = self.costs_before.get(at);
            let before = before.map(|before| format!(" ({} before)", human_bytes(before.bytes()))).unwrap_or_default();
            let _ = writeln!(
                text,
                "{link}: {}{before} for an inference in {flights} flights,\n  {each:.1} bytes for each of {activations} activations",
                human_bytes(cost.bytes())
            );
        }
        let _ = writeln!(text, "accumulators of {} bits at most", self.accumulator_bits);
        for note in &self.notes {
            let _ = writeln!(text, "note: {note}");
        }
        text
    }
}
