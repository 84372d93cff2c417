//! The parameters that a network needs: plaintext moduli whose product holds every logit, ciphertext moduli that hold the noise, a
//! degree that makes them secure, and the cheapest of all these by a count of transforms.
//!
//! A logit may be as large as 2^150, so the network is evaluated modulo several primes t (CRT, as CryptoNets did). Sums inside may wrap
//! modulo t; only logits have to fit.
//!
//! Noise is followed as a standard deviation, in bits, on average over keys; s and errors have a deviation of sigma. A square multiplies it by
//! 2 t sqrt(N) sigma sqrt(N / 12), a product with a plaintext of N values below t by t sqrt(N / 3), and by 8 more because weights repeat in
//! slots and noise is then not independent (measured), a rotation and sum by 2; a key switch adds sigma sqrt(L N / 12) 2^word. Every run
//! measures the noise that is really there and asserts that it fits.

use std::sync::Arc;

use fhe::bfv::{BfvParameters, BfvParametersBuilder};
use fhe_math::zq::primes::generate_prime;
use num_bigint::BigInt;

use super::network::Network;

/// Degree and the most bits of the ciphertext modulus at 128 bits of classical security: Albrecht et al., "Homomorphic encryption
/// security standard" (2018), table 1, ternary secrets. Those of `fhe` are wider (centred binomial, as its errors).
const STANDARD: [(usize, usize); 4] = [(4096, 109), (8192, 218), (16384, 438), (32768, 881)];

/// Of secrets and errors. The standard's errors have 8 / sqrt(2 pi) = 3.19; the library's default variance, 10, is less.
const VARIANCE: usize = 11;

/// Deviations that noise may reach, and what is left to spare besides, in bits.
const TAIL: f64 = 3.3;
const SPARE: f64 = 3.0;

/// How slots are used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Layout {
    /// One number of an image in a ciphertext, and that of another image in each slot.
    Batched,
    /// One image over all slots.
    Packed,
}

/// What a network is evaluated with.
#[derive(Debug, Clone)]
pub struct Choice {
    pub layout: Layout,
    /// N.
    pub degree: usize,
    /// Primes, 1 modulo 2 N.
    pub plain: Vec<u64>,
    /// Bits of a ciphertext prime, and how many there are.
    pub word: usize,
    pub words: usize,
    /// How many of them the first square leaves unneeded, the second, and the answer.
    pub drops: [usize; 3],
}

impl Choice {
    /// The cheapest for this network.
    ///
    /// # Panics
    ///
    /// If no degree of the standard's table is large enough.
    pub fn of(network: &Network, layout: Layout) -> Choice {
        let bound = network.bound();
        let mut best: Option<(f64, Choice)> = None;
        for (degree, limit) in STANDARD {
            for count in 1..=10 {
                let Some(plain) = plaintext_moduli(degree, count, &bound) else { continue };
                for words in 2..=limit / 20 {
                    let Some(choice) = Choice::smallest(network, layout, degree, limit, &plain, words) else {
                        continue;
                    };
                    // Batched, a ciphertext serves N images.
                    let each = if layout == Layout::Batched { 1.0 } else { degree as f64 };
                    let cost = choice.transforms(network) * each * f64::from(degree.ilog2());
                    if best.as_ref().is_none_or(|(least, _)| cost < *least) {
                        best = Some((cost, choice));
                    }
                }
            }
        }
        best.unwrap_or_else(|| panic!("{}: no degree of the standard's table holds it", network.name)).1
    }

    /// Bits of the largest plaintext modulus.
    pub fn plain_bits(&self) -> f64 {
        (self.plain[0] as f64).log2()
    }

    /// The library's parameters for one of the plaintext moduli.
    pub fn build(&self, plain: u64) -> Arc<BfvParameters> {
        BfvParametersBuilder::new()
            .set_degree(self.degree)
            .set_plaintext_modulus(plain)
            .set_moduli_sizes(&vec![self.word; self.words])
            .set_variance(VARIANCE)
            .build_arc()
            .expect("there are enough primes")
    }

    /// With the shortest words that hold the noise, and as many dropped as early as possible.
    fn smallest(
        network: &Network,
        layout: Layout,
        degree: usize,
        limit: usize,
        plain: &[u64],
        words: usize,
    ) -> Option<Choice> {
        // Sums of layers are made in 64 bits (`sums`).
        let norm = network.layers.iter().map(|layer| layer.norm).max()? as f64;
        let longest = (62.0 - norm.log2()).floor().min(60.0) as usize;
        // Primes that are 1 modulo 2 N are rare among short ones.
        let shortest = (plain[0].ilog2() as usize + 2).max(degree.ilog2() as usize + 9);
        let mut choice = (shortest..=longest.min(limit / words)).find_map(|word| {
            let choice = Choice { layout, degree, plain: plain.to_vec(), word, words, drops: [0; 3] };
            (choice.margin(network) >= 0.0).then_some(choice)
        })?;
        for position in 0..3 {
            loop {
                let mut fewer = choice.clone();
                fewer.drops[position] += 1;
                // A key switch needs two words; the answer is not switched.
                let least = if position == 2 { 1 } else { 2 };
                let left = words.checked_sub(fewer.drops[..=position].iter().sum()).filter(|&left| left >= least);
                if left.is_none() || fewer.margin(network) < 0.0 {
                    break;
                }
                choice = fewer;
            }
        }
        Some(choice)
    }

