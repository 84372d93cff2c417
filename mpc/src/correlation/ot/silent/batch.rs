//! `out = A k + tree`: one party's half of a batch, expanded tree by tree.

use super::{DEPTH, LATER, LEAVES, Preset};
use crate::correlation::ot::coins::Subkeys;
use crate::correlation::ot::half_tree;
use crate::correlation::ot::lpn::Matrix;
use crate::primitive::block::{Block, Delta};
use crate::primitive::hash::CcrHash;
use rayon::prelude::*;
use std::fmt;
use zeroize::{Zeroize, Zeroizing};

/// From so many keys on, several threads share the work: 0.7 ms of it.
const PARALLEL: usize = 1 << 15;

/// A batch whose message was sent or received; gives each usable OT once, in order.
pub struct Batch {
    pub(super) preset: Preset,
    pub(super) number: u64,
    /// The seed keys that the matrix is applied to.
    pub(super) table: Zeroizing<Vec<Block>>,
    pub(super) matrix: Matrix,
    /// Of the hashes of the trees.
    pub(super) hashes: Subkeys,
    pub(super) half: Half,
    /// The tree that is expanded next.
    pub(super) next: usize,
}

/// What the trees grow from.
pub(super) enum Half {
    /// The sender's.
    Sent {
        /// The correlation.
        delta: Delta,
        /// Of each tree.
        roots: Zeroizing<Vec<Block>>,
    },
    /// The receiver's.
    Received {
        /// The seed keys of the trees, d each.
        keys: Zeroizing<Vec<Block>>,
        /// The sender's sums, d each.
        sums: Vec<Block>,
    },
}

impl Batch {
    /// Usable OTs that were not expanded yet.
    #[must_use]
    pub fn left(&self) -> usize {
        self.preset.usable().saturating_sub(self.next * LEAVES)
    }

    /// Most bytes of memory that a batch holds; its table lies in what was the seed.
    pub const MOST_BYTES: usize = Preset::MOST_SEED_BYTES + 2 * LATER.trees * DEPTH * Block::BYTES;

    /// Bytes of memory that it holds, spent or not.
    pub fn held_bytes(&self) -> usize {
        let half = match &self.half {
            Half::Sent { roots, .. } => roots.len(),
            Half::Received { keys, sums } => keys.len() + sums.len(),
        };
        (self.table.capacity() + half) * Block::BYTES
    }

    /// Leaves of a tree.
    pub const TREE: usize = LEAVES;

    /// Writes the keys of the next usable OTs to the front of `out`, whole trees, on all threads; says how many they are. The rest
    /// of `out` is zero. Nothing is written beyond [`Batch::left`], rounded up to a whole tree.
    ///
    /// # Panics
    /// If `out` has no whole number of trees.
    pub fn expand(&mut self, out: &mut [Block]) -> usize {
        assert!(out.len().is_multiple_of(LEAVES), "batches are expanded by whole trees");
        let usable = self.left().min(out.len());
        let trees = usable.div_ceil(LEAVES);
        let (written, rest) = out.split_at_mut(trees * LEAVES);
        self.trees(self.next, written);
        self.forget(trees);
        written[usable..].zeroize();
        rest.fill(Block::ZERO);
        usable
    }

    /// Wipes what the next `trees` trees grow from: their OTs are computed once, and by nobody who sees the batch later.
    fn forget(&mut self, trees: usize) {
        let spent = self.next..self.next + trees;
        match &mut self.half {
            Half::Sent { roots, .. } => roots[spent].zeroize(),
            Half::Received { keys, .. } => keys[spent.start * DEPTH..spent.end * DEPTH].zeroize(),
        }
        self.next += trees;
    }

    /// The outputs behind the usable ones.
    pub(super) fn next_seed(&self) -> Zeroizing<Vec<Block>> {
        let (whole, rest) = (self.preset.usable() / LEAVES, self.preset.usable() % LEAVES);
        let mut tail = Zeroizing::new(vec![Block::ZERO; (self.preset.trees - whole) * LEAVES]);
        self.trees(whole, &mut tail);
        tail.copy_within(rest.., 0);
        tail[LATER.seed()..].zeroize();
        tail.truncate(LATER.seed());
        tail
    }

    /// All outputs of the trees from `first` on.
    fn trees(&self, first: usize, out: &mut [Block]) {
        let tree = |(i, leaves): (usize, &mut [Block])| self.tree(first + i, leaves);
        if out.len() < PARALLEL {
            out.chunks_mut(LEAVES).enumerate().for_each(tree);
        } else {
            out.par_chunks_mut(LEAVES).enumerate().for_each(tree);
        }
    }

    fn tree(&self, tree: usize, out: &mut [Block]) {
        self.leaves(tree, out);
        self.matrix.add_product(tree * LEAVES, &self.table, out);
    }

    /// The leaves of a tree, to which the matrix is added.
    pub(super) fn leaves(&self, tree: usize, leaves: &mut [Block]) {
        let hash = tree_hash(&self.hashes, tree);
        match &self.half {
            Half::Sent { delta, roots } => {
                let _sums: [Block; DEPTH] = half_tree::grow(&hash, delta, roots[tree], leaves);
            }
            Half::Received { keys, sums } => {
                let (keys, sums) = (&keys.as_chunks::<DEPTH>().0[tree], &sums.as_chunks::<DEPTH>().0[tree]);
                let alpha: [u8; DEPTH] = std::array::from_fn(|i| 1 - keys[i].lsb());
                let known: [Block; DEPTH] = std::array::from_fn(|i| sums[i] ^ keys[i]);
                half_tree::puncture(&hash, &alpha, &known, leaves);
            }
        }
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("number", &self.number).field("left", &self.left()).finish_non_exhaustive()
    }
}

/// The hash of one tree. A receiver knows a child of a hidden node on every level, and could look for them all by one look at the
/// permutation: under a key of its own, a tree shows it 10 and not 17,200.
fn tree_hash(hashes: &Subkeys, tree: usize) -> CcrHash {
    CcrHash::new(hashes.at(tree as u64))
}

/// The sender's sums of all trees, hidden by the seed keys of the trees.
pub(super) fn sums(hashes: &Subkeys, delta: &Delta, roots: &[Block], keys: &[Block]) -> Vec<Block> {
    let mut sums = keys.to_vec();
    let room = || Zeroizing::new(vec![Block::ZERO; LEAVES]);
    let trees = sums.as_chunks_mut::<DEPTH>().0.par_iter_mut().zip(roots).enumerate();
    trees.for_each_init(room, |leaves, (tree, (sums, &root))| {
        let left: [Block; DEPTH] = half_tree::grow(&tree_hash(hashes, tree), delta, root, leaves);
        sums.iter_mut().zip(left).for_each(|(sum, left)| *sum ^= left);
    });
    sums
}
