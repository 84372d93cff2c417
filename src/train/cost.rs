//! What a step will send: from the record of its programs and the plans of its products, before anything runs.

use lowkey_bridge::product::{Answers, PlanError};
use lowkey_mpc::channel::HEADER_BYTES;
use lowkey_mpc::demand::Demand;
use lowkey_mpc::party::Party;

use super::format::{Format, Net};
use super::lattice::ProductCost;
use super::plan::{Aim, FLIGHTS, StepPlan};
use super::terms::RATE;
use crate::report::charged_bytes;

/// Why there is no cost: the network does not train at this rate, or a product fits no parameter set.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CostError(String);

impl CostError {
    fn of(error: impl std::error::Error) -> Self {
        Self(error.to_string())
    }
}

/// Bytes of a step of 128 samples, both ways, frame headers included; flights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Encrypted products, with the keys of the step.
    pub products: u64,
    /// The removal of their guard bits.
    pub guard_bits: u64,
    /// Rectifiers, there and back.
    pub rectifiers: u64,
    /// Extensions of gradients and momenta of weights.
    pub extensions: u64,
    /// The softmax.
    pub softmax: u64,
    /// The score, where one is told; its opening, once an epoch, not counted.
    pub score: u64,
    /// Headers of frames.
    pub headers: u64,
    /// All of these: what the sockets see of a step, but for batches of OTs.
    pub bytes: u64,
    /// Random OTs.
    pub ots: u64,
    /// Bytes of batches that these take on average.
    pub ot_bytes: u64,
    /// One-way latencies, batches not counted; at most: what one program ends with may travel with what the next one begins with.
    pub flights: u64,
}

/// How hints of products are sent, and what they cost so: the way of fewer bytes. Merged answers take a third of those of dense layers, and more
/// where a convolution's gradient sums over many positions.
pub(super) fn answers(plan: &StepPlan) -> Result<(Answers, ProductCost), PlanError> {
    let [merged, plain] = [Answers::Merged, Answers::Plain].map(|way| plan.product_cost(way).map(|cost| (way, cost)));
    let (merged, plain) = (merged?, plain?);
    Ok(if merged.1.bytes() <= plain.1.bytes() { merged } else { plain })
}

impl Cost {
    /// Of a step on samples of `owner` at the rate 2^-`rate`; with `score` somebody is told one after each epoch. It is the same for either owner,
    /// but for a head: of the features of the model owner's samples nothing is shared.
    ///
    /// # Errors
    /// [`CostError`] if there is no such step.
    pub fn of_step(net: &Net, rate: u8, owner: Party, score: bool) -> Result<Self, CostError> {
        Self::of(net, rate, owner, Aim { score, ..Aim::default() })
    }

    /// Of 128 samples of `owner` in an evaluation.
    ///
    /// # Errors
    /// [`CostError`] if there is none.
    pub fn of_evaluation(net: &Net, owner: Party) -> Result<Self, CostError> {
        Self::of(net, RATE, owner, Aim { evaluates: true, score: true, coins: false })
    }

    fn of(net: &Net, rate: u8, owner: Party, aim: Aim) -> Result<Self, CostError> {
        let plan = StepPlan::new(net, Format::NARROW, rate, owner, FLIGHTS, aim).map_err(CostError::of)?;
        let (programs, (_, lattice)) = (plan.cost(), answers(&plan).map_err(CostError::of)?);
        let headers = (HEADER_BYTES * (programs.frames + lattice.frames)) as u64;
        // Keys are one flight, a product two: bodies and hints.
        let flights = u64::from(programs.flights) + 1 + 2 * plan.products().len() as u64;
        Ok(Self {
            products: lattice.bytes() as u64,
            guard_bits: programs.joins as u64,
            rectifiers: programs.rectifiers as u64,
            extensions: programs.extensions as u64,
            softmax: programs.softmax as u64,
            score: programs.score as u64,
            headers,
            bytes: (lattice.bytes() + programs.bytes()) as u64 + headers,
            ots: programs.ots.total() as u64,
            ot_bytes: charged_bytes(Demand { ots: programs.ots }),
            flights,
        })
    }

    /// With the OTs that it consumes.
    pub fn total(&self) -> u64 {
        self.bytes + self.ot_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What docs/training.md says of a step of A, C, D and a head.
    #[test]
    fn costs_are_those_of_the_page() {
        let page = include_str!("../../docs/training.md");
        let head = Net::on_features(64);
        for (net, name) in
            [(Net::a(), "A, merged"), (Net::c(), "C: two"), (Net::d(), "D: convolution"), (head, "head on 64")]
        {
            let cost = Cost::of_step(&net, 4, Party::Client, false).unwrap();
            let step = format!("{:.1} MB", cost.total() as f64 / 1e6);
            let epoch = format!("{:.1} GB", cost.total() as f64 * 468.0 / 1e9);
            let row = page.lines().find(|line| line.starts_with(&format!("| {name}"))).expect("a row of the network");
            assert!(row.contains(&step) && row.contains(&epoch), "{name}: {step}, {epoch}: {cost:?}\n{row}");
            assert!(page.contains(&format!("{} for {net}", cost.flights)), "{cost:?}");
        }
    }
}
