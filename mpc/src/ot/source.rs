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
        let mut keys = self.spare.take(self.first, n + Batch::TREE + self.expanded.len());
        let room = keys.room();
        let mut len = self.expanded.len();
        room[..len].copy_from_slice(&self.expanded);
        self.expanded.zeroize();
        while len < n {
            let batch = self.batches.front_mut().expect("n was compared with the length");
            let wanted = (n - len).min(batch.left()).next_multiple_of(Batch::TREE);
            len += batch.expand(&mut room[len..len + wanted]);
            if batch.left() == 0 {
                self.batches.pop_front();
            }
        }
        self.expanded = Zeroizing::new(room[n..len].to_vec());
        room[n..len].zeroize();
        keys.truncate(n);
        self.first += n as u64;
        keys
    }
}
