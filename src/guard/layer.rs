//! One circuit of a plan while an inference runs: what it reads of each party, and what becomes of what it makes.

use std::sync::Arc;

use lowkey_mpc::bits::Planes;
use lowkey_mpc::guard::{Bits, Circuit, circuits};
use lowkey_mpc::party::Party;
use zeroize::Zeroizing;

use super::products::Products;
use super::slot::ClientHalf;
use crate::answer;
use crate::error::Error;
use crate::node::{Halves, width_of};
use crate::plan::{ByNode, ByTensor, NodeId, NonlinearKind, Operand, Plan, Reveal, Step, TensorId, Windows};
use crate::scope::{INPUT, OUTPUT};
use crate::share::{Ring, RingShare, ToPlanes};

/// What a layer reads.
#[derive(Debug)]
pub(super) enum Reads {
    /// The client's input.
    Input,
    /// Shares of an accumulator, of which the server lowers its own.
    Accumulator { node: NodeId, lowered: u64 },
    /// Multiplied accumulators.
    Products(Products),
    /// Multiplied sums of the windows of a pool, likewise; the offset is the server's.
    Average { pool: NodeId, from: TensorId, multiplier: u64, offset: u64 },
    /// A masked tensor (storage); its bits count from `lowest`, which the server subtracts.
    Masked { tensor: TensorId, lowest: i64 },
    /// Kept values, of a pool those of its windows.
    Kept { from: TensorId, reader: NodeId },
    /// Shares of the output, with a guard bit.
    Output,
    /// Logits that were kept.
    Logits,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Makes {
    /// m = y - xhat in a ring, opened to the server; y counts from `lowest`.
    Masked { tensor: TensorId, ring: u32, lowest: i64 },
    /// Bits that are kept.
    Kept(TensorId),
    /// Logits that are kept.
    Logits,
    /// Opened to the client.
    Answer,
}

/// One circuit of a plan.
#[derive(Debug)]
pub(crate) struct Layer {
    /// `None` of the input and the output.
    pub(super) node: Option<NodeId>,
    pub(crate) circuit: Arc<Circuit>,
    pub(crate) lanes: usize,
    /// Bits of a share that it reads.
    pub(super) width: usize,
    pub(super) reads: Reads,
    pub(super) makes: Makes,
}

/// What was kept, while an inference lasts.
pub(crate) struct Kept {
    bits: ByTensor<Option<Bits>>,
    logits: Option<Bits>,
}

impl Kept {
    /// Nothing yet, of a network of `nodes` nodes.
    pub(crate) fn new(nodes: usize) -> Self {
        Self { bits: ByTensor::with(nodes + 1, || None), logits: None }
    }
}

/// One party's words: pads and shares of the client, m and shares of the server.
#[derive(Clone, Copy)]
struct Words<'a> {
    party: Party,
    shared: &'a ByTensor<RingShare>,
    accumulators: &'a ByNode<RingShare>,
}

