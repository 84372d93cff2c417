//! The server's half of an encrypted linear layer: publication, the offline share v_off, and the online convolution.
//!
//! ```text
//!     offline   v_off = floor((sum_j w_oj * body_j + b*_0 u_o + T) / U)
//!     online    v     = v_off + 2 W m   (mod 2^(ell + 1))       m = x - xhat, the masked activation
//! ```

use std::sync::Arc;

use lowkey_he::context::{OutputContext, Widths};
use lowkey_he::evaluate::Evaluator;
use lowkey_he::hint::{Draw, Rerandomiser, publication_rng, publish};
use lowkey_he::mask::{EpochSeed, Mask};
use lowkey_he::noise::{self, NoiseTerms};
use lowkey_he::pack;
use lowkey_he::ring::Ring;
use lowkey_he::with_word;
use rand::CryptoRng;
use rayon::prelude::*;

use super::budget::{Norms, norms_per_output};
use super::by_set::LinearWord;
use super::client::expand_masks;
use super::keys::{RerandomiserMasks, ServerKeys};
use super::layer::{LayerPlan, Schedule, TilePlan};
use super::meetings::Meetings;
use super::packing::{PACKING_VERSION, UNFILLED};
use crate::conv::{Kernel, Word};
use crate::convert;
use crate::error::BridgeError;

/// Up to this many outputs of a tile, inner products are cheaper than a transform.
const FEW_OUTPUTS: usize = 12;

/// The server's share of a layer's result before the input is known. Made once, moved into the online half.
pub struct OfflineShare(Vec<u64>);

/// The server's half of a layer, whatever its torus.
pub trait ServerLinear: Send + Sync {
    /// Evaluates the layer on the encrypted bodies: one message per term, as [`ClientLinear`](crate::ClientLinear) made them.
    ///
    /// # Errors
    /// When a message does not have the length that the plan gives it.
    fn offline(&self, messages: &[Vec<u8>], keys: &ServerKeys, schedule: Schedule)
    -> Result<OfflineShare, BridgeError>;

    /// The server's share of the result, of ell + 1 bits each, from one masked activation per term (words of a ring of at
    /// least ell bits). The network's own integer convolution, and nothing else.
    fn online(&self, offline: OfflineShare, masked: &[&[u64]]) -> Vec<u64>;
}

/// What the server needs beside the plan to publish a layer.
pub struct Publisher<'a> {
    /// Public seed of the masks.
    pub epoch: &'a EpochSeed,
    /// a*_0 of every set.
    pub masks: &'a RerandomiserMasks,
    /// Secret; the hint's randomness is a function of it, of `context`, and of what is evaluated.
    pub server_key: &'a [u8; 32],
    /// Digest of the plan and of all weights. What else an output depends on (weight polynomials, masks, parameters) is added
    /// for each output ([`OutputContext`]).
    pub context: &'a [u8; 32],
}

pub(crate) struct ServerLayer<W: LinearWord> {
    plan: Arc<LayerPlan>,
    terms: Vec<ServerTerm<W>>,
    online: Online,
}

struct ServerTerm<W: LinearWord> {
    kernel: Kernel<W>,
    rerandomisers: Vec<Rerandomiser<W>>,
}

/// The online convolutions in the narrowest word that holds ell bits.
enum Online {
    U16(Vec<Kernel<u16>>),
    U32(Vec<Kernel<u32>>),
    U64(Vec<Kernel<u64>>),
}

/// Publishes a layer: the server's half, and the hint's bytes. `weights` has, per term, `[out, in / groups, kernel]`.
///
/// # Errors
/// When the noise check fails for an output ciphertext: the plan's parameters do not suit these weights.
pub fn publish_layer(
    plan: Arc<LayerPlan>,
    weights: &[&[i32]],
    publisher: &Publisher<'_>,
) -> Result<(Box<dyn ServerLinear>, Vec<u8>), BridgeError> {
    with_word!(plan.parameters.set, W => {
        let (layer, hint) = ServerLayer::<W>::publish(plan, weights, publisher)?;
        Ok((Box::new(layer), hint))
    })
}

impl<W: LinearWord> ServerLayer<W> {
    #[cfg(test)]
    pub(crate) fn rerandomiser(&self, term: usize, output: usize) -> &Rerandomiser<W> {
        &self.terms[term].rerandomisers[output]
    }

    pub(crate) fn publish(
        plan: Arc<LayerPlan>,
        weights: &[&[i32]],
        publisher: &Publisher<'_>,
    ) -> Result<(Self, Vec<u8>), BridgeError> {
        let layer = plan.terms[0].layer;
        let rng = |context: &[u8; 32], output| publication_rng(publisher.server_key, context, layer, output);
        Self::publish_with(plan, weights, publisher, rng)
    }

