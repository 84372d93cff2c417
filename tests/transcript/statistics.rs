//! Is it uniform? Normalised statistics with one threshold.
//!
//! Each statistic is, for uniform data, within 6 of zero except with probability below 10^-6: of a sum of n fair bits by
//! Hoeffding's inequality (2 exp(-18) < 4 10^-8 for any n), of a chi-square on 255 degrees of freedom by the cube-root
//! approximation of Wilson and Hilferty, which is good to a few parts in a thousand there.

/// Beyond this, data are not uniform.
pub const LIMIT: f64 = 6.0;

/// Bits below which bytes are not counted: 20 expected in each of the 256 bins.
pub const FEW_BITS: usize = 8 * 256 * 20;

/// (ones - n/2) / sqrt(n/4).
pub fn balance(ones: u64, n: u64) -> f64 {
    (ones as f64 - n as f64 / 2.0) / (n as f64 / 4.0).sqrt()
}

/// The ones of two samples of fair bits against each other.
pub fn imbalance(first: (u64, u64), second: (u64, u64)) -> f64 {
    let [(a, m), (b, n)] = [first, second].map(|(ones, n)| (ones as f64, n as f64));
    (a / m - b / n) / (0.25 / m + 0.25 / n).sqrt()
}

/// How often each byte occurs among bits taken by eight.
pub fn bytes(bits: impl IntoIterator<Item = bool>) -> [u64; 256] {
    let mut counts = [0; 256];
    let mut pending = (0u8, 0);
    for bit in bits {
        pending = (pending.0 << 1 | u8::from(bit), pending.1 + 1);
        if pending.1 == 8 {
            counts[usize::from(pending.0)] += 1;
            pending = (0, 0);
        }
    }
    counts
}

/// Pearson's statistic of equally likely bytes, as a normal deviate.
pub fn uniformity(counts: &[u64; 256]) -> f64 {
    let expected = counts.iter().sum::<u64>() as f64 / 256.0;
    normal(counts.iter().map(|&count| (count as f64 - expected).powi(2) / expected).sum(), 255.0)
}

/// Pearson's statistic of two samples with the same distribution, whatever it is, as a normal deviate.
pub fn homogeneity(first: &[u64; 256], second: &[u64; 256]) -> f64 {
    let [m, n] = [first, second].map(|counts| counts.iter().sum::<u64>() as f64);
    let (r, s) = ((n / m).sqrt(), (m / n).sqrt());
    let terms = first.iter().zip(second).map(|(&a, &b)| match a + b {
        0 => 0.0,
        sum => (r * a as f64 - s * b as f64).powi(2) / sum as f64,
    });
    normal(terms.sum(), 255.0)
}

/// Wilson and Hilferty's approximation: the cube root of chi-square / k is nearly normal.
fn normal(chi_square: f64, k: f64) -> f64 {
    let variance = 2.0 / (9.0 * k);
    ((chi_square / k).cbrt() - (1.0 - variance)) / variance.sqrt()
}

mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha20Rng;

    fn counts(n: usize, mut byte: impl FnMut() -> u8) -> [u64; 256] {
        let mut counts = [0; 256];
        (0..n).for_each(|_| counts[usize::from(byte())] += 1);
        counts
    }

    /// Of a thousand uniform samples the deviates have mean 0 and variance 1, and none is beyond the limit.
    #[test]
    fn the_statistics_are_standard_normal_deviates() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let mut byte = || rng.next_u32() as u8;
        let mut deviates: [Vec<f64>; 3] = Default::default();
        for _ in 0..1000 {
            let (a, b) = (counts(5120, &mut byte), counts(7000, &mut byte));
            deviates[0].push(uniformity(&a));
            deviates[1].push(homogeneity(&a, &b));
            deviates[2].push(balance((0..64).map(|_| u64::from(byte() & 1)).sum(), 64));
        }
        for deviates in deviates {
            let n = deviates.len() as f64;
            let mean = deviates.iter().sum::<f64>() / n;
            let variance = deviates.iter().map(|z| (z - mean).powi(2)).sum::<f64>() / n;
            assert!(mean.abs() < 0.2 && (variance - 1.0).abs() < 0.25, "mean {mean}, variance {variance}");
            assert!(deviates.iter().all(|z| z.abs() < LIMIT));
        }
    }

    #[test]
    fn they_notice_one_percent_of_bias() {
        let mut rng = ChaCha20Rng::seed_from_u64(2);
        let mut biased = || if rng.next_u32() % 100 == 0 { 0 } else { rng.next_u32() as u8 };
        let sample = counts(100_000, &mut biased);
        let uniform = counts(100_000, || ChaCha20Rng::next_u32(&mut rng) as u8);
        assert!(uniformity(&sample) > 2.0 * LIMIT);
        assert!(homogeneity(&sample, &uniform) > 2.0 * LIMIT);
    }
}
