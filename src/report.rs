//! What a stage took: time, bytes, flights, OTs; in numbers, in JSON and for people.

use std::collections::BTreeMap;

use lowkey_models::Architecture;
use lowkey_mpc::channel::{Channel, Count, FrameKind, Traffic};
use lowkey_mpc::demand::Demand;
use lowkey_mpc::ot::price;
use lowkey_mpc::party::{Party, Stage};
use lowkey_mpc::runtime::Instant;
use serde::{Deserialize, Serialize};

/// One stage as one party saw it.
///
/// `bytes_sent` and `bytes_received` are what the stage costs: every byte of its frames, headers included, except batches of
/// silent OT, which many inferences share; each OT that the stage consumes is charged instead, at the price of a batch
/// divided by the OTs that it yields. A session's first batch is part of the set-up, with all its bytes. `socket_bytes_*` are
/// what really went over the socket in this stage, batches included.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StageReport {
    /// Wall time in milliseconds.
    pub ms: f64,
    /// Bytes sent, OTs charged by consumption.
    pub bytes_sent: u64,
    /// Bytes received, OTs charged by consumption.
    pub bytes_received: u64,
    /// One-way latencies on the critical path.
    pub flights: u64,
    /// Random OTs consumed, both directions.
    pub ots: u64,
    /// Bytes of whole OT batches sent in this stage.
    pub ot_batch_bytes_sent: u64,
    /// Bytes of whole OT batches received in this stage.
    pub ot_batch_bytes_received: u64,
    /// All bytes sent in this stage.
    pub socket_bytes_sent: u64,
    /// All bytes received in this stage.
    pub socket_bytes_received: u64,
}

impl StageReport {
    /// Charged bytes, both directions.
    pub fn bytes(&self) -> u64 {
        self.bytes_sent + self.bytes_received
    }

    /// Adds another visit of the same stage.
    pub fn add(&mut self, other: &Self) {
        self.ms += other.ms;
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
        self.flights += other.flights;
        self.ots += other.ots;
        self.ot_batch_bytes_sent += other.ot_batch_bytes_sent;
        self.ot_batch_bytes_received += other.ot_batch_bytes_received;
        self.socket_bytes_sent += other.socket_bytes_sent;
        self.socket_bytes_received += other.socket_bytes_received;
    }
}

/// What a session did, as the server saw it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SessionReport {
    /// Handshake, hint, base OTs.
    pub setup: StageReport,
    /// All offline stages.
    pub offline: StageReport,
    /// All online stages.
    pub online: StageReport,
    /// Inferences answered.
    pub inferences: u64,
}

/// What a layer sent and received in a stage, headers included, OT batches and charges excluded.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerReport {
    /// The node's name, or what else the frames were for.
    pub name: String,
    /// Offline bytes, both directions.
    pub offline_bytes: u64,
    /// Online bytes, both directions.
    pub online_bytes: u64,
    /// Online time in milliseconds at this party: computation and waiting.
    pub online_ms: f64,
}

/// Measures one visit to a stage: enter, work, finish.
pub(crate) struct Measurement {
    stage: Stage,
    party: Party,
    started: Instant,
    before: Traffic,
    demand: Demand,
}

/// What a [`Measurement`] found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    pub(crate) stage: StageReport,
    pub(crate) scopes: Vec<(String, Count)>,
}

impl Measurement {
    /// Enters a stage.
    pub(crate) fn start(channel: &mut Channel, stage: Stage) -> Self {
        let before = channel.traffic();
        channel.enter(stage);
        Self { stage, party: channel.party(), started: Instant::now(), before, demand: Demand::ZERO }
    }

    /// As [`start`](Self::start), for a stage that the channel has already entered when `before` was taken.
    pub(crate) fn resume(channel: &Channel, before: Traffic) -> Self {
        Self { stage: channel.stage(), party: channel.party(), started: Instant::now(), before, demand: Demand::ZERO }
    }

    /// Charges what is spent.
    pub(crate) fn charge(&mut self, demand: Demand) {
        self.demand += demand;
    }

    /// The report.
    pub(crate) fn finish(self, channel: &Channel) -> Measured {
        let ms = self.started.elapsed().as_secs_f64() * 1e3;
        let traffic = channel.traffic().since(&self.before);
        let totals = traffic.stage(self.stage);
        let [charge_sent, charge_received] = charges(self.demand, self.party);
        // The bootstrap of OT extension belongs to setup; what it yields is never charged.
        let own = if self.stage == Stage::Setup { totals.total() } else { totals.other };
        let stage = StageReport {
            ms,
            bytes_sent: own.bytes_sent + charge_sent,
            bytes_received: own.bytes_received + charge_received,
            flights: totals.flights,
            ots: self.demand.ots.total() as u64,
            ot_batch_bytes_sent: totals.ot_batches.bytes_sent,
            ot_batch_bytes_received: totals.ot_batches.bytes_received,
            socket_bytes_sent: totals.total().bytes_sent,
            socket_bytes_received: totals.total().bytes_received,
        };
        let scopes = traffic.scopes().iter().map(|scope| {
            let batches = scope.kind(FrameKind::OtBatch);
            (scope.label.to_string(), scope.total() - batches)
        });
        Measured { stage, scopes: scopes.collect() }
    }
}

