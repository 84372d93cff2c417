//! z mod 2^ell to the client alone, where c + v = 2 z + r mod 2^(ell+1), 0 <= r < 2: exact logits.
//!
//! z = (c >> 1) + (v >> 1) + c_0 v_0, so the client chooses one of two messages by its lowest bit, and learns z only:
//! the guard bits, which depend on the weights beyond z, stay hidden.
//!
//! ```text
//! offline   client    correction of c_0                                  -> server
//! online    server    (v >> 1) and (v >> 1) + v_0, by chosen 1-of-2 OT   -> client    z = (c >> 1) + the one chosen
//! ```
//!
//! Never is a raw share opened. An activation that is held as (xhat, m) has no guard bit: [`reveal`] opens m.

use crate::party::Party;
use crate::program::{Builder, Program, Time};
use crate::spec::{LayoutError, MAX_ELL, check_size};

/// The ideal version: z of a pair of shares, modulo 2^ell.
#[must_use]
pub fn ideal(ell: usize, c: u64, v: u64) -> u64 {
    c.wrapping_add(v) >> 1 & ((1 << ell) - 1)
}

/// Logits. Inputs: the client's c (ell + 1 bits, offline), the server's v (ell + 1 bits). Output: the client's z, to be
/// read as a signed number of ell bits.
///
/// # Errors
/// [`LayoutError::Size`] unless ell is from 1 to [`MAX_ELL`].
pub fn logits(ell: usize) -> Result<Program, LayoutError> {
    check_size("bits of a logit", ell, 1, MAX_ELL.into())?;
    let mut b = Builder::new();
    let c = b.input(Party::Client, ell + 1, Time::OFFLINE);
    let v = b.input(Party::Server, ell + 1, Time::START);
    let choice = b.half(Party::Client, c.planes[0], c.time);
    let zero = b.slice(&v, 1, ell);
    let lowest = b.slice(&v, 0, 1);
    let lowest = b.resize(&lowest, ell);
    let one = b.add(&zero, &lowest);
    let chosen = b.choose(choice, &zero, &one);
    let own = b.slice(&c, 1, ell);
    let z = b.add(&own, &chosen);
    b.output(&z);
    Ok(b.finish())
}

/// An activation or sum x = xhat + m modulo 2^ring. Inputs: the client's xhat (offline), the server's m. Output: the
/// client's x.
///
/// # Errors
/// [`LayoutError::Size`] unless the ring has 1 to 64 bits.
pub fn reveal(ring: usize) -> Result<Program, LayoutError> {
    check_size("the ring of an output", ring, 1, 64)?;
    let mut b = Builder::new();
    let xhat = b.input(Party::Client, ring, Time::OFFLINE);
    let m = b.input(Party::Server, ring, Time::START);
    let m = b.send(&m);
    let x = b.add(&xhat, &m);
    b.output(&x);
    Ok(b.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::correlation::ot::OtCount;
    use crate::party::Stage;
    use crate::primitive::bits::Planes;
    use crate::program::testing::{ODD_LANES, open, run};
    use rand::SeedableRng;
    use rand_chacha::ChaCha20Rng;
    use std::sync::Arc;

    #[test]
    fn logits_are_exact_for_every_pair_of_shares() {
        for ell in [1, 2, 5] {
            let program = Arc::new(logits(ell).unwrap());
            let (c, v): (Vec<u64>, Vec<u64>) =
                (0..2_u64 << ell).flat_map(|c| (0..2 << ell).map(move |v| (c, v))).unzip();
            let inputs = [Planes::from_lanes(&c, ell + 1), Planes::from_lanes(&v, ell + 1)];
            let outcome = run(&program, c.len(), &inputs, 1);
            let want: Vec<u64> = c.iter().zip(&v).map(|(c, v)| ideal(ell, *c, *v)).collect();
            assert_eq!(outcome.client[0].to_lanes::<u64>(), want);
            assert!(outcome.server.is_empty());
        }
    }

    #[test]
    fn logits_of_any_width_and_lanes() {
        for (seed, lanes) in ODD_LANES.into_iter().enumerate() {
            let (ell, mut rng) = (8 * (seed + 1), ChaCha20Rng::seed_from_u64(seed as u64));
            let program = Arc::new(logits(ell).unwrap());
            assert_eq!(program.ots(), OtCount::received_by(Party::Client, 1));
            assert_eq!(program.tally().bits(Stage::Online, Party::Server), 2 * ell);
            assert_eq!((program.cost(1).flights(), program.cost(1).frames.len()), (1, 2));
            let [c, v] = [(); 2].map(|()| Planes::random(lanes, ell + 1, &mut rng));
            let outcome = run(&program, lanes, &[c.clone(), v.clone()], seed as u64);
            let pairs = c.to_lanes::<u64>().into_iter().zip(v.to_lanes::<u64>());
            let want: Vec<u64> = pairs.map(|(c, v)| ideal(ell, c, v)).collect();
            assert_eq!(outcome.client[0].to_lanes::<u64>(), want, "seed {seed}");
        }
    }

    #[test]
    fn reveal_adds_the_mask() {
        let program = Arc::new(reveal(13).unwrap());
        let mut rng = ChaCha20Rng::seed_from_u64(5);
        let [xhat, m] = [(); 2].map(|()| Planes::random(65, 13, &mut rng));
        let outcome = run(&program, 65, &[xhat.clone(), m.clone()], 5);
        assert_eq!(outcome.client[0].to_lanes::<u64>(), open(&xhat, &m));
    }

    #[test]
    fn refuses_what_does_not_fit() {
        assert!(logits(0).is_err() && logits(57).is_err() && reveal(0).is_err() && reveal(65).is_err());
    }
}
