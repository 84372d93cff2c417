//! `v ^ e Delta = w`: the leaves of a tree are correlated keys, with one choice bit set at a secret place.
//!
//! The correlated tree of [GYW+23] (half-tree): siblings at the root differ by `Delta`, and the children of a node `s`
//! are `H(s)` and `s ^ H(s)`, so the nodes of every level sum to `Delta`. One hash gives two nodes, and one block per
//! level is sent. OT `i` is correlated with the same `Delta`: the sender holds `K_i`, the receiver `M_i = K_i ^ r_i Delta`.
//!
//! ```text
//! sender                                        receiver
//! leaves v from a random root                   alpha_i = 1 - r_i is the path to the secret leaf
//! L_i = XOR of the left nodes of level i
//! c_i = L_i ^ K_i            -- c -->           c_i ^ M_i = XOR of the nodes of level i on the side other than alpha_i
//!                                               all leaves but v_alpha; w_alpha = XOR of the others = v_alpha ^ Delta
//! ```
//!
//! Level `i` of a leaf's index is its bit `i`: left is 0. The least significant bits of the leaves are cleared on both
//! sides and that of `w_alpha` is set, which matches since that of `Delta` is 1: then the receiver's are its choice bits.
//!
//! The receiver never branches on `alpha` or addresses memory by it: it expands the hole like any node, from zero, and
//! repairs both children by a masked pass over the level.
//!
//! [GYW+23]: crate#references

#[cfg(target_arch = "x86_64")]
mod wide;

use crate::primitive::block::{Block, Delta};
use crate::primitive::hash::{CcrHash, sigma};
use crate::primitive::vectorise::vectorised;
#[cfg(target_arch = "x86_64")]
use crate::primitive::wide::{LANES, Wide};

/// Clears the least significant bit.
const EVEN: Block = Block::new(!1, !0);

/// Fills the `2^DEPTH` leaves with `v` from a random `root`, and returns the sums `L_i`.
pub fn grow<const DEPTH: usize>(hash: &CcrHash, delta: &Delta, root: Block, leaves: &mut [Block]) -> [Block; DEPTH] {
    assert_eq!(leaves.len(), 1 << DEPTH, "a tree has 2^DEPTH leaves");
    let mut sums = [Block::ZERO; DEPTH];
    leaves[0] = root;
    leaves[1] = root ^ delta.block();
    sums[0] = root;
    for (level, sum) in sums.iter_mut().enumerate().skip(1) {
        [*sum, _] = expand(hash, level, level == DEPTH - 1, leaves);
    }
    sums
}

/// Fills the `2^DEPTH` leaves with `w`, from the bits of the secret index and the sums of the other sides.
pub fn puncture<const DEPTH: usize>(hash: &CcrHash, alpha: &[u8; DEPTH], sums: &[Block; DEPTH], leaves: &mut [Block]) {
    assert_eq!(leaves.len(), 1 << DEPTH, "a tree has 2^DEPTH leaves");
    // What the hole's children become when the hole is expanded from zero: H(0) and 0 ^ H(0).
    let mut garbage = [Block::ZERO];
    hash.hash(&[Block::ZERO], &mut garbage);
    let [mut garbage] = garbage;

    leaves[0] = sums[0] & Block::splat(alpha[0]);
    leaves[1] = sums[0] & Block::splat(1 - alpha[0]);
    let mut hole = usize::from(alpha[0]);
    for level in 1..DEPTH {
        let last = level == DEPTH - 1;
        let right = Block::splat(alpha[level]);
        let [left_sum, right_sum] = expand(hash, level, last, leaves);
        let mut known = sums[level];
        if last {
            garbage = garbage & EVEN;
            known = known & EVEN;
        }
        // The sums over the hole's side and over the other side, each with one garbage node.
        let (near, far) = select(right, left_sum, right_sum);
        let fix_far = known ^ far;
        let fix_near = if last {
            // The hole's leaf is the sum of all others, and odd.
            near ^ known ^ Block::new(1, 0)
        } else {
            garbage
        };
        let (fix_left, fix_right) = select(right, fix_near, fix_far);
        let (left, right) = leaves[..2 << level].split_at_mut(1 << level);
        repair(left, right, hole, fix_left, fix_right);
        hole |= usize::from(alpha[level]) << level;
    }
}

