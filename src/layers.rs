//! One nonlinear step at one party: what goes into its program, and what comes out.
//!
//! The same code serves both schedules. `share` of a tensor is the client's pad xhat and the server's m = x - xhat in the
//! prepared schedule, and the parties' shares of x in the direct one.

use lowkey_bridge::parameters::GUARD_BITS;
use lowkey_mpc::bits::Planes;
use lowkey_mpc::party::Party;
use zeroize::Zeroizing;

use crate::plan::{
    ByNode, ByTensor, Holding, LinearNode, Nonlinear, NonlinearKind, Plan, Source, Step, TensorId, Windows,
};

/// One party's half of every tensor, while an inference lasts.
pub(crate) struct Halves {
    party: Party,
    /// By tensor (storage): words of its ring.
    pub(crate) shared: ByTensor<Zeroizing<Vec<u64>>>,
    /// By tensor: shares in a small ring.
    pub(crate) small: ByTensor<Option<Planes>>,
    /// By node: shares of an accumulator, with or without its guard bit.
    pub(crate) accumulators: ByNode<Zeroizing<Vec<u64>>>,
}

impl Halves {
    /// No tensor yet.
    pub(crate) fn new(plan: &Plan, party: Party) -> Self {
        let tensors = plan.tensors.len();
        Self {
            party,
            shared: ByTensor::with(tensors, || Zeroizing::new(Vec::new())),
            small: ByTensor::with(tensors, || None),
            accumulators: ByNode::with(plan.steps.len(), || Zeroizing::new(Vec::new())),
        }
    }

