//! The field of POLYVAL: products of many elements, and POLYVAL of many blocks.
//!
//! 2^128 elements, polynomials in x modulo x^128 + x^127 + x^126 + x^121 + 1, the lowest power in the lowest bit. `a b` stands for
//! `a b x^-128` as in RFC 8452: a field with another one, x^128. The crate `polyval` is the definition; where the processor has AVX-512 and
//! carry-less products of four blocks, `field/wide.rs` computes the same.

#[cfg(target_arch = "x86_64")]
mod wide;

use crate::primitive::block::Block;
use polyval::Polyval;
use polyval::universal_hash::UniversalHash;
#[cfg(target_arch = "x86_64")]
use wide::Products;

/// POLYVAL of some blocks, linear in them; the first is multiplied by the highest power of `key`, which is public: a challenge.
pub(crate) fn polyval(key: Block, blocks: &[Block]) -> Block {
    #[cfg(target_arch = "x86_64")]
    if blocks.len() >= wide::BLOCKS
        && let Some(products) = Products::detect()
    {
        let (whole, rest) = blocks.as_chunks();
        return narrow(key, products.polyval(key, whole), rest);
    }
    narrow(key, Block::ZERO, blocks)
}

/// POLYVAL of more blocks, behind those that `sum` is of.
fn narrow(key: Block, sum: Block, blocks: &[Block]) -> Block {
    let Some((first, others)) = blocks.split_first() else { return sum };
    let mut hash = Polyval::new(&key.to_bytes().into());
    for blocks in [&[*first ^ sum], others] {
        hash.update(polyval::Block::cast_slice_from_core(bytemuck::cast_slice(blocks)));
    }
    Block::from_bytes(hash.finalize().into())
}

/// The product.
pub(crate) fn times(a: Block, b: Block) -> Block {
    let mut product = [a];
    multiply(&mut product, &[b]);
    product[0]
}

/// Replaces each `a` by `a b`.
///
/// # Panics
/// If there are not as many of both.
pub(crate) fn multiply(a: &mut [Block], b: &[Block]) {
    assert_eq!(a.len(), b.len(), "one factor for each");
    #[cfg(target_arch = "x86_64")]
    if let Some(products) = Products::detect() {
        return products.multiply(a, b);
    }
    a.iter_mut().zip(b).for_each(|(a, &b)| *a = narrow(b, Block::ZERO, &[*a]));
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha20Rng;

    fn random(n: usize, seed: u64) -> Vec<Block> {
        let rng = &mut ChaCha20Rng::seed_from_u64(seed);
        (0..n).map(|_| Block::random(rng)).collect()
    }

    /// Blocks in which carries, halves and the reduction show, besides random ones.
    fn blocks(n: usize, seed: u64) -> Vec<Block> {
        let mut blocks = random(n, seed);
        let special = [Block::ZERO, Block::ONES, Block::new(1, 0), Block::new(0, 1), Block::new(0, 1 << 63)];
        blocks.iter_mut().step_by(3).zip(special.into_iter().cycle()).for_each(|(block, own)| *block = own);
        blocks
    }

    /// The example of RFC 8452, appendix A.
    #[test]
    fn polyval_is_that_of_the_rfc() {
        let block = |bytes: u128| Block::from(bytes.swap_bytes());
        let key = block(0x2562_9347_5892_4276_1d31_f826_ba4b_757b);
        let x = [block(0x4f4f_9566_8c83_dfb6_4017_62bb_2d01_a262), block(0xd1a2_4ddd_2721_d006_bbe4_5f20_d3c9_f362)];
        assert_eq!(polyval(key, &x), block(0xf7a3_b47b_8461_19fa_e5b7_866c_f5e5_b77e));
        assert_eq!(times(times(x[0], key) ^ x[1], key), polyval(key, &x));
    }

    #[test]
    fn polyval_matches_its_definition_at_every_length() {
        for (seed, key) in blocks(7, 1).into_iter().enumerate() {
            for n in [0, 1, 2, 31, 32, 33, 63, 64, 65, 96, 100, 500] {
                let x = blocks(n, 10 + seed as u64);
                let expected = x.iter().fold(Block::ZERO, |sum, x| narrow(key, Block::ZERO, &[sum ^ *x]));
                assert_eq!((polyval(key, &x), narrow(key, Block::ZERO, &x)), (expected, expected), "{seed} {n}");
            }
        }
    }

    #[test]
    fn products_match_their_definition_at_every_length() {
        for n in [0, 1, 2, 3, 4, 5, 7, 8, 100, 103] {
            let (a, b) = (blocks(n, 2), random(n, 3));
            let mut product = a.clone();
            multiply(&mut product, &b);
            for (i, product) in product.iter().enumerate() {
                assert_eq!((*product, times(b[i], a[i])), (narrow(b[i], Block::ZERO, &[a[i]]), *product), "{n} {i}");
            }
        }
    }
}
