//! Bits on the wire: one after the other, the first in the lowest bit of the first byte; what is left of the last byte is zero.

use crate::error::{Error, Result};
use crate::primitive::block::Block;

/// Bytes of so many bits.
pub const fn bytes(bits: usize) -> usize {
    bits.div_ceil(8)
}

/// The lowest bits of blocks.
pub fn pack(blocks: impl ExactSizeIterator<Item = Block>) -> Vec<u8> {
    let mut packed = vec![0; bytes(blocks.len())];
    for (i, block) in blocks.enumerate() {
        packed[i / 8] |= block.lsb() << (i % 8);
    }
    packed
}

/// Bit `i`.
pub fn bit(packed: &[u8], i: usize) -> u8 {
    packed[i / 8] >> (i % 8) & 1
}

/// Fails unless there are bytes of exactly so many bits.
pub fn check(packed: &[u8], bits: usize) -> Result<()> {
    if packed.len() != bytes(bits) {
        return Err(Error::protocol("length of packed bits", bytes(bits), packed.len()));
    }
    match packed.last() {
        Some(last) if !bits.is_multiple_of(8) && *last >> (bits % 8) != 0 => {
            Err(Error::protocol("rest of packed bits", 0, "not zero"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_come_back_and_rests_are_zero() {
        for n in [0, 1, 7, 8, 9, 64, 100] {
            let blocks: Vec<Block> = (0..n as u64).map(|i| Block::new(i * i / 3, i)).collect();
            let packed = pack(blocks.iter().copied());
            check(&packed, n).unwrap();
            assert!(blocks.iter().enumerate().all(|(i, block)| bit(&packed, i) == block.lsb()));
            assert!(check(&packed, n + 8).is_err());
            if n % 8 != 0 {
                let mut wrong = packed.clone();
                *wrong.last_mut().unwrap() |= 0x80;
                assert!(check(&wrong, n).unwrap_err().is_peer_fault());
            }
        }
    }
}
