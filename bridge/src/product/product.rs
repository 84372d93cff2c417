//! The whole product: both cross terms with the cheaper operand encrypted, the local terms, and what each party does when.
//!
//! ```text
//!     [ProductPlan::begin]     bodies of the own operand                   -> peer      both directions at once
//!     [Begun::answer]          hints for the peer's bodies                 -> peer
//!     [Answered::finish]       2 local + c + v (mod 2^(ell + 1))
//! ```
//!
//! State is moved through the three, messages are owned bytes. A party that owns nothing sends nothing, and expects the same.

use std::sync::Arc;

use lowkey_he::mask::Mask;
use rand::CryptoRng;
use zeroize::Zeroizing;

use super::evaluator::{Public, evaluate};
use super::owner;
use super::packing::Sizes;
use super::plan::{Clear, CrossPlan, PlanError};
use super::shares::{centre, join, local_product, transpose};
use crate::error::BridgeError;
use crate::linear::keys::Secrets;

/// The two parties. Their roles are the same but where one of them knows an operand; the server centres the guard bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// Knows the left operand, where one is known.
    Client,
    /// The other.
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
    sizes: Sizes,
    ell: u32,
    /// Which operand its owner encrypts; the right one is encrypted as the left of the transposed product.
    encrypted: Side,
    /// True if the client knows the left operand, so that its cross term is the only one.
    known: bool,
    /// Of every cross term: each party has keys of its own, so both go by one plan and the same masks.
    cross: CrossPlan,
}

impl ProductPlan {
    /// Both operands are shared: two cross terms.
    ///
    /// # Errors
    /// [`PlanError::Empty`], and [`PlanError::NoRoom`] if nothing fits.
    pub fn shared(domain: u32, sizes: Sizes, ell: u32, answers: Answers) -> Result<Self, PlanError> {
        let of = |encrypted| {
            let cross = answers.cheapest(domain, oriented(sizes, encrypted), ell, Clear::Share)?;
            Ok(Self { sizes, ell, encrypted, known: false, cross })
        };
        match (of(Side::Left), of(Side::Right)) {
            (Ok(left), Ok(right)) if right.total_len() < left.total_len() => Ok(right),
            (Ok(left), _) => Ok(left),
            (_, right) => right,
        }
    }

    /// The client knows the left operand, of magnitudes up to `magnitude`, and the server's share of it is zero: the server encrypts
    /// its share of the right one, and there is no other cross term.
    ///
    /// # Errors
    /// [`PlanError::Empty`], and [`PlanError::NoRoom`] if nothing fits.
    pub fn known_left(
        domain: u32,
        sizes: Sizes,
        ell: u32,
        magnitude: u32,
        answers: Answers,
    ) -> Result<Self, PlanError> {
        let cross = answers.cheapest(domain, oriented(sizes, Side::Right), ell, Clear::Known { magnitude })?;
        Ok(Self { sizes, ell, encrypted: Side::Right, known: true, cross })
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
        if self.known { 1 } else { 2 }
    }

