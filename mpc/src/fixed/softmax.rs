//! p_i = e_i / sum of e_j, e_i = exp(z_i - max z), of shared logits: unbiased rounding of arguments, two tables, one product.
//!
//! ```text
//! u_i = max z - z_i               by a tournament (maxpool)                                     f_z fractional bits
//! t_i = T(u_i)                    to steps of 1/8
//! e_i = EXP[min(t_i, 63)]         by [t_i < 64], selection modulo 64, a 1-of-64 OT              10 fractional bits; EXP[63] = 0
//! S   = T(sum of e_i - 1)         to steps of 1/16: 8 bits, from 0 to 144
//! rho = RECIPROCAL[S]             a 1-of-256 OT: 1 / (1 + S / 16)                               12 fractional bits
//! p_i = T(e_i rho)                by OLE (multiply), then extended                              f_d fractional bits
//! ```
//!
//! Where a score is wanted ([`super::score`]), `LOG[S]` = ln(1 + S / 16) is looked up as rho is, and the u_i are put out.
//!
//! A table takes additive shares as they are: the client's share is the choice, the server rotates the table by its own. Each T takes
//! refreshed shares ([`super::refresh`]) and its coins from the client's; there are 2 n + 1 of them for n classes, in the order u, S, p.

use super::{extend, multiply, truncate};
use crate::gadget::compare::top_bit;
use crate::gadget::select::multiply_bit;
use crate::party::Party;
use crate::program::{Builder, Program, Share, Time, Word};
use crate::protocol::maxpool::{larger, tournament};
use crate::protocol::table::look_up;
use crate::spec::{LayoutError, Part, check_parts, check_size};
use serde::{Deserialize, Serialize};

/// Fractional bits of t.
pub const GRID: u8 = 3;
/// Bits of an index of [`EXP`].
const INDEX: usize = 6;
/// Fractional bits of e.
pub const EXP_BITS: u8 = 10;
/// Fractional bits of S.
const SUM_BITS: u8 = 4;
/// Fractional bits of rho.
pub const RECIPROCAL_BITS: u8 = 12;
/// Most classes: S has 8 bits.
pub const MAX_CLASSES: usize = 10;
/// Bits of the ring of e rho, which is at most 2^22.
const PRODUCT: usize = 24;
/// Bits of the ring that the exponentials are looked up in: they have 11 bits.
const SMALL: usize = 12;
/// Bits of the ring that S is truncated from.
const SUM: usize = 14;
/// Bits of an index of the table of reciprocals.
const SUM_INDEX: usize = SUM - (EXP_BITS - SUM_BITS) as usize;

/// exp(-i / 8) in units of 2^-10, rounded to nearest.
pub const EXP: [u64; 64] = [
    1024, 904, 797, 704, 621, 548, 484, 427, 377, 332, 293, 259, 228, 202, 178, 157, 139, 122, 108, 95, 84, 74, 65, 58,
    51, 45, 40, 35, 31, 27, 24, 21, 19, 17, 15, 13, 11, 10, 9, 8, 7, 6, 5, 5, 4, 4, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 1,
    1, 1, 1, 0, 0, 0,
];

/// 1 / (1 + i / 16) in units of 2^-12, rounded to nearest; there are 146, and 144 is the largest index that ten classes reach.
#[must_use]
pub fn reciprocal(i: u64) -> u64 {
    let (ones, parts) = (1 << (RECIPROCAL_BITS + SUM_BITS), (1 << SUM_BITS) + i);
    (2 * ones + parts) / (2 * parts)
}

/// Entries of the table of reciprocals.
pub const RECIPROCALS: u64 = 146;

/// Fractional bits of logarithms of S.
pub const LOG_BITS: u8 = 6;
/// Bits of the ring of such a logarithm, of which the top one is zero.
pub const LOG_WIDTH: u8 = 9;

