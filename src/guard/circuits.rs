//! The nonlinear layers of a plan as circuits against a client that cheats: what each reads and makes, and which have none.
//!
//! A value is *masked*, opened to the server as m = x - xhat, where a linear layer or the output reads it; and *kept* as authenticated
//! bits where max pools and tables alone do. Where these read what is masked, it is unmasked into bits for them, by a circuit of the first that
//! does. Linear layers, sums and other orders are what they are without a guard: each party's own.

use std::sync::Arc;

use lowkey_bridge::parameters::GUARD_BITS;
use lowkey_models::Op;
use lowkey_mpc::guard::{Carry, Circuit, Destination, circuits, ots_at_once};
use lowkey_mpc::layout::LayoutError;
use lowkey_mpc::ot::OtCount;
use lowkey_mpc::requantise::{Clip, Spec};

pub(crate) use super::layer::{Kept, Layer};
use super::layer::{Makes, Reads};
use super::products::Products;
use crate::node::{self, Held, width_of};
use crate::plan::{
    ByNode, ByTensor, Holding, Link, NodeId, Nonlinear, NonlinearKind, Plan, PlanError, Reveal, Source, Step, TensorId,
};

/// What an AND takes on the wire: its triple at B = 3, and d and f of both parties.
const BITS_PER_AND: u64 = 22;
/// [`Link::Wan`].
const WAN_FLIGHT_MICROS: u64 = 20_000;
const WAN_BITS_PER_MICRO: u64 = 100;

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
    (flights as u64 * WAN_FLIGHT_MICROS).saturating_add(bits / WAN_BITS_PER_MICRO)
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
            _ => None,
        }
    }

    fn of(plan: &Plan, held: &Held<'_>, step: &Nonlinear) -> Result<Self, PlanError> {
        let (node, link) = (step.node, plan.choices.link);
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
            let circuit = quickest(link, step.lanes, |how| circuits::requantise_by(how, spec, clip, ring));
            Ok((circuit.map_err(of_node)?, spec.width(), lowered))
        };
        let rescale = |(spec, top): (Spec, u8), products: Products| -> Result<Self, PlanError> {
            let clip = Clip { top, spare: false };
            let circuit = quickest(link, step.lanes, |how| circuits::rescale(how, spec, clip, ring));
            Ok(layer(circuit.map_err(of_node)?, spec.width(), Reads::Products(products)))
        };
        let from = held.input(node);
        let kept = Reads::Kept { from, reader: node };
        match (&step.kind, step.source) {
            (NonlinearKind::Rescale { factors, lowered }, Source::Accumulator(from)) => {
                let (factors, lowered, pixels) = (factors.clone(), *lowered, step.pixels);
                let of_sum = node::of_sum(held, node).expect("a requantisation");
                let ring = of_sum.0.width();
                rescale(of_sum, Products { from, biased: node, factors, lowered, pixels, ring })
            }
            (NonlinearKind::Requantise { lowered }, Source::Scaled(scale)) => {
                let from = scaled(plan, scale).ok_or_else(|| none("a scale of what is not a sum"))?;
                let factors = node::scale_factors(held, scale, 0);
                let of_sum = node::of_sum(held, node).expect("a requantisation");
                let (lowered, pixels, ring) = (*lowered, step.pixels, of_sum.0.width());
                rescale(of_sum, Products { from, biased: scale, factors, lowered, pixels, ring })
            }
            (NonlinearKind::Requantise { .. } | NonlinearKind::Carries, Source::Accumulator(of)) => {
                let (spec, top) = node::exact(held, node).ok_or_else(|| none("truncated products"))?;
                let (circuit, width, lowered) = requantise(spec, top)?;
                Ok(layer(circuit, width, Reads::Accumulator { node: of, lowered }))
            }
            (NonlinearKind::AvgPool { multiplier, offset, .. }, Source::Shared(from)) => {
                let (width, shift) = (step.input_width as u8, node::average_shift(held, node));
                let spec = Spec { ell: width, shift, bits: step.bits as u8, guard: 0 };
                let (circuit, width, lowered) = requantise(spec, u8::MAX)?;
                let offset = (*offset as u64).wrapping_sub(lowered);
                let reads = Reads::Average { pool: node, from, multiplier: *multiplier as u64, offset };
                Ok(layer(circuit, width, reads))
            }
            (NonlinearKind::MaxPool { windows } | NonlinearKind::Pooled { windows, .. }, _) => {
                let bits = held.widths[from] as usize;
                let pool = |how| circuits::max_pool_by(how, bits, windows.size(), ring);
                let circuit = quickest(link, step.lanes, pool).map_err(of_node)?;
                Ok(layer(circuit, bits, kept))
            }
            (NonlinearKind::Table, _) => {
                let ring = ring.ok_or_else(|| none("a table whose result is not masked"))?;
                let (bits, entries) = node::table_entries(held, node);
                let entries: Vec<u64> = entries.into_iter().map(|entry| entry as u64).collect();
                let circuit = circuits::table(bits as usize, &entries, ring).map_err(of_node)?;
                Ok(layer(circuit, bits as usize, kept))
            }
            (NonlinearKind::Dither { .. }, _) => Err(none("a rounding by coins")),
            (NonlinearKind::AvgPool { .. }, _) => Err(none("an average of what is not masked")),
            (NonlinearKind::Scale { .. }, _) => Err(none("a scale that other layers than requantisations read")),
            (NonlinearKind::Requantise { .. } | NonlinearKind::Rescale { .. } | NonlinearKind::Carries, _) => {
                Err(none("a requantisation of what is not a sum"))
            }
        }
    }
}

/// The accumulators that a scale multiplies.
fn scaled(plan: &Plan, node: NodeId) -> Option<NodeId> {
    let Step::Nonlinear(step) = &plan.steps[node] else { return None };
    match (&step.kind, step.source) {
        (NonlinearKind::Scale { .. }, Source::Accumulator(from)) => Some(from),
        _ => None,
    }
}
