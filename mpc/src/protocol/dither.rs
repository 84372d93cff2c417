//! y = clamp(floor((z - 2^(t-1) + d) / 2^s), 0, top) for a coin d, uniform in 0..2^t, that the client knows, 1 <= t <= s.
//!
//! c + v = 2 z + r mod 2^(ell+1), 0 <= r < 2, as linear layers leave it. The rounding constant 2^(s-1) is part of z, so t = s rounds
//! (z - 2^(s-1)) / 2^s without bias, and t < s does so all but exactly. The guard bit goes first, so that r decides nothing: with r left
//! in the sum the noise of a ciphertext would decide one rounding in 2^(s+1), and each would tell the client something of it.
//!
//! ```text
//! guard     c' + v' = z mod 2^ell        c' = (c >> 1) + k_c, v' = (v >> 1) + k_v, k_c + k_v = c_0 v_0
//! coin      d = 2^t - 1 - (c' mod 2^t)   so that z - 2^(t-1) + d = 2^t (c' >> t) + v' + 2^(t-1) - 1
//! cut       (c' >> t) + ((v' + 2^(t-1) - 1) >> t) mod 2^(ell-t)             requantised with the shift s - t, no guard bit
//! ```
//!
//! The low bits need no carry chain: t + 1 of them are gone. c_0 and v_0 are known before the input, since all that the online stage adds
//! to v is even; so the OLE, of ell bits, lies in the offline stage. Its pad makes c' uniform, whatever z, c and r are.
//!
//! ```text
//! offline   client    correction of c_0                           -> server
//!           server    v_0 - (m_1 - m_0)                           -> client
//!           client    corrections of the bits of c' >> t          -> server
//! online    as in [`requantise`](crate::requantise)
//! ```

use crate::party::Party;
use crate::program::{Builder, Program, Time};
use crate::protocol::requantise::{self, record_words};
use crate::spec::{Clip, Finish, Layout, LayoutError, Spec, check_size};

/// When the client knows c'.
pub const CLIENT: Time = Time::Offline(1);

/// A requantisation with a coin of `coin` bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Dither {
    /// ell, s and a, with one guard bit.
    pub spec: Spec,
    /// t.
    pub coin: u8,
}

impl Dither {
    /// What is left to requantise once guard bit and low bits are gone.
    ///
    /// # Errors
    /// [`LayoutError`] if t is not from 1 to s, there is no guard bit, or only the sign would be left to evaluate: z - 2^s has no room.
    pub fn cut(self) -> Result<Spec, LayoutError> {
        let Spec { ell, shift, bits, guard } = self.spec;
        check_size("guard bits of a dithered accumulator", guard.into(), 1, 1)?;
        check_size("bits of a coin", self.coin.into(), 1, shift.into())?;
        check_size("bits of a dithered result", self.spec.effective_bits()?, 2, requantise::MAX_BITS.into())?;
        Ok(Spec { ell: ell - self.coin, shift: shift - self.coin, bits, guard: 0 })
    }

    /// What the server adds to its share without the guard bit: half a coin.
    #[must_use]
    pub fn half(self) -> u64 {
        (1 << self.coin >> 1) - 1
    }

    /// The coins, from the low bits of c' that the client's last output has.
    #[must_use]
    pub fn coin_of(self, low: u64) -> u64 {
        (1 << self.coin) - 1 - low
    }
}

/// The ideal version: y from the accumulator itself and a coin. z - 2^(t-1) + d counts modulo 2^ell, signed.
#[must_use]
pub fn ideal(dither: Dither, clip: Clip, z: i64, coin: u64) -> u64 {
    let unused = 64 - u32::from(dither.spec.ell);
    let moved = z - (1 << dither.coin >> 1) + coin.cast_signed();
    requantise::ideal_clipped(dither.spec, clip, (moved << unused) >> unused)
}

