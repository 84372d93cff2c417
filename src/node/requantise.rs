//! clamp(z >> shift, 0, top) of an accumulator z, by a carry chain over its bits and a clip.
//!
//! With a coin of the client ([`lowkey_mpc::dither`]) the chain leaves the lowest bits out.
//!
//! Of a truncated scale's products, which are never made: each party multiplies its share of what is scaled, drops low bits, and the
//! chain runs over what is left.

use std::sync::Arc;

use lowkey_bridge::share::GUARD_BITS;
use lowkey_models::declared::LEAST_ABOVE;
use lowkey_models::{Architecture, LinearBounds, Op, Range};
use lowkey_mpc::bits::Planes;
use lowkey_mpc::dither::{self, Dither};
use lowkey_mpc::layout::{Choice, Layout, LayoutError, PoolLayout};
use lowkey_mpc::party::Party;
use lowkey_mpc::pooled;
use lowkey_mpc::program::Time;
use lowkey_mpc::requantise::{self, Clip};
use lowkey_mpc::rescale::{self, Factor};
use zeroize::Zeroizing;

use super::asked::Demands;
use super::choices::{Chooses, LayoutChoice};
use super::chooser::Chooser;
use super::context::{Before, Context, Held, made};
use super::halves::Halves;
use super::holding::clipped_bits;
use super::step::{Nonlinear, NonlinearKind, Operand, Programs, Step, byte};
use super::{ByTensor, Holding, NodeId, Operator, PlanError, TensorId, scale};

/// The layouts of one protocol that are worth their flights.
type Layouts = Arc<Vec<Choice<Layout>>>;

pub(super) struct Requantise<'a> {
    pub input: TensorId,
    pub bits: u32,
    pub shift: &'a [u32],
    pub top: Option<i64>,
}

/// ell of what a requantisation to `bits` bits (those below its top) reads: the smallest ring that holds it and what it does.
pub(crate) fn least_ring(Range { lo, hi }: Range, bits: u32, shift: u32) -> u32 {
    let ell = Range { lo, hi }.signed_bits().max(shift + 2);
    if bits.min(ell - 1 - shift) > 1 {
        return ell;
    }
    // Only the sign of z - 2^s is evaluated.
    ell.max(Range { lo: lo - (1 << shift), hi: hi - (1 << shift) }.signed_bits())
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

    /// Its protocol where it rounds by a coin.
    fn dither(&self, node: NodeId, held: &Held<'_>) -> Option<Dither> {
        let coin = Some(held.coin(node)).filter(|&coin| coin > 0)?;
        Some(Dither { spec: self.spec(held).0, coin: byte(coin) })
    }

    /// The layouts of its protocol, and whether its clip can spare a comparison.
    fn search(&self, node: NodeId, held: &Held<'_>, chooser: &mut Chooser<'_>) -> (Result<Layouts, LayoutError>, bool) {
        let (finish, (spec, top)) = (held.holdings[node.output()].finish(), self.spec(held));
        if let Some(dither) = self.dither(node, held) {
            // The lowest number that is cut is half a coin below the lowest sum.
            let spare = is_spare(spec, chooser.bounds_of(self.input), 1 << (dither.coin - 1));
            let clip = Clip { top, spare };
            let found = dither
                .cut()
                .and_then(|spec| chooser.search.requantise_clipped(spec, clip, finish, dither::CLIENT, Time::START));
            return (found, spare);
        }
        let spare = is_spare(spec, chooser.bounds_of(self.input), 0);
        let clip = Clip { top, spare };
        let found = match held.dropped(self.input) {
            Some(_) => chooser.search.rescale(spec, clip, finish),
            None => {
                let client = held.client_time(self.input);
                chooser.search.requantise_clipped(spec, clip, finish, client, Time::START)
            }
        };
        (found, spare)
    }

    /// Its layout and that of the max pool that alone reads it, chosen together; the pool's is kept for it.
    fn layout_with_pool(
        &self,
        node: NodeId,
        (pool, mut spec): (NodeId, pooled::Spec),
        held: &Held<'_>,
        chooser: &mut Chooser<'_>,
    ) -> Result<LayoutChoice, PlanError> {
        let bounds = chooser.bounds_of(self.input);
        let [lanes, windows] = [node, pool].map(|node| held.tensors[node.output()].elements());
        let spare = is_spare(spec.layer, bounds, 0);
        spec.clip.spare = spare;
        let (finish, values) = (held.holdings[pool.output()].finish(), lanes as f64 / windows as f64);
        let room = has_room(held.architecture, pool, spec, bounds);
        let found = chooser.search.pool(spec, finish, values, room);
        let found = found.map_err(|source| held.layout_error(node, source))?;
        let (own, pooled) = match chooser.best(&found, windows) {
            PoolLayout::After { layer, game } => {
                (LayoutChoice::Requantise { layout: layer, spare }, LayoutChoice::Chain(game))
            }
            PoolLayout::Between { low, game, clip } => {
                (LayoutChoice::Carries(low), LayoutChoice::Pooled { game, clip, spare })
            }
        };
        chooser.pools[pool] = Some(pooled);
        Ok(own)
    }
}

