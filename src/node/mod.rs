//! The operators of the network, one file each: everything that a plan and the two parties have to know of one.
//!
//! | file | operator | its result is held as | computed by |
//! |---|---|---|---|
//! | `linear.rs` | a sum of convolutions, matrices, multiples | accumulator | ciphertexts, before the input is known |
//! | `scale.rs` | a multiplied accumulator | scaled, or never made | a program, or each party alone |
//! | `requantise.rs` | a shift and a clip | activation | a program |
//! | `max_pool.rs`, `avg_pool.rs` | the largest, the average of each window | activation | a program |
//! | `table.rs` | a function of 8 bits | activation | a program |
//! | `sum_pool.rs`, `concat.rs`, `select.rs` | sums, other orders | activation | each party alone |
//! | `flatten.rs` | another shape | as what it reads | nobody |
//!
//! | beside them | what |
//! |---|---|
//! | `id.rs` | names of nodes and tensors, tables by name |
//! | `choices.rs` | what a planner decides and a server publishes |
//! | `holding.rs` | how a tensor is shared, and in which ring |
//! | `windows.rs`, `error.rs` | which elements a pool reads; why there is no plan |
//!
//! A new operator is a file here, an arm in [`of`], and what `models/` says of it. No match over operators has a `_`.

#![deny(clippy::wildcard_enum_match_arm)]

mod avg_pool;
mod choices;
mod concat;
mod error;
mod flatten;
mod holding;
mod id;
mod linear;
mod max_pool;
mod requantise;
mod scale;
mod select;
mod sum_pool;
mod table;
mod windows;

use lowkey_models::{Architecture, Op, TensorInfo};

pub use choices::{Choices, LayoutChoice, LinearChoice, Link, ScaleChoice, SetChoice};
pub use error::PlanError;
pub use holding::{Holding, width_of};
pub(crate) use holding::{average_ring, clipped_bits, holdings, small_width, value_widths};
pub use id::{By, ByNode, ByTensor, NodeId, TensorId};
pub use windows::Windows;

use holding::Demands;

/// What the operators look at: the network's public half and what was chosen for it.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub architecture: &'a Architecture,
    pub choices: &'a Choices,
    pub tensors: &'a ByTensor<TensorInfo>,
    /// Widths of all values, counted from the smallest.
    pub widths: &'a ByTensor<u32>,
}

impl Context<'_> {
    /// The ring of the accumulator that the maker of a tensor makes.
    fn ell(&self, node: NodeId) -> u32 {
        self.choices.ell(self.architecture, node)
    }

    /// The network's output.
    pub fn output(&self) -> TensorId {
        TensorId::new(self.architecture.output)
    }
}

/// One operator of the network.
pub(crate) trait Operator {
    /// Its name for people.
    fn name(&self) -> &'static str;

    /// Width of the values of tensor `made`, where it differs from what their range needs. `widths` are those of all tensors, known
    /// up to `made`; `ell` is the ring of the accumulator that a node makes.
    fn width(&self, made: TensorId, widths: &ByTensor<u32>, ell: &dyn Fn(NodeId) -> u32) -> Option<u32> {
        let _ = (made, widths, ell);
        None
    }

    /// Asks for the rings of what it reads to make tensor `made`.
    fn ask(&self, made: TensorId, context: &Context<'_>, demands: &mut Demands);

    /// How tensor `made` is held; `before` are the holdings of all tensors before it.
    fn holding(&self, made: TensorId, context: &Context<'_>, demands: &Demands, before: &ByTensor<Holding>) -> Holding {
        let _ = before;
        demands.activation(made, context)
    }
}

/// The operator of a node.
pub(crate) fn of(op: &Op) -> Box<dyn Operator + '_> {
    let id = |tensor: &usize| TensorId::new(*tensor);
    match op {
        Op::Linear { terms } => Box::new(linear::Linear { terms }),
        Op::Scale { .. } => Box::new(scale::Scale),
        Op::Requantise { input, shift, .. } => Box::new(requantise::Requantise { input: id(input), shift }),
        Op::MaxPool { input, .. } => Box::new(max_pool::MaxPool { input: id(input) }),
        Op::AvgPool { input, shift, .. } => Box::new(avg_pool::AvgPool { input: id(input), shift: *shift }),
        Op::SumPool { input, .. } => Box::new(sum_pool::SumPool { input: id(input) }),
        Op::Flatten { input } => Box::new(flatten::Flatten { input: id(input) }),
        Op::Concat { inputs } => Box::new(concat::Concat { inputs: inputs.iter().map(id).collect() }),
        Op::Select { input, .. } => Box::new(select::Select { input: id(input) }),
        Op::Table { input, .. } => Box::new(table::Table { input: id(input) }),
    }
}
