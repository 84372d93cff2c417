//! y = max(z, 0) in a wider ring with the bit [z >= 0] kept, and the way back: the bit times a gradient.
//!
//! ```text
//! forward     bit = not msb(z)          y = bit z modulo 2^r, then modulo 2^e
//! back        d' = bit d modulo 2^r, then modulo 2^e
//! ```
//!
//! Sign and selection happen in the small ring that a truncation leaves ([`crate::compare`], [`crate::select`]); the extension comes
//! last, and takes no offset forward, since y is not negative: z may use its whole ring. d is signed, and leaves two bits free
//! ([`super::extend`]).

use super::extend;
use crate::gadget::compare::{top_bit, words};
use crate::gadget::select::multiply_bit;
use crate::party::Party;
use crate::program::{Bit, Builder, Program, Share, Time};
use crate::spec::{LayoutError, Part, check_parts, check_size};
use serde::{Deserialize, Serialize};

/// The rings of a rectifier, in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Spec {
    /// r: bits of the ring of z, or of d.
    pub from: u8,
    /// e: bits of the ring of the result.
    pub to: u8,
}

impl Spec {
    pub(super) fn extension(self, signed: bool) -> extend::Spec {
        extend::Spec { from: self.from, to: self.to, signed }
    }

    /// Whether z is a signed number of its ring.
    #[must_use]
    pub fn fits(self, z: i64) -> bool {
        let half = 1_i128 << (self.from - 1);
        (-half..half).contains(&z.into())
    }

    /// Checks the bounds, and with `chain` the digits of the sign.
    ///
    /// # Errors
    /// [`LayoutError`], saying what does not fit.
    pub fn check(self, chain: Option<&[Part]>) -> Result<(), LayoutError> {
        check_size("the ring of a rectified number", self.from.into(), 2, 62)?;
        self.extension(false).check()?;
        chain.map_or(Ok(()), |chain| check_parts("sign", chain, usize::from(self.from) - 1))
    }
}

/// The ideal version: y modulo 2^e, and the bit.
///
/// # Panics
/// In debug builds, if z is out of range.
#[must_use]
pub fn ideal(spec: Spec, z: i64) -> (u64, bool) {
    debug_assert!(spec.fits(z), "{z} is out of the range of {spec:?}");
    (extend::ideal(spec.extension(false), z.max(0)), z >= 0)
}

/// The ideal version of the way back.
///
/// # Panics
/// In debug builds, if d is out of range where the bit is set.
#[must_use]
pub fn ideal_back(spec: Spec, bit: bool, d: i64) -> u64 {
    extend::ideal(spec.extension(true), if bit { d } else { 0 })
}

/// The program. Inputs: both shares of z, r bits, at these times; `chain` covers r - 1 bits. Outputs: both shares of y, e bits, then
/// both halves of the bit.
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
    let z = b.input_share(spec.from.into(), client, server);
    let (y, bit) = rectify(b, spec, chain, &z);
    b.output_share(&y);
    let bit = words(b, bit);
    b.output_share(&bit);
}

/// Records a rectifier within a program: y, and its bit.
pub(super) fn rectify(b: &mut Builder, spec: Spec, chain: &[Part], z: &Share) -> (Share, Bit) {
    let negative = top_bit(b, chain, z);
    let bit = b.flip(negative);
    let y = multiply_bit(b, bit, z);
    (extend::record(b, spec.extension(false), &y), bit)
}

/// Both halves of a bit that was kept.
pub(super) fn input_bit(b: &mut Builder, client: Time, server: Time) -> Bit {
    let halves = b.input_share(1, client, server);
    let c = b.half(Party::Client, halves.client.planes[0], client);
    let s = b.half(Party::Server, halves.server.planes[0], server);
    b.bit(s, c)
}

