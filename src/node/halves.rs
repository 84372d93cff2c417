//! One party's half of every tensor, while an inference lasts.
//!
//! The same code serves both schedules. `shared` of a tensor is the client's pad xhat and the server's m = x - xhat in the
//! prepared schedule, and the parties' shares of x in the direct one.

use lowkey_mpc::bits::Planes;
use lowkey_mpc::party::Party;
use zeroize::Zeroizing;

use super::step::{Nonlinear, Operand, Step};
use super::{ByNode, ByTensor, Holding, TensorId};
use crate::share::{Ring, RingShare};

/// One party's half of every tensor.
pub(crate) struct Halves {
    pub(crate) party: Party,
    /// By tensor (storage).
    pub(crate) shared: ByTensor<RingShare>,
    /// By tensor: shares in a small ring.
    pub(crate) small: ByTensor<Option<Planes>>,
    /// By node: shares of an accumulator.
    pub(crate) accumulators: ByNode<RingShare>,
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
    /// Drops everything that nobody reads any more.
    pub(crate) fn drop_all(&mut self, expired: &Expired) {
        for tensor in &expired.tensors {
            self.small[*tensor] = None;
            if let Some(maker) = tensor.maker() {
                self.accumulators[maker] = RingShare::none();
            }
        }
        for storage in &expired.storage {
            self.shared[*storage] = RingShare::none();
        }
    }

    /// No tensor yet, of a network of `nodes` nodes.
    pub(crate) fn new(nodes: usize, party: Party) -> Self {
        Self {
            party,
            shared: ByTensor::with(nodes + 1, RingShare::none),
            small: ByTensor::with(nodes + 1, || None),
            accumulators: ByNode::with(nodes, RingShare::none),
        }
    }

    /// A step that each party does alone; nothing for others.
    pub(crate) fn local(&mut self, step: &Step) {
        match step {
            Step::Local { inputs, output, ring, windows } => {
                let values = match windows {
                    Some(windows) => windows.sum(self.shared[inputs[0]].words()),
                    None => inputs.iter().flat_map(|input| self.shared[*input].words().iter().copied()).collect(),
                };
                self.shared[*output] = RingShare::new(values, Ring::plain(*ring));
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
    pub(super) fn read(&self, operand: Operand) -> RingShare {
        match operand {
            Operand::Accumulator(node) | Operand::Scaled(node) => self.accumulators[node].clone(),
            Operand::Small(tensor) => {
                let planes = self.planes_of(tensor);
                RingShare::new(planes.to_lanes(), Ring::plain(planes.width() as u32))
            }
            Operand::Shared(tensor) => self.shared[tensor].clone(),
        }
    }

    /// Shares in a small ring, one word each.
    pub(super) fn read_small(&self, tensor: TensorId) -> Zeroizing<Vec<u64>> {
        Zeroizing::new(self.planes_of(tensor).to_lanes())
    }

    fn planes_of(&self, tensor: TensorId) -> &Planes {
        self.small[tensor].as_ref().expect("computed by an earlier step")
    }

    /// Keeps a program's result as tensor `made`, which counts from `lowest`.
    pub(super) fn keep(&mut self, made: TensorId, holding: Holding, lowest: i64, result: Planes) {
        match holding {
            Holding::Small { .. } => self.small[made] = Some(result),
            Holding::Shared { ring, root } => {
                let values = RingShare::new(result.to_lanes(), Ring::plain(ring));
                self.shared[root] = values.less(self.public(lowest.wrapping_neg()));
            }
            Holding::Scaled { .. } | Holding::Accumulator { .. } | Holding::Truncated { .. } => {
                unreachable!("accumulators are kept by their own operators")
            }
        }
    }
}

impl Nonlinear {
    /// The half of what it reads, activations counted from 0.
    pub(super) fn counted(&self, halves: &Halves) -> RingShare {
        halves.read(self.operand).less(halves.public(self.lowest[0]))
    }

    /// Words as an input of its program.
    pub(super) fn planes(&self, values: &[u64]) -> Planes {
        Planes::from_lanes(values, self.input_width as usize)
    }
}
