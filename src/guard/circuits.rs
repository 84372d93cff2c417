//! The nonlinear layers of a plan as circuits against a client that cheats: what each reads and makes, and which have none.
//!
//! A value is *masked*, opened to the server as m = x - xhat, where a linear layer or the output reads it; and *kept* as authenticated
//! bits where max pools and tables alone do. Linear layers, sums and other orders are what they are without a guard: each party's own.

use std::sync::Arc;

use lowkey_bridge::parameters::GUARD_BITS;
use lowkey_models::Op;
use lowkey_mpc::bits::Planes;
use lowkey_mpc::guard::{Bits, Circuit, Destination, circuits};
use lowkey_mpc::layout::LayoutError;
use lowkey_mpc::ot::OtCount;
use lowkey_mpc::party::Party;
use lowkey_mpc::requantise::{Clip, Spec};
use zeroize::Zeroizing;

use super::slot::ClientHalf;
use crate::answer;
use crate::node::{self, Halves, Held, reduce, width_of};
use crate::plan::{
    ByNode, ByTensor, Holding, NodeId, Nonlinear, NonlinearKind, Plan, PlanError, Reveal, Source, Step, TensorId,
    Windows,
};
use crate::scope::{INPUT, OUTPUT};

/// What a layer reads.
#[derive(Clone, Copy, Debug)]
enum Reads {
    /// The client's input.
    Input,
    /// Shares of an accumulator, of which the server lowers its own.
    Accumulator { node: NodeId, lowered: u64 },
    /// Multiplied sums of the windows of a pool, likewise; the offset is the server's.
    Average { pool: NodeId, from: TensorId, multiplier: u64, offset: u64 },
    /// Kept values, of a pool those of its windows.
    Kept { from: TensorId, reader: NodeId },
    /// Shares of the output, with a guard bit.
    Output,
    /// Logits that were kept.
    Logits,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug)]
enum Makes {
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
    node: Option<NodeId>,
    pub(crate) circuit: Arc<Circuit>,
    pub(crate) lanes: usize,
    /// Bits of a share that it reads.
    width: usize,
    reads: Reads,
    makes: Makes,
}

/// All circuits of a plan.
#[derive(Debug)]
pub struct Circuits {
    input: Layer,
    nodes: ByNode<Option<Layer>>,
    logits: [Layer; 1],
    /// The logits, kept, and their arg max; none for an output of one value.
    class: Vec<Layer>,
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
    shared: &'a ByTensor<Zeroizing<Vec<u64>>>,
    accumulators: &'a ByNode<Zeroizing<Vec<u64>>>,
}

impl Circuits {
    /// The circuits of a plan.
    ///
    /// # Errors
    /// [`PlanError::NoCircuit`] names the first layer that has none.
    pub fn derive(plan: &Plan) -> Result<Self, PlanError> {
        plan.with_held(|held| {
            let layer = |step: &Step| match step {
                Step::Nonlinear(step) => Layer::of(plan, held, step).map(Some),
                Step::Linear(_) | Step::Local { .. } | Step::Reshape => Ok(None),
            };
            let nodes: Vec<_> = plan.steps.iter().map(layer).collect::<Result<_, _>>()?;
            let bits = plan.answer.bits as usize;
            let output = |to, makes| -> Result<Layer, PlanError> {
                let circuit = circuits::logits(bits, to).map_err(of_output)?;
                Ok(Layer::of_output(circuit, plan.answer.lanes, bits + GUARD_BITS as usize, Reads::Output, makes))
            };
            let class = match &plan.answer.class {
                None => Vec::new(),
                Some(_) => {
                    let circuit = circuits::argmax(bits, plan.answer.lanes).map_err(of_output)?;
                    let largest = Layer::of_output(circuit, 1, bits, Reads::Logits, Makes::Answer);
                    vec![output(Destination::Kept, Makes::Logits)?, largest]
                }
            };
            let logits = [output(Destination::Client, Makes::Answer)?];
            Ok(Self { input: Layer::of_input(plan)?, nodes: nodes.into(), logits, class })
        })
    }

    /// The circuit of the input.
    pub(crate) fn input(&self) -> &Layer {
        &self.input
    }

    /// That of a node.
    pub(crate) fn of(&self, node: NodeId) -> Option<&Layer> {
        self.nodes[node].as_ref()
    }

    /// Those of the output.
    pub(crate) fn output(&self, reveal: Reveal) -> &[Layer] {
        match reveal {
            Reveal::Logits => &self.logits,
            Reveal::Class => &self.class,
        }
    }

