//! (multiplier * sum + offset) >> shift of each window: the parties add up and multiply their halves, a program shifts.

use super::holding::Demands;
use super::{Context, Operator, TensorId, average_ring};

pub(super) struct AvgPool {
    pub input: TensorId,
    pub shift: u32,
}

impl Operator for AvgPool {
    fn name(&self) -> &'static str {
        "average pool"
    }

    fn ask(&self, made: TensorId, context: &Context<'_>, demands: &mut Demands) {
        demands.at_least(self.input, average_ring(context.widths[made], self.shift));
    }
}
