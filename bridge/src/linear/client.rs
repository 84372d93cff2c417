//! The client's half of an encrypted linear layer: bodies and the share c = floor(-hint s / U).

use std::sync::Arc;

use lowkey_he::hint::Hint;
use lowkey_he::mask::{EpochSeed, Mask, MaskId};
use lowkey_he::pack;
use lowkey_he::ring::{NttPoly, Ring};
use lowkey_he::torus::round_to;
use lowkey_he::window::Window;
use lowkey_he::with_word;
use rand::CryptoRng;
use rayon::prelude::*;
use zeroize::Zeroizing;

use super::by_set::LinearWord;
use super::keys::Secrets;
use super::layer::{LayerPlan, Schedule, TermPlan};
use crate::convert;
use crate::error::BridgeError;

/// Up to this many outputs of a tile, inner products are cheaper than a transform.
const FEW_OUTPUTS: usize = 12;

/// The client's half of a layer, whatever its torus.
pub trait ClientLinear: Send + Sync {
    /// Prepared schedule, offline: encrypts the pads of a term's input. Bodies that define a pad write the low ell bits of
    /// `pads` (elements of the input, words of its ring); the others encrypt what is there. Returns the bytes for the server.
    ///
    /// # Errors
    /// When a secret is used twice under one mask, or `secrets` are those of another plan: our bug.
    fn encrypt_pads(
        &self,
        term: usize,
        secrets: &mut Secrets,
        pads: &mut [u64],
        rng: &mut dyn CryptoRng,
    ) -> Result<Vec<u8>, BridgeError>;

    /// Direct schedule, online: encrypts the client's share of a term's input.
    ///
    /// # Errors
    /// As [`encrypt_pads`](Self::encrypt_pads).
    fn encrypt_shares(
        &self,
        term: usize,
        secrets: &mut Secrets,
        shares: &[u64],
        rng: &mut dyn CryptoRng,
    ) -> Result<Vec<u8>, BridgeError>;

    /// The client's share of the layer's result, of ell + 1 bits each: row-major channels, height, width.
    ///
    /// # Errors
    /// When `secrets` are those of another plan: our bug.
    fn share(&self, secrets: &Secrets) -> Result<Zeroizing<Vec<u64>>, BridgeError>;
}

/// The client's half for the torus word `W`.
pub(crate) struct ClientLayer<W: LinearWord> {
    plan: Arc<LayerPlan>,
    terms: Vec<ClientTerm<W>>,
}

struct ClientTerm<W: LinearWord> {
    masks: Vec<Mask<W>>,
    hints: Vec<ClientHint<W>>,
}

/// A hint in the form in which it meets the secret.
enum ClientHint<W: LinearWord> {
    Product(NttPoly<W>),
    Inner(Window<W>),
}

/// Reads a layer's published hint and expands its masks.
///
/// # Errors
/// When `hint` does not have the length that the plan gives it.
pub fn client_layer(
    plan: Arc<LayerPlan>,
    epoch: &EpochSeed,
    hint: &[u8],
) -> Result<Box<dyn ClientLinear>, BridgeError> {
    with_word!(plan.parameters.set, W => Ok(Box::new(ClientLayer::<W>::new(plan, epoch, hint)?)))
}

/// All input masks of a term, in order of ciphertext.
pub(crate) fn expand_masks<W: LinearWord>(ring: &'static Ring<W>, epoch: &EpochSeed, term: &TermPlan) -> Vec<Mask<W>> {
    let ids = (0..term.packing.ciphertexts() as u32).into_par_iter();
    ids.map(|ciphertext| Mask::expand(ring, epoch, MaskId { layer: term.layer, ciphertext })).collect()
}

impl<W: LinearWord> ClientLayer<W> {
    pub(crate) fn new(plan: Arc<LayerPlan>, epoch: &EpochSeed, hint: &[u8]) -> Result<Self, BridgeError> {
        if hint.len() != plan.hint_len() {
            return Err(BridgeError::Length { what: "the hint", expected: plan.hint_len(), found: hint.len() });
        }
        let ring = Ring::<W>::shared(plan.parameters.set)?;
        let rounding = plan.parameters.rounding.hint;
        let mut hints = hint.chunks_exact(plan.one_hint_len());
        let terms = plan
            .terms
            .iter()
            .map(|term| {
                let few = term.tiles.iter().all(|tile| tile.outputs().len() <= FEW_OUTPUTS);
                let form = |bytes| -> Result<ClientHint<W>, BridgeError> {
                    let hint = Hint::from_bytes(ring, rounding, bytes)?;
                    Ok(if few { ClientHint::Inner(hint.window()) } else { ClientHint::Product(hint.ntt()) })
                };
                let bytes: Vec<&[u8]> = hints.by_ref().take(plan.output[0]).collect();
                let hints = bytes.into_par_iter().map(form).collect::<Result<_, _>>()?;
                Ok(ClientTerm { masks: expand_masks(ring, epoch, term), hints })
            })
            .collect::<Result<_, BridgeError>>()?;
        Ok(Self { plan, terms })
    }

