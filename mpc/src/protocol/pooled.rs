//! y = clamp(max over a window of floor(z / 2^s), 0, top): max pool between shift and clip, one clip per window.
//!
//! A number t = floor(z / 2^s) is the sum of a word of the client, one of the server, and the carry out of the low bits:
//! t = T + k, T = (c >> lo) + (v >> lo) mod 2^n, lo = s + g, n = ell - s. The carries are computed on every value
//! ([`carries`]) and stay XOR-shared; the pool ([`program`]) plays a tournament on pairs (T, k) and clamps the winner
//! ([`crate::clamp`]). A game between (T_1, k_1) and (T_2, k_2):
//!
//! ```text
//! b = msb(T_1 - T_2 - k_2)        T = T_1 - b (T_1 - T_2)        k = k_1 xor b (k_1 xor k_2)
//! ```
//!
//! a chain over n - 1 bits, two OLEs of n bits and one AND. k_1 is not needed to find the winner: T_1 - T_2 - k_2 =
//! (t_1 - t_2) - k_1, which is negative if t_1 < t_2, not negative if t_1 > t_2, and if t_1 = t_2 either may win.
//!
//! Every difference must fit: the t of one window differ by at most 2^(n-1) - 1. An accumulator planned with one bit more
//! than it needs has room for that.

use crate::gadget::carry::{Pair, ands, carry};
use crate::gadget::clamp::{Clamp, clamp};
use crate::gadget::compare::words;
use crate::gadget::extend::finish;
use crate::gadget::select::multiply_bit;
use crate::party::Party;
use crate::program::{Bit, Builder, Program, Share, Time, Word};
use crate::protocol::maxpool::{MAX_WINDOW, tournament};
use crate::protocol::requantise;
use crate::spec::{Clip, Finish, Layout, LayoutError, Part, check_parts, check_ring, check_size};
use serde::{Deserialize, Serialize};

/// What is pooled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Spec {
    /// The layer without the pool; y has at least two bits.
    pub layer: requantise::Spec,
    /// Its clip.
    pub clip: Clip,
    /// Values per window.
    pub window: u8,
}

impl Spec {
    /// lo = s + g: the low bits, which only carry.
    #[must_use]
    pub fn low(self) -> usize {
        usize::from(self.layer.shift) + usize::from(self.layer.guard)
    }

    /// n = ell - s: bits of the words that are pooled.
    #[must_use]
    pub fn width(self) -> usize {
        usize::from(self.layer.ell.saturating_sub(self.layer.shift))
    }

    /// Checks the bounds, the chain of a game, the layout of the clamp, which has no low digits, and the ring.
    ///
    /// # Errors
    /// [`LayoutError`], saying what does not fit.
    pub fn check(self, game: &[Part], layout: &Layout, form: Finish) -> Result<(), LayoutError> {
        let (low, a, high) = self.layer.cuts()?;
        check_size("bits of a value pooled before its clip", a, 2, requantise::MAX_BITS.into())?;
        check_size("values per window", self.window.into(), 1, MAX_WINDOW)?;
        check_parts("comparison", game, self.width() - 1)?;
        check_parts("low", &layout.low, 0)?;
        layout.check_clamp(low, a, high, self.clip)?;
        check_ring(form, a)
    }
}

/// The ideal version: y from the accumulators of a window.
#[must_use]
pub fn ideal(spec: Spec, window: &[i64]) -> u64 {
    window.iter().map(|z| requantise::ideal_clipped(spec.layer, spec.clip, *z)).max().unwrap_or(0)
}

/// The program of the carries, one lane per value; not needed where [`Spec::low`] is 0. Inputs: the low bits of the client's c
/// (offline) and of the server's v. Outputs: the halves of k.
///
/// # Errors
/// [`LayoutError`] unless there are low bits and the chain covers them.
pub fn carries(spec: Spec, chain: &[Part]) -> Result<Program, LayoutError> {
    let (low, ..) = spec.layer.cuts()?;
    check_size("low bits", low, 1, requantise::MAX_ELL.into())?;
    check_parts("low", chain, low)?;
    let mut b = Builder::new();
    record_carries(&mut b, low, chain);
    Ok(b.finish())
}

