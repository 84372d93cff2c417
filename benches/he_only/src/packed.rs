//! One image over all slots, for the time that a single image takes (after LoLa: Brutzkus, Elisha, Gilad-Bachrach, "Low latency
//! privacy preserving inference", 2019).
//!
//! The N slots are two rows. A slot of a row is (k, r), k the major one: k counts what a result of the second layer sums over in one
//! channel, padded to a power of two, K; r = (place, copy) is one of its places, and copy and row tell its channels of one group apart.
//!
//! 1. The client sends a ciphertext for each offset of the first window; its slot (k, r) has the pixel which the first layer's result at
//!    (k, place) reads there. Weights are the same in all slots: plain integers. One ciphertext per channel is squared.
//! 2. Each group's weights are a plaintext per channel; sums over k by log K rotations leave the result in every k. Squared.
//! 3. Weights of logit c stand at k = c: a plaintext per group; sums over r and rows by rotations. The logits are at (c, 0).
//!
//! Other slots of the answer get random numbers, as they would say more than the logits. Noise tells something of the weights too, here and
//! in the other layout: a service would flood it, at a few words more.

use std::sync::Arc;
use std::time::Instant;

use fhe::bfv::{
    BfvParameters, Ciphertext, EvaluationKey, EvaluationKeyBuilder, Plaintext, RelinearizationKey, SecretKey,
};
use fhe_traits::{FheEncrypter, Serialize};
use num_bigint::BigInt;
use rand_0_9::Rng;
use rayon::prelude::*;

use super::network::Network;
use super::ops::{self, Cost};
use super::parameters::Choice;

/// Evaluates each image by itself and compares its logits; times and bytes are those of one, the mean.
pub fn run(network: &Network, choice: &Choice, images: &[Vec<i64>]) -> Cost {
    let mut cost = Cost { budget: f64::INFINITY, ..Cost::default() };
    let mut residues = vec![vec![Vec::new(); 10]; images.len()];
    for &plain in &choice.plain {
        let party = Parties::new(network, choice, plain);
        cost.relinearisation += party.relinearisation_bytes();
        cost.galois += party.sums.to_bytes().len() + party.copies.to_bytes().len();
        for (image, residues) in images.iter().zip(&mut residues) {
            let answer = party.infer(image, &mut cost, images.len() as u32);
            residues.iter_mut().zip(answer).for_each(|(residues, answer)| residues.push(answer));
        }
    }
    for (image, residues) in images.iter().zip(&residues) {
        let found: Vec<BigInt> = residues.iter().map(|residues| ops::from_residues(residues, &choice.plain)).collect();
        assert_eq!(found, network.logits(image), "{}", network.name);
    }
    assert!(cost.budget > 0.0, "{}: the noise has reached the message", network.name);
    cost.up /= images.len();
    cost.down /= images.len();
    cost
}

/// Client and server, for one plaintext modulus.
struct Parties<'a> {
    network: &'a Network,
    choice: &'a Choice,
    plain: u64,
    parameters: Arc<BfvParameters>,
    secret: SecretKey,
    relinearisation: [RelinearizationKey; 2],
    /// For sums over k and, a level or more below, over r and rows.
    sums: EvaluationKey,
    copies: EvaluationKey,
    weights: Weights,
}

/// The server's plaintexts: prepared once.
struct Weights {
    first_bias: Vec<Plaintext>,
    /// Per group: of each channel, and the bias.
    second: Vec<(Vec<Plaintext>, Plaintext)>,
    third: Vec<Plaintext>,
}