/// The program. Inputs: the client's c (ell + 1 bits, offline), with [`Finish::Upload`] its xhat; of the server v_0 (one bit, offline) and
/// (v >> 1) + [`Dither::half`] (ell bits). Outputs: the client's and the server's share, or the server's m; then the client's c' mod 2^t.
///
/// # Errors
/// [`LayoutError`] as [`Dither::cut`], and if the layout is not one of what is left.
pub fn program(dither: Dither, clip: Clip, layout: &Layout, finish: Finish) -> Result<Program, LayoutError> {
    let spec = dither.cut()?;
    layout.check_clipped(spec, clip, finish)?;
    let (ell, t) = (usize::from(dither.spec.ell), usize::from(dither.coin));
    let mut b = Builder::new();
    let c = b.input(Party::Client, ell + 1, Time::OFFLINE);
    let a = spec.effective_bits()?;
    let xhat = finish.uploads().then(|| b.input(Party::Client, finish.ring(a), Time::OFFLINE));
    let lowest = b.input(Party::Server, 1, Time::OFFLINE);
    let v = b.input(Party::Server, ell, Time::START);
    let lowest = b.resize(&lowest, ell);
    let choice = b.half(Party::Client, c.planes[0], c.time);
    let (of_client, of_server) = b.ole(choice, &lowest);
    let kept = b.slice(&c, 1, ell);
    let (c, v) = (b.add(&kept, &of_client), b.add(&v, &of_server));
    let [high_c, high_v] = [&c, &v].map(|word| b.slice(word, t, ell - t));
    record_words(&mut b, spec, clip, layout, finish, [&high_c, &high_v], xhat.as_ref())?;
    let low = b.slice(&c, 0, t);
    b.output(&low);
    Ok(b.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Search;
    use crate::party::Stage;
    use crate::primitive::bits::Planes;
    use crate::program::Cost;
    use crate::program::testing::{ODD_LANES, Outcome, opened, run, share};
    use rand::{Rng, RngExt, SeedableRng};
    use rand_chacha::ChaCha20Rng;
    use std::sync::Arc;

    fn layout(dither: Dither, clip: Clip, finish: Finish) -> Layout {
        let spec = dither.cut().unwrap();
        let found = Search::new(0.73).requantise_clipped(spec, clip, finish, CLIENT, Time::START).unwrap();
        found[0].layout.clone()
    }

    fn dither(ell: u8, shift: u8, bits: u8, coin: u8) -> Dither {
        Dither { spec: Spec { ell, shift, bits, guard: 1 }, coin }
    }

    /// y and the coins of both parties' shares of 2 z + r.
    fn toss(dither: Dither, clip: Clip, finish: Finish, sums: &[u64], seed: u64) -> (Vec<u64>, Vec<u64>, Outcome) {
        let ell = usize::from(dither.spec.ell);
        let program = Arc::new(program(dither, clip, &layout(dither, clip, finish), finish).unwrap());
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let [c, v] = share(sums, ell + 1, &mut rng);
        let v: Vec<u64> = v.to_lanes();
        let lowest: Vec<u64> = v.iter().map(|v| v & 1).collect();
        let rest: Vec<u64> = v.iter().map(|v| (v >> 1).wrapping_add(dither.half())).collect();
        let xhat = Planes::random(sums.len(), finish.ring(dither.spec.effective_bits().unwrap()), &mut rng);
        let mut inputs = vec![c, Planes::from_lanes(&lowest, 1), Planes::from_lanes(&rest, ell)];
        if finish.uploads() {
            inputs.insert(1, xhat.clone());
        }
        let outcome = run(&program, sums.len(), &inputs, seed);
        let low: Vec<u64> = outcome.client.last().unwrap().to_lanes();
        let coins = low.into_iter().map(|low| dither.coin_of(low)).collect();
        (opened(finish, &xhat, &outcome), coins, outcome)
    }

    /// Every z, with r = 0 and r = 1: y is the ideal one of z and the coin, and r is not in it.
    #[test]
    fn every_sum_with_both_noises() {
        for (seed, (of, clip)) in [
            (dither(9, 3, 4, 3), Clip::default()),
            (dither(9, 3, 4, 2), Clip { top: 11, spare: false }),
            (dither(8, 2, 2, 1), Clip::default()),
            (dither(7, 1, 3, 1), Clip::default()),
            (dither(11, 6, 4, 6), Clip::default()),
        ]
        .into_iter()
        .enumerate()
        {
            let reach = 1_i64 << (of.spec.ell - 1);
            let z: Vec<i64> = (-reach..reach).flat_map(|z| [z; 2]).collect();
            let sums: Vec<u64> = z.iter().enumerate().map(|(at, z)| (2 * z) as u64 + at as u64 % 2).collect();
            for finish in [Finish::Small, Finish::Share { ring: 9 }, Finish::Upload { ring: 12 }] {
                let (y, coins, _) = toss(of, clip, finish, &sums, seed as u64);
                for ((&z, y), coin) in z.iter().zip(y).zip(coins) {
                    assert_eq!(y, ideal(of, clip, z, coin), "{of:?} {finish:?} z {z} coin {coin}");
                }
            }
        }
    }

    /// The noise forced to 0 and to 1 under the same shares of the client and the same pads: where the coin is the same, so is y.
    #[test]
    fn the_noise_decides_nothing() {
        let (of, lanes) = (dither(9, 4, 3, 4), 1 << 13);
        let mut rng = ChaCha20Rng::seed_from_u64(4);
        let z: Vec<i64> = (0..lanes).map(|_| rng.random_range(-100..200)).collect();
        let noisy = |r| -> Vec<u64> { z.iter().map(|z| (2 * z) as u64 + r).collect() };
        let [(quiet, coins, _), (loud, others, _)] =
            [0, 1].map(|r| toss(of, Clip::default(), Finish::Small, &noisy(r), 4));
        let same: Vec<usize> = (0..lanes).filter(|&lane| coins[lane] == others[lane]).collect();
        assert!(same.len() > lanes / 3, "{} coins of {lanes}", same.len());
        assert!(same.iter().all(|&lane| quiet[lane] == loud[lane]));
        assert!(quiet != loud, "other coins do decide");
    }

    /// A clip that spares a comparison, of all sums that leave it room.
    #[test]
    fn every_sum_with_a_spare_comparison() {
        let (of, clip) = (dither(10, 3, 4, 3), Clip { spare: true, ..Clip::default() });
        // Half a coin above the lowest 2^(s+a) of the ring, and below its end.
        let lowest = (1 << 7) - (1 << 9) + 4;
        let z: Vec<i64> = (lowest..(1 << 9) - 3).flat_map(|z| [z; 4]).collect();
        let sums: Vec<u64> = z.iter().enumerate().map(|(at, z)| (2 * z) as u64 + at as u64 % 2).collect();
        let (y, coins, _) = toss(of, clip, Finish::Small, &sums, 8);
        for ((&z, y), coin) in z.iter().zip(y).zip(coins) {
            assert_eq!(y, ideal(of, clip, z, coin), "z {z} coin {coin}");
        }
    }

    #[test]
    fn every_number_of_lanes() {
        let of = dither(13, 6, 4, 5);
        for (seed, lanes) in ODD_LANES.into_iter().enumerate() {
            let mut rng = ChaCha20Rng::seed_from_u64(seed as u64);
            let z: Vec<i64> = (0..lanes).map(|_| rng.random_range(-4000..4000)).collect();
            let sums: Vec<u64> = z.iter().map(|z| (2 * z) as u64 + rng.next_u64() % 2).collect();
            let (y, coins, _) = toss(of, Clip::default(), Finish::Upload { ring: 13 }, &sums, seed as u64);
            for ((z, y), coin) in z.into_iter().zip(y).zip(coins) {
                assert_eq!(y, ideal(of, Clip::default(), z, coin), "z {z} coin {coin}");
            }
        }
    }

    /// 2^20 roundings at t = s: what is rounded is unbiased within five deviations, and coins are uniform whatever z and r are.
    #[test]
    fn roundings_have_no_bias() {
        let (of, lanes) = (dither(10, 3, 6, 3), 1 << 20);
        let mut rng = ChaCha20Rng::seed_from_u64(9);
        // Within the clip: 2^s y is near z less its rounding constant.
        let z: Vec<i64> = (0..lanes).map(|_| rng.random_range(4..400)).collect();
        let noise: Vec<u64> = (0..lanes).map(|_| rng.next_u64() % 2).collect();
        let sums: Vec<u64> = z.iter().zip(&noise).map(|(z, r)| (2 * z) as u64 + r).collect();
        let (y, coins, _) = toss(of, Clip::default(), Finish::Small, &sums, 9);
        let errors: Vec<f64> = z.iter().zip(&y).map(|(z, &y)| (8 * y) as f64 - (z - 4) as f64).collect();
        let mean = errors.iter().sum::<f64>() / lanes as f64;
        let variance = errors.iter().map(|error| error * error).sum::<f64>() / lanes as f64;
        let deviation = (variance / lanes as f64).sqrt();
        assert!(mean.abs() <= 5.0 * deviation, "{mean} with a deviation of {deviation}");
        assert!(variance > 4.0 && variance < 12.0, "{variance}");
        // By coin, r and the low bits of z: 128 cells.
        let mut cells = [0_f64; 128];
        for ((z, r), coin) in z.iter().zip(&noise).zip(&coins) {
            cells[(coin * 16 + r * 8) as usize + (z & 7) as usize] += 1.0;
        }
        for group in 0..16 {
            let own: Vec<f64> = (0..8).map(|coin| cells[coin * 16 + group]).collect();
            let wanted = own.iter().sum::<f64>() / 8.0;
            let chi: f64 = own.iter().map(|count| (count - wanted) * (count - wanted) / wanted).sum();
            assert!(chi < 40.0, "group {group}: {own:?}");
        }
    }

    /// Online, only what is left is requantised: frame by frame what a layer without guard bit and low bits sends.
    #[test]
    fn the_online_stage_is_that_of_what_is_left() {
        let (of, clip, finish) = (dither(13, 6, 4, 5), Clip::default(), Finish::Upload { ring: 13 });
        let (_, _, outcome) = toss(of, clip, finish, &[0; 100], 1);
        let layout = layout(of, clip, finish);
        let left = requantise::program_at(of.cut().unwrap(), &layout, finish, CLIENT, Time::START).unwrap().cost(100);
        let whole = Search::new(0.73).requantise(of.spec, finish).unwrap()[0].layout.clone();
        let whole = requantise::program(of.spec, &whole, finish).unwrap().cost(100);
        for sender in [Party::Client, Party::Server] {
            let sent = outcome.frames.iter().filter(|frame| frame.stage == Stage::Online && frame.sender == sender);
            let sent: usize = sent.map(|frame| frame.payload.len()).sum();
            assert_eq!(sent, left.bytes(Stage::Online, sender), "{sender}");
        }
        let online = |cost: &Cost| [Party::Client, Party::Server].map(|party| cost.bytes(Stage::Online, party));
        assert!(online(&left).iter().sum::<usize>() < online(&whole).iter().sum(), "a dither is cheaper online");
    }

    #[test]
    fn refuses_what_has_no_room() {
        assert!(dither(9, 3, 4, 0).cut().is_err() && dither(9, 3, 4, 4).cut().is_err());
        assert!(dither(9, 3, 1, 2).cut().is_err() && dither(5, 3, 4, 2).cut().is_err());
        let unguarded = Dither { spec: Spec { ell: 9, shift: 3, bits: 4, guard: 0 }, coin: 2 };
        assert!(unguarded.cut().is_err());
    }
}
