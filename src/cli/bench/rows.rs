//! A row of the width study: what one network takes, privately.

use lowkey::plan::Link;
use lowkey::report::StageReport;
use serde::{Deserialize, Serialize};

use super::processes::Line;

/// One network at one width. Times in milliseconds, means over the images; bytes are both directions together, OTs charged by
/// consumption.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// The network's name; a baseline has the suffix " at 32 bits".
    pub network: String,
    /// 32-bit rings and the 64-bit torus everywhere.
    pub straightforward: bool,
    /// Bits of weights and activations.
    pub bits: u32,
    /// Images evaluated in the clear, and how many percent of them are right.
    pub images: usize,
    pub accuracy: f64,
    /// Images answered privately, and how many answers differ from the plaintext network's.
    pub private_images: usize,
    pub mismatches: usize,
    pub layers: Vec<LayerRow>,
    pub hint_bytes: u64,
    pub activations: usize,
    pub setup: Stage,
    pub offline: Stage,
    pub online: Stage,
    /// Modelled from bytes, flights and the times above, offline and online together.
    pub lan_ms: f64,
    pub wan_ms: f64,
    /// Modelled, online alone.
    pub lan_online_ms: f64,
    pub wan_online_ms: f64,
    /// Measured over a shaped link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shaped: Option<Shaped>,
    /// Largest resident memory.
    pub client_peak_bytes: Option<u64>,
    pub server_peak_bytes: Option<u64>,
}

/// A linear layer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LayerRow {
    pub name: String,
    pub accumulator_bits: Option<u32>,
    pub ring_bits: u32,
    pub torus_bits: Option<u32>,
    pub degree: Option<usize>,
    pub noise_margin_bits: Option<f64>,
}

/// What a stage takes.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Stage {
    pub ms: f64,
    pub bytes: f64,
    pub flights: f64,
    /// Milliseconds that a quarter, half and three quarters of the images took at most; not in files of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quartiles_ms: Option<[f64; 3]>,
}

/// A run over a shaped link.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Shaped {
    pub link: Link,
    pub offline_ms: f64,
    pub online_ms: f64,
}

impl Row {
    /// Bytes per image.
    pub fn bytes(&self) -> f64 {
        self.offline.bytes + self.online.bytes
    }
}

impl Stage {
    /// The mean over images.
    pub fn mean<'a>(lines: &'a [Line], pick: impl Fn(&'a Line) -> &'a StageReport) -> Stage {
        let mean = |of: &dyn Fn(&StageReport) -> f64| {
            lines.iter().map(|line| of(pick(line))).sum::<f64>() / lines.len().max(1) as f64
        };
        Stage {
            ms: mean(&|stage| stage.ms),
            bytes: mean(&|stage| stage.bytes() as f64),
            flights: mean(&|stage| stage.flights as f64),
            quartiles_ms: quartiles(lines.iter().map(|line| pick(line).ms).collect()),
        }
    }

    /// Milliseconds over a link: the time over loopback, the bytes at the link's rate, the flights at its latency.
    pub fn over(&self, link: Link) -> f64 {
        self.ms + (self.bytes * 8.0 / link.bandwidth() + self.flights * link.latency()) * 1e3
    }
}

/// The times at a quarter, half and three quarters of the way in line; each was measured.
fn quartiles(mut times: Vec<f64>) -> Option<[f64; 3]> {
    times.sort_by(f64::total_cmp);
    let last = times.len().checked_sub(1)?;
    Some([1, 2, 3].map(|quarter| times[(last * quarter).div_ceil(4)]))
}

/// Both stages of an inference over a link.
pub fn over(link: Link, offline: Stage, online: Stage) -> f64 {
    offline.over(link) + online.over(link)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_adds_bytes_and_flights() {
        let stage = Stage { ms: 5.0, bytes: 125_000.0, flights: 3.0, quartiles_ms: None };
        // 10^6 bits at 10^8 per second, and three flights of 20 ms.
        assert!((stage.over(Link::Wan) - (5.0 + 10.0 + 60.0)).abs() < 1e-9);
        assert!((over(Link::Wan, stage, stage) - 150.0).abs() < 1e-9);
    }

    #[test]
    fn quartiles_are_of_the_sorted() {
        assert_eq!(quartiles(vec![5.0, 1.0, 4.0, 2.0, 3.0]), Some([2.0, 3.0, 4.0]));
        assert_eq!(quartiles(vec![7.0]), Some([7.0; 3]));
        assert_eq!(quartiles(vec![]), None);
    }
}
