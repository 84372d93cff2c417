//! Guarded sessions in which the client deviates, with real bits: what is caught, and what the extraction attack gets of it.

use std::sync::atomic::{AtomicU64, Ordering};

use lowkey_mpc::channel::{Channel, FrameKind, Limits};
use lowkey_mpc::erasing::Erasing;
use lowkey_mpc::ot::Correlations;
use lowkey_mpc::party::{Party, Stage};
use tokio::task::JoinHandle;

use super::super::bits;
use super::super::circuits::Circuits;
use super::super::exchange::{self, Fallen, Waiting};
use super::super::session::Own;
use super::*;
use crate::error::Result;
use crate::plan::{Operand, Reveal, TensorId};
use crate::policy::{Policy, Visitor};
use crate::publication::Package;
use crate::server::{self, SessionReport};
use crate::session::{Accept, Action, Ask, HINT_CHUNK, Hello, MAX_CONTROL, Request, Welcome};

/// A client that follows the protocol but for what it announces of its slots.
pub(super) struct Deviating {
    pub(super) channel: Channel,
    pub(super) ot: Correlations,
    own: Own,
    pub(super) debts: Debts,
    randomness: Erasing,
    next: u64,
}

/// A server's session for a name.
fn serve(registry: &Arc<Registry>, name: &str) -> (tokio::io::DuplexStream, JoinHandle<Result<SessionReport>>) {
    serve_by(Policy::default(), registry, name)
}

/// The same of a server with rules.
pub(super) fn serve_by(
    policy: Policy,
    registry: &Arc<Registry>,
    name: &str,
) -> (tokio::io::DuplexStream, JoinHandle<Result<SessionReport>>) {
    let (here, there) = tokio::io::duplex(1 << 20);
    let guard = Guarding { registry: registry.clone(), rate: AuditRate::default() };
    let visitor = Visitor::new(Arc::new(policy), client(name));
    let options = server::Options { visitor, ..server::Options::default() };
    (here, tokio::spawn(server::serve_guarded(Box::new(there), SERVER.clone(), options, guard)))
}

impl Deviating {
    /// The opening of a session, as every client has it.
    pub(super) async fn open(stream: tokio::io::DuplexStream) -> Result<Self> {
        let mut channel = Channel::new(Box::new(stream), Party::Client, Limits::default());
        let mut randomness = Erasing::new(rand::random());
        channel.enter(Stage::Setup);
        channel.send_control(&Hello::new(Ask::Guarded(None))).await?;
        let welcome: Welcome = channel.recv_control(MAX_CONTROL).await?;
        let plan = channel.recv(FrameKind::Control, welcome.plan_bytes as usize).await?;
        channel.send_control(&Accept { send_hint: true }).await?;
        let mut hint = Vec::new();
        while hint.len() < welcome.hint_bytes as usize {
            let rest = welcome.hint_bytes as usize - hint.len();
            hint.extend(channel.recv(FrameKind::Hint, rest.min(HINT_CHUNK)).await?);
        }
        assert_eq!(Package { plan, epoch: welcome.epoch, hint }.digest(), MODEL.digest);
        let mut ot = Correlations::setup(&mut channel, &mut randomness.next_rng()).await?;
        channel.compare_sums().await?;
        let debts = Debts::default();
        debts.pay(&mut channel).await?;
        let own = Own::new(Arc::new(Circuits::derive(&MODEL.plan).unwrap()), &mut ot)?;
        Ok(Self { channel, ot, own, debts, randomness, next: 0 })
    }

    pub(super) async fn request(&mut self, action: Action) -> Result<()> {
        let (ots, sums) = (self.ot.next_index(), self.channel.sums());
        Ok(self.channel.send_control(&Request { action, ots, sums }).await?)
    }

    /// A slot that deviates, with `change` made in the client's half behind its lattice work: true if it may be used. Otherwise it was
    /// opened, with what the client has.
    pub(super) async fn slot(&mut self, deviation: Deviation, change: impl FnOnce(&mut ClientHalf)) -> Result<bool> {
        let reveal = Reveal::Logits;
        self.channel.enter(Stage::Offline);
        let number = self.next;
        self.request(Action::Prepare { slot: number, reveal }).await?;
        let rng = &mut self.randomness.next_rng();
        self.own.stock(&mut self.channel, &mut self.ot, reveal, rng).await?;
        let name = SlotName::new(self.ot.session(), number, MODEL.digest);
        let (mut half, promise) = lattice(&mut self.channel, deviation, name, rng).await?;
        change(&mut half);
        let (channel, ot) = (&mut self.channel, &mut self.ot);
        let prepared = self.own.prepare(channel, &MODEL.plan, ot, reveal, Some(&half), rng).await?;
        let guard = self.own.guard();
        let open = |prepared| bits::spend(guard, prepared);
        let fallen =
            Waiting::new(promise, prepared).hear(channel, &self.debts, open).await.map_err(Error::or_declined)?;
        self.next += 1;
        Ok(matches!(fallen, Fallen::Use(_)))
    }

