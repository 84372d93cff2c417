//! y in a wider ring: from shares modulo 2^r to shares modulo 2^e, for a y that leaves two bits free.
//!
//! With 2^(r-2) added, the top bit of y is zero, so the two shares wrap iff the top bit of either is one ([`crate::extend`]): one OLE of
//! e - r bits, one flight. Right iff -2^(r-2) <= y < 2^(r-2). Where y is known not to be negative nothing is added, and y < 2^(r-1)
//! will do. A y out of range comes out wrong by 2^r, which no party notices: ranges are planned, and the ideal version watches them.

use super::truncate::low;
use crate::gadget::extend::{extend, extend_signed};
use crate::program::{Builder, Program, Share, Time};
use crate::spec::{LayoutError, check_size};
use serde::{Deserialize, Serialize};

/// Which numbers go into which ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Spec {
    /// r: bits of the ring that y comes in.
    pub from: u8,
    /// e: bits of the ring that it goes to.
    pub to: u8,
    /// Whether y may be negative.
    pub signed: bool,
}

impl Spec {
    /// Checks the bounds.
    ///
    /// # Errors
    /// [`LayoutError::Size`] unless r is at least 2, and e from r to 64.
    pub fn check(self) -> Result<(), LayoutError> {
        check_size("the ring of a number to be extended", self.from.into(), 2, 64)?;
        check_size("the ring of an extended number", self.to.into(), self.from.into(), 64)
    }

    /// Whether y has its range.
    #[must_use]
    pub fn fits(self, y: i64) -> bool {
        let quarter = 1_i128 << (self.from - 2);
        let range = if self.signed { -quarter..quarter } else { 0..2 * quarter };
        range.contains(&y.into())
    }
}

/// The ideal version: y modulo 2^e.
///
/// # Panics
/// In debug builds, if y is out of range: there the protocol would be wrong.
#[must_use]
pub fn ideal(spec: Spec, y: i64) -> u64 {
    debug_assert!(spec.fits(y), "{y} is out of the range of {spec:?}");
    low(y.cast_unsigned(), spec.to)
}

/// The program. Inputs: both shares of y, r bits, at these times. Outputs: both shares, e bits.
///
/// # Errors
/// [`LayoutError`] if the specification does not fit.
pub fn program(spec: Spec, client: Time, server: Time) -> Result<Program, LayoutError> {
    joint_program(&[spec], client, server)
}

/// [`program`] for several numbers per lane, in one flight: inputs and outputs follow one another.
///
/// # Errors
/// [`LayoutError`] if a specification does not fit.
pub fn joint_program(specs: &[Spec], client: Time, server: Time) -> Result<Program, LayoutError> {
    let mut b = Builder::new();
    for spec in specs {
        spec.check()?;
        let y = b.input_share(spec.from.into(), client, server);
        let y = record(&mut b, *spec, &y);
        b.output_share(&y);
    }
    Ok(b.finish())
}

