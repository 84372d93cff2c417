//! `k ^ b Delta = m`: correlated OTs from silent OT extension, 0.75 bits each on the wire.
//!
//! Ferret [YWLZW20] with regular noise and the trees of [GYW+23], against malicious parties. A batch turns a seed of correlated OTs,
//! k for the matrix, d for each of t trees and 256 for the check, into n = t 2^d; the last ones are the seed of the next batch, the
//! others are usable.
//!
//! ```text
//! sender (Delta; seed keys k)                         receiver (seed keys m, choices b = lsb(m))
//! tree j: leaves v, sums c from the OTs               tree j: leaves w, v ^ e Delta = w; e has a single one, at the
//! k + d j ..                       -- all c -->       place that the choices of these OTs spell
//! k' = A k ^ v                                        m' = A m ^ w,  so that k' ^ b' Delta = m' with b' = A b ^ e
//! ```
//!
//! `A` is the public matrix of `lpn.rs`, applied to the first k seed keys. That the choices `b'` are pseudo-random is the LPN
//! assumption with regular noise: t errors, one in each block of 2^d samples, dimension k, rows of 10 ones:
//!
//! | preset | n | k | t | d | bits per usable OT | for |
//! |---|---|---|---|---|---|---|
//! | [`FIRST`] | 1,048,576 | 262,144 | 512 | 11 | 0.94 | the first batch, whose seed costs 15 bits per OT |
//! | [`LATER`] | 3,522,560 | 262,144 | 1,720 | 11 | 0.75 | all others, whose seed is left from the batch before |
//!
//! What every known attack costs is computed by `scripts/parameters`; the cheapest use that rows are sparse (SECURITY.md).
//! The sets that emp-ot ships (k = 2^16 and 2^17) take the code for a random one and are worth 79 to 128 bits by the attack.
//!
//! Whether the sums fit trees is checked by two more messages before the receiver uses an OT of the batch (`check.rs`): [`Unchecked`]
//! gives no OT. The next batch can start before that: what the receiver says of it is hidden by choices, and these are the same whatever
//! the sums are.
//!
//! A batch starts with the message and with the seed of the next one; the trees with the usable outputs are expanded later, one
//! by one, where the outputs are wanted ([`Batch::expand`]). So a party holds a seed and not the outputs, 4.6 MB for 52 MB, and
//! what it holds for a moment stays in its caches. The price: the sender grows its trees twice.
//!
//! A message carries no secret that is used twice: a batch takes the state by value, so none starts twice from the same seed, and
//! a tree is expanded for its usable outputs once.
//!
//! [GYW+23]: crate#references
//! [YWLZW20]: crate#references

mod batch;
mod check;
mod message;
#[cfg(test)]
mod tests;

pub use batch::Batch;
pub use check::{CHECK_OTS, PROOF_BYTES, Proof, Prover, REPLY_BYTES, Reply, SenderCheck, Unchecked};
pub use message::BatchMessage;

use super::coins::{Coins, Subkeys};
use super::lpn::Matrix;
pub use super::lpn::{COLUMNS, ONES_PER_ROW};
use crate::primitive::block::{Block, Delta};
use crate::primitive::prg::Prg;
use batch::Half;
use check::Context;
use message::PREFIX_BYTES;
use zeroize::{Zeroize, Zeroizing};

/// The size of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preset {
    /// t: trees, and the weight of the noise.
    pub trees: usize,
}

/// The first batch of a session.
pub const FIRST: Preset = Preset { trees: 512 };

/// Every other batch.
pub const LATER: Preset = Preset { trees: 1720 };

/// d: levels of a tree.
pub const DEPTH: usize = 11;

/// Leaves of a tree.
pub const LEAVES: usize = 1 << DEPTH;

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
        self.trees * LEAVES
    }

    /// Correlated OTs that the batch starts from.
    #[must_use]
    pub const fn seed(self) -> usize {
        COLUMNS + self.tree_ots() + CHECK_OTS
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

    /// Most bytes of memory that a seed takes, which is cut from whole trees.
    pub const MOST_SEED_BYTES: usize = (LATER.seed() + 2 * LEAVES) * Block::BYTES;

    /// OTs spent on the sums of the trees.
    const fn tree_ots(self) -> usize {
        self.trees * DEPTH
    }
}

/// What both roles keep between batches.
struct Common {
    preset: Preset,
    /// The seed keys: of the table, then of all trees, then of the check.
    seed: Zeroizing<Vec<Block>>,
    coins: Coins,
    number: u64,
    /// The index of the first usable OT of this batch.
    first: u64,
}