/// The protocol of requantisation `node` and its largest result, unless it reads truncated products or has a coin (the largest of
/// rounded values is not the rounded largest); `None` of other nodes.
pub(crate) fn exact(held: &Held<'_>, node: NodeId) -> Option<(requantise::Spec, u8)> {
    of_sum(held, node).filter(|_| held.dropped(held.input(node)).is_none() && held.coin(node) == 0)
}

/// How requantisation `node` shifts and clips the sum that it reads, truncated products as well; `None` of other nodes.
pub(crate) fn of_sum(held: &Held<'_>, node: NodeId) -> Option<(requantise::Spec, u8)> {
    let Op::Requantise { input, bits, shift, top, zero_point: _ } = held.op(node) else { return None };
    Some(Requantise { input: TensorId::new(*input), bits: *bits, shift, top: *top }.spec(held))
}

/// The max pool that alone reads what requantisation `node` makes, where the clip can come after the pool.
pub(crate) fn pooled(held: &Held<'_>, node: NodeId) -> Option<(NodeId, pooled::Spec)> {
    let (layer, top) = exact(held, node)?;
    let mut consumers = held.architecture.consumers(node.output().index());
    let (pool, None) = (NodeId::new(consumers.next()?), consumers.next()) else { return None };
    let Op::MaxPool { window, .. } = held.op(pool) else { return None };
    let window = u8::try_from(window.kernel[0] * window.kernel[1]).ok()?;
    let fits = matches!(held.operand(held.input(node)), Operand::Accumulator(_))
        && matches!(held.holdings[node.output()], Holding::Small { .. })
        && layer.effective_bits().is_ok_and(|bits| bits > 1);
    let clip = Clip { top, spare: false };
    fits.then_some((pool, pooled::Spec { layer, clip, window }))
}

/// True if the shifted accumulators within a window of `pool` differ by less than half their ring; padding counts as 0.
pub(crate) fn has_room(architecture: &Architecture, pool: NodeId, spec: pooled::Spec, bounds: &LinearBounds) -> bool {
    let padded = matches!(&architecture.nodes[pool.index()].op, Op::MaxPool { window, .. } if window.padding != [0; 4]);
    let shift = spec.layer.shift;
    bounds
        .channels
        .iter()
        .map(|range| if padded { range.with_zero() } else { *range })
        .all(|range| (range.hi >> shift) - (range.lo >> shift) < 1 << (spec.width() - 1))
}

