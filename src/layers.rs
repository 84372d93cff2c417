//! One nonlinear step at one party: what goes into its program, and what comes out.
//!
//! The same code serves both schedules. `share` of a tensor is the client's pad xhat and the server's m = x - xhat in the
//! prepared schedule, and the parties' shares of x in the direct one.

use lowkey_bridge::parameters::GUARD_BITS;
use lowkey_mpc::bits::Planes;
use lowkey_mpc::party::Party;
use zeroize::Zeroizing;

use crate::plan::{Holding, LinearNode, Nonlinear, NonlinearKind, Plan, Source, Step};

/// One party's half of every tensor, while an inference lasts.
pub(crate) struct Halves {
    party: Party,
    /// By tensor (storage): words of its ring.
    pub(crate) shared: Vec<Zeroizing<Vec<u64>>>,
    /// By tensor: shares in a small ring.
    pub(crate) small: Vec<Option<Planes>>,
}

impl Halves {
    /// No tensor yet.
    pub(crate) fn new(plan: &Plan, party: Party) -> Self {
        let tensors = plan.tensors.len();
        Self {
            party,
            shared: (0..tensors).map(|_| Zeroizing::new(Vec::new())).collect(),
            small: (0..tensors).map(|_| None).collect(),
        }
    }

    /// A step that each party does alone.
    pub(crate) fn local(&mut self, step: &Step) {
        if let Step::SumPool { input, output, ring, windows } = step {
            let mut sum = windows.sum(&self.shared[*input]);
            reduce(&mut sum, *ring);
            self.shared[*output] = Zeroizing::new(sum);
        }
    }

    /// Adds the public multiples of activations to a share with a guard bit, mod 2^(ell + 1).
    pub(crate) fn add_identities(&self, node: &LinearNode, share: &mut [u64]) {
        for &(tensor, multiplier) in &node.identities {
            for (sum, x) in share.iter_mut().zip(self.shared[tensor].iter()) {
                *sum = sum.wrapping_add(x.wrapping_mul((multiplier as u64) << GUARD_BITS));
            }
        }
        reduce(share, node.ell + GUARD_BITS);
    }

    /// A public constant is added by the server alone.
    fn public(&self, value: i64) -> u64 {
        match self.party {
            Party::Client => 0,
            Party::Server => value as u64,
        }
    }

    /// What a pool or a table reads, as program inputs: one per window element, values counted from 0.
    pub(crate) fn inputs(&self, plan: &Plan, step: &Nonlinear) -> Vec<Planes> {
        let width = step.input_width as usize;
        let values = match step.source {
            Source::Accumulator(_) => unreachable!("accumulators have their own path"),
            Source::Small(tensor) => {
                Zeroizing::new(self.small[tensor].as_ref().expect("computed by an earlier step").to_lanes::<u64>())
            }
            Source::Shared(tensor) => {
                let mut values = self.shared[tensor].clone();
                let lowest = self.public(plan.tensors[tensor].range.lo);
                values.iter_mut().for_each(|x| *x = x.wrapping_sub(lowest));
                values
            }
        };
        let planes = |values: &[u64]| Planes::from_lanes(values, width);
        match &step.kind {
            NonlinearKind::MaxPool { windows } => windows.gather(&values, 0).map(|tap| planes(&tap)).collect(),
            NonlinearKind::AvgPool { windows, multiplier, offset } => {
                let mut sum = windows.sum(&values);
                let offset = self.public(*offset);
                sum.iter_mut().for_each(|x| *x = x.wrapping_mul(*multiplier as u64).wrapping_add(offset));
                vec![planes(&sum)]
            }
            NonlinearKind::Table | NonlinearKind::Requantise { .. } => vec![planes(&values)],
        }
    }

    /// Keeps a program's result, whose values count from 0 (those of a table do not).
    pub(crate) fn keep(&mut self, plan: &Plan, step: &Nonlinear, result: Planes) {
        match plan.holdings[step.node + 1] {
            Holding::Small { .. } => self.small[step.node + 1] = Some(result),
            Holding::Shared { ring, root } => {
                let mut values = Zeroizing::new(result.to_lanes::<u64>());
                if !matches!(step.kind, NonlinearKind::Table) {
                    let lowest = self.public(plan.tensors[step.node + 1].range.lo);
                    values.iter_mut().for_each(|x| *x = x.wrapping_add(lowest));
                }
                reduce(&mut values, ring);
                self.shared[root] = values;
            }
            Holding::Accumulator { .. } => unreachable!("nonlinear steps make activations"),
        }
    }
}

/// Reduces words modulo 2^bits.
pub(crate) fn reduce(values: &mut [u64], bits: u32) {
    let mask = if bits >= 64 { u64::MAX } else { (1 << bits) - 1 };
    values.iter_mut().for_each(|x| *x &= mask);
}
