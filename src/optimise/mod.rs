//! Which changes to make of a network: the least distortion for which an inference takes no more than a number of bytes.
//!
//! The bytes are the planner's own. What a node sends depends on few choices, those of its own layer and of its neighbours
//! (`signature.rs`); so plans of some hundred selections tell the price of every node under every combination of these (`prices.rs`). The
//! [knapsack](lowkey_models::choose::knapsack) over them is solved exactly. A plan chooses its parameter sets for all layers together, which
//! moves some bytes more: so the network that is found is planned, and the budget for the search corrected until the plan keeps it.

#![deny(clippy::wildcard_enum_match_arm)]

mod prices;
mod signature;

use std::collections::BTreeMap;

use lowkey_bridge::Schedule;
use lowkey_models::choose::distortion::{Change, DistortionError, Selection, Table};
use lowkey_models::choose::knapsack::{Problem, Solution, Unsolved};
use lowkey_models::{Architecture, ModelError, Network, Op};
use lowkey_mpc::party::{Party, Stage};

use crate::cost::{Prediction, predict};
use crate::node::{Link, PlanError};
use crate::plan::{Plan, Reveal};
use crate::planner;
use crate::report::charged_bytes;

use prices::Prices;

/// Corrections of the search's budget.
const CORRECTIONS: usize = 12;

/// Why no changes were chosen.
#[derive(Debug, thiserror::Error)]
pub enum OptimiseError {
    /// The table of distortions is not complete, or of another network.
    #[error("the distortion file has no measurement of {0}")]
    Unmeasured(String),
    /// Changes that cannot be made.
    #[error(transparent)]
    Change(#[from] DistortionError),
    /// What is planned has no plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// No choice is cheap enough.
    #[error("no choice takes less than {} for an inference", crate::report::human_bytes(*.least))]
    Budget {
        /// The cheapest that was found.
        least: u64,
    },
    /// The network is too wide, or its changes exclude each other.
    #[error(transparent)]
    Unsolved(Unsolved),
}

impl From<ModelError> for OptimiseError {
    fn from(error: ModelError) -> Self {
        Self::Change(error.into())
    }
}

/// A network with changes.
#[derive(Clone, Debug)]
pub struct Optimised {
    /// It.
    pub network: Network,
    /// The changes, by variable of the table.
    pub selection: Selection,
    /// What they do together, if distortions add up.
    pub distortion: f64,
    /// Of an inference, by its plan.
    pub bytes: u64,
}

/// Bytes of an inference by its plan, prepared schedule, logits revealed, OTs at their price: what `lowkey plan` says.
pub fn bytes_of(plan: &Plan) -> u64 {
    bytes(&predict(plan, Schedule::Prepared, Reveal::Logits))
}

fn bytes(prediction: &Prediction) -> u64 {
    let frames = [Stage::Offline, Stage::Online]
        .into_iter()
        .flat_map(|stage| [Party::Client, Party::Server].map(|party| prediction.bytes(stage, party)));
    frames.sum::<u64>() + charged_bytes(prediction.demand)
}

/// The plan of a network for a link, and what it predicts of an inference.
struct Planned {
    plan: Plan,
    prediction: Prediction,
}

impl Planned {
    fn new(network: &Network, link: Link) -> Result<Self, PlanError> {
        let plan = planner::plan(&network.folded()?, link)?;
        let prediction = predict(&plan, Schedule::Prepared, Reveal::Logits);
        Ok(Self { plan, prediction })
    }

    /// As [`bytes_of`].
    fn bytes(&self) -> u64 {
        bytes(&self.prediction)
    }
}

/// What is searched: every option that could be right.
pub struct Search<'a> {
    network: Network,
    table: &'a Table,
    link: Link,
    /// By variable, the options of the table that are tried, 0 first.
    options: Vec<Vec<usize>>,
    distortion: Vec<Vec<f64>>,
    prices: Prices,
    /// Bytes of the network as it was given.
    whole: u64,
    /// Those that belong to no node.
    rest: u64,
}