/// What was spent cost a party: (bytes sent, bytes received). The sender of a direction's OTs sends its batches.
pub fn charges(demand: Demand, party: Party) -> [u64; 2] {
    let charge = |count: usize| (count as f64 * price::BYTES_PER_OT).ceil() as u64;
    [charge(demand.ots.where_receives(party.other())), charge(demand.ots.where_receives(party))]
}

/// What was spent cost both parties together.
pub fn charged_bytes(demand: Demand) -> u64 {
    charges(demand, Party::Client).iter().sum()
}

/// Merges the scopes of both stages into one list in the network's order: the input, its nodes, the output; then what belongs to none.
pub(crate) fn layers(
    offline: &Measured,
    online: &Measured,
    times: &BTreeMap<String, f64>,
    architecture: &Architecture,
) -> Vec<LayerReport> {
    let mut layers: Vec<LayerReport> = Vec::new();
    let mut at = |name: &str| match layers.iter().position(|layer| layer.name == name) {
        Some(index) => index,
        None => {
            let online_ms = times.get(name).copied().unwrap_or(0.0);
            layers.push(LayerReport { name: name.to_owned(), offline_bytes: 0, online_bytes: 0, online_ms });
            layers.len() - 1
        }
    };
    let offline: Vec<(usize, u64)> = offline.scopes.iter().map(|(name, count)| (at(name), count.bytes())).collect();
    let online: Vec<(usize, u64)> = online.scopes.iter().map(|(name, count)| (at(name), count.bytes())).collect();
    offline.into_iter().for_each(|(index, bytes)| layers[index].offline_bytes += bytes);
    online.into_iter().for_each(|(index, bytes)| layers[index].online_bytes += bytes);
    layers.sort_by_key(|layer| place(&layer.name, architecture));
    layers
}

/// Where a layer stands among the others.
fn place(name: &str, architecture: &Architecture) -> usize {
    let nodes = architecture.nodes.len();
    match (name, architecture.position(name)) {
        (_, Some(node)) => 1 + node,
        ("input", None) => 0,
        ("output", None) => nodes + 1,
        ("keys", None) => nodes + 2,
        _ => nodes + 3,
    }
}

/// The most memory that a process (this one, unless its number is given) has had resident so far, in bytes. `None` where the
/// operating system does not say (only Linux does, in /proc).
pub fn peak_memory(process: Option<u32>) -> Option<u64> {
    let process = process.map_or("self".to_owned(), |number| number.to_string());
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// A number of bytes as people write it (decimal units).
pub fn human_bytes(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

/// A time as people write it.
pub fn human_ms(ms: f64) -> String {
    match ms {
        ..1.0 => format!("{:.0} us", ms * 1e3),
        ..10.0 => format!("{ms:.1} ms"),
        ..1e4 => format!("{ms:.0} ms"),
        _ => format!("{:.1} s", ms / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_readable() {
        assert_eq!(human_bytes(999), "999 B");
        assert_eq!(human_bytes(1_500), "1.5 kB");
        assert_eq!(human_bytes(2_345_678), "2.35 MB");
        assert_eq!(human_bytes(5_000_000_000), "5.00 GB");
        assert_eq!(human_ms(0.25), "250 us");
        assert_eq!(human_ms(2.345), "2.3 ms");
        assert_eq!(human_ms(234.5), "234 ms");
        assert_eq!(human_ms(23_450.0), "23.4 s");
    }

    #[test]
    fn layers_stand_in_the_networks_order() {
        let network = lowkey_models::zoo::find("digits").unwrap().network();
        let scopes = |names: &[&str]| Measured {
            scopes: names.iter().map(|&name| (name.to_owned(), Count::default())).collect(),
            ..Measured::default()
        };
        let (offline, online) = (scopes(&["control", "keys", "conv1", "conv2"]), scopes(&["output", "pool1", "input"]));
        let layers = layers(&offline, &online, &BTreeMap::new(), network.architecture());
        let names: Vec<&str> = layers.iter().map(|layer| &*layer.name).collect();
        assert_eq!(names, ["input", "conv1", "pool1", "conv2", "output", "keys", "control"]);
    }

    #[test]
    fn the_sender_of_a_direction_is_charged_as_sending() {
        let demand = Demand::ots_received_by(Party::Client, 1000);
        let [client_sent, client_received] = charges(demand, Party::Client);
        assert_eq!(client_sent, 0);
        assert_eq!([client_received, client_sent], charges(demand, Party::Server));
        assert!(client_received > 50);
    }
}
