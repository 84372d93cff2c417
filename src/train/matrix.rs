//! Matrices of one party, row by row: what a step computes alone. Numbers wrap, so that they may be shares.

/// A number of a matrix: in the clear, or a share.
pub(super) trait Number: Copy + Default {
    /// self + a b.
    fn plus_product(self, a: Self, b: Self) -> Self;
}

impl Number for i64 {
    fn plus_product(self, a: Self, b: Self) -> Self {
        self + a * b
    }
}

impl Number for u64 {
    fn plus_product(self, a: Self, b: Self) -> Self {
        self.wrapping_add(a.wrapping_mul(b))
    }
}

/// The transpose of a matrix of `columns` columns.
pub(super) fn transpose<T: Number>(x: &[T], columns: usize) -> Vec<T> {
    (0..columns).flat_map(|column| x.iter().skip(column).step_by(columns).copied()).collect()
}

/// a b, of `k` columns and rows; b has `n` columns.
pub(super) fn multiply<T: Number>(a: &[T], b: &[T], k: usize, n: usize) -> Vec<T> {
    let mut product = vec![T::default(); a.len() / k * n];
    for (sums, row) in product.chunks_exact_mut(n).zip(a.chunks_exact(k)) {
        for (a, b) in row.iter().zip(b.chunks_exact(n)) {
            sums.iter_mut().zip(b).for_each(|(sum, b)| *sum = sum.plus_product(*a, *b));
        }
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multiplies_and_transposes() {
        let (a, b) = ([1_i64, 2, 3, 4, 5, 6], [1, 0, -1, 2, 1, 1]);
        assert_eq!(multiply(&a, &b, 3, 2), [2, 7, 5, 16]);
        assert_eq!(transpose(&a, 3), [1, 4, 2, 5, 3, 6]);
        assert_eq!(multiply(&[u64::MAX, 2], &[1, 1], 2, 1), [1]);
    }
}
