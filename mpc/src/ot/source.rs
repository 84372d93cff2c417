//! One party's OTs of one direction: batches that were agreed on, expanded when their OTs are taken.

use super::cots::{Keys, Spare};
use super::silent::Batch;
use crate::block::Block;
use std::collections::VecDeque;
use zeroize::{Zeroize, Zeroizing};

/// OTs in the order of their index.
#[derive(Default)]
pub struct Source {
    /// The index of the next OT.
    first: u64,
    /// What was expanded and not taken: part of a tree.
    expanded: Zeroizing<Vec<Block>>,
    batches: VecDeque<Batch>,
    spare: Spare,
}

impl Source {
    pub fn first(&self) -> u64 {
        self.first
    }

    pub fn len(&self) -> usize {
        self.expanded.len() + self.batches.iter().map(Batch::left).sum::<usize>()
    }

    pub fn push(&mut self, batch: Batch) {
        self.batches.push_back(batch);
    }

    /// Moves the next `n` OTs out, `n` at most [`Source::len`].
    pub fn take(&mut self, n: usize) -> Keys {
        // What a vector leaves behind when it grows is not wiped.
        let mut blocks = self.spare.take(n + 2 * Batch::MAX_KEYS);
        blocks.extend_from_slice(&self.expanded);
        self.expanded.as_mut_slice().zeroize();
        self.expanded.clear();
        while blocks.len() < n {
            let batch = self.batches.front_mut().expect("n was compared with the length");
            batch.expand(&mut blocks);
            if batch.left() == 0 {
                self.batches.pop_front();
            }
        }
        self.expanded.extend_from_slice(&blocks[n..]);
        blocks[n..].zeroize();
        blocks.truncate(n);
        let keys = Keys::new(self.first, blocks, self.spare.clone());
        self.first += n as u64;
        keys
    }
}
