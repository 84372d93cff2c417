//! Chooses rings, parameter sets, rounding and layouts for a network, from its weights: what a server publishes.

#![deny(clippy::wildcard_enum_match_arm)]

mod bands;
mod layers;
mod layouts;
mod rings;
mod scales;
mod sets;
mod truncation;

use lowkey_bridge::Schedule;
use lowkey_bridge::budget;
use lowkey_he::{ParameterSet, params};
use lowkey_models::check::MAX_WEIGHT_BITS;
use lowkey_models::{Architecture, Declared, LinearBounds, Network, Op, Term};
use lowkey_mpc::layout::Search;
use lowkey_mpc::ot::price;
use lowkey_mpc::party::Stage;

use crate::cost::predict;
use crate::node::{Choices, Link, PlanError};
use crate::plan::{LinearNode, Plan, Reveal};

use layers::Layer;
pub(crate) use truncation::offsets;

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
    let mut layers = layers::of(network, target.widths);
    let mut best = plan_layers(network, target, &layers, &bounds, &mut search)?;
    // A max pool before its clip may need one bit more.
    for layer in layouts::cramped(network.architecture(), &best.choices, &bounds)? {
        if layers[layer].declared {
            continue;
        }
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
    let (mut linear, sets) = sets::choose(layers, widths)?;
    if widths == Widths::Tight {
        bands::choose(layers, &sets, &mut linear);
    }
    let mut choices = Choices { link, linear, scales: scales::scales(network, widths), sets, layouts: Vec::new() };
    let bounds = &scales::truncate(network, widths, &mut choices, bounds, search)?;
    choices.layouts = layouts::choose(network.architecture(), &choices, bounds, search)?;
    Plan::derive(published(network.architecture()), choices)
}

/// The architecture as it is published: nothing that follows needs the widths of weights, which are those of the largest
/// weight where a model was imported or folded, nor which rings were declared: they are rings like any other. Coins stay, for the client
/// tosses them. All widths become the largest that the architecture allows for: 16 bits, unless sums of so wide weights would be beyond
/// an accumulator.
fn published(architecture: &Architecture) -> Architecture {
    let mut architecture = architecture.clone();
    architecture.declared.values_mut().for_each(|declared| declared.ring.clear());
    architecture.declared.retain(|_, declared| *declared != Declared::default());
    let widened = |width: u32| {
        let mut widened = architecture.clone();
        let terms = widened.nodes.iter_mut().filter_map(|node| {
            let Op::Linear { terms } = &mut node.op else { return None };
            Some(terms)
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
    let bytes = frames as f64 + all.demand.price(price::BYTES_PER_OT);
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
        let margin = node.encrypted.as_ref().map(|encrypted| {
            let (parameters, norms) = (&encrypted.parameters, layer.norms(encrypted.bands()));
            budget::margin_bits(parameters.set, parameters.ell, &norms, parameters.rounding)
        });
        let bounds = bounds[node.node.index()].as_ref().expect("a linear node has bounds");
        Detail { accumulator_bits: bounds.accumulator_bits(), noise_margin_bits: margin }
    };
    // Rings do not matter here, the plan has them.
    layers::of(network, Widths::Tight).into_iter().zip(&plan.linear).map(of).collect()
}
