//! t = a*s + e and share = -hint*s: the client's secret, its bodies and its phase shares.
//!
//! A secret lives for one inference. It encrypts under each mask at most once (SECURITY.md, rule 1): two bodies under
//! one secret and mask subtract to the difference of their messages. [`Secret::body`] enforces that at run time.
//!
//! The phase share is exact: recovering s from it and the hint is linear algebra. It is the client's to keep, and so is
//! everything computed here except the bodies.

use std::collections::HashSet;
use std::fmt;

use rand::CryptoRng;
use zeroize::{Zeroize, Zeroizing};

use crate::error::HeError;
use crate::mask::{Mask, MaskId, MaskTransform};
use crate::ring::{NttPoly, NttSmall, Ring};
use crate::sample;
use crate::window::Window;
use crate::word::TorusWord;

/// A uniform ternary secret s of one parameter set, with the masks it has been used with. Neither copied nor printed,
/// zeroized on drop.
pub struct Secret<W: TorusWord> {
    ring: &'static Ring<W>,
    coefficients: Vec<i8>,
    /// The transform of -s: the shares are products with it, and the bodies e - a*(-s).
    negated: NttSmall<W>,
    used: HashSet<MaskId>,
    scratch: NttPoly<W>,
}

impl<W: TorusWord> Secret<W> {
    /// A fresh secret: independent uniform coefficients from {-1, 0, 1}.
    ///
    /// They are sampled by rejection from 2-bit values of `rng`; the rejected positions, and hence the time, are
    /// independent of the secret.
    pub fn generate<R: CryptoRng>(ring: &'static Ring<W>, rng: &mut R) -> Self {
        let mut coefficients = vec![0; ring.degree()];
        sample::ternary(rng, &mut coefficients);
        let opposite = Zeroizing::new(coefficients.iter().map(|s| -s).collect::<Vec<i8>>());
        let negated = ring.forward_ternary(&opposite);
        Self { ring, coefficients, negated, used: HashSet::new(), scratch: ring.zero() }
    }

    /// The ring it lives in.
    pub fn ring(&self) -> &'static Ring<W> {
        self.ring
    }

    /// s itself, for `switch.rs`.
    pub(crate) fn coefficients(&self) -> &[i8] {
        &self.coefficients
    }

    /// t = a*s + e for the mask a and fresh noise e of the parameter set: all N coefficients, not yet rounded.
    ///
    /// With the mask [`MaskId::RERANDOMISER`] this is b*_0.
    ///
    /// # Errors
    /// [`HeError::MaskReused`] if this secret has used a mask of this id before, of whatever epoch;
    /// [`HeError::ParameterSet`] for a mask of another set.
    pub fn body<R: CryptoRng>(&mut self, mask: &Mask<W>, rng: &mut R) -> Result<Zeroizing<Vec<W>>, HeError> {
        let mut out = Zeroizing::new(vec![W::default(); self.ring.degree()]);
        self.body_into(mask.transform(), rng, &mut out)?;
        Ok(out)
    }

    /// [`body`](Self::body) into `out` (N words), which an error leaves as it was.
    pub fn body_into<R: CryptoRng>(
        &mut self,
        mask: &MaskTransform<W>,
        rng: &mut R,
        out: &mut [W],
    ) -> Result<(), HeError> {
        self.ring.expect_set(mask.ring().set())?;
        if !self.used.insert(mask.id()) {
            return Err(HeError::MaskReused(mask.id()));
        }
        self.scratch.clear();
        self.ring.mul_acc(&mut self.scratch, &mask.ntt, &self.negated);
        self.ring.inverse_into(&mut self.scratch, out);
        sample::noise_minus(rng, self.ring.set().noise_bound, out);
        Ok(())
    }

    /// -hint*s: the client's torus share of the phase of an output ciphertext, all N coefficients.
    pub fn phase_share(&self, hint: &NttPoly<W>) -> Zeroizing<Vec<W>> {
        let mut scratch = Zeroizing::new(self.ring.zero_like(hint));
        let mut out = Zeroizing::new(vec![W::default(); self.ring.degree()]);
        self.phase_acc(hint, &mut scratch);
        self.ring.inverse_into(&mut scratch, &mut out);
        out
    }

    /// acc += -hint*s, in the transformed domain: branches that meet before requantisation are summed so, and
    /// [`Ring::inverse_into`] ends the sum. `acc` is secret.
    pub fn phase_acc(&self, hint: &NttPoly<W>, acc: &mut NttPoly<W>) {
        self.ring.mul_acc(acc, hint, &self.negated);
    }

    /// The coefficients at `positions` of -hint*s, by inner products: for layers with few outputs per ciphertext.
    ///
    /// # Panics
    /// If a position is not below N.
    pub fn phase_share_at(&self, hint: &Window<W>, positions: &[usize]) -> Zeroizing<Vec<W>> {
        let mut share = Zeroizing::new(hint.product_at(&self.coefficients, positions));
        for word in share.iter_mut() {
            *word = word.wrapping_neg();
        }
        share
    }
}

