//! Chooses the digits of all nonlinear nodes, flights against bits for a link; and which max pools come before their clip.

use lowkey_models::{Architecture, LinearBounds, Op, TensorInfo};
use lowkey_mpc::layout::{Choice, PoolLayout, Search};
use lowkey_mpc::program::Time;
use lowkey_mpc::requantise::{self, Clip};
use lowkey_mpc::widen;

use crate::node::{
    self, ByNode, ByTensor, Choices, Chosen, Context, Held, Holding, LayoutChoice, Link, NodeId, PlanError, Protocol,
    TensorId, of, pooled,
};
use crate::plan::{Answer, has_class};

/// How all tensors are held.
struct Network<'a> {
    architecture: &'a Architecture,
    chosen: Chosen,
    tensors: ByTensor<TensorInfo>,
    widths: ByTensor<u32>,
    holdings: ByTensor<Holding>,
}

impl<'a> Network<'a> {
    fn new(architecture: &'a Architecture, choices: &Choices) -> Result<Self, PlanError> {
        let chosen = Chosen::new(architecture, choices);
        let tensors = ByTensor::from(architecture.check()?);
        let widths = node::value_widths(architecture, &tensors, |node| chosen.ell(node));
        let holdings = node::holdings(&Context { architecture, chosen: &chosen, tensors: &tensors, widths: &widths });
        Ok(Self { architecture, chosen, tensors, widths, holdings })
    }

    fn held(&self) -> Held<'_> {
        let Self { architecture, chosen, tensors, widths, holdings } = self;
        Held { context: Context { architecture, chosen, tensors, widths }, holdings }
    }
}

/// The layouts of all nonlinear nodes for the link of `choices`. `bounds` are those of the weights.
pub(super) fn choose(
    architecture: &Architecture,
    choices: &Choices,
    bounds: &[Option<LinearBounds>],
    search: &mut Search,
) -> Result<Vec<LayoutChoice>, PlanError> {
    let network = Network::new(architecture, choices)?;
    let held = network.held();
    let (tensors, holdings, link) = (held.tensors, held.holdings, choices.link);
    // Of the pools that were chosen together with the layer before them.
    let mut pools: ByNode<Option<LayoutChoice>> = ByNode::with(architecture.nodes.len(), || None);
    let mut layouts = Vec::new();
    for node in held.nodes() {
        let of_node = |source| held.layout_error(node, source);
        let finish = holdings[node.output()].finish();
        let lanes = tensors[node.output()].elements();
        if let Some((pool, mut spec)) = pooled(&held, node) {
            let (bounds, windows) = (source_bounds(architecture, bounds, node), tensors[pool.output()].elements());
            spec.clip.spare = is_spare(spec.layer, bounds);
            let finish = holdings[pool.output()].finish();
            let values = lanes as f64 / windows as f64;
            let found =
                search.pool(spec, finish, values, has_room(architecture, pool, spec, bounds)).map_err(of_node)?;
            let spare = spec.clip.spare;
            let (own, pooled) = match best(&found, windows, link) {
                PoolLayout::After { layer, game } => {
                    (LayoutChoice::Requantise { layout: layer, spare }, LayoutChoice::Chain(game))
                }
                PoolLayout::Between { low, game, clip } => {
                    (LayoutChoice::Carries(low), LayoutChoice::Pooled { game, clip, spare })
                }
            };
            layouts.push(own);
            pools[pool] = Some(pooled);
            continue;
        }
        layouts.push(match of(held.op(node)).protocol(node, &held) {
            Some(Protocol::Requantise(spec, top)) => {
                let client = held.client_time(held.input(node));
                let spare = is_spare(spec, source_bounds(architecture, bounds, node));
                let clip = Clip { top, spare };
                let found = search.requantise_clipped(spec, clip, finish, client, Time::START).map_err(of_node)?;
                LayoutChoice::Requantise { layout: best(&found, lanes, link), spare }
            }
            Some(Protocol::Rescale(spec, top)) => {
                let spare = is_spare(spec, source_bounds(architecture, bounds, node));
                let found = search.rescale(spec, Clip { top, spare }, finish).map_err(of_node)?;
                LayoutChoice::Requantise { layout: best(&found, lanes, link), spare }
            }
            Some(Protocol::Truncate(spec)) => {
                let found = search.truncate(spec, finish, Time::START).map_err(of_node)?;
                LayoutChoice::Chain(best(&found, lanes, link))
            }
            Some(Protocol::MaxPool(spec)) => match pools[node].take() {
                Some(chosen) => chosen,
                None => {
                    let found = search.max_pool(spec, finish).map_err(of_node)?;
                    LayoutChoice::Chain(best(&found, lanes, link))
                }
            },
            Some(Protocol::Table | Protocol::Widen(_)) | None => continue,
        });
    }
    let (classes, bits) = (tensors[TensorId::new(architecture.output)].elements(), Answer::width(&held));
    if has_class(classes) {
        let of_output = |source| PlanError::Layout { node: "output".into(), source };
        let found = search.argmax(bits as usize, classes).map_err(of_output)?;
        layouts.push(LayoutChoice::Chain(best(&found, 1, link)));
    }
    Ok(layouts)
}

