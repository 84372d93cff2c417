//! y = max(z_1, .., z_n, 0) in a wider ring with its choices kept, and the way back: the gradient to the value that was taken.
//!
//! ```text
//! forward     a tournament: bit = [x < y], max = x - bit (x - y)       n - 1 games, the first of equal values wins
//!             then the rectifier of the winner ([`super::relu`])
//! back        d' = bit_0 d modulo 2^r                                  bit_0 that of the rectifier
//!             games in reverse: the second player gets bit d', the first the rest
//!             each modulo 2^e
//! ```
//!
//! Games are played in the small ring, which holds every difference of two values of a window. All bits are kept as XOR shares: n - 1
//! of games, in the order of `tournament`, and one of the rectifier.

use super::extend;
use super::relu;
use crate::gadget::compare::{top_bit, words};
use crate::gadget::select::multiply_bit;
use crate::program::{Bit, Builder, Program, Share, Time};
use crate::protocol::maxpool::{MAX_WINDOW, tournament};
use crate::spec::{LayoutError, Part, check_size};
use serde::{Deserialize, Serialize};

/// A rectified max pool, in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Spec {
    /// n: values per window.
    pub window: u8,
    /// The rings of values and results, forward; of gradients, on the way back.
    pub rings: relu::Spec,
}

impl Spec {
    /// Whether the ring holds the differences of a window.
    #[must_use]
    pub fn fits(self, window: &[i64]) -> bool {
        let half = 1_i64 << (self.rings.from - 1);
        let (most, least) = (window.iter().max(), window.iter().min());
        window.iter().all(|z| self.rings.fits(*z)) && most.zip(least).is_some_and(|(most, least)| most - least < half)
    }

    /// Checks the bounds, and with `chain` the digits of a comparison.
    ///
    /// # Errors
    /// [`LayoutError`], saying what does not fit.
    pub fn check(self, chain: Option<&[Part]>) -> Result<(), LayoutError> {
        check_size("values per window", self.window.into(), 1, MAX_WINDOW)?;
        self.rings.check(chain)
    }
}

/// What a pool chose: which value, and whether it passed the rectifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The place of the first of the largest values.
    pub place: usize,
    /// Whether it was not negative.
    pub passed: bool,
}

/// The ideal version: y modulo 2^e, and what was chosen.
///
/// # Panics
/// In debug builds, if a difference is out of range, or there is no value.
#[must_use]
pub fn ideal(spec: Spec, window: &[i64]) -> (u64, Chosen) {
    debug_assert!(spec.fits(window), "{window:?} is out of the range of {spec:?}");
    let largest = window.iter().copied().max().expect("a window has a value");
    let place = window.iter().position(|z| *z == largest).expect("the largest is one of them");
    let (y, passed) = relu::ideal(spec.rings, largest);
    (y, Chosen { place, passed })
}

/// The ideal version of the way back: gradients of the values, modulo 2^e.
///
/// # Panics
/// In debug builds, if d is out of range where it passes.
#[must_use]
pub fn ideal_back(spec: Spec, chosen: Chosen, d: i64) -> Vec<u64> {
    let at = |place| chosen.passed && place == chosen.place;
    (0..usize::from(spec.window)).map(|place| relu::ideal_back(spec.rings, at(place), d)).collect()
}

/// The program, one lane per window. Inputs: both shares of each value, r bits; `chain` covers r - 1 bits. Outputs: both shares of y, e bits;
/// then both halves of the bit of each game, and of the rectifier's.
///
/// # Errors
/// [`LayoutError`] if something does not fit.
pub fn program(spec: Spec, chain: &[Part], client: Time, server: Time) -> Result<Program, LayoutError> {
    spec.check(Some(chain))?;
    let mut b = Builder::new();
    record(&mut b, spec, chain, client, server);
    Ok(b.finish())
}

/// Records inputs, protocol and outputs.
pub(crate) fn record(b: &mut Builder, spec: Spec, chain: &[Part], client: Time, server: Time) {
    let values = (0..spec.window).map(|_| b.input_share(spec.rings.from.into(), client, server)).collect();
    let mut bits = Vec::new();
    let max = tournament(values, |x: Share, y: Share| {
        let difference = b.sub_shares(&x, &y);
        let less = top_bit(b, chain, &difference);
        bits.push(less);
        let change = multiply_bit(b, less, &difference);
        b.sub_shares(&x, &change)
    });
    let (y, bit) = relu::rectify(b, spec.rings, chain, &max);
    b.output_share(&y);
    for bit in bits.into_iter().chain([bit]) {
        let bit = words(b, bit);
        b.output_share(&bit);
    }
}

