//! clamp(z >> shift, 0, top) of an accumulator z, by a carry chain over its bits and a clip.

use super::holding::Demands;
use super::{ByTensor, Context, NodeId, Operator, TensorId};

pub(super) struct Requantise<'a> {
    pub input: TensorId,
    pub shift: &'a [u32],
}

impl Operator for Requantise<'_> {
    fn name(&self) -> &'static str {
        "requantise"
    }

    /// Where an accumulator has too few bits for a clip to happen, fewer than are asked for.
    fn width(&self, made: TensorId, widths: &ByTensor<u32>, ell: &dyn Fn(NodeId) -> u32) -> Option<u32> {
        let source = self.input.maker().expect("an accumulator is made by a node");
        let left = ell(source).saturating_sub(1 + self.shift.iter().max().copied().unwrap_or(0));
        Some(widths[made].min(left).max(1))
    }

    fn ask(&self, _: TensorId, _: &Context<'_>, _: &mut Demands) {}
}