/// Records an extension within a program.
pub(crate) fn record(b: &mut Builder, spec: Spec, y: &Share) -> Share {
    if spec.signed { extend_signed(b, y, spec.to.into()) } else { extend(b, y, spec.to.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::correlation::ot::OtCount;
    use crate::party::Party;
    use crate::primitive::bits::Planes;
    use crate::program::testing::{ODD_LANES, open, run, share};
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha20Rng;
    use std::sync::Arc;

    fn range(spec: Spec) -> std::ops::Range<i64> {
        let quarter = 1_i64 << (spec.from - 2);
        if spec.signed { -quarter..quarter } else { 0..2 * quarter }
    }

    #[test]
    fn exact_for_every_pair_of_shares() {
        for (from, to) in [(2, 3), (5, 9), (6, 7), (7, 12), (4, 4), (3, 64)] {
            for signed in [true, false] {
                let spec = Spec { from, to, signed };
                let all: Vec<(i64, u64)> = range(spec).flat_map(|y| (0..1 << from).map(move |c| (y, c))).collect();
                let c: Vec<u64> = all.iter().map(|(_, c)| *c).collect();
                let v: Vec<u64> = all.iter().map(|(y, c)| y.cast_unsigned().wrapping_sub(*c)).collect();
                let inputs = [&c, &v].map(|lanes| Planes::from_lanes(lanes, from.into()));
                let program = Arc::new(program(spec, Time::START, Time::START).unwrap());
                let outcome = run(&program, all.len(), &inputs, 1);
                for (lane, y) in open(&outcome.client[0], &outcome.server[0]).into_iter().enumerate() {
                    assert_eq!(y, ideal(spec, all[lane].0), "{spec:?} {:?}", all[lane]);
                }
            }
        }
    }

    #[test]
    fn any_lanes_at_the_widths_of_training() {
        for (seed, (from, to, signed)) in
            [(13, 25, true), (20, 25, true), (12, 19, false), (7, 19, false)].into_iter().enumerate()
        {
            let spec = Spec { from, to, signed };
            let program = Arc::new(program(spec, Time::START, Time::START).unwrap());
            let mut rng = ChaCha20Rng::seed_from_u64(seed as u64);
            for lanes in ODD_LANES {
                let (start, size) = (range(spec).start, range(spec).end - range(spec).start);
                let y: Vec<i64> = (0..lanes).map(|_| start + (rng.next_u64() % size as u64) as i64).collect();
                let words: Vec<u64> = y.iter().map(|y| y.cast_unsigned()).collect();
                let outcome = run(&program, lanes, &share(&words, from.into(), &mut rng), seed as u64);
                let want: Vec<u64> = y.into_iter().map(|y| ideal(spec, y)).collect();
                assert_eq!(open(&outcome.client[0], &outcome.server[0]), want, "{spec:?} seed {seed}");
            }
        }
    }

    #[test]
    fn several_numbers_take_one_flight() {
        let specs = [Spec { from: 5, to: 25, signed: true }, Spec { from: 8, to: 11, signed: false }];
        let program = Arc::new(joint_program(&specs, Time::START, Time::START).unwrap());
        assert_eq!(program.cost(1).flights(), 1);
        let (mut rng, lanes) = (ChaCha20Rng::seed_from_u64(4), 100);
        let numbers = [-8_i64, 7, 0, -1].map(|y| [y, 127 - y.abs()]);
        let column = |i: usize| (0..lanes).map(|lane| numbers[lane % 4][i].cast_unsigned()).collect::<Vec<u64>>();
        let inputs = [share(&column(0), 5, &mut rng), share(&column(1), 8, &mut rng)];
        let outcome = run(&program, lanes, inputs.as_flattened(), 4);
        for (i, spec) in specs.into_iter().enumerate() {
            let want: Vec<u64> = (0..lanes).map(|lane| ideal(spec, numbers[lane % 4][i])).collect();
            assert_eq!(open(&outcome.client[i], &outcome.server[i]), want, "{spec:?}");
        }
    }

    #[test]
    fn costs_one_ole_and_one_flight() {
        let spec = Spec { from: 13, to: 25, signed: true };
        let program = program(spec, Time::START, Time::START).unwrap();
        assert_eq!(program.ots(), OtCount::received_by(Party::Server, 1));
        assert!((program.tally().price(0.0) - 13.0).abs() < 1e-9);
        assert_eq!(program.cost(1).flights(), 1);
    }

    #[test]
    #[should_panic(expected = "out of the range")]
    #[cfg(debug_assertions)]
    fn the_ideal_version_watches_ranges() {
        let _ = ideal(Spec { from: 5, to: 9, signed: true }, 8);
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let at = Time::START;
        for (from, to) in [(1, 5), (6, 5), (9, 65)] {
            assert!(program(Spec { from, to, signed: true }, at, at).is_err());
        }
    }
}