impl Layer {
    /// What its bytes are counted under.
    pub(crate) fn scope<'a>(&self, plan: &'a Plan) -> &'a str {
        match (self.node, &self.reads) {
            (Some(node), _) => plan.name(node),
            (None, Reads::Input) => INPUT,
            (None, _) => OUTPUT,
        }
    }

    /// A slot has no circuit for it: a bug.
    pub(crate) fn missing(&self, plan: &Plan) -> Error {
        Error::MissingProgram { node: self.scope(plan).to_owned() }
    }

    /// Triples that it takes.
    pub(crate) fn triples(&self) -> usize {
        self.circuit.triples() * self.lanes
    }

    /// The client's inputs before the image is known, of its own half: what the circuit reads, and what an audit compares.
    pub(crate) fn early(&self, plan: &Plan, half: &ClientHalf) -> Vec<Planes> {
        let words = Words { party: Party::Client, shared: &half.pads, accumulators: &half.shares };
        let pad = match self.makes {
            Makes::Masked { tensor, .. } => Some(half.pads[tensor].planes()),
            Makes::Kept(_) | Makes::Logits | Makes::Answer => None,
        };
        let own = match self.products() {
            Some(products) => products.of_client(words.accumulators[products.from].words()),
            None => self.share(plan, words).into_iter().collect(),
        };
        own.into_iter().chain(pad).collect()
    }

    /// The server's inputs, with its biases.
    pub(crate) fn of_server(&self, plan: &Plan, halves: &Halves, biases: &ByNode<Vec<i64>>) -> Vec<Planes> {
        let words = Words { party: Party::Server, shared: &halves.shared, accumulators: &halves.accumulators };
        match self.products() {
            Some(products) => products.of_server(words.accumulators[products.from].words(), &biases[products.biased]),
            None => self.share(plan, words).into_iter().collect(),
        }
    }

    /// What both parties know.
    pub(crate) fn public(&self) -> Vec<Planes> {
        self.products().map_or_else(Vec::new, |products| products.public(self.lanes))
    }

    /// The products that it reads, if it reads products.
    fn products(&self) -> Option<&Products> {
        match &self.reads {
            Reads::Products(products) => Some(products),
            Reads::Input
            | Reads::Accumulator { .. }
            | Reads::Average { .. }
            | Reads::Masked { .. }
            | Reads::Kept { .. }
            | Reads::Output
            | Reads::Logits => None,
        }
    }

    /// A party's share of what it reads, if it reads shares.
    fn share(&self, plan: &Plan, words: Words<'_>) -> Option<Planes> {
        let own = |value: u64| if words.party == Party::Server { value } else { 0 };
        Some(match self.reads {
            Reads::Input | Reads::Kept { .. } | Reads::Logits | Reads::Products(_) => return None,
            Reads::Accumulator { node, lowered } => {
                self.planes(words.accumulators[node].clone().less(own(lowered)).words())
            }
            Reads::Masked { tensor, lowest } => {
                self.planes(words.shared[tensor].clone().less(own(lowest as u64)).words())
            }
            Reads::Average { pool, from, multiplier, offset } => {
                let windows = windows(plan, pool).expect("of a pool");
                let mut sums = Zeroizing::new(windows.sum(words.shared[from].words()));
                let offset = own(offset);
                sums.iter_mut().for_each(|sum| *sum = sum.wrapping_mul(multiplier).wrapping_add(offset));
                self.planes(&sums)
            }
            Reads::Output => {
                let share = match plan.answer.operand {
                    Operand::Accumulator(node) => &words.accumulators[node],
                    Operand::Shared(tensor) => &words.shared[tensor],
                    Operand::Small(_) | Operand::Scaled(_) => unreachable!("no output is held so"),
                };
                answer::planes(&plan.answer, Reveal::Class, share)
            }
        })
    }

    /// The low bits of words, as many as it reads.
    fn planes(&self, words: &[u64]) -> Planes {
        Planes::from_lanes(words, self.width)
    }

    /// The client's image, as the input's circuit reads it.
    pub(crate) fn image(&self, plan: &Plan, input: &[i64]) -> Planes {
        let range = plan.input().range;
        let values: Zeroizing<Vec<u64>> = Zeroizing::new(input.iter().map(|x| (x - range.lo) as u64).collect());
        Planes::from_lanes(&values, width_of(range.hi - range.lo) as usize)
    }

    /// What it reads of what was kept.
    pub(crate) fn kept(&self, plan: &Plan, kept: &Kept) -> Vec<Bits> {
        match self.reads {
            Reads::Input
            | Reads::Accumulator { .. }
            | Reads::Products(_)
            | Reads::Masked { .. }
            | Reads::Average { .. }
            | Reads::Output => Vec::new(),
            Reads::Logits => circuits::per_class(kept.logits.as_ref().expect("made before"), plan.answer.lanes),
            Reads::Kept { from, reader } => {
                let bits = kept.bits[from].as_ref().expect("made by an earlier layer");
                match windows(plan, reader) {
                    None => vec![bits.planes(0..bits.width())],
                    Some(windows) => {
                        let places: Vec<u64> = (0..bits.lanes() as u64).collect();
                        let tap = |places: Vec<u64>| {
                            let from = |to: usize| Some(places[to] as usize).filter(|_| places[to] != u64::MAX);
                            bits.gather_or_zero(self.lanes, from)
                        };
                        windows.gather(&places, u64::MAX).map(tap).collect()
                    }
                }
            }
        }
    }

    /// Takes what it made: m into the server's halves, bits into `kept`. Returns what was opened to the client.
    pub(crate) fn keep(
        &self,
        outputs: lowkey_mpc::guard::Outputs,
        halves: Option<&mut Halves>,
        kept: &mut Kept,
    ) -> Option<Planes> {
        let mut bits = outputs.kept.into_iter();
        let mut opened = outputs.opened.into_iter();
        match self.makes {
            Makes::Kept(tensor) => kept.bits[tensor] = bits.next(),
            Makes::Logits => kept.logits = bits.next(),
            Makes::Answer => return opened.next(),
            Makes::Masked { tensor, ring, lowest } => {
                if let (Some(halves), Some(m)) = (halves, opened.next()) {
                    let values = RingShare::new(m.to_lanes(), Ring::plain(ring));
                    halves.shared[tensor] = values.less(lowest.wrapping_neg() as u64);
                }
            }
        }
        None
    }
}

/// The windows of a pool.
fn windows(plan: &Plan, node: NodeId) -> Option<&Windows> {
    let Step::Nonlinear(step) = &plan.steps[node] else { return None };
    match &step.kind {
        NonlinearKind::MaxPool { windows }
        | NonlinearKind::Pooled { windows, .. }
        | NonlinearKind::AvgPool { windows, .. } => Some(windows),
        NonlinearKind::Requantise { .. }
        | NonlinearKind::Dither { .. }
        | NonlinearKind::Block { .. }
        | NonlinearKind::Rescale { .. }
        | NonlinearKind::Carries
        | NonlinearKind::Table
        | NonlinearKind::Scale { .. } => None,
    }
}
