//! Per-inference keys: one fresh secret per layer and tile at the client, its b*_0 at the server.
//!
//! ```text
//!     client                                            server
//!     s fresh ternary
//!     b*_0 = a*_0 s + e*_0, rounded   ------------->    kept for the products b*_0 u_o
//! ```

use std::collections::BTreeMap;

use lowkey_he::mask::{EpochSeed, Mask, MaskId};
use lowkey_he::pack;
use lowkey_he::params::ParameterSet;
use lowkey_he::ring::{NttPoly, Ring};
use lowkey_he::secret::Secret;
use lowkey_he::torus::round_all;
use lowkey_he::window::Window;
use lowkey_he::word::TorusWord;
use rand::CryptoRng;

use crate::conv::Word;
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

impl SetPlan {
    fn width(&self) -> u32 {
        self.set.torus_bits - self.b0_rounding
    }

    fn polynomial_len(&self) -> usize {
        pack::packed_len(self.set.degree, self.width())
    }

    /// Bytes of all b*_0 of this set.
    pub fn message_len(&self) -> usize {
        self.secrets * self.polynomial_len()
    }
}

/// Values of type `T32` for sets on the 32-bit torus and `T64` for sets on the 64-bit one, by the set's id.
pub struct BySet<T32, T64> {
    t32: BTreeMap<u8, T32>,
    t64: BTreeMap<u8, T64>,
}

impl<T32, T64> Default for BySet<T32, T64> {
    fn default() -> Self {
        Self { t32: BTreeMap::new(), t64: BTreeMap::new() }
    }
}

/// The masks a*_0 of all sets of a plan, expanded once.
pub type RerandomiserMasks = BySet<Mask<u32>, Mask<u64>>;

/// The client's fresh secrets of one inference: by set, one per layer and tile. Not cloneable; wiped when dropped.
pub type Secrets = BySet<Vec<Secret<u32>>, Vec<Secret<u64>>>;

/// One b*_0 as the server uses it: transformed for whole products, as a window for single coefficients.
pub struct PreparedB0<W: TorusWord> {
    pub(crate) ntt: NttPoly<W>,
    pub(crate) window: Window<W>,
}

/// What the server keeps of an inference's keys: every b*_0.
pub type ServerKeys = BySet<Vec<PreparedB0<u32>>, Vec<PreparedB0<u64>>>;

/// A torus word for which layers exist: `u32` or `u64`. Finds its own part of the keys.
pub trait LinearWord: TorusWord + Word {
    #[doc(hidden)]
    fn masks(all: &RerandomiserMasks) -> &BTreeMap<u8, Mask<Self>>;
    #[doc(hidden)]
    fn masks_mut(all: &mut RerandomiserMasks) -> &mut BTreeMap<u8, Mask<Self>>;
    #[doc(hidden)]
    fn secrets(all: &Secrets) -> &BTreeMap<u8, Vec<Secret<Self>>>;
    #[doc(hidden)]
    fn secrets_mut(all: &mut Secrets) -> &mut BTreeMap<u8, Vec<Secret<Self>>>;
    #[doc(hidden)]
    fn keys(all: &ServerKeys) -> &BTreeMap<u8, Vec<PreparedB0<Self>>>;
    #[doc(hidden)]
    fn keys_mut(all: &mut ServerKeys) -> &mut BTreeMap<u8, Vec<PreparedB0<Self>>>;
}

macro_rules! linear_word {
    ($word:ty, $part:ident) => {
        impl LinearWord for $word {
            fn masks(all: &RerandomiserMasks) -> &BTreeMap<u8, Mask<Self>> {
                &all.$part
            }
            fn masks_mut(all: &mut RerandomiserMasks) -> &mut BTreeMap<u8, Mask<Self>> {
                &mut all.$part
            }
            fn secrets(all: &Secrets) -> &BTreeMap<u8, Vec<Secret<Self>>> {
                &all.$part
            }
            fn secrets_mut(all: &mut Secrets) -> &mut BTreeMap<u8, Vec<Secret<Self>>> {
                &mut all.$part
            }
            fn keys(all: &ServerKeys) -> &BTreeMap<u8, Vec<PreparedB0<Self>>> {
                &all.$part
            }
            fn keys_mut(all: &mut ServerKeys) -> &mut BTreeMap<u8, Vec<PreparedB0<Self>>> {
                &mut all.$part
            }
        }
    };
}

