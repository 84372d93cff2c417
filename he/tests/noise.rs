//! The noise of a small linear layer, measured on the real path against the written formula, for every parameter set;
//! and the same layer with one source of noise silenced, which the measurement must notice.

mod common;

use common::sources::Source::{self, *};
use common::sources::{Measured, Silenced, Sources};
use common::{ring, seeded, signed};
use lowkey_he::noise::{Cross, NoiseTerms, allowed, margin_bits, required};
use lowkey_he::params::T32N2048;
use lowkey_he::{
    Draw, EpochSeed, Evaluator, Hint, Mask, MaskId, Norms, ParameterSet, Rerandomiser, Rounding, Secret, TorusWord,
    floor_share, publish, round_all, round_to,
};
use rand::RngExt;
use rand_chacha::ChaCha20Rng;

const CIPHERTEXTS: usize = 3;
const OUTPUTS: usize = 4;
const SECRETS: usize = 6;

/// A sparse polynomial.
type Weights = Vec<(usize, i32)>;

/// Sparse weights of one output: CIPHERTEXTS polynomials with |w|^2 about 2N/3 together.
fn sparse_weights(rng: &mut ChaCha20Rng, degree: usize) -> Vec<Weights> {
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

/// The norms of sparse weights.
fn norms<'a>(weights: impl IntoIterator<Item = &'a Weights>) -> Norms {
    Norms::of(&weights.into_iter().flatten().map(|(_, weight)| *weight).collect::<Vec<i32>>())
}

/// A layer's public masks.
struct Masks<W: TorusWord> {
    inputs: Vec<Mask<W>>,
    rerandomiser: Mask<W>,
}

/// One published output, and what it was published from.
struct Output<W: TorusWord> {
    weights: Vec<Weights>,
    evaluated: Vec<W>,
    hint: Hint<W>,
    rerandomiser: Rerandomiser<W>,
}

/// What the client sends for one inference.
struct Query<W: TorusWord> {
    b0: Vec<W>,
    bodies: Vec<Vec<W>>,
}

fn masks<W: TorusWord>(set: &'static ParameterSet, epoch: EpochSeed) -> Masks<W> {
    let mask = |id| Mask::expand(ring(set), &epoch, id);
    let inputs = (0..CIPHERTEXTS as u32).map(|ciphertext| mask(MaskId { layer: 0, ciphertext }));
    Masks { inputs: inputs.collect(), rerandomiser: mask(MaskId::RERANDOMISER) }
}

/// The server publishes one output.
fn publish_one<W: TorusWord>(of: Sources, masks: &Masks<W>, rng: &mut ChaCha20Rng) -> Output<W> {
    let weights = sparse_weights(rng, of.set.degree);
    let terms = masks.inputs.iter().zip(weights.iter().map(Vec::as_slice));
    let evaluated = Evaluator::new(ring(of.set)).evaluate(terms).unwrap();
    let (branches, mut rng) = ([evaluated], of.generator(HintNoise, rng));
    let published = publish(&branches, &masks.rerandomiser, &mut rng, of.rounding().hint, |_| true).unwrap();
    let (hint, rerandomiser) = published.into_iter().next().unwrap();
    let [evaluated] = branches;
    Output { weights, evaluated, hint, rerandomiser }
}

/// The client encrypts `scaled`, messages in the top bits.
fn encrypt<W: TorusWord>(
    of: Sources,
    masks: &Masks<W>,
    secret: &mut Secret<W>,
    scaled: &[Vec<W>],
    rng: &mut ChaCha20Rng,
) -> Query<W> {
    let mut b0 = secret.body(&masks.rerandomiser, &mut of.generator(RerandomiserNoise, &mut *rng)).unwrap();
    round_all(&mut b0, of.rounding().b0);
    let bodies = masks.inputs.iter().zip(scaled).map(|(mask, scaled)| {
        let body = secret.body(mask, &mut of.generator(BodyNoise, &mut *rng)).unwrap();
        body.iter().zip(scaled).map(|(t, x)| round_to(*t, of.rounding().body).wrapping_add(*x)).collect()
    });
    Query { bodies: bodies.collect(), b0: b0.to_vec() }
}