/// ln(1 + i / 16) in units of 2^-6, rounded to nearest.
#[rustfmt::skip]
pub const LOG: [u8; RECIPROCALS as usize] = [
    0, 4, 8, 11, 14, 17, 20, 23, 26, 29, 31, 33, 36, 38, 40, 42, 44, 46, 48, 50, 52, 54, 55, 57, 59, 60, 62, 63, 65,
    66, 68, 69, 70, 72, 73, 74, 75, 77, 78, 79, 80, 81, 82, 84, 85, 86, 87, 88, 89, 90, 91, 92, 93, 94, 94, 95, 96,
    97, 98, 99, 100, 101, 101, 102, 103, 104, 105, 105, 106, 107, 108, 108, 109, 110, 111, 111, 112, 113, 113, 114,
    115, 115, 116, 117, 117, 118, 119, 119, 120, 120, 121, 122, 122, 123, 123, 124, 125, 125, 126, 126, 127, 127, 128,
    128, 129, 129, 130, 131, 131, 132, 132, 133, 133, 134, 134, 135, 135, 136, 136, 136, 137, 137, 138, 138, 139, 139,
    140, 140, 141, 141, 142, 142, 142, 143, 143, 144, 144, 145, 145, 145, 146, 146, 147, 147, 147, 148,
];

/// What the program puts out beside the probabilities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct More {
    /// For [`super::score`]: both shares of u_i for every class, `width` bits, then of LOG\[S\], [`LOG_WIDTH`] bits.
    pub score: bool,
    /// The client's coins in their order, at the end.
    pub coins: bool,
}

/// Which logits become which probabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Spec {
    /// n: how many.
    pub classes: u8,
    /// Bits of the ring of the logits, which holds every difference of two.
    pub width: u8,
    /// f_z: fractional bits of the logits.
    pub fraction: u8,
    /// f_d: fractional bits of the probabilities.
    pub result: u8,
    /// Bits of the ring of the probabilities.
    pub to: u8,
}

/// The digits of both comparisons.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Chains {
    /// Of a game of the tournament: [`Spec::compared`] bits.
    pub game: Vec<Part>,
    /// Of `[t < 64]`: [`Spec::bounded`] bits.
    pub bound: Vec<Part>,
}

impl Spec {
    /// T on a difference to the maximum.
    #[must_use]
    pub fn grid(self) -> truncate::Spec {
        truncate::Spec { width: self.width, dropped: self.fraction - GRID }
    }

    /// T on the sum.
    #[must_use]
    pub fn sum(self) -> truncate::Spec {
        truncate::Spec { width: SUM as u8, dropped: EXP_BITS - SUM_BITS }
    }

    /// T on a product.
    #[must_use]
    pub fn product(self) -> truncate::Spec {
        truncate::Spec { width: PRODUCT as u8, dropped: EXP_BITS + RECIPROCAL_BITS - self.result }
    }

    fn extension(self) -> extend::Spec {
        extend::Spec { from: self.product().kept(), to: self.to, signed: false }
    }

    /// Bits that a game compares.
    #[must_use]
    pub fn compared(self) -> usize {
        usize::from(self.width) - 1
    }

    /// Bits that `[t < 64]` compares.
    #[must_use]
    pub fn bounded(self) -> usize {
        usize::from(self.grid().kept()) - 1
    }

    /// Whether the ring holds the logits' differences, and all below are in range then.
    #[must_use]
    pub fn fits(self, logits: &[i64]) -> bool {
        let (most, least) = (logits.iter().max(), logits.iter().min());
        most.zip(least).is_some_and(|(most, least)| most - least < 1 << self.compared())
    }

    /// Checks the bounds, and with `chains` their digits.
    ///
    /// # Errors
    /// [`LayoutError`], saying what does not fit.
    pub fn check(self, chains: Option<&Chains>) -> Result<(), LayoutError> {
        check_size("classes of a softmax", self.classes.into(), 2, MAX_CLASSES)?;
        check_size("fractional bits of logits", self.fraction.into(), GRID.into(), 20)?;
        let least = usize::from(self.fraction - GRID) + INDEX + 2;
        check_size("the ring of logits", self.width.into(), least, 48)?;
        check_size("fractional bits of probabilities", self.result.into(), 1, 20)?;
        self.extension().check()?;
        let Some(chains) = chains else { return Ok(()) };
        check_parts("comparison", &chains.game, self.compared())?;
        check_parts("bound", &chains.bound, self.bounded())
    }
}

