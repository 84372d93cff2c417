//! What a plan will take in seconds and memory, before anything runs.
//!
//! Bytes and flights are exact, and what a link adds follows from them. What the two processors and memories take is a fit to the
//! networks in benches/results (two parties on one machine of 2 cores, release build), whose largest errors are 36 % (offline),
//! 30 % (online) and 39 % (memory), and whose middle ones are half of that. A party that holds a model file much larger
//! than its hint, as imported networks do, needs that much more.

use lowkey::cost::Prediction;
use lowkey::plan::Link;
use lowkey_mpc::party::Stage;
use serde::Serialize;

use super::Total;

/// Milliseconds offline: at least, for 1,000 activations, for a megabyte of both stages.
const OFFLINE: [f64; 3] = [0.232, 0.2103, 45.6];
/// Milliseconds online: for a flight over loopback, for a megabyte.
const ONLINE: [f64; 2] = [0.056, 2.91];
/// Bytes of memory, client and server: at least, for a byte of hint, for a byte of both stages.
const MEMORY: [[f64; 3]; 2] = [[21.3e6, 4.58, 12.6], [22.5e6, 7.39, 12.1]];

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
    /// Of a plan's totals; the flights of its offline stage are in its prediction.
    pub fn new(total: &Total, prediction: &Prediction) -> Self {
        Self::of(total, [Stage::Offline, Stage::Online].map(|stage| prediction.flights(stage, &[]) as f64))
    }

    /// Of totals and the flights of both stages.
    fn of(total: &Total, flights: [f64; 2]) -> Self {
        let bytes = (total.offline_bytes + total.online_bytes) as f64;
        let offline = OFFLINE[0] + OFFLINE[1] * total.activations as f64 / 1e3 + OFFLINE[2] * bytes / 1e6;
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
        let [client, server] =
            MEMORY.map(|[least, hint, sent]| (least + hint * total.hint_bytes as f64 + sent * bytes) as u64);
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
    use super::*;

    /// Against what was measured; whoever measures anew and finds more than a factor of two fits the constants anew.
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
                    cells[titles.iter().position(|other| *other == title).unwrap()].parse().unwrap()
                };
                let total = Total {
                    hint_bytes: cell("hint_bytes") as u64,
                    setup_bytes: cell("setup_bytes") as u64,
                    offline_bytes: cell("offline_bytes") as u64,
                    online_bytes: cell("online_bytes") as u64,
                    flights: cell("online_flights") as u64,
                    activations: cell("activations") as usize,
                };
                let estimate = Estimate::of(&total, [2.0, total.flights as f64]);
                for (name, estimated) in [
                    ("offline_ms", estimate.loopback.offline_ms),
                    ("online_ms", estimate.loopback.online_ms),
                    ("client_peak_bytes", estimate.client_memory_bytes as f64),
                    ("server_peak_bytes", estimate.server_memory_bytes as f64),
                ] {
                    let ratio = estimated / cell(name);
                    assert!((0.5..2.0).contains(&ratio), "{}: {name} is estimated {ratio:.2} times", cells[0]);
                }
                networks += 1;
            }
        }
        assert!(networks > 20);
    }
}
