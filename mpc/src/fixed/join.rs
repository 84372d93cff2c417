//! z = sum of z_i modulo 2^ell, where c_i + v_i = 2 z_i + r_i modulo 2^(ell+1), 0 <= r_i < 2: lattice products without their guard bits.
//!
//! ```text
//! z_i = (c_i >> 1) + (v_i >> 1) + c_i,0 v_i,0             one OLE of ell bits for each, all in one flight
//! ```
//!
//! What is left of a guard bit would decide some roundings, and it is decided by the noise, which depends on what both parties hold. For
//! a step of a network of 784-128-128-10 the OLEs are a thirteenth of the bytes: they are paid, and nothing needs to be claimed of noise.

use crate::gadget::widen::drop_guard;
use crate::party::Party;
use crate::program::{Builder, Program, Share, Time};
use crate::spec::{LayoutError, MAX_ELL, check_size};

/// Most terms.
pub const MAX_TERMS: usize = 8;

/// The ideal version: z_i of a pair of shares, modulo 2^ell.
#[must_use]
pub fn ideal(ell: usize, c: u64, v: u64) -> u64 {
    c.wrapping_add(v) >> 1 & ((1 << ell) - 1)
}

/// The program. Inputs: for every term the client's c and the server's v, ell + 1 bits each, at the start of the online stage. Outputs:
/// both shares of z, ell bits.
///
/// # Errors
/// [`LayoutError::Size`] unless ell is from 1 to [`MAX_ELL`], and there are 1 to [`MAX_TERMS`] terms.
pub fn program(ell: usize, terms: usize) -> Result<Program, LayoutError> {
    check_size("bits of a product", ell, 1, MAX_ELL.into())?;
    check_size("terms of a product", terms, 1, MAX_TERMS)?;
    let mut b = Builder::new();
    let [client, server] = [Party::Client, Party::Server].map(|party| b.constant(party, 0, ell));
    let mut z = Share { client, server };
    for _ in 0..terms {
        let term = b.input_share(ell + 1, Time::START, Time::START);
        let term = drop_guard(&mut b, &term.client, &term.server);
        z = b.add_shares(&z, &term);
    }
    b.output_share(&z);
    Ok(b.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::correlation::ot::OtCount;
    use crate::primitive::bits::Planes;
    use crate::program::testing::{ODD_LANES, open, run};
    use rand::SeedableRng;
    use rand_chacha::ChaCha20Rng;
    use std::sync::Arc;

    #[test]
    fn every_pair_of_shares_of_a_term() {
        let ell = 4;
        let program = Arc::new(program(ell, 1).unwrap());
        let (c, v): (Vec<u64>, Vec<u64>) = (0..2_u64 << ell).flat_map(|c| (0..2 << ell).map(move |v| (c, v))).unzip();
        let inputs = [&c, &v].map(|lanes| Planes::from_lanes(lanes, ell + 1));
        let outcome = run(&program, c.len(), &inputs, 1);
        let want: Vec<u64> = c.iter().zip(&v).map(|(c, v)| ideal(ell, *c, *v)).collect();
        assert_eq!(open(&outcome.client[0], &outcome.server[0]), want);
    }

    #[test]
    fn two_terms_at_any_lanes() {
        for (seed, lanes) in ODD_LANES.into_iter().enumerate() {
            let ell = [18, 19, 56][seed % 3];
            let program = Arc::new(program(ell, 2).unwrap());
            assert_eq!((program.ots(), program.cost(1).flights()), (OtCount::received_by(Party::Client, 2), 1));
            assert!((program.tally().price(0.0) - 2.0 * (ell as f64 + 1.0)).abs() < 1e-9);
            let mut rng = ChaCha20Rng::seed_from_u64(seed as u64);
            let inputs = [(); 4].map(|()| Planes::random(lanes, ell + 1, &mut rng));
            let outcome = run(&program, lanes, &inputs, seed as u64);
            let words = inputs.map(|planes| planes.to_lanes::<u64>());
            let term = |lane: usize, i: usize| ideal(ell, words[2 * i][lane], words[2 * i + 1][lane]);
            let want: Vec<u64> =
                (0..lanes).map(|lane| term(lane, 0).wrapping_add(term(lane, 1)) & ((1 << ell) - 1)).collect();
            assert_eq!(open(&outcome.client[0], &outcome.server[0]), want, "ell {ell} seed {seed}");
        }
    }

    #[test]
    fn refuses_what_does_not_fit() {
        assert!(
            program(0, 1).is_err() && program(57, 1).is_err() && program(18, 0).is_err() && program(18, 9).is_err()
        );
    }
}