impl<W: TorusWord> Drop for Secret<W> {
    fn drop(&mut self) {
        self.coefficients.zeroize();
        self.negated.zeroize();
        self.scratch.zeroize();
    }
}

impl<W: TorusWord> fmt::Debug for Secret<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({}, [redacted])", self.ring.set().name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mask::EpochSeed;
    use crate::params::{self, ParameterSet, T32N1024, T32N2048};
    use rand::SeedableRng;
    use rand_chacha::ChaCha20Rng;
    use tfhe::core_crypto::prelude::*;

    const ID: MaskId = MaskId { layer: 4, ciphertext: 0 };

    /// The phase of (mask, body) by the stock decryption of `tfhe` is the phase by ours: the noise, and nothing else.
    fn stock_decryption<W: TorusWord + UnsignedInteger>(set: &'static ParameterSet) {
        let ring = Ring::<W>::shared(set).unwrap();
        let mut rng = ChaCha20Rng::from_seed([set.id; 32]);
        let mut secret = Secret::generate(ring, &mut rng);
        let mask = Mask::expand(ring, &EpochSeed([9; 32]), ID);
        let scaling = W::from_u64(1 << (set.torus_bits - 4));
        let messages: Vec<W> = (0..set.degree as u64).map(|i| W::from_u64(i % 16)).collect();
        let mut body = secret.body(&mask, &mut rng).unwrap();
        for (word, message) in body.iter_mut().zip(&messages) {
            *word = TorusWord::wrapping_add(*word, TorusWord::wrapping_mul(*message, scaling));
        }

        let key = GlweSecretKey::from_container(
            secret.coefficients.iter().map(|&s| W::from_i64(s.into())).collect::<Vec<W>>(),
            set.polynomial_size(),
        );
        let ciphertext = GlweCiphertext::from_container(
            [mask.coefficients(), &body].concat(),
            set.polynomial_size(),
            CiphertextModulus::new_native(),
        );
        let mut phase = PlaintextList::new(W::default(), PlaintextCount(set.degree));
        decrypt_glwe_ciphertext(&key, &ciphertext, &mut phase);

        let share = secret.phase_share(mask.ntt());
        let noise = set.noise::<W>();
        let bound = 1i64 << noise.bound_log2();
        let mut largest = 0;
        for (((phase, message), body), share) in phase.as_ref().iter().zip(&messages).zip(&*body).zip(&*share) {
            assert_eq!(*phase, TorusWord::wrapping_add(*body, *share));
            let error = TorusWord::wrapping_sub(*phase, TorusWord::wrapping_mul(*message, scaling)).to_i64();
            largest = largest.max(error.abs());
        }
        assert!(largest <= bound && largest > bound / 2, "{}: noise up to {largest}", set.name);
    }

    #[test]
    fn tfhe_decrypts_what_we_encrypt() {
        stock_decryption::<u32>(&T32N1024);
        stock_decryption::<u32>(&T32N2048);
        stock_decryption::<u64>(&params::T64N2048);
        stock_decryption::<u64>(&params::T64N4096);
    }

    #[test]
    fn a_mask_encrypts_once_per_secret() {
        let ring = Ring::<u32>::shared(&T32N1024).unwrap();
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let mut secret = Secret::generate(ring, &mut rng);
        let mask = Mask::expand(ring, &EpochSeed([1; 32]), ID);
        secret.body(&mask, &mut rng).unwrap();
        assert_eq!(secret.body(&mask, &mut rng), Err(HeError::MaskReused(ID)));
        let other_epoch = Mask::expand(ring, &EpochSeed([2; 32]), ID);
        assert_eq!(secret.body(&other_epoch, &mut rng), Err(HeError::MaskReused(ID)));
        for id in [MaskId::RERANDOMISER, MaskId { layer: 4, ciphertext: 1 }, MaskId { layer: 5, ciphertext: 0 }] {
            secret.body(&Mask::expand(ring, &EpochSeed([1; 32]), id), &mut rng).unwrap();
        }
        Secret::generate(ring, &mut rng).body(&mask, &mut rng).unwrap();
    }

    #[test]
    fn a_refused_body_draws_nothing_and_writes_nothing() {
        let ring = Ring::<u32>::shared(&T32N1024).unwrap();
        let mut rng = ChaCha20Rng::from_seed([2; 32]);
        let mut secret = Secret::generate(ring, &mut rng);
        let mask = Mask::expand(ring, &EpochSeed([1; 32]), ID);
        secret.body(&mask, &mut rng).unwrap();
        let (before, mut out) = (rng.clone(), vec![7; 1024]);
        assert!(secret.body_into(mask.transform(), &mut rng, &mut out).is_err());
        assert_eq!((rng, out), (before, vec![7; 1024]));
    }

    #[test]
    fn a_mask_of_another_set_is_refused() {
        let mut rng = ChaCha20Rng::from_seed([3; 32]);
        let mut secret = Secret::generate(Ring::<u32>::shared(&T32N1024).unwrap(), &mut rng);
        let foreign = Mask::expand(Ring::<u32>::shared(&T32N2048).unwrap(), &EpochSeed([1; 32]), ID);
        let error = HeError::ParameterSet { expected: "T32N1024", found: "T32N2048" };
        assert_eq!(secret.body(&foreign, &mut rng), Err(error));
    }

    #[test]
    fn shares_at_positions_are_those_of_the_whole_share() {
        let ring = Ring::<u32>::shared(&T32N2048).unwrap();
        let mut rng = ChaCha20Rng::from_seed([4; 32]);
        let secret = Secret::generate(ring, &mut rng);
        let hint = Mask::expand(ring, &EpochSeed([1; 32]), ID);
        let whole = secret.phase_share(hint.ntt());
        let positions = [0, 1, 1023, 2046, 2047, 0];
        let some = secret.phase_share_at(&Window::new(hint.coefficients()), &positions);
        assert_eq!(*some, positions.map(|i| whole[i]));
    }

    #[test]
    fn secrets_print_nothing() {
        let mut rng = ChaCha20Rng::from_seed([5; 32]);
        let secret = Secret::generate(Ring::<u32>::shared(&T32N1024).unwrap(), &mut rng);
        assert_eq!(format!("{secret:?}"), "Secret(T32N1024, [redacted])");
        assert_eq!(format!("{:?}{:?}", secret.negated, secret.scratch), "NttSmall([redacted])NttPoly([redacted])");
    }

    #[test]
    fn transforms_can_be_wiped() {
        let ring = Ring::<u32>::shared(&T32N1024).unwrap();
        let mut small = ring.forward_ternary(&[1; 1024]);
        small.zeroize();
        assert_eq!(small, ring.zero_small());
        let mut poly = ring.forward(&[1; 1024]);
        poly.zeroize();
        assert_eq!(poly, ring.zero());
    }
}
