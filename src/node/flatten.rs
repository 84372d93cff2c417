//! Another shape of the same activations: nothing is computed, and what is stored is the input's.

use super::asked::Demands;
use super::choices::Chooses;
use super::context::{Before, Context, Held};
use super::step::Step;
use super::{ByTensor, Holding, NodeId, Operator, PlanError, TensorId};

pub(super) struct Flatten {
    pub input: TensorId,
}

impl Operator for Flatten {
    fn name(&self) -> &'static str {
        "flatten"
    }

    fn chooses(&self) -> Chooses {
        Chooses::Nothing
    }

    fn width(&self, _: TensorId, widths: &ByTensor<u32>, _: &dyn Fn(NodeId) -> u32) -> Option<u32> {
        Some(widths[self.input])
    }

    fn ask(&self, made: TensorId, _: &Context<'_>, demands: &mut Demands) {
        demands.same_ring(made, &[self.input]);
    }

    fn holding(&self, _: TensorId, _: &Context<'_>, _: &Demands, before: &ByTensor<Holding>) -> Holding {
        before[self.input]
    }

    fn step(&self, _: NodeId, _: &Held<'_>, _: Before<'_>) -> Result<Step, PlanError> {
        Ok(Step::Reshape)
    }
}
