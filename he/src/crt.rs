//! Residues modulo the primes of the transform, and Garner's reconstruction: x mod q from x mod p_0, x mod p_1, ...
//!
//! The primes are those of `tfhe-ntt` (`native_binary32`, `native_binary64`): just below 2^30 and 1 mod 2^16, so that
//! negacyclic transforms exist up to N = 2^15. Two of them serve the 32-bit torus, three the 64-bit torus. The crate's
//! own `Plan32` types hide their prime plans and accept neither signed factors nor accumulators, so the two passes
//! around the transforms are written here.
//!
//! **Exactness.** Let M be the product of the primes and P its last prime. A signed integer x with |x| <= (M - M/P)/2
//! has mixed-radix digits v_0 + v_1 p_0 + ... of x mod M whose last digit is at most (P-1)/2 iff x >= 0:
//!
//! * x >= 0: x < (M/P) (P+1)/2, so the last digit is below (P+1)/2;
//! * x < 0: x + M >= M - (M/P)(P-1)/2 = (M/P)(P+1)/2, so the last digit is at least (P+1)/2.
//!
//! Subtracting M in the second case gives x itself, hence x mod q. [`Residues::LIMIT`] is that bound, about 2^58.97 for
//! two primes and 2^88.96 for three.
//!
//! No branch and no address depends on the values.

use crate::simd::vectorize;

const P0: u32 = 0x3f5a_0001;
const P1: u32 = 0x3f5d_0001;
const P2: u32 = 0x3f76_0001;

/// A torus word seen through the primes. The supertrait of `TorusWord` that keeps it closed.
pub trait Residues: Sized + 'static {
    /// The primes, ascending.
    const PRIMES: &'static [u32];
    /// Largest magnitude of a signed integer that [`reconstruct`](Self::reconstruct) returns exactly.
    const LIMIT: u128;

    /// Writes `values`, as integers in \[0, q), modulo each prime: one run of N residues after the other.
    fn reduce(values: &[Self], residues: &mut [u32]);

    /// The inverse of [`reduce`](Self::reduce) for integers within [`LIMIT`](Self::LIMIT), mod q, after division by
    /// the degree: `inverse_degree` has 1/N modulo each prime.
    fn reconstruct(residues: &[u32], inverse_degree: &[Factor], values: &mut [Self]);
}

/// A fixed factor b modulo p with its Shoup quotient floor(2^32 b / p).
#[derive(Debug, Clone, Copy)]
pub struct Factor {
    value: u32,
    quotient: u32,
}

impl Factor {
    const fn new(value: u64, p: u32) -> Self {
        let value = (value % p as u64) as u32;
        Self { value, quotient: (((value as u64) << 32) / p as u64) as u32 }
    }

    /// The inverse of `value`, by Fermat.
    pub(crate) const fn inverse(value: u64, p: u32) -> Self {
        let (mut power, mut square, mut exponent) = (1, value % p as u64, p - 2);
        while exponent > 0 {
            if exponent & 1 == 1 {
                power = power * square % p as u64;
            }
            square = square * square % p as u64;
            exponent >>= 1;
        }
        Self::new(power, p)
    }

    /// a * b mod p, in \[0, p), for any word a and p < 2^31 (Shoup: the quotient is off by at most one).
    #[inline(always)]
    fn times(self, a: u32, p: u32) -> u32 {
        let quotient = ((u64::from(a) * u64::from(self.quotient)) >> 32) as u32;
        once(a.wrapping_mul(self.value).wrapping_sub(quotient.wrapping_mul(p)), p)
    }
}

/// x mod p for x < 2p.
#[inline(always)]
fn once(x: u32, p: u32) -> u32 {
    x.min(x.wrapping_sub(p))
}

/// x mod p for any word x and 2^30 - 2^24 < p < 2^30: with p = 2^30 - d, x - (x >> 30) p <= 2^30 - 1 + 3 d < 2p.
#[inline(always)]
fn reduce_word(x: u32, p: u32) -> u32 {
    once(x - (x >> 30) * p, p)
}

/// x mod p as (high word mod p) * 2^32 + (low word mod p).
#[inline(always)]
fn residue<const P: u32>(x: u64) -> u32 {
    let high = const { Factor::new(1 << 32, P) }.times((x >> 32) as u32, P);
    once(high + reduce_word(x as u32, P), P)
}

/// Residues modulo the first two primes of words as signed integers of at most 50 bits, which `integer` makes of them.
pub(crate) fn reduce_multiples<W: Copy>(values: &[W], integer: impl Fn(W) -> i64, residues: &mut [u32]) {
    /// Of a signed integer of at most 50 bits: a multiple of p above 2^49 is added.
    #[inline(always)]
    fn signed<const P: u32>(x: i64) -> u32 {
        residue::<P>((x + ((P as i64) << 20)) as u64)
    }
    let (r0, r1) = residues.split_at_mut(values.len());
    vectorize(
        #[inline(always)]
        || {
            for ((&x, r0), r1) in values.iter().zip(r0).zip(r1) {
                let x = integer(x);
                *r0 = signed::<P0>(x);
                *r1 = signed::<P1>(x);
            }
        },
    );
}