    /// Bits between the noise of the answer and what decryption bears.
    fn margin(&self, network: &Network) -> f64 {
        let n = self.degree as f64;
        let t = self.plain_bits();
        let sigma = (VARIANCE as f64).sqrt();
        let [first, second, third] = &network.layers[..] else { unreachable!("three layers") };
        let product = t + (n / 3.0).log2() / 2.0 + 3.0;
        let switched = |noise: f64, words: usize| {
            plus(noise, (sigma * (words as f64 * n / 12.0).sqrt()).log2() + self.word as f64)
        };
        let square = |noise: f64, words| switched(noise + t + (2.0 * sigma * n / 12f64.sqrt()).log2(), words);
        let dropped = |noise: f64, count: usize| {
            if count == 0 {
                noise
            } else {
                plus(noise - (count * self.word) as f64, (sigma * (n / 12.0).sqrt()).log2())
            }
        };
        let rotated = |noise: f64, times: u32, words| (0..times).fold(noise, |noise, _| switched(noise + 1.0, words));

        let [words, later, last] = self.words_left();
        let noise = square(sigma.log2() + first.length.log2(), words);
        let noise = dropped(noise, self.drops[0]);
        let noise = match self.layout {
            Layout::Batched => square(noise + second.length.log2(), later),
            Layout::Packed => {
                let [sums, _] = self.rotations(network);
                let summed = rotated(noise + product + (first.to.0 as f64).log2() / 2.0, sums, later);
                square(summed, later)
            }
        };
        let noise = dropped(noise, self.drops[1]);
        let noise = match self.layout {
            Layout::Batched => noise + third.length.log2(),
            Layout::Packed => {
                let [_, copies] = self.rotations(network);
                rotated(noise + product + (self.groups(network) as f64).log2() / 2.0, copies + 1, last)
            }
        };
        let noise = dropped(noise, self.drops[2]);
        let left = (last - self.drops[2]) * self.word;
        // A prime of `word` bits may be half of 2^word.
        left as f64 - 1.0 - t - 1.0 - noise - TAIL - SPARE
    }

    /// Ciphertext primes of the first square, the second, and after it.
    pub fn words_left(&self) -> [usize; 3] {
        let later = self.words - self.drops[0];
        [self.words, later, later - self.drops[1]]
    }

    /// Packed: the logarithms of the slots that a result of the second layer is summed over, and of those in between.
    pub fn rotations(&self, network: &Network) -> [u32; 2] {
        let window = network.layers[1].window().next_power_of_two().ilog2();
        [window, (self.degree / 2).ilog2() - window]
    }

    /// Packed: how many ciphertexts the second layer's results take.
    pub fn groups(&self, network: &Network) -> usize {
        let layer = &network.layers[1];
        let [_, between] = self.rotations(network);
        let copies = (1 << between) / layer.places();
        if copies == 0 { usize::MAX } else { layer.to.0.div_ceil(2 * copies) }
    }

    /// Number-theoretic transforms of all moduli, a plaintext prime after the other: a guide to the time.
    fn transforms(&self, network: &Network) -> f64 {
        let [first, second, third] = &network.layers[..] else { unreachable!("three layers") };
        let [words, later, last] = self.words_left().map(|words| words as f64);
        // Two polynomials into twice the moduli, three back, and one for each pair of moduli.
        let square = |words: f64| 5.0 * (2.0 * words + 1.0) + words * words + 4.0 * words;
        let rotation = |words: f64| words * words + 3.0 * words;
        // A multiply-add of a word against a butterfly of each of its log N rounds.
        let add = |words: f64| 2.0 * words / f64::from(self.degree.ilog2());
        let results = |position: usize| (network.layers[position].to.0 * network.layers[position].places()) as f64;
        let taps = |position: usize, results: f64| {
            results * (network.layers[position].inputs() as f64).min((second.window() * first.to.0) as f64)
        };
        let each = match self.layout {
            Layout::Batched => {
                results(0) * (square(words) + first.window() as f64 * add(words))
                    + results(1) * square(later)
                    + taps(1, results(1)) * add(later)
                    + results(2) * third.inputs() as f64 * add(last)
            }
            Layout::Packed => {
                let groups = self.groups(network) as f64;
                let [sums, copies] = self.rotations(network).map(f64::from);
                first.to.0 as f64 * (square(words) + first.window() as f64 * add(words))
                    + groups * (first.to.0 as f64 * add(later) + sums * rotation(later) + square(later))
                    + groups * add(last)
                    + (copies + 1.0) * rotation(last)
            }
        };
        each * self.plain.len() as f64
    }
}

/// Of two independent deviations, in bits.
fn plus(a: f64, b: f64) -> f64 {
    (a.exp2().powi(2) + b.exp2().powi(2)).log2() / 2.0
}

/// `count` primes, 1 modulo 2 N so that slots exist, whose product is more than twice the bound; the shortest there are.
fn plaintext_moduli(degree: usize, count: usize, bound: &BigInt) -> Option<Vec<u64>> {
    let wanted = (bound.bits() as usize + 1).div_ceil(count);
    (wanted.max(degree.ilog2() as usize + 2)..=wanted + 4).filter(|&bits| bits <= 58).find_map(|bits| {
        let mut primes = Vec::new();
        let mut upper = 1 << bits;
        for _ in 0..count {
            upper = generate_prime(bits, 2 * degree as u64, upper)?;
            primes.push(upper);
        }
        let product: BigInt = primes.iter().map(|&prime| BigInt::from(prime)).product();
        (product > bound * 2 + 1).then_some(primes)
    })
}
