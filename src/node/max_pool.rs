//! The largest value of each window, by comparisons; of clipped values, or of accumulators whose clip comes after it.

use lowkey_models::Window;
use lowkey_mpc::bits::Planes;
use lowkey_mpc::party::Party;
use lowkey_mpc::program::Time;
use lowkey_mpc::{maxpool, pooled};
use zeroize::Zeroizing;

use super::asked::Demands;
use super::choices::{Chooses, LayoutChoice};
use super::chooser::Chooser;
use super::context::{Before, Context, Held};
use super::halves::Halves;
use super::holding::small_width;
use super::step::{Nonlinear, NonlinearKind, Operand, Step, byte};
use super::{ByTensor, NodeId, Operator, PlanError, TensorId, Windows, requantise};

pub(super) struct MaxPool<'a> {
    pub input: TensorId,
    pub window: &'a Window,
}

impl MaxPool<'_> {
    fn spec(&self, held: &Held<'_>) -> maxpool::Spec {
        maxpool::Spec {
            bits: byte(held.widths[self.input]),
            window: byte(self.window.kernel[0] * self.window.kernel[1]),
            client: held.client_time(self.input),
            server: Time::START,
        }
    }

    /// The accumulators that are pooled, if what is read was not clipped.
    fn unclipped(&self, held: &Held<'_>, before: Before<'_>) -> Option<(Operand, pooled::Spec)> {
        let maker = self.input.maker()?;
        let Step::Nonlinear(step) = &before[maker] else { return None };
        let NonlinearKind::Carries = step.kind else { return None };
        Some((step.operand, requantise::pooled(held, maker)?.1))
    }
}

impl Operator for MaxPool<'_> {
    fn name(&self) -> &'static str {
        "max pool"
    }

    fn chooses(&self) -> Chooses {
        Chooses::Layout
    }

    fn width(&self, _: TensorId, widths: &ByTensor<u32>, _: &dyn Fn(NodeId) -> u32) -> Option<u32> {
        Some(widths[self.input])
    }

    fn window(&self) -> Option<&Window> {
        Some(self.window)
    }

    fn ask(&self, _: TensorId, context: &Context<'_>, demands: &mut Demands) {
        demands.in_pool(self.input, small_width(context.widths[self.input]));
    }

    /// The one that was chosen with what it reads, or its own.
    fn layout(
        &self,
        node: NodeId,
        held: &Held<'_>,
        chooser: &mut Chooser<'_>,
    ) -> Result<Option<LayoutChoice>, PlanError> {
        if let Some(chosen) = chooser.pools[node].take() {
            return Ok(Some(chosen));
        }
        let found = chooser.search.max_pool(self.spec(held), held.holdings[node.output()].finish());
        Ok(Some(LayoutChoice::Chain(chooser.best_of(node, held, found)?)))
    }

    fn step(&self, node: NodeId, held: &Held<'_>, before: Before<'_>) -> Result<Step, PlanError> {
        let spec = self.spec(held);
        let bits = u32::from(spec.bits);
        let windows = held.windows(node, self.input, self.window);
        Ok(match (held.chosen.layout(node), self.unclipped(held, before)) {
            (Some(LayoutChoice::Chain(chain)), None) => {
                let programs = held.programs(node, |finish| maxpool::program(spec, chain, finish))?;
                let (operand, kind) = (held.operand(self.input), NonlinearKind::MaxPool { windows });
                held.nonlinear(node, operand, kind, [small_width(bits), bits], programs)
            }
            (Some(LayoutChoice::Pooled { game, clip, spare }), Some((accumulators, mut whole))) => {
                whole.clip.spare = *spare;
                let programs = held.programs(node, |finish| pooled::program(whole, game, clip, finish))?;
                let kind = NonlinearKind::Pooled { windows, carries: self.input, low: whole.low() as u32 };
                held.nonlinear(node, accumulators, kind, [whole.width() as u32, bits], programs)
            }
            _ => return Err(held.misplaced(node)),
        })
    }
}

/// One input per window element.
pub(super) fn inputs(step: &Nonlinear, halves: &Halves, windows: &Windows) -> Vec<Planes> {
    windows.gather(step.counted(halves).words(), 0).map(|tap| step.planes(&tap)).collect()
}

/// Of accumulators that are clipped after the pool: their words without the low bits, one input per window element.
pub(super) fn words(step: &Nonlinear, halves: &Halves, windows: &Windows, low: u32) -> Vec<Planes> {
    let Operand::Accumulator(node) = step.operand else { unreachable!("pools before a clip read accumulators") };
    let shares = halves.accumulators[node].words();
    let words: Zeroizing<Vec<u64>> = Zeroizing::new(shares.iter().map(|z| z >> low).collect());
    windows.gather(&words, 0).map(|tap| step.planes(&tap)).collect()
}

/// The carries that belong to [`words`], and with them the server's words.
pub(super) fn late(step: &Nonlinear, halves: &Halves, windows: &Windows, carries: TensorId, low: u32) -> Vec<Planes> {
    let carries = halves.read_small(carries);
    let carries = windows.gather(&carries, 0).map(|tap| Planes::from_lanes(&tap, 1));
    match halves.party {
        Party::Client => carries.collect(),
        Party::Server => {
            words(step, halves, windows, low).into_iter().zip(carries).flat_map(<[Planes; 2]>::from).collect()
        }
    }
}
