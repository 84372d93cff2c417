//! Transposition of a 128 x 128 bit matrix, as in [War12], section 7-3.
//!
//! [War12]: crate#references

use crate::primitive::block::Block;

/// Replaces the rows by the columns: bit `c` of row `r` becomes bit `r` of row `c`.
///
/// Seven rounds of swaps of off-diagonal squares, of 64, 32, ..., 1 bits.
pub fn transpose(matrix: &mut [Block; 128]) {
    let mut rows = matrix.map(u128::from);
    swap_squares::<64>(&mut rows, u128::MAX >> 64);
    swap_squares::<32>(&mut rows, 0x0000_0000_ffff_ffff_0000_0000_ffff_ffff);
    swap_squares::<16>(&mut rows, 0x0000_ffff_0000_ffff_0000_ffff_0000_ffff);
    swap_squares::<8>(&mut rows, 0x00ff_00ff_00ff_00ff_00ff_00ff_00ff_00ff);
    swap_squares::<4>(&mut rows, 0x0f0f_0f0f_0f0f_0f0f_0f0f_0f0f_0f0f_0f0f);
    swap_squares::<2>(&mut rows, 0x3333_3333_3333_3333_3333_3333_3333_3333);
    swap_squares::<1>(&mut rows, 0x5555_5555_5555_5555_5555_5555_5555_5555);
    *matrix = rows.map(Block::from);
}

/// In every square of `2 SIZE`, swaps the upper right with the lower left square of `SIZE`. `low` selects the low
/// half of every `2 SIZE` bits.
fn swap_squares<const SIZE: usize>(rows: &mut [u128; 128], low: u128) {
    for pair in rows.chunks_exact_mut(2 * SIZE) {
        let (upper, lower) = pair.split_at_mut(SIZE);
        for (upper, lower) in upper.iter_mut().zip(lower) {
            let difference = (*upper >> SIZE ^ *lower) & low;
            *lower ^= difference;
            *upper ^= difference << SIZE;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha20Rng;

    #[test]
    fn every_bit_lands_in_its_place() {
        let rng = &mut ChaCha20Rng::seed_from_u64(9);
        let rows: [Block; 128] = std::array::from_fn(|_| Block::random(rng));
        let mut columns = rows;
        transpose(&mut columns);
        for (r, &row) in rows.iter().enumerate() {
            for (c, &column) in columns.iter().enumerate() {
                assert_eq!(u128::from(row) >> c & 1, u128::from(column) >> r & 1);
            }
        }
        transpose(&mut columns);
        assert_eq!(rows, columns);
    }
}
