//! One party's half of every tensor, while an inference lasts.
//!
//! The same code serves both schedules. `shared` of a tensor is the client's pad xhat and the server's m = x - xhat in the
//! prepared schedule, and the parties' shares of x in the direct one.

use lowkey_mpc::bits::Planes;
use lowkey_mpc::party::Party;
use zeroize::Zeroizing;

use super::step::{Nonlinear, Source, Step};
use super::{ByNode, ByTensor, Holding, TensorId};

/// One party's half of every tensor.
pub(crate) struct Halves {
    pub(crate) party: Party,
    /// By tensor (storage): words of its ring.
    pub(crate) shared: ByTensor<Zeroizing<Vec<u64>>>,
    /// By tensor: shares in a small ring.
    pub(crate) small: ByTensor<Option<Planes>>,
    /// By node: shares of an accumulator, with or without its guard bit.
    pub(crate) accumulators: ByNode<Zeroizing<Vec<u64>>>,
}

/// What nobody reads any more after some step.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expired {
    /// Shares that belong to one tensor: accumulators, and those in small rings.
    pub(crate) tensors: Vec<TensorId>,
    /// Storage of shared activations.
    pub(crate) storage: Vec<TensorId>,
}

impl Halves {
    /// Drops accumulators and small shares that nobody reads any more.
    pub(crate) fn drop_own(&mut self, expired: &Expired) {
        for tensor in &expired.tensors {
            self.small[*tensor] = None;
            if let Some(maker) = tensor.maker() {
                self.accumulators[maker] = Zeroizing::new(Vec::new());
            }
        }
    }

    /// Drops everything that nobody reads any more.
    pub(crate) fn drop_all(&mut self, expired: &Expired) {
        self.drop_own(expired);
        for storage in &expired.storage {
            self.shared[*storage] = Zeroizing::new(Vec::new());
        }
    }

    /// No tensor yet, of a network of `nodes` nodes.
    pub(crate) fn new(nodes: usize, party: Party) -> Self {
        Self {
            party,
            shared: ByTensor::with(nodes + 1, || Zeroizing::new(Vec::new())),
            small: ByTensor::with(nodes + 1, || None),
            accumulators: ByNode::with(nodes, || Zeroizing::new(Vec::new())),
        }
    }

    /// A step that each party does alone; nothing for others.
    pub(crate) fn local(&mut self, step: &Step) {
        match step {
            Step::Local { inputs, output, ring, windows } => {
                let mut values: Vec<u64> = match windows {
                    Some(windows) => windows.sum(&self.shared[inputs[0]]),
                    None => inputs.iter().flat_map(|input| self.shared[*input].iter().copied()).collect(),
                };
                reduce(&mut values, *ring);
                self.shared[*output] = Zeroizing::new(values);
            }
            Step::Linear(_) | Step::Nonlinear(_) | Step::Reshape => {}
        }
    }

    /// A public constant is added by the server alone.
    pub(super) fn public(&self, value: i64) -> u64 {
        match self.party {
            Party::Client => 0,
            Party::Server => value as u64,
        }
    }

    /// The half of what a program reads, as it is stored.
    pub(super) fn read(&self, source: Source) -> Zeroizing<Vec<u64>> {
        match source {
            Source::Accumulator(node) | Source::Scaled(node) => self.accumulators[node].clone(),
            Source::Small(tensor) => self.read_small(tensor),
            Source::Shared(tensor) => self.shared[tensor].clone(),
        }
    }

    /// Shares in a small ring, one word each.
    pub(super) fn read_small(&self, tensor: TensorId) -> Zeroizing<Vec<u64>> {
        Zeroizing::new(self.small[tensor].as_ref().expect("computed by an earlier step").to_lanes::<u64>())
    }

    /// Keeps a program's result as tensor `made`, which counts from `lowest`.
    pub(super) fn keep(&mut self, made: TensorId, holding: Holding, lowest: i64, result: Planes) {
        match holding {
            Holding::Small { .. } => self.small[made] = Some(result),
            Holding::Shared { ring, root } => {
                let mut values = Zeroizing::new(result.to_lanes::<u64>());
                let lowest = self.public(lowest);
                values.iter_mut().for_each(|x| *x = x.wrapping_add(lowest));
                reduce(&mut values, ring);
                self.shared[root] = values;
            }
            Holding::Scaled { .. } | Holding::Accumulator { .. } | Holding::Truncated { .. } => {
                unreachable!("accumulators are kept by their own operators")
            }
        }
    }
}

impl Nonlinear {
    /// The half of what it reads, activations counted from 0.
    pub(super) fn counted(&self, halves: &Halves) -> Zeroizing<Vec<u64>> {
        let mut values = halves.read(self.source);
        let lowest = halves.public(self.lowest[0]);
        values.iter_mut().for_each(|x| *x = x.wrapping_sub(lowest));
        values
    }

    /// Words as an input of its program.
    pub(super) fn planes(&self, values: &[u64]) -> Planes {
        Planes::from_lanes(values, self.input_width as usize)
    }
}

/// Reduces words modulo 2^bits.
pub(crate) fn reduce(values: &mut [u64], bits: u32) {
    let mask = if bits >= 64 { u64::MAX } else { (1 << bits) - 1 };
    values.iter_mut().for_each(|x| *x &= mask);
}
