//! The order of a batch: which triples share a bucket, and which are opened. Drawn by the server from a seed when the client's
//! corrections are here; the client draws the same from the seed.
//!
//! Every triple draws one of 256 regions, and each region is shuffled: a uniform order, since with the sizes of the regions given every way
//! to fill them is as likely as any other, and so is every order within. A batch is far larger than caches, a region is not.

use super::batch::{Batch, SEED_BYTES};
use crate::primitive::block::Block;
use crate::primitive::prg::Prg;
use rayon::prelude::*;

/// Regions, as many as a byte has values.
const REGIONS: usize = 256;

/// Triples that a thread hands out at a time.
const PART: usize = 1 << 16;

/// Random blocks that a shuffle draws at a time.
const DRAWN: usize = 1024;

/// A permutation of the triples: bucket after bucket, then those that are opened.
pub struct Order {
    /// The regions are stream 0 of it, the shuffle of region r is stream r + 1.
    prg: Prg,
    /// Of every triple.
    regions: Vec<u8>,
}

impl Order {
    /// The order that a seed gives. Every order has the probability of any other, but for a factor of 1 + t^2 / 2^64, t triples.
    pub fn of(seed: &[u8; SEED_BYTES], batch: Batch) -> Self {
        let prg = Prg::new(seed);
        let mut regions = vec![0; batch.triples()];
        regions.par_chunks_mut(PART).enumerate().for_each(|(part, regions)| {
            let mut drawn = vec![Block::ZERO; regions.len().div_ceil(Block::BYTES)];
            prg.fill_of(0, (part * PART / Block::BYTES) as u64, &mut drawn);
            regions.copy_from_slice(&bytemuck::cast_slice(&drawn)[..regions.len()]);
        });
        Self { prg, regions }
    }

    /// Moves `from`, one for every triple, into this order, each by its number and `fix`.
    pub fn arrange<T: Copy + Send + Sync>(&self, from: &[T], to: &mut [T], fix: impl Fn(usize, T) -> T + Sync) {
        assert_eq!((from.len(), to.len()), (self.regions.len(), self.regions.len()), "one for every triple");
        let counts: Vec<[usize; REGIONS]> = self.regions.par_chunks(PART).map(histogram).collect();
        let (mut rooms, shuffled) = split(&mut *to, &counts);
        let parts = from.par_chunks(PART).zip(self.regions.par_chunks(PART)).zip(&mut rooms).enumerate();
        parts.for_each(|(part, ((from, regions), rooms))| {
            let mut next = [0; REGIONS];
            for (i, (value, region)) in from.iter().zip(regions).enumerate() {
                let region = usize::from(*region);
                rooms[region][next[region]] = fix(part * PART + i, *value);
                next[region] += 1;
            }
        });
        drop(rooms);
        let mut regions = Vec::with_capacity(REGIONS);
        let mut rest = to;
        for size in shuffled {
            let (region, others) = rest.split_at_mut(size);
            regions.push(region);
            rest = others;
        }
        regions.into_par_iter().enumerate().for_each(|(r, region)| self.shuffle(r, region));
    }

    /// Fisher and Yates.
    fn shuffle<T>(&self, region: usize, values: &mut [T]) {
        let mut drawn = [Block::ZERO; DRAWN];
        for (i, last) in (1..values.len()).rev().enumerate() {
            let (block, high) = (i / 2 % DRAWN, i % 2 == 1);
            if block == 0 && !high {
                let wanted = (last.div_ceil(2)).min(DRAWN);
                self.prg.fill_of(region as u64 + 1, (i / 2) as u64, &mut drawn[..wanted]);
            }
            let word = if high { drawn[block].high() } else { drawn[block].low() };
            values.swap(last, ((u128::from(word) * (last as u128 + 1)) >> 64) as usize);
        }
    }
}

/// How many of each region there are.
fn histogram(regions: &[u8]) -> [usize; REGIONS] {
    let mut counts = [0; REGIONS];
    regions.iter().for_each(|region| counts[usize::from(*region)] += 1);
    counts
}

/// Of every part the room for its values of each region, region after region and in it part after part; and the sizes of the regions.
fn split<'a, T>(mut room: &'a mut [T], counts: &[[usize; REGIONS]]) -> (Vec<Vec<&'a mut [T]>>, Vec<usize>) {
    let mut rooms: Vec<Vec<&mut [T]>> = counts.iter().map(|_| Vec::with_capacity(REGIONS)).collect();
    let mut sizes = vec![0; REGIONS];
    for (region, size) in sizes.iter_mut().enumerate() {
        for (rooms, counts) in rooms.iter_mut().zip(counts) {
            let (own, rest) = room.split_at_mut(counts[region]);
            rooms.push(own);
            room = rest;
            *size += counts[region];
        }
    }
    (rooms, sizes)
}

/// The order as numbers of triples.
#[cfg(test)]
pub(super) fn places(seed: &[u8; SEED_BYTES], batch: Batch) -> Vec<u32> {
    let numbers: Vec<u32> = (0..batch.triples() as u32).collect();
    let mut places = vec![0; numbers.len()];
    Order::of(seed, batch).arrange(&numbers, &mut places, |_, number| number);
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_has_every_triple_once_and_every_seed_its_own() {
        for good in [1000, PART] {
            let batch = Batch::of(3, good).unwrap();
            let mut all = places(&[1; 32], batch);
            assert_ne!(all, places(&[2; 32], batch));
            assert_eq!(all, places(&[1; 32], batch));
            let moved = all.iter().enumerate().filter(|(i, triple)| *i as u32 != **triple).count();
            assert!(moved > batch.triples() - 20, "{moved}");
            all.sort_unstable();
            assert!(all.iter().enumerate().all(|(i, triple)| *triple == i as u32));
        }
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
            *counts.entry(places(&seed, batch)).or_insert(0_u32) += 1;
        }
        assert_eq!(counts.len(), 24);
        let chi: f64 = counts.values().map(|n| (f64::from(*n) - 1000.0).powi(2) / 1000.0).sum();
        assert!(chi < 60.0, "{chi} with 23 degrees of freedom");
    }

    /// Where one triple of many goes, and that it meets any other: within a region and across.
    #[test]
    fn places_of_a_large_batch_are_uniform() {
        let batch = Batch::of(2, 2000).unwrap();
        let (tries, cells) = (4000_u32, 16);
        let mut counts = vec![0_u32; cells];
        let mut near = 0_u32;
        for i in 0..tries {
            let mut seed = [7; 32];
            seed[..4].copy_from_slice(&i.to_le_bytes());
            let all = places(&seed, batch);
            let at = |triple: u32| all.iter().position(|other| *other == triple).expect("every triple is there");
            counts[at(5) * cells / all.len()] += 1;
            near += u32::from(at(5).abs_diff(at(6)) < 400);
        }
        let mean = f64::from(tries) / cells as f64;
        let chi: f64 = counts.iter().map(|n| (f64::from(*n) - mean).powi(2) / mean).sum();
        assert!(chi < 50.0, "{chi} with 15 degrees of freedom");
        let n = batch.triples() as f64;
        let rate = (2.0 * 399.0 * n - 399.0 * 400.0) / (n * (n - 1.0));
        let (near, expected) = (f64::from(near), rate * f64::from(tries));
        assert!((near - expected).abs() < 5.0 * expected.sqrt(), "{near} and {expected}");
    }
}