/// Records [`carries`].
pub(crate) fn record_carries(b: &mut Builder, low: usize, chain: &[Part]) {
    let c = b.input(Party::Client, low, Time::OFFLINE);
    let v = b.input(Party::Server, low, Time::START);
    let pair = Pair::new(b, &v, &c);
    let k = carry(b, chain, &pair, None).expect("there are low bits");
    let words = words(b, k);
    b.output_share(&words);
}

/// The program of the pool, one lane per window. Inputs, for every value of the window: the client's c >> lo (n bits,
/// offline), where there are low bits its half of k, the server's v >> lo (n bits) and its half of k; then, with
/// [`Finish::Upload`], the client's xhat (ring bits, offline). Outputs: both shares, or the server's m.
///
/// # Errors
/// [`LayoutError`] if something does not fit.
pub fn program(spec: Spec, game: &[Part], layout: &Layout, form: Finish) -> Result<Program, LayoutError> {
    spec.check(game, layout, form)?;
    let mut b = Builder::new();
    record(&mut b, spec, game, layout, form)?;
    Ok(b.finish())
}

/// Records inputs, protocol and outputs; the layouts have been checked.
pub(crate) fn record(
    b: &mut Builder,
    spec: Spec,
    game: &[Part],
    layout: &Layout,
    form: Finish,
) -> Result<(), LayoutError> {
    let (_, a, _) = spec.layer.cuts()?;
    let players = players(b, spec);
    let xhat = form.uploads().then(|| b.input(Party::Client, form.ring(a), Time::OFFLINE));
    let winner = tournament(players, |first, second| play(b, game, &first, &second));
    let y = clamp_winner(b, spec, a, layout, &winner);
    finish(b, &y, form, xhat.as_ref());
    Ok(())
}

/// t = word + carry.
pub(crate) struct Player {
    word: Share,
    carry: Option<Bit>,
}

impl Player {
    /// When the server and the client know all of it.
    pub(crate) fn times(&self) -> (Time, Time) {
        let halves = self.carry.map(Bit::both);
        let latest = |word: &Word, half: Option<Time>| half.map_or(word.time, |half| half.max(word.time));
        (latest(&self.word.server, halves.map(|(s, _)| s.time)), latest(&self.word.client, halves.map(|(_, c)| c.time)))
    }
}

/// The inputs of a window.
pub(crate) fn players(b: &mut Builder, spec: Spec) -> Vec<Player> {
    let has_carry = spec.low() > 0;
    let half = |b: &mut Builder, party| {
        let word = b.input(party, 1, Time::START);
        b.half(party, word.planes[0], word.time)
    };
    let window = 0..spec.window;
    let player = window.map(|_| {
        let client = b.input(Party::Client, spec.width(), Time::OFFLINE);
        let c = has_carry.then(|| half(b, Party::Client));
        let server = b.input(Party::Server, spec.width(), Time::START);
        let s = has_carry.then(|| half(b, Party::Server));
        Player { word: Share { client, server }, carry: s.zip(c).map(|(s, c)| b.bit(s, c)) }
    });
    player.collect()
}

/// The larger of two.
pub(crate) fn play(b: &mut Builder, game: &[Part], first: &Player, second: &Player) -> Player {
    let difference = b.sub_shares(&first.word, &second.word);
    let top = difference.server.width() - 1;
    // T_1 - T_2 - k_2 = (T_1 - T_2 - 1) + (1 - k_2).
    let mut compared = difference.clone();
    let carry_in = second.carry.map(|k| {
        let one = b.constant(Party::Client, 1, top + 1);
        compared.client = b.sub(&compared.client, &one);
        b.flip(k)
    });
    let pair = Pair::new(b, &compared.server, &compared.client);
    let below = carry(b, game, &pair.slice(0..top), carry_in).expect("a difference has bits below its sign");
    let local = pair.bit(b, top);
    let less = b.xor_bits(local, below);
    let change = multiply_bit(b, less, &difference);
    let carry = first.carry.zip(second.carry).map(|(first, second)| {
        let change = b.xor_bits(first, second);
        let change = ands(b, less, &[change])[0];
        b.xor_bits(first, change)
    });
    Player { word: b.sub_shares(&first.word, &change), carry }
}

