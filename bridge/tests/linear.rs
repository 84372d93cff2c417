//! The linear layer on shares equals the plain integer layer: every parameter set, both schedules, tiles, several terms.

mod common;
#[path = "common/layer.rs"]
mod layer;

use common::{convolve, shapes};
use layer::{EPOCH, FIRST, Layer, Shares};
use lowkey_bridge::budget::{self, Norms};
use lowkey_bridge::conv::ConvShape;
use lowkey_bridge::{Kept, LayerParameters, Packing, Schedule, client_layer, keys};
use lowkey_he::mask::{Mask, MaskId};
use lowkey_he::params::{self, ParameterSet};
use lowkey_he::{Evaluator, Hint, Ring, Rounding};
use proptest::prelude::*;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;

/// One layer with some terms, all reading the same tensor, with weights and one input, shared at random.
struct Case {
    set: &'static ParameterSet,
    ell: u32,
    shapes: Vec<ConvShape>,
    weights: Vec<Vec<i32>>,
    input: Vec<i64>,
    bands: usize,
    kept: Kept,
}

impl Case {
    fn new(set: &'static ParameterSet, shapes: Vec<ConvShape>, weight: i32, activation: i64, seed: u64) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let weights: Vec<Vec<i32>> = shapes
            .iter()
            .map(|s| (0..s.out_channels * s.fan_in()).map(|_| rng.random_range(-weight..=weight)).collect())
            .collect();
        let input = (0..shapes[0].input_len()).map(|_| rng.random_range(0..=activation)).collect();
        let mut case = Self { set, ell: 0, shapes, weights, input, bands: 1, kept: Kept::Ready };
        let largest = case.plain().into_iter().map(i64::abs).max().unwrap_or(0);
        case.ell = (64 - largest.leading_zeros() + 1).max(2);
        case
    }

    fn plain(&self) -> Vec<i64> {
        let mut sum = vec![0; self.shapes[0].output_len()];
        for (shape, weights) in self.shapes.iter().zip(&self.weights) {
            for (sum, z) in sum.iter_mut().zip(convolve(shape, weights, &self.input)) {
                *sum += z;
            }
        }
        sum
    }

    fn norms(&self) -> Vec<Norms> {
        let largest = |(s, w): (&ConvShape, &Vec<i32>)| {
            budget::norms_per_ciphertext(s, self.bands, w).into_iter().fold(Norms::default(), Norms::max)
        };
        self.shapes.iter().zip(&self.weights).map(largest).collect()
    }

    fn layer(&self, rounding: Rounding) -> Layer {
        let parameters = LayerParameters { set: self.set, ell: self.ell, rounding };
        assert!(parameters.consistent());
        Layer::banded(parameters, self.bands, &self.shapes, &self.weights, self.kept)
    }

    /// Runs the layer; `None` if the parameter set does not fit it.
    fn run(&self, schedule: Schedule, seed: u64) -> Option<Shares> {
        let layer = self.layer(budget::largest_rounding(self.set, self.ell, &self.norms(), 4)?);
        // x = x_s + x_c, in a ring wider than the accumulator.
        let mask = (1u64 << (self.ell + 3)) - 1;
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let x_s: Vec<u64> = self.input.iter().map(|_| rng.next_u64() & mask).collect();
        let x_c: Vec<u64> = self.input.iter().zip(&x_s).map(|(x, s)| (*x as u64).wrapping_sub(*s) & mask).collect();
        let pads: Vec<u64> = x_s.iter().map(|_| rng.next_u64() & mask).collect();
        let mut encrypted = match schedule {
            Schedule::Prepared => pads,
            Schedule::Direct => x_c.clone(),
        };
        let (mut secrets, b0) = layer.keys(&mut rng);
        let messages = layer.encrypt(schedule, &mut secrets, &mut encrypted, &mut rng);
        // m = x_s + d, where d = x_c less what is encrypted: nothing in the direct schedule.
        let d = x_c.iter().zip(&encrypted).map(|(x, known)| x.wrapping_sub(*known) & mask);
        let masked: Vec<u64> = x_s.iter().zip(d).map(|(s, d)| s.wrapping_add(d) & mask).collect();
        Some(layer.shares(schedule, &secrets, &b0, &messages, &masked))
    }

    fn check(&self, schedule: Schedule, seed: u64) -> Option<Shares> {
        let shares = self.run(schedule, seed)?;
        let mask = (1u64 << (self.ell + 1)) - 1;
        for (index, z) in self.plain().into_iter().enumerate() {
            let sum = shares.c[index].wrapping_add(shares.v[index]);
            let r = sum.wrapping_sub((z as u64) << 1) & mask;
            assert!(r < 2, "output {index}: r = {r}, ell = {}, {}, {schedule:?}", self.ell, self.set.name);
        }
        Some(shares)
    }
}

