//! (multiplier * sum + offset) >> shift of each window: the parties add up and multiply their halves, a program shifts. Where sums of floats
//! decide, it reads each value as well, multiplied by what a float has of its step.

use lowkey_models::{Op, Window};
use lowkey_mpc::average::{self, Floats};
use lowkey_mpc::bits::Planes;
use lowkey_mpc::program::Time;
use lowkey_mpc::truncate;
use zeroize::Zeroizing;

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
    pub floats: Option<&'a lowkey_models::floats::Floats>,
}

impl AvgPool<'_> {
    /// What sums of floats decide.
    fn chain(&self, context: &Context<'_>) -> Option<Floats> {
        let floats = self.floats?;
        let values = self.window.values(context.tensors[self.input].range);
        let count = self.window.kernel[0] * self.window.kernel[1];
        let reach = lowkey_models::floats::Floats::reach(floats.unit, values, count);
        let near_powers = lowkey_models::floats::Floats::is_near_powers(floats.unit, values, count);
        let (values, least) = ([values.lo, values.hi], floats.least.clone());
        Some(Floats { unit: floats.unit, values, count, reach, near_powers, least })
    }

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
        let terms = self.chain(context).map_or(0, |floats| floats.sum_bits() as u32);
        demands.at_least(self.input, average_ring(context.widths[made], self.shift).max(terms));
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
        let floats = self.chain(held);
        let programs = held.programs(node, |finish| match &floats {
            None => truncate::program(spec, chain, finish, Time::START),
            Some(floats) => average::program(spec, floats, chain, finish),
        })?;
        let kind = NonlinearKind::AvgPool {
            windows: held.windows(node, self.input, self.window),
            multiplier: self.multiplier,
            // Counted from the lowest average.
            offset: self.offset - (held.tensors[node.output()].range.lo << self.shift),
            floats,
        };
        let widths = [spec.width.into(), spec.bits.into()];
        Ok(held.nonlinear(node, held.operand(self.input), kind, widths, programs))
    }
}

/// The multiplied sums of all windows, of the values as they are: the offset counts from the lowest average. With floats then the sums, counted
/// from the lowest, and each value times the unit.
pub(super) fn inputs(
    step: &Nonlinear,
    halves: &Halves,
    windows: &Windows,
    (multiplier, offset): (i64, i64),
    floats: Option<&Floats>,
) -> Vec<Planes> {
    let values = halves.read(step.operand);
    let sum = Zeroizing::new(windows.sum(values.words()));
    let affine = |multiplier: i64, offset: i64| {
        let offset = halves.public(offset);
        let all: Vec<u64> = sum.iter().map(|x| x.wrapping_mul(multiplier as u64).wrapping_add(offset)).collect();
        Zeroizing::new(all)
    };
    let mut inputs = vec![step.planes(&affine(multiplier, offset))];
    if let Some(floats) = floats {
        inputs.push(Planes::from_lanes(&affine(1, -floats.lowest()), floats.index_bits()));
        for values in windows.gather(values.words(), 0) {
            let mut terms = Zeroizing::new(values);
            terms.iter_mut().for_each(|x| *x = x.wrapping_mul(floats.unit as u64));
            inputs.push(Planes::from_lanes(&terms, floats.sum_bits()));
        }
    }
    inputs
}
