//! Scales that multiply, truncate and add ([`lowkey_mpc::rescale`]): which can be, whatever the weights.

use lowkey_models::{Architecture, Op};
use lowkey_mpc::rescale::{Factor, check_factor};

use crate::node::{Chosen, NodeId, PlanError, ScaleChoice, TensorId};

/// A requantisation, without its zero point.
pub(crate) struct Reader {
    /// Bits of its results.
    pub bits: u32,
    /// Of all channels.
    pub shift: u32,
    /// The largest result, if it is below that of `bits`.
    pub top: Option<i64>,
}

impl Reader {
    /// The largest result.
    pub(crate) fn largest(&self) -> i64 {
        self.top.unwrap_or((1 << self.bits) - 1)
    }
}

/// The one reader of a scale of a linear node's accumulators.
pub(crate) fn reader(architecture: &Architecture, node: NodeId) -> Option<Reader> {
    let Op::Scale { input, .. } = &architecture.nodes[node.index()].op else { return None };
    let mut consumers = architecture.consumers(node.output().index());
    let (Some(only), None) = (consumers.next(), consumers.next()) else { return None };
    let linear = matches!(architecture.nodes[*input - 1].op, Op::Linear { .. });
    let Op::Requantise { bits, shift, top, .. } = &architecture.nodes[only].op else { return None };
    (linear && shift.len() == 1).then(|| Reader { bits: *bits, shift: shift[0], top: *top })
}

/// The node whose accumulators a scale multiplies.
pub(crate) fn scaled(architecture: &Architecture, node: NodeId) -> NodeId {
    TensorId::new(architecture.nodes[node.index()].op.inputs()[0]).maker().expect("a scale reads an accumulator")
}

/// The multipliers of a scale whose accumulators have a ring of `ell` bits.
pub(crate) fn factors_of(architecture: &Architecture, node: NodeId, ell: u32, dropped: u32) -> Vec<Factor> {
    let Op::Scale { multiplier, .. } = &architecture.nodes[node.index()].op else { unreachable!("a scale") };
    multiplier.iter().map(|&multiplier| Factor { multiplier, ell, dropped }).collect()
}

/// Checks that scale `node` can be truncated at all, for any weights; a peer may have proposed it.
///
/// # Errors
/// [`PlanError`].
pub(super) fn check(architecture: &Architecture, chosen: &Chosen, node: NodeId) -> Result<(), PlanError> {
    let Some(ScaleChoice::Truncated { ell, dropped }) = chosen.scale(node) else { return Ok(()) };
    let name = &architecture.nodes[node.index()].name;
    let choice = |what| PlanError::Choice { node: Some(name.clone()), what, value: dropped.into() };
    let reader =
        reader(architecture, node).ok_or_else(|| choice("truncation without one requantisation that reads it"))?;
    if dropped > reader.shift {
        return Err(choice("the number of dropped bits"));
    }
    let of_node = |source| PlanError::Layout { node: name.clone(), source };
    let source = chosen.ell(scaled(architecture, node));
    factors_of(architecture, node, source, dropped)
        .into_iter()
        .try_for_each(|factor| check_factor(factor, ell))
        .map_err(of_node)
}
