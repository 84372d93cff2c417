//! The server's half of an encrypted linear layer: the offline share v_off, and the online convolution.
//!
//! ```text
//!     offline   v_off = floor((sum_j w_oj * body_j + b*_0 u_o + T) / U)
//!     online    v     = v_off + 2 W m   (mod 2^(ell + 1))       m = x - xhat, the masked activation
//! ```

use std::sync::Arc;

use lowkey_he::hint::Rerandomiser;
use lowkey_he::pack;
use rayon::prelude::*;
use zeroize::Zeroizing;

use super::by_set::LinearWord;
use super::keys::{PreparedB0, ServerKeys};
use super::layer::{LayerPlan, Schedule, TileBytes, TilePlan};
use super::packing::UNFILLED;
use crate::conv::{Kernel, Word};
use crate::convert;
use crate::error::BridgeError;
use crate::narrow::Narrow;
use crate::parameters::LayerParameters;
use crate::share::RingShare;

/// The server's share of a layer's result before the input is known. Made once, moved into the online half.
pub struct OfflineShare(Narrow);

impl OfflineShare {
    /// v_off, words of ell + 1 bits. What the online stage adds is even, so the lowest bits are those of the share.
    pub fn words(&self) -> Zeroizing<Vec<u64>> {
        self.0.words()
    }

    /// Bytes of memory that it holds: those of [`LayerPlan::share_bytes`].
    pub fn held_bytes(&self) -> usize {
        self.0.held_bytes()
    }
}

/// The server's half of a layer, whatever its torus.
pub trait ServerLinear: Send + Sync {
    /// Evaluates the layer on the encrypted bodies: one message per term, as [`ClientLinear`](crate::ClientLinear) made them.
    ///
    /// # Errors
    /// When a message does not have the length that the plan gives it.
    fn offline(&self, messages: &[Vec<u8>], keys: &ServerKeys, schedule: Schedule)
    -> Result<OfflineShare, BridgeError>;

    /// The server's share of the result, above a guard bit, from one masked activation per term (words of a ring of at
    /// least ell bits). The network's own integer convolution, and nothing else.
    fn online(&self, offline: OfflineShare, masked: &[&[u64]]) -> RingShare;
}

/// The server's half for the torus word `W`. [`publish_layer`](super::publish::publish_layer) makes it.
pub(crate) struct ServerLayer<W: LinearWord> {
    plan: Arc<LayerPlan>,
    terms: Vec<ServerTerm<W>>,
    online: Online,
}

struct ServerTerm<W: LinearWord> {
    /// Of one tile.
    kernel: Kernel<W>,
    /// Output channels of an output ciphertext.
    bands: usize,
    /// By output ciphertext.
    rerandomisers: Vec<Rerandomiser<W>>,
}

/// The online convolutions in the narrowest word that holds ell bits.
enum Online {
    U16(Vec<Kernel<u16>>),
    U32(Vec<Kernel<u32>>),
    U64(Vec<Kernel<u64>>),
}

impl<W: LinearWord> ServerLayer<W> {
    /// Packs the weights for both stages. `rerandomisers` are those of the publication, by term and then by output.
    pub(super) fn new(plan: Arc<LayerPlan>, weights: &[&[i32]], rerandomisers: Vec<Vec<Rerandomiser<W>>>) -> Self {
        let parts = plan.terms.iter().zip(weights).zip(rerandomisers);
        let terms = parts.map(|((term, weights), rerandomisers)| ServerTerm {
            kernel: Kernel::new(&term.packing.tile_shape(), weights),
            bands: term.packing.bands(),
            rerandomisers,
        });
        Self { terms: terms.collect(), online: Online::new(&plan, weights), plan }
    }

    #[cfg(test)]
    pub(crate) fn rerandomiser(&self, term: usize, output: usize) -> &Rerandomiser<W> {
        &self.terms[term].rerandomisers[output]
    }

    /// p_v = sum_j w_oj body_j + b*_0 u_o of every output, the terms added up.
    pub(crate) fn phases(
        &self,
        messages: &[Vec<u8>],
        keys: &ServerKeys,
        schedule: Schedule,
    ) -> Result<Vec<W>, BridgeError> {
        let parameters = &self.plan.parameters;
        let keys = keys.get::<W>(parameters.set)?;
        let mut phases = vec![W::default(); self.plan.outputs()];
        for ((plan, term), message) in self.plan.terms.iter().zip(&self.terms).zip(messages) {
            let tiles = plan.tiles.iter().zip(plan.cut(message, parameters, schedule)?);
            let mut products = vec![W::default(); plan.packing.tile_shape().output_len()];
            for (b0, (tile, bytes)) in keys.iter().skip(self.plan.first_secret).zip(tiles) {
                let bodies = read_bodies(tile, bytes, parameters, schedule)?;
                term.tile_products(tile, &bodies, &mut products);
                term.add_tile(tile, &products, b0, self.plan.pixels(), &mut phases);
            }
        }
        Ok(phases)
    }
}

