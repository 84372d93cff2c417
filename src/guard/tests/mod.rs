//! Slots as a deviating client sends them, and what becomes of it and of its sessions. The authenticated bits are ideal here: the
//! client's values stand where their MACs would.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use lowkey_he::pack;
use lowkey_models::zoo;
use lowkey_mpc::erasing::OnceRng;
use lowkey_mpc::ot::base::SessionId;
use rand::{Rng, SeedableRng};
use sha2::{Digest as _, Sha256};

use super::*;
use crate::error::Error;
use crate::node::Halves;
use crate::offline::{Draws, Lattice, SlotSeed};
use crate::plan::{ByNode, ByTensor, Link, TensorId};
use crate::policy::Identity;
use crate::publication::{ClientModel, ServerModel};
use crate::share::RingShare;
use crate::store::{Key, Offence, Store};

mod exchanges;
mod extraction;
mod identities;
mod rate;
mod records;
mod requests;
mod seats;
mod sessions;

static SERVER: LazyLock<Arc<ServerModel>> = LazyLock::new(|| {
    let network = zoo::find("digits").unwrap().network();
    ServerModel::publish(&network, Link::default(), &Key::from([7; 32]), &|_, _| ()).unwrap()
});
static MODEL: LazyLock<Arc<ClientModel>> = LazyLock::new(|| SERVER.client_half().unwrap());

/// How a client deviates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deviation {
    None,
    /// One more in every coefficient of b*_0: errors of another parity.
    OddErrors,
    /// b*_0 under seven times the secret.
    LargeSecret,
    /// Of the first body of the last upload, the lowest bit.
    Body,
    /// Another share c than the one announced.
    Share,
    /// Another pad xhat than the one encrypted.
    Pad,
    /// Everything made of a seed of the client's choice.
    Seed,
    /// What is opened is not what was committed to.
    Opening,
}

const MALFORMED: [Deviation; 6] = {
    use Deviation::*;
    [OddErrors, LargeSecret, Body, Share, Pad, Seed]
};

/// All values of a client.
fn values(pads: &ByTensor<RingShare>, shares: &ByNode<RingShare>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for values in pads.iter().chain(shares.iter()).map(RingShare::words) {
        hash.update((values.len() as u64).to_le_bytes());
        values.iter().for_each(|value| hash.update(value.to_le_bytes()));
    }
    hash.finalize().into()
}

/// Ideal authenticated bits: the client is bound to what it announced.
struct Announced([u8; 32]);

impl Corrections for Announced {
    fn agree(&self, _: &ClientModel, opened: &ClientHalf, macs: &[u8; 32]) -> bool {
        values(&opened.pads, &opened.shares) == self.0 && *macs == self.0
    }

    fn bytes(&self) -> usize {
        32
    }
}

/// A slot whose bits are what the client announced, taken apart.
fn open<T>((announced, _): ([u8; 32], T)) -> (Box<dyn Corrections>, ()) {
    (Box::new(Announced(announced)), ())
}

/// A slot as the server has it, and what the client will open it with.
struct Sent {
    arrived: Arrived,
    announced: [u8; 32],
    promise: Promise,
    seed: SlotSeed,
}

fn rng(seed: u64) -> OnceRng {
    OnceRng::seed_from_u64(seed)
}

/// The messages of a seed and the client's half.
fn honest(seed: &SlotSeed) -> (Vec<Vec<u8>>, Halves) {
    let mut lattice = Lattice::new(&MODEL, Draws::Seeded(seed)).unwrap();
    let mut messages = Vec::new();
    while let Some((_, bytes)) = lattice.next().unwrap() {
        messages.push(bytes);
    }
    (messages, lattice.finish().unwrap())
}

/// b*_0 of all secrets with every coefficient changed.
fn change_keys(message: &mut Vec<u8>, change: impl Fn(u64) -> u64) {
    let mut changed = Vec::new();
    let mut rest = &message[..];
    for plan in &MODEL.plan.sets {
        let (bytes, after) = rest.split_at(plan.message_len());
        rest = after;
        let width = plan.set.torus_bits - plan.b0_rounding;
        for bytes in bytes.chunks_exact(pack::packed_len(plan.set.degree, width)) {
            let words: Vec<u64> = pack::read(bytes, plan.set.degree, width).unwrap();
            let words: Vec<u64> = words.into_iter().map(|word| change(word) & u64::MAX >> (64 - width)).collect();
            pack::append(&mut changed, &words, width);
        }
    }
    assert!(changed.len() == message.len() && changed != *message);
    *message = changed;
}

