//! (multiplier * sum + offset) >> shift of each window: the parties add up and multiply their halves, a program shifts.

use lowkey_models::{Op, Window};
use lowkey_mpc::bits::Planes;
use lowkey_mpc::program::Time;
use lowkey_mpc::truncate;

use super::asked::Demands;
use super::choices::{Chooses, LayoutChoice};
use super::chooser::Chooser;
use super::context::{Before, Context, Held};
use super::halves::Halves;
use super::holding::average_ring;
use super::step::{Nonlinear, NonlinearKind, Step, byte};
use super::{NodeId, Operator, PlanError, TensorId, Windows};

pub(super) struct AvgPool<'a> {
    pub input: TensorId,
    pub window: &'a Window,
    pub multiplier: i64,
    pub offset: i64,
    pub shift: u32,
}

impl AvgPool<'_> {
    fn spec(&self, node: NodeId, held: &Held<'_>) -> truncate::Spec {
        let bits = held.widths[node.output()];
        truncate::Spec { width: byte(average_ring(bits, self.shift)), shift: byte(self.shift), bits: byte(bits) }
    }
}

/// The bits that average pool `node` drops; 255 of other nodes, which no protocol takes.
pub(crate) fn shift(held: &Held<'_>, node: NodeId) -> u8 {
    if let Op::AvgPool { shift, .. } = held.op(node) { byte(*shift) } else { u8::MAX }
}

impl Operator for AvgPool<'_> {
    fn name(&self) -> &'static str {
        "average pool"
    }

    fn chooses(&self) -> Chooses {
        Chooses::Layout
    }

    fn window(&self) -> Option<&Window> {
        Some(self.window)
    }

    fn ask(&self, made: TensorId, context: &Context<'_>, demands: &mut Demands) {
        demands.at_least(self.input, average_ring(context.widths[made], self.shift));
    }

    fn layout(
        &self,
        node: NodeId,
        held: &Held<'_>,
        chooser: &mut Chooser<'_>,
    ) -> Result<Option<LayoutChoice>, PlanError> {
        let finish = held.holdings[node.output()].finish();
        let found = chooser.search.truncate(self.spec(node, held), finish, Time::START);
        Ok(Some(LayoutChoice::Chain(chooser.best_of(node, held, found)?)))
    }

    fn step(&self, node: NodeId, held: &Held<'_>, _: Before<'_>) -> Result<Step, PlanError> {
        let spec = self.spec(node, held);
        let Some(LayoutChoice::Chain(chain)) = held.chosen.layout(node) else { return Err(held.misplaced(node)) };
        let programs = held.programs(node, |finish| truncate::program(spec, chain, finish, Time::START))?;
        let kind = NonlinearKind::AvgPool {
            windows: held.windows(node, self.input, self.window),
            multiplier: self.multiplier,
            // Counted from the lowest average.
            offset: self.offset - (held.tensors[node.output()].range.lo << self.shift),
        };
        let widths = [spec.width.into(), spec.bits.into()];
        Ok(held.nonlinear(node, held.operand(self.input), kind, widths, programs))
    }
}

/// The multiplied sums of all windows, of the values as they are: the offset counts from the lowest average.
pub(super) fn inputs(
    step: &Nonlinear,
    halves: &Halves,
    windows: &Windows,
    multiplier: i64,
    offset: i64,
) -> Vec<Planes> {
    let mut sum = windows.sum(halves.read(step.operand).words());
    let offset = halves.public(offset);
    sum.iter_mut().for_each(|x| *x = x.wrapping_mul(multiplier as u64).wrapping_add(offset));
    vec![step.planes(&sum)]
}
