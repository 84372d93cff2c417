//! t * w for a w of few coefficients, all of them low: as an inner product of each coefficient's surroundings.
//!
//! ```text
//! (t * w)_i = sum_{m < T} w_m t_{i-m},     t_{-i} = -t_{N-i}
//! ```
//!
//! Words wrap, so that neither the size of w nor that of a sum matters; and N T multiplications are fewer than those of
//! transforms up to some tens of taps.

use zeroize::Zeroize;

use crate::simd::vectorize;
use crate::word::TorusWord;

/// Outputs that are summed up at a time, in registers.
const RUN: usize = 32;

/// A torus polynomial preceded by its negated upper end, for w of up to `reach` + 1 coefficients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tapped<W: TorusWord> {
    reach: usize,
    words: Vec<W>,
}

impl<W: TorusWord> Tapped<W> {
    /// Of a torus polynomial of N coefficients; `reach` is below N.
    pub fn new(torus: &[W], reach: usize) -> Self {
        let end = torus[torus.len() - reach..].iter().map(|word| word.wrapping_neg());
        Self { reach, words: end.chain(torus.iter().copied()).collect() }
    }

    /// The degree N.
    pub fn degree(&self) -> usize {
        self.words.len() - self.reach
    }

    /// out += t * w for w = sum_m `taps`\[m\] X^m, mod q. No branch and no address depends on a coefficient.
    ///
    /// # Panics
    /// If there are more than reach + 1 taps, or `out` does not have N words.
    pub fn mul_acc(&self, taps: &[i64], out: &mut [W]) {
        assert!(taps.len() <= self.reach + 1, "{} taps reach too far", taps.len());
        assert_eq!(out.len(), self.degree());
        vectorize(
            #[inline(always)]
            || {
                let (runs, rest) = out.as_chunks_mut::<RUN>();
                for (run, out) in runs.iter_mut().enumerate() {
                    let at = self.reach + RUN * run;
                    let mut sums = *out;
                    for (m, &tap) in taps.iter().enumerate() {
                        let tap = W::from_i64(tap);
                        let words: &[W; RUN] = self.words[at - m..].first_chunk().expect("within the polynomial");
                        for (sum, word) in sums.iter_mut().zip(words) {
                            *sum = sum.wrapping_add(word.wrapping_mul(tap));
                        }
                    }
                    *out = sums;
                }
                let at = self.reach + RUN * runs.len();
                for (i, out) in rest.iter_mut().enumerate() {
                    for (m, &tap) in taps.iter().enumerate() {
                        *out = out.wrapping_add(self.words[at + i - m].wrapping_mul(W::from_i64(tap)));
                    }
                }
            },
        );
    }
}

impl<W: TorusWord> Zeroize for Tapped<W> {
    fn zeroize(&mut self) {
        self.words.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::T64N2048;
    use crate::ring::Ring;
    use rand::{Rng, RngExt, SeedableRng};
    use rand_chacha::ChaCha20Rng;

    #[test]
    fn it_is_the_product_of_the_ring() {
        let ring = Ring::<u64>::shared(&T64N2048).unwrap();
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let torus: Vec<u64> = (0..ring.degree()).map(|_| rng.next_u64()).collect();
        let tapped = Tapped::new(&torus, 40);
        for count in [1, 2, 16, 41] {
            let taps: Vec<i64> = (0..count).map(|_| rng.random_range(-1000..=1000)).collect();
            let mut small = vec![0; ring.degree()];
            small[..count].copy_from_slice(&taps);
            let mut exact = ring.zero();
            ring.mul_acc(&mut exact, &ring.forward(&torus), &ring.forward_small(&small).unwrap());
            let mut out = vec![0; ring.degree()];
            tapped.mul_acc(&taps, &mut out);
            assert_eq!(out, ring.inverse(&exact), "{count}");
        }
    }

    /// Any length, any size of w.
    #[test]
    fn it_is_the_definition_for_words_of_both_widths() {
        fn check<W: TorusWord>(n: usize, rng: &mut ChaCha20Rng) {
            let torus: Vec<W> = (0..n).map(|_| W::from_u64(rng.next_u64())).collect();
            let taps: Vec<i64> = (0..n.min(7)).map(|_| rng.next_u64() as i64).collect();
            let mut out = vec![W::from_u64(5); n];
            let mut expected = out.clone();
            Tapped::new(&torus, taps.len() - 1).mul_acc(&taps, &mut out);
            for (m, &tap) in taps.iter().enumerate() {
                for (i, &word) in torus.iter().enumerate() {
                    let product = word.wrapping_mul(W::from_i64(tap));
                    let at = &mut expected[(i + m) % n];
                    *at = if i + m < n { at.wrapping_add(product) } else { at.wrapping_sub(product) };
                }
            }
            assert_eq!(out, expected, "{n}");
        }
        let mut rng = ChaCha20Rng::seed_from_u64(2);
        for n in [1, 5, 31, 32, 33, 64, 100] {
            check::<u32>(n, &mut rng);
            check::<u64>(n, &mut rng);
        }
    }
}
