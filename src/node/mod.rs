//! The operators of the network, one file each: everything that a plan and the two parties have to know of one.
//!
//! | file | operator | its result is held as | computed by |
//! |---|---|---|---|
//! | `linear.rs` | a sum of convolutions, matrices, multiples | accumulator | ciphertexts, before the input is known |
//! | `scale.rs` | a multiplied accumulator | scaled, or never made | a program, or each party alone |
//! | `requantise.rs` | a shift and a clip | activation | a program |
//! | `block.rs` | a shift and a sign for each patch | activation | a program, a lane per patch |
//! | `max_pool.rs`, `avg_pool.rs` | the largest, the average of each window | activation | a program |
//! | `table.rs` | a function of 8 bits | activation | a program |
//! | `sum_pool.rs`, `concat.rs`, `select.rs` | sums, other orders | activation | each party alone |
//! | `flatten.rs` | another shape | as what it reads | nobody |
//!
//! | beside them | what |
//! |---|---|
//! | `id.rs` | names of nodes and tensors, tables by name |
//! | `choices.rs` | what a planner decides and a server publishes, and the same by node |
//! | `chooser.rs` | how it decides on the digits of a protocol |
//! | `context.rs` | what an operator looks at: network, choices, how tensors are held |
//! | `holding.rs` | how a tensor may be shared |
//! | `asked.rs` | how each is, and in which ring: what its consumers ask for |
//! | `step.rs` | what a node does at run time: which protocol, on what |
//! | `run.rs` | which operator gives a program its inputs and keeps its result |
//! | `halves.rs` | one party's half of every tensor |
//! | `windows.rs`, `error.rs` | which elements a pool reads; why there is no plan |
//!
//! A new operator is a file here, an arm in [`of`], and what `models/` says of it. No match over operators has a `_`.

#![deny(clippy::wildcard_enum_match_arm)]

mod asked;
mod avg_pool;
mod block;
mod choices;
mod chooser;
mod concat;
mod context;
mod error;
mod flatten;
mod halves;
mod holding;
mod id;
mod linear;
mod max_pool;
mod requantise;
mod run;
mod scale;
mod select;
mod step;
mod sum_pool;
mod table;
mod windows;

use lowkey_models::{Op, Range, Window};
use lowkey_mpc::extend::Finish;

pub(crate) use asked::{holdings, value_widths};
pub(crate) use avg_pool::shift as average_shift;
pub use choices::{Choices, LayoutChoice, LinearChoice, Link, ScaleChoice, SetChoice};
pub(crate) use choices::{Chooses, Chosen};
pub(crate) use chooser::Chooser;
pub(crate) use context::{Context, Held};
pub use error::PlanError;
pub(crate) use halves::{Expired, Halves};
pub(crate) use holding::clipped_bits;
pub use holding::{Holding, width_of};
pub use id::{By, ByNode, ByTensor, NodeId, TensorId};
pub(crate) use linear::{add_biases, add_identities};
pub(crate) use requantise::{exact, has_room, least_ring, of_sum, pooled};
pub(crate) use scale::factors as scale_factors;
pub use step::{Nonlinear, NonlinearKind, Operand, Programs, Step};
pub(crate) use table::entries as table_entries;
pub use windows::Windows;

use asked::Demands;
use context::Before;

/// One operator of the network.
pub(crate) trait Operator {
    /// Its name for people.
    fn name(&self) -> &'static str;

    /// What a planner chooses for it.
    fn chooses(&self) -> Chooses;

    /// Width of the values of its result, where it differs from what their range needs. `widths` are those of all tensors, known
    /// up to `result`; `ell` is the ring of the accumulator that a node makes.
    fn width(&self, result: TensorId, widths: &ByTensor<u32>, ell: &dyn Fn(NodeId) -> u32) -> Option<u32> {
        let _ = (result, widths, ell);
        None
    }

    /// The windows over which it goes, if it is a pool.
    fn window(&self) -> Option<&Window> {
        None
    }

