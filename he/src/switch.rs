//! X -> X^g on ciphertexts whose both halves one party holds: the moved ciphertext, under the secret it came from.
//!
//! (A, B) has phase B - A s; (A(X^g), B(X^g)) has the moved phase under s(X^g). The owner of s publishes, once per secret, for
//! the digits t of a gadget
//!
//! ```text
//!     b_t = a_t s + e_t + 2^(log q - beta (t + 1)) s(X^g)
//! ```
//!
//! and whoever holds (A, B) cuts A(X^g) into balanced digits d_t of beta bits, from the top, and replaces
//!
//! ```text
//!     A' = -sum_t d_t a_t,    B' = B(X^g) - sum_t d_t b_t
//!     B' - A' s = (B - A s)(X^g) - sum_t d_t e_t - err s(X^g)
//! ```
//!
//! err is what the digits leave of A(X^g), at most half of the last digit's unit. b_t encrypt a function of their own secret:
//! that these are pseudo-random beside all bodies is an assumption of its own (circular security), stated where they are used.

use rand::CryptoRng;
use zeroize::{Zeroize, Zeroizing};

use crate::error::HeError;
use crate::mask::Mask;
use crate::ring::{NttPoly, Ring};
use crate::secret::Secret;
use crate::simd::vectorize;
use crate::word::TorusWord;

/// How A is cut into digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gadget {
    /// beta: bits of a digit.
    pub bits: u32,
    /// Digits.
    pub levels: u32,
}

impl Gadget {
    /// The power of two that digit `t` counts, on a torus of `torus_bits`.
    pub fn place(self, torus_bits: u32, t: u32) -> u32 {
        torus_bits - self.bits * (t + 1)
    }

    /// Largest 1-norm of all digits of a polynomial of `degree` coefficients.
    pub fn norm1(self, degree: usize) -> u64 {
        u64::from(self.levels) * ((degree as u64) << (self.bits - 1))
    }

    /// Digit `t` of each word: of the word rounded to a multiple of the last digit's unit, -2^(beta-1) <= digit < 2^(beta-1).
    fn take<W: TorusWord>(self, words: &[W], t: u32, out: &mut [i64]) {
        let last = self.place(W::BITS, self.levels - 1);
        // Half a unit to round, half a digit in every place for the carries of the balanced form.
        let halves: u64 =
            (0..self.levels).map(|t| 1u64 << (self.place(W::BITS, t) + self.bits - 1)).fold(0, u64::wrapping_add);
        let offset = W::from_u64(halves.wrapping_add((1 << last) >> 1));
        let (place, mask, half) = (self.place(W::BITS, t), (1 << self.bits) - 1, 1 << (self.bits - 1));
        vectorize(
            #[inline(always)]
            || {
                for (out, &word) in out.iter_mut().zip(words) {
                    *out = (word.wrapping_add(offset).shr(place).to_u64() & mask) as i64 - half;
                }
            },
        );
    }
}

/// p(X^g) for an odd g, N coefficients, N a power of two. No branch and no address depends on a coefficient.
pub fn automorphism<W: TorusWord>(poly: &[W], g: usize) -> Vec<W> {
    let n = poly.len();
    let mut out = vec![W::default(); n];
    let mut at = 0;
    for &word in poly {
        // X^N = -1.
        out[at & (n - 1)] = if at & n == 0 { word } else { word.wrapping_neg() };
        at = (at + g) & (2 * n - 1);
    }
    out
}

/// What moves ciphertexts by one g: a_t and b_t. Public.
#[derive(Debug, Clone)]
pub struct Switch<W: TorusWord> {
    ring: &'static Ring<W>,
    g: usize,
    gadget: Gadget,
    keys: Vec<[NttPoly<W>; 2]>,
}

impl<W: TorusWord> Secret<W> {
    /// b_t for an odd `g`, not yet rounded, under the mask a_t.
    ///
    /// # Errors
    /// As [`body`](Self::body).
    pub fn switch_body<R: CryptoRng>(
        &mut self,
        mask: &Mask<W>,
        g: usize,
        place: u32,
        rng: &mut R,
    ) -> Result<Zeroizing<Vec<W>>, HeError> {
        let mut body = self.body(mask, rng)?;
        let words: Zeroizing<Vec<W>> =
            Zeroizing::new(self.coefficients().iter().map(|&s| W::from_i64(s.into())).collect());
        let moved = Zeroizing::new(automorphism(&words, g));
        body.iter_mut().zip(moved.iter()).for_each(|(word, s)| *word = word.wrapping_add(s.shl(place)));
        Ok(body)
    }
}

impl<W: TorusWord> Switch<W> {
    /// From the masks a_t and the bodies b_t.
    ///
    /// # Panics
    /// If there is not one of each for every digit, or the gadget leaves the exact range of the ring.
    pub fn new(ring: &'static Ring<W>, g: usize, gadget: Gadget, masks: &[Mask<W>], bodies: &[Vec<W>]) -> Self {
        assert!(gadget.norm1(ring.degree()) <= ring.max_norm1(), "{gadget:?} leaves the exact range of the ring");
        assert_eq!([masks.len(), bodies.len()], [gadget.levels as usize; 2], "a mask and a body for every digit");
        let key = |(mask, body): (&Mask<W>, &Vec<W>)| [mask.ntt().clone(), ring.forward(body)];
        Self { ring, g, gadget, keys: masks.iter().zip(bodies).map(key).collect() }
    }

