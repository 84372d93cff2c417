//! Words of few bits in the narrowest integers that hold them, while they wait.

use zeroize::Zeroizing;

/// Words, wiped when dropped. Does not print.
pub struct Narrow(Words);

enum Words {
    U16(Zeroizing<Vec<u16>>),
    U32(Zeroizing<Vec<u32>>),
    U64(Zeroizing<Vec<u64>>),
}

impl Narrow {
    /// Words below 2^bits.
    pub fn new(words: &[u64], bits: u32) -> Self {
        let all = words.iter().fold(0, |all, word| all | word);
        assert!(bits >= 64 || all >> bits == 0, "words of {bits} bits");
        Self(match Self::word_bytes(bits) {
            2 => Words::U16(Zeroizing::new(words.iter().map(|&word| word as u16).collect())),
            4 => Words::U32(Zeroizing::new(words.iter().map(|&word| word as u32).collect())),
            _ => Words::U64(Zeroizing::new(words.to_vec())),
        })
    }

    /// The words.
    pub fn words(&self) -> Zeroizing<Vec<u64>> {
        Zeroizing::new(match &self.0 {
            Words::U16(words) => words.iter().map(|&word| word.into()).collect(),
            Words::U32(words) => words.iter().map(|&word| word.into()).collect(),
            Words::U64(words) => words.to_vec(),
        })
    }

    /// The words; those that are wide already are moved.
    pub fn into_words(self) -> Zeroizing<Vec<u64>> {
        match self.0 {
            Words::U64(words) => words,
            held => Self(held).words(),
        }
    }

    /// Bytes of memory of a word of so many bits.
    pub fn word_bytes(bits: u32) -> usize {
        match bits {
            ..=16 => 2,
            17..=32 => 4,
            _ => 8,
        }
    }

    /// Bytes of memory that all words take.
    pub fn held_bytes(&self) -> usize {
        match &self.0 {
            Words::U16(words) => size_of_val(&words[..]),
            Words::U32(words) => size_of_val(&words[..]),
            Words::U64(words) => size_of_val(&words[..]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back_and_take_what_is_said() {
        for (bits, bytes) in [(1, 2), (16, 2), (17, 4), (32, 4), (33, 8), (64, 8)] {
            let words = [0, 1, u64::MAX >> (64 - bits)];
            let narrow = Narrow::new(&words, bits);
            assert_eq!(narrow.words()[..], words);
            assert_eq!((Narrow::word_bytes(bits), narrow.held_bytes()), (bytes, 3 * bytes));
        }
    }
}
