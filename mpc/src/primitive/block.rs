//! A 128-bit block, the unit of keys and seeds, and the correlation `Delta` of one OT direction.

use bytemuck::{Pod, Zeroable};
use rand::CryptoRng;
use std::fmt;
use std::ops::{BitAnd, BitXor, BitXorAssign};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use zeroize::{DefaultIsZeroes, Zeroize, ZeroizeOnDrop};

// Blocks go to the wire, and become bytes and 16-bit words, as they lie in memory.
const _: () = assert!(cfg!(target_endian = "little"), "blocks are little-endian in memory");

/// 128 bits, little-endian, aligned to 16 bytes. Most blocks are secret, so all print redacted.
///
/// `==` is not constant-time: it is meant for tests and public values. Use [`ConstantTimeEq`] elsewhere.
#[derive(Clone, Copy, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C, align(16))]
pub struct Block([u64; 2]);

impl Block {
    /// Size in bytes.
    pub const BYTES: usize = 16;
    /// All bits zero.
    pub const ZERO: Self = Self([0; 2]);
    /// All bits one.
    pub const ONES: Self = Self([u64::MAX; 2]);

    /// The block with these low and high words.
    #[must_use]
    pub const fn new(low: u64, high: u64) -> Self {
        Self([low, high])
    }

    /// A uniform block.
    pub fn random<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        Self([rng.next_u64(), rng.next_u64()])
    }

    /// The block of these 16 bytes, least significant first.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        u128::from_le_bytes(bytes).into()
    }

    /// The 16 bytes, least significant first.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        u128::from(self).to_le_bytes()
    }

    /// The low 64 bits.
    #[must_use]
    pub const fn low(self) -> u64 {
        self.0[0]
    }

    /// The high 64 bits.
    #[must_use]
    pub const fn high(self) -> u64 {
        self.0[1]
    }

    /// The least significant bit, 0 or 1.
    #[inline]
    #[must_use]
    pub const fn lsb(self) -> u8 {
        (self.0[0] & 1) as u8
    }

    /// This block with its least significant bit replaced by that of `bit`.
    #[inline]
    #[must_use]
    pub const fn with_lsb(self, bit: u8) -> Self {
        Self([(self.0[0] & !1) | (bit & 1) as u64, self.0[1]])
    }

    /// All ones if the least significant bit of `bit` is one, else zero: a select without a branch.
    #[inline]
    #[must_use]
    pub const fn splat(bit: u8) -> Self {
        let word = ((bit & 1) as u64).wrapping_neg();
        Self([word; 2])
    }
}

impl From<u128> for Block {
    fn from(value: u128) -> Self {
        Self([value as u64, (value >> 64) as u64])
    }
}

impl From<Block> for u128 {
    fn from(block: Block) -> Self {
        u128::from(block.0[0]) | u128::from(block.0[1]) << 64
    }
}

impl BitXor for Block {
    type Output = Self;
    #[inline]
    fn bitxor(self, other: Self) -> Self {
        Self([self.0[0] ^ other.0[0], self.0[1] ^ other.0[1]])
    }
}

impl BitXorAssign for Block {
    #[inline]
    fn bitxor_assign(&mut self, other: Self) {
        *self = *self ^ other;
    }
}

impl BitAnd for Block {
    type Output = Self;
    #[inline]
    fn bitand(self, other: Self) -> Self {
        Self([self.0[0] & other.0[0], self.0[1] & other.0[1]])
    }
}

impl ConstantTimeEq for Block {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

impl ConditionallySelectable for Block {
    fn conditional_select(a: &Self, b: &Self, choice: Choice) -> Self {
        *a ^ ((*a ^ *b) & Self::splat(choice.unwrap_u8()))
    }
}

impl DefaultIsZeroes for Block {}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Block(..)")
    }
}

/// The secret correlation of one sender: its two keys of every OT are `k` and `k ^ delta`.
///
/// Its least significant bit is one, so that the least significant bit of the key that a receiver holds is
/// its choice. The other 127 bits are uniform.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Delta(Block);

impl Delta {
    /// A uniform correlation.
    pub fn random<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        Self(Block::random(rng).with_lsb(1))
    }

    /// The correlation with these bits, the lowest of which is set.
    #[cfg(test)]
    pub(crate) fn of(bits: u128) -> Self {
        Self(Block::from(bits).with_lsb(1))
    }

    /// The correlation as a block.
    #[inline]
    #[must_use]
    pub const fn block(&self) -> Block {
        self.0
    }

    /// `bit * delta`, without a branch.
    #[inline]
    #[must_use]
    pub fn times(&self, bit: u8) -> Block {
        self.0 & Block::splat(bit)
    }
}

impl fmt::Debug for Delta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Delta(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_little_endian() {
        let block = Block::from(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10_u128);
        assert_eq!(block.to_bytes()[0], 0x10);
        assert_eq!(block.low(), 0x090a_0b0c_0d0e_0f10);
        assert_eq!(bytemuck::bytes_of(&block), &block.to_bytes());
        assert_eq!(Block::from_bytes(block.to_bytes()), block);
    }

    #[test]
    fn secrets_print_redacted() {
        let delta = Delta(Block::ONES);
        assert_eq!(format!("{delta:?} {:?}", delta.block()), "Delta(..) Block(..)");
    }

    #[test]
    fn bits_select_without_branches() {
        let delta = Delta(Block::new(5, 9));
        assert_eq!(delta.times(0), Block::ZERO);
        assert_eq!(delta.times(1), Block::new(5, 9));
        assert_eq!(Block::ONES.with_lsb(0).lsb(), 0);
        assert_eq!(Block::ZERO.with_lsb(1), Block::new(1, 0));
    }
}