    /// Publishes with the generator `rng(context, output)` for the (u_o, e_o) of all terms.
    pub(crate) fn publish_with<R: CryptoRng>(
        plan: Arc<LayerPlan>,
        weights: &[&[i32]],
        publisher: &Publisher<'_>,
        rng: impl Fn(&[u8; 32], u32) -> R + Sync,
    ) -> Result<(Self, Vec<u8>), BridgeError> {
        let parameters = plan.parameters;
        let (set, rounding) = (parameters.set, parameters.rounding);
        let ring = Ring::<W>::shared(set)?;
        let mask0 = publisher.masks.get::<W>(set)?;
        let masks: Vec<Vec<Mask<W>>> =
            plan.terms.iter().map(|term| expand_masks(ring, publisher.epoch, term)).collect();
        let norms: Vec<Vec<Norms>> =
            plan.terms.iter().zip(weights).map(|(term, w)| norms_per_output(term.packing.shape(), w)).collect();
        let meetings = Meetings::new(&plan);
        let widths = Widths { ell: parameters.ell, rounding };
        let context = OutputContext::new(publisher.context, PACKING_VERSION, publisher.epoch, mask0, widths);
        let one = |output: usize| {
            let (mut context, mut evaluator) = (context.clone(), Evaluator::new(ring));
            let mut evaluated = Vec::with_capacity(plan.terms.len());
            for ((term, weights), masks) in plan.terms.iter().zip(weights).zip(&masks) {
                let polynomials = term.packing.weight_polynomials(output, weights);
                let products = polynomials.iter().map(|(ciphertext, terms)| (&masks[*ciphertext], terms.as_slice()));
                let sum = evaluator.evaluate(products)?;
                context.branch(term.layer, &polynomials, &sum);
                evaluated.push(sum);
            }
            let check = |draws: &[Draw<W>]| {
                let terms = norms.iter().zip(draws).map(|(norms, draw)| NoiseTerms {
                    weights: norms[output],
                    drawn: draw.drawn(),
                    rounding,
                });
                let terms: Vec<_> = terms.collect();
                noise::margin_bits(set, parameters.ell, &terms, meetings.cross(&parameters, draws)) >= 0.0
            };
            publish(&evaluated, mask0, &mut rng(&context.finish(), output as u32), rounding.hint, check)
        };
        let published = (0..plan.output[0]).into_par_iter().map(one).collect::<Result<Vec<_>, _>>()?;
        // By term, then by output.
        let mut hints: Vec<Vec<u8>> = plan.terms.iter().map(|_| Vec::new()).collect();
        let mut rerandomisers: Vec<Vec<Rerandomiser<W>>> = plan.terms.iter().map(|_| Vec::new()).collect();
        for (term, (hint, rerandomiser)) in published.into_iter().flat_map(|output| output.into_iter().enumerate()) {
            hints[term].extend_from_slice(&hint.to_bytes());
            rerandomisers[term].push(rerandomiser);
        }
        let bytes = hints.concat();
        let halves = plan.terms.iter().zip(weights).zip(rerandomisers);
        let terms = halves
            .map(|((term, weights), rerandomisers)| {
                let kernel = Kernel::new(&term.packing.tile_shape(), weights);
                ServerTerm { kernel, rerandomisers }
            })
            .collect();
        let online = match parameters.ell {
            ..=16 => Online::U16(online_kernels(&plan, weights)),
            17..=32 => Online::U32(online_kernels(&plan, weights)),
            _ => Online::U64(online_kernels(&plan, weights)),
        };
        Ok((Self { plan, terms, online }, bytes))
    }

    /// One tile's bodies as torus words, in order.
    fn bodies(&self, tile: &TilePlan, message: &[u8], schedule: Schedule) -> Result<Vec<W>, BridgeError> {
        let parameters = &self.plan.parameters;
        let (low, full) = message.split_at(tile.low_len(parameters, schedule));
        let low_count = tile.low_count(schedule);
        let mut low = unpack(low, low_count, parameters.low_width())?.into_iter();
        let mut full = unpack(full, tile.own_pad.len() - low_count, parameters.full_width())?.into_iter();
        let word = |index| if tile.is_low(index, schedule) { low.next() } else { full.next() };
        let words = (0..tile.own_pad.len()).map(word);
        Ok(words.map(|word: Option<W>| word.expect("counted above").shl(parameters.rounding.body)).collect())
    }

