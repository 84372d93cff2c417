//! Bits on the wire: one after the other, the first in the lowest bit of the first byte; what is left of the last byte is zero.

use super::tag::Word;
use crate::error::{Error, Result};
use crate::primitive::bits::{Planes, WORD_LANES};
use rayon::prelude::*;

/// Words whose bits a thread packs at a time: whole bytes.
const PART: usize = 1 << 14;

/// Bytes of so many bits.
pub const fn bytes(bits: usize) -> usize {
    bits.div_ceil(8)
}

/// The lowest bits of words.
pub fn halves<W: Word>(words: &[W]) -> Vec<u8> {
    let mut packed = vec![0; bytes(words.len())];
    let parts = packed.par_chunks_mut(PART / 8).zip(words.par_chunks(PART));
    parts.for_each(|(packed, words)| {
        packed.iter_mut().zip(words.chunks(8)).for_each(|(byte, words)| *byte = byte_of(words));
    });
    packed
}

/// The lowest bits of at most eight words.
#[inline]
fn byte_of<W: Word>(words: &[W]) -> u8 {
    words.iter().enumerate().fold(0, |byte, (i, word)| byte | word.lsb() << i)
}

/// Each word of `words` with its bit of `packed`.
///
/// # Panics
/// If they are not as many.
pub fn for_each_word<W: Word>(words: &mut [W], packed: &[u8], change: impl Fn(&mut W, u8) + Sync) {
    assert_eq!(packed.len(), bytes(words.len()), "a bit for every word");
    let parts = words.par_chunks_mut(PART).zip(packed.par_chunks(PART / 8));
    parts.for_each(|(words, packed)| {
        for (words, byte) in words.chunks_mut(8).zip(packed) {
            words.iter_mut().enumerate().for_each(|(i, word)| change(word, byte >> i & 1));
        }
    });
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

/// Bits of planes, plane after plane without the rests of their words.
pub fn of_planes(planes: &Planes) -> Vec<u8> {
    let lanes = planes.lanes();
    let mut packed = vec![0; bytes(planes.width() * lanes)];
    for i in 0..planes.width() {
        for (word, lane) in planes.plane(i).iter().zip((0..lanes).step_by(WORD_LANES)) {
            let Place { first, shift, count, bytes } = Place::of(i * lanes + lane, lanes - lane);
            let moved = u128::from(word & low(count)) << shift;
            let room = packed[first..first + bytes].iter_mut().zip(moved.to_le_bytes());
            room.for_each(|(byte, own)| *byte |= own);
        }
    }
    packed
}

/// Adds packed bits to planes, which they follow one after the other.
pub fn add(planes: &mut Planes, packed: &[u8]) {
    let lanes = planes.lanes();
    for i in 0..planes.width() {
        for (word, lane) in planes.plane_mut(i).iter_mut().zip((0..lanes).step_by(WORD_LANES)) {
            let Place { first, shift, count, bytes } = Place::of(i * lanes + lane, lanes - lane);
            let mut space = [0; 16];
            space[..bytes].copy_from_slice(&packed[first..first + bytes]);
            *word ^= (u128::from_le_bytes(space) >> shift) as u64 & low(count);
        }
    }
}

/// Where the bits of a word of a plane are.
struct Place {
    /// Bytes that they touch, the first of them, and where in it they begin.
    bytes: usize,
    first: usize,
    shift: usize,
    /// How many.
    count: usize,
}

impl Place {
    /// From bit `at` on, `left` of which the plane has left.
    fn of(at: usize, left: usize) -> Self {
        let (shift, count) = (at % 8, left.min(WORD_LANES));
        Self { bytes: bytes(shift + count), first: at / 8, shift, count }
    }
}

/// So many low bits, not none.
fn low(count: usize) -> u64 {
    u64::MAX >> (WORD_LANES - count)
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
            // Rests of words are no bits, whatever they are.
            let rest = Planes::random(lanes, 3, rng);
            let bits = |planes: &Planes| {
                let lane = |plane: usize, lane: usize| planes.plane(plane)[lane / 64] >> (lane % 64) & 1;
                (0..3 * lanes).map(|i| lane(i / lanes, i % lanes) as u8).collect::<Vec<_>>()
            };
            for planes in [&planes, &other, &rest] {
                let packed = of_planes(planes);
                check(&packed, 3 * lanes).unwrap();
                assert!(bits(planes).iter().enumerate().all(|(i, own)| bit(&packed, i) == *own));
            }
            let want: Vec<u8> = bits(&planes).iter().zip(bits(&other)).map(|(a, b)| a ^ b).collect();
            add(&mut planes, &of_planes(&other));
            assert_eq!(bits(&planes), want);
            assert_eq!(planes.to_lanes::<u64>().len(), lanes);
        }
    }
}
