//! A level of a tree by vectors of four nodes, with AVX-512. No branch or address depends on a node or on the place of the hole.

use crate::primitive::block::Block;
use crate::primitive::wide::{LANES, Wide, load, sigma, store, sum};
use std::arch::x86_64::*;

/// Four nodes.
type Nodes = [Block; LANES];

/// As [`super::children`].
pub(super) fn children(
    _: Wide,
    parents: &mut [Nodes],
    right: &mut [Nodes],
    permuted: &[Nodes],
    mask: Block,
    sums: &mut [Block; 2],
) {
    // SAFETY: the token proves that the processor has AVX-512 F.
    unsafe { children_of(parents, right, permuted, mask, sums) }
}

/// As [`super::repair`].
pub(super) fn repair(_: Wide, left: &mut [Nodes], right: &mut [Nodes], hole: usize, fix_left: Block, fix_right: Block) {
    // SAFETY: the token proves that the processor has AVX-512 F.
    unsafe { repair_level(left, right, hole, fix_left, fix_right) }
}

#[target_feature(enable = "avx512f")]
fn children_of(parents: &mut [Nodes], right: &mut [Nodes], permuted: &[Nodes], mask: Block, sums: &mut [Block; 2]) {
    let mask = load(&[mask; LANES]);
    let [mut left_sum, mut right_sum] = [_mm512_setzero_si512(); 2];
    for ((parents, right), permuted) in parents.iter_mut().zip(right).zip(permuted) {
        let parent = load(parents);
        let hash = _mm512_xor_si512(load(permuted), sigma(parent));
        let left = _mm512_and_si512(hash, mask);
        let other = _mm512_and_si512(_mm512_xor_si512(hash, parent), mask);
        left_sum = _mm512_xor_si512(left_sum, left);
        right_sum = _mm512_xor_si512(right_sum, other);
        store(parents, left);
        store(right, other);
    }
    sums[0] ^= sum(left_sum);
    sums[1] ^= sum(right_sum);
}

#[target_feature(enable = "avx512f")]
fn repair_level(left: &mut [Nodes], right: &mut [Nodes], hole: usize, fix_left: Block, fix_right: Block) {
    let [fix_left, fix_right] = [fix_left, fix_right].map(|fix| load(&[fix; LANES]));
    let hole = _mm512_set1_epi64(hole as i64);
    // Both halves of a block have the number of its node.
    let mut places = _mm512_setr_epi64(0, 0, 1, 1, 2, 2, 3, 3);
    for (left, right) in left.iter_mut().zip(right) {
        let here = _mm512_cmpeq_epi64_mask(places, hole);
        for (nodes, fix) in [(left, fix_left), (right, fix_right)] {
            let before = load(nodes);
            store(nodes, _mm512_mask_xor_epi64(before, here, before, fix));
        }
        places = _mm512_add_epi64(places, _mm512_set1_epi64(LANES as i64));
    }
}