impl<W: TorusWord> Output<W> {
    /// V for all noise.
    fn variance(&self, of: Sources) -> f64 {
        NoiseTerms::planned(of.set, norms(&self.weights), of.full_rounding()).variance(of.set)
    }

    /// The phase of this output, in both shares together, less scaling * W x.
    fn errors(&self, secret: &Secret<W>, query: &Query<W>, scaled: &[Vec<W>]) -> Vec<i64> {
        let ring = secret.ring();
        let share = secret.phase_share(&self.hint.ntt());
        let mut body = self.rerandomiser.apply(&ring.forward(&query.b0)).to_vec();
        let mut expected = vec![W::default(); ring.degree()];
        for ((weights, input), scaled) in self.weights.iter().zip(&query.bodies).zip(scaled) {
            sparse_product(&mut body, input, weights);
            sparse_product(&mut expected, scaled, weights);
        }
        let phases = body.iter().zip(share.iter()).map(|(body, share)| body.wrapping_add(*share));
        phases.zip(&expected).map(|(phase, expected)| phase.wrapping_sub(*expected).to_i64()).collect()
    }
}

/// Runs the layer with all noise but one source; returns what was measured and what was published.
fn measure<W: TorusWord>(of: Sources, seed: u64) -> (Measured, Vec<Output<W>>) {
    let mut rng = seeded(seed);
    let masks = masks::<W>(of.set, EpochSeed(rng.random()));
    let outputs: Vec<Output<W>> = (0..OUTPUTS).map(|_| publish_one(of, &masks, &mut rng)).collect();
    let mut measured = Measured::default();
    for _ in 0..SECRETS {
        let mut secret = Secret::generate(ring(of.set), &mut rng);
        let mut message =
            || (0..of.set.degree).map(|_| W::from_u64(rng.random_range(0..16)).shl(W::BITS - 4)).collect();
        let scaled: Vec<Vec<W>> = (0..CIPHERTEXTS).map(|_| message()).collect();
        let query = encrypt(of, &masks, &mut secret, &scaled, &mut rng);
        for output in &outputs {
            let variance = output.variance(of);
            output.errors(&secret, &query, &scaled).into_iter().for_each(|error| measured.add(error, variance));
        }
    }
    (measured, outputs)
}

/// Pearson's statistic of the top 6 bits of hint - evaluated, normalised to mean 0 and variance 1.
fn uniformity<W: TorusWord>(outputs: &[Output<W>]) -> f64 {
    let mut top_bits = [0u64; 64];
    for output in outputs {
        for (hint, evaluated) in output.hint.coefficients().iter().zip(&output.evaluated) {
            top_bits[hint.wrapping_sub(*evaluated).shr(W::BITS - 6).to_u64() as usize] += 1;
        }
    }
    let expected = top_bits.iter().sum::<u64>() as f64 / 64.0;
    let statistic: f64 = top_bits.iter().map(|&count| (count as f64 - expected).powi(2) / expected).sum();
    (statistic - 63.0) / (2.0f64 * 63.0).sqrt()
}

fn matches_formula<W: TorusWord>(set: &'static ParameterSet) {
    let of = Sources { set, without: None };
    let (measured, outputs) = measure::<W>(of, 100 + u64::from(set.id));
    measured.check(of, "one layer");
    assert!(uniformity(&outputs).abs() < 4.0, "{}: {}", set.name, uniformity(&outputs));
}

#[test]
fn the_variance_is_that_of_the_formula() {
    for_every_set!(matches_formula);
}

/// Silencing one source takes a sixth off the variance, the rerandomiser a third.
fn notices<W: TorusWord>(set: &'static ParameterSet, source: Source) {
    let of = Sources { set, without: Some(source) };
    let (measured, outputs) = measure::<W>(of, 200 + u64::from(set.id));
    measured.check(of, "one layer");
    if source == Rerandomiser {
        assert!(uniformity(&outputs) > 1000.0, "{}: the hint still looks uniform", set.name);
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
        required(set, &[terms], Cross::NONE) <= allowed(set, ell)
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
