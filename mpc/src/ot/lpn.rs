//! `out_i += sum of 10 pseudo-random entries of a table`: the public matrix of LPN.
//!
//! The local linear code of [YWLZW20]: row `i` of the matrix has 10 ones, at 16-bit columns read from an AES-CTR stream
//! under a public seed, fresh for each batch. The columns are public, so the addresses reveal nothing. The map is
//! linear, and both parties apply it to correlated tables, so it keeps the correlation.
//!
//! [YWLZW20]: crate#references

use crate::block::Block;
use crate::prg::KeyedStreams;

/// Columns of the matrix, and entries of the table.
pub const COLUMNS: usize = 1 << 16;

/// Ones in a row.
const ONES_PER_ROW: usize = 10;

/// Rows that are handled at a time: their columns fill whole blocks.
const ROWS: usize = 256;

/// Blocks of column indices for that many rows.
const INDEX_BLOCKS: usize = ROWS * ONES_PER_ROW * size_of::<u16>() / Block::BYTES;

/// A table of all columns. A fixed size makes every 16-bit index valid.
pub type Table = [Block; COLUMNS];

/// The matrices of all batches of one direction of a session.
pub struct Matrices(KeyedStreams);

impl Matrices {
    /// The matrices of a public seed.
    pub fn new(seed: Block) -> Self {
        Self(KeyedStreams::new(seed))
    }

    /// Adds rows `first_row..` of matrix number `batch`, times the table, to `out`.
    ///
    /// # Panics
    /// If `first_row` or the number of rows is not a multiple of 256.
    pub fn add_product(&self, batch: u64, first_row: usize, table: &Table, out: &mut [Block]) {
        assert!(first_row.is_multiple_of(ROWS) && out.len().is_multiple_of(ROWS));
        let mut indices = [Block::ZERO; INDEX_BLOCKS];
        let mut position = (first_row / ROWS * INDEX_BLOCKS) as u64;
        for out in out.chunks_exact_mut(ROWS) {
            self.0.fill(batch, position, &mut indices);
            position += INDEX_BLOCKS as u64;
            let indices: &[u16] = bytemuck::cast_slice(&indices);
            for (out, columns) in out.iter_mut().zip(indices.as_chunks::<ONES_PER_ROW>().0) {
                let mut sum = *out;
                for &column in columns {
                    sum ^= table[usize::from(column)];
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

    fn table(seed: u64) -> Box<Table> {
        random(COLUMNS, seed).try_into().unwrap()
    }

    #[test]
    fn rows_are_sums_of_ten_columns_of_the_stream() {
        let seed = Block::new(1, 2);
        let table = table(1);
        let before = random(1024, 2);
        let mut out = before.clone();
        Matrices::new(seed).add_product(3, 512, &table, &mut out);
        // Row r uses the 16-bit words 10 r .. 10 r + 10 of stream 3.
        let mut stream = vec![Block::ZERO; (512 + 1024) * 10 / 8];
        KeyedStreams::new(seed).fill(3, 0, &mut stream);
        let word = |w: usize| u128::from(stream[w / 8]) >> (16 * (w % 8)) & 0xffff;
        for (r, (&before, &after)) in before.iter().zip(&out).enumerate() {
            let columns = (0..10).map(|j| word(10 * (512 + r) + j) as usize);
            assert!(columns.fold(before, |sum, column| sum ^ table[column]) == after, "row {r}");
        }
    }

    #[test]
    fn pieces_join_and_batches_differ() {
        let matrices = Matrices::new(Block::new(5, 5));
        let table = table(3);
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