linear_word!(u32, t32);
linear_word!(u64, t64);

/// Expands a*_0 of every set of a plan.
///
/// # Errors
/// When a set's torus and word disagree: our bug.
pub fn rerandomiser_masks(plans: &[SetPlan], epoch: &EpochSeed) -> Result<RerandomiserMasks, BridgeError> {
    fn expand<W: LinearWord>(
        all: &mut RerandomiserMasks,
        plan: &SetPlan,
        epoch: &EpochSeed,
    ) -> Result<(), BridgeError> {
        let mask = Mask::expand(Ring::<W>::shared(plan.set)?, epoch, MaskId::RERANDOMISER);
        W::masks_mut(all).insert(plan.set.id, mask);
        Ok(())
    }
    let mut all = RerandomiserMasks::default();
    for plan in plans {
        match plan.set.torus_bits {
            32 => expand::<u32>(&mut all, plan, epoch)?,
            _ => expand::<u64>(&mut all, plan, epoch)?,
        }
    }
    Ok(all)
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
    fn one<W: LinearWord, R: CryptoRng>(
        secrets: &mut Secrets,
        message: &mut Vec<u8>,
        plan: &SetPlan,
        masks: &RerandomiserMasks,
        rng: &mut R,
    ) -> Result<(), BridgeError> {
        let mask = W::masks(masks).get(&plan.set.id).ok_or(BridgeError::MissingKeys { set: plan.set.name })?;
        let mut all = Vec::with_capacity(plan.secrets);
        for _ in 0..plan.secrets {
            let mut secret = Secret::generate(mask.ring(), rng);
            let mut b0 = secret.body(mask, rng)?;
            round_all(&mut b0, plan.b0_rounding);
            b0.iter_mut().for_each(|word| *word = word.shr(plan.b0_rounding));
            pack::append(message, &b0, plan.width());
            all.push(secret);
        }
        W::secrets_mut(secrets).insert(plan.set.id, all);
        Ok(())
    }
    let mut secrets = Secrets::default();
    let mut message = Vec::with_capacity(plans.iter().map(SetPlan::message_len).sum());
    for plan in plans {
        match plan.set.torus_bits {
            32 => one::<u32, R>(&mut secrets, &mut message, plan, masks, rng)?,
            _ => one::<u64, R>(&mut secrets, &mut message, plan, masks, rng)?,
        }
    }
    Ok((secrets, message))
}

/// Server: the b*_0 of one inference from the client's message.
///
/// # Errors
/// When the message does not have the length that the plan gives it.
pub fn receive(plans: &[SetPlan], message: &[u8]) -> Result<ServerKeys, BridgeError> {
    fn one<W: LinearWord>(keys: &mut ServerKeys, plan: &SetPlan, bytes: &[u8]) -> Result<(), BridgeError> {
        let ring = Ring::<W>::shared(plan.set)?;
        let mut all = Vec::with_capacity(plan.secrets);
        for bytes in bytes.chunks_exact(plan.polynomial_len()) {
            let mut b0: Vec<W> = pack::read(bytes, plan.set.degree, plan.width())?;
            b0.iter_mut().for_each(|word| *word = word.shl(plan.b0_rounding));
            all.push(PreparedB0 { ntt: ring.forward(&b0), window: Window::new(&b0) });
        }
        W::keys_mut(keys).insert(plan.set.id, all);
        Ok(())
    }
    let expected = plans.iter().map(SetPlan::message_len).sum();
    if message.len() != expected {
        return Err(BridgeError::Length { what: "b*_0", expected, found: message.len() });
    }
    let mut keys = ServerKeys::default();
    let mut rest = message;
    for plan in plans {
        let (bytes, after) = rest.split_at(plan.message_len());
        rest = after;
        match plan.set.torus_bits {
            32 => one::<u32>(&mut keys, plan, bytes)?,
            _ => one::<u64>(&mut keys, plan, bytes)?,
        }
    }
    Ok(keys)
}