/// The inverse of [`reduce_multiples`], for integers within the limit of two primes, after division by the degree: modulo 2^64, and then
/// by `word`.
pub(crate) fn reconstruct_multiples<W: Copy>(
    residues: &[u32],
    inverse_degree: &[Factor],
    word: impl Fn(u64) -> W,
    values: &mut [W],
) {
    const M: u64 = P0 as u64 * P1 as u64;
    let (r0, r1) = residues.split_at(values.len());
    let (n0, n1) = (inverse_degree[0], inverse_degree[1]);
    vectorize(
        #[inline(always)]
        || {
            for ((x, &r0), &r1) in values.iter_mut().zip(r0).zip(r1) {
                let v0 = n0.times(r0, P0);
                let v1 = second_digit(v0, n1.times(r1, P1));
                let negative = u64::from(v1 > P1 / 2).wrapping_neg();
                let value = (u64::from(v0) + u64::from(v1) * u64::from(P0)).wrapping_sub(negative & M);
                *x = word(value);
            }
        },
    );
}

/// Each residue of a small signed integer: p is added to the negative ones. |x| < p.
#[inline(always)]
pub(crate) fn reduce_small(x: i64, p: u32) -> u32 {
    (x + ((x >> 63) & i64::from(p))) as u32
}

/// 1 / p_0 mod p_1.
const P0_INVERSE: Factor = Factor::inverse(P0 as u64, P1);
/// 1 / (p_0 p_1) mod p_2.
const P01_INVERSE: Factor = Factor::inverse(P0 as u64 * P1 as u64, P2);
/// p_0 mod p_2.
const P0_FACTOR: Factor = Factor::new(P0 as u64, P2);

/// v1 of the number v0 + v1 p_0 + .. that has the residue r1 modulo p_1.
#[inline(always)]
fn second_digit(v0: u32, r1: u32) -> u32 {
    P0_INVERSE.times(r1 + 2 * P1 - v0, P1)
}

impl Residues for u32 {
    const PRIMES: &'static [u32] = &[P0, P1];
    const LIMIT: u128 = P0 as u128 * (P1 / 2) as u128;

    fn reduce(values: &[Self], residues: &mut [u32]) {
        let (r0, r1) = residues.split_at_mut(values.len());
        vectorize(
            #[inline(always)]
            || {
                for ((&x, r0), r1) in values.iter().zip(r0).zip(r1) {
                    *r0 = reduce_word(x, P0);
                    *r1 = reduce_word(x, P1);
                }
            },
        );
    }

    fn reconstruct(residues: &[u32], inverse_degree: &[Factor], values: &mut [Self]) {
        const M: u32 = P0.wrapping_mul(P1);
        let (r0, r1) = residues.split_at(values.len());
        let (n0, n1) = (inverse_degree[0], inverse_degree[1]);
        vectorize(
            #[inline(always)]
            || {
                for ((x, &r0), &r1) in values.iter_mut().zip(r0).zip(r1) {
                    let v0 = n0.times(r0, P0);
                    let v1 = second_digit(v0, n1.times(r1, P1));
                    let negative = u32::from(v1 > P1 / 2).wrapping_neg();
                    *x = v0.wrapping_add(v1.wrapping_mul(P0)).wrapping_sub(negative & M);
                }
            },
        );
    }
}

impl Residues for u64 {
    const PRIMES: &'static [u32] = &[P0, P1, P2];
    const LIMIT: u128 = P0 as u128 * P1 as u128 * (P2 / 2) as u128;

    fn reduce(values: &[Self], residues: &mut [u32]) {
        let (r0, rest) = residues.split_at_mut(values.len());
        let (r1, r2) = rest.split_at_mut(values.len());
        vectorize(
            #[inline(always)]
            || {
                for (((&x, r0), r1), r2) in values.iter().zip(r0).zip(r1).zip(r2) {
                    *r0 = residue::<P0>(x);
                    *r1 = residue::<P1>(x);
                    *r2 = residue::<P2>(x);
                }
            },
        );
    }