    /// The halves A' and B' of the moved ciphertext, wiped when dropped. A may be secret to whoever holds it: no branch and no
    /// address depends on it.
    pub fn apply(&self, a: &[W], b: &[W]) -> [Zeroizing<Vec<W>>; 2] {
        let moved = Zeroizing::new(automorphism(a, self.g));
        let mut digits = Zeroizing::new(vec![0; moved.len()]);
        let mut small = Zeroizing::new(self.ring.zero_small());
        let mut sums = [(); 2].map(|()| self.ring.zero());
        for (keys, t) in self.keys.iter().zip(0..) {
            self.gadget.take(&moved, t, &mut digits);
            self.ring.forward_small_into(&digits, &mut small).expect("checked when it was made");
            sums.iter_mut().zip(keys).for_each(|(sum, key)| self.ring.mul_acc(sum, key, &small));
        }
        let [mut a, sum] = sums.each_mut().map(|sum| {
            let mut out = Zeroizing::new(vec![W::default(); moved.len()]);
            self.ring.inverse_into(sum, &mut out);
            out
        });
        a.iter_mut().for_each(|word| *word = word.wrapping_neg());
        let mut b = Zeroizing::new(automorphism(b, self.g));
        b.iter_mut().zip(sum.iter()).for_each(|(word, sum)| *word = word.wrapping_sub(*sum));
        sums.zeroize();
        [a, b]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mask::{EpochSeed, MaskId};
    use crate::params::T64N2048;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha20Rng;

    #[test]
    fn automorphisms_compose_and_respect_products() {
        let p: Vec<u64> = (1..=16).collect();
        assert_eq!(automorphism(&automorphism(&p, 5), 13), automorphism(&p, 65 % 32));
        assert_eq!(automorphism(&p, 1), p);
        // X^3 goes to X^(3 * 17) = X^51 = X^(51 - 48) (-1)^3.
        let mut x3 = vec![0u64; 16];
        x3[3] = 1;
        let moved = automorphism(&x3, 17);
        assert_eq!((moved[3], moved.iter().filter(|&&word| word != 0).count()), (u64::MAX, 1));
    }

    #[test]
    fn digits_add_up_to_the_rounded_word() {
        let gadget = Gadget { bits: 12, levels: 3 };
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let words: Vec<u64> = (0..1000).map(|_| rng.next_u64()).chain([0, u64::MAX, 1 << 63, (1 << 63) - 1]).collect();
        let mut sums = vec![0u64; words.len()];
        for t in 0..3 {
            let mut digits = vec![0; words.len()];
            gadget.take(&words, t, &mut digits);
            assert!(digits.iter().all(|digit| (-2048..2048).contains(digit)));
            sums.iter_mut().zip(&digits).for_each(|(sum, &digit)| {
                *sum = sum.wrapping_add((digit as u64) << gadget.place(64, t));
            });
        }
        for (sum, word) in sums.iter().zip(&words) {
            let error = sum.wrapping_sub(*word) as i64;
            assert!(error.unsigned_abs() <= 1 << 27, "{error}");
        }
    }

    /// What is applied to secret halves leaves none of them in freed memory.
    #[test]
    fn moved_halves_are_wiped_when_dropped() {
        fn wiped<T: zeroize::ZeroizeOnDrop>(_: &T) {}
        let ring = Ring::<u64>::shared(&T64N2048).unwrap();
        let gadget = Gadget { bits: 12, levels: 1 };
        let mask = Mask::expand(ring, &EpochSeed([4; 32]), MaskId { layer: 0, ciphertext: 0 });
        let switch = Switch::new(ring, 3, gadget, &[mask], &[vec![0; 2048]]);
        switch.apply(&[1; 2048], &[2; 2048]).iter().for_each(wiped);
    }

    /// The phase moves, and the noise is that of the formula within 5 %.
    #[test]
    fn a_switched_ciphertext_has_the_moved_phase() {
        let ring = Ring::<u64>::shared(&T64N2048).unwrap();
        let (gadget, g) = (Gadget { bits: 12, levels: 3 }, 2048 / 8 + 1);
        let mut rng = ChaCha20Rng::seed_from_u64(2);
        let mut secret = Secret::generate(ring, &mut rng);
        let mask = |ciphertext| Mask::expand(ring, &EpochSeed([4; 32]), MaskId { layer: 0, ciphertext });
        let masks: Vec<_> = (0..3).map(mask).collect();
        let bodies: Vec<Vec<u64>> = (0..3)
            .map(|t| secret.switch_body(&masks[t as usize], g, gadget.place(64, t), &mut rng).unwrap().to_vec())
            .collect();
        let switch = Switch::new(ring, g, gadget, &masks, &bodies);
        let (mut squares, runs) = (0.0, 4);
        for _ in 0..runs {
            let [a, b] = [0; 2].map(|_| (0..2048).map(|_| rng.next_u64()).collect::<Vec<u64>>());
            let phase = |a: &[u64], b: &[u64]| -> Vec<u64> {
                secret.phase_share(&ring.forward(a)).iter().zip(b).map(|(c, b)| c.wrapping_add(*b)).collect()
            };
            let expected = automorphism(&phase(&a, &b), g);
            let [a, b] = switch.apply(&a, &b);
            let errors = phase(&a, &b).into_iter().zip(expected).map(|(x, y)| x.wrapping_sub(y) as i64 as f64);
            squares += errors.map(|error| error * error).sum::<f64>();
        }
        let sigma2 = T64N2048.sigma2();
        let v = 3.0 * 2048.0 * 4f64.powi(12) / 12.0 * sigma2 + 2048.0 * 2.0 / 3.0 * 4f64.powi(28) / 12.0;
        let measured = (squares / f64::from(runs * 2048) / v).sqrt();
        assert!((0.95..1.05).contains(&measured), "{measured}");
    }
}
