//! `z = x y` for bits that the client knows, without a triple: QuickSilver [YSWW21].
//!
//! With M = K ^ b Delta for each of x, y, z, in the field of POLYVAL:
//!
//! ```text
//! K_x K_y ^ K_z Delta  =  M_x M_y  ^  (x M_y ^ y M_x ^ M_z) Delta      if and only if z = x y
//!        server                A            client    B
//! server   chi, random                                                                       -->
//! client   V = sum of chi^i B_i ^ B*           U = sum of chi^i A_i ^ A*                      <-- V
//! server   absorbs sum of chi^i (K_x K_y ^ K_z Delta) ^ K* ^ V Delta, the client U
//! ```
//!
//! A*, B* and K* are of 128 bits that nobody else uses: M_i = K_i ^ r_i Delta, summed up with the weights of a basis. A wrong z survives if chi is
//! a root of a polynomial of as many terms as there are products, or Delta of one of degree two: 2^-126.
//!
//! [YSWW21]: crate#references

use super::opened::Guard;
use crate::primitive::block::{Block, Delta};
use crate::primitive::hash::polyval;
use rayon::prelude::*;
use zeroize::Zeroizing;

/// Oblivious transfers of A* and B*.
pub const MASK_OTS: usize = 128;

/// Bytes of chi.
pub const CHALLENGE_BYTES: usize = Block::BYTES;

/// Bytes of V.
pub const PROOF_BYTES: usize = Block::BYTES;

/// Keys and MACs, wiped.
type Wiped = Zeroizing<Vec<Block>>;

/// a b in the field of POLYVAL, which is that of 2^128 elements with another one.
fn times(a: Block, b: Block) -> Block {
    polyval(b, &[a])
}

/// Products x y = z that are claimed: blocks of a party, and whether each operand is complemented (the server's blocks are already).
pub struct Products<'a> {
    /// x, y and z of each plane.
    pub planes: Vec<[&'a [Block]; 3]>,
    /// Of x and y of each plane.
    pub flipped: Vec<[bool; 2]>,
}

impl Products<'_> {
    /// Two blocks of every product, in two lists.
    fn each(&self, f: impl Fn([Block; 3], [u8; 2]) -> (Block, Block) + Sync) -> (Wiped, Wiped) {
        let f = &f;
        let planes = self.planes.par_iter().zip(&self.flipped);
        let all = planes.flat_map_iter(move |([x, y, z], flipped)| {
            let flipped = flipped.map(u8::from);
            x.iter().zip(*y).zip(*z).map(move |((x, y), z)| f([*x, *y, *z], flipped))
        });
        let all: Zeroizing<Vec<(Block, Block)>> = Zeroizing::new(all.collect());
        let list = |of: fn(&(Block, Block)) -> Block| Zeroizing::new(all.iter().map(of).collect());
        (list(|(first, _)| *first), list(|(_, second)| *second))
    }
}

/// At the client: absorbs U. Returns V.
pub fn prove(guard: &mut Guard, products: &Products<'_>, mask: &[Block], chi: Block) -> Block {
    let (a, b) = products.each(|[x, y, z], [not_x, not_y]| {
        let (x_bit, y_bit) = (x.lsb() ^ not_x, y.lsb() ^ not_y);
        (times(x, y), (y & Block::splat(x_bit)) ^ (x & Block::splat(y_bit)) ^ z)
    });
    let b_star = mask.iter().enumerate().fold(0_u128, |sum, (i, r)| sum | u128::from(r.lsb()) << i);
    let u = polyval(chi, &a) ^ weighted(mask);
    guard.absorb(&[u]);
    polyval(chi, &b) ^ b_star.into()
}

/// At the server: absorbs what U must be. Wrong products are found by the next comparison.
pub fn verify(guard: &mut Guard, products: &Products<'_>, mask: &[Block], chi: Block, v: Block) {
    let delta = guard.delta().clone();
    let key = |block: Block| key(&delta, block);
    let (products, z) = products.each(|[x, y, z], _| (times(key(x), key(y)), key(z)));
    let sum = polyval(chi, &products) ^ times(polyval(chi, &z) ^ v, delta.block());
    guard.absorb(&[sum ^ weighted(mask)]);
}

/// K with M = K ^ b Delta, b the whole bit.
fn key(delta: &Delta, block: Block) -> Block {
    block.with_lsb(0) ^ delta.times(block.lsb())
}

/// The sum of blocks, each times the element whose only bit is that of its place.
fn weighted(blocks: &[Block]) -> Block {
    let unit = |i: usize| Block::from(1_u128 << i);
    blocks.iter().enumerate().fold(Block::ZERO, |sum, (i, block)| sum ^ times(*block, unit(i)))
}
