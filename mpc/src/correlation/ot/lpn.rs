//! `out_i += sum of 10 pseudo-random entries of a table`: the public matrix of LPN.
//!
//! The local linear code of [YWLZW20]: row `i` of the matrix has 10 ones, at columns read from an AES-CTR stream under a
//! public key, fresh for each batch: 10 words of 16 bits, and two more that have bits 16 and 17 of all columns. The columns are
//! public, so the addresses reveal nothing. The map is linear, and both parties apply it to correlated tables, so it keeps the
//! correlation.
//!
//! [YWLZW20]: crate#references

#[cfg(target_arch = "x86_64")]
mod wide;

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
        let table: &[Block; COLUMNS] = table.try_into().expect("the table has an entry for each column");
        let mut indices = [Block::ZERO; INDEX_BLOCKS];
        let mut columns = [[0; WORDS_PER_ROW]; ROWS];
        let mut position = (first_row / ROWS * INDEX_BLOCKS) as u64;
        for out in out.chunks_exact_mut(ROWS) {
            self.0.fill(0, position, &mut indices);
            position += INDEX_BLOCKS as u64;
            join(bytemuck::cast_slice::<Block, u16>(&indices).as_chunks().0, &mut columns);
            for (out, columns) in out.iter_mut().zip(&columns) {
                let mut sum = *out;
                for &column in &columns[..ONES_PER_ROW] {
                    // The table's size, a power of two, makes every masked index valid.
                    sum ^= table[column as usize & (COLUMNS - 1)];
                }
                *out = sum;
            }
        }
    }
}

/// The words of a row, or its columns, the last two of which are none.
type Row<T> = [T; WORDS_PER_ROW];

/// The columns of each row, from its words; of a number the lowest [`COLUMN_BITS`] bits count. They are apart from the sums so that
/// a processor, which looks so many instructions ahead, has more entries of the table on their way.
fn join(words: &[Row<u16>], columns: &mut [Row<u32>]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the feature was detected on this processor.
        return unsafe { wide::join(words, columns) };
    }
    narrow_join(words, columns);
}

/// [`join`] without vectors.
fn narrow_join(words: &[Row<u16>], columns: &mut [Row<u32>]) {
    for (columns, words) in columns.iter_mut().zip(words) {
        let high = high(words);
        *columns = std::array::from_fn(|j| u32::from(words[j]) | (high >> (HIGH_BITS * j)) << 16);
    }
}

/// The highest bits of all columns of a row.
#[inline]
fn high(words: &Row<u16>) -> u32 {
    u32::from(words[ONES_PER_ROW]) | u32::from(words[ONES_PER_ROW + 1]) << 16
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
    fn columns_by_vectors_are_those_without() {
        for rows in [0, 1, ROWS] {
            let stream = random(rows * WORDS_PER_ROW, 4);
            let words = &bytemuck::cast_slice::<Block, u16>(&stream).as_chunks::<WORDS_PER_ROW>().0[..rows];
            let mut both = [(); 2].map(|()| vec![[0; WORDS_PER_ROW]; rows]);
            let [columns, narrow] = &mut both;
            join(words, columns);
            narrow_join(words, narrow);
            assert_eq!(both[0], both[1]);
        }
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
