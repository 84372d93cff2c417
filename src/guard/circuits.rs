//! The nonlinear layers of a plan as circuits against a client that cheats: what each reads and makes, and which have none.
//!
//! A value is *masked*, opened to the server as m = x - xhat, where a linear layer or the output reads it; and *kept* as authenticated
//! bits where max pools and tables alone do. Where these read what is masked, it is unmasked into bits for them, by a circuit of the first that
//! does. Linear layers, sums and other orders are what they are without a guard: each party's own.

use std::sync::Arc;

use lowkey_bridge::share::GUARD_BITS;
use lowkey_models::Op;
use lowkey_mpc::guard::{Carry, Circuit, Destination, circuits, ots_at_once};
use lowkey_mpc::layout::LayoutError;
use lowkey_mpc::ot::OtCount;
use lowkey_mpc::requantise::{Clip, Spec};
use lowkey_mpc::rescale::Factor;

pub(crate) use super::layer::{Kept, Layer};
use super::layer::{Makes, Reads};
use super::products::Products;
use crate::node::{self, Held, width_of};
use crate::plan::{
    ByNode, ByTensor, Holding, Link, NodeId, Nonlinear, NonlinearKind, Operand, Plan, PlanError, Reveal, Step, TensorId,
};

/// What an AND takes on the wire: its triple at B = 3, and d and f of both parties.
const BITS_PER_AND: u64 = 22;

/// All circuits of a plan.
#[derive(Debug)]
pub struct Circuits {
    input: Layer,
    /// In the order in which they run.
    nodes: ByNode<Vec<Layer>>,
    logits: [Layer; 1],
    /// The logits, kept, and their arg max; none for an output of one value.
    class: Vec<Layer>,
}

