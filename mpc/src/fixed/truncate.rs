//! y = floor(x / 2^s) + [coin < x mod 2^s] modulo 2^(ell-s), where c + v = x modulo 2^ell: rounding without bias, local and free.
//!
//! ```text
//! client    y_c = c >> s                    coin = c mod 2^s
//! server    y_v = ((v - 1) >> s) + 1
//! ```
//!
//! With x = c + v, the carry out of the low halves and the rounding of v together give y_c + y_v = floor((x + 2^s - 1 - coin) / 2^s). The
//! wrap modulo 2^ell is not corrected: the result lives in the smaller ring, so nothing can fail. A uniform coin makes E\[y\] = x / 2^s
//! exactly; shares are refreshed before ([`Refresh`]). The low half of v - 1 is a coin as good, and gives the same y: each party knows one that
//! rounds all values as they are rounded.
//!
//! *Guard bits.* Two lattice products leave c + v = 2 z + r_1 + r_2 modulo 2^(ell+1), each r in {0, 1} decided by noise. The server subtracts
//! 1, the mean of r_1 + r_2 (for one product, a random bit), and ell + 1 bits lose s + 1: with rho = r_1 + r_2 - 1 that is y of z for
//! [`Spec::guarded_coin`], which lies in -1 ..= 2^s. Without the 1 every result would be half a unit of z too large in the mean.

use super::refresh::Refresh;
use crate::party::Party;
use crate::program::{Builder, Share, Word};
use crate::spec::{LayoutError, check_size};
use serde::{Deserialize, Serialize};

/// Widest number, in bits.
pub const MAX_WIDTH: usize = 62;

/// Which numbers lose how many bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Spec {
    /// ell: bits of the ring of x.
    pub width: u8,
    /// s: the bits dropped, fewer than ell.
    pub dropped: u8,
}

impl Spec {
    /// Checks the bounds.
    ///
    /// # Errors
    /// [`LayoutError::Size`] unless the ring has 1 to [`MAX_WIDTH`] bits and keeps one.
    pub fn check(self) -> Result<(), LayoutError> {
        check_size("the ring of a truncated number", self.width.into(), 1, MAX_WIDTH)?;
        check_size("the bits that a truncation drops", self.dropped.into(), 0, usize::from(self.width) - 1)
    }

    /// Bits of the ring of y.
    #[must_use]
    pub fn kept(self) -> u8 {
        self.width - self.dropped
    }

    /// The client's share of y.
    #[must_use]
    pub fn client(self, c: u64) -> u64 {
        low(c, self.width) >> self.dropped
    }

    /// The server's share of y.
    #[must_use]
    pub fn server(self, v: u64) -> u64 {
        low((low(v.wrapping_sub(1), self.width) >> self.dropped) + 1, self.kept())
    }

    /// The coin that the client's share tosses, from 0 to 2^s - 1.
    #[must_use]
    pub fn coin(self, c: u64) -> i64 {
        low(c, self.dropped).cast_signed()
    }

    /// The coin of a number with guard bits, c + v = 2 z + rho with rho from -1 to 1, as a coin for z: this specification drops
    /// s + 1 of ell + 1 bits.
    ///
    /// # Panics
    /// If no bit is dropped.
    #[must_use]
    pub fn guarded_coin(self, c: u64, rho: i64) -> i64 {
        let s = self.dropped.checked_sub(1).expect("a guard bit is dropped");
        (1 << s) - 1 - ((rho + (2 << s) - 1 - self.coin(c)) >> 1)
    }

    /// Replaces a party's shares of numbers by its shares of the results, refreshed before.
    pub fn apply(self, party: Party, shares: &mut [u64], refresh: &mut Refresh) {
        refresh.apply(party, shares);
        self.shift(party, shares);
    }

    /// The same of shares that were refreshed.
    pub fn shift(self, party: Party, shares: &mut [u64]) {
        for share in shares {
            *share = match party {
                Party::Client => self.client(*share),
                Party::Server => self.server(*share),
            };
        }
    }
}

/// The ideal version: floor((x + 2^s - 1 - coin) / 2^s).
#[must_use]
pub fn ideal(dropped: u8, x: i64, coin: i64) -> i64 {
    (x + (1 << dropped) - 1 - coin) >> dropped
}

