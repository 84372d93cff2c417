//! Chooses rings, parameter sets, rounding and layouts for a network, from its weights: what a server publishes.

use std::collections::HashMap;

use lowkey_bridge::budget::{self, Norms, Rounding};
use lowkey_bridge::conv::ConvShape;
use lowkey_bridge::{LayerParameters, Packing, Schedule};
use lowkey_he::ParameterSet;
use lowkey_he::params;
use lowkey_models::check::MAX_WEIGHT_BITS;
use lowkey_models::{Architecture, LinearBounds, Network, Node, Op, Range, Term};
use lowkey_mpc::layout::Search;
use lowkey_mpc::ot::price;
use lowkey_mpc::party::Stage;

use super::linear::{LinearNode, MAX_PACKED, conv_shape};
use super::{Plan, Reveal, WIDTHS, layouts, predict, truncation, width_of};
use crate::node::{Choices, Chosen, LinearChoice, Link, NodeId, PlanError, ScaleChoice, SetChoice, clipped_bits};

/// How much a byte of the hint, sent once, weighs against a byte sent for every inference.
const HINT_WEIGHT: f64 = 1e-3;

/// What a plan is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The link between the parties.
    pub link: Link,
    /// How rings and parameter sets are chosen.
    pub widths: Widths,
}

impl From<Link> for Target {
    fn from(link: Link) -> Self {
        Self { link, widths: Widths::Tight }
    }
}

/// How rings and parameter sets are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Widths {
    /// For each layer what its accumulators need.
    #[default]
    Tight,
    /// Integers of 32 bits and the torus of 64 bits for every layer, whatever it needs: the baseline of the width study.
    Straightforward,
}

impl Widths {
    /// The narrowest accumulator.
    fn least(self) -> u32 {
        match self {
            Self::Tight => 2,
            Self::Straightforward => 32,
        }
    }

    fn sets(self) -> impl Iterator<Item = &'static ParameterSet> + Clone {
        params::ALL.into_iter().filter(move |set| self == Self::Tight || set.torus_bits == 64)
    }
}

/// Chooses for a folded network (see [`Network::folded`]) and derives the plan.
///
/// # Errors
/// When a layer fits no parameter set (named with the numbers), or the network is beyond this program's limits.
pub fn plan(network: &Network, target: impl Into<Target>) -> Result<Plan, PlanError> {
    let target = target.into();
    let bounds = network.bounds();
    let mut search = Search::new(8.0 * price::BYTES_PER_OT);
    let mut layers = layers(network, target.widths);
    let mut best = plan_layers(network, target, &layers, &bounds, &mut search)?;
    // A max pool before its clip may need one bit more.
    for layer in layouts::cramped(network.architecture(), &best.choices, &bounds)? {
        layers[layer].ell += 1;
        match plan_layers(network, target, &layers, &bounds, &mut search) {
            Ok(plan) if seconds(&plan) < seconds(&best) => best = plan,
            _ => layers[layer].ell -= 1,
        }
    }
    Ok(best)
}

/// A plan for layers whose rings have been chosen.
fn plan_layers(
    network: &Network,
    Target { link, widths }: Target,
    layers: &[Layer],
    bounds: &[Option<LinearBounds>],
    search: &mut Search,
) -> Result<Plan, PlanError> {
    let (linear, sets) = choose_sets(layers, widths)?;
    let mut choices = Choices { link, linear, scales: scales(network, widths), sets, layouts: Vec::new() };
    let bounds = &choose_scales(network, widths, &mut choices, bounds, search)?;
    choices.layouts = layouts::choose(network.architecture(), &choices, bounds, search)?;
    Plan::derive(published(network.architecture()), choices)
}

/// The architecture as it is published: nothing that follows needs the widths of weights, which are those of the largest
/// weight where a model was imported or folded. All become the largest that the architecture allows for: 16 bits, unless sums of
/// so wide weights would be beyond an accumulator.
fn published(architecture: &Architecture) -> Architecture {
    let widened = |width: u32| {
        let mut widened = architecture.clone();
        let terms = widened.nodes.iter_mut().filter_map(|node| match &mut node.op {
            Op::Linear { terms } => Some(terms),
            _ => None,
        });
        for term in terms.flatten() {
            if let Term::Conv { weight_bits, .. } | Term::Dense { weight_bits, .. } = term {
                *weight_bits = width.max(*weight_bits);
            }
        }
        widened
    };
    let allowed = (1..=MAX_WEIGHT_BITS).rev().map(widened).find(|widened| widened.check().is_ok());
    allowed.unwrap_or_else(|| architecture.clone())
}