/// Seconds of traffic of each scale with the requantisations that read it; infinite where they have no protocol.
pub(super) fn scale_seconds(
    architecture: &Architecture,
    choices: &Choices,
    bounds: &[Option<LinearBounds>],
    search: &mut Search,
) -> Result<ByNode<f64>, PlanError> {
    let network = Network::new(architecture, choices)?;
    let held = network.held();
    let link = choices.link;
    let mut seconds = ByNode::with(architecture.nodes.len(), || 0.0);
    for node in held.nodes() {
        let lanes = held.tensors[node.output()].elements();
        let finish = held.holdings[node.output()].finish();
        let is_scale = |source: &NodeId| matches!(architecture.nodes[source.index()].op, Op::Scale { .. });
        let scale = held.input(node).maker().filter(is_scale);
        let found = match (of(held.op(node)).protocol(node, &held), scale) {
            (Some(Protocol::Widen(ell)), _) => {
                let Holding::Scaled { ell: ring } = held.holdings[node.output()] else {
                    unreachable!("made by widening")
                };
                seconds[node] += widen::program(ell as usize, ring as usize).map_or(f64::INFINITY, |program| {
                    let cost = program.cost(lanes);
                    let bits = 8.0 * cost.total_bytes() as f64 + cost.demand.price(search.ot_price());
                    f64::from(cost.flights()) * link.latency() + bits / link.bandwidth()
                });
                continue;
            }
            (Some(Protocol::Requantise(spec, top)), Some(_)) => {
                let clip = Clip { top, spare: is_spare(spec, source_bounds(architecture, bounds, node)) };
                search.requantise_clipped(spec, clip, finish, Time::START, Time::START)
            }
            (Some(Protocol::Rescale(spec, top)), Some(_)) => {
                let clip = Clip { top, spare: is_spare(spec, source_bounds(architecture, bounds, node)) };
                search.rescale(spec, clip, finish)
            }
            _ => continue,
        };
        let least = found.map_or(f64::INFINITY, |found| {
            found.iter().map(|choice| seconds_of(choice, lanes, link)).fold(f64::INFINITY, f64::min)
        });
        seconds[scale.expect("matched")] += least;
    }
    Ok(seconds)
}

/// The linear nodes, by number among them, whose pool could come before the clip if their ring had one bit more.
pub(super) fn cramped(
    architecture: &Architecture,
    choices: &Choices,
    bounds: &[Option<LinearBounds>],
) -> Result<Vec<usize>, PlanError> {
    let network = Network::new(architecture, choices)?;
    let held = network.held();
    let is_linear = |node: &usize| matches!(architecture.nodes[*node].op, Op::Linear { .. });
    let linear: Vec<usize> = (0..architecture.nodes.len()).filter(is_linear).collect();
    let cramped = |node: NodeId| {
        let (pool, spec) = pooled(&held, node)?;
        let room = has_room(architecture, pool, spec, source_bounds(architecture, bounds, node));
        (!room).then(|| linear.binary_search(&held.input(node).maker()?.index()).ok())?
    };
    Ok(held.nodes().filter_map(cramped).collect())
}

/// The accumulators that requantisation `node` reads.
fn source_bounds<'a>(
    architecture: &Architecture,
    bounds: &'a [Option<LinearBounds>],
    node: NodeId,
) -> &'a LinearBounds {
    bounds[architecture.nodes[node.index()].op.inputs()[0] - 1].as_ref().expect("a requantisation reads accumulators")
}

/// True if no accumulator shifted is among the lowest 2^a of its ring.
fn is_spare(spec: requantise::Spec, bounds: &LinearBounds) -> bool {
    let Ok(bits) = spec.effective_bits() else { return false };
    bounds.range().lo >= (1 << (usize::from(spec.shift) + bits)) - (1 << (spec.ell - 1))
}

/// True if the shifted accumulators within a window differ by less than half their ring; padding counts as 0.
fn has_room(architecture: &Architecture, pool: NodeId, spec: lowkey_mpc::pooled::Spec, bounds: &LinearBounds) -> bool {
    let padded = matches!(&architecture.nodes[pool.index()].op, Op::MaxPool { window, .. } if window.padding != [0; 4]);
    let shift = spec.layer.shift;
    bounds
        .channels
        .iter()
        .map(|range| if padded { range.with_zero() } else { *range })
        .all(|range| (range.hi >> shift) - (range.lo >> shift) < 1 << (spec.width() - 1))
}

fn seconds_of<L>(choice: &Choice<L>, lanes: usize, link: Link) -> f64 {
    f64::from(choice.flights) * link.latency() + choice.price * lanes as f64 / link.bandwidth()
}

/// The layout with the least time on a link: more flights only where the bits saved are worth their latency.
fn best<L: Clone>(found: &[Choice<L>], lanes: usize, link: Link) -> L {
    let seconds = |choice: &Choice<L>| seconds_of(choice, lanes, link);
    let least = found.iter().min_by(|a, b| seconds(a).total_cmp(&seconds(b)));
    least.expect("a search that succeeds finds a layout").layout.clone()
}