    /// True if `party` encrypts an operand, and needs keys.
    pub fn owns(&self, party: Party) -> bool {
        !self.known || party == Party::Server
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

    /// Encrypts what `party` owns of its shares `left` and `right` (row-major, modulo 2^ell). The message has
    /// [`bodies_len`](Self::bodies_len) bytes.
    ///
    /// # Errors
    /// As [`owner::encrypt`].
    ///
    /// # Panics
    /// If an operand or the masks do not have the sizes of the plan.
    pub fn begin<R: CryptoRng>(
        self: &Arc<Self>,
        party: Party,
        left: &[u64],
        right: &[u64],
        masks: &[Mask<u64>],
        secrets: &mut Secrets,
        rng: &mut R,
    ) -> Result<(Vec<u8>, Begun), BridgeError> {
        let local = match (self.known, party) {
            // Its share of the left operand is zero.
            (true, Party::Server) => Zeroizing::new(vec![0; self.sizes.outputs()]),
            _ => local_product(self.sizes, self.ell, left, right),
        };
        let (own, clear) = match self.encrypted {
            Side::Left => (Zeroizing::new(left.to_vec()), Zeroizing::new(right.to_vec())),
            Side::Right => (transpose(self.sizes.inner, right), transpose(self.sizes.rows, left)),
        };
        let bodies = match self.owns(party) {
            true => owner::encrypt(&self.cross, masks, &own, secrets, rng)?,
            false => Vec::new(),
        };
        Ok((bodies, Begun { plan: Arc::clone(self), party, local, clear }))
    }
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

/// A party that has sent its bodies.
pub struct Begun {
    plan: Arc<ProductPlan>,
    party: Party,
    local: Zeroizing<Vec<u64>>,
    clear: Zeroizing<Vec<u64>>,
}

/// A party that has sent its hints.
pub struct Answered {
    plan: Arc<ProductPlan>,
    party: Party,
    local: Zeroizing<Vec<u64>>,
    /// v of the term that it evaluated.
    evaluated: Option<Zeroizing<Vec<u64>>>,
}

/// One party's part of a product, term by term, p x r words row-major.
pub struct Terms {
    /// ell.
    pub ell: u32,
    /// Modulo 2^ell.
    pub local: Zeroizing<Vec<u64>>,
    /// c and v of the cross terms, modulo 2^(ell + 1): the one whose operand the client encrypts comes first.
    pub crosses: Vec<Zeroizing<Vec<u64>>>,
}

impl Begun {
    /// Multiplies the peer's encrypted operand by the own one. The message has [`ProductPlan::hints_len`] bytes. `public` has
    /// the peer's keys.
    ///
    /// # Errors
    /// As [`evaluate`].
    pub fn answer<R: CryptoRng>(
        self,
        bodies: &[u8],
        public: Public<'_>,
        rng: &mut R,
    ) -> Result<(Vec<u8>, Answered), BridgeError> {
        let Self { plan, party, local, clear } = self;
        let (hints, evaluated) = match plan.owns(party.peer()) {
            true => {
                let evaluated = evaluate(&plan.cross, public, &clear, bodies, rng)?;
                (evaluated.hints, Some(plan.back(evaluated.share)))
            }
            false => {
                empty("the bodies", bodies)?;
                (Vec::new(), None)
            }
        };
        Ok((hints, Answered { plan, party, local, evaluated }))
    }
}

impl Answered {
    /// The own share of every term, from the peer's hints.
    ///
    /// # Errors
    /// As [`owner::share`].
    pub fn terms(self, hints: &[u8], secrets: &Secrets) -> Result<Terms, BridgeError> {
        let Self { plan, party, local, evaluated } = self;
        let owned = match plan.owns(party) {
            true => Some(plan.back(owner::share(&plan.cross, hints, secrets)?)),
            false => {
                empty("the hints", hints)?;
                None
            }
        };
        let crosses = match party {
            Party::Client => [owned, evaluated],
            Party::Server => [evaluated, owned],
        };
        Ok(Terms { ell: plan.ell, local, crosses: crosses.into_iter().flatten().collect() })
    }

    /// The own share of 2 z + rho modulo 2^(ell + 1), rho being the guard bits less their mean: ready for a truncation that
    /// drops one bit more. The secrets serve no other step then ([`super::keys`]).
    ///
    /// # Errors
    /// As [`owner::share`].
    pub fn finish<R: CryptoRng>(
        self,
        hints: &[u8],
        secrets: &Secrets,
        rng: &mut R,
    ) -> Result<Zeroizing<Vec<u64>>, BridgeError> {
        let party = self.party;
        let terms = self.terms(hints, secrets)?;
        let crosses: Vec<&[u64]> = terms.crosses.iter().map(|cross| &cross[..]).collect();
        let mut joined = join(terms.ell, &terms.local, &crosses);
        if party == Party::Server {
            centre(terms.ell, &mut joined, crosses.len(), rng);
        }
        Ok(joined)
    }
}

impl ProductPlan {
    /// A result of the cross plan as p x r.
    fn back(&self, share: Zeroizing<Vec<u64>>) -> Zeroizing<Vec<u64>> {
        match self.encrypted {
            Side::Left => share,
            Side::Right => transpose(self.sizes.columns, &share),
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

fn empty(what: &'static str, bytes: &[u8]) -> Result<(), BridgeError> {
    match bytes.len() {
        0 => Ok(()),
        found => Err(BridgeError::Length { what, expected: 0, found }),
    }
}

macro_rules! redacted {
    ($($state:ident),*) => {$(
        impl std::fmt::Debug for $state {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($state), "([redacted])"))
            }
        }
    )*};
}
redacted!(Begun, Answered, Terms);
