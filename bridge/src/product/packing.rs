//! Which coefficient carries which element: blocks of two matrices as polynomials (\[HLHD22\], section 3.1).
//!
//! A block of p' x k' of the encrypted A and one of k' x r' of the clear B fill polynomials of p' k' r' <= N coefficients:
//!
//! ```text
//!     A_ij    at  i k' r' + (k' - 1 - j)
//!     B_jl    at  l k' + j
//!     (AB)_il at  i k' r' + l k' + (k' - 1)
//! ```
//!
//! Two elements meet at the place of (i, l) if j = j' and both are those of (i, l): exponents j - j' lie strictly between -k'
//! and k', and a product that wraps around X^N lands below k' - 1, where no output is.
//!
//! The remaining blocks are added up over the inner dimension. Blocks at the lower and right edges keep the places.

use std::ops::Range;

/// Sizes of a product A B: A is `rows` x `inner` and encrypted, B is `inner` x `columns` and clear at the evaluator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// p: rows of A.
    pub rows: usize,
    /// k: columns of A, rows of B.
    pub inner: usize,
    /// r: columns of B.
    pub columns: usize,
}

/// How a product is cut into blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packing {
    degree: usize,
    sizes: Sizes,
    block: Sizes,
}

impl Sizes {
    /// Elements of A.
    pub fn encrypted(&self) -> usize {
        self.rows * self.inner
    }

    /// Elements of B.
    pub fn clear(&self) -> usize {
        self.inner * self.columns
    }

    /// Elements of A B.
    pub fn outputs(&self) -> usize {
        self.rows * self.columns
    }

    pub(super) fn volume(&self) -> Option<usize> {
        self.rows.checked_mul(self.inner)?.checked_mul(self.columns)
    }

    pub(super) fn any_zero(&self) -> bool {
        self.rows == 0 || self.inner == 0 || self.columns == 0
    }
}

impl Packing {
    /// `None` unless p' k' r' <= N, no size is zero and no block has more rows or columns than its matrix. k' may exceed k.
    pub fn new(degree: usize, sizes: Sizes, block: Sizes) -> Option<Self> {
        let small = block.rows <= sizes.rows && block.columns <= sizes.columns;
        let fits = block.volume().is_some_and(|volume| volume <= degree);
        (small && fits && !block.any_zero() && !sizes.any_zero() && sizes.volume().is_some()).then_some(Self {
            degree,
            sizes,
            block,
        })
    }

    /// Of the whole product.
    pub fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// p', k', r'.
    pub fn block(&self) -> Sizes {
        self.block
    }

    /// How many blocks there are along each dimension.
    pub fn blocks(&self) -> Sizes {
        Sizes {
            rows: self.sizes.rows.div_ceil(self.block.rows),
            inner: self.sizes.inner.div_ceil(self.block.inner),
            columns: self.sizes.columns.div_ceil(self.block.columns),
        }
    }

    /// Rows of A in block `i`.
    pub fn rows(&self, i: usize) -> Range<usize> {
        cut(i, self.block.rows, self.sizes.rows)
    }

    /// Inner indices of block `j`.
    pub fn inner(&self, j: usize) -> Range<usize> {
        cut(j, self.block.inner, self.sizes.inner)
    }

    /// Columns of B in block `l`.
    pub fn columns(&self, l: usize) -> Range<usize> {
        cut(l, self.block.columns, self.sizes.columns)
    }

    /// Where A_ij of a block is.
    pub fn encrypted_at(&self, i: usize, j: usize) -> usize {
        i * self.block.inner * self.block.columns + self.block.inner - 1 - j
    }

    /// Where B_jl of a block is.
    pub fn clear_at(&self, j: usize, l: usize) -> usize {
        l * self.block.inner + j
    }

    /// Where (AB)_il of a block is.
    pub fn output_at(&self, i: usize, l: usize) -> usize {
        (i * self.block.columns + l + 1) * self.block.inner - 1
    }

    /// The coefficients of the body of block (`i`, `j`) that meet an element of B at an output, ascending from the one
    /// furthest left of A_00: the others are neither sent nor read.
    pub fn body_coefficients(&self, i: usize, j: usize) -> Vec<usize> {
        let (width, inner) = (self.block.inner, self.inner(j).len());
        let span = self.span(i);
        if span >= self.degree {
            return (0..self.degree).collect();
        }
        let left = (self.block.columns - 1) * width;
        let used = (0..span).filter(|at| at % width >= width - inner);
        used.map(|at| (at + self.degree - left) % self.degree).collect()
    }

