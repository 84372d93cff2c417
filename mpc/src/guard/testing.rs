//! Both parties' halves, opened: what the tests of this room share.

use super::{Bits, Guard};
use crate::correlation::ot::{Cots, OtCount, ideal};
use crate::party::Party;
use crate::primitive::bits::Planes;
use crate::primitive::block::Block;
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

/// Dealt oblivious transfers in which the client receives, and both guards: the client's first.
pub(crate) fn deal(n: usize, seed: u64) -> [(Cots, Guard); 2] {
    let (client, server) = ideal::deal(OtCount::received_by(Party::Client, n), &mut ChaCha20Rng::seed_from_u64(seed));
    [client, server].map(|cots| {
        let guard = Guard::new(&cots);
        (cots, guard)
    })
}

/// The values of bits; panics unless they are authenticated.
pub(crate) fn value(guard: &Guard, client: &Bits, server: &Bits) -> Planes {
    let delta = guard.delta();
    for (m, s) in client.blocks().iter().zip(server.blocks()) {
        assert!(*m == s.with_lsb(0) ^ delta.times(m.lsb()), "the MAC of a bit");
    }
    client.xor(server).halves()
}

/// A generator.
pub(crate) fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

/// A half with another bit, as a client would claim it.
pub(crate) fn lie(block: &mut Block) {
    *block ^= Block::new(1, 0);
}
