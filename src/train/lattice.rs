//! Products on lattices: [`Products`] by [`lowkey_bridge::product`], with fresh keys of both parties in every step.
//!
//! ```text
//! begin     which step, which answers                 -> peer         32 bytes, before the keys
//!           what the peer needs of the own keys       -> peer         one flight, both ways at once
//! terms     bodies of the own operand                 -> peer         two flights, both ways at once
//!           hints for the peer's bodies               -> peer
//! ```
//!
//! What is claimed of a product says `docs/product.md`; guard bits are removed by the step ([`super::plan`]).

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use lowkey_bridge::product::{
    Answers, CrossPlan, KeyPlan, Party as Role, PeerKeys, PlanError, ProductPlan, Public, Sizes, Terms,
};
use lowkey_bridge::{RerandomiserMasks, Secrets};
use lowkey_he::mask::{EpochSeed, Mask};
use lowkey_mpc::channel::{Channel, FrameKind};
use lowkey_mpc::party::Party;
use rand::CryptoRng;

use super::error::StepError;
use super::plan::{Known, Product, StepPlan};
use super::products::Products;
use super::session::{Agreed, Opening};

/// One party's half of all products of a session.
pub struct Lattice<R> {
    party: Role,
    /// Steps on samples of each party that has some.
    kinds: Vec<(Party, Steps)>,
    epoch: EpochSeed,
    mask0: RerandomiserMasks,
    /// Of a step under way, and which of the kinds it is.
    keys: Option<(usize, Secrets, PeerKeys)>,
    rng: R,
}

/// Masks of one product.
type Masks = Arc<[Mask<u64>]>;

/// The products of steps on samples of one party.
struct Steps {
    plans: HashMap<Product, (Arc<ProductPlan>, Masks)>,
    /// Of this party's keys, and of the peer's.
    key_plans: [KeyPlan; 2],
    answers: Answers,
}

/// Payload bytes of the products of a step, both ways, openings included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProductCost {
    /// Openings, every b*_0, and keys for merging.
    pub keys: usize,
    /// Bodies.
    pub bodies: usize,
    /// Hints.
    pub hints: usize,
    /// Frames, of both parties.
    pub frames: usize,
    /// Products of polynomials, of both parties.
    pub polynomials: usize,
}

impl ProductCost {
    /// Payload bytes.
    pub fn bytes(&self) -> usize {
        self.keys + self.bodies + self.hints
    }
}

impl<R: CryptoRng + Send> Lattice<R> {
    /// The products of the steps of `plans`, one for each party whose samples there are: at other rates they are the same. All masks are expanded
    /// from what both parties agreed on. `rng` draws keys and noise.
    ///
    /// # Errors
    /// [`PlanError::NoRoom`] if a product fits no parameter set.
    pub fn new(plans: &[(&StepPlan, Answers)], party: Party, agreed: &Agreed, rng: R) -> Result<Self, PlanError> {
        let (epoch, party) = (agreed.epoch(), role(party));
        // Who multiplies changes no mask: most are those of both kinds of steps.
        let mut expanded: Vec<(CrossPlan, Masks)> = Vec::new();
        let mut kinds = Vec::new();
        for (plan, answers) in plans {
            let products = product_plans(plan, *answers)?;
            let key_plans = [party, party.peer()].map(|owner| keys_of(&products, owner));
            let with_masks = products.into_iter().map(|(product, plan)| {
                let cross = plan.cross();
                let known = expanded.iter().find(|(other, _)| other == cross).map(|(_, masks)| masks.clone());
                let masks = known.unwrap_or_else(|| {
                    let masks: Masks = cross.masks(&epoch).into();
                    expanded.push((cross.clone(), masks.clone()));
                    masks
                });
                (product, (Arc::new(plan), masks))
            });
            kinds.push((plan.owner, Steps { plans: with_masks.collect(), key_plans, answers: *answers }));
        }
        let all = KeyPlan::of_crosses(expanded.iter().map(|(cross, _)| cross));
        let mask0 = all.masks(&epoch).expect("the sets of products have words of 64 bits");
        Ok(Self { party, kinds, epoch, mask0, keys: None, rng })
    }
}

