//! The noise of a small linear layer, measured on the real path against the written formula, for every parameter set;
//! and the same layer with one source of noise silenced, which the measurement must notice.

mod common;

use common::{ring, seeded, signed};
use lowkey_he::noise::{Cross, NoiseTerms, allowed, margin_bits, required};
use lowkey_he::params::T32N2048;
use lowkey_he::{
    Draw, EpochSeed, Evaluator, Hint, Mask, MaskId, Norms, ParameterSet, Rounding, Secret, TorusWord, floor_share,
    publish, round_all, round_to,
};
use rand::{Rng, RngExt, TryCryptoRng, TryRng};
use rand_chacha::ChaCha20Rng;
use std::convert::Infallible;

const CIPHERTEXTS: usize = 3;
const OUTPUTS: usize = 4;
const SECRETS: usize = 6;

/// A source of noise that a run can leave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    BodyNoise,
    BodyRounding,
    RerandomiserNoise,
    RerandomiserRounding,
    HintNoise,
    HintRounding,
    Rerandomiser,
}

use Source::*;

/// A generator whose bytes make noise samples zero (the word 2^(b+1)), or ternary ones (2-bit values 1).
///
/// The samplers draw ternary bytes by 1024 and noise by other lengths. If that changes, the runs with a silenced source
/// stop deviating and fail.
struct Silenced<'a> {
    rng: &'a mut ChaCha20Rng,
    noise: Option<u32>,
    ternary: bool,
}

impl TryRng for Silenced<'_> {
    type Error = Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.rng.next_u32())
    }
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.rng.next_u64())
    }
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        match (bytes.len() == 1024, self.ternary, self.noise) {
            (true, true, _) => bytes.fill(0x55),
            (false, _, Some(bound)) => {
                let word = (1u32 << (bound + 1)).to_le_bytes();
                let width = if bound + 2 <= 16 { 2 } else { 4 };
                bytes.chunks_exact_mut(width).for_each(|out| out.copy_from_slice(&word[..width]));
            }
            _ => self.rng.fill_bytes(bytes),
        }
        Ok(())
    }
}

impl TryCryptoRng for Silenced<'_> {}

/// Equal shares of the variance for every source: 4^(b+1)/12 = sigma^2, |w|^2 = |u|^2 = 2N/3.
fn rounding(set: &ParameterSet) -> u32 {
    set.noise_bound + 1
}

/// Sparse weights of one output: CIPHERTEXTS polynomials with |w|^2 about 2N/3 together.
fn sparse_weights(rng: &mut ChaCha20Rng, degree: usize) -> Vec<Vec<(usize, i32)>> {
    // The mean square of -7..=7 without 0 is 20.
    let taps = 2 * degree / (3 * 20 * CIPHERTEXTS);
    let mut positions: Vec<usize> = (0..degree).collect();
    let mut polynomial = || {
        (0..taps)
            .map(|i| {
                let j = rng.random_range(i..degree);
                positions.swap(i, j);
                let magnitude = rng.random_range(1..=7);
                (positions[i], if rng.random() { magnitude } else { -magnitude })
            })
            .collect()
    };
    (0..CIPHERTEXTS).map(|_| polynomial()).collect()
}

/// acc += the sparse polynomial times `torus`, by the definition.
fn sparse_product<W: TorusWord>(acc: &mut [W], torus: &[W], weights: &[(usize, i32)]) {
    let n = acc.len();
    for &(index, weight) in weights {
        let weight = W::from_i64(weight.into());
        for (i, word) in torus.iter().enumerate() {
            let at = &mut acc[(i + index) % n];
            let term = word.wrapping_mul(weight);
            *at = if i + index < n { at.wrapping_add(term) } else { at.wrapping_sub(term) };
        }
    }
}

/// What a run measures.
struct Measured {
    /// Mean of error^2 / V over all samples.
    variance: f64,
    /// Mean of error / sqrt(V).
    mean: f64,
    samples: usize,
    /// Pearson's statistic of the top 6 bits of hint - evaluated, normalised to mean 0 and variance 1.
    uniformity: f64,
}

