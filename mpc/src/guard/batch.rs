//! How many triples are made at a time, and how likely a wrong one is not found.
//!
//! n buckets of B triples and C opened ones lie in a uniform order that the client learns after it has spoiled what it wants. It survives if
//! it spoiled k whole buckets and nothing else, of all sets of k B triples:
//!
//! ```text
//! C(n, k) / C(nB + C, kB)        largest at k = 1 or k = n;   with C >= B at k = 1:   n / C(nB + C, B)
//! ```

use super::flights::Flights;
use super::opened::DIGEST_BYTES;
use super::packed;
use crate::correlation::ot::OtCount;
use crate::party::Party;
use crate::program::{Cost, FrameCost, Time};

/// Bytes of the seed of an order of triples.
pub const SEED_BYTES: usize = 32;

/// Fewest triples of a bucket.
pub const MIN_BUCKET: usize = 2;

/// Most triples of a bucket.
pub const MAX_BUCKET: usize = 4;

/// Most triples of a batch, those that are checked and opened included.
const MAX_TRIPLES: usize = 1 << 26;

/// -log2 of the largest probability that a wrong triple comes out of a batch, for buckets of so many.
#[must_use]
pub const fn least_error_bits(bucket: usize) -> f64 {
    if bucket == MIN_BUCKET { 20.0 } else { 40.0 }
}

/// Fewest good triples of a batch where several are made instead of one: each takes three flights.
const LEAST_PIECE: usize = 1 << 19;

/// Most good triples of a batch.
const MAX_GOOD: usize = MAX_TRIPLES / MAX_BUCKET - 1;

/// A batch of triples: public numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Batch {
    bucket: usize,
    good: usize,
}

impl Batch {
    /// n = `good` triples out of as many buckets of B = `bucket`, and C = B opened ones.
    ///
    /// Returns `None` if a number is out of bounds, or a wrong triple would survive with more than 2^-[`least_error_bits`].
    #[must_use]
    pub fn new(bucket: usize, good: usize) -> Option<Self> {
        let batch = Self::of(bucket, good)?;
        (batch.error_bits() >= least_error_bits(bucket)).then_some(batch)
    }

    /// [`Batch::new`], whatever survives.
    pub(super) fn of(bucket: usize, good: usize) -> Option<Self> {
        let fits = (MIN_BUCKET..=MAX_BUCKET).contains(&bucket) && (1..=MAX_GOOD).contains(&good);
        fits.then_some(Self { bucket, good })
    }

    /// The smallest batch of at least `good` triples in which a wrong one survives with at most 2^-`bits`.
    ///
    /// Returns `None` if there is none, or if `bits` are fewer than [`least_error_bits`].
    #[must_use]
    pub fn at_least(bucket: usize, good: usize, bits: f64) -> Option<Self> {
        let fits = |n: usize| Self::new(bucket, n).is_some_and(|batch| batch.error_bits() >= bits);
        let (mut low, mut high) = (good.max(1), MAX_GOOD);
        if high < low || !fits(high) || bits < least_error_bits(bucket) {
            return None;
        }
        while low < high {
            let middle = low.midpoint(high);
            if fits(middle) { high = middle } else { low = middle + 1 }
        }
        Self::new(bucket, low)
    }

    /// The batches that make at least `need` triples in pieces, so that not all need memory at once: as many of one size, of 2^19 or more, as
    /// there can be so that a wrong triple survives in any of them with at most 2^-`bits`, all together. [`make_of`](super::make_of) one after the other.
    ///
    /// Returns `None` as [`Batch::at_least`].
    #[must_use]
    pub fn pieces(bucket: usize, need: usize, bits: f64) -> Option<Vec<Self>> {
        let smallest = Self::at_least(bucket, 1, bits)?.good().max(LEAST_PIECE);
        let of = |pieces: usize| {
            let batch = Self::at_least(bucket, need.div_ceil(pieces), bits)?;
            let fits = pieces == 1 || batch.error_bits() - (pieces as f64).log2() >= bits;
            fits.then(|| vec![batch; pieces])
        };
        // The error of all grows with their number. None is larger than a batch can be.
        let (mut most, mut too_many) = (need.div_ceil(MAX_GOOD).max(1), need / smallest + 2);
        while most + 1 < too_many {
            let middle = most.midpoint(too_many);
            if middle * smallest <= need && of(middle).is_some() { most = middle } else { too_many = middle }
        }
        of(most)
    }

