//! What both parties know of a whole product: which operand is encrypted, its cross terms, and what travels, to the byte.

use super::choice::Clear;
use super::packing::Sizes;
use super::plan::{CrossPlan, PlanError};
use super::shares::transpose;
use crate::share::RingShare;

/// The two parties. Their roles are the same but where one of them knows an operand; the server centres the guard bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// The one whose share of a cross term comes first in formulas, c.
    Client,
    /// The other, v.
    Server,
}

/// The operands of a product, or which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// p x k.
    Left,
    /// k x r.
    Right,
}

/// How answers travel. Merged is the default: a training step takes 2.4 MB instead of 7.1. Plain assumes less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Answers {
    /// One hint for each block of columns: Ring-LWE alone (R1, R2 in `docs/product.md`).
    Plain,
    /// Many columns in one hint: a fraction of the bytes, and keys for merging ([`super::merge`]) in up to
    /// [`STEPS`](super::merge::STEPS) steps, with circular security (R3) as one more assumption.
    #[default]
    Merged,
    /// The same with keys for so many steps: for products that are alike, of many rows and few columns.
    MergedUpTo(u32),
}

impl Party {
    /// The other one.
    pub fn peer(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

impl Answers {
    fn cheapest(self, domain: u32, sizes: Sizes, ell: u32, clear: Clear) -> Result<CrossPlan, PlanError> {
        match self {
            Self::Plain => CrossPlan::cheapest(domain, sizes, ell, clear),
            Self::Merged => CrossPlan::merged(domain, sizes, ell, clear),
            Self::MergedUpTo(steps) => CrossPlan::merged_up_to(domain, sizes, ell, clear, steps),
        }
    }
}

/// A product L R, p x k times k x r modulo 2^ell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProductPlan {
    pub(super) sizes: Sizes,
    pub(super) ell: u32,
    /// Which operand its owner encrypts; the right one is encrypted as the left of the transposed product.
    pub(super) encrypted: Side,
    /// Who knows the left operand, if one party does: its cross term is the only one then.
    pub(super) known_to: Option<Party>,
    /// Of every cross term: each party has keys of its own, so both go by one plan and the same masks.
    pub(super) cross: CrossPlan,
}

impl ProductPlan {
    /// Both operands are shared: two cross terms.
    ///
    /// # Errors
    /// [`PlanError::Empty`], and [`PlanError::NoRoom`] if nothing fits.
    pub fn shared(domain: u32, sizes: Sizes, ell: u32, answers: Answers) -> Result<Self, PlanError> {
        let of = |encrypted| {
            let cross = answers.cheapest(domain, oriented(sizes, encrypted), ell, Clear::Share)?;
            Ok(Self { sizes, ell, encrypted, known_to: None, cross })
        };
        match (of(Side::Left), of(Side::Right)) {
            (Ok(left), Ok(right)) if right.total_len() < left.total_len() => Ok(right),
            (Ok(left), _) => Ok(left),
            (_, right) => right,
        }
    }

    /// `knower` knows the left operand, of magnitudes up to `magnitude`, and the other party's share of it is zero: that one encrypts
    /// its share of the right one, and there is no other cross term. Sizes, masks and bytes are the same whoever it is.
    ///
    /// # Errors
    /// [`PlanError::Empty`], and [`PlanError::NoRoom`] if nothing fits.
    pub fn known_left(
        domain: u32,
        sizes: Sizes,
        ell: u32,
        magnitude: u32,
        knower: Party,
        answers: Answers,
    ) -> Result<Self, PlanError> {
        let cross = answers.cheapest(domain, oriented(sizes, Side::Right), ell, Clear::Known { magnitude })?;
        Ok(Self { sizes, ell, encrypted: Side::Right, known_to: Some(knower), cross })
    }

    /// p, k, r.
    pub fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// ell: the width of the operands' shares; the result's is one more.
    pub fn ell(&self) -> u32 {
        self.ell
    }

    /// Which operand is encrypted.
    pub fn encrypted(&self) -> Side {
        self.encrypted
    }

    /// The plan of each cross term; the masks are [`CrossPlan::masks`].
    pub fn cross(&self) -> &CrossPlan {
        &self.cross
    }

    /// Cross terms: 1 or 2.
    pub fn crosses(&self) -> usize {
        if self.known_to.is_some() { 1 } else { 2 }
    }

    /// True if `party` encrypts an operand, and needs keys.
    pub fn owns(&self, party: Party) -> bool {
        self.known_to != Some(party)
    }

    /// Bytes of the bodies that `party` sends.
    pub fn bodies_len(&self, party: Party) -> usize {
        if self.owns(party) { self.cross.bodies_len() } else { 0 }
    }

    /// Bytes of the hints that `party` sends.
    pub fn hints_len(&self, party: Party) -> usize {
        if self.owns(party.peer()) { self.cross.hints_len() } else { 0 }
    }

    /// Bytes both ways, without keys.
    pub fn total_len(&self) -> usize {
        self.crosses() * (self.cross.bodies_len() + self.cross.hints_len())
    }

    /// A result of the cross plan as p x r.
    pub(super) fn back(&self, share: RingShare) -> RingShare {
        match self.encrypted {
            Side::Left => share,
            Side::Right => RingShare::new(transpose(self.sizes.columns, share.words()), share.ring()),
        }
    }
}

/// The product in which the encrypted operand is the left one.
fn oriented(sizes: Sizes, encrypted: Side) -> Sizes {
    match encrypted {
        Side::Left => sizes,
        Side::Right => Sizes { rows: sizes.columns, inner: sizes.inner, columns: sizes.rows },
    }
}
