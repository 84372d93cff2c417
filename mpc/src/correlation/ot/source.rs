//! One party's OTs of one direction: batches that were agreed on, expanded when their OTs are taken.
//!
//! A layer of a small network takes a few thousand OTs, and the table of the matrix has 4 MB: to read it for every layer would cost
//! more than the OTs. So for a small layer [`RESERVE`] OTs are expanded at a time, and what it does not take is kept for the next; a
//! large one leaves less than a tree.

use super::cots::{Keys, Spare};
use super::price;
use super::silent::Batch;
use crate::primitive::block::Block;
use std::collections::VecDeque;
use zeroize::{Zeroize, Zeroizing};

/// OTs that are expanded at a time where few are asked for: 2 MB, 1.5 ms of work.
const RESERVE: usize = 1 << 17;

/// From so many OTs on a layer is large: it reads most lines of the table.
const LARGE: usize = 1 << 15;

const _: () = assert!(RESERVE.is_multiple_of(Batch::TREE), "batches are expanded by whole trees");

/// OTs in the order of their index.
#[derive(Default)]
pub struct OtSource {
    /// The index of the next OT.
    first: u64,
    reserve: Reserve,
    batches: VecDeque<Batch>,
    spare: Spare,
}

/// What was expanded and not taken.
#[derive(Default)]
struct Reserve {
    /// Zero before `next`.
    keys: Zeroizing<Vec<Block>>,
    next: usize,
}

impl OtSource {
    pub fn first(&self) -> u64 {
        self.first
    }

    pub fn len(&self) -> usize {
        self.reserve.len() + self.batches.iter().map(Batch::left).sum::<usize>()
    }

    pub fn push(&mut self, batch: Batch) {
        self.batches.push_back(batch);
    }

    /// Bytes of memory that it holds.
    pub fn held_bytes(&self) -> usize {
        let reserve = self.reserve.keys.capacity() * Block::BYTES;
        reserve + self.spare.held_bytes() + self.batches.iter().map(Batch::held_bytes).sum::<usize>()
    }

    /// Most bytes that it holds between two inferences that take `need` OTs each, at most `largest` at a time; each is preceded by
    /// whole batches that yield what is missing.
    pub fn most_held_bytes(need: usize, largest: usize) -> usize {
        let batches = 1 + price::batches(need);
        batches * Batch::MOST_BYTES + (RESERVE + largest) * Block::BYTES
    }

    /// Moves the next `n` OTs out, `n` at most [`OtSource::len`].
    pub fn take(&mut self, n: usize) -> Keys {
        let mut keys = self.spare.take(self.first, n);
        let room = &mut keys.room()[..n];
        let mut len = self.reserve.move_to(room);
        while len < n {
            let batch = self.batches.front_mut().expect("n was compared with the length");
            let rest = &mut room[len..];
            if n >= LARGE && rest.len() >= Batch::TREE {
                // Most of a large layer without a copy.
                let whole = rest.len() - rest.len() % Batch::TREE;
                len += batch.expand(&mut rest[..whole]);
            } else {
                self.reserve.fill(batch, if n >= LARGE { Batch::TREE } else { RESERVE });
                len += self.reserve.move_to(rest);
            }
            if batch.left() == 0 {
                self.batches.pop_front();
            }
        }
        keys.truncate(n);
        self.first += n as u64;
        keys
    }
}

impl Reserve {
    fn len(&self) -> usize {
        self.keys.len() - self.next
    }

    /// Expands the next `most` OTs of `batch`, or those that are left; nothing is left of those before.
    fn fill(&mut self, batch: &mut Batch, most: usize) {
        assert_eq!(self.len(), 0, "the reserve is filled when it is empty");
        let size = most.min(batch.left().next_multiple_of(Batch::TREE));
        // All zero, or as long as before.
        self.keys.resize(size, Block::ZERO);
        let made = batch.expand(&mut self.keys);
        self.keys.truncate(made);
        self.next = 0;
    }

    /// Moves as many OTs as there are, and are wanted, to the front of `room`.
    fn move_to(&mut self, room: &mut [Block]) -> usize {
        let n = self.len().min(room.len());
        let taken = &mut self.keys[self.next..self.next + n];
        room[..n].copy_from_slice(taken);
        taken.zeroize();
        self.next += n;
        n
    }
}
