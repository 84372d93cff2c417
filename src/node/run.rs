//! Which operator gives a program its inputs, and keeps its result: one arm for each protocol.

use lowkey_mpc::bits::Planes;
use lowkey_mpc::party::Party;

use super::halves::Halves;
use super::step::{Nonlinear, NonlinearKind, Operand};
use super::{NodeId, avg_pool, block, max_pool, requantise, scale};
use crate::share::{RingShare, ToPlanes};

impl Nonlinear {
    /// What its program reads before the input is known, the pad of its result excepted. The server gives nothing, but for
    /// [`early_of`](Self::early_of).
    pub(crate) fn early(&self, halves: &Halves) -> Vec<Planes> {
        if halves.party == Party::Server || !self.operand.is_early() {
            return vec![];
        }
        match &self.kind {
            NonlinearKind::Pooled { windows, low, .. } => max_pool::words(self, halves, windows, *low),
            NonlinearKind::Requantise { .. }
            | NonlinearKind::Dither { .. }
            | NonlinearKind::Rescale { .. }
            | NonlinearKind::Block { .. }
            | NonlinearKind::Carries
            | NonlinearKind::MaxPool { .. }
            | NonlinearKind::AvgPool { .. }
            | NonlinearKind::Table
            | NonlinearKind::Scale { .. } => self.inputs(halves, &[]),
        }
    }

    /// What the server gives before the input is known, of its share of the accumulator, or of that share's offline part.
    pub(crate) fn early_of(&self, share: &[u64]) -> Vec<Planes> {
        match &self.kind {
            NonlinearKind::Dither { .. } => vec![requantise::lowest(share)],
            NonlinearKind::Requantise { .. }
            | NonlinearKind::Rescale { .. }
            | NonlinearKind::Block { .. }
            | NonlinearKind::Carries
            | NonlinearKind::MaxPool { .. }
            | NonlinearKind::Pooled { .. }
            | NonlinearKind::AvgPool { .. }
            | NonlinearKind::Table
            | NonlinearKind::Scale { .. } => vec![],
        }
    }

    /// The linear node whose accumulators it rounds by coins.
    pub(crate) fn tosses(&self) -> Option<NodeId> {
        let (NonlinearKind::Dither { .. }, Operand::Accumulator(node)) = (&self.kind, self.operand) else {
            return None;
        };
        Some(node)
    }

    /// What its program reads when it runs. `bias` is the server's, of truncated products.
    pub(crate) fn late(&self, halves: &Halves, bias: &[i64]) -> Vec<Planes> {
        let early = halves.party == Party::Client && self.operand.is_early();
        match &self.kind {
            NonlinearKind::Pooled { windows, carries, low } => max_pool::late(self, halves, windows, *carries, *low),
            NonlinearKind::Requantise { .. }
            | NonlinearKind::Dither { .. }
            | NonlinearKind::Rescale { .. }
            | NonlinearKind::Block { .. }
            | NonlinearKind::Carries
            | NonlinearKind::MaxPool { .. }
            | NonlinearKind::AvgPool { .. }
            | NonlinearKind::Table
            | NonlinearKind::Scale { .. } => {
                if early {
                    vec![]
                } else {
                    self.inputs(halves, bias)
                }
            }
        }
    }

    /// The inputs of a program that reads one tensor at one time.
    fn inputs(&self, halves: &Halves, bias: &[i64]) -> Vec<Planes> {
        match &self.kind {
            NonlinearKind::MaxPool { windows } => max_pool::inputs(self, halves, windows),
            NonlinearKind::AvgPool { windows, multiplier, offset, floats } => {
                avg_pool::inputs(self, halves, windows, (*multiplier, *offset), floats.as_ref())
            }
            NonlinearKind::Requantise { lowered } => requantise::inputs(self, halves, *lowered),
            NonlinearKind::Block { windows } => block::inputs(self, halves, windows),
            NonlinearKind::Dither { dither } => vec![requantise::tossed(self, halves, *dither)],
            NonlinearKind::Rescale { factors, lowered } => requantise::products(self, halves, factors, *lowered, bias),
            NonlinearKind::Carries | NonlinearKind::Table | NonlinearKind::Scale { .. } => {
                vec![self.planes(self.counted(halves).words())]
            }
            NonlinearKind::Pooled { .. } => unreachable!("reads its inputs at two times"),
        }
    }

    /// The client's pads of its result, of which it has one for each pixel of a patch.
    pub(crate) fn pads(&self, pad: &RingShare) -> Vec<Planes> {
        match self.kind.patches() {
            Some(windows) => block::pads(windows, pad),
            None => vec![pad.planes()],
        }
    }

    /// What its program leaves one party of its result, if anything.
    pub(crate) fn result(&self, mut results: Vec<Planes>) -> Option<Planes> {
        match self.kind.patches() {
            Some(windows) => block::joined(windows, &results, self.elements),
            None => (!results.is_empty()).then(|| results.swap_remove(0)),
        }
    }

    /// Keeps its program's result. `bias` is the server's, of a scale.
    pub(crate) fn keep(&self, halves: &mut Halves, result: Planes, bias: &[i64]) {
        let made = self.node.output();
        match &self.kind {
            NonlinearKind::Scale { multiplier, ell } => scale::keep(self, halves, result, multiplier, *ell, bias),
            // A table makes the values themselves.
            NonlinearKind::Table => halves.keep(made, self.holding, 0, result),
            NonlinearKind::Requantise { .. }
            | NonlinearKind::Dither { .. }
            | NonlinearKind::Rescale { .. }
            | NonlinearKind::Block { .. }
            | NonlinearKind::Carries
            | NonlinearKind::MaxPool { .. }
            | NonlinearKind::Pooled { .. }
            | NonlinearKind::AvgPool { .. } => halves.keep(made, self.holding, self.lowest[1], result),
        }
    }
}