/// The program of the way back. Inputs: both halves of the bit, then both shares of d, r bits, at these times. Outputs: both shares of d',
/// e bits.
///
/// # Errors
/// [`LayoutError`] if something does not fit.
pub fn program_back(spec: Spec, client: Time, server: Time) -> Result<Program, LayoutError> {
    spec.check(None)?;
    let mut b = Builder::new();
    let bit = input_bit(&mut b, client, server);
    let d = b.input_share(spec.from.into(), client, server);
    let d = multiply_bit(&mut b, bit, &d);
    let d = extend::record(&mut b, spec.extension(true), &d);
    b.output_share(&d);
    Ok(b.finish())
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

    fn check(spec: Spec, chain: &[Part], z: &[i64], d: &[i64], seed: u64) {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let [zs, ds] = [z, d].map(|values| values.iter().map(|x| x.cast_unsigned()).collect::<Vec<u64>>());
        let forward = Arc::new(program(spec, chain, AT, AT).unwrap());
        let outcome = run(&forward, z.len(), &share(&zs, spec.from.into(), &mut rng), seed);
        let (y, bits) = (open(&outcome.client[0], &outcome.server[0]), open(&outcome.client[1], &outcome.server[1]));
        for (z, got) in z.iter().zip(y.into_iter().zip(bits.iter().map(|bit| *bit == 1))) {
            assert_eq!(got, ideal(spec, *z), "{spec:?} {chain:?} z = {z} seed {seed}");
        }
        let back = Arc::new(program_back(spec, AT, AT).unwrap());
        let [dc, dv] = share(&ds, spec.from.into(), &mut rng);
        let kept = [outcome.client[1].clone(), outcome.server[1].clone(), dc, dv];
        let outcome = run(&back, z.len(), &kept, seed);
        for (lane, got) in open(&outcome.client[0], &outcome.server[0]).into_iter().enumerate() {
            assert_eq!(got, ideal_back(spec, bits[lane] == 1, d[lane]), "{spec:?} d = {} seed {seed}", d[lane]);
        }
    }

    /// Every number of small rings, under several random sharings, with every chain that the search offers.
    #[test]
    fn rectifies_every_number() {
        for (from, to) in [(2, 3), (4, 4), (5, 9), (7, 12)] {
            let spec = Spec { from, to };
            let half = 1_i64 << (from - 1);
            let z: Vec<i64> = (-half..half).chain(-half..half).collect();
            let d: Vec<i64> = z.iter().map(|z| z.div_euclid(2)).rev().collect();
            for choice in Search::new(0.73).rectify(spec, AT, AT).unwrap() {
                for seed in 0..3 {
                    check(spec, &choice.layout, &z, &d, seed);
                }
            }
        }
    }

    #[test]
    fn any_lanes_at_the_widths_of_training() {
        let spec = Spec { from: 12, to: 19 };
        let chain = &Search::new(0.73).rectify(spec, AT, AT).unwrap()[0].layout;
        for (seed, lanes) in ODD_LANES.into_iter().enumerate() {
            let mut rng = ChaCha20Rng::seed_from_u64(seed as u64);
            let mut draw = |bits: u32| (rng.next_u64() % (1 << bits)) as i64 - (1 << (bits - 1));
            let (z, d) =
                ((0..lanes).map(|_| draw(12)).collect::<Vec<_>>(), (0..lanes).map(|_| draw(11)).collect::<Vec<_>>());
            check(spec, chain, &z, &d, seed as u64);
        }
    }

    /// Bits per element, both directions, at 0.73 bits per random OT: within the 15 bytes of the cost model.
    #[test]
    fn costs_what_was_planned() {
        let spec = Spec { from: 12, to: 19 };
        let forward = Search::new(0.73).rectify(spec, AT, AT).unwrap();
        let least = forward.last().unwrap();
        let program = program(spec, &least.layout, AT, AT).unwrap();
        assert_eq!(program.cost(1).flights(), least.flights);
        assert!((program.tally().price(0.73) - least.price).abs() < 1e-9);
        let back = program_back(spec, AT, AT).unwrap();
        let both = least.price + back.tally().price(0.73);
        assert!(both < 8.0 * 17.0, "{both} bits: {} forward in {} flights", least.price, least.flights);
        assert_eq!(back.cost(1).flights(), 2);
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let chain = [Part::Digit(4)];
        assert!(program(Spec { from: 5, to: 9 }, &chain, AT, AT).is_ok());
        for (from, to) in [(1, 9), (6, 9), (5, 4), (5, 65), (63, 64)] {
            assert!(program(Spec { from, to }, &chain, AT, AT).is_err());
        }
        assert!(program_back(Spec { from: 1, to: 9 }, AT, AT).is_err());
    }
}