/// What a client that deviates makes of a slot: its messages, the half that it announces, and what it opens with.
struct Made {
    seed: SlotSeed,
    messages: Vec<Vec<u8>>,
    halves: Halves,
    promise: Promise,
}

impl Made {
    fn new(deviation: Deviation, slot: SlotName, committed: Committed, nonce: &Nonce, rng: &mut OnceRng) -> Self {
        let (mut seed, mut promise) = committed.seed(nonce);
        if deviation == Deviation::Seed {
            (seed, _) = Committed::new(slot, rng).seed(nonce);
        }
        let (mut messages, mut halves) = honest(&seed);
        match deviation {
            Deviation::OddErrors => change_keys(&mut messages[0], |word| word.wrapping_add(1)),
            Deviation::LargeSecret => change_keys(&mut messages[0], |word| word.wrapping_mul(7)),
            Deviation::Body => messages.last_mut().unwrap()[0] ^= 1,
            Deviation::Share => {
                let node = MODEL.plan.linear[0].node;
                halves.accumulators[node].change(|words| words[0] ^= 1);
            }
            Deviation::Pad => halves.shared[TensorId::INPUT].change(|words| words[0] ^= 1),
            Deviation::Opening => (_, promise) = Committed::new(slot, rng).seed(nonce),
            Deviation::None | Deviation::Seed => {}
        }
        Self { seed, messages, halves, promise }
    }
}

/// What an audit finds of a deviation.
fn found(deviation: Deviation) -> Option<SlotPart> {
    let upload = MODEL.plan.uploads.last().unwrap();
    let node = MODEL.plan.name(MODEL.plan.linear[upload.linear].node).to_owned();
    match deviation {
        Deviation::None => None,
        Deviation::OddErrors | Deviation::LargeSecret | Deviation::Seed => Some(SlotPart::Keys),
        Deviation::Body => Some(SlotPart::Bodies { node, term: upload.term }),
        Deviation::Share | Deviation::Pad => Some(SlotPart::Corrections),
        Deviation::Opening => Some(SlotPart::Opening),
    }
}

fn send(deviation: Deviation, number: u64, rng: &mut OnceRng) -> Sent {
    let slot = SlotName::new(SessionId([3; 32]), number, MODEL.digest);
    let committed = Committed::new(slot, rng);
    let mut arrived = Arrived::new(slot, committed.commitment(), rng);
    let Made { seed, messages, halves, promise } = Made::new(deviation, slot, committed, &arrived.nonce(), rng);
    messages.iter().for_each(|bytes| arrived.message(bytes));
    let announced = values(&halves.shared, &halves.accumulators);
    Sent { arrived, announced, promise, seed }
}

impl Sent {
    /// What the client has, of its seed.
    fn half(&self) -> ClientHalf {
        honest(&self.seed).1.into()
    }

    fn undecided(&self) -> Undecided<([u8; 32], &'static str)> {
        Undecided::new(self.arrived.clone(), MODEL.clone(), (self.announced, "slot"))
    }

    fn answer(&self) -> AuditAnswer {
        self.promise.answer(self.announced)
    }

    /// Always audited.
    async fn audit(&self, presence: &Presence) -> Audit {
        loop {
            if let Verdict::Audit(audit, ()) =
                self.undecided().decide(presence, AuditRate::default(), &mut fresh(), open).await.unwrap()
            {
                return audit;
            }
        }
    }
}

fn fresh() -> OnceRng {
    rng(rand::random())
}

fn client(name: &str) -> Identity {
    Identity { name: Some(name.into()), ..Identity::default() }
}

fn registry(limits: IdentityLimits) -> (tempfile::TempDir, Store, Arc<Registry>) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(Some(folder.path().into())).unwrap();
    let registry = Registry::open(store.clone(), limits).unwrap();
    (folder, store, registry)
}

