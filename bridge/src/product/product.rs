//! What each party does when: both cross terms with the cheaper operand encrypted, and the local terms.
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
use super::shares::{centre, join, local_product, transpose};
use super::whole::{Party, ProductPlan, Side};
use crate::error::BridgeError;
use crate::linear::keys::Secrets;
use crate::share::{Ring, RingShare};

impl ProductPlan {
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
        let local = match self.known_to {
            // Its share of the left operand is zero.
            Some(knower) if knower != party => RingShare::zeros(self.sizes.outputs(), Ring::plain(self.ell)),
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

/// A party that has sent its bodies.
pub struct Begun {
    plan: Arc<ProductPlan>,
    party: Party,
    local: RingShare,
    clear: Zeroizing<Vec<u64>>,
}

/// A party that has sent its hints.
pub struct Answered {
    plan: Arc<ProductPlan>,
    party: Party,
    local: RingShare,
    /// v of the term that it evaluated.
    evaluated: Option<RingShare>,
}

/// One party's shares of a product, term by term, p x r words row-major.
#[derive(Debug)]
pub struct Terms {
    /// The product of the own shares, modulo 2^ell; where one party knows the left matrix, zero at the other.
    pub local: RingShare,
    /// Of each cross term z, c + v = 2 z + r with 0 <= r < 2: the one whose operand the client encrypts comes first.
    pub crosses: Vec<RingShare>,
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
        Ok(Terms { local, crosses: crosses.into_iter().flatten().collect() })
    }

    /// The own share of 2 z + rho modulo 2^(ell + 1), rho being the guard bits less their mean: ready for a truncation that
    /// drops one bit more. The secrets serve no other step then ([`super::keys`]).
    ///
    /// # Errors
    /// As [`owner::share`].
    pub fn finish<R: CryptoRng>(self, hints: &[u8], secrets: &Secrets, rng: &mut R) -> Result<RingShare, BridgeError> {
        let party = self.party;
        let Terms { local, crosses } = self.terms(hints, secrets)?;
        let mut joined = join(local, &crosses);
        if party == Party::Server {
            centre(&mut joined, crosses.len(), rng);
        }
        Ok(joined)
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
redacted!(Begun, Answered);