/// Runs the layer with all noise but `without`, and compares with the formula for all noise.
fn measure<W: TorusWord>(set: &'static ParameterSet, without: Option<Source>, seed: u64) -> Measured {
    let (ring, mut rng, n) = (ring::<W>(set), seeded(seed), set.degree);
    let epoch = EpochSeed(rng.random());
    let masks: Vec<Mask<W>> =
        (0..CIPHERTEXTS as u32).map(|ciphertext| Mask::expand(ring, &epoch, MaskId { layer: 0, ciphertext })).collect();
    let mask0 = Mask::expand(ring, &epoch, MaskId::RERANDOMISER);
    let bits = |source| if without == Some(source) { 0 } else { rounding(set) };
    let silence = |source| (without == Some(source)).then_some(set.noise_bound);

    // The server publishes.
    let mut evaluator = Evaluator::new(ring);
    let (mut outputs, mut top_bits) = (vec![], [0u64; 64]);
    for _ in 0..OUTPUTS {
        let weights = sparse_weights(&mut rng, n);
        let evaluated = evaluator.evaluate(masks.iter().zip(weights.iter().map(Vec::as_slice))).unwrap();
        let mut rng = Silenced { rng: &mut rng, noise: silence(HintNoise), ternary: without == Some(Rerandomiser) };
        let evaluated = [evaluated];
        let published = publish(&evaluated, &mask0, &mut rng, bits(HintRounding), |_| true).unwrap();
        let ([evaluated], (hint, rerandomiser)) = (evaluated, published.into_iter().next().unwrap());
        for (hint, evaluated) in hint.coefficients().iter().zip(&evaluated) {
            top_bits[hint.wrapping_sub(*evaluated).shr(W::BITS - 6).to_u64() as usize] += 1;
        }
        let norms = Norms::of(&weights.iter().flatten().map(|(_, w)| *w).collect::<Vec<i32>>());
        let variance = NoiseTerms::planned(set, norms, Rounding::all(rounding(set))).variance(set);
        outputs.push((weights, hint, rerandomiser, variance));
    }

    let (mut squares, mut sum, mut samples) = (0.0, 0.0, 0);
    for _ in 0..SECRETS {
        // The client encrypts messages of 4 bits in the top bits.
        let mut secret = Secret::generate(ring, &mut rng);
        let scaled: Vec<Vec<W>> = (0..CIPHERTEXTS)
            .map(|_| (0..n).map(|_| W::from_u64(rng.random_range(0..16)).shl(W::BITS - 4)).collect())
            .collect();
        let mut b0 = {
            let mut rng = Silenced { rng: &mut rng, noise: silence(RerandomiserNoise), ternary: false };
            secret.body(&mask0, &mut rng).unwrap()
        };
        round_all(&mut b0, bits(RerandomiserRounding));
        let mut bodies = vec![];
        for (mask, scaled) in masks.iter().zip(&scaled) {
            let mut rng = Silenced { rng: &mut rng, noise: silence(BodyNoise), ternary: false };
            let mut body = secret.body(mask, &mut rng).unwrap();
            for (word, scaled) in body.iter_mut().zip(scaled) {
                *word = round_to(*word, bits(BodyRounding)).wrapping_add(*scaled);
            }
            bodies.push(body);
        }
        // The phase of each output, against scaling * W x.
        let b0 = ring.forward(&b0);
        for (weights, hint, rerandomiser, variance) in &outputs {
            let (share, mut body) = (secret.phase_share(&hint.ntt()), rerandomiser.apply(&b0).to_vec());
            let mut expected = vec![W::default(); n];
            for ((weights, input), scaled) in weights.iter().zip(&bodies).zip(&scaled) {
                sparse_product(&mut body, input, weights);
                sparse_product(&mut expected, scaled, weights);
            }
            for ((body, share), expected) in body.iter().zip(share.iter()).zip(&expected) {
                let error = body.wrapping_add(*share).wrapping_sub(*expected).to_i64() as f64;
                squares += error * error / variance;
                sum += error / variance.sqrt();
                samples += 1;
            }
        }
    }
    let expected = (OUTPUTS * n) as f64 / 64.0;
    let statistic: f64 = top_bits.iter().map(|&count| (count as f64 - expected).powi(2) / expected).sum();
    Measured {
        variance: squares / samples as f64,
        mean: sum / samples as f64,
        samples,
        uniformity: (statistic - 63.0) / (2.0f64 * 63.0).sqrt(),
    }
}

fn matches_formula<W: TorusWord>(set: &'static ParameterSet) {
    let measured = measure::<W>(set, None, 100 + u64::from(set.id));
    println!("{}: {:.4} of V over {} samples", set.name, measured.variance, measured.samples);
    assert!((measured.variance - 1.0).abs() < 0.05, "{}: {}", set.name, measured.variance);
    assert!(measured.mean.abs() < 0.05, "{}: {}", set.name, measured.mean);
    assert!(measured.uniformity.abs() < 4.0, "{}: {}", set.name, measured.uniformity);
}

#[test]
fn the_variance_is_that_of_the_formula() {
    for_every_set!(matches_formula);
}

