//! `out = A k + tree`: one party's half of a batch, expanded tree by tree.

use super::{FEW_LEVELS, LATER, MANY_LEVELS, Preset};
use crate::block::{Block, Delta};
use crate::hash::CcrHash;
use crate::ot::half_tree;
use crate::ot::lpn::Matrices;
use std::fmt;
use std::sync::Arc;
use zeroize::{Zeroize, Zeroizing};

/// A batch whose message was sent or received; gives each usable OT once, in order.
pub struct Batch {
    preset: Preset,
    number: u64,
    /// The seed keys that the matrix is applied to.
    table: Zeroizing<Vec<Block>>,
    matrices: Arc<Matrices>,
    hash: CcrHash,
    half: Half,
    /// The tree that is expanded next.
    next: usize,
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
    pub(super) fn new(
        preset: Preset,
        number: u64,
        table: Zeroizing<Vec<Block>>,
        matrices: Arc<Matrices>,
        hash: CcrHash,
        half: Half,
    ) -> Self {
        Self { preset, number, table, matrices, hash, half, next: 0 }
    }

    /// Usable OTs that were not expanded yet.
    #[must_use]
    pub fn left(&self) -> usize {
        self.preset.usable().saturating_sub(self.next << self.preset.depth)
    }

    /// Appends the keys of the usable OTs of the next tree, at most [`Batch::MAX_KEYS`]; none if nothing is left.
    ///
    /// While it works, `out` holds up to [`Batch::MAX_KEYS`] blocks more: reserve room for them, since a vector that grows leaves
    /// a copy behind.
    pub fn expand(&mut self, out: &mut Vec<Block>) {
        let usable = self.left().min(1 << self.preset.depth);
        if usable > 0 {
            let end = out.len() + usable;
            self.tree(self.next, out);
            out[end..].zeroize();
            out.truncate(end);
            self.next += 1;
        }
    }

    /// Leaves of the largest tree.
    pub const MAX_KEYS: usize = 1 << MANY_LEVELS;

    /// The outputs behind the usable ones.
    pub(super) fn next_seed(&self) -> Zeroizing<Vec<Block>> {
        let Preset { trees, depth, .. } = self.preset;
        let (whole, rest) = (self.preset.usable() >> depth, self.preset.usable() % (1 << depth));
        let mut tail = Zeroizing::new(Vec::with_capacity((trees - whole) << depth));
        for tree in whole..trees {
            self.tree(tree, &mut tail);
        }
        tail.copy_within(rest.., 0);
        let end = tail.len() - rest;
        tail[end..].zeroize();
        tail.truncate(LATER.seed());
        tail
    }

    /// Appends all outputs of a tree.
    fn tree(&self, tree: usize, out: &mut Vec<Block>) {
        match self.preset.depth {
            FEW_LEVELS => self.tree_of::<FEW_LEVELS>(tree, out),
            _ => self.tree_of::<MANY_LEVELS>(tree, out),
        }
    }

    fn tree_of<const DEPTH: usize>(&self, tree: usize, out: &mut Vec<Block>) {
        let start = out.len();
        out.resize(start + (1 << DEPTH), Block::ZERO);
        let leaves = &mut out[start..];
        match &self.half {
            Half::Sent { delta, roots } => {
                let _sums: [Block; DEPTH] = half_tree::grow(&self.hash, delta, roots[tree], leaves);
            }
            Half::Received { keys, sums } => {
                let (keys, sums) = (&keys.as_chunks::<DEPTH>().0[tree], &sums.as_chunks::<DEPTH>().0[tree]);
                let alpha: [u8; DEPTH] = std::array::from_fn(|i| 1 - keys[i].lsb());
                let known: [Block; DEPTH] = std::array::from_fn(|i| sums[i] ^ keys[i]);
                half_tree::puncture(&self.hash, &alpha, &known, leaves);
            }
        }
        self.matrices.add_product(self.number, tree << DEPTH, &self.table, leaves);
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("number", &self.number).field("left", &self.left()).finish_non_exhaustive()
    }
}

/// The sender's sums of all trees, hidden by the seed keys of the trees.
pub(super) fn sums(preset: Preset, hash: &CcrHash, delta: &Delta, roots: &[Block], keys: &[Block]) -> Vec<Block> {
    match preset.depth {
        FEW_LEVELS => sums_of::<FEW_LEVELS>(hash, delta, roots, keys),
        _ => sums_of::<MANY_LEVELS>(hash, delta, roots, keys),
    }
}

fn sums_of<const DEPTH: usize>(hash: &CcrHash, delta: &Delta, roots: &[Block], keys: &[Block]) -> Vec<Block> {
    let mut leaves = Zeroizing::new(vec![Block::ZERO; 1 << DEPTH]);
    let mut sums = Vec::with_capacity(keys.len());
    for (&root, keys) in roots.iter().zip(keys.as_chunks::<DEPTH>().0) {
        let left: [Block; DEPTH] = half_tree::grow(hash, delta, root, &mut leaves);
        sums.extend(left.iter().zip(keys).map(|(&left, &key)| left ^ key));
    }
    sums
}