impl<'a> Parties<'a> {
    fn new(network: &'a Network, choice: &'a Choice, plain: u64) -> Parties<'a> {
        let mut rng = rand_0_9::rng();
        let parameters = choice.build(plain);
        let secret = SecretKey::random(&parameters, &mut rng);
        let levels = [0, choice.drops[0], choice.drops[0] + choice.drops[1]];
        let relinearisation = [0, 1].map(|square| {
            RelinearizationKey::new_leveled(&secret, levels[square], levels[square], &mut rng).expect("two words")
        });
        let rotations = choice.rotations(network);
        let mut builder = EvaluationKeyBuilder::new_leveled(&secret, levels[1], levels[1]).expect("a level");
        for i in 0..rotations[0] {
            builder.enable_column_rotation(1 << (rotations[1] + i)).expect("within a row");
        }
        let sums = builder.build(&mut rng).expect("keys");
        let mut builder = EvaluationKeyBuilder::new_leveled(&secret, levels[2], levels[2]).expect("a level");
        for i in 0..rotations[1] {
            builder.enable_column_rotation(1 << i).expect("within a row");
        }
        let copies = builder.enable_row_rotation().expect("rows").build(&mut rng).expect("keys");
        let weights = Weights::new(network, choice, levels, &parameters);
        Parties { network, choice, plain, parameters, secret, relinearisation, sums, copies, weights }
    }

    fn relinearisation_bytes(&self) -> usize {
        // One key serves both squares where no word was dropped in between.
        let keys = if self.choice.drops[0] == 0 { 1 } else { 2 };
        self.relinearisation[..keys].iter().map(|key| key.to_bytes().len()).sum()
    }

    /// The logits modulo t. `images`: how many the times are the mean of.
    fn infer(&self, image: &[i64], cost: &mut Cost, images: u32) -> Vec<u64> {
        let start = Instant::now();
        let asked = self.encrypt(image);
        cost.encrypt += start.elapsed() / images;
        cost.up += asked.iter().map(|ciphertext| ciphertext.to_bytes().len()).sum::<usize>();

        let start = Instant::now();
        let answer = self.evaluate(&asked);
        cost.evaluate += start.elapsed() / images;
        cost.down += answer.to_bytes().len();
        cost.budget = cost.budget.min(ops::budget(&answer, &self.secret, self.plain));

        let start = Instant::now();
        let slots = ops::decrypted(&answer, &self.secret);
        cost.decrypt += start.elapsed() / images;
        let between = 1 << self.choice.rotations(self.network)[1];
        (0..10).map(|class| slots[class * between]).collect()
    }

    /// A ciphertext for each offset of the first window.
    fn encrypt(&self, image: &[i64]) -> Vec<Ciphertext> {
        let [first, second, _] = &self.network.layers[..] else { unreachable!("three layers") };
        let shape = Shape::new(self.network, self.choice);
        (0..first.window())
            .into_par_iter()
            .map(|offset| {
                let pixel = |slot: Slot| {
                    let place = second.reads(slot.place, slot.k).filter(|_| slot.k < second.window())?;
                    Some(image[first.reads(place, offset)?] as u64)
                };
                let values: Vec<u64> = shape.slots().map(|slot| pixel(slot).unwrap_or(0)).collect();
                let plain = ops::slots(&values, 0, &self.parameters);
                self.secret.try_encrypt(&plain, &mut rand_0_9::rng()).expect("a plaintext")
            })
            .collect()
    }

    fn evaluate(&self, asked: &[Ciphertext]) -> Ciphertext {
        let [first, ..] = &self.network.layers[..] else { unreachable!("three layers") };
        let taps: Vec<Vec<_>> = (0..first.to.0)
            .map(|channel| (0..first.window()).map(|offset| (offset, first.weight(channel, 0, offset))).collect())
            .collect();
        let mut y = ops::sums(asked, &taps, &self.parameters);
        y.iter_mut().zip(&self.weights.first_bias).for_each(|(z, bias)| *z += bias);
        ops::squares(&mut y, &self.relinearisation[0], self.choice.drops[0]);

        let [sums, between] = self.choice.rotations(self.network);
        let partial: Vec<Ciphertext> = self
            .weights
            .second
            .par_iter()
            .zip(&self.weights.third)
            .map(|((weights, bias), third)| {
                let products = y.iter().zip(weights).map(|(y, weight)| y * weight);
                let mut z = products.reduce(|sum, product| sum + &product).expect("channels");
                for i in 0..sums {
                    let turned = self.sums.rotates_columns_by(&z, 1 << (between + i)).expect("there is a key");
                    z += &turned;
                }
                z += bias;
                let mut squared = [z];
                ops::squares(&mut squared, &self.relinearisation[1], self.choice.drops[1]);
                let [squared] = squared;
                squared * third
            })
            .collect();
        let mut z = partial.into_iter().reduce(|sum, part| sum + &part).expect("groups");
        for i in 0..between {
            let turned = self.copies.rotates_columns_by(&z, 1 << i).expect("there is a key");
            z += &turned;
        }
        let turned = self.copies.rotates_rows(&z).expect("there is a key");
        z += &turned;
        z += &self.mask();
        (0..self.choice.drops[2]).for_each(|_| z.switch_down().expect("a smaller modulus"));
        z
    }

    /// The last bias at the logits' slots, random numbers elsewhere.
    fn mask(&self) -> Plaintext {
        let between = 1 << self.choice.rotations(self.network)[1];
        let mut rng = rand_0_9::rng();
        let mut values: Vec<u64> = (0..self.choice.degree).map(|_| rng.random_range(0..self.plain)).collect();
        for class in 0..10 {
            values[class * between] = ops::residue(self.network.layers[2].bias(class), self.plain);
        }
        ops::slots(&values, self.choice.drops[0] + self.choice.drops[1], &self.parameters)
    }
}

