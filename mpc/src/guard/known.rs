//! `[b]` from `[r]`, where one party knows b.
//!
//! ```text
//! client   e = b ^ r        --e-->   server   S ^ e (Delta ^ 1)        M ^ e
//! ```
//!
//! A bit of the server's is its own half of a zero: no message.

use super::bits::Bits;
use super::opened::Guard;
use super::packed;
use crate::error::Result;
use crate::primitive::bits::Planes;
use crate::primitive::block::Block;

/// At the client: makes random bits, which must be its own alone, those of `values`. Returns them and the message.
///
/// # Panics
/// If lanes or widths differ.
#[must_use]
pub fn correct(mut random: Bits, values: &Planes) -> (Bits, Vec<u8>) {
    assert_eq!((random.lanes(), random.width()), (values.lanes(), values.width()), "a random bit for every value");
    let lanes = random.lanes();
    let mut message = vec![0; packed::bytes(random.blocks().len())];
    for (i, block) in random.blocks_mut().iter_mut().enumerate() {
        let value = values.plane(i / lanes)[i % lanes / 64] >> (i % lanes % 64) & 1;
        let e = block.lsb() ^ value as u8;
        *block ^= Block::new(e.into(), 0);
        message[i / 8] |= e << (i % 8);
    }
    (random, message)
}

/// At the server: its halves of the bits that the client corrected.
///
/// # Errors
/// [`crate::error::Error::Protocol`] if the message has another length.
pub fn apply(guard: &Guard, mut random: Bits, message: &[u8]) -> Result<Bits> {
    packed::check(message, random.blocks().len())?;
    let delta = guard.delta().block().with_lsb(0);
    for (i, block) in random.blocks_mut().iter_mut().enumerate() {
        *block ^= delta & Block::splat(packed::bit(message, i));
    }
    Ok(random)
}

/// Bits of the server's: `values` at the server, `None` at the client.
#[must_use]
pub fn of_server(lanes: usize, width: usize, values: Option<&Planes>) -> Bits {
    let mut bits = Bits::zero(lanes, width);
    if let Some(values) = values {
        assert_eq!((lanes, width), (values.lanes(), values.width()), "a bit for every value");
        for (i, block) in bits.blocks_mut().iter_mut().enumerate() {
            *block = Block::new(values.plane(i / lanes)[i % lanes / 64] >> (i % lanes % 64) & 1, 0);
        }
    }
    bits
}

#[cfg(test)]
mod tests;
