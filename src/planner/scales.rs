//! Chooses what becomes of scales: widened, or truncated where that is cheaper.

use lowkey_models::{LinearBounds, Network, Node, Op};
use lowkey_mpc::layout::Search;

use super::rings::accumulator_ring;
use super::{Widths, layouts, truncation};
use crate::node::{Choices, Chosen, NodeId, PlanError, ScaleChoice};
use crate::plan::WIDTHS;
use crate::plan::truncation::scaled;

/// All scales, in order, as if they were widened.
pub(super) fn scales(network: &Network, widths: Widths) -> Vec<ScaleChoice> {
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
pub(super) fn truncate(
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
        let source = linear.ell(scaled(architecture, node));
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
