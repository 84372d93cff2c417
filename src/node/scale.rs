//! A multiplied accumulator: made exact in a wider ring, in which each party multiplies; or never made, where the requantisation that
//! reads it lets each party multiply and drop low bits.

use lowkey_bridge::share::GUARD_BITS;
use lowkey_models::{Op, Range};
use lowkey_mpc::bits::Planes;
use lowkey_mpc::rescale::Factor;
use lowkey_mpc::widen;
use zeroize::Zeroizing;

use super::asked::Demands;
use super::choices::Chooses;
use super::chooser::Chooser;
use super::context::{Before, Context, Held, made};
use super::halves::Halves;
use super::step::{Nonlinear, NonlinearKind, Step};
use super::{ByTensor, Holding, NodeId, Operator, PlanError, TensorId};
use crate::share::{Ring, RingShare};

pub(super) struct Scale<'a> {
    pub input: TensorId,
    pub multiplier: &'a [i64],
}

/// The multipliers of scale `node`, one or one per channel, where `dropped` bits of their products are.
///
/// # Panics
/// If it is no scale.
pub(crate) fn factors(context: &Context<'_>, node: NodeId, dropped: u32) -> Vec<Factor> {
    let Op::Scale { input, multiplier } = context.op(node) else { unreachable!("a scale") };
    let ell = context.ell(TensorId::new(*input));
    multiplier.iter().map(|&multiplier| Factor { multiplier, ell, dropped }).collect()
}

impl Operator for Scale<'_> {
    fn name(&self) -> &'static str {
        "scale"
    }

    fn chooses(&self) -> Chooses {
        Chooses::Scale
    }

    /// Widening adds 2^(ell-2), and the sum must stay below 2^(ell-1).
    fn least_ring(&self, sums: Range, _: u32) -> u32 {
        sums.signed_bits() + 1
    }

    fn ask(&self, _: TensorId, _: &Context<'_>, _: &mut Demands) {}

    fn holding(&self, result: TensorId, context: &Context<'_>, _: &Demands, _: &ByTensor<Holding>) -> Holding {
        let ell = context.ell(result);
        match context.dropped(result) {
            Some(dropped) => Holding::Truncated { ell: ell - dropped },
            None => Holding::Scaled { ell },
        }
    }

    /// Of widening, if its products are made.
    fn scale_seconds(&self, node: NodeId, held: &Held<'_>, chooser: &mut Chooser<'_>) -> Option<(NodeId, f64)> {
        let Holding::Scaled { ell } = held.holdings[node.output()] else { return None };
        let program = widen::program(held.ell(self.input) as usize, ell as usize);
        let cost = program.map(|program| program.cost(held.tensors[node.output()].elements()));
        Some((node, cost.map_or(f64::INFINITY, |cost| chooser.seconds(&cost))))
    }

    fn step(&self, node: NodeId, held: &Held<'_>, _: Before<'_>) -> Result<Step, PlanError> {
        if held.dropped(node.output()).is_some() {
            return Ok(Step::Reshape);
        }
        let ell = held.chosen.ell(made(self.input));
        let programs = held.programs(node, |finish| widen::program(ell as usize, finish.ring(0)))?;
        let kind = NonlinearKind::Scale { multiplier: self.multiplier.to_vec(), ell: held.ell(node.output()) };
        Ok(held.nonlinear(node, held.operand(self.input), kind, [ell + GUARD_BITS, 0], programs))
    }
}

/// Keeps exact accumulators, multiplied and with the server's biases added.
pub(super) fn keep(step: &Nonlinear, halves: &mut Halves, result: Planes, multiplier: &[i64], ell: u32, bias: &[i64]) {
    let mut values = Zeroizing::new(result.to_lanes::<u64>());
    for (channel, values) in values.chunks_exact_mut(step.pixels).enumerate() {
        let factor = multiplier[if multiplier.len() == 1 { 0 } else { channel }] as u64;
        let bias = bias.get(channel).map_or(0, |bias| *bias as u64);
        values.iter_mut().for_each(|z| *z = z.wrapping_mul(factor).wrapping_add(bias));
    }
    halves.accumulators[step.node] = RingShare::new(values, Ring::plain(ell));
}
