//! What the operators look at: the network's public half, what was chosen for it, and how its tensors are held.

use std::ops::Deref;

use lowkey_models::{Architecture, Op, TensorInfo, Window};
use lowkey_mpc::layout::LayoutError;
use lowkey_mpc::program::{Program, Time};

use super::choices::Chosen;
use super::step::{Nonlinear, NonlinearKind, Operand, Programs, Step};
use super::{ByNode, ByTensor, Finish, Holding, NodeId, PlanError, TensorId, Windows};

/// The network's public half and what was chosen for it.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub architecture: &'a Architecture,
    pub chosen: &'a Chosen,
    pub tensors: &'a ByTensor<TensorInfo>,
    /// Widths of all values, counted from the smallest.
    pub widths: &'a ByTensor<u32>,
}

impl Context<'_> {
    /// The network's output.
    pub fn output(&self) -> TensorId {
        TensorId::new(self.architecture.output)
    }

    pub fn op(&self, node: NodeId) -> &Op {
        &self.architecture.nodes[node.index()].op
    }

    /// All nodes, in order.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..self.architecture.nodes.len()).map(NodeId::new)
    }

    /// The tensor that a node reads, the first of them.
    pub fn input(&self, node: NodeId) -> TensorId {
        TensorId::new(self.op(node).inputs()[0])
    }

    /// The ring of an accumulator.
    pub fn ell(&self, accumulator: TensorId) -> u32 {
        self.chosen.ell(made(accumulator))
    }

    /// The bits that the scale drops whose result `tensor` is.
    pub fn dropped(&self, tensor: TensorId) -> Option<u32> {
        self.chosen.dropped(tensor.maker()?)
    }

    /// Bits of the coin by which a node rounds; 0 for none.
    pub fn coin(&self, node: NodeId) -> u32 {
        self.architecture.coin(node.index())
    }

    /// The windows of a pool.
    pub fn windows(&self, node: NodeId, input: TensorId, window: &Window) -> Windows {
        let [_, height, width] = self.tensors[node.output()].shape;
        Windows::new(window, self.tensors[input].shape, [height, width])
    }

    /// A protocol that a node does not have.
    pub fn layout_error(&self, node: NodeId, source: LayoutError) -> PlanError {
        PlanError::Layout { node: self.architecture.nodes[node.index()].name.clone(), source }
    }

    /// The digits of a node are not of the kind that it needs.
    pub fn misplaced(&self, node: NodeId) -> PlanError {
        PlanError::Choice {
            node: Some(self.architecture.nodes[node.index()].name.clone()),
            what: "the kind of its layout",
            value: node.index() as u64,
        }
    }
}

/// The same, where it is known how all tensors are held.
#[derive(Clone, Copy)]
pub(crate) struct Held<'a> {
    pub context: Context<'a>,
    pub holdings: &'a ByTensor<Holding>,
}

impl<'a> Deref for Held<'a> {
    type Target = Context<'a>;

    fn deref(&self) -> &Context<'a> {
        &self.context
    }
}

impl Held<'_> {
    /// What a program reads to read a tensor.
    pub fn operand(&self, tensor: TensorId) -> Operand {
        match self.holdings[tensor] {
            Holding::Accumulator { .. } => Operand::Accumulator(made(tensor)),
            Holding::Scaled { .. } => Operand::Scaled(made(tensor)),
            Holding::Truncated { .. } => self.operand(self.input(made(tensor))),
            Holding::Shared { root, .. } => Operand::Shared(root),
            Holding::Small { .. } => Operand::Small(tensor),
        }
    }

    /// When the client knows its share of what a node reads.
    pub fn client_time(&self, tensor: TensorId) -> Time {
        if self.operand(tensor).is_early() { Time::OFFLINE } else { Time::START }
    }

    /// A linear function of activations, which each party applies to its half.
    pub fn local(&self, node: NodeId, inputs: &[TensorId], windows: Option<Windows>) -> Step {
        let storage = |tensor: TensorId| match self.holdings[tensor] {
            Holding::Shared { root, ring } => (root, ring),
            Holding::Accumulator { .. }
            | Holding::Scaled { .. }
            | Holding::Truncated { .. }
            | Holding::Small { .. } => unreachable!("local steps read and make shared tensors"),
        };
        let (output, ring) = storage(node.output());
        Step::Local { inputs: inputs.iter().map(|tensor| storage(*tensor).0).collect(), output, ring, windows }
    }

    /// The programs of a node, which end as its result is held.
    pub fn programs(
        &self,
        node: NodeId,
        program: impl FnMut(Finish) -> Result<Program, LayoutError>,
    ) -> Result<Programs, PlanError> {
        Programs::build(self.holdings[node.output()], program).map_err(|source| self.layout_error(node, source))
    }

    /// A protocol on every element of a node's result.
    pub fn nonlinear(
        &self,
        node: NodeId,
        operand: Operand,
        kind: NonlinearKind,
        [input_width, bits]: [u32; 2],
        programs: Programs,
    ) -> Step {
        let made = &self.tensors[node.output()];
        let from = match operand {
            Operand::Shared(root) => self.tensors[root].range.lo,
            Operand::Accumulator(_) | Operand::Scaled(_) | Operand::Small(_) => 0,
        };
        let lanes = kind.patches().map_or(made.elements(), Windows::count);
        Step::Nonlinear(Box::new(Nonlinear {
            node,
            operand,
            kind,
            lanes,
            elements: made.elements(),
            input_width,
            bits,
            programs,
            holding: self.holdings[node.output()],
            lowest: [from, made.range.lo],
            pixels: made.shape[1..].iter().product(),
        }))
    }
}

/// The node that makes a tensor which is not the input.
pub(super) fn made(tensor: TensorId) -> NodeId {
    tensor.maker().expect("the input is neither an accumulator nor made by a node")
}

/// The steps of the nodes before one.
pub(crate) type Before<'a> = &'a ByNode<Step>;
