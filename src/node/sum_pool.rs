//! The sum of each window: each party adds up its half.

use lowkey_models::Window;

use super::asked::Demands;
use super::choices::Chooses;
use super::context::{Before, Context, Held};
use super::step::Step;
use super::{NodeId, Operator, PlanError, TensorId};

pub(super) struct SumPool<'a> {
    pub input: TensorId,
    pub window: &'a Window,
}

impl Operator for SumPool<'_> {
    fn name(&self) -> &'static str {
        "sum pool"
    }

    fn chooses(&self) -> Chooses {
        Chooses::Nothing
    }

    fn window(&self) -> Option<&Window> {
        Some(self.window)
    }

    fn ask(&self, made: TensorId, _: &Context<'_>, demands: &mut Demands) {
        demands.same_ring(made, &[self.input]);
    }

    fn step(&self, node: NodeId, held: &Held<'_>, _: Before<'_>) -> Result<Step, PlanError> {
        Ok(held.local(node, &[self.input], Some(held.windows(node, self.input, self.window))))
    }
}
