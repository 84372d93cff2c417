//! Correlation-robust hashes from one fixed-key AES permutation `pi`.
//!
//! | hash | definition | where |
//! |---|---|---|
//! | [`TccrHash`] | `H(x, i) = pi(pi(x) ^ i) ^ pi(x)`, TMMO of [GKWY20] section 7.4 | pads from OT keys, seed trees |
//! | [`CcrHash`] | `H(x) = pi(sigma(x)) ^ sigma(x)`, [GKWY20] section 7.3 | half-tree of [GYW+23] |
//!
//! `sigma(low, high) = (high, low ^ high)` is a linear orthomorphism. Both hashes are secure in the
//! random-permutation model, whose permutation is AES under a public key, up to p q / 2^127 after p evaluations of it, for q hashes of
//! keys that the attacker lacks. The bound is met: pi(z) ^ z is a guess at every H(x, i) ^ i, with pi(x) = z ^ i, so whoever knows q of
//! them tries all by one evaluation and a look-up, and finds a key after 2^128 / q ([GKW+20]). Hence q is kept small. The keys are public
//! coins of the session ([`Coins`](crate::ot::coins::Coins)), one for each tree and for each 512 OTs that make pads.
//!
//! [GKW+20]: crate#references
//! [GKWY20]: crate#references
//! [GYW+23]: crate#references

use crate::primitive::block::Block;
use crate::primitive::vectorise::vectorised;
#[cfg(target_arch = "x86_64")]
use crate::primitive::wide::Wide;
use aes::Aes128Enc;
use aes::cipher::{Array, BlockCipherEncrypt, KeyInit};

/// Blocks encrypted per call of the cipher: its widest backend takes 64 at a time.
const BATCH: usize = 128;

/// Encrypts blocks in place.
pub(crate) fn encrypt_blocks<C>(cipher: &C, blocks: &mut [Block])
where
    C: BlockCipherEncrypt<BlockSize = aes::cipher::consts::U16>,
{
    cipher.encrypt_blocks(Array::cast_slice_from_core_mut(bytemuck::cast_slice_mut(blocks)));
}

/// The tweakable correlation-robust hash `H(x, i) = pi(pi(x) ^ i) ^ pi(x)`.
///
/// A key that is used under several tweaks pays `pi(x)` once: see [`TccrHash::inner`].
/// Every pair of key and tweak must be used for one purpose only.
#[derive(Clone)]
pub struct TccrHash(Aes128Enc);

impl TccrHash {
    /// The hash under a public key; expands the key schedule, so keep it for many calls.
    #[must_use]
    pub fn new(key: Block) -> Self {
        Self(Aes128Enc::new(&Array::from(key.to_bytes())))
    }

    /// Replaces each key `x` by `pi(x)`.
    pub fn inner(&self, keys: &mut [Block]) {
        encrypt_blocks(&self.0, keys);
    }

    /// `out[j] = H(x_j, tweak(j))`, given `inner[j] = pi(x_j)`.
    ///
    /// # Panics
    /// If `inner` and `out` differ in length.
    pub fn finish(&self, inner: &[Block], tweak: impl Fn(usize) -> Block, out: &mut [Block]) {
        assert_eq!(inner.len(), out.len(), "one output for each key");
        for (batch, (inner, out)) in inner.chunks(BATCH).zip(out.chunks_mut(BATCH)).enumerate() {
            for (j, (out, &inner)) in out.iter_mut().zip(inner).enumerate() {
                *out = inner ^ tweak(batch * BATCH + j);
            }
            encrypt_blocks(&self.0, out);
            for (out, &inner) in out.iter_mut().zip(inner) {
                *out ^= inner;
            }
        }
    }

    /// Replaces each key `x_j` by `H(x_j, tweak(j))`.
    pub fn hash(&self, keys: &mut [Block], tweak: impl Fn(usize) -> Block) {
        for (batch, keys) in keys.chunks_mut(BATCH).enumerate() {
            let mut inner = [Block::ZERO; BATCH];
            let inner = &mut inner[..keys.len()];
            self.inner(keys);
            inner.copy_from_slice(keys);
            self.finish(inner, |j| tweak(batch * BATCH + j), keys);
        }
    }
}

/// The circular correlation-robust hash `H(x) = pi(sigma(x)) ^ sigma(x)`.
#[derive(Clone)]
pub struct CcrHash(Aes128Enc);

