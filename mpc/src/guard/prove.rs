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
use crate::primitive::field::{multiply, polyval, times};
use rayon::prelude::*;
use zeroize::Zeroizing;

/// Oblivious transfers of A* and B*.
pub const MASK_OTS: usize = 128;

/// Bytes of chi.
pub const CHALLENGE_BYTES: usize = Block::BYTES;

/// Bytes of V.
pub const PROOF_BYTES: usize = Block::BYTES;

/// Products that a thread sums up at a time.
const PART: usize = 1 << 12;

/// `a^n`, n not zero.
fn power(a: Block, n: usize) -> Block {
    (0..n.ilog2()).rev().fold(a, |power, bit| {
        let square = times(power, power);
        if n >> bit & 1 == 1 { times(square, a) } else { square }
    })
}

/// Products x y = z of one plane that are claimed: a party's blocks, and whether x and y are complemented.
pub struct Plane<'a> {
    /// x, y and z.
    pub xyz: [&'a [Block]; 3],
    /// Of x and y.
    pub flipped: [bool; 2],
}

/// All products that are claimed.
pub struct Products<'a>(pub Vec<Plane<'a>>);

impl Products<'_> {
    /// Of a product `f` makes two factors and a block: the products of the factors, and the blocks, summed up with powers of chi. Both are
    /// POLYVAL of all of them.
    fn sums(&self, chi: Block, f: impl Fn([Block; 3], [u8; 2]) -> [Block; 3] + Sync) -> [Block; 2] {
        let parts = self.0.iter().flat_map(|plane| {
            let [x, y, z] = plane.xyz.map(|blocks| blocks.chunks(PART));
            x.zip(y).zip(z).map(|((x, y), z)| ([x, y, z], plane.flipped.map(u8::from)))
        });
        let parts: Vec<([&[Block]; 3], [u8; 2])> = parts.collect();
        let room = || [(); 3].map(|()| Zeroizing::new(vec![Block::ZERO; PART]));
        let sums = parts.into_par_iter().map_init(room, |room, ([x, y, z], flipped)| {
            let len = z.len();
            let [first, factors, second] = room.each_mut().map(|room| &mut room[..len]);
            let room = first.iter_mut().zip(factors.iter_mut()).zip(second.iter_mut());
            for (((x, y), z), ((first, factor), second)) in x.iter().zip(y).zip(z).zip(room) {
                [*first, *factor, *second] = f([*x, *y, *z], flipped);
            }
            multiply(first, factors);
            (len, [polyval(chi, first), polyval(chi, second)])
        });
        sums.collect::<Vec<_>>().into_iter().fold([Block::ZERO; 2], |[first, second], (len, [a, b])| {
            let power = power(chi, len);
            [times(first, power) ^ a, times(second, power) ^ b]
        })
    }
}

/// At the client: absorbs U. Returns V.
pub fn prove(guard: &mut Guard, products: &Products<'_>, mask: &[Block], chi: Block) -> Block {
    let [a, b] = products.sums(chi, |[x, y, z], [not_x, not_y]| {
        let (x_bit, y_bit) = (x.lsb() ^ not_x, y.lsb() ^ not_y);
        [x, y, (y & Block::splat(x_bit)) ^ (x & Block::splat(y_bit)) ^ z]
    });
    let b_star = mask.iter().enumerate().fold(0_u128, |sum, (i, r)| sum | u128::from(r.lsb()) << i);
    guard.absorb(&[a ^ weighted(mask)]);
    b ^ b_star.into()
}

/// At the server: absorbs what U must be. Wrong products are found by the next comparison.
pub fn verify(guard: &mut Guard, products: &Products<'_>, mask: &[Block], chi: Block, v: Block) {
    let delta = guard.delta().clone();
    let key = |block: Block, flip: u8| key(&delta, block ^ Block::new(flip.into(), 0));
    let [products, z] = products.sums(chi, |[x, y, z], [not_x, not_y]| [key(x, not_x), key(y, not_y), key(z, 0)]);
    let sum = products ^ times(z ^ v, delta.block());
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
