//! Where roundings take their coins from.

use std::collections::VecDeque;
use std::fmt;

use lowkey_mpc::fixed::refresh::Refresh;

/// A value that is rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// A feature, before the first step.
    Feature,
    /// A master as the weight of a product.
    Weight,
    /// A product of inputs and weights.
    Output,
    /// The difference of a logit to the largest.
    Difference,
    /// The sum of a sample's exponentials.
    Sum,
    /// A probability.
    Probability,
    /// A product of inputs and gradients.
    Update,
    /// A product of gradients and weights.
    Gradient,
    /// Three times a momentum.
    Decay,
    /// The difference of two values of a window: not rounded, only watched.
    Game,
}

/// What is rounded: a value, and of which layer; the softmax is in the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Site {
    /// Which value.
    pub value: Value,
    /// Of which layer.
    pub layer: usize,
}

/// Tosses coins in the order of use: a step asks for all coins of a site at once, row by row.
pub trait Coins {
    /// `count` coins below 2^`dropped`; those of a product with guard bits may also be -1 or 2^`dropped`.
    fn toss(&mut self, site: Site, dropped: u8, count: usize) -> Vec<i64>;
}

/// Pseudo-random coins of a seed.
#[derive(Debug)]
pub struct Seeded(Refresh);

impl Seeded {
    /// The coins of a seed.
    pub fn new(seed: u64) -> Self {
        Self(Refresh::new(&[0; 32], &[0; 32], seed))
    }

    /// Those of a secret.
    pub fn of(secret: &[u8; 32]) -> Self {
        Self(Refresh::new(secret, &[0; 32], 0))
    }
}

impl Coins for Seeded {
    fn toss(&mut self, _: Site, dropped: u8, count: usize) -> Vec<i64> {
        self.0.draw(count).iter().map(|word| (word & ((1 << dropped) - 1)).cast_signed()).collect()
    }
}

/// Coins that a run on shares has recorded, site by site. They are low halves of shares: never printed.
#[derive(Clone, Default)]
pub struct Recorded(VecDeque<(Site, Vec<i64>)>);

impl Recorded {
    /// Adds the coins of the next site.
    pub fn push(&mut self, site: Site, coins: Vec<i64>) {
        self.0.push_back((site, coins));
    }

    /// What was recorded and not tossed yet, in the order of use.
    #[cfg(test)]
    pub fn sites(&self) -> impl Iterator<Item = (Site, &[i64])> {
        self.0.iter().map(|(site, coins)| (*site, &coins[..]))
    }

    /// True if all coins have been tossed.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recorded({} sites, ..)", self.0.len())
    }
}

impl Coins for Recorded {
    /// # Panics
    /// If the step asks for other coins than were recorded.
    fn toss(&mut self, site: Site, dropped: u8, count: usize) -> Vec<i64> {
        let (recorded, coins) = self.0.pop_front().expect("a recorded coin for every rounding");
        assert_eq!((recorded, coins.len()), (site, count), "coins are replayed in the order of use");
        debug_assert!(coins.iter().all(|coin| (-1..=1 << dropped).contains(coin)), "coins of {site:?}");
        coins
    }
}
