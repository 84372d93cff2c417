//! z mod 2^ring, where c + v = 2 z + r mod 2^(ell+1), 0 <= r < 2, and -2^(ell-2) <= z < 2^(ell-2): an accumulator as exact
//! shares in a wider ring.
//!
//! What a public multiplier needs: a factor M applied to shares with a guard bit would multiply r, so the guard bit goes
//! first, then the shares are extended, and then both parties multiply locally and requantise with g = 0. The
//! accumulator is planned one bit wider, so that z + 2^(ell-2) has a zero top bit.
//!
//! ```text
//! guard     z = (c >> 1) + (v >> 1) + c_0 v_0 mod 2^ell                      one OLE, c_0 known offline
//! extend    z + 2^(ell-2) from Z_{2^ell} to Z_{2^ring}                       one OLE of ring - ell bits
//! ```

use crate::gadget::extend::extend_signed;
use crate::party::Party;
use crate::program::{Builder, Program, Share, Time, Word};
use crate::spec::{LayoutError, MAX_ELL, check_size};

/// The ideal version: z of a pair of shares, modulo 2^ring.
#[must_use]
pub fn ideal(ell: usize, ring: usize, c: u64, v: u64) -> u64 {
    let z = (c.wrapping_add(v) << (63 - ell)).cast_signed() >> (64 - ell);
    z.cast_unsigned() & (u64::MAX >> (64 - ring))
}

/// The program. Inputs: the client's c (ell + 1 bits, offline), the server's v (ell + 1 bits). Outputs: shares of z modulo
/// 2^ring; their times are those of [`Program::outputs`].
///
/// # Errors
/// [`LayoutError::Size`] unless ell is from 2 to [`MAX_ELL`] and the ring has at least ell and at most 64 bits.
pub fn program(ell: usize, ring: usize) -> Result<Program, LayoutError> {
    check_size("bits of an accumulator", ell, 2, MAX_ELL.into())?;
    check_size("the ring of a widened accumulator", ring, ell, 64)?;
    let mut b = Builder::new();
    let c = b.input(Party::Client, ell + 1, Time::OFFLINE);
    let v = b.input(Party::Server, ell + 1, Time::START);
    let z = drop_guard(&mut b, &c, &v);
    let z = extend_signed(&mut b, &z, ring);
    b.output_share(&z);
    Ok(b.finish())
}

/// Shares of (c + v) >> 1 modulo 2^ell, from c and v of ell + 1 bits: the lowest bit and its carry, exactly.
pub(crate) fn drop_guard(b: &mut Builder, c: &Word, v: &Word) -> Share {
    let ell = c.width() - 1;
    let lowest = b.slice(v, 0, 1);
    let lowest = b.resize(&lowest, ell);
    let choice = b.half(c.party, c.planes[0], c.time);
    let (client, server) = b.ole(choice, &lowest);
    let kept = Share { client: b.slice(c, 1, ell), server: b.slice(v, 1, ell) };
    b.add_shares(&kept, &Share { client, server })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Search;
    use crate::primitive::bits::Planes;
    use crate::program::testing::{ODD_LANES, open, run, share};
    use crate::protocol::requantise;
    use crate::spec::Finish;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha20Rng;
    use std::sync::Arc;

    /// 2 z + r for uniform z that leave the top bit free, and for the extreme ones.
    fn accumulators(ell: usize, lanes: usize, rng: &mut ChaCha20Rng) -> Vec<u64> {
        let quarter = 1_i64 << (ell - 2);
        let mut z = || (rng.next_u64() % (2 * quarter as u64)) as i64 - quarter;
        let edges = [-quarter, -1, 0, quarter - 1];
        let z = (0..lanes).map(|lane| if lane < edges.len() { edges[lane] } else { z() });
        z.enumerate().map(|(lane, z)| (2 * z) as u64 + (lane as u64 / 4) % 2).collect()
    }

    #[test]
    fn widens_at_all_widths_and_lanes() {
        for (seed, (ell, ring)) in
            [(2, 2), (2, 3), (7, 7), (9, 30), (24, 44), (48, 64), (56, 60)].into_iter().enumerate()
        {
            let program = Arc::new(program(ell, ring).unwrap());
            for lanes in ODD_LANES {
                let mut rng = ChaCha20Rng::seed_from_u64(seed as u64);
                let x = accumulators(ell, lanes, &mut rng);
                let [c, v] = share(&x, ell + 1, &mut rng);
                let outcome = run(&program, lanes, &[c.clone(), v.clone()], seed as u64);
                let got = open(&outcome.client[0], &outcome.server[0]);
                let pairs = c.to_lanes::<u64>().into_iter().zip(v.to_lanes::<u64>());
                for ((x, (c, v)), got) in x.into_iter().zip(pairs).zip(got) {
                    let z = (x.cast_signed() >> 1).cast_unsigned() & (u64::MAX >> (64 - ring));
                    assert_eq!((got, ideal(ell, ring, c, v)), (z, z), "ell {ell} ring {ring} seed {seed}");
                }
            }
        }
    }

    /// y = clamp((M z + b) >> s, 0, 2^a - 1) for public M: widen, multiply locally, requantise without guard bit.
    #[test]
    fn general_scales() {
        let (ell, factor, bias) = (12, 2741_i64, 70_000_i64);
        let spec = requantise::Spec { ell: 24, shift: 17, bits: 4, guard: 0 };
        let first = Arc::new(program(ell, spec.width()).unwrap());
        let time = |party| first.outputs().iter().find(|port| port.party == party).unwrap().time;
        let (c_time, v_time) = (time(Party::Client), time(Party::Server));
        let form = Finish::Share { ring: 9 };
        let found = Search::new(0.73).requantise_at(spec, form, c_time, v_time).unwrap();
        let second = requantise::program_at(spec, &found[0].layout, form, c_time, v_time).unwrap();
        let (lanes, mut rng) = (1000, ChaCha20Rng::seed_from_u64(8));
        let x = accumulators(ell, lanes, &mut rng);
        let outcome = run(&first, lanes, &share(&x, ell + 1, &mut rng), 8);
        let local = |planes: &Planes, bias: i64| {
            let lanes = planes.to_lanes::<u64>().into_iter();
            let scaled: Vec<u64> = lanes.map(|z| z.wrapping_mul(factor as u64).wrapping_add(bias as u64)).collect();
            Planes::from_lanes(&scaled, spec.width())
        };
        let inputs = [local(&outcome.client[0], 0), local(&outcome.server[0], bias)];
        let outcome = run(&Arc::new(second), lanes, &inputs, 9);
        for (x, y) in x.into_iter().zip(open(&outcome.client[0], &outcome.server[0])) {
            assert_eq!(y, requantise::ideal(spec, factor * (x.cast_signed() >> 1) + bias), "2 z + r = {x}");
        }
    }

    #[test]
    fn refuses_what_does_not_fit() {
        assert!(
            program(1, 5).is_err() && program(57, 60).is_err() && program(9, 8).is_err() && program(9, 65).is_err()
        );
    }
}
