//! A pseudo-random generator for bulk expansion: AES in counter mode.

use crate::primitive::block::Block;
use crate::primitive::hash::encrypt_blocks;
use aes::cipher::consts::U16;
use aes::cipher::{Array, BlockCipherEncrypt, KeyInit};
use aes::{Aes128Enc, Aes256};
use rand::CryptoRng;
use std::fmt;
use zeroize::{Zeroize, Zeroizing};

/// A stream of blocks `E_seed(0), E_seed(1), ...` from a secret seed of 256 bits, wiped when dropped.
pub struct Prg {
    cipher: Aes256,
    next: u64,
}

impl Prg {
    /// The stream of `seed`.
    #[must_use]
    pub fn new(seed: &[u8; 32]) -> Self {
        Self { cipher: Aes256::new(&Array::from(*seed)), next: 0 }
    }

    /// A stream with a seed from `rng`.
    pub fn from_rng<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        let prg = Self::new(&seed);
        seed.zeroize();
        prg
    }

    /// Overwrites `out` with the next blocks of the stream.
    pub fn fill(&mut self, out: &mut [Block]) {
        counter_mode(&self.cipher, 0, self.next, out);
        self.next += out.len() as u64;
    }

    /// Overwrites `out` with blocks `first..` of stream number `stream`: number 0 is the one that [`fill`](Self::fill) goes through.
    pub(crate) fn fill_of(&self, stream: u64, first: u64, out: &mut [Block]) {
        counter_mode(&self.cipher, stream, first, out);
    }

    /// Goes on with a new key, the next blocks of the stream: what was drawn before can't be drawn again.
    pub fn forget(&mut self) {
        let mut key = Zeroizing::new([Block::ZERO; 2]);
        self.fill(&mut *key);
        let mut seed = Zeroizing::new([0; 32]);
        seed.copy_from_slice(bytemuck::cast_slice(&*key));
        *self = Self::new(&seed);
    }
}

impl fmt::Debug for Prg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prg(..)")
    }
}

/// Random access to streams of a 128-bit key: the seed of a tree's leaf, or the public seed of a matrix.
#[derive(Clone)]
pub(crate) struct KeyedStreams(Aes128Enc);

impl KeyedStreams {
    pub fn new(key: Block) -> Self {
        Self(Aes128Enc::new(&Array::from(key.to_bytes())))
    }

    /// Overwrites `out` with blocks `first..` of stream number `stream`.
    pub fn fill(&self, stream: u64, first: u64, out: &mut [Block]) {
        counter_mode(&self.0, stream, first, out);
    }
}

/// `out[j] = E(first + j, high)`.
fn counter_mode<C>(cipher: &C, high: u64, first: u64, out: &mut [Block])
where
    C: BlockCipherEncrypt<BlockSize = U16>,
{
    for (block, counter) in out.iter_mut().zip(first..) {
        *block = Block::new(counter, high);
    }
    encrypt_blocks(cipher, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_seed_matches_the_published_vector() {
        // AES-256 of the zero block under the zero key.
        let mut out = [Block::ZERO];
        Prg::new(&[0; 32]).fill(&mut out);
        let expected = 0xdc95_c078_a240_8989_ad48_a214_9284_2087_u128.to_be_bytes();
        assert_eq!(out[0].to_bytes(), expected);
        // AES-128 of the zero block under the zero key.
        KeyedStreams::new(Block::ZERO).fill(0, 0, &mut out);
        let expected = 0x66e9_4bd4_ef8a_2c3b_884c_fa59_ca34_2b2e_u128.to_be_bytes();
        assert_eq!(out[0].to_bytes(), expected);
    }

    #[test]
    fn a_stream_forgets_what_it_gave() {
        let (mut prg, mut same) = (Prg::new(&[8; 32]), Prg::new(&[8; 32]));
        let (mut given, mut key) = ([Block::ZERO; 4], [Block::ZERO; 2]);
        prg.fill(&mut given);
        prg.forget();
        // What is left is the stream of the blocks that would have come next, from its start.
        same.fill(&mut given);
        same.fill(&mut key);
        let mut next = Prg::new(bytemuck::cast_slice(&key).try_into().unwrap());
        let (mut a, mut b) = ([Block::ZERO; 8], [Block::ZERO; 8]);
        prg.fill(&mut a);
        next.fill(&mut b);
        assert_eq!(a, b);
        assert!(!a.iter().any(|block| given.contains(block) || key.contains(block)));
    }

    #[test]
    fn pieces_join_to_one_stream() {
        let mut whole = [Block::ZERO; 100];
        Prg::new(&[7; 32]).fill(&mut whole);
        let mut prg = Prg::new(&[7; 32]);
        let mut pieces = [Block::ZERO; 100];
        let (a, b) = pieces.split_at_mut(37);
        prg.fill(a);
        prg.fill(b);
        assert_eq!(whole, pieces);

        let streams = KeyedStreams::new(Block::new(1, 2));
        streams.fill(5, 0, &mut whole);
        streams.fill(5, 60, &mut pieces[..40]);
        assert_eq!(whole[60..], pieces[..40]);
        streams.fill(6, 60, &mut pieces[..40]);
        assert!(whole[60..].iter().zip(&pieces).all(|(a, b)| a != b));
    }
}