    /// Encrypts the value of its element in every body; the bodies that [`Schedule::Prepared`] cuts define it instead.
    pub(crate) fn encrypt<R: CryptoRng>(
        &self,
        term: usize,
        schedule: Schedule,
        secrets: &mut Secrets,
        values: &mut dyn Values,
        rng: &mut R,
    ) -> Result<Vec<u8>, BridgeError> {
        let parameters = &self.plan.parameters;
        let (plan, own) = (&self.plan.terms[term], &self.terms[term]);
        let set = parameters.set;
        let secrets = secrets.get_mut::<W>(set)?;
        let (rounding, log_scaling) = (parameters.rounding.body, parameters.log_scaling());
        let low_mask = W::from_u64((1 << log_scaling) - 1);
        let mut message = Vec::with_capacity(plan.message_len(parameters, schedule));
        let mut body = Zeroizing::new(vec![W::default(); set.degree]);
        for (secret, tile) in secrets.iter_mut().skip(self.plan.first_secret).zip(&plan.tiles) {
            let mut low = Vec::with_capacity(tile.low_count(schedule));
            let mut full = Vec::with_capacity(tile.own_pad.len() - low.capacity());
            let mut current = None;
            for (index, place) in tile.tile.bodies.iter().enumerate() {
                if current != Some(place.ciphertext) {
                    secret.body_into(&own.masks[place.ciphertext as usize], rng, &mut body)?;
                    current = Some(place.ciphertext);
                }
                let word = round_to(body[place.coefficient as usize], rounding);
                match place.element {
                    Some(element) if tile.is_low(index, schedule) => {
                        let pad = word.shr(log_scaling).wrapping_neg();
                        values.define(element as usize, pad.to_u64() & ((1 << parameters.ell) - 1), parameters.ell);
                        low.push(W::from_u64(word.to_u64() & low_mask.to_u64()).shr(rounding));
                    }
                    element => {
                        let value = element.map_or(0, |element| values.get(element as usize));
                        full.push(word.wrapping_add(W::from_u64(value).shl(log_scaling)).shr(rounding));
                    }
                }
            }
            pack_nonempty(&mut message, &low, parameters.low_width());
            pack_nonempty(&mut message, &full, parameters.full_width());
        }
        Ok(message)
    }

    /// p_c = -hint s of every output, the terms added up.
    pub(crate) fn phases(&self, secrets: &Secrets) -> Result<Zeroizing<Vec<W>>, BridgeError> {
        let set = self.plan.parameters.set;
        let secrets = secrets.get::<W>(set)?;
        let pixels = self.plan.pixels();
        let mut phases = Zeroizing::new(vec![W::default(); self.plan.outputs()]);
        phases.par_chunks_exact_mut(pixels).enumerate().for_each(|(channel, phases)| {
            for (plan, own) in self.plan.terms.iter().zip(&self.terms) {
                for (secret, tile) in secrets.iter().skip(self.plan.first_secret).zip(&plan.tiles) {
                    let outputs = tile.outputs();
                    match &own.hints[channel] {
                        ClientHint::Product(hint) => {
                            let share = secret.phase_share(hint);
                            for &(pixel, _, coefficient) in outputs {
                                phases[pixel] = phases[pixel].wrapping_add(share[coefficient]);
                            }
                        }
                        ClientHint::Inner(hint) => {
                            let positions: Vec<usize> = outputs.iter().map(|output| output.2).collect();
                            let share = secret.phase_share_at(hint, &positions);
                            for (&(pixel, _, _), share) in outputs.iter().zip(share.iter()) {
                                phases[pixel] = phases[pixel].wrapping_add(*share);
                            }
                        }
                    }
                }
            }
        });
        Ok(phases)
    }
}

fn pack_nonempty<W: LinearWord>(message: &mut Vec<u8>, words: &[W], width: u32) {
    if !words.is_empty() {
        pack::append(message, words, width);
    }
}

/// Where the encrypted values come from, and where pads go.
pub(crate) trait Values {
    fn get(&self, element: usize) -> u64;
    fn define(&mut self, element: usize, low: u64, bits: u32);
}

pub(crate) struct Pads<'a>(pub &'a mut [u64]);

impl Values for Pads<'_> {
    fn get(&self, element: usize) -> u64 {
        self.0[element]
    }

    fn define(&mut self, element: usize, low: u64, bits: u32) {
        let pad = &mut self.0[element];
        *pad = *pad >> bits << bits | low;
    }
}

pub(crate) struct Shares<'a>(pub &'a [u64]);

impl Values for Shares<'_> {
    fn get(&self, element: usize) -> u64 {
        self.0[element]
    }

    fn define(&mut self, _: usize, _: u64, _: u32) {
        unreachable!("the direct schedule cuts no body")
    }
}

impl<W: LinearWord> ClientLinear for ClientLayer<W> {
    fn encrypt_pads(
        &self,
        term: usize,
        secrets: &mut Secrets,
        pads: &mut [u64],
        rng: &mut dyn CryptoRng,
    ) -> Result<Vec<u8>, BridgeError> {
        self.encrypt(term, Schedule::Prepared, secrets, &mut Pads(pads), &mut { rng })
    }

    fn encrypt_shares(
        &self,
        term: usize,
        secrets: &mut Secrets,
        shares: &[u64],
        rng: &mut dyn CryptoRng,
    ) -> Result<Vec<u8>, BridgeError> {
        self.encrypt(term, Schedule::Direct, secrets, &mut Shares(shares), &mut { rng })
    }

    fn share(&self, secrets: &Secrets) -> Result<Zeroizing<Vec<u64>>, BridgeError> {
        Ok(convert::client_share(&self.plan.parameters, &self.phases(secrets)?))
    }
}