/// Time of one inference's traffic on the plan's link, OTs at their price.
fn seconds(plan: &Plan) -> f64 {
    let link = plan.choices.link;
    let all = predict(plan, Schedule::Prepared, Reveal::Logits);
    let frames: u64 = all.frames.iter().map(|frame| frame.bytes).sum();
    let bytes = frames as f64 + price::BYTES_PER_OT * all.ots.total() as f64;
    all.flights(Stage::Online, &[]) as f64 * link.latency() + 8.0 * bytes / link.bandwidth()
}

/// What a plan does not say of a linear node, because it depends on the weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Detail {
    /// Smallest ring that holds every reachable accumulator.
    pub accumulator_bits: u32,
    /// log2 of the noise allowed over the noise planned for; `None` where nothing is encrypted.
    pub noise_margin_bits: Option<f64>,
}

/// Details of all linear nodes, in order. `network` is the folded network that `plan` was made for.
pub fn details(network: &Network, plan: &Plan) -> Vec<Detail> {
    let bounds = network.bounds();
    let of = |(layer, node): (Layer, &LinearNode)| {
        let norms: Vec<Norms> = layer.terms.iter().map(|term| term.1).collect();
        let margin = node.encrypted.as_ref().map(|encrypted| {
            let parameters = &encrypted.parameters;
            budget::margin_bits(parameters.set, parameters.ell, &norms, parameters.rounding)
        });
        let bounds = bounds[node.node.index()].as_ref().expect("a linear node has bounds");
        Detail { accumulator_bits: bounds.accumulator_bits(), noise_margin_bits: margin }
    };
    // Rings do not matter here, the plan has them.
    layers(network, Widths::Tight).into_iter().zip(&plan.linear).map(of).collect()
}

/// A linear node as the choice of parameters sees it.
struct Layer {
    name: String,
    ell: u32,
    outputs: usize,
    terms: Vec<(ConvShape, Norms)>,
}

fn layers(network: &Network, widths: Widths) -> Vec<Layer> {
    let architecture = network.architecture();
    let bounds = network.bounds();
    let mut layers = Vec::new();
    for (node, bounds) in bounds.iter().enumerate() {
        let (Some(bounds), Some((terms, weights))) = (bounds, network.linear(node)) else { continue };
        let terms = terms.iter().zip(&weights.terms).filter_map(|(term, array)| {
            let shape = conv_shape(term, network.tensors()[term.input()].shape)?;
            let weights = array.as_ref()?.as_standard_layout();
            let norms = budget::norms_per_output(&shape, weights.as_slice().expect("standard layout"));
            let largest = norms.into_iter().fold(Norms::default(), Norms::max);
            // The plan is public: it is made from what the norms may say of the weights.
            let class = largest.class(shape.fan_in());
            Some((shape, class))
        });
        layers.push(Layer {
            name: architecture.nodes[node].name.clone(),
            ell: accumulator_ring(network, node, bounds.range()).max(widths.least()),
            outputs: network.tensors()[node + 1].shape[0],
            terms: terms.collect(),
        });
    }
    layers
}

/// All scales, in order, as if they were widened.
fn scales(network: &Network, widths: Widths) -> Vec<ScaleChoice> {
    let sources = network.bounds();
    let nodes = network.architecture().nodes.iter().zip(network.bounds()).enumerate();
    let scales = nodes.filter(|(_, (node, _))| matches!(node.op, Op::Scale { .. }));
    let ring = |(node, (scale, bounds)): (usize, (&Node, Option<LinearBounds>))| {
        // Widening never narrows: as wide as what is scaled, at least.
        let source = scale.op.inputs()[0] - 1;
        let widened =
            accumulator_ring(network, source, sources[source].as_ref().expect("it reads an accumulator").range());
        let own = accumulator_ring(network, node, bounds.expect("a scale has bounds").range());
        ScaleChoice::Widened { ell: own.max(widened).max(widths.least()) }
    };
    scales.map(ring).collect()
}