    /// All of one inference, in order.
    pub(crate) fn all(&self, reveal: Reveal) -> impl Iterator<Item = &Layer> {
        std::iter::once(&self.input).chain(self.nodes.iter().flatten()).chain(self.output(reveal))
    }

    /// Oblivious transfers of one slot, those of its triples not included.
    pub(crate) fn ots(&self, reveal: Reveal) -> OtCount {
        self.all(reveal).map(|layer| layer.circuit.ots(layer.lanes)).sum()
    }

    /// Triples of one slot.
    pub(crate) fn triples(&self, reveal: Reveal) -> usize {
        self.all(reveal).map(Layer::triples).sum()
    }
}

fn of_output(source: LayoutError) -> PlanError {
    PlanError::Layout { node: "output".into(), source }
}

/// True if max pools and tables alone read a tensor.
fn is_kept(plan: &Plan, tensor: TensorId) -> bool {
    if !matches!(plan.holdings[tensor], Holding::Shared { .. }) {
        return true;
    }
    let nodes = &plan.architecture.nodes;
    let mut readers = plan.architecture.consumers(tensor.index()).peekable();
    plan.architecture.output != tensor.index()
        && readers.peek().is_some()
        && readers.all(|node| matches!(nodes[node].op, Op::MaxPool { .. } | Op::Table { .. }))
}

impl Layer {
    fn of_input(plan: &Plan) -> Result<Self, PlanError> {
        let of_input = |source| PlanError::Layout { node: "input".into(), source };
        let (range, tensor) = (plan.input().range, TensorId::INPUT);
        let (ring, _) = plan.shared(tensor).expect("the input is shared");
        let span = range.hi - range.lo;
        let circuit = circuits::input(width_of(span) as usize, span as u64, ring as u8).map_err(of_input)?;
        let makes = Makes::Masked { tensor, ring, lowest: range.lo };
        let lanes = plan.input().elements();
        Ok(Self { node: None, circuit: Arc::new(circuit), lanes, width: 0, reads: Reads::Input, makes })
    }

    fn of_output(circuit: Circuit, lanes: usize, width: usize, reads: Reads, makes: Makes) -> Self {
        Self { node: None, circuit: Arc::new(circuit), lanes, width, reads, makes }
    }

    fn of(plan: &Plan, held: &Held<'_>, step: &Nonlinear) -> Result<Self, PlanError> {
        let node = step.node;
        let none = |what| PlanError::NoCircuit { node: plan.name(node).to_owned(), what };
        let of_node = |source| PlanError::Layout { node: plan.name(node).to_owned(), source };
        let made = node.output();
        let (makes, ring) = match plan.holdings[made] {
            Holding::Shared { ring, root } if !is_kept(plan, made) => {
                let lowest = if let NonlinearKind::Table = step.kind { 0 } else { plan.tensors[made].range.lo };
                (Makes::Masked { tensor: root, ring, lowest }, Some(ring as u8))
            }
            _ => (Makes::Kept(made), None),
        };
        let layer = |circuit: Circuit, width: usize, reads: Reads| Self {
            node: Some(node),
            circuit: Arc::new(circuit),
            lanes: step.lanes,
            width,
            reads,
            makes,
        };
        let requantise = |spec: Spec, top: u8| -> Result<(Circuit, usize, u64), PlanError> {
            let lowered = if spec.is_sign().map_err(of_node)? { 1u64 << spec.shift << spec.guard } else { 0 };
            let clip = Clip { top, spare: false };
            Ok((circuits::requantise(spec, clip, ring).map_err(of_node)?, spec.width(), lowered))
        };
        let from = held.input(node);
        let kept = || {
            let reads = Reads::Kept { from, reader: node };
            if from != TensorId::INPUT && is_kept(plan, from) { Some(reads) } else { None }
        };
        match &step.kind {
            NonlinearKind::Requantise { .. } | NonlinearKind::Carries => {
                let (spec, top) = node::exact(held, node).ok_or_else(|| none("truncated products"))?;
                let Source::Accumulator(of) = step.source else { return Err(none("multiplied sums")) };
                let (circuit, width, lowered) = requantise(spec, top)?;
                Ok(layer(circuit, width, Reads::Accumulator { node: of, lowered }))
            }
            NonlinearKind::AvgPool { multiplier, offset, .. } => {
                let Source::Shared(from) = step.source else { return Err(none("an average of what is not masked")) };
                let (width, shift) = (step.input_width as u8, node::average_shift(held, node));
                let spec = Spec { ell: width, shift, bits: step.bits as u8, guard: 0 };
                let (circuit, width, lowered) = requantise(spec, u8::MAX)?;
                let offset = (*offset as u64).wrapping_sub(lowered);
                let reads = Reads::Average { pool: node, from, multiplier: *multiplier as u64, offset };
                Ok(layer(circuit, width, reads))
            }
            NonlinearKind::MaxPool { windows } | NonlinearKind::Pooled { windows, .. } => {
                let reads = kept().ok_or_else(|| none("a max pool of what other layers read too"))?;
                let bits = held.widths[from] as usize;
                let circuit = circuits::max_pool(bits, windows.size(), ring).map_err(of_node)?;
                Ok(layer(circuit, bits, reads))
            }
            NonlinearKind::Table => {
                let reads = kept().ok_or_else(|| none("a table of what other layers read too"))?;
                let ring = ring.ok_or_else(|| none("a table that a pool or a table reads"))?;
                let (bits, entries) = node::table_entries(held, node);
                let entries: Vec<u64> = entries.into_iter().map(|entry| entry as u64).collect();
                let circuit = circuits::table(bits as usize, &entries, ring).map_err(of_node)?;
                Ok(layer(circuit, bits as usize, reads))
            }
            NonlinearKind::Rescale { .. } => Err(none("truncated products")),
            NonlinearKind::Scale { .. } => Err(none("a scale")),
        }
    }

