//! Per-inference keys: one fresh secret per layer and tile at the client, its b*_0 at the server.
//!
//! ```text
//!     client                                            server
//!     s fresh ternary
//!     b*_0 = a*_0 s + e*_0, rounded   ------------->    kept for the products b*_0 u_o
//! ```

use lowkey_he::mask::{EpochSeed, Mask, MaskId};
use lowkey_he::params::ParameterSet;
use lowkey_he::ring::{NttPoly, Ring};
use lowkey_he::secret::Secret;
use lowkey_he::torus::round_all;
use lowkey_he::window::Window;
use lowkey_he::word::TorusWord;
use lowkey_he::{pack, with_word};
use rand::CryptoRng;

use super::by_set::{BySet, LinearWord, OverWord};
use crate::error::BridgeError;

/// One parameter set of a plan: how many secrets an inference needs under it, and how b*_0 is rounded.
///
/// Every layer has secrets of its own, one per tile. A client's share of a layer's result is a function of the layer's secrets, and
/// for a crafted hint a function of the server's choice: the pads that the same secrets make, say. What masks the result on its
/// way to the next layers must not be a function of them too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetPlan {
    /// Ring, torus and noise.
    pub set: &'static ParameterSet,
    /// Secrets: the tiles of all layers of this set.
    pub secrets: usize,
    /// r0: low bits rounded off b*_0.
    pub b0_rounding: u32,
}

/// A mask a*_0 of each set.
pub enum Mask0 {}

/// The secrets of each set, in the order of layers and tiles.
pub enum OwnSecrets {}

/// The b*_0 of each set, in the same order.
pub enum OwnB0s {}

impl OverWord for Mask0 {
    type Of<W: LinearWord> = Mask<W>;
}

impl OverWord for OwnSecrets {
    type Of<W: LinearWord> = Vec<Secret<W>>;
}

impl OverWord for OwnB0s {
    type Of<W: LinearWord> = Vec<PreparedB0<W>>;
}

/// The masks a*_0 of all sets of a plan, expanded once.
pub type RerandomiserMasks = BySet<Mask0>;

/// The client's fresh secrets of one inference: by set, one per layer and tile. Not cloneable; wiped when dropped.
pub type Secrets = BySet<OwnSecrets>;

/// What the server keeps of an inference's keys: every b*_0.
pub type ServerKeys = BySet<OwnB0s>;

/// One b*_0 as the server uses it: transformed for whole products, as a window for single coefficients.
pub struct PreparedB0<W: TorusWord> {
    pub(crate) ntt: NttPoly<W>,
    pub(crate) window: Window<W>,
}

/// Expands a*_0 of every set of a plan.
///
/// # Errors
/// When a set's torus and word disagree: our bug.
pub fn rerandomiser_masks(plans: &[SetPlan], epoch: &EpochSeed) -> Result<RerandomiserMasks, BridgeError> {
    let mut masks = RerandomiserMasks::default();
    for set in plans.iter().map(|plan| plan.set) {
        with_word!(set, W => {
            masks.insert::<W>(set, Mask::expand(Ring::shared(set)?, epoch, MaskId::RERANDOMISER));
        });
    }
    Ok(masks)
}

/// Client: fresh secrets for one inference, and the message that carries every b*_0.
///
/// # Errors
/// When `masks` were expanded for another plan: our bug.
pub fn generate<R: CryptoRng>(
    plans: &[SetPlan],
    masks: &RerandomiserMasks,
    rng: &mut R,
) -> Result<(Secrets, Vec<u8>), BridgeError> {
    let mut secrets = Secrets::default();
    let mut message = Vec::with_capacity(plans.iter().map(SetPlan::message_len).sum());
    for plan in plans {
        with_word!(plan.set, W => {
            secrets.insert::<W>(plan.set, plan.generate::<W, R>(masks.get(plan.set)?, rng, &mut message)?);
        });
    }
    Ok((secrets, message))
}

/// Server: the b*_0 of one inference from the client's message.
///
/// # Errors
/// When the message does not have the length that the plan gives it.
pub fn receive(plans: &[SetPlan], message: &[u8]) -> Result<ServerKeys, BridgeError> {
    let expected = plans.iter().map(SetPlan::message_len).sum();
    if message.len() != expected {
        return Err(BridgeError::Length { what: "b*_0", expected, found: message.len() });
    }
    let mut keys = ServerKeys::default();
    let mut rest = message;
    for plan in plans {
        let (bytes, after) = rest.split_at(plan.message_len());
        rest = after;
        with_word!(plan.set, W => keys.insert::<W>(plan.set, plan.receive::<W>(bytes)?));
    }
    Ok(keys)
}

impl SetPlan {
    /// Bytes of all b*_0 of this set.
    pub fn message_len(&self) -> usize {
        self.secrets * self.polynomial_len()
    }

    fn polynomial_len(&self) -> usize {
        pack::packed_len(self.set.degree, self.width())
    }

    fn width(&self) -> u32 {
        self.set.torus_bits - self.b0_rounding
    }

    /// The secrets of this set; their b*_0 are appended to the message.
    fn generate<W: LinearWord, R: CryptoRng>(
        &self,
        mask0: &Mask<W>,
        rng: &mut R,
        message: &mut Vec<u8>,
    ) -> Result<Vec<Secret<W>>, BridgeError> {
        let mut secrets = Vec::with_capacity(self.secrets);
        for _ in 0..self.secrets {
            let mut secret = Secret::generate(mask0.ring(), rng);
            let mut b0 = secret.body(mask0, rng)?;
            round_all(&mut b0, self.b0_rounding);
            b0.iter_mut().for_each(|word| *word = word.shr(self.b0_rounding));
            pack::append(message, &b0, self.width());
            secrets.push(secret);
        }
        Ok(secrets)
    }

    /// Every b*_0 of this set, from its part of the message.
    fn receive<W: LinearWord>(&self, bytes: &[u8]) -> Result<Vec<PreparedB0<W>>, BridgeError> {
        let ring = Ring::<W>::shared(self.set)?;
        let mut b0s = Vec::with_capacity(self.secrets);
        for bytes in bytes.chunks_exact(self.polynomial_len()) {
            let mut b0: Vec<W> = pack::read(bytes, self.set.degree, self.width())?;
            b0.iter_mut().for_each(|word| *word = word.shl(self.b0_rounding));
            b0s.push(PreparedB0 { ntt: ring.forward_multiples(&b0, self.b0_rounding), window: Window::new(&b0) });
        }
        Ok(b0s)
    }
}
