//! `M = S ^ b_s ^ b_c Delta`: a bit b = b_s ^ b_c of which each party has a block, b_s and b_c being the lowest bits.
//!
//! The lowest bit of Delta is one, and that of S without b_s is zero. Both survive everything here, so sums are sums of blocks at both
//! ends.

use crate::correlation::ot::Cots;
use crate::party::Party;
use crate::primitive::bits::{Planes, WORD_LANES};
use crate::primitive::block::Block;
use std::fmt;
use std::ops::Range;
use zeroize::Zeroizing;

/// One party's halves of authenticated bits: planes of `lanes` each, one after the other. Wiped when dropped.
pub struct Bits {
    lanes: usize,
    blocks: Zeroizing<Vec<Block>>,
}

impl Bits {
    /// Zeros that both parties know.
    #[must_use]
    pub fn zero(lanes: usize, width: usize) -> Self {
        Self::of(lanes, vec![Block::ZERO; lanes * width])
    }

    /// Random bits, all of them the client's: one oblivious transfer each. Must be of those in which the client receives.
    ///
    /// # Panics
    /// If their number is no multiple of `lanes`.
    #[must_use]
    pub fn random(lanes: usize, cots: Cots) -> Self {
        let keys = match cots.party() {
            Party::Client => cots.received.keys(),
            Party::Server => cots.sent.keys(),
        };
        Self::of(lanes, keys.to_vec())
    }

    pub(super) fn of(lanes: usize, blocks: Vec<Block>) -> Self {
        assert!(lanes > 0 && blocks.len().is_multiple_of(lanes), "bits are whole planes");
        Self { lanes, blocks: Zeroizing::new(blocks) }
    }

    /// Lanes of a plane.
    #[must_use]
    pub fn lanes(&self) -> usize {
        self.lanes
    }

    /// Planes.
    #[must_use]
    pub fn width(&self) -> usize {
        self.blocks.len() / self.lanes
    }

    /// The blocks of all planes.
    pub(super) fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    pub(super) fn blocks_mut(&mut self) -> &mut [Block] {
        &mut self.blocks
    }

    /// The blocks of one plane.
    pub(super) fn plane(&self, i: usize) -> &[Block] {
        &self.blocks[i * self.lanes..][..self.lanes]
    }

    /// Some of the planes, copied: bits may be used many times.
    ///
    /// # Panics
    /// If there are fewer.
    #[must_use]
    pub fn planes(&self, range: Range<usize>) -> Self {
        Self::of(self.lanes, self.blocks[range.start * self.lanes..range.end * self.lanes].to_vec())
    }

    /// The first `width` planes, moved out: for random bits, which are used once.
    ///
    /// # Panics
    /// If there are fewer.
    #[must_use]
    pub fn split_front(&mut self, width: usize) -> Self {
        let rest = Zeroizing::new(self.blocks[width * self.lanes..].to_vec());
        let mut front = std::mem::replace(&mut self.blocks, rest);
        zeroize::Zeroize::zeroize(&mut front[width * self.lanes..]);
        front.truncate(width * self.lanes);
        Self { lanes: self.lanes, blocks: front }
    }

    /// The planes of this and of other bits, one after the other.
    ///
    /// # Panics
    /// If the lanes differ.
    #[must_use]
    pub fn join(parts: &[&Self]) -> Self {
        let lanes = parts.first().map_or(1, |part| part.lanes);
        assert!(parts.iter().all(|part| part.lanes == lanes), "planes of as many lanes");
        Self::of(lanes, parts.iter().flat_map(|part| part.blocks.iter().copied()).collect())
    }

    /// The same bits in other lanes: lane `to` of a plane is lane `from(to)` of it.
    #[must_use]
    pub fn gather(&self, lanes: usize, from: impl Fn(usize) -> usize) -> Self {
        let planes = (0..self.width()).map(|i| self.plane(i));
        Self::of(lanes, planes.flat_map(|plane| (0..lanes).map(|to| plane[from(to)]).collect::<Vec<_>>()).collect())
    }

    /// The sum of bits.
    ///
    /// # Panics
    /// If lanes or widths differ.
    #[must_use]
    pub fn xor(&self, other: &Self) -> Self {
        assert_eq!((self.lanes, self.blocks.len()), (other.lanes, other.blocks.len()), "planes of one shape");
        Self::of(self.lanes, self.blocks.iter().zip(other.blocks()).map(|(a, b)| *a ^ *b).collect())
    }

    /// This party's halves: b_s or b_c.
    #[must_use]
    pub fn halves(&self) -> Planes {
        let mut halves = Planes::zero(self.lanes, self.width());
        for i in 0..self.width() {
            for (word, blocks) in halves.plane_mut(i).iter_mut().zip(self.plane(i).chunks(WORD_LANES)) {
                *word = blocks.iter().rev().fold(0, |word, block| word << 1 | u64::from(block.lsb()));
            }
        }
        halves
    }
}

impl fmt::Debug for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bits({} x {} lanes, ..)", self.width(), self.lanes)
    }
}
