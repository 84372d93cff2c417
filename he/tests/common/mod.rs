//! What the integration tests share: seeded generators and the definition of the negacyclic product.

#![allow(dead_code)]

pub mod sources;

use lowkey_he::{ParameterSet, Ring, TorusWord};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;

/// A generator with a fixed seed, printed so that a failing test says what it ran with.
pub fn seeded(seed: u64) -> ChaCha20Rng {
    println!("seed {seed}");
    ChaCha20Rng::seed_from_u64(seed)
}

/// The ring of a set over the word `W`.
pub fn ring<W: TorusWord>(set: &'static ParameterSet) -> &'static Ring<W> {
    Ring::shared(set).expect("the word has the width of the torus")
}

/// Uniform torus coefficients.
pub fn uniform<W: TorusWord>(rng: &mut ChaCha20Rng, count: usize) -> Vec<W> {
    (0..count).map(|_| W::from_u64(rng.next_u64())).collect()
}

/// Uniform integers from -bound to bound.
pub fn signed(rng: &mut ChaCha20Rng, bound: i64, count: usize) -> Vec<i64> {
    (0..count).map(|_| rng.random_range(-bound..=bound)).collect()
}

/// The negacyclic product mod q by the definition.
pub fn schoolbook<W: TorusWord>(torus: &[W], small: &[i64]) -> Vec<W> {
    let n = torus.len();
    let mut out = vec![W::default(); n];
    for (k, &s) in small.iter().enumerate().filter(|(_, s)| **s != 0) {
        let s = W::from_i64(s);
        for (i, t) in torus.iter().enumerate() {
            let term = t.wrapping_mul(s);
            let at = &mut out[(i + k) % n];
            *at = if i + k < n { at.wrapping_add(term) } else { at.wrapping_sub(term) };
        }
    }
    out
}

/// Runs a generic test for every parameter set: `$test::<word>(set, arguments)`.
#[macro_export]
macro_rules! for_every_set {
    ($test:ident $(, $argument:expr)*) => {
        for set in lowkey_he::params::ALL {
            lowkey_he::with_word!(set, W => $test::<W>(set $(, $argument)*));
        }
    };
}
