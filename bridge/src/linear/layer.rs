//! What both parties know of an encrypted linear layer: its terms, their packing, and which bodies travel whole.

use std::fmt;

use lowkey_he::mask::{EpochSeed, Mask, MaskId};
use lowkey_he::pack;
use lowkey_he::ring::Ring;
use lowkey_he::with_word;
use lowkey_he::word::TorusWord;
use rayon::prelude::*;

use super::packing::{Body, Packing};
use crate::error::BridgeError;
use crate::narrow::Narrow;
use crate::parameters::LayerParameters;

/// Up to this many outputs of a tile, inner products are cheaper than a transform.
const FEW_OUTPUTS: usize = 12;

/// When the body of a ciphertext is cut (`docs/protocol.md`, "Two schedules of one layer").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Schedule {
    /// Low bits before the input is known; the top bits become a pad. The default.
    Prepared,
    /// The whole body when the client's share exists; no offline stage.
    Direct,
}

/// In which form the parties keep, between inferences, what they multiply keys with: the client its hints, the server what re-randomises
/// them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Transformed, 8 or 12 bytes per coefficient: for the next product at once.
    Ready,
    /// In few bytes: hints as they travel, what re-randomises them in one byte per coefficient. Each inference transforms them again.
    Packed,
}

/// One linear layer with at least one encrypted term.
#[derive(Clone, Debug)]
pub struct LayerPlan {
    /// Which secret of its set its first tile is under; the next tiles are under the next ones. Layers of one inference share none:
    /// see [`SetPlan`](crate::SetPlan).
    pub first_secret: usize,
    /// Ring, torus, noise and widths, the same for all terms.
    pub parameters: LayerParameters,
    /// Channels, height, width of the result.
    pub output: [usize; 3],
    /// The terms that are added up.
    pub terms: Vec<TermPlan>,
}

/// One encrypted term of a linear layer.
#[derive(Clone, Debug)]
pub struct TermPlan {
    /// The term's number among all encrypted terms of the network: the domain of its masks.
    pub layer: u32,
    /// Where everything sits.
    pub packing: Packing,
    /// One per secret.
    pub tiles: Vec<TilePlan>,
}

/// One tile of a term.
#[derive(Clone, Debug)]
pub struct TilePlan {
    /// In the order in which they travel.
    pub bodies: Vec<BodyPlan>,
    /// For each band and position of the tile's padded input the index in `bodies`, as in [`Tile`](super::packing::Tile).
    pub(crate) gather: Vec<u32>,
    /// Of one channel.
    pub(crate) outputs: Vec<Useful>,
    /// Channels of an output ciphertext, and the coefficients of each.
    bands: usize,
    band: usize,
    /// Pixels of the tile's output, useful or not.
    pixels: usize,
}

/// One coefficient that is sent encrypted, and how, in eight bytes: a large network has ten million.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BodyPlan {
    /// The input element, or [`NO_ELEMENT`].
    element: u32,
    /// Ciphertext, coefficient and whether the body defines its pad, from the highest bits to the lowest.
    place: u32,
}

/// For padding.
const NO_ELEMENT: u32 = u32::MAX;
/// Bits of a coefficient's number.
const COEFFICIENT_BITS: u32 = 13;
/// Ciphertexts of a term are fewer: a packing's size, which plans limit to 2^26 words, counts each as its degree.
const MOST_CIPHERTEXTS: u32 = 1 << (u32::BITS - 1 - COEFFICIENT_BITS);

/// One output of a tile that the layer uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Useful {
    /// Row-major pixel of the layer's output.
    pub(crate) pixel: usize,
    /// Row-major pixel of the tile's output.
    pub(crate) from: usize,
    /// Coefficient of the output ciphertext, of its first channel.
    pub(crate) coefficient: usize,
}

/// The bodies of one tile on the wire: two packed lists.
#[derive(Clone, Copy)]
pub(crate) struct TileBytes<'a> {
    /// Low bits of the bodies that define a pad.
    pub(crate) low: &'a [u8],
    /// All other bodies.
    pub(crate) full: &'a [u8],
}

impl LayerPlan {
    /// Values of the result.
    pub fn outputs(&self) -> usize {
        self.output.iter().product()
    }

    /// Pixels of one output channel.
    pub fn pixels(&self) -> usize {
        self.output[1] * self.output[2]
    }

    /// Bytes of memory that the client's half of the layer takes, and the server's, about: hints and masks in the form in which they meet a secret,
    /// and what re-randomises hints; kernels of both stages.
    pub fn model_bytes(&self, kept: Kept) -> [usize; 2] {
        let LayerParameters { set, rounding, .. } = self.parameters;
        // A residue takes four bytes.
        let bytes = |zeros| 4 * with_word!(set, W => Ring::<W>::primes_of_multiples(set, zeros));
        let [of_mask, of_hint, of_rerandomiser] = [0, rounding.hint, rounding.b0].map(bytes);
        let of_term = |term: &TermPlan| {
            let hints = self.output_ciphertexts() * set.degree;
            let weights = term.packing.shape().out_channels * term.packing.shape().fan_in();
            let own = match kept {
                Kept::Ready => hints * of_hint,
                Kept::Packed => self.output_ciphertexts() * self.one_hint_len(),
            };
            let theirs = hints + if term.keeps_transforms(kept) { hints * of_rerandomiser } else { 0 };
            [own + term.packing.ciphertexts() * set.degree * of_mask, theirs + 8 * weights]
        };
        self.terms.iter().map(of_term).fold([0, 0], |[c, v], [own, theirs]| [c + own, v + theirs])
    }

