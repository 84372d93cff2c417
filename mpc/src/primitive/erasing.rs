//! Secret randomness with key erasure: every piece of work has a generator of its own, and what made it is overwritten.
//!
//! ```text
//! key_i  --ChaCha20-->  key_(i+1), seed_i        generator i = ChaCha20(seed_i)
//! ```
//!
//! Whoever sees the state after `i` pieces of work can compute the later generators and none of the earlier ones.

use chacha20::ChaCha20Rng;
use rand::{Rng, SeedableRng};
use std::fmt;
use zeroize::Zeroizing;

/// The generator of one piece of work: ChaCha20, wiped when dropped.
pub type OnceRng = ChaCha20Rng;

/// Gives a fresh generator for every piece of work, and forgets it.
pub struct Erasing {
    key: Zeroizing<[u8; 32]>,
}

impl Erasing {
    /// Generators from `seed`, fresh randomness of the operating system.
    #[must_use]
    pub fn new(seed: [u8; 32]) -> Self {
        Self { key: Zeroizing::new(seed) }
    }

    /// The next generator. The key that it comes from is overwritten by its successor.
    #[must_use]
    pub fn next_rng(&mut self) -> OnceRng {
        let mut stream = OnceRng::from_seed(*self.key);
        let mut seed = Zeroizing::new([0; 32]);
        stream.fill_bytes(&mut self.key[..]);
        stream.fill_bytes(&mut seed[..]);
        OnceRng::from_seed(*seed)
    }
}

impl fmt::Debug for Erasing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Erasing(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use zeroize::ZeroizeOnDrop;

    const SEED: [u8; 32] = [7; 32];

    fn block(rng: &mut OnceRng) -> [u8; 32] {
        let mut bytes = [0; 32];
        rng.fill_bytes(&mut bytes);
        bytes
    }

    /// What is left after a generator was given does not say what it gave: it is none of the bytes that the old key makes, but for
    /// its own, and these are behind a one-way step.
    #[test]
    fn the_key_moves_forward() {
        let mut erasing = Erasing::new(SEED);
        let mut seen = HashSet::from([SEED]);
        for _ in 0..100 {
            let before = *erasing.key;
            let mut rng = erasing.next_rng();
            assert_eq!(size_of_val(&erasing), size_of::<[u8; 32]>(), "the key is all that is kept");
            assert!(seen.insert(*erasing.key), "a key comes once");
            let mut of_old = OnceRng::from_seed(before);
            assert_eq!(block(&mut of_old), *erasing.key, "the first half of a block is the next key");
            assert_eq!(OnceRng::from_seed(block(&mut of_old)), rng, "the second half is the generator's seed");
            assert!(seen.insert(block(&mut rng)), "no generator gives what another gives, or a key");
        }
    }

    #[test]
    fn generators_are_wiped() {
        fn wiped<T: ZeroizeOnDrop>() {}
        wiped::<OnceRng>();
        wiped::<Zeroizing<[u8; 32]>>();
        assert_eq!(format!("{:?}", Erasing::new(SEED)), "Erasing(..)");
    }

    /// The stream is ChaCha20 of the published vectors.
    #[test]
    fn the_stream_is_chacha20() {
        let expected = [0x76, 0xb8, 0xe0, 0xad, 0xa0, 0xf1, 0x3d, 0x90, 0x40, 0x5d, 0x6a, 0xe5, 0x53, 0x86, 0xbd, 0x28];
        assert_eq!(block(&mut OnceRng::from_seed([0; 32]))[..16], expected);
    }
}
