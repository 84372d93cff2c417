//! Activations channel after channel: each party puts its halves one behind the other.

use super::holding::Demands;
use super::{Context, Operator, TensorId};

pub(super) struct Concat {
    pub inputs: Vec<TensorId>,
}

impl Operator for Concat {
    fn name(&self) -> &'static str {
        "concat"
    }

    fn ask(&self, made: TensorId, _: &Context<'_>, demands: &mut Demands) {
        demands.same_ring(made, &self.inputs);
    }
}
