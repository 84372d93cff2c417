//! `k ^ b Delta = m`: correlated OTs from silent OT extension, 0.73 bits each on the wire.
//!
//! Ferret [YWLZW20] with regular noise and the trees of [GYW+23], semi-honest. A batch turns a seed of correlated OTs, k for the
//! matrix and d for each of t trees, into n = t 2^d; the last ones are the seed of the next batch, the others are usable.
//!
//! ```text
//! sender (Delta; seed keys k)                         receiver (seed keys m, choices b = lsb(m))
//! tree j: leaves v, sums c from the OTs               tree j: leaves w, v ^ e Delta = w; e has a single one, at the
//! k + d j ..                       -- all c -->       place that the choices of these OTs spell
//! k' = A k ^ v                                        m' = A m ^ w,  so that k' ^ b' Delta = m' with b' = A b ^ e
//! ```
//!
//! `A` is the public matrix of `lpn.rs`, applied to the first k seed keys. That the choices `b'` are pseudo-random is the LPN
//! assumption with regular noise: t errors, one in each block of 2^d samples, dimension k. The [`Preset`]s are two that emp-ot
//! ships for 128 bits:
//!
//! | preset | n | k | t | d | bits per usable OT | for |
//! |---|---|---|---|---|---|---|
//! | [`FIRST`] | 870,400 | 65,536 | 850 | 10 | 1.50 | the first batch, whose seed costs 31 bits per OT |
//! | [`LATER`] | 2,396,160 | 131,072 | 1,170 | 11 | 0.73 | all others, whose seed is left from the batch before |
//!
//! In both, 2^d is n / t, and k samples are free of errors with probability (1 - t/n)^k = e^-64, 2^-92.
//!
//! A batch starts with the message and with the seed of the next one; the trees with the usable outputs are expanded later, one
//! by one, where the outputs are wanted ([`Batch::expand`]). So a party holds a seed and not the outputs, 2.4 MB for 36 MB, and
//! what it holds for a moment stays in its caches. The price: the sender grows its trees twice.
//!
//! A message carries no secret that is used twice: a batch takes the state by value, so none starts twice from the same seed, and
//! a tree is expanded for its usable outputs once.
//!
//! [GYW+23]: crate#references
//! [YWLZW20]: crate#references

mod batch;
mod message;
#[cfg(test)]
mod tests;

pub use batch::Batch;
pub use message::BatchMessage;

use super::lpn::{FEW_COLUMNS, MANY_COLUMNS, Matrices};
use crate::block::{Block, Delta};
use crate::hash::CcrHash;
use crate::prg::Prg;
use batch::Half;
use message::PREFIX_BYTES;
use std::sync::Arc;
use zeroize::{Zeroize, Zeroizing};

/// The size of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preset {
    /// t: trees, and the weight of the noise.
    pub trees: usize,
    /// d: levels of a tree.
    pub depth: usize,
    /// k: columns of the matrix.
    pub columns: usize,
}

/// The first batch of a session.
pub const FIRST: Preset = Preset { trees: 850, depth: FEW_LEVELS, columns: FEW_COLUMNS };

/// Every other batch.
pub const LATER: Preset = Preset { trees: 1170, depth: MANY_LEVELS, columns: MANY_COLUMNS };

/// Levels of the small trees.
const FEW_LEVELS: usize = 10;

/// Levels of the large trees.
const MANY_LEVELS: usize = 11;

/// Correlated OTs that a session's first batch starts from.
pub const SEED: usize = FIRST.seed();

impl Preset {
    /// Of the batch whose first usable OT has this index.
    #[must_use]
    pub const fn at(index: u64) -> Self {
        if index == 0 { FIRST } else { LATER }
    }

    /// n: correlated OTs that the batch makes.
    #[must_use]
    pub const fn outputs(self) -> usize {
        self.trees << self.depth
    }

    /// Correlated OTs that the batch starts from.
    #[must_use]
    pub const fn seed(self) -> usize {
        self.columns + self.tree_ots()
    }

    /// Correlated OTs that the batch yields: all but the seed of the next.
    #[must_use]
    pub const fn usable(self) -> usize {
        self.outputs() - LATER.seed()
    }