impl Circuits {
    /// The circuits of a plan.
    ///
    /// # Errors
    /// [`PlanError::NoCircuit`] names the first layer that has none.
    pub fn derive(plan: &Plan) -> Result<Self, PlanError> {
        plan.with_held(|held| {
            let mut unmasked: ByTensor<bool> = ByTensor::with(plan.steps.len() + 1, || false);
            let mut layers = |step: &Step| -> Result<Vec<Layer>, PlanError> {
                let Step::Nonlinear(step) = step else { return Ok(Vec::new()) };
                if is_multiplied_later(plan, step) {
                    return Ok(Vec::new());
                }
                let own = Layer::of(plan, held, step)?;
                let reads = own.reads_kept().filter(|from| !is_kept(plan, *from) && !unmasked[*from]);
                let Some(from) = reads else { return Ok(vec![own]) };
                unmasked[from] = true;
                Ok(vec![Layer::unmask(plan, held, (step.node, from))?, own])
            };
            let nodes: Vec<_> = plan.steps.iter().map(&mut layers).collect::<Result<_, _>>()?;
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

    /// Those of a node, in order.
    pub(crate) fn of(&self, node: NodeId) -> &[Layer] {
        &self.nodes[node]
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
        ots_at_once(&self.recorded(reveal))
    }

    /// The circuits of one inference in order, each with its lanes.
    pub(crate) fn recorded(&self, reveal: Reveal) -> Vec<(Arc<Circuit>, usize)> {
        self.all(reveal).map(|layer| (layer.circuit.clone(), layer.lanes)).collect()
    }

    /// Triples of one slot.
    pub(crate) fn triples(&self, reveal: Reveal) -> usize {
        self.all(reveal).map(Layer::triples).sum()
    }
}

/// The time of so many flights and ANDs in so many lanes on a slow line. The same on machines of every word: a browser's has 32 bits.
fn micros(flights: usize, triples: usize, lanes: usize) -> u64 {
    let bits = (triples as u64).saturating_mul(lanes as u64).saturating_mul(BITS_PER_AND);
    (flights as u64 * Link::WAN_FLIGHT_MICROS).saturating_add(bits / Link::WAN_BITS_PER_MICRO)
}

/// A circuit with chains of carries, or with trees where the plan is for a link on which these take less time. Numbers, so that both parties
/// choose the same.
fn quickest(
    link: Link,
    lanes: usize,
    circuit: impl Fn(Carry) -> Result<Circuit, LayoutError>,
) -> Result<Circuit, LayoutError> {
    let chains = circuit(Carry::Ripple)?;
    if link != Link::Wan {
        return Ok(chains);
    }
    let trees = circuit(Carry::Prefix)?;
    let time = |circuit: &Circuit| micros(circuit.depth(), circuit.triples(), lanes);
    Ok(if time(&trees) < time(&chains) { trees } else { chains })
}

fn of_output(source: LayoutError) -> PlanError {
    PlanError::Layout { node: "output".into(), source }
}

/// True of a scale that requantisations alone read: their circuits multiply.
fn is_multiplied_later(plan: &Plan, step: &Nonlinear) -> bool {
    let made = step.node.output().index();
    let reads = |node: usize| match &plan.steps[NodeId::new(node)] {
        Step::Nonlinear(reader) => matches!(reader.kind, NonlinearKind::Requantise { .. }),
        Step::Linear(_) | Step::Local { .. } | Step::Reshape => false,
    };
    matches!(step.kind, NonlinearKind::Scale { .. })
        && plan.architecture.output != made
        && plan.architecture.consumers(made).all(reads)
}

/// True if a circuit keeps the bits of a tensor: one that max pools and tables alone read, and that is neither a sum nor made by a table, nor
/// another one in other words.
fn is_kept(plan: &Plan, tensor: TensorId) -> bool {
    if !matches!(plan.holdings[tensor], Holding::Shared { .. }) {
        return true;
    }
    let made = |node: NodeId| match &plan.steps[node] {
        Step::Nonlinear(step) => !matches!(step.kind, NonlinearKind::Table),
        Step::Linear(_) | Step::Local { .. } | Step::Reshape => false,
    };
    if !tensor.maker().is_some_and(made) {
        return false;
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

    /// The bits of a masked tensor, for a node that reads it.
    fn unmask(plan: &Plan, held: &Held<'_>, (node, from): (NodeId, TensorId)) -> Result<Self, PlanError> {
        let of_node = |source| PlanError::Layout { node: plan.name(node).to_owned(), source };
        let none = |what| PlanError::NoCircuit { node: plan.name(node).to_owned(), what };
        let Holding::Shared { root, .. } = plan.holdings[from] else { return Err(none("bits of what is not masked")) };
        let (width, lanes) = (held.widths[from] as usize, plan.tensors[from].elements());
        let circuit = quickest(plan.choices.link, lanes, |how| circuits::unmask(how, width)).map_err(of_node)?;
        let reads = Reads::Masked { tensor: root, lowest: plan.tensors[from].range.lo };
        let makes = Makes::Kept(from);
        Ok(Self { node: Some(node), circuit: Arc::new(circuit), lanes, width, reads, makes })
    }

    /// The tensor whose bits it reads.
    fn reads_kept(&self) -> Option<TensorId> {
        match self.reads {
            Reads::Kept { from, .. } => Some(from),
            Reads::Input
            | Reads::Accumulator { .. }
            | Reads::Average { .. }
            | Reads::Products(_)
            | Reads::Masked { .. }
            | Reads::Output
            | Reads::Logits => None,
        }
    }

    fn of(plan: &Plan, held: &Held<'_>, step: &Nonlinear) -> Result<Self, PlanError> {
        let (node, making) = (step.node, Making::new(plan, held, step));
        let (from, none) = (held.input(node), |what| making.none(what));
        match (&step.kind, step.operand) {
            (NonlinearKind::Rescale { factors, lowered }, Operand::Accumulator(from)) => {
                making.rescaled(from, node, factors.clone(), *lowered)
            }
            (NonlinearKind::Requantise { lowered }, Operand::Scaled(scale)) => {
                let from = scaled(plan, scale).ok_or_else(|| none("a scale of what is not a sum"))?;
                making.rescaled(from, scale, node::scale_factors(held, scale, 0), *lowered)
            }
            (NonlinearKind::Requantise { .. } | NonlinearKind::Carries, Operand::Accumulator(of)) => {
                let (spec, top) = node::exact(held, node).ok_or_else(|| none("truncated products"))?;
                making.requantised(spec, top, |lowered| Reads::Accumulator { node: of, lowered })
            }
            (NonlinearKind::AvgPool { floats: Some(_), .. }, _) => Err(none("an average that sums of floats decide")),
            (NonlinearKind::AvgPool { multiplier, offset, .. }, Operand::Shared(from)) => {
                let (width, shift) = (step.input_width as u8, node::average_shift(held, node));
                let spec = Spec { ell: width, shift, bits: step.bits as u8, guard: 0 };
                making.requantised(spec, u8::MAX, |lowered| {
                    let offset = (*offset as u64).wrapping_sub(lowered);
                    Reads::Average { pool: node, from, multiplier: *multiplier as u64, offset }
                })
            }
            (NonlinearKind::MaxPool { windows } | NonlinearKind::Pooled { windows, .. }, _) => {
                let bits = held.widths[from] as usize;
                let pool = |how| circuits::max_pool_by(how, bits, windows.size(), making.ring);
                making.quickest(bits, Reads::Kept { from, reader: node }, pool)
            }
            (NonlinearKind::Table, _) => {
                let ring = making.ring.ok_or_else(|| none("a table whose result is not masked"))?;
                let (bits, entries) = node::table_entries(held, node);
                let entries: Vec<u64> = entries.into_iter().map(|entry| entry as u64).collect();
                let circuit = circuits::table(bits as usize, &entries, ring).map_err(|error| making.failed(error))?;
                Ok(making.layer(circuit, bits as usize, Reads::Kept { from, reader: node }))
            }
            (NonlinearKind::Block { .. }, _) => Err(none("a block")),
            (NonlinearKind::Dither { .. }, _) => Err(none("a rounding by coins")),
            (NonlinearKind::AvgPool { .. }, _) => Err(none("an average of what is not masked")),
            (NonlinearKind::Scale { .. }, _) => Err(none("a scale that other layers than requantisations read")),
            (NonlinearKind::Requantise { .. } | NonlinearKind::Rescale { .. } | NonlinearKind::Carries, _) => {
                Err(none("a requantisation of what is not a sum"))
            }
        }
    }
}

/// A layer whose circuit is being made: of which step, and what becomes of its result.
struct Making<'a> {
    plan: &'a Plan,
    held: &'a Held<'a>,
    step: &'a Nonlinear,
    makes: Makes,
    /// The ring in which the result is masked; none of bits that are kept.
    ring: Option<u8>,
}

impl<'a> Making<'a> {
    fn new(plan: &'a Plan, held: &'a Held<'a>, step: &'a Nonlinear) -> Self {
        let made = step.node.output();
        let (makes, ring) = match plan.holdings[made] {
            Holding::Shared { ring, root } if !is_kept(plan, made) => {
                let lowest = if let NonlinearKind::Table = step.kind { 0 } else { plan.tensors[made].range.lo };
                (Makes::Masked { tensor: root, ring, lowest }, Some(ring as u8))
            }
            Holding::Shared { .. }
            | Holding::Accumulator { .. }
            | Holding::Scaled { .. }
            | Holding::Truncated { .. }
            | Holding::Small { .. } => (Makes::Kept(made), None),
        };
        Self { plan, held, step, makes, ring }
    }

    fn none(&self, what: &'static str) -> PlanError {
        PlanError::NoCircuit { node: self.plan.name(self.step.node).to_owned(), what }
    }

    fn failed(&self, source: LayoutError) -> PlanError {
        PlanError::Layout { node: self.plan.name(self.step.node).to_owned(), source }
    }

    fn layer(&self, circuit: Circuit, width: usize, reads: Reads) -> Layer {
        let (node, lanes) = (Some(self.step.node), self.step.lanes);
        Layer { node, circuit: Arc::new(circuit), lanes, width, reads, makes: self.makes }
    }

    /// Of words of `width` bits, by the quickest of the ways.
    fn quickest(
        &self,
        width: usize,
        reads: Reads,
        circuit: impl Fn(Carry) -> Result<Circuit, LayoutError>,
    ) -> Result<Layer, PlanError> {
        let circuit = quickest(self.plan.choices.link, self.step.lanes, circuit);
        Ok(self.layer(circuit.map_err(|error| self.failed(error))?, width, reads))
    }

    /// Shifts and clips what `reads` says, given by how much it has to be lowered.
    fn requantised(&self, spec: Spec, top: u8, reads: impl FnOnce(u64) -> Reads) -> Result<Layer, PlanError> {
        let sign = spec.is_sign().map_err(|error| self.failed(error))?;
        let lowered = if sign { 1u64 << spec.shift << spec.guard } else { 0 };
        let clip = Clip { top, spare: false };
        let circuit = |how| circuits::requantise_by(how, spec, clip, self.ring);
        self.quickest(spec.width(), reads(lowered), circuit)
    }

    /// Multiplies the sums of `from`, to which `biased` adds, and shifts and clips them.
    fn rescaled(&self, from: NodeId, biased: NodeId, factors: Vec<Factor>, lowered: i64) -> Result<Layer, PlanError> {
        let (spec, top) = node::of_sum(self.held, self.step.node).expect("a requantisation");
        let clip = Clip { top, spare: false };
        let products = Products { from, biased, factors, lowered, pixels: self.step.pixels, ring: spec.width() };
        let circuit = |how| circuits::rescale(how, spec, clip, self.ring);
        self.quickest(spec.width(), Reads::Products(products), circuit)
    }
}

/// The accumulators that a scale multiplies.
fn scaled(plan: &Plan, node: NodeId) -> Option<NodeId> {
    let Step::Nonlinear(step) = &plan.steps[node] else { return None };
    match (&step.kind, step.operand) {
        (NonlinearKind::Scale { .. }, Operand::Accumulator(from)) => Some(from),
        _ => None,
    }
}
