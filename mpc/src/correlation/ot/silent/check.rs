//! Do the sums of a batch fit trees? The consistency check of [YWLZW20], for one batch.
//!
//! With sums that fit no tree, the receiver's leaves would be functions of its secret places. After the sums are sent, a hash that
//! is linear in the leaves is compared, in GF(2^128), under keys that are a hash of all sums (Fiat and Shamir):
//!
//! ```text
//! sender (Delta; leaves v; keys k)                     receiver (leaves w; keys m, choices c = lsb(m))
//! V = sum over trees of R_j(v_j)                       W = sum over trees of R_j(w_j),  X = sum of r_j^(2^d - alpha_j)
//!                                                      so that V ^ W = X Delta
//!                        <-- y = X ^ c --
//! Y = sum_i x^i (k_i ^ y_i Delta)                      Z = sum_i x^i m_i,  so that Y ^ Z = X Delta
//!                        -- SHA-256(coins, number, y, V ^ Y) -->
//!                                                      W ^ Z = V ^ Y, or the session ends
//! ```
//!
//! R_j is POLYVAL under the key r_j, and the product is POLYVAL's. All is done twice, for two keys of each tree: two vectors of leaves
//! have the same hashes with probability (2^d / 2^128)^2 = 2^-234, so a sender that tries q challenges makes a receiver accept
//! wrong keys with probability 2^-117 sqrt(q) at most (SECURITY.md). The [`CHECK_OTS`] OTs of the seed are spent by it: their choices
//! hide X.
//!
//! A sender that cheats guesses the places in some trees: it passes for the places for which its sums give the leaves that it hashes,
//! and for these all keys are right. So with probability 2^-g it learns g bits of the places, or the session ends. A receiver that
//! sends another y gets a hash of Delta, which has 127 bits that it does not know; a hash belongs to one batch of one session.
//!
//! [YWLZW20]: crate#references

use super::batch::{Batch, Half};
use super::{DEPTH, LEAVES};
use crate::correlation::ot::coins::Coins;
use crate::error::{Error, Result};
use crate::primitive::block::{Block, Delta};
use crate::primitive::field::{polyval, times};
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::fmt;
use subtle::{ConditionallySelectable, ConstantTimeEq};
use zeroize::Zeroizing;

/// Hashes of all leaves, each under keys of its own.
const HASHES: usize = 2;

/// Correlated OTs of a seed that the check spends.
pub const CHECK_OTS: usize = HASHES * 8 * Block::BYTES;

/// Bytes of the receiver's reply to the sums.
pub const REPLY_BYTES: usize = HASHES * Block::BYTES;

/// Bytes of what the sender answers to the reply.
pub const PROOF_BYTES: usize = 32;

/// The receiver's reply: X, hidden.
pub type Reply = [u8; REPLY_BYTES];

/// The sender's answer: a hash of V ^ Y.
pub type Proof = [u8; PROOF_BYTES];

/// A value of all hashes.
type Hashed = [Block; HASHES];

/// What a batch is checked under.
#[derive(Clone)]
pub(super) struct Context {
    coins: Coins,
    number: u64,
    /// A hash of all sums, from which the keys of the trees come.
    challenge: [u8; 32],
}

impl Context {
    pub fn new(coins: Coins, number: u64, sums: &[Block]) -> Self {
        let hash = coins.hash("challenge of trees").chain_update(number.to_le_bytes());
        let challenge = hash.chain_update(bytemuck::cast_slice(sums)).finalize().into();
        Self { coins, number, challenge }
    }

    /// The keys r of one tree.
    fn keys(&self, tree: usize) -> Hashed {
        let hash = Sha256::new_with_prefix(b"lowkey OT tree challenge/1").chain_update(self.challenge);
        let digest: [u8; 32] = hash.chain_update((tree as u64).to_le_bytes()).finalize().into();
        let halves = digest.as_chunks().0;
        std::array::from_fn(|h| Block::from_bytes(halves[h]))
    }

    /// The sum over all trees of the hashes of their leaves.
    fn of_leaves(&self, batch: &Batch) -> Hashed {
        let room = || Zeroizing::new(vec![Block::ZERO; LEAVES]);
        let of_tree = |leaves: &mut Zeroizing<Vec<Block>>, tree: usize| {
            batch.leaves(tree, leaves);
            self.keys(tree).map(|key| polyval(key, leaves))
        };
        (0..batch.preset.trees).into_par_iter().map_init(room, of_tree).reduce(|| [Block::ZERO; HASHES], xor)
    }

    /// X: what Delta is multiplied by, from the places that the keys of the trees spell.
    fn of_places(&self, keys: &[Block]) -> Hashed {
        let trees = keys.as_chunks::<DEPTH>().0;
        let of_tree = |tree: usize| self.keys(tree).map(|key| power(key, &trees[tree]));
        (0..trees.len()).into_par_iter().map(of_tree).reduce(|| [Block::ZERO; HASHES], xor)
    }