/// Replaces the first `2^level` nodes by their left children, and puts the right ones behind them. Returns the sums of
/// both sides. The last level has its least significant bits cleared.
#[inline]
fn expand(hash: &CcrHash, level: usize, last: bool, nodes: &mut [Block]) -> [Block; 2] {
    let mask = if last { EVEN } else { Block::ONES };
    let mut sums = [Block::ZERO; 2];
    let (parents, right) = nodes[..2 << level].split_at_mut(1 << level);
    let mut permuted = [Block::ZERO; CcrHash::BATCH];
    for (parents, right) in parents.chunks_mut(CcrHash::BATCH).zip(right.chunks_mut(CcrHash::BATCH)) {
        let permuted = &mut permuted[..parents.len()];
        hash.permute(parents, permuted);
        children(parents, right, permuted, mask, &mut sums);
    }
    sums
}

/// Replaces nodes by their left children, writes the right ones, and adds both up.
fn children(parents: &mut [Block], right: &mut [Block], permuted: &[Block], mask: Block, sums: &mut [Block; 2]) {
    #[cfg(target_arch = "x86_64")]
    if let Some(proof) = Wide::detect() {
        let ((parents, parents_rest), (right, right_rest)) = (parents.as_chunks_mut(), right.as_chunks_mut());
        let (permuted, permuted_rest) = permuted.as_chunks();
        wide::children(proof, parents, right, permuted, mask, sums);
        return narrow_children(parents_rest, right_rest, permuted_rest, mask, sums);
    }
    narrow_children(parents, right, permuted, mask, sums);
}

vectorised! {
    /// [`children`] of any number of nodes.
    fn narrow_children(parents: &mut [Block], right: &mut [Block], permuted: &[Block], mask: Block, sums: &mut [Block; 2]) {
        let [mut left_sum, mut right_sum] = *sums;
        for ((parent, right), &permuted) in parents.iter_mut().zip(right).zip(permuted) {
            let hash = permuted ^ sigma(*parent);
            *right = (*parent ^ hash) & mask;
            *parent = hash & mask;
            left_sum ^= *parent;
            right_sum ^= *right;
        }
        *sums = [left_sum, right_sum];
    }
}

/// Adds to the children of node `hole` of a level what they lack, without a branch on it.
fn repair(left: &mut [Block], right: &mut [Block], hole: usize, fix_left: Block, fix_right: Block) {
    #[cfg(target_arch = "x86_64")]
    if left.len().is_multiple_of(LANES)
        && let Some(proof) = Wide::detect()
    {
        let (left, right) = (left.as_chunks_mut().0, right.as_chunks_mut().0);
        return wide::repair(proof, left, right, hole, fix_left, fix_right);
    }
    narrow_repair(left, right, hole, fix_left, fix_right);
}

vectorised! {
    /// [`repair`] of a level of any number of nodes.
    fn narrow_repair(left: &mut [Block], right: &mut [Block], hole: usize, fix_left: Block, fix_right: Block) {
        for (p, (left, right)) in left.iter_mut().zip(right).enumerate() {
            let here = mask_equal(p, hole);
            *left ^= fix_left & here;
            *right ^= fix_right & here;
        }
    }
}

/// `(a, b)`, or `(b, a)` if `swap` is all ones.
fn select(swap: Block, a: Block, b: Block) -> (Block, Block) {
    let difference = (a ^ b) & swap;
    (a ^ difference, b ^ difference)
}