    /// Bytes of memory that this plan of the layer takes: where each body and each output sits.
    pub fn plan_bytes(&self) -> usize {
        let of_tile = |tile: &TilePlan| {
            size_of_val(&tile.bodies[..]) + size_of_val(&tile.gather[..]) + size_of_val(&tile.outputs[..])
        };
        self.terms.iter().flat_map(|term| &term.tiles).map(of_tile).sum()
    }

    /// Bytes of memory of the server's share of the result while it waits for the input.
    pub fn share_bytes(&self) -> usize {
        Narrow::word_bytes(self.parameters.share_bits()) * self.outputs()
    }

    /// Tiles of the term that has most.
    pub fn secrets(&self) -> usize {
        self.terms.iter().map(|term| term.tiles.len()).max().unwrap_or(0)
    }

    /// Output channels of an output ciphertext, the same for all terms.
    pub fn bands(&self) -> usize {
        self.terms.first().map_or(1, |term| term.packing.bands())
    }

    /// Output ciphertexts of each term.
    pub fn output_ciphertexts(&self) -> usize {
        self.output[0].div_ceil(self.bands())
    }

    /// Bytes of one output ciphertext's hint.
    pub(crate) fn one_hint_len(&self) -> usize {
        pack::packed_len(self.parameters.set.degree, self.parameters.hint_width())
    }

    /// Bytes of the published hint: one polynomial per term and output ciphertext.
    pub fn hint_len(&self) -> usize {
        self.terms.len() * self.output_ciphertexts() * self.one_hint_len()
    }
}

impl TermPlan {
    /// Plans one term. `claim(element)` is asked once per body of an element, in order, and says whether this body defines the
    /// element's pad.
    pub fn new(layer: u32, packing: Packing, mut claim: impl FnMut(u32) -> bool) -> Self {
        let tiles = (0..packing.tiles()).map(|index| TilePlan::new(&packing, index, &mut claim)).collect();
        Self { layer, packing, tiles }
    }

    /// Whether the server keeps what re-randomises hints transformed: unless all outputs are inner products, and in few bytes where several
    /// tiles use a transform in each inference.
    pub(crate) fn keeps_transforms(&self, kept: Kept) -> bool {
        let products = self.tiles.iter().filter(|tile| !tile.has_few_outputs()).count();
        match kept {
            Kept::Ready => products > 0,
            Kept::Packed => products > 1,
        }
    }

    /// a_j of all input ciphertexts, in order.
    pub(crate) fn masks<W: TorusWord>(&self, ring: &'static Ring<W>, epoch: &EpochSeed) -> Vec<Mask<W>> {
        let ids = (0..self.packing.ciphertexts() as u32).into_par_iter();
        ids.map(|ciphertext| Mask::expand(ring, epoch, MaskId { layer: self.layer, ciphertext })).collect()
    }

    /// Bytes that carry the term's bodies.
    pub fn message_len(&self, parameters: &LayerParameters, schedule: Schedule) -> usize {
        self.tiles.iter().map(|tile| tile.low_len(parameters, schedule) + tile.full_len(parameters, schedule)).sum()
    }

    /// Bodies of input elements and of padding.
    pub fn bodies(&self) -> usize {
        self.tiles.iter().map(|tile| tile.bodies.len()).sum()
    }

    /// Cuts a message into those of its tiles.
    ///
    /// # Errors
    /// When it does not have the length that the plan gives it.
    pub(crate) fn cut<'a>(
        &self,
        message: &'a [u8],
        parameters: &LayerParameters,
        schedule: Schedule,
    ) -> Result<Vec<TileBytes<'a>>, BridgeError> {
        let expected = self.message_len(parameters, schedule);
        if message.len() != expected {
            return Err(BridgeError::Length { what: "a message of bodies", expected, found: message.len() });
        }
        let mut rest = message;
        let mut next = |len| {
            let (bytes, after) = rest.split_at(len);
            rest = after;
            bytes
        };
        let tiles = self.tiles.iter().map(|tile| TileBytes {
            low: next(tile.low_len(parameters, schedule)),
            full: next(tile.full_len(parameters, schedule)),
        });
        Ok(tiles.collect())
    }
}

