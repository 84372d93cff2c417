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

use super::by_set::LinearWord;
use super::keys::{PreparedB0, ServerKeys};
use super::layer::{LayerPlan, Schedule, TileBytes, TilePlan, Useful};
use super::packing::UNFILLED;
use crate::conv::{Kernel, Word};
use crate::convert;
use crate::error::BridgeError;
use crate::parameters::LayerParameters;

/// The server's share of a layer's result before the input is known. Made once, moved into the online half.
pub struct OfflineShare(Vec<u64>);

impl OfflineShare {
    /// Bytes of memory that it holds: a word per output.
    pub fn held_bytes(&self) -> usize {
        size_of_val(&self.0[..])
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

    /// The server's share of the result, of ell + 1 bits each, from one masked activation per term (words of a ring of at
    /// least ell bits). The network's own integer convolution, and nothing else.
    fn online(&self, offline: OfflineShare, masked: &[&[u64]]) -> Vec<u64>;
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
    /// By output channel.
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
                term.add_tile(tile, &products, b0, phases.par_chunks_exact_mut(self.plan.pixels()));
            }
        }
        Ok(phases)
    }
}

impl<W: LinearWord> ServerTerm<W> {
    /// products = sum_j w_oj body_j of one tile: channels times pixels of the tile's output.
    fn tile_products(&self, tile: &TilePlan, bodies: &[W], products: &mut [W]) {
        let body = |&index: &u32| if index == UNFILLED { W::default() } else { bodies[index as usize] };
        let padded: Vec<W> = tile.gather.iter().map(body).collect();
        self.kernel.apply(&padded, products);
    }

    /// phases += products + b*_0 u_o at the useful outputs of one tile, by channel.
    fn add_tile<'a>(
        &self,
        tile: &TilePlan,
        products: &[W],
        b0: &PreparedB0<W>,
        phases: impl IndexedParallelIterator<Item = &'a mut [W]>,
    ) {
        let pixels = products.len() / self.rerandomisers.len();
        let channels = phases.zip(products.par_chunks_exact(pixels)).zip(&self.rerandomisers);
        channels.for_each(|((phases, products), rerandomiser)| {
            let mut add = |output: &Useful, blind: W| {
                let phase = products[output.from].wrapping_add(blind);
                phases[output.pixel] = phases[output.pixel].wrapping_add(phase);
            };
            if tile.has_few_outputs() {
                let blinds = rerandomiser.apply_at(&b0.window, &tile.coefficients());
                tile.outputs.iter().zip(blinds.iter()).for_each(|(output, blind)| add(output, *blind));
            } else {
                let blinds = rerandomiser.apply(&b0.ntt);
                tile.outputs.iter().for_each(|output| add(output, blinds[output.coefficient]));
            }
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
