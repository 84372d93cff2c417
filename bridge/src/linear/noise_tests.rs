//! The noise of whole layers, measured on the code that sessions run, against the written formula; and the same with one source
//! of noise silenced, which the measurement must notice.
//!
//! p_c + p_v - scaling W x is the error before the floors. Six sources have equal weight: e, e*_0 and e_o, and the roundings of
//! bodies, of b*_0 and of the hint; without u_o two of them vanish.

use std::convert::Infallible;
use std::sync::Arc;

use lowkey_he::mask::EpochSeed;
use lowkey_he::noise::NoiseTerms;
use lowkey_he::params::{self, ParameterSet};
use lowkey_he::torus::Rounding;
use lowkey_he::with_word;
use rand::{Rng, RngExt, SeedableRng, TryCryptoRng, TryRng};
use rand_chacha::ChaCha20Rng;

use super::budget::norms_per_output;
use super::by_set::LinearWord;
use super::client::{ClientLayer, Pads, Shares};
use super::keys::{self, SetPlan};
use super::server::ServerLayer;
use crate::conv::{ConvShape, Kernel};
use crate::{LayerParameters, LayerPlan, Packing, Publisher, Schedule, TermPlan};

/// Few bits: these layers need no room, and every body keeps both parts.
const ELL: u32 = 6;

/// A source of noise that a run can leave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
/// The samplers draw ternary bytes by 1024 and noise by other lengths. If that changes, the runs with a silenced source stop
/// deviating and fail.
struct Silenced {
    rng: ChaCha20Rng,
    noise: Option<u32>,
    ternary: bool,
}

impl TryRng for Silenced {
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

impl TryCryptoRng for Silenced {}

/// What a run measures, over all outputs of all inferences.
struct Measured {
    /// Mean of error^2 / V.
    variance: f64,
    /// Mean of error / sqrt(V).
    mean: f64,
    samples: usize,
}

struct Run {
    set: &'static ParameterSet,
    shape: ConvShape,
    schedule: Schedule,
    inferences: usize,
    without: Option<Source>,
}

impl Run {
    /// Equal weights of all sources: 4^(b+1)/12 = sigma^2, and |w|^2 = |u|^2 = 2N/3.
    fn rounding(&self) -> u32 {
        self.set.noise_bound + 1
    }

    fn bits(&self, source: Source) -> u32 {
        if self.without == Some(source) { 0 } else { self.rounding() }
    }

    fn silenced(&self, source: Source, rng: &mut ChaCha20Rng) -> Silenced {
        let noise = (self.without == Some(source)).then_some(self.set.noise_bound);
        let ternary = source == HintNoise && self.without == Some(Rerandomiser);
        Silenced { rng: ChaCha20Rng::from_seed(rng.random()), noise, ternary }
    }

    /// Weights of -m..=m without 0, whose mean square is (m+1)(2m+1)/6, such that |w|^2 is about 2N/3.
    fn weights(&self, rng: &mut ChaCha20Rng) -> Vec<i32> {
        let mean_square = 2.0 * self.set.degree as f64 / 3.0 / self.shape.fan_in() as f64;
        let largest = (1..100).find(|&m| f64::from((m + 1) * (2 * m + 1)) / 6.0 >= mean_square).expect("moderate");
        let mut weight = || rng.random_range(1..=largest) * if rng.random() { 1 } else { -1 };
        (0..self.shape.out_channels * self.shape.fan_in()).map(|_| weight()).collect()
    }

