//! What a plan will take in seconds and memory, before anything runs.
//!
//! Bytes and flights are exact, and what a link adds follows from them. What the two processors take is a fit to the networks in
//! benches/results (two parties on one machine of 2 cores, release build), whose largest errors are 49 % (offline) and 28 % (online), and
//! whose middle ones are 17 % and 8 %. Memory is what the plan says of itself, a model's halves, a session and a slot
//! ([`Plan::peak_bytes`]).

use lowkey::cost::Prediction;
use lowkey::plan::{Link, Plan, ServerMemory};
use lowkey_mpc::party::Stage;
use serde::Serialize;

use super::Total;

/// Milliseconds offline: for 1,000 activations, for a megabyte of both stages.
const OFFLINE: [f64; 2] = [0.353, 37.1];
/// Milliseconds online: for a flight over loopback, for a megabyte.
const ONLINE: [f64; 2] = [0.0453, 2.28];

/// Both stages over one link.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Times {
    pub offline_ms: f64,
    pub online_ms: f64,
}

/// What one inference takes, prepared or not, and what a party holds at its peak.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Estimate {
    pub loopback: Times,
    pub lan: Times,
    pub wan: Times,
    pub client_memory_bytes: u64,
    pub server_memory_bytes: u64,
}

impl Estimate {
    /// Of a plan and its totals; the flights of its offline stage are in its prediction.
    pub fn new(plan: &Plan, memory: &ServerMemory, total: &Total, prediction: &Prediction) -> Self {
        let flights = [Stage::Offline, Stage::Online].map(|stage| prediction.flights(stage, &[]) as f64);
        Self::of(total, flights, plan.peak_bytes(memory))
    }

    /// Of totals, the flights of both stages, and the memory of client and server.
    fn of(total: &Total, flights: [f64; 2], [client, server]: [u64; 2]) -> Self {
        let bytes = (total.offline_bytes + total.online_bytes) as f64;
        let offline = OFFLINE[0] * total.activations as f64 / 1e3 + OFFLINE[1] * bytes / 1e6;
        let online = ONLINE[0] * flights[1] + ONLINE[1] * total.online_bytes as f64 / 1e6;
        // In the direct schedule all of it is online.
        let [offline, online] = if total.offline_bytes == 0 { [0.0, offline + online] } else { [offline, online] };
        let over = |link: Link| {
            let added = |bytes: u64, flights: f64| match link {
                Link::Loopback => 0.0,
                _ => (bytes as f64 * 8.0 / link.bandwidth() + flights * link.latency()) * 1e3,
            };
            Times {
                offline_ms: offline + added(total.offline_bytes, flights[0]),
                online_ms: online + added(total.online_bytes, flights[1]),
            }
        };
        Self {
            loopback: over(Link::Loopback),
            lan: over(Link::Lan),
            wan: over(Link::Wan),
            client_memory_bytes: client,
            server_memory_bytes: server,
        }
    }
}

#[cfg(test)]
mod tests {
    use lowkey::planner::{Target, Widths};
    use lowkey_models::zoo;

    use super::*;

    /// Against what was measured; whoever measures anew and finds more than this fits the constants anew.
    #[test]
    fn estimates_are_near_what_was_measured() {
        let tables = [
            include_str!("../../../benches/results/mnist/widths.csv"),
            include_str!("../../../benches/results/cifar10/widths.csv"),
        ];
        let mut networks = 0;
        for table in tables {
            let mut lines = table.lines();
            let titles: Vec<&str> = lines.next().unwrap().split(',').collect();
            for line in lines {
                let cells: Vec<&str> = line.split(',').collect();
                let cell = |title: &str| -> f64 {
                    let cell = cells[titles.iter().position(|other| *other == title).unwrap()];
                    cell.parse().unwrap_or(f64::from(u8::from(cell == "true")))
                };
                let total = Total {
                    hint_bytes: cell("hint_bytes") as u64,
                    setup_bytes: cell("setup_bytes") as u64,
                    offline_bytes: cell("offline_bytes") as u64,
                    online_bytes: cell("online_bytes") as u64,
                    flights: cell("online_flights") as u64,
                    activations: cell("activations") as usize,
                };
                // The baseline's rows are "NAME at 32 bits".
                let name = cells[0].split(" at ").next().unwrap();
                let network = zoo::find(name).expect("bundled").network().folded().unwrap();
                let widths = if cell("straightforward") > 0.0 { Widths::Straightforward } else { Widths::Tight };
                let plan = lowkey::planner::plan(&network, Target { link: Link::Lan, widths }).unwrap();
                let estimate =
                    Estimate::of(&total, [2.0, total.flights as f64], plan.peak_bytes(&plan.server_memory()));
                // Small networks answered so few images that no second batch of OTs was made.
                for (name, estimated, near) in [
                    ("offline_ms", estimate.loopback.offline_ms, 0.5..2.0),
                    ("online_ms", estimate.loopback.online_ms, 0.5..2.0),
                    ("client_peak_bytes", estimate.client_memory_bytes as f64, 0.85..1.6),
                    ("server_peak_bytes", estimate.server_memory_bytes as f64, 0.95..1.45),
                ] {
                    let ratio = estimated / cell(name);
                    assert!(near.contains(&ratio), "{}: {name} is estimated {ratio:.2} times", cells[0]);
                }
                networks += 1;
            }
        }
        assert!(networks > 20);
    }
}
