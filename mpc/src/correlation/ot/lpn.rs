//! `out_i += sum of 10 pseudo-random entries of a table`: the public matrix of LPN.
//!
//! The local linear code of [YWLZW20]: row `i` of the matrix has 10 ones, at columns read from an AES-CTR stream under a
//! public key, fresh for each batch: 10 words of 16 bits, and two more that have bits 16 and 17 of all columns. The columns are
//! public, so the addresses reveal nothing. The map is linear, and both parties apply it to correlated tables, so it keeps the
//! correlation.
//!
//! [YWLZW20]: crate#references

use crate::primitive::block::Block;
use crate::primitive::prg::KeyedStreams;

/// Columns of a matrix: the entries of a table.
pub const COLUMNS: usize = 1 << COLUMN_BITS;

/// Bits of a column's number.
const COLUMN_BITS: usize = 18;

/// Ones in a row.
pub const ONES_PER_ROW: usize = 10;

/// Words of the stream for a row.
const WORDS_PER_ROW: usize = ONES_PER_ROW + 2;

/// Bits of a column's number beyond its own word.
const HIGH_BITS: usize = COLUMN_BITS - 16;

const _: () = assert!(ONES_PER_ROW * HIGH_BITS <= 32, "two words have the high bits of all columns");

/// Rows that are handled at a time: their columns fill whole blocks.
const ROWS: usize = 256;

/// Blocks of column indices for that many rows.
const INDEX_BLOCKS: usize = ROWS * WORDS_PER_ROW * size_of::<u16>() / Block::BYTES;

/// The matrix of a batch.
pub struct Matrix(KeyedStreams);

impl Matrix {
    /// The matrix of a public key.
    pub fn new(key: Block) -> Self {
        Self(KeyedStreams::new(key))
    }

    /// Adds rows `first_row..` of the matrix, times the table of [`COLUMNS`] entries, to `out`.
    ///
    /// # Panics
    /// If `first_row` or the number of rows is not a multiple of 256, or the table has another length.
    pub fn add_product(&self, first_row: usize, table: &[Block], out: &mut [Block]) {
        assert!(first_row.is_multiple_of(ROWS) && out.len().is_multiple_of(ROWS));
        // A fixed size, a power of two, makes every masked index valid.
        let table: &[Block; COLUMNS] = table.try_into().expect("the table has an entry for each column");
        let mut indices = [Block::ZERO; INDEX_BLOCKS];
        let mut position = (first_row / ROWS * INDEX_BLOCKS) as u64;
        for out in out.chunks_exact_mut(ROWS) {
            self.0.fill(0, position, &mut indices);
            position += INDEX_BLOCKS as u64;
            let words: &[u16] = bytemuck::cast_slice(&indices);
            for (out, words) in out.iter_mut().zip(words.as_chunks::<WORDS_PER_ROW>().0) {
                let high = usize::from(words[ONES_PER_ROW]) | usize::from(words[ONES_PER_ROW + 1]) << 16;
                let mut sum = *out;
                for (j, &word) in words[..ONES_PER_ROW].iter().enumerate() {
                    let column = usize::from(word) | (high >> (HIGH_BITS * j)) << 16;
                    sum ^= table[column & (COLUMNS - 1)];
                }
                *out = sum;
            }
        }
    }
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

    #[test]
    fn rows_are_sums_of_ten_columns_of_the_stream() {
        let key = Block::new(1, 2);
        let table = random(COLUMNS, 1);
        let before = random(1024, 2);
        let mut out = before.clone();
        Matrix::new(key).add_product(512, &table, &mut out);
        // Row r uses the 16-bit words 12 r .. 12 r + 12 of the stream, the last two for the highest bits.
        let mut stream = vec![Block::ZERO; (512 + 1024) * 12 / 8];
        KeyedStreams::new(key).fill(0, 0, &mut stream);
        let word = |w: usize| (u128::from(stream[w / 8]) >> (16 * (w % 8)) & 0xffff) as usize;
        let mut seen = [false; 4];
        for (r, (&before, &after)) in before.iter().zip(&out).enumerate() {
            let first = 12 * (512 + r);
            let high =
                |j: usize| if j < 8 { word(first + 10) >> (2 * j) } else { word(first + 11) >> (2 * (j - 8)) } & 3;
            (0..10).for_each(|j| seen[high(j)] = true);
            let column = |j: usize| word(first + j) + high(j) * 65_536;
            assert!((0..10).fold(before, |sum, j| sum ^ table[column(j)]) == after, "row {r}");
        }
        assert_eq!(seen, [true; 4]);
    }

    #[test]
    fn pieces_join_and_batches_differ() {
        let matrix = Matrix::new(Block::new(5, 5));
        let table = random(COLUMNS, 3);
        let mut whole = vec![Block::ZERO; 2048];
        matrix.add_product(0, &table, &mut whole);
        let mut pieces = vec![Block::ZERO; 2048];
        matrix.add_product(0, &table, &mut pieces[..1024]);
        matrix.add_product(1024, &table, &mut pieces[1024..]);
        assert_eq!(whole, pieces);
        Matrix::new(Block::new(5, 6)).add_product(0, &table, &mut pieces);
        assert!(pieces.iter().all(|&block| block != Block::ZERO));
    }
}