    /// Publishes once, infers many times; compares with the formula for all noise.
    fn measure<W: LinearWord>(&self, seed: u64) -> Measured {
        let (set, mut rng) = (self.set, ChaCha20Rng::seed_from_u64(seed));
        let parameters = LayerParameters {
            set,
            ell: ELL,
            rounding: Rounding {
                body: self.bits(BodyRounding),
                b0: self.bits(RerandomiserRounding),
                hint: self.bits(HintRounding),
            },
        };
        assert!(parameters.consistent());
        let mut claimed = vec![false; self.shape.input_len()];
        let packing = Packing::new(&self.shape, set.degree).expect("small enough");
        let term = TermPlan::new(0, packing, |e| !std::mem::replace(&mut claimed[e as usize], true));
        let (height, width) = self.shape.output();
        let output = [self.shape.out_channels, height, width];
        let plan = Arc::new(LayerPlan { first_secret: 0, parameters, output, terms: vec![term] });
        let sets = [SetPlan { set, secrets: plan.secrets(), b0_rounding: parameters.rounding.b0 }];

        let epoch = EpochSeed(rng.random());
        let masks = keys::rerandomiser_masks(&sets, &epoch).unwrap();
        let weights = self.weights(&mut rng);
        let publisher = Publisher { epoch: &epoch, masks: &masks, server_key: &[1; 32], context: &[2; 32] };
        let base = self.silenced(HintNoise, &mut rng);
        let of_output = |_: &[u8; 32], output: u32| {
            let mut rng = base.rng.clone();
            rng.set_stream(output.into());
            Silenced { rng, ..base }
        };
        let (server, hint) = ServerLayer::<W>::publish_with(plan.clone(), &[&weights], &publisher, of_output).unwrap();
        let client = ClientLayer::<W>::new(plan.clone(), &epoch, &hint).unwrap();

        let variances: Vec<f64> = norms_per_output(&self.shape, &weights)
            .into_iter()
            .map(|norms| NoiseTerms::planned(set, norms, Rounding::all(self.rounding())).variance(set))
            .collect();
        let plain = Kernel::<W>::new(&self.shape, &weights);
        let (mut squares, mut sum, mut samples) = (0.0, 0.0, 0);
        for _ in 0..self.inferences {
            let mut values: Vec<u64> = (0..self.shape.input_len()).map(|_| rng.random_range(0..1 << ELL)).collect();
            let (mut secrets, b0) =
                keys::generate(&sets, &masks, &mut self.silenced(RerandomiserNoise, &mut rng)).unwrap();
            let mut own = self.silenced(BodyNoise, &mut rng);
            let message = match self.schedule {
                Schedule::Prepared => client.encrypt(0, self.schedule, &mut secrets, &mut Pads(&mut values), &mut own),
                Schedule::Direct => client.encrypt(0, self.schedule, &mut secrets, &mut Shares(&values), &mut own),
            };
            let keys = keys::receive(&sets, &b0).unwrap();
            let ours = client.phases(&secrets).unwrap();
            let theirs = server.phases(&[message.unwrap()], &keys, self.schedule).unwrap();

            let scaled: Vec<W> = values.iter().map(|&x| W::from_u64(x).shl(parameters.log_scaling())).collect();
            let mut expected = vec![W::default(); plan.outputs()];
            plain.apply(&scaled, &mut expected);
            for (index, ((ours, theirs), expected)) in ours.iter().zip(&theirs).zip(&expected).enumerate() {
                let error = ours.wrapping_add(*theirs).wrapping_sub(*expected).to_i64() as f64;
                let variance = variances[index / plan.pixels()];
                squares += error * error / variance;
                sum += error / variance.sqrt();
                samples += 1;
            }
        }
        Measured { variance: squares / samples as f64, mean: sum / samples as f64, samples }
    }

    fn run(&self, seed: u64) -> Measured {
        let measured = with_word!(self.set, W => self.measure::<W>(seed));
        let Self { set, schedule, without, .. } = self;
        let Measured { variance, samples, .. } = measured;
        println!("{} {schedule:?} without {without:?}: {variance:.4} of V over {samples} samples", set.name);
        measured
    }
}

/// Tiles at N = 1024, several ciphertexts, padding; whole products.
fn convolution() -> ConvShape {
    ConvShape::square(4, 6, 3, 34, 1)
}

#[test]
fn the_variance_of_layers_is_that_of_the_formula() {
    for set in params::ALL {
        for (seed, schedule) in [(1, Schedule::Prepared), (2, Schedule::Direct)] {
            // The second has one output coefficient: inner products.
            for (shape, inferences) in [(convolution(), 8), (ConvShape::dense(200, 64), 300)] {
                let run = Run { set, shape, schedule, inferences, without: None };
                let Measured { variance, mean, .. } = run.run(seed);
                assert!((variance - 1.0).abs() < 0.05, "{} {schedule:?}: {variance} of V", set.name);
                assert!(mean.abs() < 0.05, "{} {schedule:?}: mean {mean} deviations", set.name);
            }
        }
    }
}

/// Silencing one source takes a sixth off the variance; without the rerandomiser its noise and its rounding are missing.
#[test]
fn the_measurement_notices_every_missing_source() {
    for set in params::ALL {
        for source in
            [BodyNoise, BodyRounding, RerandomiserNoise, RerandomiserRounding, HintNoise, HintRounding, Rerandomiser]
        {
            let (shape, schedule) = (convolution(), Schedule::Prepared);
            let run = Run { set, shape, schedule, inferences: 8, without: Some(source) };
            let Measured { variance, .. } = run.run(3);
            let missing = if source == Rerandomiser { 1.0 / 3.0 } else { 1.0 / 6.0 };
            assert!((variance - (1.0 - missing)).abs() < 0.05, "{} without {source:?}: {variance} of V", set.name);
        }
    }
}