    /// A step that each party does alone.
    pub(crate) fn local(&mut self, step: &Step) {
        if let Step::Local { inputs, output, ring, windows } = step {
            let mut values: Vec<u64> = match windows {
                Some(windows) => windows.sum(&self.shared[inputs[0]]),
                None => inputs.iter().flat_map(|input| self.shared[*input].iter().copied()).collect(),
            };
            reduce(&mut values, *ring);
            self.shared[*output] = Zeroizing::new(values);
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

    /// What a program reads before the input is known, the pad of its result excepted. The server gives nothing.
    pub(crate) fn early_inputs(&self, plan: &Plan, step: &Nonlinear) -> Vec<Planes> {
        match &step.kind {
            _ if self.party == Party::Server || !step.source.is_early() => vec![],
            NonlinearKind::Pooled { windows, low, .. } => self.pooled_words(step, windows, *low),
            _ => self.inputs(plan, step, &[]),
        }
    }

    /// What a program reads when it runs. `bias` is the server's, of a truncated scale.
    pub(crate) fn late_inputs(&self, plan: &Plan, step: &Nonlinear, bias: &[i64]) -> Vec<Planes> {
        match (&step.kind, self.party) {
            (NonlinearKind::Pooled { windows, carries, .. }, Party::Client) => self.pooled_carries(windows, *carries),
            (NonlinearKind::Pooled { windows, carries, low }, Party::Server) => {
                let words = self.pooled_words(step, windows, *low);
                words.into_iter().zip(self.pooled_carries(windows, *carries)).flat_map(<[Planes; 2]>::from).collect()
            }
            (_, Party::Client) if step.source.is_early() => vec![],
            _ => self.inputs(plan, step, bias),
        }
    }

    /// The halves of multiplied and truncated accumulators: of the client two bits and its number, of the server three numbers.
    fn products(&self, plan: &Plan, step: &Nonlinear, shares: &[u64], bias: &[i64]) -> Vec<Planes> {
        let NonlinearKind::Rescale { factors, lowered } = &step.kind else {
            unreachable!("only truncated scales multiply so")
        };
        let pixels: usize = plan.tensors[step.node.output()].shape[1..].iter().product();
        let mut columns = [(); 3].map(|()| Zeroizing::new(Vec::with_capacity(shares.len())));
        for (channel, shares) in shares.chunks_exact(pixels).enumerate() {
            let factor = factors[if factors.len() == 1 { 0 } else { channel }];
            let offset = bias.get(channel).map_or(0, |bias| bias.wrapping_sub(*lowered));
            for &share in shares {
                let row = match self.party {
                    Party::Client => factor.client(share),
                    Party::Server => factor.server(share, offset),
                };
                columns.iter_mut().zip(row).for_each(|(column, value)| column.push(value));
            }
        }
        let ring = step.input_width as usize;
        let widths = if self.party == Party::Client { [1, 1, ring] } else { [ring; 3] };
        columns.iter().zip(widths).map(|(column, width)| Planes::from_lanes(column, width)).collect()
    }

    /// The accumulators of windows without their low bits, one input per window element.
    fn pooled_words(&self, step: &Nonlinear, windows: &Windows, low: u32) -> Vec<Planes> {
        let Source::Accumulator(node) = step.source else { unreachable!("pools before a clip read accumulators") };
        let words: Zeroizing<Vec<u64>> = Zeroizing::new(self.accumulators[node].iter().map(|z| z >> low).collect());
        windows.gather(&words, 0).map(|tap| Planes::from_lanes(&tap, step.input_width as usize)).collect()
    }

    /// The carries that belong to [`pooled_words`](Self::pooled_words).
    fn pooled_carries(&self, windows: &Windows, tensor: TensorId) -> Vec<Planes> {
        let carries = self.small[tensor].as_ref().expect("computed by an earlier step").to_lanes::<u64>();
        windows.gather(&Zeroizing::new(carries), 0).map(|tap| Planes::from_lanes(&tap, 1)).collect()
    }

    /// The inputs of a program that reads one tensor at one time: one input per window element of a pool. Activations are
    /// counted from 0.
    fn inputs(&self, plan: &Plan, step: &Nonlinear, bias: &[i64]) -> Vec<Planes> {
        let width = step.input_width as usize;
        let mut values = match step.source {
            Source::Accumulator(node) | Source::Scaled(node) => self.accumulators[node].clone(),
            Source::Small(tensor) => {
                Zeroizing::new(self.small[tensor].as_ref().expect("computed by an earlier step").to_lanes::<u64>())
            }
            Source::Shared(tensor) => {
                let mut values = self.shared[tensor].clone();
                // An average pool counts from its lowest result, by its offset.
                if !matches!(step.kind, NonlinearKind::AvgPool { .. }) {
                    let lowest = self.public(plan.tensors[tensor].range.lo);
                    values.iter_mut().for_each(|x| *x = x.wrapping_sub(lowest));
                }
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
            NonlinearKind::Requantise { lowered } => {
                let guard = if matches!(step.source, Source::Accumulator(_)) { GUARD_BITS } else { 0 };
                let lowered = self.public(lowered << guard);
                values.iter_mut().for_each(|z| *z = z.wrapping_sub(lowered));
                vec![planes(&values)]
            }
            NonlinearKind::Rescale { .. } => self.products(plan, step, &values, bias),
            NonlinearKind::Carries | NonlinearKind::Table | NonlinearKind::Scale { .. } => vec![planes(&values)],
            NonlinearKind::Pooled { .. } => unreachable!("reads its inputs at two times"),
        }
    }

    /// Keeps a program's result. Activations count from 0 (those of a table do not). `bias` is the server's, of a scale.
    pub(crate) fn keep(&mut self, plan: &Plan, step: &Nonlinear, result: Planes, bias: &[i64]) {
        match plan.holdings[step.node.output()] {
            Holding::Small { .. } => self.small[step.node.output()] = Some(result),
            Holding::Shared { ring, root } => {
                let mut values = Zeroizing::new(result.to_lanes::<u64>());
                if !matches!(step.kind, NonlinearKind::Table) {
                    let lowest = self.public(plan.tensors[step.node.output()].range.lo);
                    values.iter_mut().for_each(|x| *x = x.wrapping_add(lowest));
                }
                reduce(&mut values, ring);
                self.shared[root] = values;
            }
            Holding::Scaled { ell } => {
                let NonlinearKind::Scale { multiplier, .. } = &step.kind else {
                    unreachable!("only scales make these")
                };
                let mut values = Zeroizing::new(result.to_lanes::<u64>());
                let pixels = plan.tensors[step.node.output()].shape[1..].iter().product();
                for (channel, values) in values.chunks_exact_mut(pixels).enumerate() {
                    let factor = multiplier[if multiplier.len() == 1 { 0 } else { channel }] as u64;
                    let bias = bias.get(channel).map_or(0, |bias| *bias as u64);
                    values.iter_mut().for_each(|z| *z = z.wrapping_mul(factor).wrapping_add(bias));
                }
                reduce(&mut values, ell);
                self.accumulators[step.node] = values;
            }
            Holding::Accumulator { .. } | Holding::Truncated { .. } => unreachable!("made by no program"),
        }
    }
}

/// Reduces words modulo 2^bits.
pub(crate) fn reduce(values: &mut [u64], bits: u32) {
    let mask = if bits >= 64 { u64::MAX } else { (1 << bits) - 1 };
    values.iter_mut().for_each(|x| *x &= mask);
}