    /// B: triples of a bucket.
    #[must_use]
    pub fn bucket(self) -> usize {
        self.bucket
    }

    /// n: triples that come out.
    #[must_use]
    pub fn good(self) -> usize {
        self.good
    }

    /// C: triples that are opened.
    #[must_use]
    pub fn opened(self) -> usize {
        self.bucket
    }

    /// All triples that are made.
    #[must_use]
    pub fn triples(self) -> usize {
        self.bucket * self.good + self.opened()
    }

    /// Oblivious transfers that it takes: three for a triple.
    #[must_use]
    pub fn ots(self) -> OtCount {
        OtCount::received_by(Party::Client, 3 * self.triples())
    }

    /// Bits of d and f of every pair, which both parties tell.
    pub(super) fn paired_bits(self) -> usize {
        2 * (self.bucket - 1) * self.good
    }

    /// Bits that the client opens: d and f of every pair, x and y of every opened triple.
    pub(super) fn opened_bits(self) -> usize {
        self.paired_bits() + 2 * self.opened()
    }

    /// Its frames, all in the offline stage, and its oblivious transfers.
    #[must_use]
    pub fn cost(self) -> Cost {
        Cost { frames: self.frames(&mut Flights::default()), demand: self.ots().into() }
    }

    /// Its frames, behind those of the offline stage that were sent before.
    pub fn frames(self, flights: &mut Flights) -> Vec<FrameCost> {
        let messages = [
            (Party::Client, packed::bytes(self.triples())),
            (Party::Server, SEED_BYTES + packed::bytes(self.paired_bits())),
            (Party::Client, packed::bytes(self.opened_bits()) + DIGEST_BYTES),
        ];
        let frame = |(sender, bytes)| FrameCost { time: Time::Offline(flights.send(sender)), sender, bytes };
        messages.map(frame).into()
    }

