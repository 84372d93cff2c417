//! The client's half of an encrypted linear layer: bodies and the share c = floor(-hint s / U).

use std::sync::Arc;

use lowkey_he::hint::Hint;
use lowkey_he::mask::{EpochSeed, Mask, MaskTransform};
use lowkey_he::pack;
use lowkey_he::ring::{NttPoly, Ring};
use lowkey_he::secret::Secret;
use lowkey_he::torus::round_to;
use lowkey_he::window::Window;
use lowkey_he::with_word;
use rand::CryptoRng;
use rayon::prelude::*;
use zeroize::Zeroizing;

use super::by_set::LinearWord;
use super::keys::Secrets;
use super::layer::{BodyPlan, Kept, LayerPlan, Schedule, TermPlan, TilePlan};
use crate::convert;
use crate::error::BridgeError;
use crate::parameters::LayerParameters;
use crate::share::RingShare;

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

    /// The client's share of the layer's result, above a guard bit: row-major channels, height, width.
    ///
    /// # Errors
    /// When `secrets` are those of another plan: our bug.
    fn share(&self, secrets: &Secrets) -> Result<RingShare, BridgeError>;
}

/// The client's half for the torus word `W`.
pub(crate) struct ClientLayer<W: LinearWord> {
    plan: Arc<LayerPlan>,
    terms: Vec<ClientTerm<W>>,
}

struct ClientTerm<W: LinearWord> {
    masks: Vec<MaskTransform<W>>,
    /// By output ciphertext.
    hints: Vec<HeldHint<W>>,
}

/// A hint between inferences.
enum HeldHint<W: LinearWord> {
    Ready(ClientHint<W>),
    /// As it came; it was read once before.
    Packed(Box<[u8]>),
}

/// A hint in the form in which it meets the secret.
enum ClientHint<W: LinearWord> {
    Product(NttPoly<W>),
    Inner(Window<W>),
}

/// The bodies of one tile as they travel, without the bits that are rounded off.
struct TileWords<W> {
    low: Vec<W>,
    full: Vec<W>,
}

/// Reads a layer's published hint and expands its masks.
///
/// # Errors
/// When `hint` does not have the length that the plan gives it.
pub fn client_layer(
    plan: Arc<LayerPlan>,
    epoch: &EpochSeed,
    hint: &[u8],
    kept: Kept,
) -> Result<Box<dyn ClientLinear>, BridgeError> {
    with_word!(plan.parameters.set, W => Ok(Box::new(ClientLayer::<W>::new(plan, epoch, hint, kept)?)))
}

impl<W: LinearWord> ClientLayer<W> {
    pub(crate) fn new(plan: Arc<LayerPlan>, epoch: &EpochSeed, hint: &[u8], kept: Kept) -> Result<Self, BridgeError> {
        if hint.len() != plan.hint_len() {
            return Err(BridgeError::Length { what: "the hint", expected: plan.hint_len(), found: hint.len() });
        }
        let ring = Ring::<W>::shared(plan.parameters.set)?;
        let mut hints = hint.chunks_exact(plan.one_hint_len());
        let terms = plan.terms.iter().map(|term| {
            let own: Vec<&[u8]> = hints.by_ref().take(plan.output_ciphertexts()).collect();
            let read = |bytes: &[u8]| match kept {
                Kept::Ready => ClientHint::read(ring, &plan, term, bytes).map(HeldHint::Ready),
                Kept::Packed => {
                    Hint::from_bytes(ring, plan.parameters.rounding.hint, bytes)?;
                    Ok(HeldHint::Packed(bytes.into()))
                }
            };
            let hints = own.into_par_iter().map(read).collect::<Result<_, _>>()?;
            let masks = term.masks(ring, epoch).into_iter().map(Mask::into_transform).collect();
            Ok(ClientTerm { masks, hints })
        });
        let terms = terms.collect::<Result<_, BridgeError>>()?;
        Ok(Self { plan, terms })
    }

