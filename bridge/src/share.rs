//! One party's shares: words, and the ring in which both parties' words add up.
//!
//! ```text
//!     plain       c + v = x          (mod 2^bits)
//!     guarded     c + v = 2 x + r    (mod 2^(bits + 1)),   0 <= r < 2
//! ```
//!
//! A guard bit is what the rounding of a ciphertext leaves below an accumulator. Who reads it takes it off, or counts with it.

use std::fmt;

use rand::Rng;
use zeroize::Zeroizing;

/// Guard bits below a linear layer's result: always 1 (`docs/protocol.md`, section 1).
pub const GUARD_BITS: u32 = 1;

/// The ring that shares add up in, and whether a guard bit is below the values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ring {
    bits: u32,
    guard: bool,
}

impl Ring {
    /// Of values modulo 2^`bits`.
    pub const fn plain(bits: u32) -> Self {
        Self { bits, guard: false }
    }

    /// Of values modulo 2^`bits` above a guard bit.
    pub const fn guarded(bits: u32) -> Self {
        Self { bits, guard: true }
    }

    /// Bits of the values.
    pub fn bits(self) -> u32 {
        self.bits
    }

    /// Bits below the values.
    pub fn guard_bits(self) -> u32 {
        if self.guard { GUARD_BITS } else { 0 }
    }

    /// Bits of a word.
    pub fn width(self) -> u32 {
        self.bits + self.guard_bits()
    }

    fn reduce(self, words: &mut [u64]) {
        let mask = 1_u64.checked_shl(self.width()).map_or(u64::MAX, |above| above - 1);
        words.iter_mut().for_each(|word| *word &= mask);
    }
}

/// One party's shares of several values: words below 2^[width](Ring::width), wiped when they are dropped. They are not compared, for that
/// would take a time that depends on them.
#[derive(Clone)]
pub struct RingShare {
    words: Zeroizing<Vec<u64>>,
    ring: Ring,
}

impl RingShare {
    /// These words, reduced.
    pub fn new(words: impl Into<Zeroizing<Vec<u64>>>, ring: Ring) -> Self {
        let mut words = words.into();
        ring.reduce(&mut words);
        Self { words, ring }
    }

    /// Of no values: what is left where shares were dropped, or not yet made.
    pub fn none() -> Self {
        Self::new(Vec::new(), Ring::plain(0))
    }

    /// Zeros.
    pub fn zeros(count: usize, ring: Ring) -> Self {
        Self::new(vec![0; count], ring)
    }

    /// Uniform words.
    pub fn random(count: usize, ring: Ring, rng: &mut impl Rng) -> Self {
        Self::new((0..count).map(|_| rng.next_u64()).collect::<Vec<u64>>(), ring)
    }

    /// The words.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// Their ring.
    pub fn ring(&self) -> Ring {
        self.ring
    }

    /// Changes the words in place.
    pub fn change<T>(&mut self, f: impl FnOnce(&mut [u64]) -> T) -> T {
        let result = f(&mut self.words);
        self.ring.reduce(&mut self.words);
        result
    }

    /// Every word less `constant`.
    #[must_use]
    pub fn less(mut self, constant: u64) -> Self {
        self.change(|words| words.iter_mut().for_each(|word| *word = word.wrapping_sub(constant)));
        self
    }

    /// The words changed in place, as shares in another ring.
    #[must_use]
    pub fn into_ring(mut self, ring: Ring, f: impl FnOnce(&mut [u64])) -> Self {
        f(&mut self.words);
        ring.reduce(&mut self.words);
        self.ring = ring;
        self
    }
}

impl fmt::Debug for RingShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RingShare({} words, {:?}, [redacted])", self.words.len(), self.ring)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha20Rng;

    use super::*;

    /// As many random bits as the ring has, up to all 64.
    #[test]
    fn random_words_fill_their_ring() {
        for ring in [1, 13, 48, 63, 64].map(Ring::plain).into_iter().chain([Ring::guarded(12), Ring::guarded(63)]) {
            let pads = RingShare::random(200, ring, &mut ChaCha20Rng::seed_from_u64(1));
            let seen = pads.words().iter().fold((0, u64::MAX), |(or, and), pad| (or | pad, and & pad));
            assert_eq!(seen, (u64::MAX >> (64 - ring.width()), 0), "{ring:?}");
        }
    }

    #[test]
    fn words_stay_in_their_ring() {
        let mut share = RingShare::new(vec![0, 9, 31], Ring::guarded(3));
        assert_eq!(share.words(), [0, 9, 15]);
        share.change(|words| words[1] = 17);
        assert_eq!(share.clone().less(2).words(), [14, 15, 13]);
        let halved = share.clone().into_ring(Ring::plain(2), |words| words.iter_mut().for_each(|word| *word >>= 1));
        assert_eq!((halved.words(), halved.ring()), (&[0, 0, 3][..], Ring::plain(2)));
        assert_eq!((share.ring().bits(), share.ring().guard_bits()), (3, 1));
        assert_eq!(RingShare::new(vec![u64::MAX], Ring::plain(64)).words(), [u64::MAX]);
        assert!(RingShare::none().words().is_empty());
    }

    #[test]
    fn no_word_is_printed() {
        let share = RingShare::new(vec![1234; 7], Ring::plain(13));
        assert_eq!(format!("{share:?}"), "RingShare(7 words, Ring { bits: 13, guard: false }, [redacted])");
    }
}