/// Truncates the scales for which that is cheaper, or that have no ring otherwise. The bounds of a truncated scale are those of what is left.
fn choose_scales(
    network: &Network,
    widths: Widths,
    choices: &mut Choices,
    bounds: &[Option<LinearBounds>],
    search: &mut Search,
) -> Result<Vec<Option<LinearBounds>>, PlanError> {
    let architecture = network.architecture();
    let (mut chosen, mut bounds) = (bounds.to_vec(), bounds.to_vec());
    let is_scale = |node: &NodeId| matches!(architecture.nodes[node.index()].op, Op::Scale { .. });
    let scales: Vec<NodeId> = (0..architecture.nodes.len()).map(NodeId::new).filter(is_scale).collect();
    let mut truncated = choices.clone();
    let linear = Chosen::new(architecture, choices);
    for (at, &node) in scales.iter().enumerate() {
        let source = linear.ell(truncation::source(architecture, node));
        let Some(truncation) = truncation::widest(network, &bounds, node, source) else { continue };
        truncated.scales[at] = truncation.choice;
        bounds[node.index()] = Some(truncation.sums);
    }
    let seconds = [
        layouts::scale_seconds(architecture, choices, &chosen, search)?,
        layouts::scale_seconds(architecture, &truncated, &bounds, search)?,
    ];
    for (at, &node) in scales.iter().enumerate() {
        let [widened, own] = [choices.scales[at], truncated.scales[at]];
        let cheaper = widths == Widths::Tight && seconds[1][node] < seconds[0][node];
        if widened != own && (cheaper || !WIDTHS.contains(&widened.width())) {
            choices.scales[at] = own;
            chosen[node.index()] = bounds[node.index()].take();
        }
    }
    Ok(chosen)
}

/// ell of what a requantisation to `bits` bits (those below its top) reads: the smallest ring that holds it and what it does.
pub(super) fn requantised_ring(Range { lo, hi }: Range, bits: u32, shift: u32) -> u32 {
    let ell = Range { lo, hi }.signed_bits().max(shift + 2);
    if bits.min(ell - 1 - shift) > 1 {
        return ell;
    }
    // Only the sign of z - 2^s is evaluated.
    ell.max(Range { lo: lo - (1 << shift), hi: hi - (1 << shift) }.signed_bits())
}

/// ell of linear node or scale `node`: the smallest ring that holds every reachable accumulator and what its consumers do with
/// it.
fn accumulator_ring(network: &Network, node: usize, Range { lo, hi }: Range) -> u32 {
    let architecture = network.architecture();
    let mut ell = Range { lo, hi }.signed_bits().max(2);
    for consumer in architecture.consumers(node + 1) {
        match &architecture.nodes[consumer].op {
            Op::Requantise { bits, shift, top, .. } => {
                let shift = shift.iter().max().copied().unwrap_or(0);
                ell = ell.max(requantised_ring(Range { lo, hi }, clipped_bits(*bits, *top), shift));
            }
            // Widening adds 2^(ell-2), and the sum must stay below 2^(ell-1).
            Op::Scale { .. } => ell = ell.max(Range { lo, hi }.signed_bits() + 1),
            _ => {}
        }
    }
    if architecture.output == node + 1 {
        // The arg max compares differences.
        ell = ell.max(width_of(hi - lo) + 1);
    }
    ell
}

/// One layer under one parameter set: what its bodies cost.
#[derive(Clone, Copy)]
struct Bodies {
    low: usize,
    full: usize,
    tiles: usize,
}

/// The packing of one term, or why there is none.
fn packing(shape: &ConvShape, set: &ParameterSet) -> Result<Packing, String> {
    let packing = Packing::new(shape, set.degree).map_err(|error| error.to_string())?;
    match packing.size() {
        size if size <= MAX_PACKED => Ok(packing),
        size => Err(format!("it would take {size} words, at most {MAX_PACKED} are handled")),
    }
}

fn bodies(layer: &Layer, set: &ParameterSet, known: &mut HashMap<(String, usize), Option<Bodies>>) -> Option<Bodies> {
    *known.entry((layer.name.clone(), set.degree)).or_insert_with(|| {
        let mut sum = Bodies { low: 0, full: 0, tiles: 0 };
        for (shape, _) in &layer.terms {
            let packing = packing(shape, set).ok()?;
            let mut seen = vec![false; shape.input_len()];
            for index in 0..packing.tiles() {
                for body in packing.tile(index).bodies {
                    match body.element {
                        Some(element) if !std::mem::replace(&mut seen[element as usize], true) => sum.low += 1,
                        _ => sum.full += 1,
                    }
                }
            }
            sum.tiles = sum.tiles.max(packing.tiles());
        }
        Some(sum)
    })
}

