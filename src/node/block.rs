//! z >> shift of an accumulator z where the patch of the pixel is positive, else 0: a sign for each patch, nothing clipped. An identity has no
//! sign.
//!
//! Its program has one lane per patch, and so an input, a pad and a result for each pixel of it; pixels beyond a border are 0.

use lowkey_bridge::share::GUARD_BITS;
use lowkey_models::{Range, blocks};
use lowkey_mpc::bits::Planes;
use lowkey_mpc::patch::{self, Spec};
use zeroize::Zeroizing;

use super::asked::Demands;
use super::choices::{Chooses, LayoutChoice};
use super::chooser::Chooser;
use super::context::{Before, Context, Held};
use super::halves::Halves;
use super::step::{Nonlinear, NonlinearKind, Step, byte};
use super::{NodeId, Operator, PlanError, TensorId, Windows};
use crate::share::RingShare;

pub(super) struct Block {
    pub input: TensorId,
    pub bits: u32,
    pub shift: u32,
    pub patch: blocks::Patch,
}

impl Block {
    fn spec(&self, held: &Held<'_>) -> Spec {
        let [height, width] = self.patch.unwrap_or([1, 1]);
        Spec {
            ell: byte(held.ell(self.input)),
            shift: byte(self.shift),
            guard: byte(GUARD_BITS),
            bits: byte(self.bits),
            pixels: u16::try_from(height * width).unwrap_or(u16::MAX),
            gated: self.patch.is_some(),
        }
    }

    /// The pixels of each patch.
    fn windows(&self, held: &Held<'_>) -> Windows {
        let shape = held.tensors[self.input].shape;
        let map = [shape[1], shape[2]];
        let window = blocks::patches(self.patch.unwrap_or([1, 1]), map);
        Windows::new(&window, shape, window.output(map).expect("patches cover the map"))
    }
}

impl Operator for Block {
    fn name(&self) -> &'static str {
        match self.patch {
            Some(_) => "block",
            None => "identity",
        }
    }

    fn chooses(&self) -> Chooses {
        Chooses::Layout
    }

    /// One bit more than its values have, above the shift.
    fn least_ring(&self, _: Range, _: u32) -> u32 {
        self.shift + self.bits + 1
    }

    fn ask(&self, _: TensorId, _: &Context<'_>, _: &mut Demands) {}

    fn layout(
        &self,
        node: NodeId,
        held: &Held<'_>,
        chooser: &mut Chooser<'_>,
    ) -> Result<Option<LayoutChoice>, PlanError> {
        let found = chooser.search.patch(self.spec(held), held.holdings[node.output()].finish());
        let found = found.map_err(|source| held.layout_error(node, source))?;
        Ok(Some(LayoutChoice::Patch(chooser.best(&found, self.windows(held).count()))))
    }

    fn step(&self, node: NodeId, held: &Held<'_>, _: Before<'_>) -> Result<Step, PlanError> {
        let (spec, windows) = (self.spec(held), self.windows(held));
        let Some(LayoutChoice::Patch(chains)) = held.chosen.layout(node) else { return Err(held.misplaced(node)) };
        let programs = held.programs(node, |finish| patch::program(spec, chains, finish))?;
        let (operand, kind) = (held.operand(self.input), NonlinearKind::Block { windows });
        Ok(held.nonlinear(node, operand, kind, [spec.width() as u32, self.bits], programs))
    }
}

/// Accumulators, one input per pixel of a patch.
pub(super) fn inputs(step: &Nonlinear, halves: &Halves, windows: &Windows) -> Vec<Planes> {
    let values = step.counted(halves);
    windows.gather(values.words(), 0).map(|pixel| step.planes(&Zeroizing::new(pixel))).collect()
}

/// The client's pads, likewise.
pub(super) fn pads(windows: &Windows, pad: &RingShare) -> Vec<Planes> {
    let width = pad.ring().width() as usize;
    windows.gather(pad.words(), 0).map(|pixel| Planes::from_lanes(&Zeroizing::new(pixel), width)).collect()
}

/// Results of pixels as one, in the order of the map.
pub(super) fn joined(windows: &Windows, pixels: &[Planes], elements: usize) -> Option<Planes> {
    let width = pixels.first()?.width();
    let values = pixels.iter().map(|pixel| Zeroizing::new(pixel.to_lanes::<u64>()));
    Some(Planes::from_lanes(&Zeroizing::new(windows.scatter(values, elements)), width))
}
