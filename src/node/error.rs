//! Why a network has no plan, or a plan is refused.

use lowkey_models::ModelError;
use lowkey_mpc::layout::LayoutError;

/// Why a network has no plan, or a plan is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The architecture breaks a rule.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// No parameter set holds a layer.
    #[error("layer {node:?} fits no parameter set: its accumulator has {ell} bits; {}", .tried.join("; "))]
    NothingFits {
        /// The layer.
        node: String,
        /// Its accumulator width.
        ell: u32,
        /// What is missing, by parameter set.
        tried: Vec<String>,
    },
    /// A requantisation with a shift per channel: the planner folds them into the weights, a published plan has none.
    #[error("node {node:?} has {shifts} shifts, a plan has one per layer")]
    PerChannelShift {
        /// The node.
        node: String,
        /// How many.
        shifts: usize,
    },
    /// A size over what this program handles.
    #[error("{what} is {value}, at most {limit} is handled")]
    TooLarge {
        /// Which size.
        what: &'static str,
        /// Its value.
        value: u64,
        /// The limit.
        limit: u64,
    },
    /// Choices that do not belong to the architecture.
    #[error("the plan has {found} {what}, the network needs {expected}")]
    Count {
        /// Of what.
        what: &'static str,
        /// How many the plan has.
        found: usize,
        /// How many are needed.
        expected: usize,
    },
    /// A choice out of bounds.
    #[error("{}: {what} is {value}, which is not possible", node.as_deref().unwrap_or("the plan"))]
    Choice {
        /// The layer, if it belongs to one.
        node: Option<String>,
        /// Which choice.
        what: &'static str,
        /// Its value.
        value: u64,
    },
    /// A layer that has no circuit against a client that cheats.
    #[error("node {node:?}: {what} has no circuit in the guarded mode")]
    NoCircuit {
        /// The layer.
        node: String,
        /// What it is.
        what: &'static str,
    },
    /// A nonlinear layer that has no protocol, or a layout that does not fit it.
    #[error("node {node:?}: {source}")]
    Layout {
        /// The node.
        node: String,
        /// Why.
        source: LayoutError,
    },
}