    fn proof(&self, reply: &Reply, opened: &Hashed) -> Proof {
        let hash =
            self.coins.hash("proof of trees").chain_update(self.number.to_le_bytes()).chain_update(self.challenge);
        hash.chain_update(reply).chain_update(bytemuck::cast_slice(opened)).finalize().into()
    }
}

/// `key^(2^DEPTH - alpha)`, the power of the leaf at the place `alpha`, whose bits are the complements of those of `keys`.
fn power(key: Block, keys: &[Block; DEPTH]) -> Block {
    // 2^DEPTH - alpha = 1 + the number whose bits are the complements of alpha's.
    let (mut power, mut square) = (key, key);
    for bit in keys {
        power = Block::conditional_select(&power, &times(power, square), bit.lsb().into());
        square = times(square, square);
    }
    power
}

/// `sum_i x^i k_i` of each hash.
fn packed(keys: &[Block]) -> Hashed {
    let keys: &[Block; CHECK_OTS] = keys.try_into().expect("the check has its own keys");
    let of_half =
        |keys: &[Block]| (0..).zip(keys).fold(Block::ZERO, |sum, (i, &key)| sum ^ times(Block::from(1u128 << i), key));
    std::array::from_fn(|h| of_half(&keys.as_chunks::<128>().0[h]))
}

/// The lowest bits of the keys.
fn choices(keys: &[Block]) -> Hashed {
    let bits = |keys: &[Block]| keys.iter().rev().fold(0u128, |bits, key| bits << 1 | u128::from(key.lsb()));
    std::array::from_fn(|h| bits(&keys.as_chunks::<128>().0[h]).into())
}

fn xor(a: Hashed, b: Hashed) -> Hashed {
    std::array::from_fn(|h| a[h] ^ b[h])
}

/// The sender's side of the check, when its sums are made.
pub struct SenderCheck {
    context: Context,
    delta: Delta,
    keys: Zeroizing<Vec<Block>>,
}

impl SenderCheck {
    pub(super) fn new(context: Context, delta: Delta, keys: Zeroizing<Vec<Block>>) -> Self {
        Self { context, delta, keys }
    }

    /// Hashes the leaves of the same batch: best when the sums are on their way.
    ///
    /// # Panics
    /// If the batch was expanded already.
    #[must_use]
    pub fn hash(self, batch: &Batch) -> Prover {
        assert_eq!((batch.number, batch.next), (self.context.number, 0), "the batch that started with this check");
        let hashed = Zeroizing::new(self.context.of_leaves(batch));
        Prover { check: self, hashed }
    }
}

/// The sender, waiting for the reply.
pub struct Prover {
    check: SenderCheck,
    /// V.
    hashed: Zeroizing<Hashed>,
}

impl Prover {
    /// Answers the reply.
    #[must_use]
    pub fn prove(self, reply: &Reply) -> Proof {
        let Self { check: SenderCheck { context, delta, mut keys }, hashed } = self;
        for (i, key) in keys.iter_mut().enumerate() {
            *key ^= delta.times(reply[i / 8] >> (i % 8) & 1);
        }
        let opened = Zeroizing::new(xor(*hashed, packed(&keys)));
        context.proof(reply, &opened)
    }
}

/// The receiver's batch before its check: gives no OT.
pub struct Unchecked {
    batch: Batch,
    reply: Reply,
    /// What an honest sender answers.
    proof: Zeroizing<Proof>,
}

impl Unchecked {
    pub(super) fn new(context: &Context, batch: Batch, keys: &[Block]) -> Self {
        let Half::Received { keys: of_trees, .. } = &batch.half else { unreachable!("a receiver's batch") };
        let places = Zeroizing::new(context.of_places(of_trees));
        let mut reply = [0; REPLY_BYTES];
        reply.copy_from_slice(bytemuck::cast_slice(&xor(*places, choices(keys))));
        let opened = Zeroizing::new(xor(context.of_leaves(&batch), packed(keys)));
        let proof = Zeroizing::new(context.proof(&reply, &opened));
        Self { batch, reply, proof }
    }

    /// What the sender must be told.
    #[must_use]
    pub fn reply(&self) -> &Reply {
        &self.reply
    }

    /// The batch as if it had passed.
    #[cfg(test)]
    pub(super) fn batch(self) -> Batch {
        self.batch
    }

    /// The batch, if the sender's answer is right.
    ///
    /// # Errors
    /// [`Error::Protocol`] if it is not; then the session must end.
    pub fn check(self, proof: &Proof) -> Result<Batch> {
        if bool::from(self.proof.ct_eq(proof)) {
            Ok(self.batch)
        } else {
            Err(Error::protocol("check of an OT batch", "that of the sums", "another"))
        }
    }
}

impl fmt::Debug for Unchecked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Unchecked").field(&self.batch).finish()
    }
}

#[cfg(test)]
mod tests;
