//! y = floor(S / 2^s), where c + v = S mod 2^h, S >= 0 and y < 2^a: the last step of an average pool.
//!
//! The sum has no guard bit and no sign, so only the carry out of the low s bits is needed:
//!
//! ```text
//! y = (c >> s) + (v >> s) + carry        mod 2^(h-s)
//! ```
//!
//! If the result's ring has at most h - s bits, the carry goes straight into it; else into Z_{2^(a+1)}, and the
//! result is extended ([`crate::extend`]). A pool over k x k activations sums, multiplies by a public M and adds an
//! offset, all locally, before this.

use crate::gadget::carry::{Pair, carry};
use crate::gadget::convert::bit_to_ring;
use crate::gadget::extend::{finish, finish_in_ring};
use crate::party::Party;
use crate::program::{Builder, Program, Share, Time, Word};
use crate::spec::{Finish, LayoutError, Part, check_parts, check_ring, check_size};
use serde::{Deserialize, Serialize};

/// Widest average, in bits: pools may read sums of activations.
pub const MAX_BITS: usize = 32;
/// Widest sum, in bits.
pub const MAX_WIDTH: usize = 64;

/// Which sums become which values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Spec {
    /// h: bits of the ring of the sum, at least s + a + 1.
    pub width: u8,
    /// s: the bits dropped.
    pub shift: u8,
    /// a: bits of the result.
    pub bits: u8,
}

impl Spec {
    /// Checks the bounds, the chain over the low s bits, and the ring.
    ///
    /// # Errors
    /// [`LayoutError`], saying what does not fit.
    pub fn check(self, chain: &[Part], form: Finish) -> Result<(), LayoutError> {
        let [width, shift, bits] = [self.width, self.shift, self.bits].map(usize::from);
        check_size("bits of an average", bits, 1, MAX_BITS)?;
        check_size("the ring of a sum", width, shift + bits + 1, MAX_WIDTH)?;
        check_parts("low", chain, shift)?;
        check_ring(form, bits)
    }
}

/// The ideal version.
#[must_use]
pub fn ideal(spec: Spec, sum: u64) -> u64 {
    sum >> spec.shift
}

/// The program. Inputs: the client's c (h bits, offline), with [`Finish::Upload`] the client's xhat (ring bits,
/// offline), the server's v (h bits, at `server`). Outputs: the client's and the server's share, or the server's m.
///
/// # Errors
/// [`LayoutError`] if something does not fit.
pub fn program(spec: Spec, chain: &[Part], form: Finish, server: Time) -> Result<Program, LayoutError> {
    spec.check(chain, form)?;
    let mut b = Builder::new();
    record(&mut b, spec, chain, form, server);
    Ok(b.finish())
}

/// Records inputs, protocol and outputs; the specification has been checked.
pub(crate) fn record(b: &mut Builder, spec: Spec, chain: &[Part], form: Finish, server: Time) {
    let client = b.input(Party::Client, spec.width.into(), Time::OFFLINE);
    let xhat = form.uploads().then(|| b.input(Party::Client, form.ring(spec.bits.into()), Time::OFFLINE));
    let server = b.input(Party::Server, spec.width.into(), server);
    let y = shifted(b, spec, chain, form, &Share { client, server });
    end(b, spec, &y, form, xhat.as_ref());
}

/// True if the result's ring is no wider than what is left of the sum's.
fn is_direct(spec: Spec, form: Finish) -> bool {
    form.ring(spec.bits.into()) <= usize::from(spec.width - spec.shift)
}

/// Shares of y: in the ring of the result, or modulo 2^(a+1).
pub(crate) fn shifted(b: &mut Builder, spec: Spec, chain: &[Part], form: Finish, sum: &Share) -> Share {
    let [s, a] = [spec.shift, spec.bits].map(usize::from);
    let k = if is_direct(spec, form) { form.ring(a) } else { a + 1 };
    let mut y = Share { client: b.slice(&sum.client, s, k), server: b.slice(&sum.server, s, k) };
    let pair = Pair::new(b, &sum.server, &sum.client);
    if let Some(low) = carry(b, chain, &pair.slice(0..s), None) {
        let low = bit_to_ring(b, low, k);
        y = b.add_shares(&y, &low);
    }
    y
}

/// Makes the outputs from such shares.
pub(crate) fn end(b: &mut Builder, spec: Spec, y: &Share, form: Finish, xhat: Option<&Word>) {
    if is_direct(spec, form) {
        finish_in_ring(b, y, xhat);
    } else {
        finish(b, y, form, xhat);
    }
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

    fn check(spec: Spec, form: Finish, sums: &[u64], seed: u64) {
        let (lanes, width) = (sums.len(), usize::from(spec.width));
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        for choice in Search::new(0.73).truncate(spec, form, Time::START).unwrap() {
            let program = Arc::new(program(spec, &choice.layout, form, Time::START).unwrap());
            assert_eq!(program.cost(1).flights(), choice.flights);
            let [c, v] = share(sums, width, &mut rng);
            let ring = form.ring(spec.bits.into());
            let xhat = Planes::random(lanes, ring, &mut rng);
            let inputs = if form.uploads() { vec![c, xhat.clone(), v] } else { vec![c, v] };
            let got = opened(form, &xhat, &run(&program, lanes, &inputs, seed));
            for (sum, y) in sums.iter().zip(got) {
                assert_eq!(y, ideal(spec, *sum) & (u64::MAX >> (64 - ring)), "{spec:?} {form:?} S = {sum} seed {seed}");
            }
        }
    }

    #[test]
    fn truncates_every_sum() {
        for (width, shift, bits) in [(6, 2, 3), (5, 0, 4), (9, 7, 1), (12, 3, 4), (20, 11, 8)] {
            let spec = Spec { width, shift, bits };
            let end = 1_u64 << (shift + bits);
            let all: Vec<u64> = if end <= 4096 {
                (0..end).collect()
            } else {
                let mut rng = ChaCha20Rng::seed_from_u64(7);
                let edges = (0..1_u64 << bits).flat_map(|y| [y << shift, ((y + 1) << shift) - 1]);
                edges.chain((0..1000).map(|_| rng.next_u64() % end)).collect()
            };
            let forms =
                [Finish::Small, Finish::Share { ring: 13 }, Finish::Upload { ring: 10 }, Finish::Upload { ring: bits }];
            for form in forms {
                check(spec, form, &all, 3);
            }
        }
    }

    #[test]
    fn any_number_of_lanes() {
        let spec = Spec { width: 12, shift: 5, bits: 4 };
        for (seed, lanes) in ODD_LANES.into_iter().enumerate() {
            let mut rng = ChaCha20Rng::seed_from_u64(seed as u64);
            let sums: Vec<u64> = (0..lanes).map(|_| rng.next_u64() % 512).collect();
            check(spec, Finish::Upload { ring: 14 }, &sums, seed as u64);
        }
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let form = Finish::Upload { ring: 13 };
        let digits = |n: usize| vec![Part::Digit(1); n];
        let tight = Spec { width: 8, shift: 4, bits: 4 };
        assert!(program(tight, &digits(4), form, Time::START).is_err());
        let spec = Spec { width: 9, shift: 4, bits: 4 };
        assert!(program(spec, &digits(4), form, Time::START).is_ok());
        assert!(program(spec, &digits(3), form, Time::START).is_err());
        assert!(program(spec, &digits(4), Finish::Share { ring: 3 }, Time::START).is_err());
    }
}