/// All ones if `a` and `b`, both below `2^32`, are equal; else zero.
#[inline]
fn mask_equal(a: usize, b: usize) -> Block {
    let difference = (a ^ b) as u64;
    let word = (difference.wrapping_sub(1) as i64 >> 63) as u64;
    Block::new(word, word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha20Rng;

    const DEPTH: usize = 10;
    const LEAVES: usize = 1 << DEPTH;

    fn bits<const DEPTH: usize>(alpha: usize) -> [u8; DEPTH] {
        std::array::from_fn(|i| (alpha >> i & 1) as u8)
    }

    /// What the receiver gets from honest messages: `L_i ^ r_i Delta`, `r_i = 1 - alpha_i`.
    fn sums_of_the_other_sides<const DEPTH: usize>(
        left: &[Block; DEPTH],
        alpha: &[u8; DEPTH],
        delta: &Delta,
    ) -> [Block; DEPTH] {
        std::array::from_fn(|i| left[i] ^ delta.times(1 - alpha[i]))
    }

    #[test]
    fn leaves_differ_by_delta_at_the_secret_place_only() {
        leaves_differ::<2>();
        leaves_differ::<10>();
        leaves_differ::<11>();
    }

    fn leaves_differ<const DEPTH: usize>() {
        let leaves = 1 << DEPTH;
        let hash = CcrHash::new(Block::new(5, 5));
        let seed = 11;
        let rng = &mut ChaCha20Rng::seed_from_u64(seed);
        for trial in 0..60 {
            let alpha = match trial {
                0 => 0,
                1 => leaves - 1,
                _ => rng.next_u32() as usize % leaves,
            };
            let delta = Delta::random(rng);
            let mut v = vec![Block::ZERO; leaves];
            let left: [Block; DEPTH] = grow(&hash, &delta, Block::random(rng), &mut v);
            let mut w = vec![Block::ONES; leaves];
            let known = sums_of_the_other_sides(&left, &bits::<DEPTH>(alpha), &delta);
            puncture(&hash, &bits::<DEPTH>(alpha), &known, &mut w);
            for i in 0..leaves {
                let e = u8::from(i == alpha);
                assert!(v[i] ^ delta.times(e) == w[i], "leaf {i}, alpha {alpha}, seed {seed}");
                assert_eq!((v[i].lsb(), w[i].lsb()), (0, e));
            }
        }
    }

    #[test]
    fn a_flipped_bit_of_a_sum_breaks_the_correlation() {
        let hash = CcrHash::new(Block::new(5, 5));
        let rng = &mut ChaCha20Rng::seed_from_u64(12);
        let delta = Delta::random(rng);
        let alpha: [u8; DEPTH] = bits(rng.next_u32() as usize % LEAVES);
        let mut v = [Block::ZERO; LEAVES];
        let left = grow(&hash, &delta, Block::random(rng), &mut v);
        for level in 0..DEPTH {
            let mut known = sums_of_the_other_sides(&left, &alpha, &delta);
            known[level] ^= Block::new(2, 0);
            let mut w = [Block::ZERO; LEAVES];
            puncture(&hash, &alpha, &known, &mut w);
            let broken = v.iter().zip(&w).filter(|&(&v, &w)| v ^ delta.times(w.lsb()) != w).count();
            assert!(broken >= 2, "level {level}");
        }
    }

    /// Whatever the processor chooses computes what the portable forms do, at every length.
    #[test]
    fn levels_of_vectors_match_levels_of_nodes() {
        let rng = &mut ChaCha20Rng::seed_from_u64(13);
        let random = |n: usize, rng: &mut ChaCha20Rng| (0..n).map(|_| Block::random(rng)).collect::<Vec<_>>();
        for n in [0, 1, 2, 3, 4, 5, 8, 16, 63, 64, 128] {
            let (parents, permuted) = (random(n, rng), random(n, rng));
            for mask in [EVEN, Block::ONES] {
                let mut both = [(); 2].map(|()| (parents.clone(), vec![Block::ZERO; n], [Block::new(3, 4); 2]));
                let [(left, right, sums), (own_left, own_right, own_sums)] = &mut both;
                children(left, right, &permuted, mask, sums);
                narrow_children(own_left, own_right, &permuted, mask, own_sums);
                let [wide, narrow] = both;
                assert!(wide == narrow, "{n}");
            }
            for hole in [0, n / 2, n.saturating_sub(1)] {
                let (fix_left, fix_right) = (Block::random(rng), Block::random(rng));
                let mut both = [(); 2].map(|()| (parents.clone(), permuted.clone()));
                let [(left, right), (own_left, own_right)] = &mut both;
                repair(left, right, hole, fix_left, fix_right);
                narrow_repair(own_left, own_right, hole, fix_left, fix_right);
                let [wide, narrow] = both;
                assert!(wide == narrow, "{n} {hole}");
                assert_eq!(wide.0 != parents, n > 0);
            }
        }
    }

    #[test]
    fn equality_masks_are_exact() {
        for a in 0..40 {
            for b in 0..40 {
                let expected = if a == b { Block::ONES } else { Block::ZERO };
                assert_eq!(mask_equal(a, b), expected);
            }
        }
    }
}
