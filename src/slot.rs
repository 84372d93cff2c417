//! Inference slots: what both parties prepare before an input exists. A slot is used once, by being moved.

use lowkey_bridge::OfflineShare;
use lowkey_mpc::ot::base::SessionId;
use lowkey_mpc::program;

use crate::answer::AnswerReady;
use crate::node::ByNode;
use crate::share::RingShare;

/// The client's half of a prepared inference. Not cloneable, never stored; using it moves it.
pub struct ClientSlot {
    /// A slot works in its own session only.
    pub(crate) session: SessionId,
    pub(crate) number: u64,
    /// xhat of the network's input; the other pads have gone into programs.
    pub(crate) pad: RingShare,
    /// Of every node that has a program.
    pub(crate) programs: ByNode<Option<program::ReadyProgram>>,
    pub(crate) answer: AnswerReady,
}

impl ClientSlot {
    /// Bytes of memory that it holds.
    pub fn held_bytes(&self) -> usize {
        size_of_val(self.pad.words()) + programs_bytes(&self.programs) + self.answer.held_bytes()
    }
}

fn programs_bytes(programs: &ByNode<Option<program::ReadyProgram>>) -> usize {
    programs.iter().flatten().map(program::ReadyProgram::held_bytes).sum()
}

impl std::fmt::Debug for ClientSlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        slot_name(f, "ClientSlot", self.number)
    }
}

/// What a slot, or what belongs to one, prints: its number, and nothing of what it holds.
pub(crate) fn slot_name(f: &mut std::fmt::Formatter<'_>, what: &str, number: u64) -> std::fmt::Result {
    write!(f, "{what}({number}, [redacted])")
}

/// v_off of every linear node with encrypted terms, by their places in [`Plan::linear`](crate::plan::Plan::linear).
pub struct OfflineShares(Vec<Option<OfflineShare>>);

impl OfflineShares {
    /// None yet, of a plan with `linear` linear nodes.
    pub(crate) fn none(linear: usize) -> Self {
        Self(std::iter::repeat_with(|| None).take(linear).collect())
    }

    /// Keeps that of a linear node of the plan.
    pub(crate) fn keep(&mut self, linear: usize, share: OfflineShare) {
        self.0[linear] = Some(share);
    }

    /// That of a linear node, if it has one.
    pub(crate) fn get(&self, linear: usize) -> Option<&OfflineShare> {
        self.0.get(linear)?.as_ref()
    }

    /// Takes that of a linear node, if it has one.
    pub(crate) fn take(&mut self, linear: usize) -> Option<OfflineShare> {
        self.0.get_mut(linear)?.take()
    }

    /// Bytes of memory that they hold.
    pub(crate) fn held_bytes(&self) -> usize {
        self.0.iter().flatten().map(OfflineShare::held_bytes).sum()
    }
}

impl std::fmt::Debug for OfflineShares {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OfflineShares([redacted])")
    }
}

/// The server's half of a prepared inference.
pub(crate) struct ServerSlot {
    pub(crate) number: u64,
    /// v_off of every linear node with encrypted terms.
    pub(crate) shares: OfflineShares,
    pub(crate) programs: ByNode<Option<program::ReadyProgram>>,
    pub(crate) answer: AnswerReady,
}

impl ServerSlot {
    /// Bytes of memory that it holds: those of [`Plan::slot_bytes`](crate::plan::Plan::slot_bytes).
    pub(crate) fn held_bytes(&self) -> usize {
        self.shares.held_bytes() + programs_bytes(&self.programs) + self.answer.held_bytes()
    }
}

#[cfg(test)]
mod tests {
    use lowkey_models::zoo;
    use lowkey_mpc::channel::Channel;
    use lowkey_mpc::erasing::Erasing;
    use lowkey_mpc::ot::Correlations;
    use lowkey_mpc::party::{Party, Stage};

    use super::OfflineShares;
    use crate::error::Error;
    use crate::node::{ByNode, Halves};
    use crate::plan::{Link, Reveal, TensorId};
    use crate::publication::{ClientModel, ServerModel};
    use crate::share::RingShare;
    use crate::store::Key;
    use crate::{offline, online};

    /// A slot holds to the byte what the plan says, and the session's OTs no more than that, whatever is revealed.
    #[tokio::test]
    async fn a_server_holds_what_was_planned() {
        let network = zoo::find("digits").unwrap().network();
        let server = ServerModel::publish(&network, Link::default(), &Key::from([7; 32]), &|_, _| ()).unwrap();
        let client = ClientModel::open(server.package.derive().unwrap(), &server.package, &|_, _| ()).unwrap();
        let (mut to_server, mut to_client) = Channel::pair();
        let [mut own, mut theirs] = [1, 2].map(|seed| Erasing::new([seed; 32]));
        let (rng_c, rng_s) = (&mut own.next_rng(), &mut theirs.next_rng());
        let (ot_c, ot_s) =
            tokio::join!(Correlations::setup(&mut to_server, rng_c), Correlations::setup(&mut to_client, rng_s));
        let (mut ot_c, mut ot_s) = (ot_c.unwrap(), ot_s.unwrap());
        let planned = server.plan.server_memory();
        for (number, reveal) in [Reveal::Logits, Reveal::Class].into_iter().enumerate() {
            to_server.enter(Stage::Offline);
            to_client.enter(Stage::Offline);
            let (key, rng) = ((ot_c.session(), number as u64), &mut own.next_rng());
            let (slot_c, slot_s) = tokio::join!(
                offline::client(&mut to_server, &client, &mut ot_c, key, reveal, rng),
                offline::server(&mut to_client, &server, &mut ot_s, number as u64, reveal)
            );
            let (slot_c, slot_s) = (slot_c.unwrap(), slot_s.unwrap());
            assert_eq!(slot_s.held_bytes(), server.plan.slot_bytes(reveal), "{reveal:?}");
            assert!(slot_s.held_bytes() as u64 <= planned.slot && slot_s.held_bytes() > 0);
            assert!(slot_c.held_bytes() > 0);
            assert!(ot_s.held_bytes() as u64 <= planned.session, "{} of {planned:?}", ot_s.held_bytes());
        }
    }

    /// A slot that lacks a program or a share ends its inference, instead of an answer from what it has.
    #[tokio::test]
    async fn what_a_slot_lacks_is_an_error() {
        let network = zoo::find("digits").unwrap().network();
        let server = ServerModel::publish(&network, Link::default(), &Key::from([7; 32]), &|_, _| ()).unwrap();
        let client = ClientModel::open(server.package.derive().unwrap(), &server.package, &|_, _| ()).unwrap();
        let plan = &server.plan;
        let (mut to_server, _to_client) = Channel::pair();
        to_server.enter(Stage::Online);
        let (elements, ring) = (plan.input().elements(), plan.input_ring());
        let (pad, input) = (RingShare::zeros(elements, ring), vec![0; elements]);
        for nodes in [0, plan.steps.len()] {
            let programs = ByNode::with(nodes, || None);
            let ended =
                online::client_nodes(&mut to_server, &client, &pad, programs, &input, &mut Default::default()).await;
            assert!(matches!(ended, Err(Error::MissingProgram { .. })), "{nodes} of {}", plan.steps.len());
        }
        let mut halves = Halves::new(plan.steps.len(), Party::Server);
        halves.shared[TensorId::INPUT] = pad;
        let first = OfflineShares::none(0).take(0);
        let ended = online::server_share(&server, 0, first, &mut halves);
        assert!(plan.linear[0].encrypted.is_some() && matches!(ended, Err(Error::Internal(_))), "{ended:?}");
    }
}