/// Shares of y modulo 2^(a+1).
pub(crate) fn clamp_winner(b: &mut Builder, spec: Spec, a: usize, layout: &Layout, winner: &Player) -> Share {
    let Player { word, carry } = winner;
    clamp(b, &Clamp { client: &word.client, server: &word.server, carry: *carry, kept: a, clip: spec.clip }, layout)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{PoolLayout, Search};
    use crate::primitive::bits::Planes;
    use crate::program::testing::{ODD_LANES, opened, run, share};
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha20Rng;
    use std::sync::Arc;

    /// Runs both programs on windows of 2^g z + r, shared at random, and compares every lane.
    fn check(spec: Spec, low: &[Part], game: &[Part], layout: &Layout, form: Finish, windows: &[Vec<u64>], seed: u64) {
        let (lanes, mut rng) = (windows.len(), ChaCha20Rng::seed_from_u64(seed));
        let carries = (spec.low() > 0).then(|| Arc::new(carries(spec, low).unwrap()));
        let mut inputs = Vec::new();
        for i in 0..usize::from(spec.window) {
            let values: Vec<u64> = windows.iter().map(|window| window[i]).collect();
            let shares = share(&values, spec.layer.width(), &mut rng);
            let cut = |planes: &Planes, from: usize, width: usize| {
                let lanes: Vec<u64> = planes.to_lanes::<u64>().into_iter().map(|x| x >> from).collect();
                Planes::from_lanes(&lanes, width)
            };
            let [c, v] = shares.each_ref().map(|share| cut(share, spec.low(), spec.width()));
            inputs.push(c);
            if let Some(program) = &carries {
                let low = shares.each_ref().map(|share| cut(share, 0, spec.low()));
                let mut outcome = run(program, lanes, &low, seed + i as u64);
                inputs.extend([outcome.client.remove(0), v, outcome.server.remove(0)]);
            } else {
                inputs.push(v);
            }
        }
        let ring = form.ring(spec.layer.bits.into());
        let xhat = Planes::random(lanes, ring, &mut rng);
        let program = Arc::new(program(spec, game, layout, form).unwrap());
        if form.uploads() {
            inputs.push(xhat.clone());
        }
        let got = opened(form, &xhat, &run(&program, lanes, &inputs, seed));
        let shift = 64 - spec.layer.width();
        let z = |x: &u64| (x << shift).cast_signed() >> shift >> spec.layer.guard;
        for (window, y) in windows.iter().zip(got) {
            let window: Vec<i64> = window.iter().map(z).collect();
            assert_eq!(y, ideal(spec, &window), "{spec:?} {game:?} {layout:?} {form:?} {window:?} seed {seed}");
        }
    }

    /// All pairs of 2^g z + r with z from `least` on, as many as differences allow.
    fn every_pair(spec: Spec, least: i64) -> Vec<Vec<u64>> {
        let count = (1_i64 << (spec.layer.ell - 1)) - (1 << spec.layer.shift) + 1;
        let all = least << spec.layer.guard..(least + count) << spec.layer.guard;
        all.clone().flat_map(|x| all.clone().map(move |y| vec![x as u64, y as u64])).collect()
    }

    fn parts(layout: &PoolLayout) -> (&[Part], &[Part], &Layout) {
        match layout {
            PoolLayout::Between { low, game, clip } => (low, game, clip),
            PoolLayout::After { .. } => panic!("a pool between shift and clip was asked for"),
        }
    }

    fn layer(ell: u8, shift: u8, bits: u8, guard: u8) -> requantise::Spec {
        requantise::Spec { ell, shift, bits, guard }
    }

    /// Every pair of accumulators whose difference fits, wherever they lie, with everything that the search finds.
    #[test]
    fn every_pair_of_small_rings() {
        for (ell, shift, bits, guard) in [(6, 2, 2, 1), (6, 1, 2, 1), (5, 0, 2, 0), (6, 2, 3, 0), (7, 3, 2, 1)] {
            let spec = Spec { layer: layer(ell, shift, bits, guard), clip: Clip::default(), window: 2 };
            let half = 1_i64 << (ell - 1);
            let step = 1_i64 << shift;
            for least in [-half, -half / 2, -step, 0, step - 1] {
                let windows = every_pair(spec, least);
                let spare = least >= -half + (1 << (shift + bits));
                for clip in [Clip { top: u8::MAX, spare }, Clip { top: (1 << bits) - 2, spare }] {
                    let spec = Spec { clip, ..spec };
                    for choice in Search::new(0.73).pool_between(spec, Finish::Small, 2.0).unwrap() {
                        let (low, game, layout) = parts(&choice.layout);
                        check(spec, low, game, layout, Finish::Small, &windows, 1);
                    }
                }
            }
        }
    }

    #[test]
    fn windows_of_all_sizes_forms_and_lanes() {
        let forms = [Finish::Small, Finish::Share { ring: 13 }, Finish::Upload { ring: 11 }];
        for (seed, window) in [1, 2, 3, 4, 9, 16, 64].into_iter().enumerate() {
            for (ell, shift, bits) in [(11, 4, 4), (14, 7, 4), (11, 6, 2), (24, 12, 8), (48, 30, 8), (9, 0, 4)] {
                let clip = Clip { top: if seed % 2 == 0 { u8::MAX } else { ((1_u16 << bits) - 2) as u8 }, spare: true };
                let spec = Spec { layer: layer(ell, shift, bits, 1), clip, window };
                let (form, lanes) = (forms[seed % 3], ODD_LANES[seed % ODD_LANES.len()]);
                let found = Search::new(1.37).pool_between(spec, form, 1.0).unwrap();
                let mut rng = ChaCha20Rng::seed_from_u64(seed as u64);
                // An accumulator with one bit to spare; every other one near the range that is not clipped.
                let near = (3_u64 << (shift + bits)) / 2;
                let mut value = |i: usize| {
                    let z = (rng.next_u64() as i64) >> (65 - ell);
                    let z = if i.is_multiple_of(2) { z } else { z.rem_euclid(near as i64) - (near / 6) as i64 };
                    ((z as u64) << 1) | (rng.next_u64() & 1)
                };
                let windows: Vec<Vec<u64>> = (0..lanes).map(|_| (0..window.into()).map(&mut value).collect()).collect();
                for choice in [&found[0], &found[found.len() - 1]] {
                    let (low, game, layout) = parts(&choice.layout);
                    check(spec, low, game, layout, form, &windows, seed as u64);
                }
            }
        }
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let (good, form) = (Spec { layer: layer(11, 4, 4, 1), clip: Clip::default(), window: 4 }, Finish::Small);
        let choice = Search::new(0.73).pool_between(good, form, 4.0).unwrap().swap_remove(0);
        let (low, game, layout) = parts(&choice.layout);
        assert!(carries(good, low).is_ok() && program(good, game, layout, form).is_ok());
        assert!(carries(good, &low[1..]).is_err());
        assert!(carries(Spec { layer: layer(11, 0, 4, 0), ..good }, &[]).is_err());
        let bad = [
            Spec { window: 0, ..good },
            Spec { window: 65, ..good },
            Spec { layer: layer(11, 4, 1, 1), ..good },
            Spec { layer: layer(12, 4, 4, 1), ..good },
            Spec { clip: Clip { top: 7, spare: false }, ..good },
        ];
        for spec in bad {
            assert!(program(spec, game, layout, form).is_err(), "{spec:?}");
        }
        assert!(program(good, &game[1..], layout, form).is_err());
        assert!(program(good, game, &Layout { low: vec![Part::Digit(1)], ..layout.clone() }, form).is_err());
        assert!(program(good, game, layout, Finish::Share { ring: 3 }).is_err());
    }
}
