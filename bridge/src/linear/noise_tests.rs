//! The noise of whole layers, measured on the code that sessions run, against the written formula; and the same with one source
//! of noise silenced, which the measurement must notice.
//!
//! p_c + p_v - scaling W x is the error before the floors.

#[path = "../../../he/tests/common/sources.rs"]
mod sources;

use std::sync::Arc;

use lowkey_he::mask::EpochSeed;
use lowkey_he::noise::NoiseTerms;
use lowkey_he::params::{self, ParameterSet};
use lowkey_he::with_word;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;

use self::sources::Source::*;
use self::sources::{Measured, Sources};
use super::budget::norms_per_ciphertext;
use super::by_set::LinearWord;
use super::client::{ClientLayer, Pads, Shares};
use super::keys::{self, RerandomiserMasks, SetPlan};
use super::server::ServerLayer;
use crate::conv::{ConvShape, Kernel};
use crate::{Kept, LayerParameters, LayerPlan, Packing, Publisher, Schedule, TermPlan};

/// Few bits: these layers need no room, and every body keeps both parts.
const ELL: u32 = 6;

struct Run {
    sources: Sources,
    shape: ConvShape,
    schedule: Schedule,
    inferences: usize,
    bands: usize,
}

/// Both halves of a published layer.
struct Layer<W: LinearWord> {
    plan: Arc<LayerPlan>,
    sets: [SetPlan; 1],
    masks: RerandomiserMasks,
    client: ClientLayer<W>,
    server: ServerLayer<W>,
}

impl Run {
    fn set(&self) -> &'static ParameterSet {
        self.sources.set
    }

    /// Weights of -m..=m without 0, whose mean square is (m+1)(2m+1)/6, such that |w|^2 is about 2N/3.
    fn weights(&self, rng: &mut ChaCha20Rng) -> Vec<i32> {
        let mean_square = 2.0 * self.set().degree as f64 / 3.0 / self.shape.fan_in() as f64;
        let largest = (1..100).find(|&m| f64::from((m + 1) * (2 * m + 1)) / 6.0 >= mean_square).expect("moderate");
        let mut weight = || rng.random_range(1..=largest) * if rng.random() { 1 } else { -1 };
        (0..self.shape.out_channels * self.shape.fan_in()).map(|_| weight()).collect()
    }

    fn publish<W: LinearWord>(&self, weights: &[i32], rng: &mut ChaCha20Rng) -> Layer<W> {
        let set = self.set();
        let parameters = LayerParameters { set, ell: ELL, rounding: self.sources.rounding() };
        assert!(parameters.consistent());
        let mut claimed = vec![false; self.shape.input_len()];
        let packing = Packing::banded(&self.shape, set.degree, self.bands).expect("small enough");
        let term = TermPlan::new(0, packing, |e| !std::mem::replace(&mut claimed[e as usize], true));
        let (height, width) = self.shape.output();
        let output = [self.shape.out_channels, height, width];
        let plan = Arc::new(LayerPlan { first_secret: 0, parameters, output, terms: vec![term] });
        let sets = [SetPlan { set, secrets: plan.secrets(), b0_rounding: parameters.rounding.b0 }];

        let epoch = EpochSeed(rng.random());
        let masks = keys::rerandomiser_masks(&sets, &epoch).unwrap();
        let publisher =
            Publisher { epoch: &epoch, masks: &masks, server_key: &[1; 32], context: &[2; 32], kept: Kept::Ready };
        let base = ChaCha20Rng::from_seed(rng.random());
        let of_output = |_: &[u8; 32], output: u32| {
            let mut rng = base.clone();
            rng.set_stream(output.into());
            self.sources.generator(HintNoise, rng)
        };
        let (server, hint) = ServerLayer::<W>::publish_with(plan.clone(), &[weights], &publisher, of_output).unwrap();
        let client = ClientLayer::<W>::new(plan.clone(), &epoch, &hint, Kept::Ready).unwrap();
        Layer { plan, sets, masks, client, server }
    }

    /// The errors of one inference, of every output.
    fn infer<W: LinearWord>(&self, layer: &Layer<W>, plain: &Kernel<W>, rng: &mut ChaCha20Rng) -> Vec<i64> {
        let mut fork = |source| self.sources.generator(source, ChaCha20Rng::from_seed(rng.random()));
        let (mut of_keys, mut of_bodies) = (fork(RerandomiserNoise), fork(BodyNoise));
        let mut values: Vec<u64> = (0..self.shape.input_len()).map(|_| rng.random_range(0..1 << ELL)).collect();
        let (mut secrets, b0) = keys::generate(&layer.sets, &layer.masks, &mut of_keys).unwrap();
        let (schedule, client) = (self.schedule, &layer.client);
        let message = match schedule {
            Schedule::Prepared => client.encrypt(0, schedule, &mut secrets, &mut Pads(&mut values), &mut of_bodies),
            Schedule::Direct => client.encrypt(0, schedule, &mut secrets, &mut Shares(&values), &mut of_bodies),
        };
        let ours = client.phases(&secrets).unwrap();
        let keys = keys::receive(&layer.sets, &b0).unwrap();
        let theirs = layer.server.phases(&[message.unwrap()], &keys, schedule).unwrap();

        let log_scaling = layer.plan.parameters.log_scaling();
        let scaled: Vec<W> = values.iter().map(|&x| W::from_u64(x).shl(log_scaling)).collect();
        let mut expected = vec![W::default(); layer.plan.outputs()];
        plain.apply(&scaled, &mut expected);
        let phases = ours.iter().zip(&theirs).map(|(ours, theirs)| ours.wrapping_add(*theirs));
        phases.zip(&expected).map(|(phase, expected)| phase.wrapping_sub(*expected).to_i64()).collect()
    }

    /// Publishes once, infers many times; compares with the formula for all noise.
    fn measure<W: LinearWord>(&self, seed: u64) -> Measured {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let weights = self.weights(&mut rng);
        let layer = self.publish::<W>(&weights, &mut rng);
        let plain = Kernel::<W>::new(&self.shape, &weights);
        let formula = |norms| NoiseTerms::planned(self.set(), norms, self.sources.full_rounding()).variance(self.set());
        let variances: Vec<f64> =
            norms_per_ciphertext(&self.shape, self.bands, &weights).into_iter().map(formula).collect();
        let mut measured = Measured::default();
        for _ in 0..self.inferences {
            let errors = self.infer(&layer, &plain, &mut rng);
            for (error, output) in errors.into_iter().zip(0..) {
                measured.add(error, variances[output / layer.plan.pixels() / self.bands]);
            }
        }
        measured
    }

    fn check(&self, seed: u64) {
        let measured = with_word!(self.set(), W => self.measure::<W>(seed));
        measured.check(self.sources, &format!("{:?}", self.schedule));
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
            let dense = ConvShape::dense(200, 64);
            for (shape, bands, inferences) in [(convolution(), 1, 8), (dense.clone(), 1, 300), (dense, 4, 300)] {
                Run { sources: Sources { set, without: None }, shape, schedule, inferences, bands }.check(seed);
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
            Run { sources: Sources { set, without: Some(source) }, shape, schedule, inferences: 8, bands: 1 }.check(3);
        }
    }
}
