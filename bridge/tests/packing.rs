//! Packed products are the convolution, by the definition of both.

mod common;

use common::{convolve, shapes};
use lowkey_bridge::Packing;
use lowkey_bridge::conv::ConvShape;
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;

/// Negacyclic sum over ciphertexts of weight polynomial times message polynomial, then the outputs.
fn by_polynomials(packing: &Packing, weights: &[i32], input: &[i64]) -> Vec<i64> {
    let s = packing.shape();
    let (height, width) = s.output();
    let mut out = vec![i64::MIN; s.out_channels * height * width];
    for tile in (0..packing.tiles()).map(|index| packing.tile(index)) {
        let mut messages = vec![vec![0i64; packing.degree()]; packing.ciphertexts()];
        for body in &tile.bodies {
            messages[body.ciphertext as usize][body.coefficient as usize] =
                body.element.map_or(0, |e| input[e as usize]);
        }
        for o in 0..s.out_channels {
            let (ciphertext, band) = (o / packing.bands(), o % packing.bands());
            let product = output_ciphertext(packing, &messages, ciphertext, weights);
            let first = band * packing.degree() / packing.bands();
            for (i, row) in tile.rows.clone().enumerate() {
                for (j, column) in tile.columns.clone().enumerate() {
                    out[(o * height + row) * width + column] = product[first + packing.output_coefficient(i, j)];
                }
            }
        }
    }
    out
}

fn output_ciphertext(packing: &Packing, messages: &[Vec<i64>], number: usize, weights: &[i32]) -> Vec<i64> {
    let mut product = vec![0i64; packing.degree()];
    for polynomial in packing.weight_polynomials(number, weights) {
        for (coefficient, weight) in polynomial.terms {
            for (k, &m) in messages[polynomial.ciphertext].iter().enumerate() {
                let place = coefficient + k;
                let sign = if place < packing.degree() { 1 } else { -1 };
                product[place % packing.degree()] += sign * i64::from(weight) * m;
            }
        }
    }
    product
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn packed_products_are_the_convolution(shape in shapes(), log_degree in 5..9usize, seed: u64) {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let weights: Vec<i32> =
            (0..shape.out_channels * shape.fan_in()).map(|_| rng.random_range(-7..=7)).collect();
        let input: Vec<i64> = (0..shape.input_len()).map(|_| rng.random_range(0..1000)).collect();
        match Packing::new(&shape, 1 << log_degree) {
            Ok(packing) => {
                prop_assert_eq!(by_polynomials(&packing, &weights, &input), convolve(&shape, &weights, &input));
                let tiles = (0..packing.tiles()).map(|index| packing.tile(index));
                let words: usize = tiles.map(|tile| tile.bodies.len() + tile.gather.len()).sum();
                prop_assert!(words as u64 <= packing.size());
            }
            Err(error) => prop_assert!(error.needed > 1 << log_degree),
        }
    }
}

/// Whether every coefficient that an output meets has a body: without one, the mask of that coefficient stays in the sum.
fn every_coefficient_is_sent(packing: &Packing, weights: &[i32]) -> bool {
    let (tile, degree) = (packing.tile(0), packing.degree());
    let sent: std::collections::HashSet<_> = tile.bodies.iter().map(|b| (b.ciphertext, b.coefficient)).collect();
    let pixels = tile.rows.len() * tile.columns.len();
    let outputs = (0..pixels).map(|p| packing.output_coefficient(p / tile.columns.len(), p % tile.columns.len()));
    let outputs: Vec<usize> = outputs.collect();
    (0..packing.shape().out_channels).all(|o| {
        let first = o % packing.bands() * degree / packing.bands();
        packing.weight_polynomials(o / packing.bands(), weights).iter().all(|polynomial| {
            let mut meets =
                polynomial.terms.iter().flat_map(|&(at, _)| outputs.iter().map(move |k| first + k + degree - at));
            meets.all(|at| sent.contains(&(polynomial.ciphertext as u32, (at % degree) as u32)))
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn bands_hold_an_output_channel_each(shape in shapes(), log_degree in 6..9usize, log_bands in 0..5usize, seed: u64) {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let weights: Vec<i32> =
            (0..shape.out_channels * shape.fan_in()).map(|_| rng.random_range(-7..=7)).collect();
        let input: Vec<i64> = (0..shape.input_len()).map(|_| rng.random_range(0..1000)).collect();
        let shape = ConvShape { groups: 1, channels: shape.channels / shape.groups, ..shape };
        let input = &input[..shape.input_len()];
        if let Some(packing) = Packing::banded(&shape, 1 << log_degree, 1 << log_bands) {
            prop_assert_eq!(packing.output_ciphertexts(), shape.out_channels.div_ceil(1 << log_bands));
            prop_assert_eq!(by_polynomials(&packing, &weights, input), convolve(&shape, &weights, input));
            let tile = packing.tile(0);
            if log_bands > 0 {
                prop_assert!(every_coefficient_is_sent(&packing, &weights));
                let elements = tile.bodies.iter().filter(|body| body.element.is_some()).count();
                prop_assert!(elements <= tile.bodies.len() >> log_bands);
            }
            let words = tile.bodies.len() + tile.gather.len();
            prop_assert!(packing.tiles() > 1 || words as u64 <= packing.size());
        }
    }
}

/// 1x1 kernels on a map of 7x7: masks and hints of some numbers of bands.
#[test]
fn bands_trade_masks_and_bodies_for_hints() {
    let shape = ConvShape::square(2048, 512, 1, 7, 0);
    let counts = |bands| {
        let packing = Packing::banded(&shape, 2048, bands).expect("fits");
        [packing.ciphertexts(), packing.output_ciphertexts(), packing.tile(0).bodies.len()]
    };
    assert_eq!([1, 2, 4].map(counts), [[50, 512, 100_352], [103, 256, 200_704], [205, 128, 401_408]]);
    assert!(Packing::banded(&shape, 2048, 64).is_none(), "32 coefficients are no map");
    assert!(Packing::banded(&shape, 2048, 3).is_none() && Packing::banded(&shape, 2048, 0).is_none());
    assert!(Packing::banded(&ConvShape { groups: 2, ..shape }, 2048, 2).is_none());
    assert!(Packing::banded(&ConvShape::dense(8, 2), 64, 4).is_none(), "two channels do not fill four bands");
}

#[test]
fn padding_is_shared_between_rows_and_channels() {
    let shape = ConvShape::square(2, 1, 3, 8, 1);
    let packing = Packing::new(&shape, 256).expect("fits");
    let tile = packing.tile(0);
    let zeros = tile.bodies.iter().filter(|b| b.element.is_none()).count();
    // Rows of pitch 9: two channels of 9 rows, one closing row, one closing pixel, less the 128 elements.
    assert_eq!(zeros, 2 * 81 + 9 + 1 - 128);
    assert_eq!(packing.ciphertexts(), 1);
}

#[test]
fn dense_layers_have_one_output_coefficient() {
    let shape = ConvShape::dense(256, 100);
    let packing = Packing::new(&shape, 2048).expect("fits");
    assert_eq!((packing.ciphertexts(), packing.tiles(), packing.output_coefficient(0, 0)), (1, 1, 255));
}
