//! The columns of a row in two vectors, with AVX2: the compiler's own take a word of eight rows at a time, which is dearer than no vectors.

use super::{HIGH_BITS, Row, WORDS_PER_ROW};
use std::arch::x86_64::*;

const _: () = assert!(WORDS_PER_ROW == 12 && HIGH_BITS == 2, "eight words and four, two bits for each");

/// As [`super::join`].
#[target_feature(enable = "avx2")]
pub(super) fn join(words: &[Row<u16>], columns: &mut [Row<u32>]) {
    let first_shifts = _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14);
    let last_shifts = _mm_setr_epi32(16, 18, 20, 22);
    for (columns, words) in columns.iter_mut().zip(words) {
        // SAFETY: 16 bytes and 8 of the 24 of the words are read, which need no alignment.
        let (first, last) =
            unsafe { (_mm_loadu_si128(words.as_ptr().cast()), _mm_loadl_epi64(words[8..].as_ptr().cast())) };
        let high = super::high(words) as i32;
        let first_high = _mm256_srlv_epi32(_mm256_set1_epi32(high), first_shifts);
        let last_high = _mm_srlv_epi32(_mm_set1_epi32(high), last_shifts);
        let first = _mm256_or_si256(_mm256_cvtepu16_epi32(first), _mm256_slli_epi32::<16>(first_high));
        let last = _mm_or_si128(_mm_cvtepu16_epi32(last), _mm_slli_epi32::<16>(last_high));
        // SAFETY: 32 bytes and 16 of the 48 of the columns are written, which need no alignment.
        unsafe {
            _mm256_storeu_si256(columns.as_mut_ptr().cast(), first);
            _mm_storeu_si128(columns[8..].as_mut_ptr().cast(), last);
        }
    }
}
