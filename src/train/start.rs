//! First weights: uniform, with the variance of He et al. (2015) for rectifiers; biases are zero.

use rand::Rng;

use super::format::{Format, Net};

/// Masters of every layer: uniform between -sqrt(6 / k) and sqrt(6 / k) for k inputs.
pub(super) fn masters(net: &Net, format: &Format, rng: &mut impl Rng) -> Vec<Vec<i64>> {
    let mut layer = |i: usize| {
        let bound = (6.0 / net.inputs(i) as f64).sqrt() * f64::from(format.master).exp2();
        let span = 2 * bound as u64 + 1;
        let mut word = || ((u128::from(rng.next_u64()) * u128::from(span)) >> 64) as i64 - (span / 2) as i64;
        let mut masters: Vec<i64> = (0..net.inputs(i) * net.outputs(i)).map(|_| word()).collect();
        masters.resize(net.weights(i), 0);
        masters
    };
    (0..net.layers()).map(&mut layer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    /// The variance is 2 / k, the mean zero.
    #[test]
    fn variances_are_those_of_rectifiers() {
        let (net, format) = (Net::a(), Format::NARROW);
        let all = masters(&net, &format, &mut rand_chacha::ChaCha20Rng::seed_from_u64(1));
        for (i, layer) in all.iter().enumerate() {
            let (weights, bias) = layer.split_at(net.inputs(i) * net.outputs(i));
            assert_eq!(bias, vec![0; net.outputs(i)]);
            let reals: Vec<f64> = weights.iter().map(|w| *w as f64 / 8192.0).collect();
            let count = reals.len() as f64;
            let (mean, square) = (reals.iter().sum::<f64>() / count, reals.iter().map(|w| w * w).sum::<f64>() / count);
            let variance = 2.0 / net.inputs(i) as f64;
            assert!((square / variance - 1.0).abs() < 5.0 / count.sqrt(), "layer {i}: {square} for {variance}");
            assert!(mean.abs() < 5.0 * (variance / count).sqrt(), "layer {i}: {mean}");
        }
    }
}
