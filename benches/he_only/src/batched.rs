//! CryptoNets' layout: a ciphertext holds one number of an image, of another image in each of its N slots. Weights are plain integers, so
//! sums are cheap and nothing rotates; a single image costs as much as N.

use std::time::{Duration, Instant};

use fhe::bfv::{Ciphertext, RelinearizationKey, SecretKey};
use fhe_traits::{FheEncrypter, Serialize};
use num_bigint::BigInt;
use rayon::prelude::*;

use super::network::{Layer, Network};
use super::ops::{self, Cost};
use super::parameters::Choice;

/// Evaluates as many images as there are slots (they repeat) and compares the answers of the `checked` ones, by their slots.
///
/// `part`: of the results of each layer but the last, one in so many is computed, and times are multiplied: nothing can be decrypted then.
pub fn run(network: &Network, choice: &Choice, images: &[Vec<i64>], checked: &[usize], part: usize) -> Cost {
    let mut cost = Cost { budget: f64::INFINITY, ..Cost::default() };
    let mut residues = vec![vec![Vec::new(); 10]; checked.len()];
    for &plain in &choice.plain {
        let answers = one_modulus(network, choice, plain, images, part, &mut cost);
        for (&slot, residues) in checked.iter().zip(&mut residues) {
            residues.iter_mut().zip(&answers).for_each(|(residues, answer)| residues.push(answer[slot]));
        }
    }
    if part == 1 {
        for (&slot, residues) in checked.iter().zip(&residues) {
            let found: Vec<BigInt> =
                residues.iter().map(|residues| ops::from_residues(residues, &choice.plain)).collect();
            assert_eq!(found, network.logits(&images[slot % images.len()]), "{}, slot {slot}", network.name);
        }
        assert!(cost.budget > 0.0, "{}: the noise has reached the message", network.name);
    }
    cost
}

/// The slots of each logit, modulo one t.
fn one_modulus(
    network: &Network,
    choice: &Choice,
    plain: u64,
    images: &[Vec<i64>],
    part: usize,
    cost: &mut Cost,
) -> Vec<Vec<u64>> {
    let mut rng = rand_0_9::rng();
    let parameters = choice.build(plain);
    let secret = SecretKey::random(&parameters, &mut rng);
    let mut key =
        |level| RelinearizationKey::new_leveled(&secret, level, level, &mut rng).expect("a level with two words");
    let keys = [key(0), key(choice.drops[0])];
    cost.relinearisation += keys[0].to_bytes().len();
    if choice.drops[0] > 0 {
        cost.relinearisation += keys[1].to_bytes().len();
    }

    let start = Instant::now();
    let pixels = network.layers[0].inputs();
    let encrypted = pixels.div_ceil(part);
    let mut y: Vec<Ciphertext> = (0..encrypted)
        .into_par_iter()
        .map(|pixel| {
            let values: Vec<u64> = (0..choice.degree).map(|slot| images[slot % images.len()][pixel] as u64).collect();
            secret.try_encrypt(&ops::slots(&values, 0, &parameters), &mut rand_0_9::rng()).expect("a plaintext")
        })
        .collect();
    cost.encrypt += scaled(start.elapsed(), pixels, encrypted);
    cost.up += y[0].to_bytes().len() * pixels;

    let mut level = 0;
    for (position, layer) in network.layers.iter().enumerate() {
        // A part of the results stands for all.
        y = repeated(y, layer.inputs());
        let all = layer.to.0 * layer.places();
        let some = if position < 2 { all.div_ceil(part) } else { all };
        let start = Instant::now();
        let mut z = sums(layer, &y, some, level, &parameters);
        drop(y);
        if position < 2 {
            ops::squares(&mut z, &keys[position], choice.drops[position]);
        } else {
            z.iter_mut().for_each(|z| (0..choice.drops[2]).for_each(|_| z.switch_down().expect("a smaller modulus")));
        }
        level += choice.drops[position];
        cost.evaluate += scaled(start.elapsed(), all, some);
        y = z;
    }
    cost.down += y.iter().map(|answer| answer.to_bytes().len()).sum::<usize>();
    if part > 1 {
        return vec![vec![0; choice.degree]; 10];
    }
    for answer in &y {
        cost.budget = cost.budget.min(ops::budget(answer, &secret, plain));
    }
    let start = Instant::now();
    let answers = y.par_iter().map(|answer| ops::decrypted(answer, &secret)).collect();
    cost.decrypt += start.elapsed();
    answers
}

fn scaled(time: Duration, all: usize, some: usize) -> Duration {
    time.mul_f64(all as f64 / some as f64)
}

/// As many as the layer reads.
fn repeated(some: Vec<Ciphertext>, inputs: usize) -> Vec<Ciphertext> {
    if some.len() == inputs { some } else { some.iter().cycle().take(inputs).cloned().collect() }
}

/// The first `some` results of a layer, biases added.
fn sums(
    layer: &Layer,
    y: &[Ciphertext],
    some: usize,
    level: usize,
    parameters: &std::sync::Arc<fhe::bfv::BfvParameters>,
) -> Vec<Ciphertext> {
    let outputs: Vec<_> = layer.outputs().take(some).collect();
    let taps: Vec<Vec<_>> = outputs
        .iter()
        .map(|&(channel, place)| layer.taps(channel, place).filter(|&(_, weight)| weight != 0).collect())
        .collect();
    let mut z = ops::sums(y, &taps, parameters);
    let biases: Vec<_> = (0..layer.to.0).map(|channel| ops::constant(layer.bias(channel), level, parameters)).collect();
    z.par_iter_mut().zip(&outputs).for_each(|(z, &(channel, _))| *z += &biases[channel]);
    z
}