/// The low bits of a word.
pub(crate) fn low(word: u64, bits: u8) -> u64 {
    word & u64::MAX.checked_shr(64 - u32::from(bits)).unwrap_or(0)
}

/// Records a truncation within a program: the result and the coin. `refresh` is an input of either party, the same
/// [`Refresh::planes`].
pub(crate) fn record(b: &mut Builder, x: &Share, dropped: usize, refresh: &Share) -> (Share, Word) {
    let kept = x.client.width() - dropped;
    let client = b.add(&x.client, &refresh.client);
    let server = b.sub(&x.server, &refresh.server);
    let one = b.constant(Party::Server, 1, x.server.width());
    let server = b.sub(&server, &one);
    let server = b.slice(&server, dropped, kept);
    let one = b.constant(Party::Server, 1, kept);
    let y = Share { client: b.slice(&client, dropped, kept), server: b.add(&server, &one) };
    (y, b.resize(&client, dropped))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::primitive::bits::Planes;
    use crate::program::Time;
    use crate::program::testing::{open, run};
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha20Rng;
    use std::sync::Arc;

    const SMALL: [(u8, u8); 6] = [(4, 0), (6, 1), (6, 2), (7, 3), (8, 4), (8, 7)];

    /// Every number of a ring, under every pair of shares.
    fn every_pair(width: u8) -> impl Iterator<Item = (i64, u64, u64)> {
        let half = 1_i64 << (width - 1);
        let of = move |x: i64| (0..1_u64 << width).map(move |c| (x, c, low(x.cast_unsigned().wrapping_sub(c), width)));
        (-half..half).flat_map(of)
    }

    #[test]
    fn exact_for_every_pair_of_shares() {
        for (width, dropped) in SMALL {
            let spec = Spec { width, dropped };
            for (x, c, v) in every_pair(width) {
                let y = low(spec.client(c) + spec.server(v), spec.kept());
                let want = ideal(dropped, x, spec.coin(c));
                assert_eq!(y, low(want.cast_unsigned(), spec.kept()), "{spec:?} {x} = {c} + {v}");
                assert_eq!(want, x.div_euclid(1 << dropped) + i64::from(spec.coin(c) < x.rem_euclid(1 << dropped)));
                // What the server knows rounds alike.
                let other = ideal(dropped, x, spec.coin(v.wrapping_sub(1)));
                assert_eq!(y, low(other.cast_unsigned(), spec.kept()), "{spec:?} {x} = {c} + {v}");
            }
        }
    }

    #[test]
    fn exact_with_every_guard_bit() {
        for (ell, s) in SMALL {
            let spec = Spec { width: ell + 1, dropped: s + 1 };
            for (z, rho) in (-(1_i64 << (ell - 1))..1 << (ell - 1)).flat_map(|z| (-1..=1).map(move |rho| (z, rho))) {
                for c in 0..2_u64 << ell {
                    let v = (2 * z + rho).cast_unsigned().wrapping_sub(c);
                    let (y, coin) = (spec.client(c).wrapping_add(spec.server(v)), spec.guarded_coin(c, rho));
                    assert!((-1..=1 << s).contains(&coin));
                    let want = ideal(s, z, coin).cast_unsigned();
                    assert_eq!(low(y, ell - s), low(want, ell - s), "ell {ell} s {s} z {z} rho {rho} c {c}");
                }
            }
        }
    }

    #[test]
    fn a_program_truncates_like_the_parties() {
        for (width, dropped) in SMALL {
            let (spec, wide) = (Spec { width, dropped }, usize::from(width));
            let mut b = Builder::new();
            let x = b.input_share(wide, Time::START, Time::START);
            let r = b.input_share(wide, Time::START, Time::START);
            let (y, coin) = record(&mut b, &x, dropped.into(), &r);
            b.output_share(&y);
            b.output(&coin);
            let all: Vec<(i64, u64, u64)> = every_pair(width).collect();
            let mut rng = ChaCha20Rng::seed_from_u64(1);
            let r: Vec<u64> = all.iter().map(|_| rng.next_u64()).collect();
            let c: Vec<u64> = all.iter().map(|(_, c, _)| *c).collect();
            let v: Vec<u64> = all.iter().map(|(_, _, v)| *v).collect();
            let inputs = [&c, &v, &r, &r].map(|lanes| Planes::from_lanes(lanes, wide));
            let outcome = run(&Arc::new(b.finish()), all.len(), &inputs, 1);
            assert!(outcome.frames.is_empty());
            let coins: Vec<u64> = outcome.client[1].to_lanes();
            for (lane, y) in open(&outcome.client[0], &outcome.server[0]).into_iter().enumerate() {
                let coin = spec.coin(c[lane].wrapping_add(r[lane]));
                assert_eq!(coins[lane].cast_signed(), coin, "{spec:?} lane {lane}");
                let want = ideal(dropped, all[lane].0, coin);
                assert_eq!(y, low(want.cast_unsigned(), spec.kept()), "{spec:?} lane {lane}");
            }
        }
    }

    /// Two truncations of one and the same share: each coin, and each pair of coins, is as frequent as any other.
    #[test]
    fn coins_are_uniform_and_independent() {
        const LANES: usize = 1 << 20;
        let specs = [Spec { width: 25, dropped: 4 }, Spec { width: 25, dropped: 3 }];
        let mut refresh = Refresh::new(&[3; 32], &[4; 32], 0);
        let tossed = specs.map(|spec| {
            let mut shares = vec![0x155_5555; LANES];
            refresh.apply(Party::Client, &mut shares);
            shares.into_iter().map(|c| spec.coin(c)).collect::<Vec<i64>>()
        });
        let mut counts = [[0_f64; 8]; 16];
        for (a, b) in tossed[0].iter().zip(&tossed[1]) {
            counts[*a as usize][*b as usize] += 1.0;
        }
        let mean = LANES as f64 / 128.0;
        for count in counts.as_flattened() {
            assert!((count - mean).abs() < 5.0 * mean.sqrt(), "{count} of {mean}");
        }
    }

    /// The mean error of y 2^s - x, in deviations, over 2^20 numbers whose shares have `rho` in their guard bit.
    fn bias(mut rho: impl FnMut(u64) -> i64) -> f64 {
        const LANES: usize = 1 << 20;
        let (ell, s) = (19, 4);
        let spec = Spec { width: ell + 1, dropped: s + 1 };
        let mut rng = ChaCha20Rng::seed_from_u64(5);
        // Numbers of a narrow range, half of them just above a multiple: where an unnoticed bias would hide.
        let z: Vec<i64> = (0..LANES).map(|i| (rng.next_u64() % 1024) as i64 * 16 - 8192 + (i % 2) as i64).collect();
        let mut c: Vec<u64> = z.iter().map(|_| rng.next_u64()).collect();
        let mut v: Vec<u64> =
            z.iter().zip(&c).map(|(z, c)| (2 * z + rho(rng.next_u64())).cast_unsigned().wrapping_sub(*c)).collect();
        let streams = || Refresh::new(&[6; 32], &[7; 32], 0);
        spec.apply(Party::Client, &mut c, &mut streams());
        spec.apply(Party::Server, &mut v, &mut streams());
        let unused = 64 - u32::from(spec.kept());
        let errors = c.iter().zip(&v).zip(&z).map(|((c, v), z)| {
            let y = (c.wrapping_add(*v) << unused).cast_signed() >> unused;
            ((y << s) - z) as f64
        });
        let (mut sum, mut squares) = (0.0, 0.0);
        for error in errors {
            sum += error;
            squares += error * error;
        }
        sum / squares.sqrt()
    }

    #[test]
    fn truncation_has_no_bias() {
        let noise = |bits: u64| (bits & 1) as i64 + (bits >> 1 & 1) as i64;
        let centred = bias(|bits| noise(bits) - 1);
        assert!(centred.abs() < 5.0, "{centred} deviations");
        let one_product = bias(|bits| (bits & 1) as i64 - (bits >> 1 & 1) as i64);
        assert!(one_product.abs() < 5.0, "{one_product} deviations");
        // A constant that is left in is seen.
        let left_in = bias(noise);
        assert!(left_in > 50.0, "{left_in} deviations");
    }

    #[test]
    fn refuses_what_does_not_fit() {
        for (width, dropped) in [(0, 0), (63, 1), (5, 5)] {
            assert!(Spec { width, dropped }.check().is_err());
        }
        assert!(Spec { width: 62, dropped: 61 }.check().is_ok());
    }
}
