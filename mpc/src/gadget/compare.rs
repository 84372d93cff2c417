//! `bit = (x + y mod 2^k >= 2^(k-1))`, the top bit of a shared number, XOR-shared; of a difference it says *less than*.
//!
//! The client's share plays c and the server's v: the carry out of the low k-1 bits ([`crate::carry`]) plus the two top
//! bits. A difference of numbers below 2^(k-1) is negative iff its top bit modulo 2^k is one.

use crate::gadget::carry::{Pair, carry};
use crate::program::{Bit, Builder, Program, Share, Time};
use crate::spec::{LayoutError, Part, check_parts, check_size};

/// Widest number compared, in bits.
pub const MAX_WIDTH: usize = 64;

/// The top bit of a shared number of at least two bits; `chain` covers all bits below it.
pub(crate) fn top_bit(b: &mut Builder, chain: &[Part], x: &Share) -> Bit {
    let top = x.server.width() - 1;
    let pair = Pair::new(b, &x.server, &x.client);
    let k = carry(b, chain, &pair.slice(0..top), None).expect("there are bits below the top");
    let local = pair.bit(b, top);
    b.xor_bits(k, local)
}

/// `x < y`, where the difference fits the ring.
pub(crate) fn less_than(b: &mut Builder, chain: &[Part], x: &Share, y: &Share) -> Bit {
    let difference = b.sub_shares(x, y);
    top_bit(b, chain, &difference)
}

/// The bit as the words of both parties.
pub(crate) fn words(b: &Builder, bit: Bit) -> Share {
    let (s, c) = bit.both();
    let [client, server] = [c, s].map(|half| b.word_of(half.party, half.plane, half.time));
    Share { client, server }
}

/// The program of `x < y`. Inputs: the shares of x, then of y (`width` bits, the client's first). Outputs: XOR shares.
///
/// # Errors
/// [`LayoutError`] if the width is not from 2 to [`MAX_WIDTH`], or the chain does not cover the bits below the top.
pub fn program(width: usize, chain: &[Part], client: Time, server: Time) -> Result<Program, LayoutError> {
    check_size("the width of a comparison", width, 2, MAX_WIDTH)?;
    check_parts("comparison", chain, width - 1)?;
    let mut b = Builder::new();
    record(&mut b, width, chain, client, server);
    Ok(b.finish())
}

/// Records inputs, protocol and outputs.
pub(crate) fn record(b: &mut Builder, width: usize, chain: &[Part], client: Time, server: Time) {
    let x = b.input_share(width, client, server);
    let y = b.input_share(width, client, server);
    let bit = less_than(b, chain, &x, &y);
    let words = words(b, bit);
    b.output_share(&words);
}

/// The ideal version: `x < y` for signed numbers whose difference fits `width` bits.
#[must_use]
pub fn ideal(width: usize, x: u64, y: u64) -> bool {
    x.wrapping_sub(y) >> (width - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Search;
    use crate::primitive::bits::Planes;
    use crate::program::testing::{ODD_LANES, open, run, share};
    use rand::SeedableRng;
    use rand_chacha::ChaCha20Rng;
    use std::sync::Arc;

    #[test]
    fn compares_at_all_widths() {
        for (seed, width) in [2, 3, 5, 9, 17, 33, 64].into_iter().enumerate() {
            let mut rng = ChaCha20Rng::seed_from_u64(seed as u64);
            let start = Time::START;
            for choice in Search::new(0.73).compare(width, start, start).unwrap() {
                let program = Arc::new(program(width, &choice.layout, start, start).unwrap());
                assert_eq!(program.cost(1).flights(), choice.flights);
                for lanes in ODD_LANES {
                    let half = width - 1;
                    let x: Vec<u64> = Planes::random(lanes, half, &mut rng).to_lanes();
                    let mut y: Vec<u64> = Planes::random(lanes, half, &mut rng).to_lanes();
                    y.iter_mut().zip(&x).step_by(3).for_each(|(y, x)| *y = *x);
                    let [xc, xs] = share(&x, width, &mut rng);
                    let [yc, ys] = share(&y, width, &mut rng);
                    let outcome = run(&program, lanes, &[xc, xs, yc, ys], seed as u64);
                    let got = open(&outcome.client[0], &outcome.server[0]);
                    for (lane, less) in got.into_iter().enumerate() {
                        assert_eq!(less == 1, x[lane] < y[lane], "width {width} seed {seed}");
                        assert_eq!(less == 1, ideal(width, x[lane], y[lane]));
                    }
                }
            }
        }
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let (at, chain) = (Time::START, [Part::Digit(3)]);
        assert!(program(5, &chain, at, at).is_err());
        assert!(program(1, &[], at, at).is_err());
        assert!(program(6, &[Part::Digit(5)], at, at).is_err());
        assert!(program(65, &[Part::Block(vec![4; 16])], at, at).is_err());
    }
}
