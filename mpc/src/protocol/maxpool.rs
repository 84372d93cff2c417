//! y = max of the window's values, each below 2^a and shared modulo 2^(a+1).
//!
//! A tournament: neighbours play, the last of an odd number waits. The top bit of every value is zero, so a
//! difference modulo 2^(a+1) shows its sign, and
//!
//! ```text
//! b = msb(t_1 - t_2)         max = t_1 - b (t_1 - t_2)
//! ```
//!
//! costs a carry over a bits and two OLEs of a+1 bits. One-bit values are XOR-shared, and their maximum is an OR: one
//! AND per game, and a conversion of the last bit.

use crate::gadget::carry::ands;
use crate::gadget::compare::top_bit;
use crate::gadget::convert::bit_to_ring;
use crate::gadget::extend::{finish, finish_in_ring, small_width};
use crate::gadget::select::multiply_bit;
use crate::party::Party;
use crate::program::{Bit, Builder, Program, Share, Time, Word};
use crate::spec::{Finish, LayoutError, Part, check_parts, check_ring, check_size};
use serde::{Deserialize, Serialize};

/// Widest value, in bits: pools may read sums of activations.
pub const MAX_BITS: u8 = 32;
/// Largest window.
pub const MAX_WINDOW: usize = 64;

/// What is pooled, and when its shares are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Spec {
    /// a: bits of a value.
    pub bits: u8,
    /// Values per window.
    pub window: u8,
    /// When the client knows its shares.
    pub client: Time,
    /// When the server knows its shares.
    pub server: Time,
}

impl Spec {
    /// Bits of an input share: [`small_width`].
    #[must_use]
    pub fn width(self) -> usize {
        small_width(self.bits.into())
    }

    /// Bits below the top of a difference: those that the chain covers. None for one-bit values.
    #[must_use]
    pub fn compared(self) -> usize {
        if self.bits == 1 { 0 } else { self.bits.into() }
    }

    /// Checks the bounds, the chain of a comparison, and the ring.
    ///
    /// # Errors
    /// [`LayoutError`], saying what does not fit.
    pub fn check(self, chain: &[Part], form: Finish) -> Result<(), LayoutError> {
        check_size("bits of a pooled value", self.bits.into(), 1, MAX_BITS.into())?;
        check_size("values per window", self.window.into(), 1, MAX_WINDOW)?;
        check_parts("comparison", chain, self.compared())?;
        check_ring(form, self.bits.into())
    }
}

/// The ideal version.
#[must_use]
pub fn ideal(window: &[u64]) -> u64 {
    window.iter().copied().max().unwrap_or(0)
}

/// The program. Inputs: for every value of the window the client's and the server's share ([`Spec::width`] bits),
/// then, with [`Finish::Upload`], the client's xhat (ring bits, offline). Outputs: both shares, or the server's m.
///
/// # Errors
/// [`LayoutError`] if something does not fit.
pub fn program(spec: Spec, chain: &[Part], form: Finish) -> Result<Program, LayoutError> {
    spec.check(chain, form)?;
    let mut b = Builder::new();
    record(&mut b, spec, chain, form);
    Ok(b.finish())
}

/// Records inputs, protocol and outputs; the specification has been checked.
pub(crate) fn record(b: &mut Builder, spec: Spec, chain: &[Part], form: Finish) {
    let values: Vec<Share> = (0..spec.window).map(|_| b.input_share(spec.width(), spec.client, spec.server)).collect();
    let ring = form.ring(spec.bits.into());
    let xhat = form.uploads().then(|| b.input(Party::Client, ring, Time::OFFLINE));
    if spec.bits > 1 {
        let y = tournament(values, |x, y| larger(b, chain, &x, &y));
        return finish(b, &y, form, xhat.as_ref());
    }
    let bits = values.iter().map(|value| as_bit(b, value)).collect();
    let y = tournament(bits, |x, y| either(b, x, y));
    match form {
        Finish::Small => {
            let words = crate::gadget::compare::words(b, y);
            b.output_share(&words);
        }
        Finish::Share { .. } | Finish::Upload { .. } => {
            let y = bit_to_ring(b, y, ring);
            finish_in_ring(b, &y, xhat.as_ref());
        }
    }
}

/// Plays neighbours against each other until one is left.
pub(crate) fn tournament<T>(mut players: Vec<T>, mut play: impl FnMut(T, T) -> T) -> T {
    while players.len() > 1 {
        let mut waiting = players.into_iter();
        let mut winners = Vec::new();
        while let Some(left) = waiting.next() {
            winners.push(match waiting.next() {
                Some(right) => play(left, right),
                None => left,
            });
        }
        players = winners;
    }
    players.pop().expect("a window has a value")
}