    /// -log2 of the probability that a wrong triple comes out.
    #[must_use]
    pub fn error_bits(self) -> f64 {
        let log_choose = (0..self.bucket).map(|i| (((self.triples() - i) as f64) / (i + 1) as f64).log2()).sum::<f64>();
        log_choose - (self.good as f64).log2()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Binomial coefficients of small numbers.
    fn choose(n: u32, k: u32) -> f64 {
        (0..k).map(|i| f64::from(n - i) / f64::from(i + 1)).product()
    }

    #[test]
    fn the_bound_is_that_of_the_best_number_of_spoiled_buckets() {
        for bucket in MIN_BUCKET..=MAX_BUCKET {
            for good in [1, 2, 3, 10, 40, 100] {
                let batch = Batch::of(bucket, good).unwrap();
                let (n, b, all) = (good as u32, bucket as u32, batch.triples() as u32);
                let best = (1..=n).map(|k| choose(n, k) / choose(all, k * b)).fold(0.0, f64::max);
                assert!((batch.error_bits() + best.log2()).abs() < 1e-6, "{batch:?}: {best}");
            }
        }
    }

    /// Without opened triples who spoils all of them is never found: the count above would say so.
    #[test]
    fn opened_triples_are_what_finds_who_spoils_all() {
        let (n, b) = (40, 3);
        assert!((choose(n, n) / choose(n * b, n * b) - 1.0).abs() < 1e-9);
    }

    /// The bound against a simulation of orders, where it is large enough to be seen.
    #[test]
    fn spoiling_a_bucket_by_luck_is_as_rare_as_the_bound_says() {
        use super::super::order::places;
        let batch = Batch::of(2, 3).unwrap();
        let tries = 20_000_u32;
        let lucky = (0..tries).filter(|i| {
            let mut seed = [0; 32];
            seed[..4].copy_from_slice(&i.to_le_bytes());
            let places = places(&seed, batch);
            let (buckets, opened) = places.split_at(6);
            let is_bad = |triple: &u32| *triple < 2;
            opened.iter().all(|triple| !is_bad(triple))
                && buckets.chunks(2).all(|bucket| bucket.iter().filter(|triple| is_bad(triple)).count() != 1)
        });
        let rate = f64::from(lucky.count() as u32) / f64::from(tries);
        let bound = (-batch.error_bits()).exp2();
        assert!((rate - bound).abs() < 5.0 * (bound / f64::from(tries)).sqrt(), "{rate} and {bound}");
    }

    #[test]
    fn batches_of_the_design() {
        assert!(Batch::new(3, 500_000).unwrap().error_bits() > 40.0);
        assert!(Batch::new(2, 525_000).unwrap().error_bits() > 20.0);
        let batch = Batch::at_least(3, 1000, 40.0).unwrap();
        assert!(batch.error_bits() >= 40.0 && batch.good() < 500_000);
        assert_eq!(Batch::at_least(3, 600_000, 40.0).unwrap().good(), 600_000);
        assert!(Batch::at_least(2, 1, 40.0).is_none());
        assert!(Batch::new(1, 5).is_none() && Batch::new(5, 5).is_none() && Batch::new(3, 0).is_none());
    }

    #[test]
    fn no_weaker_batch_can_be_had() {
        for (bucket, bits) in [(2, 20.0), (3, 40.0), (4, 40.0)] {
            let smallest = Batch::at_least(bucket, 1, bits).unwrap();
            assert!(smallest.error_bits() >= bits);
            assert!(Batch::new(bucket, smallest.good() - 1).is_none(), "{smallest:?}");
            assert!(Batch::of(bucket, smallest.good() - 1).unwrap().error_bits() < bits);
            assert!(Batch::at_least(bucket, 1 << 22, bits - 0.5).is_none());
            assert!(Batch::pieces(bucket, 1 << 22, bits - 0.5).is_none());
        }
    }

    #[test]
    fn pieces_make_enough_and_err_together_as_rarely_as_one_may() {
        for (bucket, bits) in [(2, 20.0), (3, 40.0), (4, 40.0)] {
            for need in [0, 1, 400_000, 600_000, 1 << 20, 3_000_000, 5_640_000, 16_000_000, 40_000_000] {
                let pieces = Batch::pieces(bucket, need, bits).unwrap();
                let made = pieces.iter().map(|batch| batch.good()).sum::<usize>();
                let least = Batch::at_least(bucket, 1, bits).unwrap().good().max(need);
                assert!(made >= need && made < least + pieces.len(), "{bucket} {need}: {made}");
                let error: f64 = pieces.iter().map(|batch| (-batch.error_bits()).exp2()).sum();
                assert!(error <= (-bits).exp2(), "{bucket} {need}: {error}");
                // One more would err too often, or be too small.
                let (more, n) = (pieces.len() + 1, need.max(1).div_ceil(pieces.len() + 1));
                let weaker = Batch::new(bucket, n).is_none_or(|batch| batch.error_bits() - (more as f64).log2() < bits);
                assert!(weaker || n < LEAST_PIECE, "{bucket} {need}: {more} pieces");
            }
        }
        assert_eq!(Batch::pieces(3, 5_640_000, 40.0).unwrap().len(), 5);
        assert!(Batch::pieces(3, MAX_TRIPLES, 40.0).unwrap().len() >= MAX_BUCKET);
    }
}