fn offence(registry: &Arc<Registry>, name: &str) -> Option<Offence> {
    match registry.enter(&client(name)) {
        Err(Denied::ShutOut { shut }) => Some(shut.offence),
        Ok(_) => None,
        Err(other) => panic!("{other}"),
    }
}

async fn given(answer: AuditAnswer) -> crate::Result<AuditAnswer> {
    Ok(answer)
}

async fn lost() -> crate::Result<AuditAnswer> {
    Err(Error::Session(lowkey_mpc::error::Error::Disconnected))
}

#[tokio::test]
async fn every_deviation_is_found_and_named() {
    let (_folder, _store, registry) = registry(IdentityLimits::default());
    let mut rng = rng(1);
    for deviation in MALFORMED.into_iter().chain([Deviation::None, Deviation::Opening]) {
        let name = format!("{deviation:?}");
        let presence = registry.enter(&client(&name)).unwrap();
        let sent = send(deviation, 0, &mut rng);
        let audit = sent.audit(&presence).await;
        assert_eq!(audit.slot(), sent.promise.slot());
        let outcome = audit.answer(given(sent.answer())).await;
        let expected = found(deviation);
        match (&outcome, &expected) {
            (Ok(()), None) => assert_eq!(offence(&registry, &name), None),
            (Err(Denied::Failed(part)), Some(expected)) => {
                assert_eq!(part, expected, "{deviation:?}");
                assert_eq!(offence(&registry, &name), Some(Offence::Differs(part.clone())));
                assert!(registry.owed(&client(&name)).await.unwrap().is_none(), "there is nothing to answer any more");
            }
            _ => panic!("{deviation:?}: {outcome:?}"),
        }
    }
}

/// A MAC hash that is wrong is a wrong correction; a message too few or too many is no verdict on the client.
#[tokio::test]
async fn what_else_can_differ() {
    let (_folder, _store, registry) = registry(IdentityLimits::default());
    let presence = registry.enter(&client("alice")).unwrap();
    let mut sent = send(Deviation::None, 0, &mut rng(2));
    let mut macs = sent.announced;
    macs[31] ^= 1;
    let wrong = sent.audit(&presence).await.answer(given(sent.promise.answer(macs))).await;
    assert!(matches!(wrong, Err(Denied::Failed(SlotPart::Corrections))), "{wrong:?}");
    let presence = registry.enter(&client("bob")).unwrap();
    sent.arrived.message(b"more");
    let bug = sent.audit(&presence).await.answer(given(sent.answer())).await;
    assert!(matches!(&bug, Err(Denied::Other(Error::Internal(_)))), "{bug:?}");
}

/// Nothing of one slot opens another, and the nonce is in the seed.
#[test]
fn seeds_are_bound_to_their_slot() {
    let slots = [
        SlotName::new(SessionId([1; 32]), 0, [1; 32]),
        SlotName::new(SessionId([2; 32]), 0, [1; 32]),
        SlotName::new(SessionId([1; 32]), 1, [1; 32]),
        SlotName::new(SessionId([1; 32]), 0, [2; 32]),
    ];
    let made = |slot: SlotName, nonce: u64| {
        let committed = Committed::new(slot, &mut rng(1));
        let arrived = Arrived::new(slot, committed.commitment(), &mut rng(nonce));
        let commitment = committed.commitment();
        let (seed, promise) = committed.seed(&arrived.nonce());
        let first = seed.rng(crate::offline::Draw::Keys).next_u64();
        let text = format!("{seed:?} {promise:?} {:?}", promise.answer([0; 32]));
        assert_eq!(text.matches("[redacted]").count(), 3);
        (commitment, first)
    };
    let all: Vec<_> = slots.into_iter().map(|slot| made(slot, 5)).collect();
    for (index, one) in all.iter().enumerate() {
        assert!(all[..index].iter().all(|other| other.0 != one.0 && other.1 != one.1));
    }
    let again = made(slots[0], 6);
    assert!(again.0 == all[0].0 && again.1 != all[0].1);
    assert_eq!(made(slots[0], 5), all[0]);
}

