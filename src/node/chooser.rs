//! How a planner chooses the digits of a protocol: flights against bits, for a link.

use std::ops::Deref;

use lowkey_models::LinearBounds;
use lowkey_mpc::layout::{Choice, LayoutError, Search};
use lowkey_mpc::program::Cost;

use super::choices::{LayoutChoice, Link};
use super::context::Held;
use super::{ByNode, NodeId, PlanError, TensorId};

/// What operators choose with.
pub(crate) struct Chooser<'a> {
    pub search: &'a mut Search,
    pub link: Link,
    /// What each accumulator can be, by the node that makes it.
    pub bounds: &'a [Option<LinearBounds>],
    /// Of the max pools that were chosen together with the layer before them.
    pub pools: ByNode<Option<LayoutChoice>>,
}

impl<'a> Chooser<'a> {
    /// For a network of so many nodes.
    pub fn new(search: &'a mut Search, link: Link, bounds: &'a [Option<LinearBounds>]) -> Self {
        Self { search, link, bounds, pools: ByNode::with(bounds.len(), || None) }
    }

    /// What accumulator `tensor` can be.
    pub fn bounds_of(&self, tensor: TensorId) -> &'a LinearBounds {
        let maker = tensor.maker().and_then(|node| self.bounds[node.index()].as_ref());
        maker.expect("a requantisation reads accumulators")
    }

    /// The [best](Self::best) of what a search found for each element of a node's result.
    ///
    /// # Errors
    /// The search's, with the node's name.
    pub fn best_of<L: Clone>(
        &self,
        node: NodeId,
        held: &Held<'_>,
        found: Result<impl Deref<Target: AsRef<[Choice<L>]>>, LayoutError>,
    ) -> Result<L, PlanError> {
        let found = found.map_err(|source| held.layout_error(node, source))?;
        Ok(self.best(found.as_ref(), held.tensors[node.output()].elements()))
    }

    /// The layout with the least time on the link: more flights only where the bits saved are worth their latency.
    pub fn best<L: Clone>(&self, found: &[Choice<L>], lanes: usize) -> L {
        let time = |choice: &Choice<L>| self.seconds_of(choice, lanes);
        let least = found.iter().min_by(|a, b| time(a).total_cmp(&time(b)));
        least.expect("a search that succeeds finds a layout").layout.clone()
    }

    /// Its time.
    pub fn least_seconds<L>(&self, found: &[Choice<L>], lanes: usize) -> f64 {
        found.iter().map(|choice| self.seconds_of(choice, lanes)).fold(f64::INFINITY, f64::min)
    }

    fn seconds_of<L>(&self, choice: &Choice<L>, lanes: usize) -> f64 {
        f64::from(choice.flights) * self.link.latency() + choice.price * lanes as f64 / self.link.bandwidth()
    }

    /// The time of a program on the link, OTs at their price.
    pub fn seconds(&self, cost: &Cost) -> f64 {
        let bits = 8.0 * cost.total_bytes() as f64 + cost.demand.price(self.search.ot_price());
        f64::from(cost.flights()) * self.link.latency() + bits / self.link.bandwidth()
    }
}