/// The cheapest assignment of parameter sets to layers, and of roundings to both. At most two sets are combined.
fn choose_sets(layers: &[Layer], widths: Widths) -> Result<(Vec<LinearChoice>, Vec<SetChoice>), PlanError> {
    let mut known = HashMap::new();
    // For every layer, set and r0: rounding and cost in bits, if it fits.
    let mut options: Vec<HashMap<(u8, u32), Fitting>> = Vec::with_capacity(layers.len());
    for layer in layers.iter() {
        let norms: Vec<Norms> = layer.terms.iter().map(|term| term.1).collect();
        let mut fits = HashMap::new();
        if !norms.is_empty() {
            for set in widths.sets() {
                for b0 in 0..set.torus_bits {
                    let Some(rounding) = budget::largest_rounding(set, layer.ell, &norms, b0) else { break };
                    let Some(bodies) = bodies(layer, set, &mut known) else { break };
                    let widths = LayerParameters { set, ell: layer.ell, rounding };
                    let bits = bodies.low as f64 * f64::from(widths.low_width())
                        + bodies.full as f64 * f64::from(widths.full_width());
                    let hint = (layer.terms.len() * layer.outputs * set.degree) as f64 * f64::from(widths.hint_width());
                    fits.insert((set.id, b0), (rounding, bits + HINT_WEIGHT * hint, bodies.tiles));
                }
            }
            if fits.is_empty() {
                return Err(nothing_fits(layer, &norms));
            }
        }
        options.push(fits);
    }

    let roundings = |set: &'static ParameterSet| (0..set.torus_bits / 2).map(move |b0| (set, b0));
    let singles = widths.sets().flat_map(roundings).map(|one| vec![one]);
    let pairs = widths.sets().enumerate().flat_map(|(i, a)| {
        let others = widths.sets().skip(i + 1).flat_map(roundings);
        others.flat_map(move |b| roundings(a).map(move |a| vec![a, b]))
    });
    let mut best: Option<(f64, Vec<(&'static ParameterSet, u32)>)> = None;
    for candidate in singles.chain(pairs) {
        let mut secrets = vec![0; candidate.len()];
        let mut cost = 0.0;
        let mut possible = true;
        for fits in options.iter().filter(|fits| !fits.is_empty()) {
            match cheapest(fits, &candidate) {
                Some((at, (_, bits, tiles))) => {
                    cost += bits;
                    secrets[at] += *tiles;
                }
                None => possible = false,
            }
        }
        if !possible {
            continue;
        }
        for ((set, b0), secrets) in candidate.iter().zip(&secrets) {
            cost += (secrets * set.degree) as f64 * f64::from(set.torus_bits - b0);
        }
        if best.as_ref().is_none_or(|(least, _)| cost < *least) {
            best = Some((cost, candidate));
        }
    }
    let Some((_, sets)) = best else {
        // Some layers need one set and others another, beyond pairs.
        return Err(PlanError::NothingFits {
            node: layers.first().map_or_else(String::new, |layer| layer.name.clone()),
            ell: layers.iter().map(|layer| layer.ell).max().unwrap_or(0),
            tried: vec!["the layers need more than two parameter sets together".into()],
        });
    };

    let mut used = vec![false; sets.len()];
    let mut linear = Vec::with_capacity(layers.len());
    for (layer, fits) in layers.iter().zip(&options) {
        let mut choice = LinearChoice { ell: layer.ell, set: None, body_rounding: 0, hint_rounding: 0 };
        if let Some((at, (rounding, _, _))) = cheapest(fits, &sets) {
            used[at] = true;
            choice.set = Some(sets[at].0.id);
            choice.body_rounding = rounding.body;
            choice.hint_rounding = rounding.hint;
        }
        linear.push(choice);
    }
    let mut sets: Vec<SetChoice> = sets
        .iter()
        .zip(used)
        .filter(|(_, used)| *used)
        .map(|((set, b0_rounding), _)| SetChoice { set: set.id, b0_rounding: *b0_rounding })
        .collect();
    sets.sort_by_key(|choice| choice.set);
    Ok((linear, sets))
}

/// Rounding, cost in bits, tiles.
type Fitting = (Rounding, f64, usize);

fn cheapest<'a>(
    fits: &'a HashMap<(u8, u32), Fitting>,
    sets: &[(&'static ParameterSet, u32)],
) -> Option<(usize, &'a Fitting)> {
    let of = sets.iter().enumerate().filter_map(|(at, (set, b0))| Some((at, fits.get(&(set.id, *b0))?)));
    of.min_by(|a, b| a.1.1.total_cmp(&b.1.1))
}

fn nothing_fits(layer: &Layer, norms: &[Norms]) -> PlanError {
    let tried = params::ALL.into_iter().map(|set| {
        let packed = layer.terms.iter().try_for_each(|(shape, _)| packing(shape, set).map(|_| ()));
        match packed {
            Err(error) => format!("{}: {error}", set.name),
            Ok(()) if layer.ell + 3 > set.torus_bits => format!("{}: the torus has {} bits", set.name, set.torus_bits),
            Ok(()) => {
                let margin = budget::margin_bits(set, layer.ell, norms, Rounding::default());
                format!("{}: its noise is {:.1} bits too large", set.name, -margin)
            }
        }
    });
    PlanError::NothingFits { node: layer.name.clone(), ell: layer.ell, tried: tried.collect() }
}