/// Over 200 slots of each kind as many are caught as the coin says, and none that was audited slips through.
#[tokio::test]
async fn malformed_slots_are_caught_at_the_rate() {
    const TRIES: u64 = 200;
    let mut rng = rng(4);
    for (deviation, rate) in MALFORMED.into_iter().zip([0.5, 0.5, 0.25, 0.5, 0.8, 0.5]) {
        let rate = AuditRate::new(rate).unwrap();
        let (_folder, store, registry) = registry(IdentityLimits::default());
        let (mut caught, mut used) = (0, 0);
        for number in 0..TRIES {
            let presence = registry.enter(&client("mallory")).unwrap();
            let sent = send(deviation, number, &mut rng);
            match sent.undecided().decide(&presence, rate, &mut rng, open).await.unwrap() {
                Verdict::Use(usable) => {
                    assert_eq!(usable.begin(&presence).await.unwrap().1, "slot");
                    used += 1;
                }
                Verdict::Audit(audit, ()) => {
                    let outcome = audit.answer(given(sent.answer())).await;
                    assert!(matches!(outcome, Err(Denied::Failed(_))), "{deviation:?}: {outcome:?}");
                    assert!(registry.enter(&client("mallory")).is_err());
                    assert!(store.change_offences(|all| all.pardon("mallory")).unwrap());
                    caught += 1;
                }
            }
        }
        assert_eq!(used + caught, TRIES);
        let p = rate.probability();
        let (mean, deviation_5) = (TRIES as f64 * p, 5.0 * (TRIES as f64 * p * (1.0 - p)).sqrt());
        assert!((caught as f64 - mean).abs() <= deviation_5, "{deviation:?}: {caught} of {TRIES}");
    }
}

/// Over 100 slots an honest client is never shut out, and its slots are used as often as the coin says.
#[tokio::test]
async fn honest_slots_pass() {
    let (_folder, store, registry) = registry(IdentityLimits::default());
    let presence = registry.enter(&client("alice")).unwrap();
    let (mut rng, mut used) = (rng(5), 0);
    for number in 0..100 {
        presence.begin_slot().unwrap();
        let sent = send(Deviation::None, number, &mut rng);
        match sent.undecided().decide(&presence, AuditRate::default(), &mut rng, open).await.unwrap() {
            Verdict::Use(usable) => used += usize::from(usable.begin(&presence).await.unwrap().1 == "slot"),
            Verdict::Audit(audit, ()) => {
                let asked = store.offences().unwrap().shut("alice").map(|shut| shut.offence.clone());
                assert_eq!(asked, Some(Offence::Unanswered), "it is written before it is asked");
                audit.answer(given(sent.answer())).await.unwrap();
                assert_eq!(store.offences().unwrap().shut("alice"), None);
            }
        }
    }
    assert!((25..=75).contains(&used), "{used}");
}

/// The client hears that it is shut out, whichever part was wrong.
#[test]
fn what_a_client_is_told() {
    let shut = Shut::new(Offence::Unanswered, std::time::SystemTime::now());
    for denied in
        [Denied::Failed(SlotPart::Keys), Denied::Failed(SlotPart::Opening), Denied::ShutOut { shut }, Denied::Ended]
    {
        let error = Error::from(denied);
        assert!(matches!(error, Error::Declined(Refusal::ShutOut)), "{error}");
        assert_eq!((error.abort_number(), error.fault()), (Some(23), crate::Fault::Peer));
        assert!(error.hint().unwrap().contains("pardon"));
    }
    assert!(matches!(Error::from(Denied::Nameless), Error::Declined(Refusal::Unknown)));
}

#[test]
fn rates() {
    for (text, p) in [("0.5", 0.5), ("1/2", 0.5), ("3/4", 0.75), ("0.01", 0.01), (" 1 / 4 ", 0.25)] {
        let rate: AuditRate = text.parse().unwrap();
        assert!((rate.probability() - p).abs() < 1e-9, "{text}");
    }
    for text in ["0", "1", "1/1", "-1/2", "nan", "", "half", "1/0", "1e-3", "0.995"] {
        assert!(text.parse::<AuditRate>().is_err(), "{text}");
    }
    assert!((AuditRate::default().probability() - 0.5).abs() < 1e-9);
}