/// The ideal version for the coins of one sample, in their order: u_1 to u_n, S, p_1 to p_n. What the program computes where
/// [`Spec::fits`].
///
/// # Panics
/// If the number of coins is wrong.
#[must_use]
pub fn ideal(spec: Spec, logits: &[i64], coins: &[i64]) -> Vec<i64> {
    let n = logits.len();
    assert_eq!((n, coins.len()), (spec.classes.into(), 2 * n + 1), "classes and coins");
    let (e, sum) = exponentials(spec, logits, coins);
    let rho = reciprocal(sum.cast_unsigned()).cast_signed();
    e.iter().zip(&coins[n + 1..]).map(|(e, coin)| truncate::ideal(spec.product().dropped, e * rho, *coin)).collect()
}

/// e of every class, and S, for the coins of one sample.
fn exponentials(spec: Spec, logits: &[i64], coins: &[i64]) -> (Vec<i64>, i64) {
    let largest = logits.iter().copied().max().expect("there are classes");
    let exponential = |(z, coin): (&i64, &i64)| {
        let u = largest - z;
        let t = truncate::ideal(spec.grid().dropped, u, *coin);
        EXP.get(usize::try_from(t).expect("a difference to the maximum is not negative")).copied().unwrap_or(0)
    };
    let e: Vec<i64> = logits.iter().zip(coins).map(exponential).map(u64::cast_signed).collect();
    let sum = e.iter().sum::<i64>() - (1 << EXP_BITS);
    (e, truncate::ideal(spec.sum().dropped, sum, coins[logits.len()]))
}

/// LOG\[S\] for the coins of one sample, as [`ideal`] takes them.
///
/// # Panics
/// If the number of coins is wrong.
#[must_use]
pub fn ideal_log(spec: Spec, logits: &[i64], coins: &[i64]) -> u64 {
    assert_eq!((logits.len(), coins.len()), (spec.classes.into(), 2 * logits.len() + 1), "classes and coins");
    log(exponentials(spec, logits, coins).1.cast_unsigned())
}

fn log(i: u64) -> u64 {
    usize::try_from(i).ok().and_then(|i| LOG.get(i)).copied().unwrap_or(0).into()
}

/// The program, one lane per sample. Inputs, for every class: both shares of the logit and, twice, the same refreshing number (`width` bits);
/// then the refreshing number of S, twice (14 bits); then for every class that of p, twice (24 bits); all at the start of the online
/// stage. Outputs, for every class: both shares of p, `to` bits; and what `more` says.
///
/// # Errors
/// [`LayoutError`] if something does not fit.
pub fn program(spec: Spec, chains: &Chains, more: More) -> Result<Program, LayoutError> {
    spec.check(Some(chains))?;
    let mut b = Builder::new();
    record(&mut b, spec, chains, more);
    Ok(b.finish())
}

/// Records inputs, protocol and outputs; the specification has been checked.
pub(crate) fn record(b: &mut Builder, spec: Spec, chains: &Chains, more: More) {
    let classes = 0..spec.classes;
    let input = |b: &mut Builder, width: u8| b.input_share(width.into(), Time::START, Time::START);
    let (logits, first): (Vec<Share>, Vec<Share>) =
        classes.clone().map(|_| (input(b, spec.width), input(b, spec.width))).unzip();
    let second = input(b, SUM as u8);
    let third: Vec<Share> = classes.map(|_| input(b, PRODUCT as u8)).collect();
    let mut tossed = Vec::new();

    let max = tournament(logits.clone(), |x, y| larger(b, &chains.game, &x, &y));
    let (mut e, mut us) = (Vec::new(), Vec::new());
    for (logit, refresh) in logits.iter().zip(&first) {
        let u = b.sub_shares(&max, logit);
        let t = toss(b, &u, spec.grid(), refresh, &mut tossed);
        e.push(exponential(b, &chains.bound, &t));
        us.push(u);
    }
    let sum = sum(b, spec, &e, &second, &mut tossed);
    let rho = of_sum(b, &sum, usize::from(RECIPROCAL_BITS) + 1, |i| reciprocal(i) - LEAST);
    for (product, refresh) in products(b, &e, &rho).iter().zip(&third) {
        let p = toss(b, product, spec.product(), refresh, &mut tossed);
        let p = extend::record(b, spec.extension(), &p);
        b.output_share(&p);
    }
    if more.score {
        us.iter().for_each(|u| b.output_share(u));
        let log = of_sum(b, &sum, LOG_WIDTH.into(), log);
        b.output_share(&log);
    }
    if more.coins {
        tossed.iter().for_each(|coin| b.output(coin));
    }
}