impl CcrHash {
    /// Blocks that are hashed most efficiently by one call.
    pub const BATCH: usize = BATCH;

    /// The hash under a public key; expands the key schedule, so keep it for many calls.
    #[must_use]
    pub fn new(key: Block) -> Self {
        Self(Aes128Enc::new(&Array::from(key.to_bytes())))
    }

    /// `out[j] = H(x[j])`.
    ///
    /// # Panics
    /// If `x` and `out` differ in length.
    pub fn hash(&self, x: &[Block], out: &mut [Block]) {
        self.permute(x, out);
        out.iter_mut().zip(x).for_each(|(out, &x)| *out ^= sigma(x));
    }

    /// `out[j] = pi(sigma(x[j]))`, to which whoever reads them adds [`sigma`] again.
    ///
    /// # Panics
    /// If `x` and `out` differ in length.
    pub(crate) fn permute(&self, x: &[Block], out: &mut [Block]) {
        assert_eq!(x.len(), out.len(), "one output for each input");
        for (x, out) in x.chunks(BATCH).zip(out.chunks_mut(BATCH)) {
            sigma_of(x, out);
            encrypt_blocks(&self.0, out);
        }
    }
}

/// `out[j] = sigma(x[j])`.
fn sigma_of(x: &[Block], out: &mut [Block]) {
    #[cfg(target_arch = "x86_64")]
    if let Some(wide) = Wide::detect() {
        let ((x, x_rest), (out, out_rest)) = (x.as_chunks(), out.as_chunks_mut());
        wide.sigma_of(x, out);
        return narrow_sigma_of(x_rest, out_rest);
    }
    narrow_sigma_of(x, out);
}

vectorised! {
    /// [`sigma_of`] of any number.
    fn narrow_sigma_of(x: &[Block], out: &mut [Block]) {
        for (out, &x) in out.iter_mut().zip(x) {
            *out = sigma(x);
        }
    }
}

/// The linear orthomorphism `(low, high) -> (high, low ^ high)`: it and `x -> sigma(x) ^ x` are bijections.
#[inline]
pub(crate) fn sigma(x: Block) -> Block {
    Block::new(x.high(), x.low() ^ x.high())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha20Rng;

    fn keys(n: usize, seed: u64) -> Vec<Block> {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        (0..n).map(|_| Block::random(&mut rng)).collect()
    }

    const KEY: Block = Block::new(0x0123_4567, 0x89ab_cdef);

    fn pi(x: Block) -> Block {
        let mut block = Array::from(x.to_bytes());
        Aes128Enc::new(&Array::from(KEY.to_bytes())).encrypt_block(&mut block);
        Block::from_bytes(block.into())
    }

    #[test]
    fn tccr_matches_its_definition_at_every_length() {
        let hash = TccrHash::new(KEY);
        let tweak = |j: usize| Block::new(j as u64 * 7, 1);
        for n in [0, 1, 7, 8, 63, 64, 65, 200] {
            let x = keys(n, n as u64);
            let mut out = x.clone();
            hash.hash(&mut out, tweak);
            let mut inner = x.clone();
            hash.inner(&mut inner);
            let mut again = vec![Block::ZERO; n];
            hash.finish(&inner, tweak, &mut again);
            assert_eq!(out, again);
            for (j, (&x, &h)) in x.iter().zip(&out).enumerate() {
                let p = pi(x);
                assert!(h == pi(p ^ tweak(j)) ^ p);
            }
        }
    }

    #[test]
    fn ccr_matches_its_definition_at_every_length() {
        for n in [0, 1, 63, 64, 65, 200] {
            let x = keys(n, n as u64);
            let mut out = vec![Block::ZERO; n];
            CcrHash::new(KEY).hash(&x, &mut out);
            for (&x, &h) in x.iter().zip(&out) {
                let s = Block::new(x.high(), x.low() ^ x.high());
                assert!(h == pi(s) ^ s);
            }
        }
    }

    #[test]
    fn sigma_is_an_orthomorphism() {
        // Invert both maps: from s = (high, low ^ high), and from s ^ x = (low ^ high, low).
        for x in keys(100, 3) {
            let s = sigma(x);
            assert_eq!(Block::new(s.high() ^ s.low(), s.low()), x);
            let t = s ^ x;
            assert_eq!(Block::new(t.high(), t.low() ^ t.high()), x);
        }
    }
}
