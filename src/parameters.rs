//! What this build rests on: every parameter set that it uses, and what each known attack on it costs.
//!
//! Sizes are those of the code. Figures are those of `scripts/parameters`, which recomputes them from the sizes and names its
//! sources; what it printed lies beside it, is compiled in, and is compared with both by a test.

use std::collections::BTreeMap;

use lowkey_he::params;
use lowkey_mpc::ot::silent::{self, Preset};
use serde::{Deserialize, Serialize};

use crate::session;

/// What the script printed.
const REPORT: &str = include_str!("../scripts/parameters/report.json");

/// log2 of the operations of each attack, by its name.
pub type Attacks = BTreeMap<String, f64>;

/// All parameter sets of this build.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Parameters {
    /// Version of the program.
    pub version: &'static str,
    /// Version of the protocol.
    pub protocol: u32,
    /// Sets of silent OT: learning parity with regular noise, rows with few ones.
    pub ot: Vec<OtSet>,
    /// Sets of the linear layers: RLWE in Z_q\[X\]/(X^N + 1).
    pub rlwe: Vec<LatticeSet>,
}

/// A set of silent OT.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OtSet {
    /// Its name in the code and in the script.
    pub name: &'static str,
    /// What it is used for.
    #[serde(rename = "use")]
    pub used_for: String,
    /// Samples.
    pub n: usize,
    /// Unknowns.
    pub k: usize,
    /// Errors, one in each block of n / t samples.
    pub t: usize,
    /// log2 of n / t.
    pub depth: usize,
    /// Ones in a row of the matrix.
    pub ones_per_row: usize,
    /// Correlated OTs that a batch starts from.
    pub seed: usize,
    /// Correlated OTs that it yields.
    pub usable: usize,
    /// Bits on the wire for each of them, without frame headers.
    pub bits_per_ot: f64,
    /// Attacks.
    pub attacks: Attacks,
    /// No attacks, but what would be left if parts of one were free.
    pub bounds: Attacks,
    /// The cheapest attack.
    pub binding: String,
    /// Its cost.
    pub security: f64,
}

/// A set of the linear layers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LatticeSet {
    /// Its name.
    pub name: &'static str,
    /// N.
    pub degree: usize,
    /// log2 of q.
    pub log2_q: u32,
    /// b of the noise TUniform(b).
    pub tuniform_bound: u32,
    /// The distribution of secrets.
    pub secret: &'static str,
    /// The lattice estimator's figures, of a row that is no harder.
    pub attacks: Attacks,
    /// The smaller of them.
    pub security: f64,
}

#[derive(Deserialize)]
struct Report {
    ot: Vec<OtFigures>,
    rlwe: Vec<LatticeFigures>,
}

#[derive(Deserialize)]
struct OtFigures {
    name: String,
    #[serde(rename = "use")]
    used_for: String,
    attacks: Attacks,
    bounds: Attacks,
    binding: String,
    security: f64,
}

#[derive(Deserialize)]
struct LatticeFigures {
    name: String,
    row: Row,
    security: f64,
}

#[derive(Deserialize)]
struct Row {
    usvp: f64,
    dual_hybrid: f64,
}

impl Parameters {
    /// Those of this build.
    ///
    /// # Panics
    /// If the script's report has no figures of a set, which a test rules out.
    pub fn of_this_build() -> Self {
        let report: Report = serde_json::from_str(REPORT).expect("the report is checked by a test");
        let ot =
            [("FIRST", silent::FIRST), ("LATER", silent::LATER)].map(|(name, preset)| ot_set(name, preset, &report));
        let rlwe = params::ALL.into_iter().map(|set| {
            let figures = report.rlwe.iter().find(|figures| figures.name == set.name).expect("figures of every set");
            LatticeSet {
                name: set.name,
                degree: set.degree,
                log2_q: set.torus_bits,
                tuniform_bound: set.noise_bound,
                secret: "ternary",
                attacks: [("usvp", figures.row.usvp), ("dual_hybrid", figures.row.dual_hybrid)]
                    .map(|(name, figure)| (name.to_owned(), figure))
                    .into(),
                security: figures.security,
            }
        });
        Self { version: env!("CARGO_PKG_VERSION"), protocol: session::VERSION, ot: ot.into(), rlwe: rlwe.collect() }
    }
}

fn ot_set(name: &'static str, preset: Preset, report: &Report) -> OtSet {
    let figures = report.ot.iter().find(|figures| figures.name == name).expect("figures of every set");
    OtSet {
        name,
        used_for: figures.used_for.clone(),
        n: preset.outputs(),
        k: silent::COLUMNS,
        t: preset.trees,
        depth: silent::DEPTH,
        ones_per_row: silent::ONES_PER_ROW,
        seed: preset.seed(),
        usable: preset.usable(),
        bits_per_ot: (128 * preset.trees * silent::DEPTH) as f64 / preset.usable() as f64,
        attacks: figures.attacks.clone(),
        bounds: figures.bounds.clone(),
        binding: figures.binding.clone(),
        security: figures.security,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_meets_its_target() {
        let parameters = Parameters::of_this_build();
        for set in &parameters.ot {
            for (attack, cost) in &set.attacks {
                assert!(*cost >= 128.0, "{}: {attack} costs 2^{cost}", set.name);
            }
            assert!(set.attacks["local_greedy"] >= 140.0, "{}", set.name);
            assert_eq!(set.attacks[&set.binding], set.security);
        }
        assert!(parameters.ot[0].bits_per_ot <= 1.3 && parameters.ot[1].bits_per_ot <= 0.75);
        for set in &parameters.rlwe {
            assert!(set.security >= 128.0, "{}", set.name);
            assert!(set.attacks.values().all(|cost| *cost >= set.security));
        }
    }

    /// The report's sizes are the code's: otherwise its figures are those of other sets.
    #[test]
    fn the_report_is_of_these_sets() {
        let report: serde_json::Value = serde_json::from_str(REPORT).unwrap();
        let ours = serde_json::to_value(Parameters::of_this_build()).unwrap();
        for (kind, sizes) in [
            ("ot", &["n", "k", "t", "depth", "ones_per_row", "seed", "usable"][..]),
            ("rlwe", &["degree", "log2_q", "tuniform_bound", "secret"][..]),
        ] {
            let (report, ours) = (report[kind].as_array().unwrap(), ours[kind].as_array().unwrap());
            assert_eq!(report.len(), ours.len(), "sets of {kind}");
            for (report, ours) in report.iter().zip(ours) {
                assert_eq!(report["name"], ours["name"]);
                for size in sizes {
                    assert_eq!(report[size], ours[size], "{size} of {}", ours["name"]);
                }
            }
        }
    }
}