    /// p_v = sum_j w_oj body_j + b*_0 u_o of every output, the terms added up.
    pub(crate) fn phases(
        &self,
        messages: &[Vec<u8>],
        keys: &ServerKeys,
        schedule: Schedule,
    ) -> Result<Vec<W>, BridgeError> {
        let parameters = &self.plan.parameters;
        let set = parameters.set;
        let keys = keys.get::<W>(set)?;
        let pixels = self.plan.pixels();
        let mut phases = vec![W::default(); self.plan.outputs()];
        for ((plan, own), message) in self.plan.terms.iter().zip(&self.terms).zip(messages) {
            let expected = plan.message_len(parameters, schedule);
            if message.len() != expected {
                return Err(BridgeError::Length { what: "a message of bodies", expected, found: message.len() });
            }
            let mut rest = message.as_slice();
            let mut products = vec![W::default(); plan.packing.tile_shape().output_len()];
            let tile_pixels: usize = plan.packing.tile_output().iter().product();
            for (key, tile) in keys.iter().skip(self.plan.first_secret).zip(&plan.tiles) {
                let (bytes, after) =
                    rest.split_at(tile.low_len(parameters, schedule) + tile.full_len(parameters, schedule));
                rest = after;
                let bodies = self.bodies(tile, bytes, schedule)?;
                let gather = |&index: &u32| if index == UNFILLED { W::default() } else { bodies[index as usize] };
                let padded: Vec<W> = tile.tile.gather.iter().map(gather).collect();
                own.kernel.apply(&padded, &mut products);
                let outputs = tile.outputs();
                let positions: Vec<usize> = outputs.iter().map(|output| output.2).collect();
                let channels = phases.par_chunks_exact_mut(pixels).zip(products.par_chunks_exact(tile_pixels));
                channels.zip(&own.rerandomisers).for_each(|((phases, products), rerandomiser)| {
                    let mut add = |(pixel, from, _): (usize, usize, usize), blind: W| {
                        phases[pixel] = phases[pixel].wrapping_add(products[from]).wrapping_add(blind);
                    };
                    if outputs.len() <= FEW_OUTPUTS {
                        let blinds = rerandomiser.apply_at(&key.window, &positions);
                        outputs.iter().zip(blinds.iter()).for_each(|(output, blind)| add(*output, *blind));
                    } else {
                        let blinds = rerandomiser.apply(&key.ntt);
                        outputs.iter().for_each(|output| add(*output, blinds[output.2]));
                    }
                });
            }
        }
        Ok(phases)
    }
}

fn unpack<W: LinearWord>(bytes: &[u8], count: usize, width: u32) -> Result<Vec<W>, BridgeError> {
    if count == 0 && bytes.is_empty() { Ok(Vec::new()) } else { Ok(pack::read(bytes, count, width)?) }
}

fn online_kernels<T: Word>(plan: &LayerPlan, weights: &[&[i32]]) -> Vec<Kernel<T>> {
    plan.terms.iter().zip(weights).map(|(term, weights)| Kernel::new(term.packing.shape(), weights)).collect()
}

impl<W: LinearWord> ServerLinear for ServerLayer<W> {
    fn offline(
        &self,
        messages: &[Vec<u8>],
        keys: &ServerKeys,
        schedule: Schedule,
    ) -> Result<OfflineShare, BridgeError> {
        let phases = self.phases(messages, keys, schedule)?;
        Ok(OfflineShare(convert::server_share(&self.plan.parameters, &phases)))
    }

    fn online(&self, offline: OfflineShare, masked: &[&[u64]]) -> Vec<u64> {
        let mask = u64::MAX >> (64 - self.plan.parameters.share_bits());
        let mut share = offline.0;
        match &self.online {
            Online::U16(kernels) => convolve(kernels, masked, &mut share, |x| x as u16),
            Online::U32(kernels) => convolve(kernels, masked, &mut share, |x| x as u32),
            Online::U64(kernels) => convolve(kernels, masked, &mut share, |x| x),
        }
        share.iter_mut().for_each(|v| *v &= mask);
        share
    }
}

/// share += 2 sum_i W_i m_i.
fn convolve<T: Word + Into<u64>>(
    kernels: &[Kernel<T>],
    masked: &[&[u64]],
    share: &mut [u64],
    narrow: impl Fn(u64) -> T,
) {
    let mut products = vec![T::default(); share.len()];
    for (kernel, masked) in kernels.iter().zip(masked) {
        let input: Vec<T> = masked.iter().map(|&x| narrow(x)).collect();
        kernel.apply_add(&input, &mut products);
    }
    for (v, product) in share.iter_mut().zip(products) {
        *v = v.wrapping_add(product.into() << 1);
    }
}
