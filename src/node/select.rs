//! Elements in another order, some several times, some 0: each party orders its half.

use super::holding::Demands;
use super::{Context, Operator, TensorId};

pub(super) struct Select {
    pub input: TensorId,
}

impl Operator for Select {
    fn name(&self) -> &'static str {
        "select"
    }

    fn ask(&self, made: TensorId, _: &Context<'_>, demands: &mut Demands) {
        demands.same_ring(made, &[self.input]);
    }
}