impl<'a> Search<'a> {
    /// Asks the planner for all prices; `progress` is told how many are known, and of how many.
    ///
    /// # Errors
    /// A table with something missing, or a network without a plan.
    pub fn new(
        network: &Network,
        table: &'a Table,
        link: Link,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Self, OptimiseError> {
        table.check(network.architecture())?;
        let whole = Planned::new(network, link)?.bytes();
        let network = network.with_rings(BTreeMap::new())?;
        let mut options = Vec::new();
        for variable in 0..table.variables.len() {
            options.push(worth_trying(network.architecture(), table, variable)?);
        }
        let value = |(variable, options): (usize, &Vec<usize>)| -> Vec<f64> {
            options.iter().map(|&option| table.distortion(variable, option).unwrap_or(f64::INFINITY)).collect()
        };
        let distortion = options.iter().enumerate().map(value).collect();
        let planned = Planned::new(&network, link)?;
        let prices = Prices::ask(&network, table, &options, link, progress)?;
        let rest = planned.bytes().saturating_sub(prices::by_node(&planned).iter().sum());
        Ok(Self { network, table, link, options, distortion, prices, whole, rest })
    }

    /// Bytes of the network as it was given.
    pub fn whole(&self) -> u64 {
        self.whole
    }

    /// How many networks were planned to know all prices.
    pub fn plans(&self) -> usize {
        self.prices.plans()
    }

    /// The changes with the least distortion within a budget. What the prices left of it is spent on changes that are taken back, as far
    /// as the plan keeps the budget.
    ///
    /// # Errors
    /// When no choice is cheap enough.
    pub fn within(&self, budget: u64) -> Result<Optimised, OptimiseError> {
        let mut best = self.by_prices(budget)?;
        while let Some(better) = self.nearer(&best, budget)? {
            best = better;
        }
        Ok(best)
    }

    /// The same network with one change less, or a smaller one, still within the budget; of those the one with the least distortion.
    fn nearer(&self, of: &Optimised, budget: u64) -> Result<Option<Optimised>, OptimiseError> {
        let mut others = Vec::new();
        for (variable, options) in self.options.iter().enumerate() {
            let value = |option: usize| self.table.distortion(variable, option).unwrap_or(f64::INFINITY);
            let own = value(of.selection[variable]);
            others.extend(options.iter().filter(|&&o| value(o) < own).map(|&o| (own - value(o), variable, o)));
        }
        // The largest gain first: the first that fits is taken.
        others.sort_by(|a, b| b.0.total_cmp(&a.0));
        for (_, variable, option) in others {
            let mut selection = of.selection.clone();
            selection[variable] = option;
            let Ok(network) = self.table.apply(&self.network, &selection) else { continue };
            let Ok(planned) = Planned::new(&network, self.link) else { continue };
            let bytes = planned.bytes();
            if bytes <= budget {
                let distortion = self.table.sum(&selection);
                return Ok(Some(Optimised { network, selection, distortion, bytes }));
            }
        }
        Ok(None)
    }

    /// As [`within`](Self::within), as good as the prices tell.
    ///
    /// # Errors
    /// As there.
    pub fn by_prices(&self, budget: u64) -> Result<Optimised, OptimiseError> {
        let problem = Problem { distortion: self.distortion.clone(), factors: self.prices.factors() };
        let mut asked = budget.saturating_sub(self.rest);
        let mut best: Option<Optimised> = None;
        let mut least = u64::MAX;
        for _ in 0..CORRECTIONS {
            let found = match problem.solve(asked) {
                // The cheapest by its prices may be cheaper by its plan.
                Err(Unsolved::Budget { least }) => problem.solve(least),
                found => found,
            };
            let found = found.map_err(OptimiseError::Unsolved)?;
            let own = self.made(&found)?;
            let (bytes, told) = (own.bytes, found.bytes);
            least = least.min(bytes);
            if bytes > budget && told > asked {
                break;
            }
            let better = |other: &Optimised| (own.distortion, own.bytes) < (other.distortion, other.bytes);
            if bytes <= budget && best.as_ref().is_none_or(better) {
                best = Some(own);
            }
            // What the plan takes beyond the prices is taken off, or given back as far as nothing was found there before.
            let corrected = match bytes <= budget {
                true => told + (budget - bytes),
                false => asked.min(told).saturating_sub(bytes - budget),
            };
            if corrected == asked || (bytes <= budget && corrected <= asked) {
                break;
            }
            asked = corrected;
        }
        best.ok_or(OptimiseError::Budget { least })
    }

    /// The network of a solution, and what its plan says.
    fn made(&self, found: &Solution) -> Result<Optimised, OptimiseError> {
        let selection: Selection =
            found.options.iter().zip(&self.options).map(|(&option, options)| options[option]).collect();
        let network = self.table.apply(&self.network, &selection)?;
        let bytes = Planned::new(&network, self.link)?.bytes();
        Ok(Optimised { network, selection, distortion: found.distortion, bytes })
    }
}

/// The options of a variable that could be right: not those that move the answers as much as all answers differ, and none that is wider
/// than another without being better; a ring that does nothing is better than none. Before a max pool none may be cheaper than any: there a
/// declared ring keeps the pool behind the clip.
fn worth_trying(architecture: &Architecture, table: &Table, variable: usize) -> Result<Vec<usize>, OptimiseError> {
    let of = &table.variables[variable];
    let missing = || OptimiseError::Unmeasured(of.nodes.join(", "));
    let mut kept: Vec<(usize, f64)> = Vec::new();
    let mut order: Vec<usize> = (0..of.options.len()).collect();
    // From the narrowest on.
    order.sort_by_key(|&at| match of.options[at].change {
        Change::Spare(spare) => i64::from(spare),
        Change::Fewer(bits) | Change::Weights(bits) => -i64::from(bits),
        Change::Coin { left } => i64::from(left),
    });
    let mut least = f64::INFINITY;
    for at in order {
        let distortion = table.distortion(variable, at + 1).ok_or_else(missing)?;
        if distortion < 1.0 && distortion < least {
            least = distortion;
            kept.push((at + 1, distortion));
        }
    }
    let as_it_is = (of.above.is_none() || least > 0.0 || is_pooled(architecture, &of.nodes[0])).then_some(0);
    Ok(as_it_is.into_iter().chain(kept.into_iter().rev().map(|(option, _)| option)).collect())
}

/// True if a max pool reads what is made of a node's sums.
fn is_pooled(architecture: &Architecture, name: &str) -> bool {
    let made = architecture.position(name).into_iter().flat_map(|node| architecture.consumers(node + 1));
    let mut readers = made.flat_map(|reader| architecture.consumers(reader + 1));
    readers.any(|reader| matches!(architecture.nodes[reader].op, Op::MaxPool { .. }))
}
