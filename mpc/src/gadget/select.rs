//! bit * x as shares modulo 2^k, for an XOR-shared bit and an additively shared x: a multiplexer.
//!
//! With the halves s and c of the bit and the shares x_s and x_c, (s xor c) (x_s + x_c) has four terms; two are
//! local, two are OLEs in opposite directions.
//!
//! ```text
//! (s xor c) x_c = c x_c + s (1 - 2c) x_c         the server receives
//! (s xor c) x_s = s x_s + c (1 - 2s) x_s         the client receives
//! ```

use crate::party::Party;
use crate::program::{Bit, Builder, Program, Share, Time};
use crate::spec::{LayoutError, check_size};

/// Shares of bit * x.
pub(crate) fn multiply_bit(b: &mut Builder, bit: Bit, x: &Share) -> Share {
    let (s, c) = bit.both();
    let signed = b.neg_if(&x.client, c.plane, c.time);
    let (zs, zc) = b.ole(s, &signed);
    let own = b.and_bit(&x.client, c.plane, c.time);
    let client = b.add(&zc, &own);
    let signed = b.neg_if(&x.server, s.plane, s.time);
    let (wc, ws) = b.ole(c, &signed);
    let own = b.and_bit(&x.server, s.plane, s.time);
    let server = b.add(&ws, &own);
    Share { client: b.add(&client, &wc), server: b.add(&server, &zs) }
}

/// Shares of `one` where the bit is one, else of `zero`.
pub(crate) fn select(b: &mut Builder, bit: Bit, zero: &Share, one: &Share) -> Share {
    let change = b.sub_shares(one, zero);
    let change = multiply_bit(b, bit, &change);
    b.add_shares(zero, &change)
}

/// The program. Inputs: the bit's halves, then the shares of `zero` and of `one` (`width` bits), always the client's first.
/// Outputs: shares of the chosen number.
///
/// # Errors
/// [`LayoutError::Size`] unless the width is from 1 to 64.
pub fn program(width: usize, client: Time, server: Time) -> Result<Program, LayoutError> {
    check_size("the width of a selection", width, 1, 64)?;
    let mut b = Builder::new();
    let halves = b.input_share(1, client, server);
    let c = b.half(Party::Client, halves.client.planes[0], client);
    let s = b.half(Party::Server, halves.server.planes[0], server);
    let bit = b.bit(s, c);
    let zero = b.input_share(width, client, server);
    let one = b.input_share(width, client, server);
    let chosen = select(&mut b, bit, &zero, &one);
    b.output_share(&chosen);
    Ok(b.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::primitive::bits::Planes;
    use crate::program::testing::{ODD_LANES, open, run, share};
    use rand::SeedableRng;
    use rand_chacha::ChaCha20Rng;
    use std::sync::Arc;

    #[test]
    fn chooses_at_all_widths() {
        for (width, client) in [(1, Time::START), (3, Time::OFFLINE), (17, Time::START), (64, Time::Online(2))] {
            let program = Arc::new(program(width, client, Time::START).unwrap());
            for (seed, lanes) in ODD_LANES.into_iter().enumerate() {
                let mut rng = ChaCha20Rng::seed_from_u64(seed as u64);
                let bits: Vec<u64> = Planes::random(lanes, 1, &mut rng).to_lanes();
                let [x, y] = [(); 2].map(|()| Planes::random(lanes, width, &mut rng).to_lanes::<u64>());
                let inputs = [share(&bits, 1, &mut rng), share(&x, width, &mut rng), share(&y, width, &mut rng)];
                let outcome = run(&program, lanes, inputs.as_flattened(), seed as u64);
                let want: Vec<u64> = (0..lanes).map(|lane| if bits[lane] == 1 { y[lane] } else { x[lane] }).collect();
                assert_eq!(open(&outcome.client[0], &outcome.server[0]), want, "width {width} seed {seed}");
            }
        }
    }
}
