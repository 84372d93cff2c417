//! Did the receiver of [`softspoken`](super::softspoken) follow the protocol? Both checks of [Roy22], by one message.
//!
//! **Trees.** Whoever grows a punctured tree could give sums that fit no tree, so that the leaves at the other end depend on
//! which one is missing. Leaf x of tree j has the tag t = SHA-256(coins, j, x, leaf). The grower sends the XOR of the tags of
//! each tree, which gives the holder the one tag that it misses, and the hash of all tags of all trees: the leaves are fixed,
//! whatever is missing, or the hashes differ ([Roy22]).
//!
//! **Sums.** The receiver could correct tree j with d_j other than u_j + u_0, and would learn Delta_j from what happens later. Both
//! planes and choices are hashed by linear hashes that hold for honest vectors:
//!
//! ```text
//! receiver (u_0, planes of v)                             sender (Delta, planes of w = v + Delta u_0)
//! R(u_0), R(v_i) for i = 1..128         -- check -->      R(w_i) = R(v_i) + Delta_i R(u_0) for every i
//! ```
//!
//! R has 256 bits, two POLYVAL hashes under keys that are a hash of everything sent so far (Fiat and Shamir): a vector of n blocks
//! that is not zero has hash zero with probability at most (n / 2^128)^2, which is 2^-233.9 for the 2,094 blocks of a seed. Each half
//! of R adds one block of its own at the end of the vector, so R(u_0) is uniform and says nothing of the choices that are used
//! ([Roy22]; the blocks at the end are spent by it).
//!
//! What is left to a receiver that cheats: it guesses some bits of Delta and is caught unless the guess is right. With probability
//! 2^-g it so learns g of 128 bits.
//!
//! [Roy22]: crate#references

use super::coins::Coins;
use super::ggm::{DEPTH, LEAVES};
use crate::primitive::block::Block;
use crate::primitive::field::polyval;
use sha2::{Digest, Sha256, Sha512};
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

/// Bytes of a tag.
const TAG_BYTES: usize = 32;

/// A hash of a leaf, or of all tags.
type Tag = [u8; TAG_BYTES];

/// Blocks at the end of every vector that hide what R says of the others.
pub const HIDING_BLOCKS: usize = 2;

/// The value of R on a vector.
pub type Hashed = [Block; HIDING_BLOCKS];

/// The grower's or the holder's tags of all trees, in the order in which they are hashed.
pub struct Tags {
    coins: Coins,
    all: Sha256,
}

/// What the grower of all trees sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeCheck {
    /// The XOR of the tags of each tree.
    pub sums: Vec<Tag>,
    /// The hash of all tags.
    pub all: Tag,
}

impl TreeCheck {
    /// Bytes for so many trees.
    pub const fn bytes(trees: usize) -> usize {
        (trees + 1) * TAG_BYTES
    }

    /// Appends the check to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.sums.as_flattened());
        out.extend_from_slice(&self.all);
    }

    /// Reads the check from as many bytes as [`TreeCheck::bytes`] says for its trees.
    ///
    /// # Panics
    /// If there are none.
    pub fn decode(bytes: &[u8]) -> Self {
        let (sums, all) = bytes.split_last_chunk().expect("the length was checked");
        Self { sums: sums.as_chunks().0.to_vec(), all: *all }
    }
}

impl Tags {
    /// No tree yet.
    pub fn new(coins: &Coins) -> Self {
        Self { coins: *coins, all: Sha256::new_with_prefix(b"lowkey OT leaves/1") }
    }

    /// Takes in a whole tree, leaf x at position x. Returns the XOR of its tags.
    pub fn whole(&mut self, tree: usize, leaves: &[Block; LEAVES]) -> Tag {
        let tags = self.of_tree(tree, leaves, 0);
        self.all.update(tags.as_flattened());
        tags.iter().fold([0; TAG_BYTES], |sum, tag| xor(&sum, tag))
    }