/// True if no accumulator, lowered by so much at most, is among the lowest 2^a of its ring once it is shifted.
fn is_spare(spec: requantise::Spec, bounds: &LinearBounds, lowered: i64) -> bool {
    let Ok(bits) = spec.effective_bits() else { return false };
    bounds.range().lo - lowered >= (1 << (usize::from(spec.shift) + bits)) - (1 << (spec.ell - 1))
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

    fn least_ring(&self, sums: Range, coin: u32) -> u32 {
        let (shift, bits) = (self.shift.iter().max().copied().unwrap_or(0), clipped_bits(self.bits, self.top));
        match coin {
            0 => least_ring(sums, bits, shift),
            // z - 2^(t-1) + d is in the ring too, and has two bits above the shift.
            coin => sums.widened(1 << (coin - 1)).signed_bits().max(shift + LEAST_ABOVE),
        }
    }

    fn ask(&self, _: TensorId, _: &Context<'_>, _: &mut Demands) {}

    fn layout(
        &self,
        node: NodeId,
        held: &Held<'_>,
        chooser: &mut Chooser<'_>,
    ) -> Result<Option<LayoutChoice>, PlanError> {
        if let Some(pool) = pooled(held, node) {
            return self.layout_with_pool(node, pool, held, chooser).map(Some);
        }
        let (found, spare) = self.search(node, held, chooser);
        let layout = chooser.best_of(node, held, found)?;
        Ok(Some(LayoutChoice::Requantise { layout, spare }))
    }

    /// Of its own protocol, if it reads what a scale makes or would make.
    fn scale_seconds(&self, node: NodeId, held: &Held<'_>, chooser: &mut Chooser<'_>) -> Option<(NodeId, f64)> {
        let scale = self.input.maker().filter(|maker| matches!(held.op(*maker), Op::Scale { .. }))?;
        let least = match self.search(node, held, chooser).0 {
            Ok(found) => chooser.least_seconds(&found, held.tensors[node.output()].elements()),
            Err(_) => f64::INFINITY,
        };
        Some((scale, least))
    }

    fn step(&self, node: NodeId, held: &Held<'_>, _: Before<'_>) -> Result<Step, PlanError> {
        let of_node = |source| held.layout_error(node, source);
        let (spec, top) = self.spec(held);
        let operand = held.operand(self.input);
        let lowered = if spec.is_sign().map_err(of_node)? { 1 << self.shift[0] } else { 0 };
        let widths = [spec.width() as u32, spec.effective_bits().map_err(of_node)? as u32];
        if let Some(dither) = self.dither(node, held) {
            let Some(LayoutChoice::Requantise { layout, spare }) = held.chosen.layout(node) else {
                return Err(held.misplaced(node));
            };
            let clip = Clip { top, spare: *spare };
            let programs = held.programs(node, |finish| dither::program(dither, clip, layout, finish))?;
            return Ok(held.nonlinear(node, operand, NonlinearKind::Dither { dither }, widths, programs));
        }
        Ok(match (held.chosen.layout(node), held.dropped(self.input)) {
            (Some(LayoutChoice::Requantise { layout, spare }), None) => {
                let (client, clip) = (held.client_time(self.input), Clip { top, spare: *spare });
                let programs = held.programs(node, |finish| {
                    requantise::program_clipped(spec, clip, layout, finish, client, Time::START)
                })?;
                held.nonlinear(node, operand, NonlinearKind::Requantise { lowered }, widths, programs)
            }
            (Some(LayoutChoice::Carries(chain)), None) => {
                let (_, whole) = pooled(held, node).ok_or_else(|| held.misplaced(node))?;
                let programs = Programs::single(pooled::carries(whole, chain).map_err(of_node)?);
                held.nonlinear(node, operand, NonlinearKind::Carries, [whole.low() as u32, 1], programs)
            }
            (Some(LayoutChoice::Requantise { layout, spare }), Some(dropped)) => {
                let clip = Clip { top, spare: *spare };
                let programs = held.programs(node, |finish| rescale::program(spec, clip, layout, finish))?;
                let factors = scale::factors(held, made(self.input), dropped);
                held.nonlinear(node, operand, NonlinearKind::Rescale { factors, lowered }, widths, programs)
            }
            (
                Some(
                    LayoutChoice::Carries(_)
                    | LayoutChoice::Pooled { .. }
                    | LayoutChoice::Patch(_)
                    | LayoutChoice::Chain(_),
                )
                | None,
                _,
            ) => {
                return Err(held.misplaced(node));
            }
        })
    }
}

/// Accumulators, lowered by a public number.
pub(super) fn inputs(step: &Nonlinear, halves: &Halves, lowered: i64) -> Vec<Planes> {
    let values = step.counted(halves);
    let lowered = halves.public(lowered << values.ring().guard_bits());
    vec![step.planes(values.less(lowered).words())]
}

/// Of accumulators that are rounded by coins: the client's share; of the server's all but the lowest bit, and half a coin.
pub(super) fn tossed(step: &Nonlinear, halves: &Halves, dither: Dither) -> Planes {
    let shares = step.counted(halves);
    match halves.party {
        Party::Client => step.planes(shares.words()),
        Party::Server => {
            let rounded = shares.words().iter().map(|v| (v >> GUARD_BITS).wrapping_add(dither.half()));
            Planes::from_lanes(&Zeroizing::new(rounded.collect::<Vec<u64>>()), dither.spec.ell.into())
        }
    }
}

/// The lowest bits of the server's shares: those of their offline part, for all that is added to it is even.
pub(super) fn lowest(shares: &[u64]) -> Planes {
    let bits: Zeroizing<Vec<u64>> = Zeroizing::new(shares.iter().map(|v| v & 1).collect());
    Planes::from_lanes(&bits, 1)
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
    let shares = shares.words();
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
