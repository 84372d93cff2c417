//! y = floor(Z / 2^s) - [v < t(S)]: an average whose last step sums of 32-bit floats decide.
//!
//! Z is a multiplied sum as in [`crate::truncate`], S the sum of a window x_1 .. x_n, and v what a runtime's floats make of it:
//!
//! ```text
//! v_1 = near(m x_1)       v_k = near(v_(k-1) + near(m x_k))
//! ```
//!
//! near(t) is the float nearest to t: a multiple of 2^r, where t has r bits beyond 24, halves go to even multiples. t(S) = m S + (the least
//! error at which S is not lowered), a public table. Both parties multiply and add up locally; `gadget/floats.rs` makes the bit.

use crate::gadget::convert::bit_to_ring;
use crate::gadget::floats::below;
use crate::party::Party;
use crate::program::{Builder, Program, Share, Time};
use crate::protocol::truncate::{self, Spec};
use crate::spec::{Finish, LayoutError, Part};

pub use crate::spec::Floats;

/// The program. Inputs, of each party: its share of Z; of S less the smallest S ([`Floats::index_bits`]); of m x_i for each value
/// ([`Floats::sum_bits`]); the client's offline, and, with [`Finish::Upload`], its xhat (ring bits, offline) behind them. Outputs as those of
/// [`truncate::program`].
///
/// # Errors
/// [`LayoutError`] if something does not fit.
pub fn program(spec: Spec, floats: &Floats, chain: &[Part], form: Finish) -> Result<Program, LayoutError> {
    spec.check(chain, form)?;
    floats.check()?;
    let mut b = Builder::new();
    let mut input = |width: usize| b.input_share(width, Time::OFFLINE, Time::START);
    let sum = input(spec.width.into());
    let index = input(floats.index_bits());
    let terms: Vec<Share> = (0..floats.count).map(|_| input(floats.sum_bits())).collect();
    let xhat = form.uploads().then(|| b.input(Party::Client, form.ring(spec.bits.into()), Time::OFFLINE));
    let y = truncate::shifted(&mut b, spec, chain, form, &sum);
    let lowered = below(&mut b, floats, &terms, &index);
    let lowered = bit_to_ring(&mut b, lowered, y.server.width());
    let y = b.sub_shares(&y, &lowered);
    truncate::end(&mut b, spec, &y, form, xhat.as_ref());
    Ok(b.finish())
}

