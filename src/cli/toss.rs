//! Networks evaluated in the clear, on all cores; those that round by coins with pseudo-random ones of a seed.

use lowkey::{Error, Result};
use lowkey_models::rings::Wraps;
use lowkey_models::{Network, Tensor};
use lowkey_mpc::block::Block;
use lowkey_mpc::prg::Prg;
use serde::Serialize;

/// The coins of evaluations, unless another seed is asked for.
pub const SEED: u64 = 0;

/// What was rounded by coins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Tossed {
    /// Whose coins.
    seed: u64,
    /// Results of an inference that they round.
    results: u64,
}

impl Tossed {
    /// `None` if the network has no coins.
    pub fn of(network: &Network, seed: u64) -> Option<Tossed> {
        let results = network.tosses();
        (results > 0).then_some(Tossed { seed, results })
    }

    /// For people.
    pub fn text(&self) -> String {
        format!("{} results of an inference were rounded by coins, those of seed {}", self.results, self.seed)
    }
}

/// Tosses the coins of an image, of so many bits each.
pub fn coins_of(seed: u64, image: usize) -> impl FnMut(u32) -> u64 {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&(image as u64).to_le_bytes());
    let (mut prg, mut blocks) = (Prg::new(&key), [Block::default(); 64]);
    let mut next = blocks.len();
    move |bits| {
        if next == blocks.len() {
            prg.fill(&mut blocks);
            next = 0;
        }
        next += 1;
        blocks[next - 1].low() & ((1 << bits) - 1)
    }
}

/// The answers to images from number `first` on, and how often sums wrapped.
pub fn answers(network: &Network, batch: &[Tensor], first: usize, seed: u64) -> Result<(Vec<Tensor>, Wraps)> {
    let answers = match network.architecture().has_coins() {
        false => network.run_batch_counting_parallel(batch),
        true => network.run_batch_tossing_parallel(batch, |image| coins_of(seed, first + image)),
    };
    answers.map_err(|error| Error::Input(Box::new(error)))
}

/// A network's class of an answer.
pub fn class_of(network: &Network, answer: &Tensor) -> Option<usize> {
    network.architecture().class_of(&answer.iter().copied().collect::<Vec<i64>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every value of a coin is as likely, images and seeds have their own, and a seed's are always the same.
    #[test]
    fn coins_of_a_seed() {
        let toss = |seed, image| {
            let mut coins = coins_of(seed, image);
            (0..4000).map(|_| coins(3)).collect::<Vec<u64>>()
        };
        let coins = toss(1, 2);
        assert!(coins == toss(1, 2) && coins != toss(2, 1) && coins != toss(1, 3));
        let counts: Vec<usize> = (0..8).map(|value| coins.iter().filter(|coin| **coin == value).count()).collect();
        assert!(
            counts.iter().sum::<usize>() == 4000 && counts.iter().all(|count| (380..620).contains(count)),
            "{counts:?}"
        );
    }
}
