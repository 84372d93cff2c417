//! bit * x as shares modulo 2^k, for an XOR-shared bit and an additively shared x: a multiplexer.
//!
//! With the halves s and c of the bit and the shares x_s and x_c, (s xor c) (x_s + x_c) has four terms; two are
//! local, two are OLEs in opposite directions.
//!
//! ```text
//! (s xor c) x_c = c x_c + s (1 - 2c) x_c         the server receives
//! (s xor c) x_s = s x_s + c (1 - 2s) x_s         the client receives
//! ```

use crate::program::{Bit, Builder, Share};

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