/// T; the coin is noted.
fn toss(b: &mut Builder, x: &Share, spec: truncate::Spec, refresh: &Share, coins: &mut Vec<Word>) -> Share {
    let (y, coin) = truncate::record(b, x, spec.dropped.into(), refresh);
    coins.push(coin);
    y
}

/// EXP[min(t, 63)] modulo 2^24.
fn exponential(b: &mut Builder, chain: &[Part], t: &Share) -> Share {
    let last = (1 << INDEX) - 1;
    let bound = b.constant(Party::Server, last + 1, t.server.width());
    let difference = Share { client: t.client.clone(), server: b.sub(&t.server, &bound) };
    let is_below = top_bit(b, chain, &difference);
    let bound = b.constant(Party::Server, last, INDEX);
    let low = b.resize(&t.server, INDEX);
    let below = Share { client: b.resize(&t.client, INDEX), server: b.sub(&low, &bound) };
    let below = multiply_bit(b, is_below, &below);
    let index = Share { client: below.client, server: b.add(&below.server, &bound) };
    let entries = EXP.iter().map(|entry| b.constant(Party::Server, *entry, SMALL)).collect();
    let e = look_up(b, entries, &index.client, &index.server);
    crate::gadget::extend::extend(b, &e, PRODUCT)
}

/// S.
fn sum(b: &mut Builder, spec: Spec, e: &[Share], refresh: &Share, coins: &mut Vec<Word>) -> Share {
    let mut sum = Share { client: b.resize(&e[0].client, SUM), server: b.resize(&e[0].server, SUM) };
    for e in &e[1..] {
        let e = Share { client: b.resize(&e.client, SUM), server: b.resize(&e.server, SUM) };
        sum = b.add_shares(&sum, &e);
    }
    let one = b.constant(Party::Server, 1 << EXP_BITS, SUM);
    sum.server = b.sub(&sum.server, &one);
    toss(b, &sum, spec.sum(), refresh, coins)
}

/// An entry of a table of [`RECIPROCALS`] entries, at S. Of rho it is what exceeds the least one, so that its top bit is zero.
fn of_sum(b: &mut Builder, sum: &Share, width: usize, entry: impl Fn(u64) -> u64) -> Share {
    let entry = |i: u64| if i < RECIPROCALS { entry(i) } else { 0 };
    let entries = (0..1 << SUM_INDEX).map(|i| b.constant(Party::Server, entry(i), width)).collect();
    look_up(b, entries, &sum.client, &sum.server)
}

/// The last, smallest reciprocal.
const LEAST: u64 = 407;

