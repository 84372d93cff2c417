//! Elements in another order, some several times, some 0: each party orders its half.

use lowkey_models::selected;

use super::asked::Demands;
use super::choices::Chooses;
use super::context::{Before, Context, Held};
use super::step::Step;
use super::{NodeId, Operator, PlanError, TensorId, Windows};

pub(super) struct Select<'a> {
    pub input: TensorId,
    pub axes: &'a [Vec<i64>],
}

impl Operator for Select<'_> {
    fn name(&self) -> &'static str {
        "select"
    }

    fn chooses(&self) -> Chooses {
        Chooses::Nothing
    }

    fn ask(&self, made: TensorId, _: &Context<'_>, demands: &mut Demands) {
        demands.same_ring(made, &[self.input]);
    }

    fn step(&self, node: NodeId, held: &Held<'_>, _: Before<'_>) -> Result<Step, PlanError> {
        Ok(held.local(node, &[self.input], Some(Windows::select(&selected(self.axes)))))
    }
}
