//! The inner loops in plain Rust: the definition that the vector forms are tested against, and the fallback.

use super::geometry::Span;
use super::tile::{BLOCK, DENSE_ROWS, DenseWeights, Tile, pair};
use super::word::{Sum, Word};

/// a_low * b_low + a_high * b_high modulo 2^32, of signed halves.
fn dot(a: u32, b: u32) -> i32 {
    let low = i32::from(a as i16) * i32::from(b as i16);
    let high = i32::from((a >> 16) as i16) * i32::from((b >> 16) as i16);
    low.wrapping_add(high)
}

/// One tile of a convolution.
pub(super) fn tile(tile: Tile<'_>) {
    let pixels = tile.blocks * BLOCK;
    tile.sums.fill(0);
    for (weights, &offset) in tile.weights.chunks_exact(tile.rows).zip(tile.taps.offsets()) {
        let cells = &tile.image[offset as usize..][..pixels];
        for (&weight, sums) in weights.iter().zip(tile.sums.chunks_exact_mut(pixels)) {
            for (sum, &cell) in sums.iter_mut().zip(cells) {
                *sum = sum.wrapping_add(dot(weight, cell));
            }
        }
    }
}

/// One panel of a dense layer.
pub(super) fn dense(weights: DenseWeights<'_>, inputs: &[u32], out: &mut [i32; DENSE_ROWS]) {
    out.fill(0);
    for (k, &input) in inputs.iter().enumerate() {
        for (r, sum) in out.iter_mut().enumerate() {
            let weight = match weights {
                DenseWeights::Bytes(weights) => {
                    let [low, high] = weights[k * DENSE_ROWS + r];
                    pair(i16::from(low) as u16, i16::from(high) as u16)
                }
                DenseWeights::Words(weights) => weights[k * DENSE_ROWS + r],
            };
            *sum = sum.wrapping_add(dot(weight, input));
        }
    }
}

/// sums += values * 2^place, or sums = values * 2^place where `first`.
#[inline(always)]
pub(super) fn fold<S: Sum>(sums: &mut [S], values: &[i32], place: u32, first: bool) {
    for (sum, &value) in sums.iter_mut().zip(values) {
        *sum = if first { S::default() } else { *sum }.fold(value, place);
    }
}

/// Writes the selected sums of every row to its output, or adds them to it.
#[inline(always)]
pub(super) fn store<W: Word>(sums: &[W::Sum], spans: &[Span], out: &mut [&mut [W]], add: bool) {
    for (sums, out) in sums.chunks_exact(spans.len() * BLOCK).zip(out) {
        for (sums, span) in sums.chunks_exact(BLOCK).zip(spans) {
            // The selected words move to the front; a full block is in its place.
            let mut kept = [W::default(); BLOCK];
            let mut count = BLOCK;
            if span.lanes == u16::MAX {
                for (word, &sum) in kept.iter_mut().zip(sums) {
                    *word = W::truncate(sum);
                }
            } else {
                count = 0;
                for (lane, &sum) in sums.iter().enumerate() {
                    kept[count % BLOCK] = W::truncate(sum);
                    count += usize::from(span.lanes >> lane & 1);
                }
            }
            for (out, &word) in out[span.at..][..count].iter_mut().zip(&kept) {
                *out = if add { out.plus(word) } else { word };
            }
        }
    }
}
