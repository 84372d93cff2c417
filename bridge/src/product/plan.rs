//! What both parties know of one cross term: sizes, ring, blocks, roundings; and what travels, to the byte.

use std::ops::Range;

use lowkey_he::mask::{EpochSeed, Mask, MaskId};
use lowkey_he::ring::Ring;
use lowkey_he::{Norms, pack};

use super::budget::{self, NoRoom};
use super::choice::{Choice, Clear, Counts};
use super::digits::Digits;
use super::merge;
use super::packing::{Packing, Sizes};
use crate::parameters::LayerParameters;

/// Why a choice is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// A size is zero.
    #[error("a product needs rows, columns and an inner dimension, but one of these sizes is 0")]
    Empty,
    /// Its blocks, digits, set or widths do not go together.
    #[error("blocks, digits and widths of the product do not go together")]
    Inconsistent,
    /// The noise would reach the result.
    #[error("the noise of the product exceeds what its ring forgives: round off less, or cut it into more digits")]
    Noise,
    /// Nothing fits.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
}

/// One cross term A B: A encrypted by its owner, B clear at the evaluator, both modulo 2^ell, row-major.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrossPlan {
    domain: u32,
    parameters: LayerParameters,
    clear: Clear,
    packing: Packing,
    merge: u32,
    digits: Digits,
}

fn filled(sizes: Sizes) -> Result<(), PlanError> {
    if sizes.any_zero() { Err(PlanError::Empty) } else { Ok(()) }
}

impl CrossPlan {
    /// The cheapest plan that fits, without merging. `domain` names the masks: no two products under one secret share it.
    ///
    /// # Errors
    /// [`PlanError::Empty`], and [`PlanError::NoRoom`] if no parameter set has room.
    pub fn cheapest(domain: u32, sizes: Sizes, ell: u32, clear: Clear) -> Result<Self, PlanError> {
        filled(sizes)?;
        Self::new(domain, sizes, ell, clear, budget::choose(sizes, ell, clear)?)
    }

    /// The cheapest plan that merges answers, in up to [`merge::STEPS`] steps: [`super::merge`] has its keys.
    ///
    /// # Errors
    /// As [`cheapest`](Self::cheapest).
    pub fn merged(domain: u32, sizes: Sizes, ell: u32, clear: Clear) -> Result<Self, PlanError> {
        Self::merged_up_to(domain, sizes, ell, clear, merge::STEPS)
    }

    /// [`merged`](Self::merged) in up to `steps` steps, within 1..=[`MAX_STEPS`](merge::MAX_STEPS).
    ///
    /// # Errors
    /// As [`cheapest`](Self::cheapest).
    pub fn merged_up_to(domain: u32, sizes: Sizes, ell: u32, clear: Clear, steps: u32) -> Result<Self, PlanError> {
        filled(sizes)?;
        Self::new(domain, sizes, ell, clear, budget::choose_merged(sizes, ell, clear, steps)?)
    }

    /// The plan of a choice, once its widths and its noise have been checked.
    ///
    /// # Errors
    /// [`PlanError::Empty`], [`PlanError::Inconsistent`] or [`PlanError::Noise`].
    pub fn new(domain: u32, sizes: Sizes, ell: u32, clear: Clear, choice: Choice) -> Result<Self, PlanError> {
        filled(sizes)?;
        let Choice { set, digits, block, merge, rounding } = choice;
        let packing = Packing::new(set.degree, sizes, block).ok_or(PlanError::Inconsistent)?;
        let merged = block.columns == 1 && block.inner.is_power_of_two() && block.inner.trailing_zeros() == merge;
        if merge > 0 && !merged {
            return Err(PlanError::Inconsistent);
        }
        let parameters = LayerParameters { set, ell, rounding };
        let digits = Digits { ell, count: digits };
        let sound = set.torus_bits == 64
            && parameters.consistent()
            && ell + merge + 3 <= set.torus_bits
            && rounding.body < parameters.log_scaling() - merge
            && digits.none_is_empty()
            && rounding.b0 < set.torus_bits;
        if !sound {
            return Err(PlanError::Inconsistent);
        }
        let known =
            matches!(clear, Clear::Known { magnitude } if digits.count != 1 || u64::from(magnitude) << 1 >= 1 << ell);
        let masks_have_names = ![MaskId::RERANDOMISER.layer, merge::DOMAIN].contains(&domain)
            && u32::try_from(Counts::of(&packing, digits.count, merge).polynomials).is_ok();
        if known || !masks_have_names {
            return Err(PlanError::Inconsistent);
        }
        let plan = Self { domain, parameters, clear, packing, merge, digits };
        match plan.margin_bits() >= 0.0 {
            true => Ok(plan),
            false => Err(PlanError::Noise),
        }
    }

