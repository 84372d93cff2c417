//! What a server does not allow: the client reads why, its session is over, and nobody else notices.

use std::num::NonZeroU32;

use lowkey::error::Remedy;
use lowkey::policy::{Policy, Refusal, Visitor};
use lowkey::session::{Action, Request};
use lowkey_mpc::channel::FrameKind;
use lowkey_mpc::ot::NextIndex;
use lowkey_mpc::party::Stage;

use super::common::block_on;
use super::*;

/// A server with this policy, all of whose clients come from one address.
fn options(policy: Policy) -> server::Options {
    let visitor = Visitor::new(Arc::new(policy), std::net::IpAddr::from([127, 0, 0, 1]));
    server::Options { visitor, ..server::Options::default() }
}

fn quota(per_hour: u32) -> Policy {
    Policy::with_quota(NonZeroU32::new(per_hour).unwrap())
}

/// Checks that both ends call it this refusal.
#[track_caller]
fn declined<T>(what: &str, outcome: Result<T>, refusal: Refusal) {
    match peer_fault(what, outcome) {
        Error::Declined(found) => assert_eq!(found, refusal, "{what}"),
        error => panic!("{what}: {error}"),
    }
}

#[test]
fn logits_of_a_server_that_reveals_classes() {
    let image = &digits().images[0];
    block_on(async {
        let mut site = Site::start(options(Policy { class_only: true, ..Policy::default() })).await;
        for schedule in [Schedule::Prepared, Schedule::Direct] {
            let what = format!("logits, {schedule:?}");
            // Somebody else is in the middle of a session.
            let mut other = open(site.connect().await).await.unwrap();
            let slot = other.prepare(Reveal::Class).await.unwrap();

            let mut client = open(site.connect().await).await.unwrap();
            let answer = client.answer(schedule, Reveal::Class, image).await.unwrap();
            assert_eq!(answer.output, digits().classes[0]);
            let refused = within(&what, client.answer(schedule, Reveal::Logits, image)).await;
            assert_eq!(refused.as_ref().unwrap_err().remedy(), Some(Remedy::AskForClass));
            declined(&what, refused, Refusal::ClassOnly);
            let over = client.answer(schedule, Reveal::Class, image).await;
            assert!(matches!(over, Err(Error::SessionOver)), "{over:?}");
            drop(client);
            declined(&what, site.outcome(&what).await, Refusal::ClassOnly);

            assert_eq!(other.infer(slot, &digits().images[1]).await.unwrap().output, digits().classes[1]);
            other.close().await.unwrap();
            assert_eq!(site.outcome("the other").await.unwrap().inferences, 1);
        }
    });
}

/// Slots count when they are prepared, and once; sessions of one address share the quota.
#[test]
fn more_inferences_than_the_quota() {
    let image = &digits().images[0];
    let used_up = Refusal::Quota { wait_minutes: 60 };
    block_on(async {
        let mut site = Site::start(options(quota(4))).await;
        let mut client = open(site.connect().await).await.unwrap();
        let slots = [client.prepare(Reveal::Logits).await.unwrap(), client.prepare(Reveal::Logits).await.unwrap()];
        for slot in slots {
            assert_eq!(client.infer(slot, image).await.unwrap().output, digits().logits[0]);
        }
        client.infer_direct(Reveal::Logits, image).await.unwrap();
        client.close().await.unwrap();
        assert_eq!(site.outcome("three").await.unwrap().inferences, 3);

        let mut client = open(site.connect().await).await.unwrap();
        client.prepare(Reveal::Logits).await.unwrap();
        declined("a slot", within("a slot", client.prepare(Reveal::Logits)).await.map(|_| ()), used_up);
        drop(client);
        declined("a slot", site.outcome("a slot").await, used_up);
        let mut client = open(site.connect().await).await.unwrap();
        declined("direct", within("direct", client.infer_direct(Reveal::Logits, image)).await, used_up);
        drop(client);
        declined("direct", site.outcome("direct").await, used_up);
    });
}

/// Asks for logits without waiting for anything.
async fn ask(site: &Site) -> Session {
    let mut client = open(site.connect().await).await.unwrap();
    let action = Action::Prepare { slot: 0, reveal: Reveal::Logits };
    client.channel().enter(Stage::Offline);
    let ots = NextIndex { client_receives: 0, server_receives: 0 };
    let sums = client.channel().sums();
    client.channel().send_control(&Request { action, ots, sums }).await.unwrap();
    client.channel().flush().await.unwrap();
    client
}

/// However much a client sends before it reads, it reads why it was refused.
#[test]
fn a_client_that_was_sending() {
    block_on(async {
        let mut site = Site::start(options(Policy { class_only: true, ..Policy::default() })).await;
        let mut client = ask(&site).await;
        // By now the server has refused.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let channel = client.channel();
        for _ in 0..16 {
            channel.send(FrameKind::Data, vec![0; 1 << 20]).await.unwrap();
        }
        channel.flush().await.unwrap();
        let heard = within("sending", channel.recv_at_most(FrameKind::Data, 1)).await.unwrap_err();
        assert!(matches!(heard, ProtocolError::PeerAborted(code) if code == AbortCode::ClassOnly as u16), "{heard}");
        drop(client);
        declined("sending", site.outcome("sending").await, Refusal::ClassOnly);
    });
}

/// A client that stays after it was refused holds the server up for one timeout and no longer.
#[test]
fn a_client_that_does_not_leave() {
    let policy = Policy { class_only: true, ..Policy::default() };
    let limits = limits(Duration::from_secs(1));
    block_on(async {
        let mut site = Site::start(server::Options { limits, ..options(policy) }).await;
        let client = ask(&site).await;
        let start = std::time::Instant::now();
        declined("stays", site.outcome("stays").await, Refusal::ClassOnly);
        assert!(start.elapsed() < Duration::from_secs(30));
        drop(client);
    });
}
