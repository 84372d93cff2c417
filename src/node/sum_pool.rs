//! The sum of each window: each party adds up its half.

use super::holding::Demands;
use super::{Context, Operator, TensorId};

pub(super) struct SumPool {
    pub input: TensorId,
}

impl Operator for SumPool {
    fn name(&self) -> &'static str {
        "sum pool"
    }

    fn ask(&self, made: TensorId, _: &Context<'_>, demands: &mut Demands) {
        demands.same_ring(made, &[self.input]);
    }
}
