//! clamp(z >> shift, 0, top) of an accumulator z, by a carry chain over its bits and a clip.
//!
//! Of a truncated scale's products, which are never made: each party multiplies its share of what is scaled, drops low bits, and the
//! chain runs over what is left.

use lowkey_bridge::parameters::GUARD_BITS;
use lowkey_mpc::bits::Planes;
use lowkey_mpc::party::Party;
use lowkey_mpc::pooled;
use lowkey_mpc::program::Time;
use lowkey_mpc::requantise::{self, Clip};
use lowkey_mpc::rescale::{self, Factor};
use zeroize::Zeroizing;

use super::choices::{Chooses, LayoutChoice};
use super::context::{Before, Context, Held, made};
use super::halves::Halves;
use super::holding::{Demands, clipped_bits};
use super::step::{Nonlinear, NonlinearKind, Programs, Protocol, Source, Step, byte};
use super::{ByTensor, Holding, NodeId, Operator, PlanError, TensorId, max_pool, scale};

pub(super) struct Requantise<'a> {
    pub input: TensorId,
    pub bits: u32,
    pub shift: &'a [u32],
    pub top: Option<i64>,
}

impl Requantise<'_> {
    /// The protocol, and the largest result.
    fn spec(&self, held: &Held<'_>) -> (requantise::Spec, u8) {
        let dropped = held.dropped(self.input).unwrap_or(0);
        let guarded = matches!(held.holdings[self.input], Holding::Accumulator { .. });
        let spec = requantise::Spec {
            ell: byte(held.ell(self.input) - dropped),
            shift: byte(self.shift[0] - dropped),
            bits: byte(clipped_bits(self.bits, self.top)),
            guard: if guarded { byte(GUARD_BITS) } else { 0 },
        };
        (spec, self.top.map_or(u8::MAX, byte))
    }
}

impl Operator for Requantise<'_> {
    fn name(&self) -> &'static str {
        "requantise"
    }

    fn chooses(&self) -> Chooses {
        Chooses::Layout
    }

    /// Where an accumulator has too few bits for a clip to happen, fewer than are asked for.
    fn width(&self, result: TensorId, widths: &ByTensor<u32>, ell: &dyn Fn(NodeId) -> u32) -> Option<u32> {
        let left = ell(made(self.input)).saturating_sub(1 + self.shift.iter().max().copied().unwrap_or(0));
        Some(widths[result].min(left).max(1))
    }

    fn ask(&self, _: TensorId, _: &Context<'_>, _: &mut Demands) {}

    fn protocol(&self, _: NodeId, held: &Held<'_>) -> Option<Protocol> {
        let (spec, top) = self.spec(held);
        Some(match held.dropped(self.input) {
            Some(_) => Protocol::Rescale(spec, top),
            None => Protocol::Requantise(spec, top),
        })
    }

    fn step(&self, node: NodeId, held: &Held<'_>, _: Before<'_>) -> Result<Step, PlanError> {
        let of_node = |source| held.layout_error(node, source);
        let (spec, top) = self.spec(held);
        let source = held.source(self.input);
        let lowered = if spec.is_sign().map_err(of_node)? { 1 << self.shift[0] } else { 0 };
        let widths = [spec.width() as u32, spec.effective_bits().map_err(of_node)? as u32];
        Ok(match (held.chosen.layout(node), held.dropped(self.input)) {
            (Some(LayoutChoice::Requantise { layout, spare }), None) => {
                let (client, clip) = (held.client_time(self.input), Clip { top, spare: *spare });
                let programs = held.programs(node, |finish| {
                    requantise::program_clipped(spec, clip, layout, finish, client, Time::START)
                })?;
                held.nonlinear(node, source, NonlinearKind::Requantise { lowered }, widths, programs)
            }
            (Some(LayoutChoice::Carries(chain)), None) => {
                let (_, whole) = max_pool::pooled(held, node).ok_or_else(|| held.misplaced(node))?;
                let programs = Programs::single(pooled::carries(whole, chain).map_err(of_node)?);
                held.nonlinear(node, source, NonlinearKind::Carries, [whole.low() as u32, 1], programs)
            }
            (Some(LayoutChoice::Requantise { layout, spare }), Some(dropped)) => {
                let clip = Clip { top, spare: *spare };
                let programs = held.programs(node, |finish| rescale::program(spec, clip, layout, finish))?;
                let factors = scale::factors(held, made(self.input), dropped);
                held.nonlinear(node, source, NonlinearKind::Rescale { factors, lowered }, widths, programs)
            }
            (Some(LayoutChoice::Carries(_) | LayoutChoice::Pooled { .. } | LayoutChoice::Chain(_)) | None, _) => {
                return Err(held.misplaced(node));
            }
        })
    }
}

/// Accumulators, lowered by a public number.
pub(super) fn inputs(step: &Nonlinear, halves: &Halves, lowered: i64) -> Vec<Planes> {
    let guard = if matches!(step.source, Source::Accumulator(_)) { GUARD_BITS } else { 0 };
    let lowered = halves.public(lowered << guard);
    let mut values = step.counted(halves);
    values.iter_mut().for_each(|z| *z = z.wrapping_sub(lowered));
    vec![step.planes(&values)]
}

/// The halves of multiplied and truncated accumulators: of the client two bits and its number, of the server three numbers.
pub(super) fn products(
    step: &Nonlinear,
    halves: &Halves,
    factors: &[Factor],
    lowered: i64,
    bias: &[i64],
) -> Vec<Planes> {
    let shares = step.counted(halves);
    let mut columns = [(); 3].map(|()| Zeroizing::new(Vec::with_capacity(shares.len())));
    for (channel, shares) in shares.chunks_exact(step.pixels).enumerate() {
        let factor = factors[if factors.len() == 1 { 0 } else { channel }];
        let offset = bias.get(channel).map_or(0, |bias| bias.wrapping_sub(lowered));
        for &share in shares {
            let row = match halves.party {
                Party::Client => factor.client(share),
                Party::Server => factor.server(share, offset),
            };
            columns.iter_mut().zip(row).for_each(|(column, value)| column.push(value));
        }
    }
    let ring = step.input_width as usize;
    let widths = match halves.party {
        Party::Client => [1, 1, ring],
        Party::Server => [ring; 3],
    };
    columns.iter().zip(widths).map(|(column, width)| Planes::from_lanes(column, width)).collect()
}
