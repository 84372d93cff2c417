//! What `lowkey optimise` says.

use std::fmt::Write;

use lowkey::optimise::{Optimised, Search};
use lowkey::planner::Widths;
use lowkey::report::human_bytes;
use lowkey::{Link, Model, Result};
use lowkey_models::choose::distortion::Table as Distortions;
use lowkey_models::{Architecture, Op, Term};
use serde::Serialize;

use super::super::table::{Table, number, text as words};
use super::super::toss::{self, Tossed};
use super::super::{Mode, plan};

/// Sums of distortions beyond this are not to be trusted: changes meet each other.
const TRUSTED: f64 = 0.05;

/// How often the two networks are right, and agree.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Accuracy {
    pub images: usize,
    pub before: usize,
    pub after: usize,
    pub same: usize,
}

/// A layer.
#[derive(Serialize)]
struct Layer {
    name: String,
    /// Of sums that wrap: declared, and what the plan needed before.
    #[serde(skip_serializing_if = "Option::is_none")]
    ring_bits: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ring_bits_before: Option<u32>,
    /// Of activations that are narrower.
    #[serde(skip_serializing_if = "Option::is_none")]
    bits: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bits_before: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight_bits: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight_bits_before: Option<u32>,
    /// Of roundings by coins: bits of the coin, and of the whole shift.
    #[serde(skip_serializing_if = "Option::is_none")]
    coin_bits: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shift_bits: Option<u32>,
    /// Of its changes.
    distortion: f64,
    bytes: u64,
    bytes_before: u64,
}

#[derive(Serialize)]
pub struct Record {
    model: String,
    link: String,
    budget: u64,
    /// Of an inference, offline and online, OTs included at their price: what `lowkey plan` says of the network.
    bytes: u64,
    bytes_before: u64,
    flights: u64,
    flights_before: u64,
    distortion: f64,
    /// Networks that were planned to know all prices.
    plans: usize,
    layers: Vec<Layer>,
    /// Of a network that rounds by coins.
    #[serde(skip_serializing_if = "Option::is_none")]
    coins: Option<Tossed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    accuracy: Option<Accuracy>,
}

impl Layer {
    /// Of a node of the networks and plans before and after, without its distortion.
    fn of(index: usize, [old, new]: [&Architecture; 2], plans: &[plan::Record; 2]) -> Layer {
        let node = &new.nodes[index];
        let of = |record: &plan::Record| {
            let layer = record.layers.iter().find(|layer| layer.name == node.name);
            layer.map_or((0, 0), |layer| (layer.offline_bytes + layer.online_bytes, layer.ring_bits))
        };
        let [(bytes_before, ring_before), (bytes, ring)] = plans.each_ref().map(of);
        let ringed = new.ring(index).is_some();
        let bits = match (&old.nodes[index].op, &node.op) {
            (Op::Requantise { bits: before, .. }, Op::Requantise { bits, .. }) if before != bits => {
                Some((*before, *bits))
            }
            _ => None,
        };
        let weights = [old, new].map(|network| weight_bits(&network.nodes[index].op));
        let weights = weights[0].zip(weights[1]).filter(|(before, after)| before != after);
        let coin = Some(new.coin(index)).filter(|&coin| coin > 0);
        Layer {
            name: node.name.clone(),
            ring_bits: ringed.then_some(ring),
            ring_bits_before: ringed.then_some(ring_before),
            bits: bits.map(|(_, after)| after),
            bits_before: bits.map(|(before, _)| before),
            weight_bits: weights.map(|(_, after)| after),
            weight_bits_before: weights.map(|(before, _)| before),
            coin_bits: coin,
            shift_bits: coin.and_then(|_| new.tossable(index).ok()),
            distortion: 0.0,
            bytes,
            bytes_before,
        }
    }
}

/// The widest weights of a linear node.
fn weight_bits(op: &Op) -> Option<u32> {
    let Op::Linear { terms } = op else { return None };
    terms.iter().filter_map(Term::weight_bits).max()
}