impl Common {
    fn new(seed: &[Block], coins: Coins) -> Self {
        assert_eq!(seed.len(), SEED, "the first batch starts from a fixed number of OTs");
        let seed = Zeroizing::new(seed.to_vec());
        Self { preset: FIRST, seed, coins, number: 0, first: 0 }
    }

    /// The keys of all trees.
    fn tree_keys(&self) -> &[Block] {
        &self.seed[COLUMNS..self.seed.len() - CHECK_OTS]
    }

    /// The keys of the check.
    fn check_keys(&self) -> Zeroizing<Vec<Block>> {
        Zeroizing::new(self.seed[self.seed.len() - CHECK_OTS..].to_vec())
    }

    /// The check of this batch.
    fn check(&self, sums: &[Block]) -> Context {
        Context::new(self.coins, self.number, sums)
    }

    /// The keys of the hashes of this batch's trees, one for each.
    fn hashes(&self) -> Subkeys {
        Subkeys::new(self.coins.key("half trees", self.number))
    }

    /// Goes on to the next batch, from the last outputs of this one.
    fn advance(self, half: Half) -> (Self, Batch) {
        let hashes = self.hashes();
        let Self { preset, mut seed, coins, number, first } = self;
        seed[COLUMNS..].zeroize();
        seed.truncate(COLUMNS);
        let matrix = Matrix::new(coins.key("LPN matrix", number));
        let batch = Batch { preset, number, table: seed, matrix, hashes, half, next: 0 };
        let first = first + preset.usable() as u64;
        let next = Self { preset: LATER, seed: batch.next_seed(), coins, number: number + 1, first };
        (next, batch)
    }
}

/// The sender between two batches.
pub struct Sender {
    common: Common,
    delta: Delta,
}

impl Sender {
    /// Bytes of memory that it holds.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.common.seed.capacity() * Block::BYTES
    }

    /// A sender with its halves of [`SEED`] correlated OTs, and the coins of its direction.
    ///
    /// # Panics
    /// If `seed` has another length.
    #[must_use]
    pub fn new(delta: Delta, seed: &[Block], coins: Coins) -> Self {
        Self { common: Common::new(seed, coins), delta }
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

    /// Starts a batch. The roots of its trees must come from a secret random stream, which forgets them.
    #[must_use]
    pub fn start(self, roots: &mut Prg) -> (Self, Batch, BatchMessage, SenderCheck) {
        let Self { common, delta } = self;
        let mut of_trees = Zeroizing::new(vec![Block::ZERO; common.preset.trees]);
        roots.fill(&mut of_trees);
        roots.forget();
        let sums = batch::sums(&common.hashes(), &delta, &of_trees, common.tree_keys());
        let check = SenderCheck::new(common.check(&sums), delta.clone(), common.check_keys());
        let message = BatchMessage { first: common.first, sums };
        let (common, batch) = common.advance(Half::Sent { delta: delta.clone(), roots: of_trees });
        (Self { common, delta }, batch, message, check)
    }
}

/// The receiver between two batches.
pub struct Receiver {
    common: Common,
}

impl Receiver {
    /// Bytes of memory that it holds.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.common.seed.capacity() * Block::BYTES
    }

    /// A receiver with its halves of [`SEED`] correlated OTs, and the same coins as the sender's.
    ///
    /// # Panics
    /// If `seed` has another length.
    #[must_use]
    pub fn new(seed: &[Block], coins: Coins) -> Self {
        Self { common: Common::new(seed, coins) }
    }

    /// The index that the next message must have.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.common.first
    }

    /// Starts a batch from the sender's message, which was decoded for [`Receiver::first`]. Only what [`Unchecked::check`] gives may
    /// be used; the next batch can start before, in the same exchange of messages.
    ///
    /// # Panics
    /// If the message belongs to another batch.
    #[must_use]
    pub fn start(self, message: BatchMessage) -> (Self, Unchecked) {
        let Self { common } = self;
        assert_eq!(message.first, common.first, "the message was decoded for another batch");
        let keys = Zeroizing::new(common.tree_keys().to_vec());
        let (context, check_keys) = (common.check(&message.sums), common.check_keys());
        let (common, batch) = common.advance(Half::Received { keys, sums: message.sums });
        (Self { common }, Unchecked::new(&context, batch, &check_keys))
    }
}