    /// Takes in a tree without the leaf that the bits `y` spell; leaf x is at position x ^ y.
    pub fn punctured(&mut self, tree: usize, y: &[u8], leaves: &[Block; LEAVES], sum: &Tag) {
        let spelt = y.iter().rev().fold(0, |number, bit| number << 1 | u16::from(*bit));
        let mut tags = self.of_tree(tree, leaves, spelt);
        tags[0] = tags[1..].iter().fold(*sum, |sum, tag| xor(&sum, tag));
        // Leaf x to position x, one bit of y at a time, without an address that depends on y.
        for (bit, &swap) in y.iter().enumerate() {
            for p in (0..LEAVES).filter(|p| p >> bit & 1 == 0) {
                let [a, b] = tags.get_disjoint_mut([p, p | 1 << bit]).expect("two places");
                let mask = 0u8.wrapping_sub(swap);
                for (a, b) in a.iter_mut().zip(b) {
                    let difference = (*a ^ *b) & mask;
                    *a ^= difference;
                    *b ^= difference;
                }
            }
        }
        self.all.update(tags.as_flattened());
    }

    /// The hash of all tags.
    pub fn finish(self) -> Tag {
        self.all.finalize().into()
    }

    /// The tags of a tree whose leaf `p ^ y` is at position `p`, at the same positions.
    fn of_tree(&self, tree: usize, leaves: &[Block; LEAVES], y: u16) -> Zeroizing<[Tag; LEAVES]> {
        let key = self.coins.key("leaf tags", tree as u64).to_bytes();
        let mut tags = Zeroizing::new([[0; TAG_BYTES]; LEAVES]);
        for ((p, leaf), tag) in (0u16..).zip(leaves).zip(tags.iter_mut()) {
            // 50 bytes: one compression.
            let hash =
                Sha256::new_with_prefix(b"lowkey OT leaf/1").chain_update(key).chain_update((p ^ y).to_le_bytes());
            *tag = hash.chain_update(leaf.to_bytes()).finalize().into();
        }
        tags
    }
}

fn xor(a: &Tag, b: &Tag) -> Tag {
    std::array::from_fn(|i| a[i] ^ b[i])
}

/// R: two POLYVAL hashes.
pub struct LinearHash([Block; HIDING_BLOCKS]);

impl LinearHash {
    /// R of a direction whose messages so far are `sent`.
    pub fn new(coins: &Coins, sent: &[&[u8]]) -> Self {
        let mut hash = Sha512::new_with_prefix(b"lowkey OT challenge/1");
        hash.update(coins.key("challenge", 0).to_bytes());
        for part in sent {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let digest = hash.finalize();
        let key = |i: usize| Block::from_bytes(std::array::from_fn(|j| digest[Block::BYTES * i + j]));
        Self(std::array::from_fn(key))
    }

    /// R of a vector.
    ///
    /// # Panics
    /// If it has no more than the hiding blocks.
    pub fn of(&self, vector: &[Block]) -> Hashed {
        let (body, hiding) = vector.split_last_chunk::<HIDING_BLOCKS>().expect("a vector ends with its hiding blocks");
        std::array::from_fn(|i| polyval(self.0[i], body) ^ hiding[i])
    }
}

/// What the receiver sends of its vectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinearCheck {
    /// R(u_0).
    pub choices: Hashed,
    /// R(v_i).
    pub planes: Vec<Hashed>,
}

impl LinearCheck {
    /// Bytes for so many planes.
    pub const fn bytes(planes: usize) -> usize {
        (1 + planes) * size_of::<Hashed>()
    }

