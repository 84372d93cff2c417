//! The party whose operand is encrypted: bodies of A, and c = floor(-hint s / U) of A B.

use lowkey_he::hint::Hint;
use lowkey_he::mask::Mask;
use lowkey_he::pack;
use lowkey_he::ring::Ring;
use lowkey_he::torus::round_to;
use rand::CryptoRng;
use rayon::prelude::*;
use zeroize::Zeroizing;

use super::packing::Sizes;
use super::plan::CrossPlan;
use crate::convert;
use crate::error::BridgeError;
use crate::linear::keys::Secrets;
use crate::share::RingShare;

/// Encrypts `a`, p x k words modulo 2^ell, row-major: [`CrossPlan::bodies_len`] bytes for the evaluator. `masks` are
/// [`CrossPlan::masks`].
///
/// # Errors
/// When a secret meets a mask for the second time, or `secrets` are those of another plan: our bug.
///
/// # Panics
/// If `a` or `masks` do not have the sizes of the plan.
pub fn encrypt<R: CryptoRng>(
    plan: &CrossPlan,
    masks: &[Mask<u64>],
    a: &[u64],
    secrets: &mut Secrets,
    rng: &mut R,
) -> Result<Vec<u8>, BridgeError> {
    assert_eq!(a.len(), plan.sizes().encrypted(), "the encrypted operand has the sizes of the plan");
    assert_eq!(masks.len(), plan.count().polynomials, "the masks are those of the plan");
    let (parameters, packing, digits) = (plan.parameters(), plan.packing(), plan.digits());
    let secret = &mut secrets.get_mut::<u64>(parameters.set)?[0];
    let rounding = parameters.rounding.body;
    let mut words = Zeroizing::new(Vec::with_capacity(plan.count().bodies));
    let mut body = Zeroizing::new(vec![0; parameters.set.degree]);
    let Sizes { rows, inner, .. } = packing.blocks();
    for i in 0..rows {
        for d in 0..digits.count {
            for j in 0..inner {
                // a_j s + e_j + scaling 2^(b d) A.
                secret.body_into(masks[plan.polynomial(i, d, j)].transform(), rng, &mut body)?;
                for (y, k) in packing.inner(j).enumerate() {
                    for (x, row) in packing.rows(i).enumerate() {
                        let message = a[row * plan.sizes().inner + k] << (plan.log_scaling() + digits.place(d));
                        let word = &mut body[packing.encrypted_at(x, y)];
                        *word = word.wrapping_add(message);
                    }
                }
                let used = packing.body_coefficients(i, j);
                words.extend(used.iter().map(|&at| round_to(body[at], rounding) >> rounding));
            }
        }
    }
    let mut message = Vec::with_capacity(plan.bodies_len());
    pack::append(&mut message, &words, parameters.full_width());
    Ok(message)
}

/// c of every element of A B from the evaluator's hints: p x r words above a guard bit, row-major.
///
/// # Errors
/// When `hints` do not have the length of the plan; when `secrets` are those of another plan: our bug.
pub fn share(plan: &CrossPlan, hints: &[u8], secrets: &Secrets) -> Result<RingShare, BridgeError> {
    let words = convert::client_share(plan.parameters(), &phases(plan, hints, secrets)?);
    Ok(RingShare::new(words, plan.parameters().ring()))
}

/// -hint s at every output.
pub(super) fn phases(plan: &CrossPlan, hints: &[u8], secrets: &Secrets) -> Result<Zeroizing<Vec<u64>>, BridgeError> {
    if hints.len() != plan.hints_len() {
        return Err(BridgeError::Length { what: "the hints", expected: plan.hints_len(), found: hints.len() });
    }
    let (parameters, packing) = (plan.parameters(), plan.packing());
    let ring = Ring::<u64>::shared(parameters.set)?;
    let secret = &secrets.get::<u64>(parameters.set)?[0];
    let of_hint =
        |bytes: &[u8]| Ok(secret.phase_share(&Hint::from_bytes(ring, parameters.rounding.hint, bytes)?.ntt()));
    let shares: Vec<Zeroizing<Vec<u64>>> =
        hints.par_chunks_exact(plan.hint_len()).map(of_hint).collect::<Result<_, BridgeError>>()?;
    let mut phases = Zeroizing::new(vec![0; plan.sizes().outputs()]);
    for (i, shares) in (0..packing.blocks().rows).zip(shares.chunks_exact(plan.hint_blocks())) {
        for (l, share) in shares.iter().enumerate() {
            for (x, row) in packing.rows(i).enumerate() {
                for (y, column) in plan.hint_columns(l).enumerate() {
                    phases[row * plan.sizes().columns + column] = share[plan.output_at(x, y)];
                }
            }
        }
    }
    Ok(phases)
}