/// Silencing one source takes a sixth off the variance, the rerandomiser a third.
fn notices<W: TorusWord>(set: &'static ParameterSet, source: Source) {
    let measured = measure::<W>(set, Some(source), 200 + u64::from(set.id));
    let missing = if source == Rerandomiser { 1.0 / 3.0 } else { 1.0 / 6.0 };
    println!("{} without {source:?}: {:.4} of V", set.name, measured.variance);
    assert!(measured.variance < 0.95, "{} without {source:?}: {}", set.name, measured.variance);
    assert!(
        (measured.variance - (1.0 - missing)).abs() < 0.05,
        "{} without {source:?}: {}",
        set.name,
        measured.variance
    );
    if source == Rerandomiser {
        assert!(measured.uniformity > 1000.0, "{}: the hint still looks uniform", set.name);
    }
}

#[test]
fn the_measurement_notices_missing_body_noise() {
    for_every_set!(notices, BodyNoise);
    for_every_set!(notices, RerandomiserNoise);
}

#[test]
fn the_measurement_notices_missing_hint_noise_and_a_missing_rerandomiser() {
    for_every_set!(notices, HintNoise);
    for_every_set!(notices, Rerandomiser);
}

#[test]
fn the_measurement_notices_missing_roundings() {
    for_every_set!(notices, BodyRounding);
    for_every_set!(notices, RerandomiserRounding);
    for_every_set!(notices, HintRounding);
}

/// With noise within the bound, floors of the two torus shares add up to 2 W x + r, r in {0, 1}.
#[test]
fn floors_are_exact_within_the_bound() {
    let (set, ell) = (&T32N2048, 13);
    let (ring, mut rng) = (ring::<u32>(set), seeded(30));
    let rounding = Rounding::all(9);
    let weights: Vec<(usize, i32)> = (0..72).map(|i| (28 * i, i as i32 % 15 - 7)).collect();
    let norms = Norms::of(&weights.iter().map(|(_, w)| *w).collect::<Vec<i32>>());
    let terms = NoiseTerms::planned(set, norms, rounding);
    assert!(margin_bits(set, ell, &[terms], Cross::NONE) > 0.0);
    let fits = |draws: &[Draw<u32>]| {
        let terms = NoiseTerms { drawn: draws[0].drawn(), ..terms };
        required(set, &[terms], Cross::NONE) <= allowed(ell, 32)
    };

    let epoch = EpochSeed([3; 32]);
    let (mask, mask0) = (
        Mask::expand(ring, &epoch, MaskId { layer: 0, ciphertext: 0 }),
        Mask::expand(ring, &epoch, MaskId::RERANDOMISER),
    );
    let evaluated = Evaluator::new(ring).evaluate([(&mask, weights.as_slice())]).unwrap();
    let (hint, rerandomiser) = publish(&[evaluated], &mask0, &mut rng, rounding.hint, fits).unwrap().remove(0);
    let hint = Hint::from_bytes(ring, rounding.hint, &hint.to_bytes()).unwrap();

    let mut secret = Secret::generate(ring, &mut rng);
    let x = signed(&mut rng, 7, 2048);
    let mut body = secret.body(&mask, &mut rng).unwrap();
    for (word, x) in body.iter_mut().zip(&x) {
        *word = round_to(*word, rounding.body).wrapping_add((*x as u32) << (32 - ell));
    }
    let mut b0 = secret.body(&mask0, &mut rng).unwrap();
    round_all(&mut b0, rounding.b0);

    let unit_log = 32 - ell - 1;
    let offset = 3 * (1u32 << (unit_log - 1)) - 1;
    let share = secret.phase_share(&hint.ntt());
    let mut server = rerandomiser.apply(&ring.forward(&b0)).to_vec();
    sparse_product(&mut server, &body, &weights);
    let mut plain = vec![0u32; 2048];
    sparse_product(&mut plain, &x.iter().map(|&x| x as u32).collect::<Vec<_>>(), &weights);
    for ((c, v), plain) in share.iter().zip(&server).zip(&plain) {
        let sum = floor_share(*c, unit_log) + floor_share(v.wrapping_add(offset), unit_log);
        let r = sum.wrapping_sub(2 * (plain % (1 << ell))) % (1 << (ell + 1));
        assert!(r <= 1, "r = {r}");
    }
}

/// The scripted bytes do what they are for: with them the secret and the noise are zero.
#[test]
fn silencing_is_silent() {
    let mut rng = seeded(31);
    let ring = ring::<u32>(&T32N2048);
    let mut silenced = Silenced { rng: &mut rng, noise: Some(3), ternary: true };
    let mut secret = Secret::generate(ring, &mut silenced);
    let mask = Mask::expand(ring, &EpochSeed([1; 32]), MaskId { layer: 0, ciphertext: 0 });
    assert!(secret.body(&mask, &mut silenced).unwrap().iter().all(|&word| word == 0));
}
