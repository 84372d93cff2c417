//! bit as shares modulo 2^k: an XOR-shared bit becomes a number (B2A).
//!
//! With the server's half s and the client's half c, s xor c = s + c - 2 s c, and the product counts modulo 2^(k-1)
//! only: one OLE of k-1 bits. For k = 1 the halves are the shares.
//!
//! ```text
//! server    d = s xor b                                           -> client
//! client    e = c - (m_1 - m_0) mod 2^(k-1)                       -> server
//! ```
//!
//! The roles are exchanged where the client's half has its OT already and the server's has none.

use crate::party::Party;
use crate::program::{Bit, Builder, Half, Program, Share, Time, Word};
use crate::spec::{LayoutError, check_size};

/// Shares of a bit modulo 2^k.
pub(crate) fn bit_to_ring(b: &mut Builder, bit: Bit, k: usize) -> Share {
    let (s, c) = bit.both();
    let [client, server] = [c, s].map(|half| word(b, half, k));
    if k == 1 {
        return Share { client, server };
    }
    let server_receives = b.is_open(s) || !b.is_open(c);
    let product = if server_receives {
        let y = word(b, c, k - 1);
        let (server, client) = b.ole(s, &y);
        Share { client, server }
    } else {
        let y = word(b, s, k - 1);
        let (client, server) = b.ole(c, &y);
        Share { client, server }
    };
    let twice = Share { client: b.shift_left(&product.client, 1, k), server: b.shift_left(&product.server, 1, k) };
    b.sub_shares(&Share { client, server }, &twice)
}

/// A half as a number of `k` bits.
fn word(b: &Builder, half: Half, k: usize) -> Word {
    let bit = b.word_of(half.party, half.plane, half.time);
    b.resize(&bit, k)
}

/// The program. Inputs: the client's and the server's half, known at these times. Outputs: shares modulo 2^k.
///
/// # Errors
/// [`LayoutError::Size`] unless k is from 1 to 64.
pub fn program(k: usize, client: Time, server: Time) -> Result<Program, LayoutError> {
    check_size("the ring of a converted bit", k, 1, 64)?;
    let mut b = Builder::new();
    let halves = b.input_share(1, client, server);
    let c = b.half(Party::Client, halves.client.planes[0], client);
    let s = b.half(Party::Server, halves.server.planes[0], server);
    let bit = b.bit(s, c);
    let share = bit_to_ring(&mut b, bit, k);
    b.output_share(&share);
    Ok(b.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::primitive::bits::Planes;
    use crate::program::testing::{ODD_LANES, open, run};
    use rand::SeedableRng;
    use rand_chacha::ChaCha20Rng;
    use std::sync::Arc;

    #[test]
    fn shares_add_up_to_the_bit() {
        for (k, client) in [(1, Time::START), (2, Time::OFFLINE), (5, Time::START), (64, Time::Online(3))] {
            let program = Arc::new(program(k, client, Time::START).unwrap());
            for (seed, lanes) in ODD_LANES.into_iter().enumerate() {
                let mut rng = ChaCha20Rng::seed_from_u64(seed as u64);
                let [c, s] = [(); 2].map(|()| Planes::random(lanes, 1, &mut rng));
                let outcome = run(&program, lanes, &[c.clone(), s.clone()], seed as u64);
                let bits = c.to_lanes::<u64>().into_iter().zip(s.to_lanes::<u64>());
                let want: Vec<u64> = bits.map(|(c, s)| c ^ s).collect();
                assert_eq!(open(&outcome.client[0], &outcome.server[0]), want, "k {k} seed {seed}");
            }
        }
    }
}