    /// Bytes of the message.
    #[must_use]
    pub const fn message_bytes(self) -> usize {
        PREFIX_BYTES + self.tree_ots() * Block::BYTES
    }

    /// OTs spent on the sums of the trees.
    const fn tree_ots(self) -> usize {
        self.trees * self.depth
    }
}

/// What both roles keep between batches.
struct Common {
    preset: Preset,
    /// The seed keys: of the table, then of all trees.
    seed: Zeroizing<Vec<Block>>,
    matrices: Arc<Matrices>,
    hash: CcrHash,
    number: u64,
    /// The index of the first usable OT of this batch.
    first: u64,
}

impl Common {
    fn new(seed: &[Block], matrices: Block) -> Self {
        let matrices = Arc::new(Matrices::new(matrices));
        assert_eq!(seed.len(), SEED, "the first batch starts from a fixed number of OTs");
        let seed = Zeroizing::new(seed.to_vec());
        Self { preset: FIRST, seed, matrices, hash: CcrHash::new(), number: 0, first: 0 }
    }

    /// The keys of all trees.
    fn tree_keys(&self) -> &[Block] {
        &self.seed[self.preset.columns..]
    }

    /// Goes on to the next batch, from the last outputs of this one.
    fn advance(self, half: Half) -> (Self, Batch) {
        let Self { preset, mut seed, matrices, hash, number, first } = self;
        seed[preset.columns..].zeroize();
        seed.truncate(preset.columns);
        let (shared, copy) = (Arc::clone(&matrices), hash.clone());
        let batch = Batch { preset, number, table: seed, matrices: shared, hash: copy, half, next: 0 };
        let first = first + preset.usable() as u64;
        let next = Self { preset: LATER, seed: batch.next_seed(), matrices, hash, number: number + 1, first };
        (next, batch)
    }
}

/// The sender between two batches.
pub struct Sender {
    common: Common,
    delta: Delta,
}

impl Sender {
    /// A sender with its halves of [`SEED`] correlated OTs, and a public seed for the matrices.
    ///
    /// # Panics
    /// If `seed` has another length.
    #[must_use]
    pub fn new(delta: Delta, seed: &[Block], matrices: Block) -> Self {
        Self { common: Common::new(seed, matrices), delta }
    }

    /// The correlation.
    #[must_use]
    pub fn delta(&self) -> &Delta {
        &self.delta
    }

    /// The index that the next message has.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.common.first
    }

    /// Starts a batch. The roots of its trees must come from a secret random stream.
    #[must_use]
    pub fn start(self, roots: &mut Prg) -> (Self, Batch, BatchMessage) {
        let Self { common, delta } = self;
        let mut of_trees = Zeroizing::new(vec![Block::ZERO; common.preset.trees]);
        roots.fill(&mut of_trees);
        let sums = batch::sums(common.preset, &common.hash, &delta, &of_trees, common.tree_keys());
        let message = BatchMessage { first: common.first, sums };
        let (common, batch) = common.advance(Half::Sent { delta: delta.clone(), roots: of_trees });
        (Self { common, delta }, batch, message)
    }
}

/// The receiver between two batches.
pub struct Receiver {
    common: Common,
}

impl Receiver {
    /// A receiver with its halves of [`SEED`] correlated OTs, and the same public seed as the sender's.
    ///
    /// # Panics
    /// If `seed` has another length.
    #[must_use]
    pub fn new(seed: &[Block], matrices: Block) -> Self {
        Self { common: Common::new(seed, matrices) }
    }

    /// The index that the next message must have.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.common.first
    }

    /// Starts a batch from the sender's message, which was decoded for [`Receiver::first`].
    ///
    /// # Panics
    /// If the message belongs to another batch.
    #[must_use]
    pub fn start(self, message: BatchMessage) -> (Self, Batch) {
        let Self { common } = self;
        assert_eq!(message.first, common.first, "the message was decoded for another batch");
        let keys = Zeroizing::new(common.tree_keys().to_vec());
        let (common, batch) = common.advance(Half::Received { keys, sums: message.sums });
        (Self { common }, batch)
    }
}