    fn reconstruct(residues: &[u32], inverse_degree: &[Factor], values: &mut [Self]) {
        const P01: u64 = P0 as u64 * P1 as u64;
        const M: u64 = P01.wrapping_mul(P2 as u64);
        let (r0, rest) = residues.split_at(values.len());
        let (r1, r2) = rest.split_at(values.len());
        let (n0, n1, n2) = (inverse_degree[0], inverse_degree[1], inverse_degree[2]);
        vectorize(
            #[inline(always)]
            || {
                for (((x, &r0), &r1), &r2) in values.iter_mut().zip(r0).zip(r1).zip(r2) {
                    let v0 = n0.times(r0, P0);
                    let v1 = second_digit(v0, n1.times(r1, P1));
                    let lower = v0 + P0_FACTOR.times(v1, P2);
                    let v2 = P01_INVERSE.times(n2.times(r2, P2) + 2 * P2 - lower, P2);
                    let negative = u64::from(v2 > P2 / 2).wrapping_neg();
                    *x = (u64::from(v0) + u64::from(v1) * u64::from(P0))
                        .wrapping_add(u64::from(v2).wrapping_mul(P01))
                        .wrapping_sub(negative & M);
                }
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Residues of a signed integer by the definition.
    fn residues_of(x: i128, primes: &[u32]) -> Vec<u32> {
        primes.iter().map(|&p| x.rem_euclid(i128::from(p)) as u32).collect()
    }

    fn reconstructed<W: Residues + Copy + Default>(x: i128) -> W {
        let one: Vec<Factor> = W::PRIMES.iter().map(|&p| Factor::new(1, p)).collect();
        let mut value = [W::default()];
        W::reconstruct(&residues_of(x, W::PRIMES), &one, &mut value);
        value[0]
    }

    #[test]
    fn the_primes_support_every_degree_and_the_limits_are_as_stated() {
        for p in [P0, P1, P2] {
            assert_eq!(p % (1 << 16), 1);
            assert!(p < 1 << 30 && p > (1 << 30) - (1 << 24));
        }
        let product = |primes: &[u32]| primes.iter().map(|&p| u128::from(p)).product::<u128>();
        for (primes, limit) in [(u32::PRIMES, u32::LIMIT), (u64::PRIMES, u64::LIMIT)] {
            let (m, last) = (product(primes), u128::from(primes[primes.len() - 1]));
            assert_eq!(limit, (m - m / last) / 2);
        }
    }

    #[test]
    fn reconstruction_is_exact_up_to_the_limit_and_not_beyond() {
        let (limit32, limit64) = (u32::LIMIT as i128, u64::LIMIT as i128);
        for x in [0, 1, -1, limit32, -limit32, limit32 - 1, 1 - limit32] {
            assert_eq!(reconstructed::<u32>(x), x as u32, "{x}");
        }
        for x in [0, 1, -1, limit64, -limit64, limit64 - 1, 1 - limit64] {
            assert_eq!(reconstructed::<u64>(x), x as u64, "{x}");
        }
        assert_ne!(reconstructed::<u32>(-limit32 - 1), (-limit32 - 1) as u32);
        assert_ne!(reconstructed::<u64>(-limit64 - 1), (-limit64 - 1) as u64);
    }

    /// Up to 48 bits and the limit of two primes, whatever was cut off.
    #[test]
    fn multiples_come_back() {
        let one: Vec<Factor> = u64::PRIMES.iter().map(|&p| Factor::new(1, p)).collect();
        for zeros in [14, 16, 24, 40, 63] {
            let most = 1i64 << (63 - zeros);
            for x in [-most, 1 - most, -1, 0, most - 1, most / 3] {
                let word = (x << zeros) as u64;
                let mut residues = [0; 2];
                reduce_multiples(&[word], |x: u64| x.cast_signed() >> zeros, &mut residues);
                assert_eq!(&residues[..], residues_of(x.into(), u32::PRIMES), "{x} {zeros}");
            }
            let limit = u32::LIMIT as i128;
            for x in [-limit, 1 - limit, -1, 0, 1, limit - 1, limit, -limit - 1] {
                let mut word = [0u64];
                reconstruct_multiples(&residues_of(x, u32::PRIMES), &one, |x| x << zeros, &mut word);
                assert_eq!(word[0] == (x as u64) << zeros, x >= -limit, "{x} {zeros}");
            }
        }
        let mut word = [0u32];
        reconstruct_multiples(&residues_of(-5, u32::PRIMES), &one, |x| (x as u32) << 3, &mut word);
        assert_eq!(word, [-40i32 as u32]);
    }

    proptest! {
        #[test]
        fn residues_are_reduced_and_come_back(x: u64, y in -(u64::LIMIT as i128)..=u64::LIMIT as i128) {
            let mut residues = [0; 3];
            u64::reduce(&[x], &mut residues);
            prop_assert_eq!(&residues[..], &residues_of(i128::from(x), u64::PRIMES)[..]);
            u32::reduce(&[x as u32], &mut residues[..2]);
            prop_assert_eq!(&residues[..2], &residues_of(i128::from(x as u32), u32::PRIMES)[..]);
            prop_assert_eq!(reconstructed::<u64>(y), y as u64);
            let y = y % u32::LIMIT as i128;
            prop_assert_eq!(reconstructed::<u32>(y), y as u32);
            for p in [P0, P1, P2] {
                let small = (y % i128::from(p)) as i64;
                prop_assert_eq!(reduce_small(small, p), residues_of(i128::from(small), &[p])[0]);
            }
        }
    }
}
