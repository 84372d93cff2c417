//! What the tests share: seeded random networks, and other runtimes.
#![allow(dead_code)] // each test file uses a part of it

pub mod oracle;

use lowkey_models::random::{self, Size};
use lowkey_models::{Network, Tensor};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

/// Runs `check` on random networks of several sizes, with a few inputs each; a failure names the seed.
pub fn for_random_networks(count: u64, check: impl Fn(&Network, &[Tensor])) {
    for seed in 0..count {
        let (network, inputs) = network_and_inputs(seed);
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&network, &inputs)));
        if let Err(panic) = checked {
            eprintln!("seed {seed}: {}", network.architecture().to_json());
            std::panic::resume_unwind(panic);
        }
    }
}

/// The random network of a seed, and three inputs.
pub fn network_and_inputs(seed: u64) -> (Network, Vec<Tensor>) {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let sizes = [
        Size::default(),
        Size { blocks: 1, clips: true, ..Size::default() },
        Size { blocks: 9, channels: 6, side: 9, clips: true, ..Size::default() },
        Size { weight_bits: 2, activation_bits: 2, ..Size::default() },
    ];
    let mut network = random::network(&mut rng, &sizes[seed as usize % sizes.len()]);
    if seed % 5 == 4 {
        network = random::floats(&mut rng, &network);
    }
    let inputs = (0..3).map(|_| random::input(&mut rng, &network.architecture().input)).collect();
    (network, inputs)
}