    /// How many these are.
    pub fn body_count(&self, i: usize, j: usize) -> usize {
        match self.span(i) {
            span if span >= self.degree => self.degree,
            span => span / self.block.inner * self.inner(j).len(),
        }
    }

    /// Output (i, l) reads (i r' + l - l') k' + k' - 1 - j for all l' < r' and all j: from (r' - 1) k' left of 0 on.
    fn span(&self, i: usize) -> usize {
        let Sizes { inner, columns, .. } = self.block;
        (self.rows(i).len() * columns + columns - 1) * inner
    }
}

fn cut(block: usize, size: usize, whole: usize) -> Range<usize> {
    block * size..((block + 1) * size).min(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn negacyclic(a: &[i64], b: &[i64]) -> Vec<i64> {
        let n = a.len();
        let mut out = vec![0; n];
        for (i, a) in a.iter().enumerate() {
            for (j, b) in b.iter().enumerate() {
                let sign = if i + j < n { 1 } else { -1 };
                out[(i + j) % n] += sign * a * b;
            }
        }
        out
    }

    fn sizes() -> impl Strategy<Value = (Sizes, Sizes)> {
        let sizes = |[rows, inner, columns]: [usize; 3]| Sizes { rows, inner, columns };
        let both = [(1usize..20, 1usize..20), (1usize..20, 1usize..20), (1usize..20, 1usize..20)];
        both.prop_map(move |both| (sizes(both.map(|(size, _)| size)), sizes(both.map(|(size, block)| block.min(size)))))
    }

    proptest! {
        /// Whatever stands in coefficients that are not sent, the outputs are those of the matrices.
        #[test]
        fn blocks_multiply_as_matrices_and_only_used_coefficients_matter((sizes, block) in sizes(), seed: i64) {
            let volume = block.rows * block.inner * block.columns;
            let degree = volume.next_power_of_two();
            let packing = Packing::new(degree, sizes, block).unwrap();
            let mut state = seed;
            let mut next = || { state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407); (state >> 40) % 100 };
            let a: Vec<i64> = (0..sizes.encrypted()).map(|_| next()).collect();
            let b: Vec<i64> = (0..sizes.clear()).map(|_| next()).collect();
            let blocks = packing.blocks();
            for i in 0..blocks.rows {
                for l in 0..blocks.columns {
                    let mut sum = vec![0; degree];
                    for j in 0..blocks.inner {
                        let used = packing.body_coefficients(i, j);
                        prop_assert_eq!(used.len(), packing.body_count(i, j));
                        let mut left: Vec<i64> = (0..degree).map(|_| next()).collect();
                        used.iter().for_each(|&at| left[at] = 0);
                        let mut right = vec![0; degree];
                        for (y, k) in packing.inner(j).enumerate() {
                            for (x, row) in packing.rows(i).enumerate() {
                                prop_assert!(used.contains(&packing.encrypted_at(x, y)));
                                left[packing.encrypted_at(x, y)] = a[row * sizes.inner + k];
                            }
                            for (x, column) in packing.columns(l).enumerate() {
                                right[packing.clear_at(y, x)] = b[k * sizes.columns + column];
                            }
                        }
                        sum.iter_mut().zip(negacyclic(&left, &right)).for_each(|(sum, product)| *sum += product);
                    }
                    for (x, row) in packing.rows(i).enumerate() {
                        for (y, column) in packing.columns(l).enumerate() {
                            let exact: i64 = (0..sizes.inner).map(|k| a[row * sizes.inner + k] * b[k * sizes.columns + column]).sum();
                            prop_assert_eq!(sum[packing.output_at(x, y)], exact);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_no_packing() {
        let sizes = Sizes { rows: 4, inner: 4, columns: 4 };
        let block = |rows, inner, columns| Packing::new(32, sizes, Sizes { rows, inner, columns });
        assert!(block(4, 4, 2).is_some());
        assert!(block(4, 4, 3).is_none());
        assert!(block(0, 4, 2).is_none());
        assert!(block(5, 1, 1).is_none());
        // k' may exceed k, but k is not zero.
        assert!(Packing::new(32, Sizes { inner: 0, ..sizes }, Sizes { rows: 1, inner: 1, columns: 1 }).is_none());
        assert!(
            Packing::new(32, Sizes { rows: usize::MAX, ..sizes }, Sizes { rows: 1, inner: 1, columns: 1 }).is_none()
        );
    }
}