impl Weights {
    fn new(network: &Network, choice: &Choice, levels: [usize; 3], parameters: &Arc<BfvParameters>) -> Weights {
        let [first, second, third] = &network.layers[..] else { unreachable!("three layers") };
        let shape = Shape::new(network, choice);
        let plain = |value: &BigInt| ops::residue(value, parameters.plaintext());
        let first_bias = (0..first.to.0).map(|channel| ops::constant(first.bias(channel), 0, parameters)).collect();
        let encode = |group: usize, level: usize, value: &dyn Fn(Slot, usize) -> Option<u64>| {
            let one = |slot: Slot| {
                let channel = (group * 2 + slot.row) * shape.copies + slot.copy;
                if channel < second.to.0 { value(slot, channel) } else { None }
            };
            let values: Vec<u64> = shape.slots().map(|slot| one(slot).unwrap_or(0)).collect();
            ops::slots(&values, level, parameters)
        };
        let groups = choice.groups(network);
        let of_group = |group| {
            let weights = (0..first.to.0)
                .map(|from| {
                    encode(group, levels[1], &|slot, channel| {
                        (slot.k < second.window()).then(|| plain(&second.weight(channel, from, slot.k).into()))
                    })
                })
                .collect();
            (weights, encode(group, levels[1], &|_, channel| Some(plain(second.bias(channel)))))
        };
        let last = |group| {
            encode(group, levels[2], &|slot, channel| {
                (slot.k < 10).then(|| plain(&third.weight(slot.k, channel, slot.place).into()))
            })
        };
        Weights { first_bias, second: (0..groups).map(of_group).collect(), third: (0..groups).map(last).collect() }
    }
}

/// How slots are numbered.
struct Shape {
    k: usize,
    /// Channels that one row holds side by side.
    copies: usize,
    /// Slots of one k.
    between: usize,
}

#[derive(Clone, Copy)]
struct Slot {
    row: usize,
    k: usize,
    place: usize,
    copy: usize,
}

impl Shape {
    fn new(network: &Network, choice: &Choice) -> Shape {
        let [sums, between] = choice.rotations(network).map(|log| 1 << log);
        let places = network.layers[1].places();
        assert_eq!(between % places, 0, "{}: the places of the second layer are a power of two", network.name);
        Shape { k: sums, copies: between / places, between }
    }

    /// All, in order.
    fn slots(&self) -> impl Iterator<Item = Slot> {
        let &Shape { k, copies, between } = self;
        (0..2 * k * between).map(move |slot| {
            let r = slot % between;
            // What is left over repeats the last place, and no weight reads it.
            Slot { row: slot / (k * between), k: slot / between % k, place: r / copies, copy: r % copies }
        })
    }
}
