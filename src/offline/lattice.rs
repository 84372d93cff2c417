//! What the client's lattice work of one slot sends, message by message, and the shares that come of it.
//!
//! ```text
//!     b*_0 of every secret;  then, tensor by tensor, the pad xhat and the bodies of every term that reads it;  c of every layer
//! ```
//!
//! A function of the public package and of the [`Draws`], and of nothing else: one walk sends it, and computes it again
//! where a slot is opened.

use lowkey_bridge::{Secrets, keys};
use lowkey_mpc::erasing::OnceRng;
use lowkey_mpc::party::Party;

use super::client_share;
use super::seed::{Draw, SlotSeed};
use crate::error::{Error, Result};
use crate::node::Halves;
use crate::plan::{Plan, Step, TensorId};
use crate::publication::ClientModel;
use crate::share::{Ring, RingShare};

/// A message of the walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// Every b*_0.
    Keys,
    /// The bodies of an entry of [`Plan::uploads`].
    Bodies(usize),
}

/// Where the randomness of a walk comes from.
pub(crate) enum Draws<'a> {
    /// One generator, in the order of the walk.
    Once(&'a mut OnceRng),
    /// A generator for each draw, of the slot's seed.
    Seeded(&'a SlotSeed),
}

impl Draws<'_> {
    /// Draws from the generator of `draw`.
    fn from<T>(&mut self, draw: Draw, take: impl FnOnce(&mut OnceRng) -> T) -> T {
        match self {
            Self::Once(rng) => take(rng),
            Self::Seeded(seed) => take(&mut seed.rng(draw)),
        }
    }
}

/// The walk.
pub(crate) struct Lattice<'a> {
    model: &'a ClientModel,
    draws: Draws<'a>,
    secrets: Secrets,
    /// Until it is sent.
    b0: Option<Vec<u8>>,
    halves: Halves,
    /// Tensors with pads of their own whose turn is to come, the next one last.
    tensors: Vec<TensorId>,
    /// The last whose pads were made.
    made: Option<TensorId>,
    /// The next of [`Plan::uploads`].
    upload: usize,
}

impl<'a> Lattice<'a> {
    /// Draws the secrets.
    pub(crate) fn new(model: &'a ClientModel, mut draws: Draws<'a>) -> Result<Self> {
        let plan = &model.plan;
        let generated = draws.from(Draw::Keys, |rng| keys::generate(&plan.sets, &model.masks, rng));
        let (secrets, b0) = generated.map_err(Error::internal)?;
        let halves = Halves::new(plan.steps.len(), Party::Client);
        Ok(Self { model, draws, secrets, b0: Some(b0), halves, tensors: roots(plan), made: None, upload: 0 })
    }

    /// The next message; `None` when all were given.
    pub(crate) fn next(&mut self) -> Result<Option<(Message, Vec<u8>)>> {
        if let Some(b0) = self.b0.take() {
            return Ok(Some((Message::Keys, b0)));
        }
        let plan = &self.model.plan;
        loop {
            let index = self.upload;
            if self.made.is_some() && plan.uploads.get(index).map(|upload| upload.tensor) == self.made {
                self.upload += 1;
                return Ok(Some((Message::Bodies(index), self.bodies(index)?)));
            }
            let Some(tensor) = self.tensors.pop() else { return Ok(None) };
            self.pad(tensor);
            self.made = Some(tensor);
        }
    }

    /// The bodies of one term, which may define pads.
    fn bodies(&mut self, index: usize) -> Result<Vec<u8>> {
        let upload = &self.model.plan.uploads[index];
        let layer = self.model.layers[upload.linear].as_ref().expect("an upload belongs to an encrypted layer");
        let (secrets, pads) = (&mut self.secrets, &mut self.halves.shared[upload.tensor]);
        let encrypt = |rng: &mut OnceRng| pads.change(|pads| layer.encrypt_pads(upload.term, secrets, pads, rng));
        self.draws.from(Draw::Errors { upload: index }, encrypt).map_err(Error::internal)
    }

    /// The pad of a tensor: what its step makes of other pads, or random.
    fn pad(&mut self, tensor: TensorId) {
        let plan = &self.model.plan;
        match tensor.maker().map(|node| &plan.steps[node]) {
            Some(step @ Step::Local { .. }) => self.halves.local(step),
            Some(Step::Linear(_) | Step::Nonlinear(_) | Step::Reshape) | None => {
                let Some((ring, _)) = plan.shared(tensor) else { return };
                let (elements, ring) = (plan.tensors[tensor].elements(), Ring::plain(ring));
                let pads = self.draws.from(Draw::Pads(tensor), |rng| RingShare::random(elements, ring, rng));
                self.halves.shared[tensor] = pads;
            }
        }
    }