/// max(x, y).
pub(crate) fn larger(b: &mut Builder, chain: &[Part], x: &Share, y: &Share) -> Share {
    let difference = b.sub_shares(x, y);
    let less = top_bit(b, chain, &difference);
    let change = multiply_bit(b, less, &difference);
    b.sub_shares(x, &change)
}

/// x OR y, as the complement of an AND of complements.
fn either(b: &mut Builder, x: Bit, y: Bit) -> Bit {
    let (x, y) = (b.flip(x), b.flip(y));
    let neither = ands(b, x, &[y])[0];
    b.flip(neither)
}

fn as_bit(b: &mut Builder, value: &Share) -> Bit {
    let half = |b: &mut Builder, word: &Word| b.half(word.party, word.planes[0], word.time);
    let (s, c) = (half(b, &value.server), half(b, &value.client));
    b.bit(s, c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Search;
    use crate::primitive::bits::Planes;
    use crate::program::testing::{ODD_LANES, opened, run, share};
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha20Rng;
    use std::sync::Arc;

    fn check(spec: Spec, chain: &[Part], form: Finish, windows: &[Vec<u64>], seed: u64) {
        let program = Arc::new(program(spec, chain, form).unwrap());
        let (lanes, mut rng) = (windows.len(), ChaCha20Rng::seed_from_u64(seed));
        let mut inputs = Vec::new();
        for i in 0..usize::from(spec.window) {
            let values: Vec<u64> = windows.iter().map(|window| window[i]).collect();
            inputs.extend(share(&values, spec.width(), &mut rng));
        }
        let ring = form.ring(spec.bits.into());
        let xhat = Planes::random(lanes, ring, &mut rng);
        if form.uploads() {
            inputs.push(xhat.clone());
        }
        let got = opened(form, &xhat, &run(&program, lanes, &inputs, seed));
        for (window, y) in windows.iter().zip(got) {
            assert_eq!(y, ideal(window), "{spec:?} {chain:?} {form:?} {window:?} seed {seed}");
        }
    }

    fn spec(bits: u8, window: u8) -> Spec {
        Spec { bits, window, client: Time::Online(2), server: Time::Online(1) }
    }

    /// Every pair of values, under several random sharings, with every chain that the search offers.
    #[test]
    fn every_pair() {
        for bits in 1..=5 {
            let all = 0..1_u64 << bits;
            let pairs: Vec<Vec<u64>> = all.clone().flat_map(|x| all.clone().map(move |y| vec![x, y])).collect();
            let spec = spec(bits, 2);
            for form in [Finish::Small, Finish::Share { ring: 9 }, Finish::Upload { ring: 13 }] {
                for choice in Search::new(0.73).max_pool(spec, form).unwrap() {
                    for seed in 0..3 {
                        check(spec, &choice.layout, form, &pairs, seed);
                    }
                }
            }
        }
    }

    #[test]
    fn windows_of_all_sizes_and_lanes() {
        for (seed, window) in [1, 2, 3, 4, 5, 7, 9, 16, 25, 64].into_iter().enumerate() {
            for bits in [1, 2, 4, 8] {
                let form = Finish::Upload { ring: 15 };
                let choice = &Search::new(1.37).max_pool(spec(bits, window), form).unwrap()[0];
                let mut rng = ChaCha20Rng::seed_from_u64(seed as u64);
                let lanes = ODD_LANES[seed % ODD_LANES.len()];
                let mut value = || rng.next_u64() % (1 << bits);
                let windows: Vec<Vec<u64>> = (0..lanes).map(|_| (0..window).map(|_| value()).collect()).collect();
                check(spec(bits, window), &choice.layout, form, &windows, seed as u64);
            }
        }
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let form = Finish::Upload { ring: 13 };
        for (bits, window, chain) in [(0, 2, vec![]), (33, 2, vec![Part::Digit(1); 33]), (4, 0, vec![Part::Digit(4)])] {
            assert!(program(spec(bits, window), &chain, form).is_err());
        }
        assert!(program(spec(4, 65), &[Part::Digit(4)], form).is_err());
        assert!(program(spec(4, 4), &[Part::Digit(3)], form).is_err());
        assert!(program(spec(4, 4), &[Part::Digit(4)], Finish::Share { ring: 3 }).is_err());
        assert!(program(spec(4, 4), &[Part::Digit(4)], form).is_ok());
    }
}