#[test]
fn every_parameter_set_and_both_schedules() {
    for set in params::ALL {
        for schedule in [Schedule::Prepared, Schedule::Direct] {
            let case = Case::new(set, vec![ConvShape::square(3, 4, 3, 12, 1)], 1, 1, 1);
            case.check(schedule, 5).unwrap_or_else(|| panic!("{} fits a small layer", set.name));
        }
    }
}

#[test]
fn with_the_same_randomness_both_schedules_give_the_same_shares() {
    for shapes in [
        vec![ConvShape::square(3, 4, 3, 12, 1)],
        vec![ConvShape::square(2, 2, 3, 50, 1)],
        vec![ConvShape::dense(300, 20)],
    ] {
        let case = Case::new(&params::T32N2048, shapes, 7, 15, 2);
        let (prepared, direct) = (case.check(Schedule::Prepared, 6).unwrap(), case.check(Schedule::Direct, 6).unwrap());
        assert_eq!(prepared.c, direct.c);
        assert_eq!(prepared.v, direct.v);
    }
}

#[test]
fn an_input_larger_than_a_ciphertext_is_tiled() {
    let case = Case::new(&params::T32N1024, vec![ConvShape::square(1, 2, 3, 70, 1)], 1, 3, 3);
    assert!(Packing::new(&case.shapes[0], 1024).unwrap().tiles() > 4);
    case.check(Schedule::Prepared, 7).expect("fits");
    case.check(Schedule::Direct, 7).expect("fits");
}

#[test]
fn wide_accumulators_take_the_wide_torus_and_words() {
    let case = Case::new(&params::T64N2048, vec![ConvShape::square(8, 3, 3, 9, 1)], 127, 255, 4);
    assert!(case.ell > 18, "ell = {}", case.ell);
    assert!(
        Case {
            set: &params::T32N2048,
            ..Case::new(&params::T32N2048, vec![ConvShape::square(8, 3, 3, 9, 1)], 127, 255, 4)
        }
        .run(Schedule::Prepared, 1)
        .is_none()
    );
    case.check(Schedule::Prepared, 8).expect("fits");
    let mut wider = Case::new(&params::T64N4096, vec![ConvShape::square(64, 2, 5, 5, 0)], 30_000, 255, 4);
    wider.ell = 36; // u64 words online
    wider.check(Schedule::Prepared, 8).expect("fits");
}

#[test]
fn several_terms_of_one_tensor_share_one_upload() {
    let shapes =
        vec![ConvShape::square(4, 3, 3, 10, 1), ConvShape::square(4, 3, 1, 10, 0), ConvShape::square(4, 3, 5, 10, 2)];
    let case = Case::new(&params::T32N2048, shapes, 3, 7, 5);
    case.check(Schedule::Prepared, 9).expect("fits");
    case.check(Schedule::Direct, 9).expect("fits");
}

/// Output channels in bands, the last ciphertext not full: whole products and inner products, several ciphertexts, branches, planned as
/// tightly as they fit. Both schedules give the same shares.
#[test]
fn bands_are_exact() {
    let (square, dense) = (ConvShape::square, ConvShape::dense);
    let strided = ConvShape { stride: [2, 2], ..square(20, 7, 3, 8, 1) };
    for (shapes, bands) in [
        (vec![square(40, 9, 1, 7, 0)], 4),
        (vec![square(20, 5, 3, 6, 1)], 2),
        (vec![strided], 8),
        (vec![dense(700, 11)], 8),
        (vec![dense(300, 40)], 32),
        (vec![square(8, 6, 3, 7, 1), square(8, 6, 1, 7, 0)], 4),
    ] {
        for set in [&params::T32N1024, &params::T32N2048, &params::T64N2048] {
            let case = Case { bands, ..Case::new(set, shapes.clone(), 1, 3, 6) };
            let [prepared, direct] = [Schedule::Prepared, Schedule::Direct].map(|s| case.check(s, 10).expect("fits"));
            assert_eq!((&prepared.c, &prepared.v), (&direct.c, &direct.v), "{shapes:?}");
        }
    }
}

/// Whether transforms are kept or made again, the hint and both shares are the same: of one tile, of several, of inner products, in bands
/// and branches.
#[test]
fn what_is_kept_changes_nothing() {
    let (square, dense) = (ConvShape::square, ConvShape::dense);
    for (shapes, bands) in [
        (vec![square(4, 6, 3, 12, 1)], 1),
        (vec![square(1, 2, 3, 70, 1)], 1),
        (vec![dense(300, 20)], 1),
        (vec![square(8, 6, 3, 7, 1), square(8, 6, 1, 7, 0)], 4),
    ] {
        for set in [&params::T32N1024, &params::T64N2048] {
            let run = |kept| {
                let case = Case { bands, kept, ..Case::new(set, shapes.clone(), 1, 1, 6) };
                let rounding = budget::largest_rounding(set, case.ell, &case.norms(), 4).expect("fits");
                let shares = case.check(Schedule::Prepared, 10).expect("fits");
                (case.layer(rounding).hint, shares.c, shares.v)
            };
            assert!(run(Kept::Ready) == run(Kept::Packed), "{shapes:?}, {}", set.name);
        }
    }
}

