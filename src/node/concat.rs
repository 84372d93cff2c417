//! Activations channel after channel: each party puts its halves one behind the other.

use super::asked::Demands;
use super::choices::Chooses;
use super::context::{Before, Context, Held};
use super::step::Step;
use super::{NodeId, Operator, PlanError, TensorId};

pub(super) struct Concat {
    pub inputs: Vec<TensorId>,
}

impl Operator for Concat {
    fn name(&self) -> &'static str {
        "concat"
    }

    fn chooses(&self) -> Chooses {
        Chooses::Nothing
    }

    fn ask(&self, made: TensorId, _: &Context<'_>, demands: &mut Demands) {
        demands.same_ring(made, &self.inputs);
    }

    fn step(&self, node: NodeId, held: &Held<'_>, _: Before<'_>) -> Result<Step, PlanError> {
        Ok(held.local(node, &self.inputs, None))
    }
}
