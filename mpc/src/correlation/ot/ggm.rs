//! Punctured trees: the holder of all leaves gives away all but one, without learning which.
//!
//! Trees of [GGM86] of depth [`DEPTH`], transferred by one OT per level as in [Roy22]. The children of a node `s`
//! are `H(s, (tree, level, 0))` and `H(s, (tree, level, 1))`, with the hash of [`TccrHash`].
//!
//! ```text
//! whole tree (keys[i][0], keys[i][1] of OT i)          punctured at leaf y (key of OT i: keys[i][1 - y_i])
//! the nodes of level 0 are keys[0][0], keys[0][1]
//! level i >= 1, side b:
//! sums[i][b] = keys[i][b] ^ (XOR of all nodes         -- sums -->   every leaf but leaf y
//!              of level i on side b)
//! ```
//!
//! `y_i` is bit `i` of `y` and the side of level `i`. The punctured tree is stored with every leaf `x` at position
//! `x ^ y`: the missing leaf is always at position 0, so nothing is addressed by the secret `y`.
//!
//! [GGM86]: crate#references
//! [Roy22]: crate#references

use crate::primitive::block::Block;
use crate::primitive::hash::TccrHash;
use zeroize::{Zeroize, Zeroizing};

/// Levels of a tree, `k` in SoftSpokenOT.
pub const DEPTH: usize = 8;

/// Leaves of a tree.
pub const LEAVES: usize = 1 << DEPTH;

/// Corrections of one tree: two for every level but the first.
pub type Sums = [[Block; 2]; DEPTH - 1];

/// The leaves of one tree, wiped when dropped.
pub type Leaves = Zeroizing<[Block; LEAVES]>;

/// All leaves of tree number `tree`, leaf `x` at position `x`, and the corrections for the peer.
#[must_use]
pub fn grow(hash: &TccrHash, tree: usize, keys: &[[Block; 2]]) -> (Leaves, Sums) {
    let mut nodes = Leaves::new([Block::ZERO; LEAVES]);
    let mut sums = Sums::default();
    nodes[..2].copy_from_slice(&keys[0]);
    for level in 1..DEPTH {
        let n = 1 << level;
        let children = children(hash, tree, level, &nodes[..n]);
        for side in 0..2 {
            sums[level - 1][side] = xor(&children[side]) ^ keys[level][side];
            nodes[side * n..][..n].copy_from_slice(&children[side][..n]);
        }
    }
    (nodes, sums)
}

/// All leaves but leaf `y`, which the bits `y_i` spell; leaf `x` is at position `x ^ y`, and position 0 is zero.
#[must_use]
pub fn puncture(hash: &TccrHash, tree: usize, y: &[u8], keys: &[Block], sums: &Sums) -> Leaves {
    let mut nodes = Leaves::new([Block::ZERO; LEAVES]);
    nodes[1] = keys[0];
    for level in 1..DEPTH {
        let n = 1 << level;
        let mut children = children(hash, tree, level, &nodes[..n]);
        // Put the side of the missing leaf first.
        swap_if(y[level], &mut children);
        let [near, far] = &mut *children;
        near[0] = Block::ZERO;
        far[0] = Block::ZERO;
        let sum = sums[level - 1][0] ^ (sums[level - 1][0] ^ sums[level - 1][1]) & Block::splat(1 - y[level]);
        far[0] = xor(far) ^ sum ^ keys[level];
        nodes[..n].copy_from_slice(&near[..n]);
        nodes[n..2 * n].copy_from_slice(&far[..n]);
    }
    nodes
}

/// The children of `parents` on both sides; unused places are zero.
fn children(hash: &TccrHash, tree: usize, level: usize, parents: &[Block]) -> Zeroizing<[[Block; LEAVES / 2]; 2]> {
    let n = parents.len();
    let mut inner = [Block::ZERO; LEAVES / 2];
    inner[..n].copy_from_slice(parents);
    hash.inner(&mut inner[..n]);
    let mut sides = Zeroizing::new([[Block::ZERO; LEAVES / 2]; 2]);
    for (side, out) in sides.iter_mut().enumerate() {
        let tweak = Block::new((level * 2 + side) as u64, tree as u64);
        hash.finish(&inner[..n], |_| tweak, &mut out[..n]);
    }
    inner.zeroize();
    sides
}

/// Swaps both sides if `bit` is 1, without a branch.
fn swap_if(bit: u8, sides: &mut [[Block; LEAVES / 2]; 2]) {
    let [a, b] = sides;
    for (a, b) in a.iter_mut().zip(b) {
        let difference = (*a ^ *b) & Block::splat(bit);
        *a ^= difference;
        *b ^= difference;
    }
}

fn xor(blocks: &[Block]) -> Block {
    blocks.iter().fold(Block::ZERO, |sum, &block| sum ^ block)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha20Rng;

    fn keys(seed: u64) -> [[Block; 2]; DEPTH] {
        let rng = &mut ChaCha20Rng::seed_from_u64(seed);
        std::array::from_fn(|_| [Block::random(rng), Block::random(rng)])
    }

    fn bits(y: usize) -> [u8; DEPTH] {
        std::array::from_fn(|i| (y >> i & 1) as u8)
    }

    fn chosen(keys: &[[Block; 2]; DEPTH], y: usize) -> [Block; DEPTH] {
        std::array::from_fn(|i| keys[i][1 - usize::from(bits(y)[i])])
    }

    #[test]
    fn a_punctured_tree_misses_exactly_one_leaf() {
        let hash = TccrHash::new(Block::new(7, 7));
        for y in 0..LEAVES {
            let keys = keys(y as u64);
            let (whole, sums) = grow(&hash, 3, &keys);
            let punctured = puncture(&hash, 3, &bits(y), &chosen(&keys, y), &sums);
            for x in 0..LEAVES {
                let expected = if x == y { Block::ZERO } else { whole[x] };
                assert!(punctured[x ^ y] == expected, "leaf {x} of a tree without {y}");
            }
        }
    }

    #[test]
    fn a_flipped_bit_of_a_correction_reaches_the_leaves() {
        let hash = TccrHash::new(Block::new(7, 7));
        let keys = keys(100);
        let (whole, sums) = grow(&hash, 0, &keys);
        for (level, y) in (0..DEPTH - 1).flat_map(|level| [(level, 0), (level, LEAVES - 1)]) {
            let mut bad = sums;
            bad[level][1 - usize::from(bits(y)[level + 1])] ^= Block::new(1, 0);
            let punctured = puncture(&hash, 0, &bits(y), &chosen(&keys, y), &bad);
            assert!((0..LEAVES).any(|x| x != y && punctured[x ^ y] != whole[x]));
        }
    }

    #[test]
    fn trees_with_equal_keys_differ_by_their_number() {
        let hash = TccrHash::new(Block::new(7, 7));
        let (a, _) = grow(&hash, 0, &keys(1));
        let (b, _) = grow(&hash, 1, &keys(1));
        assert!(a.iter().all(|leaf| !b.contains(leaf)));
    }
}