/// The ideal version, of the values of a window and Z.
#[must_use]
pub fn ideal(spec: Spec, floats: &Floats, values: &[i64], sum: u64) -> u64 {
    // What a cast rounds to the nearest float.
    let near = |t: i64| t as f32 as i64;
    let (mut v, mut total) = (0, 0);
    for x in values {
        let term = floats.unit * x;
        total += term;
        v = near(v + near(term));
    }
    let known = floats.least.iter().find(|[sum, _]| sum * floats.unit == total);
    truncate::ideal(spec, sum) - u64::from(known.is_some_and(|[_, least]| v - total < *least))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Search;
    use crate::party::Stage;
    use crate::primitive::bits::Planes;
    use crate::program::testing::{opened, run, share};
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha20Rng;
    use std::sync::Arc;

    /// A bound on the errors, as generous as rings allow.
    const REACH: i64 = 1 << 20;

    /// Averages of windows of random values in a range, half of the sums with a threshold near zero.
    fn check(unit: i64, values: [i64; 2], count: usize, form: Finish, lanes: usize, seed: u64) -> usize {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let [lo, hi] = values;
        let sums = lo * count as i64..=hi * count as i64;
        let least = sums.filter(|sum| sum % 2 == 0).map(|sum| [sum, i64::from(rng.next_u32() % 64) - 32]).collect();
        let floats = Floats { unit, values, count, reach: REACH, near_powers: true, least };
        // Z = S - the smallest + 4, y = Z >> 2: at least 1.
        let spec = Spec { width: 18, shift: 2, bits: 14 };
        let layout = Search::new(0.73).truncate(spec, form, Time::START).unwrap().swap_remove(0).layout;
        let program = Arc::new(program(spec, &floats, &layout, form).unwrap());
        let draw = |rng: &mut ChaCha20Rng| lo + (rng.next_u64() % (hi - lo + 1) as u64) as i64;
        let windows: Vec<Vec<i64>> = (0..lanes).map(|_| (0..count).map(|_| draw(&mut rng)).collect()).collect();
        let index: Vec<u64> = windows.iter().map(|w| (w.iter().sum::<i64>() - floats.lowest()) as u64).collect();
        let sum: Vec<u64> = index.iter().map(|index| index + 4).collect();
        let mut inputs = share(&sum, spec.width.into(), &mut rng).to_vec();
        inputs.extend(share(&index, floats.index_bits(), &mut rng));
        for i in 0..count {
            let terms: Vec<u64> = windows.iter().map(|window| (unit * window[i]) as u64).collect();
            inputs.extend(share(&terms, floats.sum_bits(), &mut rng));
        }
        let ring = form.ring(spec.bits.into());
        let xhat = Planes::random(lanes, ring, &mut rng);
        if form.uploads() {
            inputs.push(xhat.clone());
        }
        let got = opened(form, &xhat, &run(&program, lanes, &inputs, seed));
        let mut lowered = 0;
        for ((window, sum), y) in windows.iter().zip(&sum).zip(got) {
            assert_eq!(y, ideal(spec, &floats, window, *sum), "{unit} {window:?} seed {seed}");
            lowered += usize::from(y < sum >> 2);
        }
        lowered
    }

    #[test]
    fn averages_of_windows_of_all_sizes() {
        let forms = [Finish::Upload { ring: 20 }, Finish::Share { ring: 16 }, Finish::Small];
        let cases = [
            (1, [0, 255]),
            (2, [-128, 127]),
            (3, [-255, 0]),
            (4, [0, 255]),
            (6, [-37, 218]),
            (9, [-200, -3]),
            (16, [0, 15]),
        ];
        let mut lowered = 0;
        for (seed, (count, values)) in cases.into_iter().enumerate() {
            for unit in [(1 << 23) + 1, 0xb5_04f3, 0xa3_d70a, (1 << 24) - 1] {
                lowered += check(unit, values, count, forms[seed % 3], 130, seed as u64);
            }
        }
        assert!(lowered > 200, "{lowered}");
    }

    /// Of 2 x 2, 3 x 2 and 3 x 3 bytes, without and with sums near powers of two: bits of a lane, OTs, flights.
    #[test]
    fn costs_what_the_text_says() {
        let of = |(count, near_powers): (usize, bool)| {
            let reach = [0, 0, 0, 0, 1792, 0, 3584, 0, 0, 7040][count];
            let floats = Floats { unit: 0xb5_04f3, values: [0, 255], count, reach, near_powers, least: vec![] };
            let spec = Spec { width: 13, shift: 4, bits: 8 };
            let form = Finish::Upload { ring: floats.sum_bits() as u8 };
            let program = program(spec, &floats, &[Part::Digit(2), Part::Digit(2)], form).unwrap();
            let tally = program.tally();
            let bits = |stage| tally.bits(stage, Party::Client) + tally.bits(stage, Party::Server);
            [bits(Stage::Offline) + bits(Stage::Online), tally.demand.ots.total(), program.cost(1).flights() as usize]
        };
        let cases = [(4, false), (4, true), (6, false), (9, false), (9, true)];
        let costs = [[3424, 848, 84], [4180, 1163, 94], [5941, 1393, 116], [8260, 2105, 156], [10372, 3009, 188]];
        assert_eq!(cases.map(of), costs);
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let good =
            Floats { unit: 1 << 23, values: [0, 255], count: 4, reach: 1000, near_powers: false, least: vec![[2, -1]] };
        let spec = Spec { width: 12, shift: 2, bits: 8 };
        let made = |floats: &Floats| program(spec, floats, &[Part::Digit(2)], Finish::Share { ring: 9 });
        assert!(made(&good).is_ok());
        let bad = [
            Floats { unit: 1 << 24, ..good.clone() },
            Floats { unit: -1, ..good.clone() },
            Floats { values: [3, 2], ..good.clone() },
            Floats { values: [i64::MIN, 2], ..good.clone() },
            Floats { values: [0, 257], ..good.clone() },
            Floats { count: 0, ..good.clone() },
            Floats { count: 65, ..good.clone() },
            Floats { reach: 1 << 22, ..good.clone() },
            Floats { reach: 100, ..good.clone() },
            Floats { reach: -1, ..good.clone() },
            Floats { least: vec![[1021, 0]], ..good.clone() },
            Floats { least: vec![[2, 1002]], ..good.clone() },
        ];
        for floats in bad {
            assert!(made(&floats).is_err(), "{floats:?}");
        }
    }
}
