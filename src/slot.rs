//! Inference slots: what both parties prepare before an input exists. A slot is used once, by being moved.

use lowkey_bridge::OfflineShare;
use lowkey_mpc::ot::base::SessionId;
use lowkey_mpc::program;

use crate::answer::AnswerReady;
use crate::share::RingShare;

/// The client's half of a prepared inference. Not cloneable, never stored; using it moves it.
pub struct ClientSlot {
    /// A slot works in its own session only.
    pub(crate) session: SessionId,
    pub(crate) number: u64,
    /// xhat of the network's input; the other pads have gone into programs.
    pub(crate) pad: RingShare,
    /// One per node with a program.
    pub(crate) programs: Vec<Option<program::Ready>>,
    pub(crate) answer: AnswerReady,
}

impl ClientSlot {
    /// Bytes of memory that it holds.
    pub fn held_bytes(&self) -> usize {
        size_of_val(self.pad.words()) + programs_bytes(&self.programs) + self.answer.held_bytes()
    }
}

fn programs_bytes(programs: &[Option<program::Ready>]) -> usize {
    programs.iter().flatten().map(program::Ready::held_bytes).sum()
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

/// The server's half of a prepared inference.
pub(crate) struct ServerSlot {
    pub(crate) number: u64,
    /// v_off of every linear node with encrypted terms.
    pub(crate) shares: Vec<Option<OfflineShare>>,
    pub(crate) programs: Vec<Option<program::Ready>>,
    pub(crate) answer: AnswerReady,
}

impl ServerSlot {
    /// Bytes of memory that it holds: those of [`Plan::slot_bytes`](crate::plan::Plan::slot_bytes).
    pub(crate) fn held_bytes(&self) -> usize {
        let shares: usize = self.shares.iter().flatten().map(OfflineShare::held_bytes).sum();
        shares + programs_bytes(&self.programs) + self.answer.held_bytes()
    }
}

#[cfg(test)]
mod tests {
    use lowkey_models::zoo;
    use lowkey_mpc::channel::Channel;
    use lowkey_mpc::erasing::Erasing;
    use lowkey_mpc::ot::Correlations;
    use lowkey_mpc::party::Stage;

    use crate::offline;
    use crate::plan::{Link, Reveal};
    use crate::publication::{ClientModel, ServerModel};
    use crate::store::Key;

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
}