    /// Hears that its identity is shut out, though it has asked for nothing.
    async fn hears(&mut self) {
        let word = self.channel.recv_control::<exchange::Word>(MAX_CONTROL);
        let word = tokio::time::timeout(Duration::from_secs(10), word).await.expect("at once");
        let told = Error::from(word.unwrap_err()).or_declined();
        assert!(matches!(told, Error::Declined(Refusal::ShutOut)), "{told}");
    }
}

/// As [`exchange::send`], of a client that deviates.
async fn lattice(
    channel: &mut Channel,
    deviation: Deviation,
    slot: SlotName,
    rng: &mut OnceRng,
) -> Result<(ClientHalf, Promise)> {
    let committed = Committed::new(slot, rng);
    channel.send_control(&committed.commitment()).await?;
    let nonce: Nonce = channel.recv_control(MAX_CONTROL).await?;
    let Made { messages, halves, promise, .. } = Made::new(deviation, slot, committed, &nonce, rng);
    for bytes in messages {
        channel.send(FrameKind::Data, bytes).await?;
    }
    Ok((halves.into(), promise))
}

/// Two sessions of one name.
pub(super) struct Two {
    pub(super) cheating: Deviating,
    serving: JoinHandle<Result<SessionReport>>,
    beside: Deviating,
    waiting: JoinHandle<Result<SessionReport>>,
}

impl Two {
    pub(super) async fn open(registry: &Arc<Registry>, name: &str) -> Self {
        let [(own, serving), (other, waiting)] = [(); 2].map(|()| serve(registry, name));
        let (cheating, beside) = tokio::join!(Deviating::open(own), Deviating::open(other));
        Self { cheating: cheating.unwrap(), serving, beside: beside.unwrap(), waiting }
    }

    /// The one that cheated was told so: both have ended, and no other one begins.
    pub(super) async fn are_over(mut self, refused: Error, registry: &Arc<Registry>, name: &str) {
        assert!(matches!(refused, Error::Declined(Refusal::ShutOut)), "{refused}");
        drop(self.cheating);
        self.beside.hears().await;
        drop(self.beside);
        for session in [self.serving, self.waiting] {
            let ended = session.await.unwrap();
            assert!(matches!(ended, Err(Error::Declined(Refusal::ShutOut))), "{ended:?}");
        }
        let (stream, again) = serve(registry, name);
        assert!(Deviating::open(stream).await.is_err() && again.await.unwrap().is_err(), "it is not let in again");
    }
}

/// The tensor that the last layer reads.
fn last_tensor() -> TensorId {
    let plan = &MODEL.plan;
    let Operand::Accumulator(node) = plan.answer.operand else { panic!("a network that ends in a layer") };
    let linear = plan.linear.iter().position(|linear| linear.node == node).unwrap();
    plan.uploads.iter().find(|upload| upload.linear == linear).unwrap().tensor
}

/// The published attack needs 33 answers of slots whose pads are shifted. Of a guarded server it has as many as the coin lets through, one
/// on average, and is shut out then, with the session beside it.
#[tokio::test]
async fn the_extraction_attack_ends_at_the_first_slot_that_is_opened() {
    let (_folder, store, registry) = registry(IdentityLimits::default());
    let (tensor, tries) = (last_tensor(), 6);
    let used = AtomicU64::new(0);
    for number in 0..tries {
        let name = format!("mallory {number}");
        let mut two = Two::open(&registry, &name).await;
        let refused = loop {
            let shifted = |half: &mut ClientHalf| half.pads[tensor].change(|words| words[0] ^= 1);
            match two.cheating.slot(Deviation::None, shifted).await {
                Ok(true) => drop(used.fetch_add(1, Ordering::Relaxed)),
                Ok(false) => panic!("a malformed slot passed an audit"),
                Err(error) => break error,
            }
            assert!(two.cheating.next < 32, "the attack has all that it needs");
        };
        two.are_over(refused, &registry, &name).await;
        let offence = store.offences().unwrap().shut(&name).map(|shut| shut.offence.clone());
        assert_eq!(offence, Some(Offence::Differs(SlotPart::Corrections)));
    }
    let used = used.into_inner();
    println!("{used} malformed slots in use, {tries} identities");
    assert!(used <= 32, "{used}");
}

/// With honest values nobody is shut out; slots are used as the coin falls.
#[tokio::test]
async fn an_honest_client_goes_on() {
    let (_folder, store, registry) = registry(IdentityLimits::default());
    let (stream, serving) = serve(&registry, "alice");
    let mut session = Deviating::open(stream).await.unwrap();
    // After a slot that was opened the server expects the next one without a request: this client asks, and is out of turn.
    while session.slot(Deviation::None, |_| ()).await.unwrap() && session.next < 3 {}
    drop(session);
    serving.abort();
    assert_eq!(store.offences().unwrap().iter().count(), 0);
}
