//! The order of a batch: which triples share a bucket, and which are opened. Drawn by the server from a seed when the client's
//! corrections are here; the client draws the same from the seed.

use super::batch::{Batch, SEED_BYTES};
use crate::primitive::block::Block;
use crate::primitive::prg::Prg;

/// Random blocks that are drawn at a time.
const DRAWN: usize = 1024;

/// A permutation of the triples: bucket after bucket, then those that are opened.
pub struct Order {
    places: Vec<u32>,
    batch: Batch,
}

impl Order {
    /// The order that a seed gives. Every order has the probability of any other, but for a factor of 1 + t^2 / 2^64, t triples.
    pub fn of(seed: &[u8; SEED_BYTES], batch: Batch) -> Self {
        let count = u32::try_from(batch.triples()).expect("a batch is bounded");
        let mut places: Vec<u32> = (0..count).collect();
        let (mut prg, mut drawn) = (Prg::new(seed), [Block::ZERO; DRAWN]);
        for (i, last) in (1..places.len()).rev().enumerate() {
            let (block, high) = (i / 2 % DRAWN, i % 2 == 1);
            if block == 0 && !high {
                prg.fill(&mut drawn);
            }
            let word = if high { drawn[block].high() } else { drawn[block].low() };
            places.swap(last, ((u128::from(word) * (last as u128 + 1)) >> 64) as usize);
        }
        Self { places, batch }
    }

    /// The triples of bucket after bucket.
    pub fn buckets(&self) -> std::slice::ChunksExact<'_, u32> {
        self.places[..self.batch.bucket() * self.batch.good()].chunks_exact(self.batch.bucket())
    }

    /// The triples of buckets, as they lie.
    pub fn in_buckets(&self) -> &[u32] {
        &self.places[..self.batch.bucket() * self.batch.good()]
    }

    /// The triples that are opened.
    pub fn opened(&self) -> &[u32] {
        &self.places[self.batch.bucket() * self.batch.good()..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_has_every_triple_once_and_every_seed_its_own() {
        let batch = Batch::of(3, 1000).unwrap();
        let order = Order::of(&[1; 32], batch);
        let mut all: Vec<u32> = order.buckets().flatten().chain(order.opened()).copied().collect();
        assert_eq!((order.buckets().len(), order.opened().len()), (1000, 3));
        assert_ne!(all, Order::of(&[2; 32], batch).places);
        assert_eq!(all, Order::of(&[1; 32], batch).places);
        all.sort_unstable();
        assert!(all.iter().enumerate().all(|(i, triple)| *triple == i as u32));
    }

    /// All orders of five triples, equally often.
    #[test]
    fn orders_are_uniform() {
        let batch = Batch::of(2, 1).unwrap();
        let mut counts = std::collections::HashMap::new();
        let tries = 24_000_u32;
        for i in 0..tries {
            let mut seed = [0; 32];
            seed[..4].copy_from_slice(&i.to_le_bytes());
            *counts.entry(Order::of(&seed, batch).places).or_insert(0_u32) += 1;
        }
        assert_eq!(counts.len(), 24);
        let chi: f64 = counts.values().map(|n| (f64::from(*n) - 1000.0).powi(2) / 1000.0).sum();
        assert!(chi < 60.0, "{chi} with 23 degrees of freedom");
    }
}
