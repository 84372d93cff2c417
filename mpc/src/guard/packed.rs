//! Bits on the wire: one after the other, the first in the lowest bit of the first byte; what is left of the last byte is zero.

use super::tag::Word;
use crate::error::{Error, Result};
use crate::primitive::bits::{Planes, WORD_LANES};

/// Bytes of so many bits.
pub const fn bytes(bits: usize) -> usize {
    bits.div_ceil(8)
}

/// Bits.
pub fn pack(bits: impl ExactSizeIterator<Item = u8>) -> Vec<u8> {
    let mut packed = vec![0; bytes(bits.len())];
    for (i, bit) in bits.enumerate() {
        set(&mut packed, i, bit);
    }
    packed
}

/// The lowest bits of words.
pub fn halves<W: Word>(words: &[W]) -> Vec<u8> {
    pack(words.iter().map(|word| word.lsb()))
}

/// Bit `i`.
#[inline]
pub fn bit(packed: &[u8], i: usize) -> u8 {
    packed[i / 8] >> (i % 8) & 1
}

/// Adds to bit `i`.
#[inline]
pub fn set(packed: &mut [u8], i: usize, bit: u8) {
    packed[i / 8] ^= (bit & 1) << (i % 8);
}

/// Bit `i` of planes, plane after plane without the rests of their words.
#[inline]
pub fn of_planes(planes: &Planes, i: usize) -> u8 {
    let (plane, lane) = (i / planes.lanes(), i % planes.lanes());
    (planes.plane(plane)[lane / WORD_LANES] >> (lane % WORD_LANES) & 1) as u8
}

/// Adds packed bits to planes, which they follow one after the other.
pub fn add(planes: &mut Planes, packed: &[u8]) {
    let lanes = planes.lanes();
    for i in 0..planes.width() {
        for (word, lane) in planes.plane_mut(i).iter_mut().zip((0..lanes).step_by(WORD_LANES)) {
            let bits = (lane..lanes.min(lane + WORD_LANES)).enumerate();
            *word ^= bits.fold(0, |sum, (at, lane)| sum | u64::from(bit(packed, i * lanes + lane)) << at);
        }
    }
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
    use crate::primitive::block::Block;
    use crate::program::testing::ODD_LANES;
    use rand::SeedableRng;

    #[test]
    fn bits_come_back_and_rests_are_zero() {
        for n in [0, 1, 7, 8, 9, 64, 100] {
            let blocks: Vec<Block> = (0..n as u64).map(|i| Block::new(i * i / 3, i)).collect();
            let packed = halves(&blocks);
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

    #[test]
    fn planes_are_bits_one_after_the_other() {
        for lanes in ODD_LANES {
            let rng = &mut rand_chacha::ChaCha20Rng::seed_from_u64(1);
            let [mut planes, other] = [(); 2].map(|()| Planes::from_lanes(&vec![rand::Rng::next_u64(rng); lanes], 3));
            let bits = |planes: &Planes| (0..3 * lanes).map(|i| of_planes(planes, i)).collect::<Vec<_>>();
            let want: Vec<u8> = bits(&planes).iter().zip(bits(&other)).map(|(a, b)| a ^ b).collect();
            add(&mut planes, &pack(bits(&other).into_iter()));
            assert_eq!(bits(&planes), want);
            assert_eq!(of_planes(&planes, 2 * lanes), planes.to_lanes::<u8>()[0] >> 2 & 1);
        }
    }
}