    /// The message of a term. Every body encrypts the value of its element; those that [`Schedule::Prepared`] cuts define it
    /// instead.
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
        let secrets = secrets.get_mut::<W>(parameters.set)?;
        let mut message = Vec::with_capacity(plan.message_len(parameters, schedule));
        for (secret, tile) in secrets.iter_mut().skip(self.plan.first_secret).zip(&plan.tiles) {
            let words = self.encrypt_tile(tile, &own.masks, schedule, secret, values, rng)?;
            pack_nonempty(&mut message, &words.low, parameters.low_width());
            pack_nonempty(&mut message, &words.full, parameters.full_width());
        }
        Ok(message)
    }

    fn encrypt_tile<R: CryptoRng>(
        &self,
        tile: &TilePlan,
        masks: &[MaskTransform<W>],
        schedule: Schedule,
        secret: &mut Secret<W>,
        values: &mut dyn Values,
        rng: &mut R,
    ) -> Result<TileWords<W>, BridgeError> {
        let parameters = &self.plan.parameters;
        let mut words = TileWords {
            low: Vec::with_capacity(tile.low_count(schedule)),
            full: Vec::with_capacity(tile.full_count(schedule)),
        };
        let mut t = Zeroizing::new(vec![W::default(); parameters.set.degree]);
        for bodies in tile.bodies.chunk_by(|a, b| a.ciphertext() == b.ciphertext()) {
            // t_j = a_j s + e_j.
            secret.body_into(&masks[bodies[0].ciphertext() as usize], rng, &mut t)?;
            for body in bodies {
                words.push(body, t[body.coefficient()], parameters, schedule, values);
            }
        }
        Ok(words)
    }

    /// p_c = -hint s of every output, the terms added up.
    pub(crate) fn phases(&self, secrets: &Secrets) -> Result<Zeroizing<Vec<W>>, BridgeError> {
        let set = self.plan.parameters.set;
        let (secrets, ring) = (secrets.get::<W>(set)?, Ring::<W>::shared(set)?);
        let mut phases = Zeroizing::new(vec![W::default(); self.plan.outputs()]);
        let pixels = self.plan.pixels();
        let of_output = |(number, phases): (usize, &mut [W])| {
            for (plan, own) in self.plan.terms.iter().zip(&self.terms) {
                let read;
                let hint = match &own.hints[number] {
                    HeldHint::Ready(hint) => hint,
                    HeldHint::Packed(bytes) => {
                        read = ClientHint::read(ring, &self.plan, plan, bytes)?;
                        &read
                    }
                };
                for (secret, tile) in secrets.iter().skip(self.plan.first_secret).zip(&plan.tiles) {
                    hint.add_phases(secret, tile, pixels, phases);
                }
            }
            Ok::<_, BridgeError>(())
        };
        phases.par_chunks_mut(self.plan.bands() * pixels).enumerate().try_for_each(of_output)?;
        Ok(phases)
    }
}

impl<W: LinearWord> TileWords<W> {
    /// One body, of which `t` is a_j s + e_j. It encrypts the value of its element, or defines it.
    fn push(
        &mut self,
        body: &BodyPlan,
        t: W,
        parameters: &LayerParameters,
        schedule: Schedule,
        values: &mut dyn Values,
    ) {
        let (rounding, ell, log_scaling) = (parameters.rounding.body, parameters.ell, parameters.log_scaling());
        let word = round_to(t, rounding);
        match body.element() {
            // The pad is what makes the body's top bits zero; the low bits travel.
            Some(element) if body.is_low(schedule) => {
                let pad = word.shr(log_scaling).wrapping_neg();
                values.define(element as usize, low_bits(pad, ell), ell);
                self.low.push(W::from_u64(low_bits(word, log_scaling)).shr(rounding));
            }
            // body_j = t_j + scaling x.
            element => {
                let value = element.map_or(0, |element| values.get(element as usize));
                self.full.push(word.wrapping_add(W::from_u64(value).shl(log_scaling)).shr(rounding));
            }
        }
    }
}

impl<W: LinearWord> ClientHint<W> {
    fn read(ring: &'static Ring<W>, plan: &LayerPlan, term: &TermPlan, bytes: &[u8]) -> Result<Self, BridgeError> {
        let hint = Hint::from_bytes(ring, plan.parameters.rounding.hint, bytes)?;
        let inner = term.tiles.iter().all(TilePlan::has_few_outputs);
        Ok(if inner { Self::Inner(hint.window()) } else { Self::Product(hint.ntt()) })
    }

    /// phases += -hint s at the useful outputs of one tile; `phases` has the channels of the output ciphertext, of `pixels` each.
    fn add_phases(&self, secret: &Secret<W>, tile: &TilePlan, pixels: usize, phases: &mut [W]) {
        let coefficients = tile.coefficients(phases.len() / pixels);
        let shares = match self {
            Self::Product(hint) => {
                let all = secret.phase_share(hint);
                Zeroizing::new(coefficients.iter().map(|&coefficient| all[coefficient]).collect())
            }
            Self::Inner(hint) => secret.phase_share_at(hint, &coefficients),
        };
        tile.add(&shares, pixels, phases);
    }
}

/// The low `bits` of a word, less than 64.
fn low_bits<W: LinearWord>(word: W, bits: u32) -> u64 {
    word.to_u64() & ((1 << bits) - 1)
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

    fn share(&self, secrets: &Secrets) -> Result<RingShare, BridgeError> {
        let parameters = &self.plan.parameters;
        Ok(RingShare::new(convert::client_share(parameters, &self.phases(secrets)?), parameters.ring()))
    }
}