    /// What its bytes are counted under.
    pub(crate) fn scope<'a>(&self, plan: &'a Plan) -> &'a str {
        match (self.node, self.reads) {
            (Some(node), _) => plan.name(node),
            (None, Reads::Input) => INPUT,
            (None, _) => OUTPUT,
        }
    }

    /// Triples that it takes.
    pub(crate) fn triples(&self) -> usize {
        self.circuit.triples() * self.lanes
    }

    /// The client's inputs before the image is known, of its own half: what the circuit reads, and what an audit compares.
    pub(crate) fn early(&self, plan: &Plan, half: &ClientHalf) -> Vec<Planes> {
        let words = Words { party: Party::Client, shared: &half.pads, accumulators: &half.shares };
        let pad = match self.makes {
            Makes::Masked { tensor, ring, .. } => Some(Planes::from_lanes(&half.pads[tensor], ring as usize)),
            Makes::Kept(_) | Makes::Logits | Makes::Answer => None,
        };
        self.share(plan, words).into_iter().chain(pad).collect()
    }

    /// The server's inputs.
    pub(crate) fn of_server(&self, plan: &Plan, halves: &Halves) -> Vec<Planes> {
        let words = Words { party: Party::Server, shared: &halves.shared, accumulators: &halves.accumulators };
        self.share(plan, words).into_iter().collect()
    }

    /// A party's share of what it reads, if it reads shares.
    fn share(&self, plan: &Plan, words: Words<'_>) -> Option<Planes> {
        let own = |value: u64| if words.party == Party::Server { value } else { 0 };
        let mut values = match self.reads {
            Reads::Input | Reads::Kept { .. } | Reads::Logits => return None,
            Reads::Accumulator { node, lowered } => {
                let lowered = own(lowered);
                let mut shares = words.accumulators[node].clone();
                shares.iter_mut().for_each(|share| *share = share.wrapping_sub(lowered));
                shares
            }
            Reads::Average { pool, from, multiplier, offset } => {
                let mut sums = Zeroizing::new(windows(plan, pool).expect("of a pool").sum(&words.shared[from]));
                let offset = own(offset);
                sums.iter_mut().for_each(|sum| *sum = sum.wrapping_mul(multiplier).wrapping_add(offset));
                sums
            }
            Reads::Output => {
                let share = match plan.answer.source {
                    Source::Accumulator(node) => &words.accumulators[node],
                    Source::Shared(tensor) => &words.shared[tensor],
                    Source::Small(_) | Source::Scaled(_) => unreachable!("no output is held so"),
                };
                return Some(answer::planes(&plan.answer, Reveal::Class, share));
            }
        };
        reduce(&mut values, self.width as u32);
        Some(Planes::from_lanes(&values, self.width))
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
            Reads::Input | Reads::Accumulator { .. } | Reads::Average { .. } | Reads::Output => Vec::new(),
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
                    let mut values = Zeroizing::new(m.to_lanes::<u64>());
                    values.iter_mut().for_each(|m| *m = m.wrapping_add(lowest as u64));
                    reduce(&mut values, ring);
                    halves.shared[tensor] = values;
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
        | NonlinearKind::Rescale { .. }
        | NonlinearKind::Carries
        | NonlinearKind::Table
        | NonlinearKind::Scale { .. } => None,
    }
}