/// e rho modulo 2^24.
fn products(b: &mut Builder, e: &[Share], rho: &Share) -> Vec<Share> {
    let products = multiply::record(b, e, rho);
    let add = |b: &mut Builder, product: &Word, e: &Word| {
        let least = b.mul_constant(e, LEAST);
        b.add(product, &least)
    };
    let with_least = products.iter().zip(e).map(|(product, e)| Share {
        client: add(b, &product.client, &e.client),
        server: add(b, &product.server, &e.server),
    });
    with_least.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixed::refresh::Refresh;
    use crate::layout::Search;
    use crate::primitive::bits::Planes;
    use crate::program::testing::{open, run, share};
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha20Rng;
    use std::sync::Arc;

    const NARROW: Spec = Spec { classes: 10, width: 13, fraction: 4, result: 5, to: 19 };

    fn check(spec: Spec, chains: &Chains, samples: &[Vec<i64>], seed: u64) {
        let more = More { score: true, coins: true };
        let program = Arc::new(program(spec, chains, more).unwrap());
        let (n, lanes) = (usize::from(spec.classes), samples.len());
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let mut refresh = Refresh::new(&[seed as u8; 32], &[1; 32], 0);
        let mut inputs = Vec::new();
        let mut twice = |inputs: &mut Vec<Planes>, width: usize| {
            let r = refresh.planes(lanes, width);
            inputs.extend([r.clone(), r]);
        };
        for i in 0..n {
            let z: Vec<u64> = samples.iter().map(|sample| sample[i].cast_unsigned()).collect();
            inputs.extend(share(&z, spec.width.into(), &mut rng));
            twice(&mut inputs, spec.width.into());
        }
        twice(&mut inputs, SUM);
        (0..n).for_each(|_| twice(&mut inputs, PRODUCT));
        let outcome = run(&program, lanes, &inputs, seed);
        let coins: Vec<Vec<u64>> = outcome.client[2 * n + 1..].iter().map(Planes::to_lanes).collect();
        let opened: Vec<Vec<u64>> = (0..=2 * n).map(|i| open(&outcome.client[i], &outcome.server[i])).collect();
        for (lane, sample) in samples.iter().enumerate() {
            let coins: Vec<i64> = coins.iter().map(|coins| coins[lane].cast_signed()).collect();
            let got: Vec<i64> = opened.iter().map(|opened| opened[lane].cast_signed()).collect();
            assert!(spec.fits(sample), "{sample:?}");
            assert_eq!(got[..n], ideal(spec, sample, &coins), "{spec:?} {sample:?} seed {seed}");
            let largest = sample.iter().max().unwrap();
            let us: Vec<i64> = sample.iter().map(|z| largest - z).collect();
            assert_eq!(got[n..2 * n], us, "{spec:?} {sample:?} seed {seed}");
            assert_eq!(got[2 * n].cast_unsigned(), ideal_log(spec, sample, &coins), "{spec:?} {sample:?} seed {seed}");
        }
    }

    fn samples(spec: Spec, lanes: usize, spread: i64, rng: &mut ChaCha20Rng) -> Vec<Vec<i64>> {
        let mut z = || (rng.next_u64() % (2 * spread) as u64) as i64 - spread;
        (0..lanes).map(|_| (0..spec.classes).map(|_| z()).collect()).collect()
    }

    fn chains(spec: Spec) -> Chains {
        Search::new(0.73).softmax(spec).unwrap().pop().unwrap().layout
    }

    #[test]
    fn tables_are_rounded_to_nearest() {
        for (i, entry) in EXP.iter().enumerate() {
            assert_eq!(*entry, (1024.0 * (-(i as f64) / 8.0).exp()).round() as u64, "entry {i}");
        }
        for i in 0..RECIPROCALS {
            assert_eq!(log(i), (64.0 * (1.0 + i as f64 / 16.0).ln()).round() as u64, "logarithm {i}");
            assert_eq!(reciprocal(i), (4096.0 / (1.0 + i as f64 / 16.0)).round() as u64, "entry {i}");
        }
        assert_eq!((EXP[63], reciprocal(0), reciprocal(RECIPROCALS - 1)), (0, 1 << RECIPROCAL_BITS, LEAST));
    }

    #[test]
    fn equals_the_ideal_version_for_its_coins() {
        let chains = chains(NARROW);
        for (seed, spread) in [(1, 1), (2, 20), (3, 100), (4, 1 << 11)] {
            let mut rng = ChaCha20Rng::seed_from_u64(seed);
            let mut all = samples(NARROW, 128, spread, &mut rng);
            // One class far ahead, and all alike.
            all.push((0..10).map(|i| if i == 3 { 2040 } else { -2040 }).collect());
            all.push(vec![-7; 10]);
            check(NARROW, &chains, &all, seed);
        }
    }

    /// The largest difference that a game compares, whichever way its coin falls, and the first that does not fit.
    #[test]
    fn reaches_the_limit_of_the_ring() {
        let (chains, limit) = (chains(NARROW), 1 << NARROW.compared());
        let ends = |difference: i64| [(-2048, difference - 2048), (1 - difference, 1), (0, difference)];
        let sample = |(low, high): (i64, i64), place: usize| -> Vec<i64> {
            (0..10).map(|i| if i == place { high } else { low + i64::from(i == 7) }).collect()
        };
        let near = (limit - 3..limit).flat_map(ends);
        let all: Vec<Vec<i64>> = near.flat_map(|pair| (0..7).map(move |place| sample(pair, place))).collect();
        assert!(all.iter().all(|sample| NARROW.fits(sample)));
        (10..14).for_each(|seed| check(NARROW, &chains, &all, seed));
        for pair in ends(limit) {
            assert!(!NARROW.fits(&sample(pair, 0)), "{pair:?}");
        }
    }

    #[test]
    fn other_classes_and_formats() {
        let two = Spec { classes: 2, width: 11, fraction: 3, result: 4, to: 18 };
        let wide = Spec { classes: 7, width: 18, fraction: 6, result: 9, to: 25 };
        for (seed, (spec, lanes)) in [(two, 1), (two, 65), (wide, 5)].into_iter().enumerate() {
            let mut rng = ChaCha20Rng::seed_from_u64(seed as u64);
            check(spec, &chains(spec), &samples(spec, lanes, 200, &mut rng), seed as u64);
        }
    }

    /// Probabilities are those of real numbers, up to the steps of the grid.
    #[test]
    fn approximates_softmax_in_the_mean() {
        let logits = [50, 44, 30, 10, 0, -5, -20, 41, 33, 49];
        let mut rng = ChaCha20Rng::seed_from_u64(6);
        let mut means = [0.0; 10];
        const RUNS: usize = 20_000;
        let masks: Vec<u64> = [NARROW.grid(), NARROW.sum(), NARROW.product()].map(|t| (1 << t.dropped) - 1).to_vec();
        for _ in 0..RUNS {
            let mut coin = |i: usize| (rng.next_u64() & masks[i]) as i64;
            let coins: Vec<i64> = (0..21).map(|i| coin([0, 1, 2][usize::from(i > 9) + usize::from(i > 10)])).collect();
            for (mean, p) in means.iter_mut().zip(ideal(NARROW, &logits, &coins)) {
                *mean += p as f64 / 32.0 / RUNS as f64;
            }
        }
        let exact = logits.map(|z| (z as f64 / 16.0).exp());
        let sum: f64 = exact.iter().sum();
        for (mean, exact) in means.iter().zip(exact) {
            assert!((mean - exact / sum).abs() < 0.01, "{mean} for {}", exact / sum);
        }
    }

    /// At 0.73 bits per random OT: within the 2.4 kB per sample of the cost model.
    #[test]
    fn costs_what_was_planned() {
        let choices = Search::new(0.73).softmax(NARROW).unwrap();
        let least = choices.last().unwrap();
        let program = program(NARROW, &least.layout, More::default()).unwrap();
        assert_eq!(program.cost(1).flights(), least.flights);
        assert!((program.tally().price(0.73) - least.price).abs() < 1e-6);
        assert!(least.price < 8.0 * 2400.0, "{} bits in {} flights", least.price, least.flights);
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let chains = chains(NARROW);
        assert!(program(NARROW, &chains, More::default()).is_ok());
        let wrong = [
            Spec { classes: 1, ..NARROW },
            Spec { classes: 11, ..NARROW },
            Spec { fraction: 2, ..NARROW },
            Spec { width: 8, ..NARROW },
            Spec { width: 14, ..NARROW },
            Spec { result: 0, ..NARROW },
            Spec { to: 6, ..NARROW },
        ];
        for spec in wrong {
            assert!(program(spec, &chains, More::default()).is_err(), "{spec:?}");
        }
    }
}
