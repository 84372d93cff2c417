//! Answers merged: the columns of n = 2^h results in one, so that a hint carries N of them and not N / n.
//!
//! In a block of one column, k' = n, the results are at i n + n - 1, one in n coefficients. Turned down by n - 1 they are those
//! of X^n. Two such ciphertexts E and O, both with results where 2^i divides the index and i is the step's, become one with
//! results where 2^(i-1) does:
//!
//! ```text
//!     (E + X^(2^(i-1)) O) + sigma(E - X^(2^(i-1)) O),      sigma: X -> X^g, g = N / 2^(i-1) + 1,    i = h, ..., 1
//! ```
//!
//! sigma keeps the powers that 2^i divides, negates those in between and permutes the rest, so every step doubles the results and
//! cancels what stood where the others go (the packing of \[CDKS21\], over a subring). After h steps results are 2^h times
//! what they were, column c at i n + c: the owner scales its message down by 2^h, and the noise grows by as much.
//!
//! sigma takes a ciphertext under s to one under sigma(s), and a [`Switch`] back. Its keys encrypt sigma(s) under s: beside R1,
//! merging assumes that bodies stay pseudo-random next to them (circular security, R3 in `docs/product.md`). The evaluator does all of this on both halves, which
//! it has; the owner notices nothing but a shorter message.

use std::collections::BTreeMap;

use lowkey_he::mask::{EpochSeed, Mask, MaskId};
use lowkey_he::noise::{Drawn, NoiseTerms, Norms};
use lowkey_he::pack;
use lowkey_he::params::ParameterSet;
use lowkey_he::ring::Ring;
use lowkey_he::switch::{Gadget, Switch};
use lowkey_he::torus::{Rounding, round_to};
use rand::CryptoRng;
use zeroize::Zeroizing;

use super::deviations::{excess_of_magnitudes, excess_of_squares};
use crate::error::BridgeError;
use crate::linear::keys::Secrets;

/// The gadget of all switches: within the exact range of both rings with q = 2^64, and far below the noise of products.
pub const GADGET: Gadget = Gadget { bits: 12, levels: 3 };

/// Low bits rounded off the keys.
pub const KEY_ROUNDING: u32 = 16;

/// Most steps that a plan takes.
pub const MAX_STEPS: u32 = 7;

/// Most steps that a plan takes unasked. Keys are paid for up to the largest h of a training step's products, 36.9 kB and
/// party for each at N = 2048. In one of 784-128-128-10 those up to 4 serve all products; those from 5 to 7 serve only the
/// narrow last layer, and cost 221 kB of both parties to save 195.
pub const STEPS: u32 = 4;

/// The domain of the keys' masks. No product has it.
pub const DOMAIN: u32 = u32::MAX - 1;

/// The keys for merging of one parameter set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MergeKeyPlan {
    /// Ring, torus and noise.
    pub set: &'static ParameterSet,
    /// h: those of all steps up to it.
    pub steps: u32,
}

/// A party's keys at its peer, by parameter set.
#[derive(Debug, Clone, Default)]
pub struct MergeKeys(BTreeMap<u8, Vec<Switch<u64>>>);

impl MergeKeyPlan {
    /// Bytes of the keys of this set.
    pub fn message_len(&self) -> usize {
        self.steps as usize * GADGET.levels as usize * self.body_len()
    }

    fn body_len(&self) -> usize {
        pack::packed_len(self.set.degree, self.width())
    }

    fn width(&self) -> u32 {
        self.set.torus_bits - KEY_ROUNDING
    }

    fn mask(&self, ring: &'static Ring<u64>, epoch: &EpochSeed, step: u32, t: u32) -> Mask<u64> {
        Mask::expand(ring, epoch, MaskId { layer: DOMAIN, ciphertext: step * GADGET.levels + t })
    }
}

/// g of a step: X^(2^step) is negated, X^(2^(step+1)) kept.
fn exponent(set: &ParameterSet, step: u32) -> usize {
    (set.degree >> step) + 1
}

/// Owner: the keys of its secrets, once for each of them.
///
/// # Errors
/// When a secret has made them before, or `secrets` are those of another plan: our bug.
pub(super) fn generate<R: CryptoRng>(
    plans: &[MergeKeyPlan],
    epoch: &EpochSeed,
    secrets: &mut Secrets,
    rng: &mut R,
) -> Result<Vec<u8>, BridgeError> {
    let mut message = Vec::with_capacity(plans.iter().map(MergeKeyPlan::message_len).sum());
    for plan in plans {
        let ring = Ring::<u64>::shared(plan.set)?;
        let secret = &mut secrets.get_mut::<u64>(plan.set)?[0];
        for step in 0..plan.steps {
            for t in 0..GADGET.levels {
                let place = GADGET.place(plan.set.torus_bits, t);
                let mask = plan.mask(ring, epoch, step, t);
                let mut body = secret.switch_body(&mask, exponent(plan.set, step), place, rng)?;
                body.iter_mut().for_each(|word| *word = round_to(*word, KEY_ROUNDING) >> KEY_ROUNDING);
                pack::append(&mut message, &body, plan.width());
            }
        }
    }
    Ok(message)
}