/// Three to six branches, planned as tightly as they fit.
#[test]
fn many_branches_fit_and_are_exact() {
    let kernels = [(3, 1), (1, 0), (5, 2), (3, 1), (1, 0), (7, 3)];
    for (set, side) in [(&params::T32N1024, 8), (&params::T32N2048, 12), (&params::T64N2048, 12)] {
        for count in 3..=kernels.len() {
            let shapes =
                kernels[..count].iter().map(|&(kernel, padding)| ConvShape::square(2, 3, kernel, side, padding));
            let case = Case::new(set, shapes.collect(), 1, 1, count as u64);
            case.check(Schedule::Prepared, 9).unwrap_or_else(|| panic!("{count} branches fit {}", set.name));
            case.check(Schedule::Direct, 9).expect("as above");
        }
    }
}

/// Two packings of the same weights under one plan digest, one key and the same masks: what hides the evaluated masks has nothing
/// in common. If it had, the difference of two hints would be that of two evaluations of known masks.
#[test]
fn another_packing_takes_fresh_randomness() {
    let set = &params::T32N2048;
    let ring = Ring::<u32>::shared(set).unwrap();
    let weights: Vec<i32> = (0..18).map(|i| i % 7 - 3).collect();
    let remainders = |padding: usize, body: u32| {
        let parameters = LayerParameters { set, ell: 8, rounding: Rounding { body, b0: 3, hint: 0 } };
        let shape = ConvShape::square(1, 2, 3, 8, padding);
        let layer = Layer::publish(parameters, &[shape], std::slice::from_ref(&weights));
        let (packing, hint) = (&layer.plan.terms[0].packing, &layer.hint);
        let mask = Mask::expand(ring, &EPOCH, MaskId { layer: FIRST, ciphertext: 0 });
        let hints = hint.chunks_exact(hint.len() / 2).enumerate().map(|(output, bytes)| {
            let polynomials = packing.weight_polynomials(output, &weights);
            let products = polynomials.iter().map(|own| (&mask, own.terms.as_slice()));
            let evaluated = Evaluator::new(ring).evaluate(products).unwrap();
            let hint = Hint::from_bytes(ring, 0, bytes).unwrap();
            hint.coefficients().iter().zip(&evaluated).map(|(h, e)| h.wrapping_sub(*e)).collect::<Vec<u32>>()
        });
        hints.collect::<Vec<_>>()
    };
    let first = remainders(1, 5);
    assert_eq!(first, remainders(1, 5), "the same evaluation, the same hint");
    for (what, other) in [("another packing", remainders(0, 5)), ("another rounding of bodies", remainders(1, 4))] {
        for (a, b) in first.iter().zip(&other) {
            let equal = a.iter().zip(b).filter(|(a, b)| a == b).count();
            assert!(equal < 4, "{what}: {equal} of {} coefficients are equal", a.len());
        }
    }
}

#[test]
fn messages_of_the_wrong_length_are_refused() {
    let set = &params::T32N2048;
    let parameters = LayerParameters { set, ell: 10, rounding: Rounding { body: 5, b0: 3, hint: 5 } };
    let Layer { plan, sets, hint, client, server, masks } =
        Layer::publish(parameters, &[ConvShape::square(1, 2, 3, 8, 0)], &[vec![1; 18]]);
    assert!(client_layer(plan, &EPOCH, &hint[1..], Kept::Ready).is_err_and(|e| e.is_peer_fault()));
    let (mut secrets, b0) = keys::generate(&sets, &masks, &mut ChaCha20Rng::from_seed([0; 32])).unwrap();
    assert!(keys::receive(&sets, &b0[1..]).is_err_and(|e| e.is_peer_fault()));
    let keys = keys::receive(&sets, &b0).unwrap();
    assert!(server.offline(&[vec![0; 3]], &keys, Schedule::Prepared).is_err_and(|e| e.is_peer_fault()));
    // A second encryption under the same secret and masks is refused.
    let mut rng = ChaCha20Rng::from_seed([1; 32]);
    client.encrypt_pads(0, &mut secrets, &mut [0; 64], &mut rng).unwrap();
    assert!(client.encrypt_pads(0, &mut secrets, &mut [0; 64], &mut rng).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn random_layers_are_exact(shape in shapes(), bits in 1u32..=8, set in 0usize..4, direct: bool, seed: u64) {
        let schedule = if direct { Schedule::Direct } else { Schedule::Prepared };
        let case = Case::new(params::ALL[set], vec![shape], (1 << (bits - 1)).max(1), (1 << bits) - 1, seed);
        if case.check(schedule, seed ^ 1).is_none() {
            prop_assert!(case.ell > 6, "ell = {} does not fit {}", case.ell, case.set.name);
        }
    }
}
