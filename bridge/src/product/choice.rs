//! What is chosen for a cross term, and how much there is to do by it.

use lowkey_he::params::ParameterSet;
use lowkey_he::torus::Rounding;

use super::packing::{Packing, Sizes};

/// What the operand in the clear is to its holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clear {
    /// A share: uniform in Z_{2^ell}, whatever it is a share of.
    Share,
    /// Numbers that the evaluator knows, as residues of -magnitude..=magnitude.
    Known {
        /// Largest magnitude.
        magnitude: u32,
    },
}

/// What is chosen for a cross term, by [`choose`](super::budget::choose) or by hand. Public.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Ring, torus (of 64 bits) and noise.
    pub set: &'static ParameterSet,
    /// D: digits of the clear operand.
    pub digits: u32,
    /// p', k', r'.
    pub block: Sizes,
    /// h: the answers of 2^h columns are merged into one, where it is not 0. Then k' = 2^h and r' = 1.
    pub merge: u32,
    /// rb, r0 and rh.
    pub rounding: Rounding,
}

/// How much there is to send and to multiply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Coefficients of bodies that are sent.
    pub bodies: usize,
    /// Body polynomials, each with a mask of its own.
    pub polynomials: usize,
    /// Hint polynomials.
    pub hints: usize,
    /// Products of a body polynomial and its mask with a clear polynomial.
    pub products: usize,
}

impl Counts {
    /// Of blocks of a packing, digits of the clear operand, and steps of merging.
    pub(super) fn of(packing: &Packing, digits: u32, merge: u32) -> Self {
        let Sizes { rows, inner, columns } = packing.blocks();
        // Blocks differ at the edges only.
        let of_rows = |i: usize| (inner - 1) * packing.body_count(i, 0) + packing.body_count(i, inner - 1);
        let bodies = digits as usize * ((rows - 1) * of_rows(0) + of_rows(rows - 1));
        let polynomials = digits as usize * rows * inner;
        Self { bodies, polynomials, hints: rows * columns.div_ceil(1 << merge), products: polynomials * columns }
    }
}