impl Record {
    /// Of a network before, and of what was found for it.
    #[expect(clippy::too_many_arguments, reason = "a report of everything that was asked and found")]
    pub fn new(
        before: &Model,
        after: &Model,
        table: &Distortions,
        search: &Search<'_>,
        found: &Optimised,
        budget: u64,
        link: Link,
        accuracy: Option<Accuracy>,
    ) -> Result<Record> {
        let planned = |model: &Model| plan::record(model.network(), link, Widths::Tight, Mode::default());
        let plans = [planned(before)?, planned(after)?];
        let bytes = |record: &plan::Record| record.total.offline_bytes + record.total.online_bytes;
        let distortion = |name: &str| -> f64 {
            let own = table.variables.iter().zip(&found.selection).enumerate();
            let own = own.filter(|(_, (variable, _))| variable.nodes[0] == name);
            // The sum of no numbers is -0.
            own.filter_map(|(at, (_, &option))| table.distortion(at, option)).fold(0.0, |sum, own| sum + own)
        };
        let architectures = [before, after].map(Model::architecture);
        let layer = |index| {
            let mut layer = Layer::of(index, architectures, &plans);
            layer.distortion = distortion(&layer.name);
            layer
        };
        let layers = (0..architectures[1].nodes.len()).map(layer).collect();
        Ok(Record {
            model: after.name().to_owned(),
            link: link.to_string(),
            budget,
            bytes: bytes(&plans[1]),
            bytes_before: bytes(&plans[0]),
            flights: plans[1].total.flights,
            flights_before: plans[0].total.flights,
            distortion: table.sum(&found.selection),
            plans: search.plans(),
            layers,
            coins: Tossed::of(after.network(), toss::SEED),
            accuracy,
        })
    }

    /// The same for people.
    pub fn text(&self) -> String {
        let mut text = format!("{}, planned for {}\n", self.model, self.link);
        let mut table = Table::new(&[
            words("layer"),
            words("change"),
            number("distortion").drop(1),
            number("bytes"),
            number("before"),
        ]);
        for layer in self.layers.iter().filter(|layer| layer.bytes + layer.bytes_before > 0) {
            let ring = layer.ring_bits.zip(layer.ring_bits_before);
            let bits = layer.bits.zip(layer.bits_before);
            let ring = ring.map(|(after, before)| format!("ring of {after} bits, was {before}"));
            let weights = layer.weight_bits.zip(layer.weight_bits_before);
            let weights = weights.map(|(after, before)| format!("weights of {after} bits, were {before}"));
            let bits = bits.map(|(after, before)| format!("{after} bits, were {before}"));
            let coin = layer.coin_bits.zip(layer.shift_bits).map(|(coin, shift)| match coin == shift {
                true => format!("a coin for all {shift} bits of the shift"),
                false => format!("a coin for {coin} of {shift} bits of the shift"),
            });
            let change = [ring, weights, bits, coin].into_iter().flatten().collect::<Vec<_>>().join("; ");
            let distortion = if change.is_empty() { String::new() } else { format!("{:.4}", layer.distortion) };
            let [bytes, before] = [layer.bytes, layer.bytes_before].map(human_bytes);
            table.row([layer.name.clone(), change, distortion, bytes, before]);
        }
        let part = 100.0 * self.bytes as f64 / self.bytes_before.max(1) as f64;
        let _ = writeln!(
            text,
            "{}\n{} for an inference in {} flights, {} were asked for;\n{part:.1} % of {} in {} flights before",
            table.for_terminal(),
            human_bytes(self.bytes),
            self.flights,
            human_bytes(self.budget),
            human_bytes(self.bytes_before),
            self.flights_before
        );
        let _ = writeln!(text, "distortion {:.4} of the outputs' variance", self.distortion);
        if let Some(Accuracy { images, before, after, same }) = self.accuracy {
            let percent = |count: usize| 100.0 * count as f64 / images as f64;
            let _ = writeln!(
                text,
                "accuracy on {images} test images: {:.2} % before, {:.2} % after;\nthe same class on {:.2} %",
                percent(before),
                percent(after),
                percent(same)
            );
        }
        if let Some(coins) = &self.coins {
            let _ = writeln!(text, "{};\nwhat they show to a client is in SECURITY.md", coins.text());
        }
        if self.distortion > TRUSTED {
            let _ = writeln!(text, "note: distortions beyond {TRUSTED} do not add up: look at the accuracy");
        }
        text
    }
}
