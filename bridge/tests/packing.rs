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
            let product = output_ciphertext(packing, &messages, o, weights);
            for (i, row) in tile.rows.clone().enumerate() {
                for (j, column) in tile.columns.clone().enumerate() {
                    out[(o * height + row) * width + column] = product[packing.output_coefficient(i, j)];
                }
            }
        }
    }
    out
}

fn output_ciphertext(packing: &Packing, messages: &[Vec<i64>], o: usize, weights: &[i32]) -> Vec<i64> {
    let mut product = vec![0i64; packing.degree()];
    for polynomial in packing.weight_polynomials(o, weights) {
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
