//! bit as shares modulo 2^k: an XOR-shared bit becomes a number (B2A).
//!
//! With the server's half s and the client's half c, s xor c = c + s (1 - 2c): one OLE, in which the server receives.
//!
//! ```text
//! server    d = s xor b                                           -> client
//! client    e = (1 - 2c) - (m_1 - m_0)                            -> server
//! ```

use crate::program::{Bit, Builder, Share, Word};

/// Shares of a bit modulo 2^k.
pub(crate) fn bit_to_ring(b: &mut Builder, bit: Bit, k: usize) -> Share {
    let (s, c) = bit.both();
    let one = b.constant(c.party, 1, k);
    let sign = b.neg_if(&one, c.plane, c.time);
    let (server, client) = b.ole(s, &sign);
    let own = b.word_of(c.party, c.plane, c.time);
    let own = b.resize(&own, k);
    let client = b.add(&client, &own);
    Share { server: Word { time: server.time.max(s.time), ..server }, client }
}