    /// The client's half: xhat of every tensor, c of every layer. The secrets are wiped.
    ///
    /// # Panics
    /// If messages are left.
    pub(crate) fn finish(mut self) -> Result<Halves> {
        assert!(self.b0.is_none() && self.tensors.is_empty(), "every message was given");
        for (linear, node) in self.model.plan.linear.iter().enumerate() {
            self.halves.accumulators[node.node] = client_share(self.model, linear, &self.secrets, &self.halves)?;
        }
        Ok(self.halves)
    }
}

/// Tensors that store pads of their own, the last first.
fn roots(plan: &Plan) -> Vec<TensorId> {
    let is_root = |tensor: &TensorId| plan.shared(*tensor).is_some_and(|(_, root)| root == *tensor);
    plan.holdings.ids().rev().filter(is_root).collect()
}

#[cfg(test)]
mod tests {
    use lowkey_models::zoo;
    use lowkey_mpc::erasing::Erasing;
    use zeroize::Zeroizing;

    use super::*;
    use crate::plan::{Holding, Link};
    use crate::publication::ServerModel;
    use crate::store::Key;

    fn messages(mut lattice: Lattice<'_>) -> (Vec<(Message, Vec<u8>)>, Halves) {
        let messages = std::iter::from_fn(|| lattice.next().unwrap()).collect();
        (messages, lattice.finish().unwrap())
    }

    /// The client's offline stage as one loop over the holdings, written down from the protocol.
    fn written_out(model: &ClientModel, rng: &mut OnceRng) -> (Vec<Vec<u8>>, Halves) {
        let plan = &model.plan;
        let (mut secrets, b0) = keys::generate(&plan.sets, &model.masks, rng).unwrap();
        let (mut sent, mut halves) = (vec![b0], Halves::new(plan.steps.len(), Party::Client));
        let mut uploads = plan.uploads.iter().peekable();
        for (tensor, holding) in plan.holdings.pairs() {
            let &Holding::Shared { ring, root } = holding else { continue };
            if root != tensor {
                continue;
            }
            match tensor.maker().map(|node| &plan.steps[node]) {
                Some(step @ Step::Local { .. }) => halves.local(step),
                _ => {
                    let elements = plan.tensors[tensor].elements();
                    halves.shared[tensor] = RingShare::random(elements, Ring::plain(ring), rng);
                }
            }
            while let Some(upload) = uploads.next_if(|upload| upload.tensor == tensor) {
                let layer = model.layers[upload.linear].as_ref().unwrap();
                let pads = &mut halves.shared[tensor];
                let encrypt = |pads: &mut [u64]| layer.encrypt_pads(upload.term, &mut secrets, pads, rng);
                sent.push(pads.change(encrypt).unwrap());
            }
        }
        for (linear, node) in plan.linear.iter().enumerate() {
            halves.accumulators[node.node] = client_share(model, linear, &secrets, &halves).unwrap();
        }
        (sent, halves)
    }

    /// What is shared, and accumulators.
    fn values(halves: &Halves) -> Vec<(Ring, &[u64])> {
        let all = halves.shared.iter().chain(halves.accumulators.iter());
        all.map(|share| (share.ring(), share.words())).collect()
    }

    /// With one generator the bytes are those of the protocol's order of draws; with a seed they are others, as many, and the same
    /// whenever it is used. Networks with sums, averages and several terms of a layer.
    #[test]
    fn the_order_of_draws_and_a_seed() {
        for name in ["digits", "cifar10-resnet20-w2a2"] {
            let network = zoo::find(name).unwrap().network();
            let server = ServerModel::publish(&network, Link::default(), &Key::from([7; 32]), &|_, _| ()).unwrap();
            let model = server.client_half().unwrap();
            let [mut own, mut again] = [(); 2].map(|()| Erasing::new([9; 32]).next_rng());
            let (sent, halves) = messages(Lattice::new(&model, Draws::Once(&mut own)).unwrap());
            let (expected, expected_halves) = written_out(&model, &mut again);
            assert!(sent.iter().map(|(_, bytes)| bytes).eq(&expected), "{name}");
            assert!(values(&halves) == values(&expected_halves), "{name}");
            assert_eq!(own, again, "{name}: nothing more is drawn");

            let seed = SlotSeed::new(Zeroizing::new([9; 32]));
            let [first, second] = [(); 2].map(|()| messages(Lattice::new(&model, Draws::Seeded(&seed)).unwrap()));
            assert!(first.0 == second.0 && values(&first.1) == values(&second.1), "{name}");
            assert_eq!(first.0.len(), 1 + model.plan.uploads.len());
            for ((message, bytes), (unseeded, others)) in first.0.iter().zip(&sent) {
                assert!(message == unseeded && bytes.len() == others.len() && bytes != others, "{name}: {message:?}");
            }
        }
    }
}