    /// The smallest ring in which it can read accumulators with these values; 0 if it reads none. `coin`: the bits of the coin by which it
    /// rounds.
    fn least_ring(&self, sums: Range, coin: u32) -> u32 {
        let _ = (sums, coin);
        0
    }

    /// Asks for the rings of what it reads.
    fn ask(&self, result: TensorId, context: &Context<'_>, demands: &mut Demands);

    /// How its result is held; `before` are the holdings of all tensors before it.
    fn holding(
        &self,
        result: TensorId,
        context: &Context<'_>,
        demands: &Demands,
        before: &ByTensor<Holding>,
    ) -> Holding {
        let _ = before;
        demands.activation(result, context)
    }

    /// The layout of its protocol, where a planner [chooses](Self::chooses) one.
    ///
    /// # Errors
    /// When there is no such protocol.
    fn layout(
        &self,
        node: NodeId,
        held: &Held<'_>,
        chooser: &mut Chooser<'_>,
    ) -> Result<Option<LayoutChoice>, PlanError> {
        let _ = (node, held, chooser);
        Ok(None)
    }

    /// Seconds of traffic that a scale costs at this node, and which scale; `None` if it costs none. Infinite without a protocol.
    fn scale_seconds(&self, node: NodeId, held: &Held<'_>, chooser: &mut Chooser<'_>) -> Option<(NodeId, f64)> {
        let _ = (node, held, chooser);
        None
    }

    /// What the parties do; `before` are the steps of all nodes before it.
    ///
    /// # Errors
    /// When there is no such protocol, or its digits do not fit it.
    fn step(&self, node: NodeId, held: &Held<'_>, before: Before<'_>) -> Result<Step, PlanError>;
}

/// The steps of all nodes.
///
/// # Errors
/// As [`Operator::step`].
pub(crate) fn steps(held: &Held<'_>) -> Result<ByNode<Step>, PlanError> {
    let mut steps = ByNode::from(Vec::with_capacity(held.architecture.nodes.len()));
    for node in held.nodes() {
        let step = of(held.op(node)).step(node, held, &steps)?;
        steps.push(step);
    }
    Ok(steps)
}

/// The layouts of all nodes for which a planner chooses one, in order.
///
/// # Errors
/// As [`Operator::layout`].
pub(crate) fn layouts(held: &Held<'_>, chooser: &mut Chooser<'_>) -> Result<Vec<LayoutChoice>, PlanError> {
    held.nodes().filter_map(|node| of(held.op(node)).layout(node, held, chooser).transpose()).collect()
}

/// The operator of a node.
pub(crate) fn of(op: &Op) -> Box<dyn Operator + '_> {
    let id = |tensor: &usize| TensorId::new(*tensor);
    match op {
        Op::Linear { terms } => Box::new(linear::Linear { terms }),
        Op::Scale { input, multiplier } => Box::new(scale::Scale { input: id(input), multiplier }),
        Op::Requantise { input, bits, shift, top, zero_point: _ } => {
            Box::new(requantise::Requantise { input: id(input), bits: *bits, shift, top: *top })
        }
        Op::Block { input, bits, shift, patch } => {
            Box::new(block::Block { input: id(input), bits: *bits, shift: *shift, patch: *patch })
        }
        Op::MaxPool { input, window } => Box::new(max_pool::MaxPool { input: id(input), window }),
        Op::AvgPool { input, window, multiplier, offset, shift, floats } => Box::new(avg_pool::AvgPool {
            input: id(input),
            window,
            multiplier: *multiplier,
            offset: *offset,
            shift: *shift,
            floats: floats.as_ref(),
        }),
        Op::SumPool { input, window } => Box::new(sum_pool::SumPool { input: id(input), window }),
        Op::Flatten { input } => Box::new(flatten::Flatten { input: id(input) }),
        Op::Concat { inputs } => Box::new(concat::Concat { inputs: inputs.iter().map(id).collect() }),
        Op::Select { input, shape: _, axes } => Box::new(select::Select { input: id(input), axes }),
        Op::Table { input, table } => Box::new(table::Table { input: id(input), table }),
    }
}
