//! The largest value of each window, by comparisons; of clipped values, or of accumulators whose clip comes after it.

use super::holding::Demands;
use super::{ByTensor, Context, NodeId, Operator, TensorId, small_width};

pub(super) struct MaxPool {
    pub input: TensorId,
}

impl Operator for MaxPool {
    fn name(&self) -> &'static str {
        "max pool"
    }

    fn width(&self, _: TensorId, widths: &ByTensor<u32>, _: &dyn Fn(NodeId) -> u32) -> Option<u32> {
        Some(widths[self.input])
    }

    fn ask(&self, _: TensorId, context: &Context<'_>, demands: &mut Demands) {
        demands.in_pool(self.input, small_width(context.widths[self.input]));
    }
}
