//! `out_i += sum of 10 pseudo-random entries of a table`: the public matrix of LPN.
//!
//! The local linear code of [YWLZW20]: row `i` of the matrix has 10 ones, at columns read from an AES-CTR stream under a
//! public seed, fresh for each batch: 11 words of 16 bits, whose last one has bit 16 of each column. The columns are public, so
//! the addresses reveal nothing. The map is linear, and both parties apply it to correlated tables, so it keeps the
//! correlation.
//!
//! [YWLZW20]: crate#references

use crate::block::Block;
use crate::prg::KeyedStreams;

/// Columns of a small matrix.
pub const FEW_COLUMNS: usize = 1 << 16;

/// Columns of a large matrix.
pub const MANY_COLUMNS: usize = 1 << 17;

/// Ones in a row.
const ONES_PER_ROW: usize = 10;

/// Words of the stream for a row.
const WORDS_PER_ROW: usize = ONES_PER_ROW + 1;

/// Rows that are handled at a time: their columns fill whole blocks.
const ROWS: usize = 256;

/// Blocks of column indices for that many rows.
const INDEX_BLOCKS: usize = ROWS * WORDS_PER_ROW * size_of::<u16>() / Block::BYTES;

/// The matrices of all batches of one direction of a session.
pub struct Matrices(KeyedStreams);

impl Matrices {
    /// The matrices of a public seed.
    pub fn new(seed: Block) -> Self {
        Self(KeyedStreams::new(seed))
    }

    /// Adds rows `first_row..` of matrix number `batch`, times the table, to `out`. The matrix has a column for each entry.
    ///
    /// # Panics
    /// If `first_row` or the number of rows is not a multiple of 256, or there is no matrix with so many columns.
    pub fn add_product(&self, batch: u64, first_row: usize, table: &[Block], out: &mut [Block]) {
        match table.len() {
            FEW_COLUMNS => self.add::<FEW_COLUMNS>(batch, first_row, table, out),
            MANY_COLUMNS => self.add::<MANY_COLUMNS>(batch, first_row, table, out),
            other => panic!("no matrix has {other} columns"),
        }
    }

    fn add<const COLUMNS: usize>(&self, batch: u64, first_row: usize, table: &[Block], out: &mut [Block]) {
        assert!(first_row.is_multiple_of(ROWS) && out.len().is_multiple_of(ROWS));
        // A fixed size, a power of two, makes every masked index valid.
        let table: &[Block; COLUMNS] = table.try_into().expect("the length was matched");
        let mut indices = [Block::ZERO; INDEX_BLOCKS];
        let mut position = (first_row / ROWS * INDEX_BLOCKS) as u64;
        for out in out.chunks_exact_mut(ROWS) {
            self.0.fill(batch, position, &mut indices);
            position += INDEX_BLOCKS as u64;
            let words: &[u16] = bytemuck::cast_slice(&indices);
            for (out, words) in out.iter_mut().zip(words.as_chunks::<WORDS_PER_ROW>().0) {
                let high = usize::from(words[ONES_PER_ROW]);
                let mut sum = *out;
                for (j, &word) in words[..ONES_PER_ROW].iter().enumerate() {
                    let column = usize::from(word) | (high >> j & 1) << 16;
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
        for columns in [FEW_COLUMNS, MANY_COLUMNS] {
            let seed = Block::new(1, 2);
            let table = random(columns, 1);
            let before = random(1024, 2);
            let mut out = before.clone();
            Matrices::new(seed).add_product(3, 512, &table, &mut out);
            // Row r uses the 16-bit words 11 r .. 11 r + 11 of stream 3, the last one for the highest bits.
            let mut stream = vec![Block::ZERO; (512 + 1024) * 11 / 8];
            KeyedStreams::new(seed).fill(3, 0, &mut stream);
            let word = |w: usize| (u128::from(stream[w / 8]) >> (16 * (w % 8)) & 0xffff) as usize;
            for (r, (&before, &after)) in before.iter().zip(&out).enumerate() {
                let first = 11 * (512 + r);
                let column = |j: usize| (word(first + j) + (word(first + 10) >> j & 1) * 65_536) % columns;
                assert!((0..10).fold(before, |sum, j| sum ^ table[column(j)]) == after, "row {r}");
            }
        }
    }

    #[test]
    fn pieces_join_and_batches_differ() {
        let matrices = Matrices::new(Block::new(5, 5));
        for columns in [FEW_COLUMNS, MANY_COLUMNS] {
            let table = random(columns, 3);
            let mut whole = vec![Block::ZERO; 2048];
            matrices.add_product(0, 0, &table, &mut whole);
            let mut pieces = vec![Block::ZERO; 2048];
            matrices.add_product(0, 0, &table, &mut pieces[..1024]);
            matrices.add_product(0, 1024, &table, &mut pieces[1024..]);
            assert_eq!(whole, pieces);
            matrices.add_product(1, 0, &table, &mut pieces);
            assert!(pieces.iter().all(|&block| block != Block::ZERO));
        }
    }
}