impl TilePlan {
    fn new(packing: &Packing, index: usize, claim: &mut impl FnMut(u32) -> bool) -> Self {
        let tile = packing.tile(index);
        let (width, tile_width) = (packing.shape().output().1, packing.tile_output()[1]);
        let pixels = tile.rows.clone().flat_map(|y| tile.columns.clone().map(move |x| (y, x)));
        let outputs = pixels.map(|(y, x)| {
            let (i, j) = (y - tile.rows.start, x - tile.columns.start);
            Useful { pixel: y * width + x, from: i * tile_width + j, coefficient: packing.output_coefficient(i, j) }
        });
        let outputs = outputs.collect();
        let mut body = |place: Body| BodyPlan::new(place, place.element.is_some_and(&mut *claim));
        let bodies = tile.bodies.into_iter().map(&mut body).collect();
        let pixels = packing.tile_output().iter().product();
        Self { bodies, gather: tile.gather, outputs, bands: packing.bands(), band: packing.band(), pixels }
    }

    /// Pixels of one channel of the tile's output.
    pub(crate) fn pixels(&self) -> usize {
        self.pixels
    }

    /// True if its outputs are so few that inner products are cheaper than a transform.
    pub(crate) fn has_few_outputs(&self) -> bool {
        self.bands * self.outputs.len() <= FEW_OUTPUTS
    }

    /// Where the outputs sit in the output ciphertext: of its first `channels`, one after the other.
    pub(crate) fn coefficients(&self, channels: usize) -> Vec<usize> {
        let of_band = |first| self.outputs.iter().map(move |output| first + output.coefficient);
        (0..channels).map(|channel| channel * self.band).flat_map(of_band).collect()
    }

    /// The positions of `gather`, band by band.
    pub(crate) fn bands(&self) -> impl Iterator<Item = &[u32]> {
        self.gather.chunks_exact(self.gather.len() / self.bands)
    }

    /// phases += values. Both have some channels of one output ciphertext, `values` at [`coefficients`](Self::coefficients), `phases` of
    /// `pixels` each.
    pub(crate) fn add<W: TorusWord>(&self, values: &[W], pixels: usize, phases: &mut [W]) {
        for (values, phases) in values.chunks_exact(self.outputs.len()).zip(phases.chunks_exact_mut(pixels)) {
            for (output, value) in self.outputs.iter().zip(values) {
                phases[output.pixel] = phases[output.pixel].wrapping_add(*value);
            }
        }
    }

    /// Bodies that travel as low bits only.
    pub fn low_count(&self, schedule: Schedule) -> usize {
        self.bodies.iter().filter(|body| body.is_low(schedule)).count()
    }

    /// Bodies that travel whole.
    pub fn full_count(&self, schedule: Schedule) -> usize {
        self.bodies.len() - self.low_count(schedule)
    }

    fn low_len(&self, parameters: &LayerParameters, schedule: Schedule) -> usize {
        pack::packed_len(self.low_count(schedule), parameters.low_width())
    }

    fn full_len(&self, parameters: &LayerParameters, schedule: Schedule) -> usize {
        pack::packed_len(self.full_count(schedule), parameters.full_width())
    }
}

impl BodyPlan {
    fn new(Body { ciphertext, coefficient, element }: Body, own_pad: bool) -> Self {
        assert!(ciphertext < MOST_CIPHERTEXTS && coefficient >> COEFFICIENT_BITS == 0, "within a plan's limits");
        let place = (ciphertext << COEFFICIENT_BITS | coefficient) << 1 | u32::from(own_pad);
        Self { element: element.unwrap_or(NO_ELEMENT), place }
    }

    /// Where it sits and what it encrypts.
    pub fn place(&self) -> Body {
        let (ciphertext, coefficient) = (self.ciphertext(), self.coefficient() as u32);
        Body { ciphertext, coefficient, element: self.element() }
    }

    /// Which ciphertext of the term.
    pub(crate) fn ciphertext(&self) -> u32 {
        self.place >> 1 >> COEFFICIENT_BITS
    }

    /// Which coefficient.
    pub(crate) fn coefficient(&self) -> usize {
        (self.place >> 1 & ((1 << COEFFICIENT_BITS) - 1)) as usize
    }

    /// The input element; `None` for padding.
    pub(crate) fn element(&self) -> Option<u32> {
        (self.element != NO_ELEMENT).then_some(self.element)
    }

    /// Whether its top bits are the pad itself, so that the prepared schedule sends its low bits only.
    pub fn own_pad(&self) -> bool {
        self.place & 1 == 1
    }

    /// Whether it travels as low bits only.
    pub(crate) fn is_low(&self, schedule: Schedule) -> bool {
        schedule == Schedule::Prepared && self.own_pad()
    }
}

impl fmt::Debug for BodyPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyPlan").field("place", &self.place()).field("own_pad", &self.own_pad()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What goes in comes out, up to the limits; a body takes eight bytes.
    #[test]
    fn bodies_come_back() {
        assert_eq!(size_of::<BodyPlan>(), 8);
        for ciphertext in [0, 1, MOST_CIPHERTEXTS - 1] {
            for coefficient in [0, 1, 4095, (1 << COEFFICIENT_BITS) - 1] {
                for (element, own_pad) in [(None, false), (Some(0), true), (Some(7), false), (Some(u32::MAX - 1), true)]
                {
                    let body = Body { ciphertext, coefficient, element };
                    let packed = BodyPlan::new(body, own_pad);
                    assert_eq!((packed.place(), packed.own_pad()), (body, own_pad));
                }
            }
        }
    }
}
