//! Random small polynomials: uniform ternary and TUniform(b), from the caller's generator, in bulk.

use rand::CryptoRng;
use zeroize::Zeroizing;

use crate::simd::vectorize;
use crate::word::TorusWord;

/// Random bytes drawn at a time.
const BLOCK: usize = 4096;

/// Fills `out` with independent uniform values from {-1, 0, 1}.
///
/// By rejection: the generator's bytes are read as 2-bit values v, v = 3 is skipped, v - 1 is the sample. Which values
/// are skipped, and hence the time, is independent of the values kept. No branch depends on a value kept.
pub(crate) fn ternary<R: CryptoRng>(rng: &mut R, out: &mut [i8]) {
    let mut bytes = Zeroizing::new([0; BLOCK / 4]);
    let mut filled = 0;
    while filled < out.len() {
        rng.fill_bytes(&mut bytes[..]);
        for byte in bytes.iter() {
            for shift in [0, 2, 4, 6] {
                if filled == out.len() {
                    return;
                }
                let value = (byte >> shift & 3) as i8;
                out[filled] = value - 1;
                filled += usize::from(value != 3);
            }
        }
    }
}

/// Replaces each x in `out` by e - x with e independent, TUniform(`bound`), `bound` <= 30.
///
/// The low b+2 bits r of a little-endian word of the generator (16 bits if they suffice, else 32) give e =
/// floor((r+1)/2) - 2^b: every value strictly between -2^b and 2^b has two preimages, the ends have one. There is no
/// rejection and no branch.
pub(crate) fn noise_minus<W: TorusWord, R: CryptoRng>(rng: &mut R, bound: u32, out: &mut [W]) {
    let mut bytes = Zeroizing::new([0; BLOCK]);
    let mask = (1 << (bound + 2)) - 1;
    let sample = |word: u32| i64::from(((word & mask) + 1) >> 1) - (1 << bound);
    if bound + 2 <= 16 {
        for run in out.chunks_mut(BLOCK / 2) {
            let bytes = &mut bytes[..2 * run.len()];
            rng.fill_bytes(bytes);
            vectorize(
                #[inline(always)]
                || {
                    for (x, word) in run.iter_mut().zip(bytes.as_chunks::<2>().0) {
                        *x = W::from_i64(sample(u16::from_le_bytes(*word).into())).wrapping_sub(*x);
                    }
                },
            );
        }
    } else {
        for run in out.chunks_mut(BLOCK / 4) {
            let bytes = &mut bytes[..4 * run.len()];
            rng.fill_bytes(bytes);
            vectorize(
                #[inline(always)]
                || {
                    for (x, word) in run.iter_mut().zip(bytes.as_chunks::<4>().0) {
                        *x = W::from_i64(sample(u32::from_le_bytes(*word))).wrapping_sub(*x);
                    }
                },
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha20Rng;

    /// Pearson's statistic, normalised to mean 0 and variance 1 for many bins.
    fn chi_square(counts: &[u64], weights: &[f64]) -> f64 {
        let (samples, total) = (counts.iter().sum::<u64>() as f64, weights.iter().sum::<f64>());
        let statistic: f64 = counts
            .iter()
            .zip(weights)
            .map(|(&count, weight)| {
                let expected = samples * weight / total;
                (count as f64 - expected).powi(2) / expected
            })
            .sum();
        let freedom = (counts.len() - 1) as f64;
        (statistic - freedom) / (2.0 * freedom).sqrt()
    }

    #[test]
    fn ternary_is_uniform_and_uncorrelated() {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let mut samples = vec![0; 300_001];
        ternary(&mut rng, &mut samples);
        let mut pairs = [0; 9];
        for pair in samples.windows(2) {
            pairs[((pair[0] + 1) * 3 + pair[1] + 1) as usize] += 1;
        }
        let statistic = chi_square(&pairs, &[1.0; 9]);
        assert!(statistic.abs() < 4.0, "{statistic}: {pairs:?}");
    }

    #[test]
    fn ternary_maps_two_bits_and_skips_three() {
        struct Script;
        impl rand::TryRng for Script {
            type Error = std::convert::Infallible;
            fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
                Ok(0b1110_0100)
            }
            fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
                Ok(0b1110_0100)
            }
            fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
                bytes.fill(0b1110_0100);
                Ok(())
            }
        }
        impl rand::TryCryptoRng for Script {}
        let mut samples = [9; 7];
        ternary(&mut Script, &mut samples);
        assert_eq!(samples, [-1, 0, 1, -1, 0, 1, -1]);
    }

    #[test]
    fn noise_is_tuniform_for_every_set() {
        for set in params::ALL {
            let mut rng = ChaCha20Rng::from_seed([set.id; 32]);
            let mut samples = vec![0u64; 1 << 20];
            noise_minus(&mut rng, set.noise_bound, &mut samples);
            let bound = 1i64 << set.noise_bound;
            // The ends have half the weight. Wide distributions are grouped into runs of 2^(b-3), the upper end apart.
            let run = (bound >> 3).max(1);
            let mut counts = vec![0; (2 * bound / run) as usize + 1];
            let mut weights = vec![run as f64; counts.len()];
            weights[0] -= 0.5;
            *weights.last_mut().unwrap() = 0.5;
            for sample in &samples {
                let sample = *sample as i64;
                assert!(sample.abs() <= bound);
                counts[((sample + bound) / run) as usize] += 1;
            }
            if run > 1 {
                // Hardly ever hit: not a bin for Pearson's statistic.
                counts.pop();
                weights.pop();
            }
            let statistic = chi_square(&counts, &weights);
            assert!(statistic.abs() < 4.0, "{}: {statistic}", set.name);
            let (mut sum, mut squares) = (0.0, 0.0);
            for sample in &samples {
                sum += *sample as i64 as f64;
                squares += (*sample as i64 as f64).powi(2);
            }
            let (count, sigma2) = (samples.len() as f64, set.sigma2());
            assert!((sum / count).abs() < 4.0 * (sigma2 / count).sqrt(), "{}", set.name);
            assert!((squares / count / sigma2 - 1.0).abs() < 0.005, "{}", set.name);
        }
    }

    #[test]
    fn noise_is_added_to_the_opposite() {
        let mut rng = ChaCha20Rng::from_seed([7; 32]);
        let before: Vec<u32> = (0..5000).map(|_| rng.next_u32()).collect();
        let (mut zeros, mut after) = (vec![0u32; 5000], before.clone());
        noise_minus(&mut ChaCha20Rng::from_seed([8; 32]), 3, &mut zeros);
        noise_minus(&mut ChaCha20Rng::from_seed([8; 32]), 3, &mut after);
        for ((before, noise), after) in before.iter().zip(&zeros).zip(&after) {
            assert_eq!(*after, noise.wrapping_sub(*before));
        }
    }
}
