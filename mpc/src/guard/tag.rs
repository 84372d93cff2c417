//! What is kept of a bit: 64 of the 128 bits of its key or MAC, a party's half of it the lowest.
//!
//! While bits are made, and where products are proved, keys and MACs are [`Block`]s. What authenticates a bit that is opened later is the lower
//! half of them: with T(B) that of B,
//!
//! ```text
//! T(M) = T(S) ^ b_s ^ b_c T(Delta)        63 bits of T(Delta) are uniform to the client
//! ```

use crate::primitive::block::{Block, Delta};
use bytemuck::{Pod, Zeroable};
use std::fmt;
use std::ops::{BitAnd, BitXor, BitXorAssign};
use zeroize::DefaultIsZeroes;

/// The lower half of a block. Prints redacted.
#[derive(Clone, Copy, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub struct Tag(u64);

impl Tag {
    /// Size in bytes.
    pub const BYTES: usize = 8;

    /// A bit that needs no key: zero or one.
    #[inline]
    pub const fn bit(bit: u8) -> Self {
        Self((bit & 1) as u64)
    }

    #[cfg(test)]
    pub const fn new(bits: u64) -> Self {
        Self(bits)
    }
}

impl BitXor for Tag {
    type Output = Self;
    #[inline]
    fn bitxor(self, other: Self) -> Self {
        Self(self.0 ^ other.0)
    }
}

impl BitXorAssign for Tag {
    #[inline]
    fn bitxor_assign(&mut self, other: Self) {
        self.0 ^= other.0;
    }
}

impl BitAnd for Tag {
    type Output = Self;
    #[inline]
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl DefaultIsZeroes for Tag {}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tag(..)")
    }
}

/// A key or MAC, whole or half of it, with a bit in its lowest place.
pub trait Word: Copy + Pod + BitXor<Output = Self> + BitAnd<Output = Self> + Send + Sync {
    /// All bits zero.
    const ZERO: Self;

    /// What is kept of a block.
    fn of(block: Block) -> Self;

    /// The lowest bit.
    fn lsb(self) -> u8;

    /// With another lowest bit.
    fn with_lsb(self, bit: u8) -> Self;

    /// All ones or all zeros: a select without a branch.
    fn splat(bit: u8) -> Self;

    /// `bit * delta`.
    #[inline]
    fn times(delta: &Delta, bit: u8) -> Self {
        Self::of(delta.block()) & Self::splat(bit)
    }
}

impl Word for Block {
    const ZERO: Self = Self::ZERO;
    #[inline]
    fn of(block: Block) -> Self {
        block
    }
    #[inline]
    fn lsb(self) -> u8 {
        Self::lsb(self)
    }
    #[inline]
    fn with_lsb(self, bit: u8) -> Self {
        Self::with_lsb(self, bit)
    }
    #[inline]
    fn splat(bit: u8) -> Self {
        Self::splat(bit)
    }
}

impl Word for Tag {
    const ZERO: Self = Self(0);
    #[inline]
    fn of(block: Block) -> Self {
        Self(block.low())
    }
    #[inline]
    fn lsb(self) -> u8 {
        (self.0 & 1) as u8
    }
    #[inline]
    fn with_lsb(self, bit: u8) -> Self {
        Self(self.0 & !1 | u64::from(bit & 1))
    }
    #[inline]
    fn splat(bit: u8) -> Self {
        Self(u64::from(bit & 1).wrapping_neg())
    }
}

/// The MAC of a bit that the client says it holds.
#[inline]
pub fn mac(delta: &Delta, tag: Tag, bit: u8) -> Tag {
    tag.with_lsb(0) ^ Tag::times(delta, bit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_lower_halves_and_print_redacted() {
        let (block, delta) = (Block::new(0x1234_5679, 0xfeed), Delta::of(0xabcd_0000_0000_0000_0077));
        assert_eq!((Tag::of(block), Tag::of(block).lsb()), (Tag::new(0x1234_5679), 1));
        assert_eq!(Tag::of(block).with_lsb(0), Tag::of(block.with_lsb(0)));
        assert_eq!([0, 1].map(|bit| Tag::times(&delta, bit)), [Tag::ZERO, Tag::new(0x77)]);
        assert_eq!(mac(&delta, Tag::of(block), 1), Tag::of(block.with_lsb(0) ^ delta.times(1)));
        assert_eq!(format!("{:?}", Tag::of(block)), "Tag(..)");
    }
}