    /// Appends the check to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(bytemuck::cast_slice(&self.choices));
        out.extend_from_slice(bytemuck::cast_slice(self.planes.as_flattened()));
    }

    /// Reads the check from as many bytes as [`LinearCheck::bytes`] says for its planes.
    ///
    /// # Panics
    /// If there are too few for the choices.
    pub fn decode(bytes: &[u8]) -> Self {
        let mut hashes = bytes.chunks_exact(size_of::<Hashed>()).map(bytemuck::pod_read_unaligned);
        Self { choices: hashes.next().expect("the length was checked"), planes: hashes.collect() }
    }

    /// Whether plane `i` of w, whose bit of Delta is `delta`, has the hash that it must have.
    pub fn holds(&self, i: usize, delta: u8, w: Hashed) -> Choice {
        let expected = |j: usize| self.planes[i][j] ^ (self.choices[j] & Block::splat(delta));
        w[0].ct_eq(&expected(0)) & w[1].ct_eq(&expected(1))
    }
}

const _: () = assert!(DEPTH <= 16, "the index of a leaf has 16 bits");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::correlation::ot::ggm;
    use crate::party::Party;
    use crate::primitive::hash::TccrHash;
    use rand::SeedableRng;
    use rand_chacha::ChaCha20Rng;

    const COINS: Coins = Coins::fixed([3; 32], Party::Client);

    fn vectors(n: usize, seed: u64) -> Vec<Block> {
        let rng = &mut ChaCha20Rng::seed_from_u64(seed);
        (0..n).map(|_| Block::random(rng)).collect()
    }

    #[test]
    fn the_hash_is_linear_and_ends_with_its_own_blocks() {
        let hash = LinearHash::new(&COINS, &[b"sent"]);
        let (a, b) = (vectors(50, 1), vectors(50, 2));
        let sum: Vec<_> = a.iter().zip(&b).map(|(&a, &b)| a ^ b).collect();
        let (ha, hb, hs) = (hash.of(&a), hash.of(&b), hash.of(&sum));
        assert_eq!([ha[0] ^ hb[0], ha[1] ^ hb[1]], hs);
        assert_eq!(hash.of(&[Block::ZERO; 50]), [Block::ZERO; 2]);
        let mut last = vec![Block::ZERO; 50];
        last[49] = Block::ONES;
        assert_eq!(hash.of(&last), [Block::ZERO, Block::ONES]);
        // Any other bit changes both halves.
        for i in 0..48 {
            let mut one = vec![Block::ZERO; 50];
            one[i] = Block::new(1 << i, 0);
            assert!(hash.of(&one).iter().all(|half| *half != Block::ZERO));
        }
        let other = LinearHash::new(&COINS, &[b"sens"]);
        assert!(other.of(&a)[0] != ha[0]);
    }

    #[test]
    fn tags_agree_whatever_leaf_is_missing() {
        let hash = TccrHash::new(COINS.key("seed trees", 0));
        let rng = &mut ChaCha20Rng::seed_from_u64(3);
        let keys: Vec<[Block; 2]> = (0..DEPTH).map(|_| [Block::random(rng), Block::random(rng)]).collect();
        let (leaves, sums) = ggm::grow(&hash, 0, &keys);
        let mut grower = Tags::new(&COINS);
        let sum = grower.whole(0, &leaves);
        let all = grower.finish();
        for y in [0usize, 1, 77, 128, 255] {
            let bits: Vec<u8> = (0..DEPTH).map(|i| (y >> i & 1) as u8).collect();
            let held: Vec<Block> = bits.iter().zip(&keys).map(|(&b, keys)| keys[usize::from(1 - b)]).collect();
            let agrees = |sums: &ggm::Sums| {
                let mut holder = Tags::new(&COINS);
                holder.punctured(0, &bits, &ggm::puncture(&hash, 0, &bits, &held, sums), &sum);
                holder.finish() == all
            };
            assert!(agrees(&sums), "leaf {y}");
            // A sum that fits no tree is noticed by those to whom it matters: with the other side missing.
            for side in 0..2u8 {
                let mut bad = sums;
                bad[3][usize::from(side)] ^= Block::new(4, 0);
                assert_eq!(agrees(&bad), bits[4] == side, "leaf {y}, side {side}");
            }
        }
    }
}