impl StepPlan {
    /// What the lattice products of a step cost.
    ///
    /// # Errors
    /// [`PlanError::NoRoom`] if a product fits no parameter set.
    pub fn product_cost(&self, answers: Answers) -> Result<ProductCost, PlanError> {
        let plans = product_plans(self, answers)?;
        let mut cost = ProductCost::default();
        for party in [Role::Client, Role::Server] {
            let keys = keys_of(&plans, party).message_len();
            cost.keys += Opening::BYTES + keys;
            cost.frames += 1 + usize::from(keys > 0);
            for (_, plan) in &plans {
                let (bodies, hints) = (plan.bodies_len(party), plan.hints_len(party));
                cost.bodies += bodies;
                cost.hints += hints;
                cost.frames += usize::from(bodies > 0) + usize::from(hints > 0);
            }
        }
        cost.polynomials = plans.iter().map(|(_, plan)| plan.crosses() * plan.cross().count().products).sum();
        Ok(cost)
    }
}

fn product_plans(plan: &StepPlan, answers: Answers) -> Result<Vec<(Product, ProductPlan)>, PlanError> {
    let planned = plan.products().into_iter().zip(1..).map(|(product, domain)| {
        let sizes = Sizes { rows: product.rows, inner: product.inner, columns: product.columns };
        let ell = product.ell.into();
        let plan = match product.known {
            None => ProductPlan::shared(domain, sizes, ell, answers),
            Some(Known { to, most }) => ProductPlan::known_left(domain, sizes, ell, most, role(to), answers),
        };
        plan.map(|plan| (product, plan))
    });
    planned.collect()
}

/// A party as products have it.
fn role(party: Party) -> Role {
    match party {
        Party::Client => Role::Client,
        Party::Server => Role::Server,
    }
}

/// The keys of what a party owns.
fn keys_of(plans: &[(Product, ProductPlan)], party: Role) -> KeyPlan {
    KeyPlan::of(party, plans.iter().map(|(_, plan)| plan))
}

/// Sends a message and receives the peer's; empty ones take no frame.
async fn exchange(channel: &mut Channel, message: Vec<u8>, expected: usize) -> Result<Vec<u8>, StepError> {
    if !message.is_empty() {
        channel.send(FrameKind::Data, message).await?;
    }
    Ok(if expected == 0 { Vec::new() } else { channel.recv(FrameKind::Data, expected).await? })
}

impl<R: CryptoRng + Send> Products for Lattice<R> {
    async fn begin(&mut self, channel: &mut Channel, owner: Party, opening: Opening) -> Result<(), StepError> {
        let kind = self.kinds.iter().position(|(of, _)| *of == owner).expect("steps are on samples that there are");
        let Steps { key_plans: [own, theirs], answers, plans: _ } = &self.kinds[kind].1;
        let opening = opening.with(&match *answers {
            Answers::Plain => [0; 5],
            Answers::Merged => [1, 0, 0, 0, 0],
            Answers::MergedUpTo(most) => {
                let [a, b, c, d] = most.to_le_bytes();
                [2, a, b, c, d]
            }
        });
        let (secrets, message) = own.generate(&self.epoch, &self.mask0, &mut self.rng)?;
        opening.send(channel).await?;
        if !message.is_empty() {
            channel.send(FrameKind::Data, message).await?;
        }
        opening.compare(channel).await?;
        let expected = theirs.message_len();
        let message = if expected == 0 { Vec::new() } else { channel.recv(FrameKind::Data, expected).await? };
        self.keys = Some((kind, secrets, theirs.receive(&self.epoch, &message)?));
        Ok(())
    }

    fn end(&mut self) {
        self.keys = None;
    }

    async fn terms(
        &mut self,
        channel: &mut Channel,
        product: Product,
        left: &[u64],
        right: &[u64],
    ) -> Result<Terms, StepError> {
        let (kind, secrets, keys) = self.keys.as_mut().expect("a step begins with keys");
        let (plan, masks) = self.kinds[*kind].1.plans.get(&product).expect("products are those of the plan");
        let peer = self.party.peer();
        let (bodies, begun) = plan.begin(self.party, left, right, masks, secrets, &mut self.rng)?;
        let bodies = exchange(channel, bodies, plan.bodies_len(peer)).await?;
        let public = Public { masks, mask0: &self.mask0, keys };
        let (hints, answered) = begun.answer(&bodies, public, &mut self.rng)?;
        let hints = exchange(channel, hints, plan.hints_len(peer)).await?;
        Ok(answered.terms(&hints, secrets)?)
    }
}

impl<R> fmt::Debug for Lattice<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lattice({:?}, {} kinds of steps, ..)", self.party, self.kinds.len())
    }
}