/// Evaluator: the peer's keys.
///
/// # Errors
/// When the message does not have the length that the plans give it.
pub(super) fn receive(plans: &[MergeKeyPlan], epoch: &EpochSeed, message: &[u8]) -> Result<MergeKeys, BridgeError> {
    let expected = plans.iter().map(MergeKeyPlan::message_len).sum();
    if message.len() != expected {
        return Err(BridgeError::Length { what: "the keys for merging", expected, found: message.len() });
    }
    let mut keys = MergeKeys::default();
    let mut rest = message;
    for plan in plans {
        let ring = Ring::<u64>::shared(plan.set)?;
        let mut switches = Vec::with_capacity(plan.steps as usize);
        for step in 0..plan.steps {
            let masks: Vec<Mask<u64>> = (0..GADGET.levels).map(|t| plan.mask(ring, epoch, step, t)).collect();
            let mut bodies = Vec::with_capacity(masks.len());
            for _ in &masks {
                let (bytes, after) = rest.split_at(plan.body_len());
                rest = after;
                let mut body: Vec<u64> = pack::read(bytes, plan.set.degree, plan.width())?;
                body.iter_mut().for_each(|word| *word <<= KEY_ROUNDING);
                bodies.push(body);
            }
            switches.push(Switch::new(ring, exponent(plan.set, step), GADGET, &masks, &bodies));
        }
        keys.0.insert(plan.set.id, switches);
    }
    Ok(keys)
}

/// Both halves of a ciphertext, N words each. Until it is re-randomised, the first one is a known linear map of B: with the
/// public masks it gives B, so every copy is wiped.
pub(super) type CiphertextHalves = [Zeroizing<Vec<u64>>; 2];

impl MergeKeys {
    /// Up to 2^steps ciphertexts with results at X^(i n), as one with 2^steps times those of ciphertext c at i n + c.
    ///
    /// # Errors
    /// When there are no keys for `steps` steps of this set: our bug.
    pub(super) fn merge(
        &self,
        set: &ParameterSet,
        steps: u32,
        all: Vec<CiphertextHalves>,
    ) -> Result<CiphertextHalves, BridgeError> {
        let switches = self.0.get(&set.id).and_then(|switches| switches.get(..steps as usize));
        let switches = switches.ok_or(BridgeError::MissingKeys { set: set.name })?;
        let all = all.into_iter().map(Some).collect();
        Ok(merge(switches, 0, all).expect("there is a ciphertext"))
    }
}

/// The ciphertexts of one residue class modulo 2^step, in order. `None` is zero.
fn merge(switches: &[Switch<u64>], step: u32, mut all: Vec<Option<CiphertextHalves>>) -> Option<CiphertextHalves> {
    let Some(switch) = switches.get(step as usize) else {
        return all.pop().flatten();
    };
    let mut of = |parity| all.iter_mut().skip(parity).step_by(2).map(Option::take).collect();
    let (even, odd) = (of(0), of(1));
    let even = merge(switches, step + 1, even)?;
    let (mut sum, difference) = match merge(switches, step + 1, odd) {
        None => (even.clone(), even),
        Some(mut odd) => {
            odd.iter_mut().for_each(|half| turn_up(half, 1 << step));
            let with = |operation: fn(u64, u64) -> u64| -> CiphertextHalves {
                std::array::from_fn(|half| {
                    let words = even[half].iter().zip(odd[half].iter());
                    Zeroizing::new(words.map(|(e, o)| operation(*e, *o)).collect())
                })
            };
            (with(u64::wrapping_add), with(u64::wrapping_sub))
        }
    };
    let moved = switch.apply(&difference[0], &difference[1]);
    for (sum, moved) in sum.iter_mut().zip(&moved) {
        sum.iter_mut().zip(moved.iter()).for_each(|(x, y)| *x = x.wrapping_add(*y));
    }
    Some(sum)
}

/// p X^by, 0 <= by < N.
fn turn_up(poly: &mut [u64], by: usize) {
    poly.rotate_right(by);
    poly[..by].iter_mut().for_each(|word| *word = word.wrapping_neg());
}

/// p X^-by, 0 <= by < N.
pub(super) fn turn_down(poly: &mut [u64], by: usize) {
    let end = poly.len() - by;
    poly.rotate_left(by);
    poly[end..].iter_mut().for_each(|word| *word = word.wrapping_neg());
}

/// The noise of all switches at a result, on average. A result comes down one path of the merging: one switch of every step
/// meets it, doubled by those that follow, so together they have sum_i 4^(i-1) = (4^h - 1) / 3 times the variance of one.
pub(super) fn noise(set: &ParameterSet, steps: u32) -> NoiseTerms {
    let (n, times) = (set.degree as f64, (4f64.powi(steps as i32) - 1.0) / 3.0);
    let digits = n * f64::from(GADGET.levels);
    let unit = GADGET.place(set.torus_bits, GADGET.levels - 1) as i32;
    NoiseTerms {
        weights: Norms {
            norm2: times * digits * 4f64.powi(GADGET.bits as i32) / 12.0,
            norm1: 2f64.powi(steps as i32) * digits * 2f64.powi(GADGET.bits as i32) / 4.0,
        },
        drawn: Drawn { rerandomiser_norm2: 0.0, hint_error_norm2: times * n * 4f64.powi(unit) / 12.0 },
        rounding: Rounding { body: KEY_ROUNDING, b0: 0, hint: 0 },
    }
}

/// What [`noise`] is less than: the digits of A and what they leave of it are uniform, and each of their norms stays within
/// [`DEVIATIONS`](super::deviations::DEVIATIONS) standard deviations of its mean.
pub(super) fn noise_bound(set: &ParameterSet, steps: u32) -> NoiseTerms {
    let mut terms = noise(set, steps);
    let left = set.degree as f64;
    let digits = left * f64::from(GADGET.levels);
    terms.weights.norm2 *= excess_of_squares(digits);
    terms.weights.norm1 *= excess_of_magnitudes(digits);
    terms.drawn.hint_error_norm2 *= excess_of_squares(left);
    terms
}