/// The program of the way back. Inputs: both halves of each bit that [`program`] kept, then both shares of d, r bits. Outputs: both shares of
/// the gradient of each value, e bits.
///
/// # Errors
/// [`LayoutError`] if something does not fit.
pub fn program_back(spec: Spec, client: Time, server: Time) -> Result<Program, LayoutError> {
    spec.check(None)?;
    let mut b = Builder::new();
    let mut bits: Vec<Bit> = (0..spec.window).map(|_| relu::input_bit(&mut b, client, server)).collect();
    let d = b.input_share(spec.rings.from.into(), client, server);
    let passed = bits.pop().expect("a rectifier keeps its bit");
    let d = multiply_bit(&mut b, passed, &d);
    let mut gradients: Vec<Option<Share>> = vec![None; spec.window.into()];
    let mut games = Vec::new();
    let winner = tournament((0..gradients.len()).map(Player::Value).collect(), |x, y| {
        games.push((x, y));
        Player::Game(games.len() - 1)
    });
    let mut waiting = vec![(winner, d)];
    while let Some((player, d)) = waiting.pop() {
        match player {
            Player::Value(place) => gradients[place] = Some(d),
            Player::Game(game) => {
                let (x, y) = games[game];
                let second = multiply_bit(&mut b, bits[game], &d);
                waiting.push((x, b.sub_shares(&d, &second)));
                waiting.push((y, second));
            }
        }
    }
    for d in gradients {
        let d = extend::record(&mut b, spec.rings.extension(true), &d.expect("every value plays"));
        b.output_share(&d);
    }
    Ok(b.finish())
}

/// Who plays: a value, or the winner of a game.
#[derive(Clone, Copy)]
enum Player {
    Value(usize),
    Game(usize),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Search;
    use crate::program::testing::{ODD_LANES, open, run, share};
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha20Rng;
    use std::sync::Arc;

    const AT: Time = Time::START;

    fn check(spec: Spec, windows: &[Vec<i64>], d: &[i64], seed: u64) {
        let (from, lanes) = (usize::from(spec.rings.from), windows.len());
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let chain = &Search::new(0.73).rectify(spec.rings, AT, AT).unwrap()[0].layout;
        let forward = Arc::new(program(spec, chain, AT, AT).unwrap());
        let mut inputs = Vec::new();
        for i in 0..usize::from(spec.window) {
            let z: Vec<u64> = windows.iter().map(|window| window[i].cast_unsigned()).collect();
            inputs.extend(share(&z, from, &mut rng));
        }
        let outcome = run(&forward, lanes, &inputs, seed);
        let y = open(&outcome.client[0], &outcome.server[0]);
        let d_words: Vec<u64> = d.iter().map(|d| d.cast_unsigned()).collect();
        let kept = outcome.client[1..].iter().zip(&outcome.server[1..]);
        let mut inputs: Vec<_> = kept.flat_map(|(c, s)| [c.clone(), s.clone()]).collect();
        inputs.extend(share(&d_words, from, &mut rng));
        let back = Arc::new(program_back(spec, AT, AT).unwrap());
        let outcome = run(&back, lanes, &inputs, seed);
        let gradients: Vec<Vec<u64>> = outcome.client.iter().zip(&outcome.server).map(|(c, s)| open(c, s)).collect();
        for (lane, window) in windows.iter().enumerate() {
            let (want, chosen) = ideal(spec, window);
            assert_eq!(y[lane], want, "{spec:?} {window:?} seed {seed}");
            let got: Vec<u64> = gradients.iter().map(|d| d[lane]).collect();
            assert_eq!(got, ideal_back(spec, chosen, d[lane]), "{spec:?} {window:?} d = {} seed {seed}", d[lane]);
        }
    }

    /// Every pair of values whose difference fits, and windows of all sizes with many ties.
    #[test]
    fn pools_and_goes_back() {
        let rings = relu::Spec { from: 5, to: 9 };
        let pair = Spec { window: 2, rings };
        let all = (-16..16).flat_map(|x| (-16..16).map(move |y| vec![x, y]));
        let pairs: Vec<Vec<i64>> = all.filter(|window| pair.fits(window)).collect();
        let d: Vec<i64> = (0..pairs.len()).map(|i| i as i64 % 16 - 8).collect();
        check(pair, &pairs, &d, 1);
        for (seed, window) in [1, 2, 3, 4, 9].into_iter().enumerate() {
            let mut rng = ChaCha20Rng::seed_from_u64(seed as u64);
            let mut draw = |size: u32| i64::from(rng.next_u32() % size) - i64::from(size / 2);
            let windows: Vec<Vec<i64>> = (0..ODD_LANES[seed]).map(|_| (0..window).map(|_| draw(5)).collect()).collect();
            let d: Vec<i64> = windows.iter().map(|_| draw(16)).collect();
            check(Spec { window, rings }, &windows, &d, seed as u64);
        }
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let rings = relu::Spec { from: 5, to: 9 };
        for (window, chain) in [(0, 4), (65, 4), (4, 3)] {
            assert!(program(Spec { window, rings }, &[Part::Digit(chain)], AT, AT).is_err());
        }
        assert!(program_back(Spec { window: 0, rings }, AT, AT).is_err());
        assert!(program(Spec { window: 4, rings }, &[Part::Digit(4)], AT, AT).is_ok());
    }
}
