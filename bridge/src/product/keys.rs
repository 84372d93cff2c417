//! Keys of one party for the products of a step: secrets of its own, and one message for its peer.
//!
//! ```text
//!     owner                                              evaluator
//!     s fresh ternary, one for each parameter set
//!     b*_0, and b_t of every step of merging   ------->  kept for all products of the step
//! ```
//!
//! With [`finish`](super::product::Answered::finish), where guard bits are folded, a secret serves one step: what is rounded from
//! their sum depends on inequalities of its noise, and these are not to add up. With [`terms`](super::product::Answered::terms)
//! and guard bits removed exactly, nothing later depends on the noise: a secret may serve more steps, if every product of all
//! of them has a domain of its own, and the keys for merging are paid for once.

use lowkey_he::mask::EpochSeed;
use lowkey_he::params::ParameterSet;
use rand::CryptoRng;

use super::merge::{self, MergeKeyPlan, MergeKeys};
use super::plan::CrossPlan;
use super::whole::{Party, ProductPlan};
use crate::error::BridgeError;
use crate::linear::keys::{self, RerandomiserMasks, Secrets, ServerKeys, SetPlan};
use crate::parameters::LayerParameters;

/// What keys the owner of some encrypted operands needs. Both parties derive it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPlan {
    /// A secret for each parameter set, with the least rounding of b*_0 that one of its products asks for.
    sets: Vec<SetPlan>,
    merge: Vec<MergeKeyPlan>,
}

/// An owner's keys at its peer. Public.
pub struct PeerKeys {
    pub(super) b0: ServerKeys,
    pub(super) merge: MergeKeys,
}

impl KeyPlan {
    /// For everything that `party` owns in some products.
    pub fn of<'a>(party: Party, products: impl IntoIterator<Item = &'a ProductPlan>) -> Self {
        Self::of_crosses(products.into_iter().filter(|product| product.owns(party)).map(ProductPlan::cross))
    }

    /// For the owner of some cross terms.
    pub fn of_crosses<'a>(crosses: impl IntoIterator<Item = &'a CrossPlan>) -> Self {
        let mut plan = Self::default();
        for cross in crosses {
            let LayerParameters { set, rounding, .. } = *cross.parameters();
            match plan.sets.iter_mut().find(|known| known.set == set) {
                Some(known) => known.b0_rounding = known.b0_rounding.min(rounding.b0),
                None => plan.sets.push(SetPlan { set, secrets: 1, b0_rounding: rounding.b0 }),
            }
            plan.merge_up_to(set, cross.choice().merge);
        }
        plan
    }

    fn merge_up_to(&mut self, set: &'static ParameterSet, steps: u32) {
        match self.merge.iter_mut().find(|known| known.set == set) {
            Some(known) => known.steps = known.steps.max(steps),
            None if steps > 0 => self.merge.push(MergeKeyPlan { set, steps }),
            None => {}
        }
    }

    /// Bytes of the message.
    pub fn message_len(&self) -> usize {
        self.b0_len() + self.merge.iter().map(MergeKeyPlan::message_len).sum::<usize>()
    }

    fn b0_len(&self) -> usize {
        self.sets.iter().map(SetPlan::message_len).sum()
    }

    /// a*_0 of every set.
    ///
    /// # Errors
    /// When a set's torus and word disagree: our bug.
    pub fn masks(&self, epoch: &EpochSeed) -> Result<RerandomiserMasks, BridgeError> {
        keys::rerandomiser_masks(&self.sets, epoch)
    }

    /// Owner: fresh secrets, and the message. `mask0` are [`masks`](Self::masks).
    ///
    /// # Errors
    /// When `mask0` were expanded for another plan: our bug.
    pub fn generate<R: CryptoRng>(
        &self,
        epoch: &EpochSeed,
        mask0: &RerandomiserMasks,
        rng: &mut R,
    ) -> Result<(Secrets, Vec<u8>), BridgeError> {
        let (mut secrets, mut message) = keys::generate(&self.sets, mask0, rng)?;
        message.append(&mut merge::generate(&self.merge, epoch, &mut secrets, rng)?);
        Ok((secrets, message))
    }

    /// Evaluator: the owner's keys.
    ///
    /// # Errors
    /// When the message does not have the length of the plan.
    pub fn receive(&self, epoch: &EpochSeed, message: &[u8]) -> Result<PeerKeys, BridgeError> {
        let expected = self.message_len();
        if message.len() != expected {
            return Err(BridgeError::Length { what: "the keys of a step", expected, found: message.len() });
        }
        let (b0, merge) = message.split_at(self.b0_len());
        Ok(PeerKeys { b0: keys::receive(&self.sets, b0)?, merge: merge::receive(&self.merge, epoch, merge)? })
    }
}
