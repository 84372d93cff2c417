//! What a client of a guarded session may not ask for, and what it is never asked for.

use super::super::session::batches;
use super::sessions::{Deviating, serve_by};
use super::*;
use crate::error::Misbehaviour;
use crate::plan::Reveal;
use crate::policy::Policy;
use crate::session::Action;
use lowkey_mpc::party::{Party, Stage};

/// What a server with rules says to a request in a stage.
async fn asked(policy: Policy, stage: Stage, action: Action) -> Error {
    let (_folder, store, registry) = registry(IdentityLimits::default());
    let (stream, serving) = serve_by(policy, &registry, "mallory");
    let mut session = Deviating::open(stream).await.unwrap();
    session.channel.enter(stage);
    session.request(action).await.unwrap();
    let answer = session.channel.recv_control::<exchange::Word>(crate::session::MAX_CONTROL).await;
    assert!(answer.is_err(), "{action:?}");
    drop(session);
    assert_eq!(store.offences().unwrap().iter().count(), 0, "a refusal is no offence");
    serving.await.unwrap().expect_err("it was refused")
}

/// The direct schedule, whose lattice work nobody could open, and a slot that was never prepared.
#[tokio::test]
async fn what_was_not_audited_does_not_run() {
    let direct = Action::Direct { slot: 0, reveal: Reveal::Class };
    let error = asked(Policy::default(), Stage::Online, direct).await;
    assert!(matches!(error, Error::Peer(Party::Client, Misbehaviour::Unguarded)), "{error}");
    let error = asked(Policy::default(), Stage::Online, Action::Run { slot: 0 }).await;
    assert!(matches!(error, Error::Slot { slot: 0 }), "{error}");
}

/// The server decides what is revealed.
#[tokio::test]
async fn logits_of_a_server_that_reveals_the_class_are_refused() {
    let policy = Policy { class_only: true, ..Policy::default() };
    let error = asked(policy, Stage::Offline, Action::Prepare { slot: 0, reveal: Reveal::Logits }).await;
    assert!(matches!(error, Error::Declined(Refusal::ClassOnly)), "{error}");
}

/// There are no messages of a client as the sender of an OT: neither circuits nor batches take one in which it sends.
#[test]
fn the_client_never_sends_in_an_ot() {
    let circuits = Circuits::derive(&MODEL.plan).unwrap();
    for reveal in [Reveal::Logits, Reveal::Class] {
        let batches = batches(circuits.triples(reveal)).into_iter().map(|batch| batch.ots());
        let need: Vec<_> = batches.chain([circuits.ots(reveal)]).collect();
        assert!(need.iter().all(|ots| ots.client_receives > 0 && ots.server_receives == 0), "{need:?}");
    }
}