    /// Sizes of the matrices.
    pub fn sizes(&self) -> Sizes {
        self.packing.sizes()
    }

    /// Blocks.
    pub fn packing(&self) -> &Packing {
        &self.packing
    }

    /// Set, ell, roundings, and the widths that follow from them.
    pub fn parameters(&self) -> &LayerParameters {
        &self.parameters
    }

    /// What the clear operand is.
    pub fn clear(&self) -> Clear {
        self.clear
    }

    /// What both parties agreed on.
    pub fn choice(&self) -> Choice {
        let LayerParameters { set, rounding, .. } = self.parameters;
        Choice { set, digits: self.digits.count, block: self.packing.block(), merge: self.merge, rounding }
    }

    pub(super) fn digits(&self) -> Digits {
        self.digits
    }

    /// How much there is to send and to multiply.
    pub fn count(&self) -> Counts {
        Counts::of(&self.packing, self.digits.count, self.merge)
    }

    /// Where a message of digit place 0 begins in a body.
    pub(super) fn log_scaling(&self) -> u32 {
        self.parameters.log_scaling() - self.merge
    }

    /// Hints for each block of rows.
    pub(super) fn hint_blocks(&self) -> usize {
        self.packing.blocks().columns.div_ceil(1 << self.merge)
    }

    /// Columns of A B in hint `l` of a block of rows.
    pub(super) fn hint_columns(&self, l: usize) -> Range<usize> {
        match self.merge {
            0 => self.packing.columns(l),
            merge => l << merge..((l + 1) << merge).min(self.sizes().columns),
        }
    }

    /// Where the result of row `i` and column `l` of a hint is.
    pub(super) fn output_at(&self, i: usize, l: usize) -> usize {
        match self.merge {
            0 => self.packing.output_at(i, l),
            merge => (i << merge) + l,
        }
    }

    /// Bytes from the owner: the bodies.
    pub fn bodies_len(&self) -> usize {
        pack::packed_len(self.count().bodies, self.parameters.full_width())
    }

    /// Bytes of one hint.
    pub(super) fn hint_len(&self) -> usize {
        pack::packed_len(self.parameters.set.degree, self.parameters.hint_width())
    }

    /// Bytes from the evaluator: the hints.
    pub fn hints_len(&self) -> usize {
        self.count().hints * self.hint_len()
    }

    /// The norms of one polynomial column of the clear operand, as planned.
    pub fn planned_norms(&self) -> Norms {
        let Sizes { inner, .. } = self.sizes();
        budget::norms(self.clear, self.parameters.ell, self.digits.count, inner, self.packing.block().columns)
    }

    /// log2 of the noise that is allowed over the noise that is planned.
    pub fn margin_bits(&self) -> f64 {
        budget::planned_margin_bits(&self.parameters, self.planned_norms(), self.merge)
    }

    /// The masks of all bodies, by rows of blocks, digits, blocks of the inner dimension. They are public, and the same
    /// in every step if each has fresh secrets.
    pub fn masks(&self, epoch: &EpochSeed) -> Vec<Mask<u64>> {
        use rayon::prelude::*;
        let ring = Ring::<u64>::shared(self.parameters.set).expect("a plan has a torus of 64 bits");
        let id = |ciphertext| MaskId { layer: self.domain, ciphertext };
        (0..self.count().polynomials as u32).into_par_iter().map(|j| Mask::expand(ring, epoch, id(j))).collect()
    }

    /// Which body polynomial holds digit place `digit` of block (`row`, `inner`).
    pub(super) fn polynomial(&self, row: usize, digit: u32, inner: usize) -> usize {
        (row * self.digits.count as usize + digit as usize) * self.packing.blocks().inner + inner
    }
}