impl<W: LinearWord> ServerTerm<W> {
    /// products = sum_j w_oj body_j of one tile: channels times pixels of the tile's output.
    ///
    /// In an output ciphertext the weights of its channel g meet the bodies of band b in channel g + b; behind the last band they come out
    /// in the first ones, negated.
    fn tile_products(&self, tile: &TilePlan, bodies: &[W], products: &mut [W]) {
        let body = |&index: &u32| if index == UNFILLED { W::default() } else { bodies[index as usize] };
        let mut bands = tile.bands().map(|gather| gather.iter().map(body).collect::<Vec<W>>());
        self.kernel.apply(&bands.next().expect("there is a first band"), products);
        let (count, pixels) = (self.bands, tile.pixels());
        let mut own = vec![W::default(); products.len()];
        for (band, padded) in (1..).zip(bands) {
            self.kernel.apply(&padded, &mut own);
            let ciphertexts = products.chunks_mut(count * pixels).zip(own.chunks(count * pixels));
            for (products, own) in ciphertexts {
                for (channel, own) in own.chunks_exact(pixels).enumerate() {
                    let to = (channel + band) % count * pixels;
                    // The last ciphertext may have channels in its first bands only.
                    let Some(products) = products.get_mut(to..to + pixels) else { continue };
                    let wrapped = channel + band >= count;
                    for (product, own) in products.iter_mut().zip(own) {
                        *product = product.wrapping_add(if wrapped { own.wrapping_neg() } else { *own });
                    }
                }
            }
        }
    }

    /// phases += products + b*_0 u_o at the useful outputs of one tile.
    fn add_tile(&self, tile: &TilePlan, products: &[W], b0: &PreparedB0<W>, pixels: usize, phases: &mut [W]) {
        let own = tile.pixels();
        let phases = phases.par_chunks_mut(self.bands * pixels);
        let ciphertexts = phases.zip(products.par_chunks(self.bands * own)).zip(&self.rerandomisers);
        ciphertexts.for_each(|((phases, products), rerandomiser)| {
            let coefficients = tile.coefficients(phases.len() / pixels);
            let mut values = if tile.has_few_outputs() {
                rerandomiser.apply_at(&b0.window, &coefficients)
            } else {
                let blinds = rerandomiser.apply(&b0.ntt);
                Zeroizing::new(coefficients.iter().map(|&coefficient| blinds[coefficient]).collect())
            };
            let products =
                products.chunks_exact(own).flat_map(|own| tile.outputs.iter().map(|output| own[output.from]));
            for (value, product) in values.iter_mut().zip(products) {
                *value = value.wrapping_add(product);
            }
            tile.add(&values, pixels, phases);
        });
    }
}

/// The bodies of one tile as torus words, in order.
fn read_bodies<W: LinearWord>(
    tile: &TilePlan,
    bytes: TileBytes<'_>,
    parameters: &LayerParameters,
    schedule: Schedule,
) -> Result<Vec<W>, BridgeError> {
    let mut low = unpack(bytes.low, tile.low_count(schedule), parameters.low_width())?.into_iter();
    let mut full = unpack(bytes.full, tile.full_count(schedule), parameters.full_width())?.into_iter();
    let words = tile.bodies.iter().map(|body| {
        let word: Option<W> = if body.is_low(schedule) { low.next() } else { full.next() };
        word.expect("counted above").shl(parameters.rounding.body)
    });
    Ok(words.collect())
}

fn unpack<W: LinearWord>(bytes: &[u8], count: usize, width: u32) -> Result<Vec<W>, BridgeError> {
    if count == 0 && bytes.is_empty() { Ok(Vec::new()) } else { Ok(pack::read(bytes, count, width)?) }
}

impl<W: LinearWord> ServerLinear for ServerLayer<W> {
    fn offline(
        &self,
        messages: &[Vec<u8>],
        keys: &ServerKeys,
        schedule: Schedule,
    ) -> Result<OfflineShare, BridgeError> {
        let phases = self.phases(messages, keys, schedule)?;
        let share = convert::server_share(&self.plan.parameters, &phases);
        Ok(OfflineShare(Narrow::new(&share, self.plan.parameters.share_bits())))
    }

    fn online(&self, offline: OfflineShare, masked: &[&[u64]]) -> RingShare {
        let mut share = offline.0.into_words();
        match &self.online {
            Online::U16(kernels) => convolve(kernels, masked, &mut share, |x| x as u16),
            Online::U32(kernels) => convolve(kernels, masked, &mut share, |x| x as u32),
            Online::U64(kernels) => convolve(kernels, masked, &mut share, |x| x),
        }
        RingShare::new(share, self.plan.parameters.ring())
    }
}

impl Online {
    fn new(plan: &LayerPlan, weights: &[&[i32]]) -> Self {
        match plan.parameters.ell {
            ..=16 => Self::U16(kernels(plan, weights)),
            17..=32 => Self::U32(kernels(plan, weights)),
            _ => Self::U64(kernels(plan, weights)),
        }
    }
}

fn kernels<T: Word>(plan: &LayerPlan, weights: &[&[i32]]) -> Vec<Kernel<T>> {
    plan.terms.iter().zip(weights).map(|(term, weights)| Kernel::new(term.packing.shape(), weights)).collect()
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
