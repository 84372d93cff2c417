//! The rules of a session: slots, OTs, stages and inputs. Where types do not forbid it, a check does.

use std::task::Poll;

use lowkey::session::{Action, MAX_SLOTS, Request};
use lowkey_mpc::channel::FrameKind;
use lowkey_mpc::ot::NextIndex;
use lowkey_mpc::party::Stage;

use super::common::block_on;
use super::common::faulty::{Fault as Break, Faulty, Way};
use super::*;

const NONE: NextIndex = NextIndex { client_receives: 0, server_receives: 0 };

/// The next unused OTs after some inferences.
fn after(inferences: u64) -> NextIndex {
    let need = digits().model.plan.demand(Reveal::Logits).ots;
    NextIndex {
        client_receives: inferences * need.client_receives as u64,
        server_receives: inferences * need.server_receives as u64,
    }
}

/// What an honest client did before it stops being one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Nothing,
    Prepared,
    Answered,
}

/// A request that an honest client does not make, on a connection that was honest so far.
async fn request(site: &mut Site, what: &str, before: Before, stage: Stage, action: Action, ots: NextIndex) -> Error {
    let mut client = within(what, open(site.connect().await)).await.unwrap();
    let slot = match before {
        Before::Nothing => None,
        _ => Some(client.prepare(Reveal::Logits).await.unwrap()),
    };
    if let (Before::Answered, Some(slot)) = (before, slot) {
        assert_eq!(client.infer(slot, &digits().images[0]).await.unwrap().output, digits().logits[0]);
    }
    let channel = client.channel();
    channel.enter(stage);
    channel.send_control(&Request { action, ots, sums: channel.sums() }).await.unwrap();
    let heard = within(what, channel.recv_at_most(FrameKind::Data, 1 << 20)).await.expect_err("a refusal");
    let error = peer_fault(what, site.outcome(what).await);
    let code = error.abort_code().expect("the client can hear") as u16;
    assert!(matches!(heard, ProtocolError::PeerAborted(found) if found == code), "{what}: {heard}");
    error
}

#[test]
fn slots_out_of_turn() {
    let prepare = |slot| Action::Prepare { slot, reveal: Reveal::Logits };
    let direct = |slot| Action::Direct { slot, reveal: Reveal::Logits };
    let run = |slot| Action::Run { slot };
    let cases = [
        ("the first slot is number 1", Before::Nothing, prepare(1)),
        ("the first slot is the last number", Before::Nothing, prepare(u64::MAX)),
        ("a slot is prepared twice", Before::Prepared, prepare(0)),
        ("a slot number is left out", Before::Prepared, prepare(2)),
        ("a slot that was used is prepared again", Before::Answered, prepare(0)),
        ("a slot that does not exist is used", Before::Nothing, run(0)),
        ("a slot that was not prepared is used", Before::Prepared, run(1)),
        ("a slot is used twice", Before::Answered, run(0)),
        ("a direct inference under a prepared number", Before::Prepared, direct(0)),
        ("a direct inference under a used number", Before::Answered, direct(0)),
        ("a direct inference under a later number", Before::Nothing, direct(1)),
    ];
    block_on(async {
        let mut site = Site::start(server::Options::default()).await;
        for (what, before, action) in cases {
            let ots = if before == Before::Nothing { NONE } else { after(1) };
            let stage = if matches!(action, Action::Prepare { .. }) { Stage::Offline } else { Stage::Online };
            let error = request(&mut site, what, before, stage, action, ots).await;
            assert!(matches!(error, Error::Slot { .. }), "{what}: {error}");
        }
        site.still_serves("slots out of turn").await;
    });
}

/// A client that is not where the server is in the sequence of OTs would spend some of them twice.
#[test]
fn ots_out_of_step() {
    let prepare = |slot| Action::Prepare { slot, reveal: Reveal::Logits };
    let ahead = NextIndex { client_receives: 1, ..NONE };
    let cases = [
        ("one ahead", Before::Nothing, prepare(0), ahead),
        ("far ahead", Before::Nothing, prepare(0), NextIndex { server_receives: u64::MAX, ..NONE }),
        ("back to the first", Before::Prepared, prepare(1), NONE),
        ("back to the first, online", Before::Prepared, Action::Run { slot: 0 }, NONE),
        ("at the end", Before::Prepared, Action::Close, after(2)),
    ];
    block_on(async {
        let mut site = Site::start(server::Options::default()).await;
        for (what, before, action, ots) in cases {
            let stage = if matches!(action, Action::Prepare { .. }) { Stage::Offline } else { Stage::Online };
            let error = request(&mut site, what, before, stage, action, ots).await;
            assert_eq!(error.abort_code(), Some(AbortCode::Protocol), "{what}: {error}");
        }
        site.still_serves("OTs out of step").await;
    });
}

#[test]
fn requests_in_the_wrong_stage() {
    let reveal = Reveal::Logits;
    let cases = [
        ("prepare online", Stage::Online, Action::Prepare { slot: 0, reveal }),
        ("run offline", Stage::Offline, Action::Run { slot: 0 }),
        ("direct offline", Stage::Offline, Action::Direct { slot: 0, reveal }),
        ("prepare in the setup", Stage::Setup, Action::Prepare { slot: 0, reveal }),
        ("close in the setup", Stage::Setup, Action::Close),
    ];
    block_on(async {
        let mut site = Site::start(server::Options::default()).await;
        for (what, stage, action) in cases {
            let error = request(&mut site, what, Before::Nothing, stage, action, NONE).await;
            assert_eq!(error.abort_code(), Some(AbortCode::Protocol), "{what}: {error}");
        }
    });
}

#[test]
fn more_slots_than_a_session_may_have() {
    block_on(async {
        let mut site = Site::start(server::Options::default()).await;
        let mut client = within("open", open(site.connect().await)).await.unwrap();
        let mut slots = Vec::new();
        for number in 0..MAX_SLOTS {
            slots.push(
                within("prepare", client.prepare(Reveal::Logits)).await.unwrap_or_else(|e| panic!("{number}: {e}")),
            );
        }
        // There is room again once a slot was used, whichever it is.
        let answer = client.infer(slots.remove(40), &digits().images[3]).await.unwrap();
        assert_eq!(answer.output, digits().logits[3]);
        slots.push(client.prepare(Reveal::Logits).await.unwrap());
        let last = within("one more", client.prepare(Reveal::Logits)).await;
        aborted_or_closed("one more", last.map(|_| ()), AbortCode::Busy);
        let error = peer_fault("one more", site.outcome("one more").await);
        assert!(matches!(error, Error::Busy { limit: MAX_SLOTS, .. }), "{error}");
        // The session is over, and its slots with it.
        let outcome = client.infer(slots.remove(0), &digits().images[0]).await;
        assert!(matches!(outcome, Err(Error::SessionOver)), "{outcome:?}");
        site.still_serves("too many slots").await;
    });
}

/// Slots may be used in any order, each with an image of its own.
#[test]
fn slots_in_any_order() {
    block_on(async {
        let mut site = Site::start(server::Options::default()).await;
        let mut client = open(site.connect().await).await.unwrap();
        let mut slots = Vec::new();
        for reveal in [Reveal::Logits, Reveal::Class, Reveal::Logits, Reveal::Class] {
            slots.push(Some(client.prepare(reveal).await.unwrap()));
        }
        for (image, slot) in [2, 0, 3, 1].into_iter().enumerate() {
            let answer = client.infer(slots[slot].take().unwrap(), &digits().images[image]).await.unwrap();
            let expected = if slot % 2 == 0 { &digits().logits } else { &digits().classes };
            assert_eq!(answer.output, expected[image], "slot {slot}");
        }
        client.close().await.unwrap();
        assert_eq!(site.outcome("any order").await.unwrap().inferences, 4);
    });
}

#[test]
fn a_slot_of_another_session() {
    block_on(async {
        let mut site = Site::start(server::Options::default()).await;
        let mut first = open(site.connect().await).await.unwrap();
        let mut second = open(site.connect().await).await.unwrap();
        let slots = [first.prepare(Reveal::Logits).await.unwrap(), second.prepare(Reveal::Logits).await.unwrap()];
        let [of_first, of_second] = slots;
        let foreign = second.infer(of_first, &digits().images[0]).await;
        assert!(matches!(foreign, Err(Error::Usage { .. })), "{foreign:?}");
        // Nothing was sent: both sessions go on.
        let answer = second.infer(of_second, &digits().images[1]).await.unwrap();
        assert_eq!(answer.output, digits().logits[1]);
        for (mut client, image) in [(first, 2), (second, 3)] {
            let answer = client.answer(Schedule::Prepared, Reveal::Class, &digits().images[image]).await.unwrap();
            assert_eq!(answer.output, digits().classes[image]);
            client.close().await.unwrap();
            site.outcome("a foreign slot").await.unwrap();
        }
    });
}

/// Nothing more happens in a session after an error, whatever is asked of it.
#[track_caller]
fn is_over<T>(outcome: Result<T>) {
    match outcome {
        Err(Error::SessionOver) => {}
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("the session goes on"),
    }
}

#[test]
fn a_client_after_an_error() {
    let image = &digits().images[0];
    block_on(async {
        let mut site = Site::start(server::Options::default()).await;
        // Where the second slot's preparation is.
        let stream = Faulty::tapped(site.connect().await);
        let tap = stream.tap();
        let mut client = open(stream).await.unwrap();
        client.prepare(Reveal::Logits).await.unwrap();
        client.channel().flush().await.unwrap();
        let place = tap.lock().unwrap()[Way::Written as usize].len() + 20;
        drop(client);
        peer_fault("dropped", site.outcome("dropped").await);

        let stream = Faulty::new(site.connect().await, Break::Die, Way::Written, place);
        let mut client = open(stream).await.unwrap();
        let slot = client.prepare(Reveal::Logits).await.unwrap();
        peer_fault("dies", within("dies", client.prepare(Reveal::Logits)).await.map(|_| ()));
        is_over(client.infer(slot, image).await);
        is_over(client.prepare(Reveal::Logits).await);
        is_over(client.infer_direct(Reveal::Logits, image).await);
        is_over(client.answer(Schedule::Prepared, Reveal::Logits, image).await);
        let _ = within("close", client.close()).await;
        peer_fault("dies", site.outcome("dies").await);
    });
}

/// Begins a step and drops it at the first thing that it waits for.
async fn poll_once<T>(step: impl Future<Output = T>) {
    let mut step = std::pin::pin!(step);
    let polled = std::future::poll_fn(|context| Poll::Ready(step.as_mut().poll(context))).await;
    assert!(polled.is_pending(), "a preparation waits for the server's share of it");
}

/// A step that was dropped half way leaves the parties out of step: it counts as an error.
#[test]
fn a_client_after_a_cancelled_step() {
    let image = &digits().images[0];
    block_on(async {
        let mut site = Site::start(server::Options::default()).await;
        let mut client = open(site.connect().await).await.unwrap();
        let slot = client.prepare(Reveal::Logits).await.unwrap();
        poll_once(client.prepare(Reveal::Logits)).await;
        is_over(client.infer(slot, image).await);
        is_over(client.answer(Schedule::Direct, Reveal::Logits, image).await);
        drop(client);
        peer_fault("cancelled", site.outcome("cancelled").await);
        site.still_serves("cancelled").await;
    });
}

/// An input that the network does not read is refused before anything of it is sent, and the next one is answered.
#[test]
fn inputs_that_do_not_fit() {
    let good = &digits().images[4];
    let changed = |at: usize, value: i64| {
        let mut image = good.clone();
        image[at] = value;
        image
    };
    let bad = [
        vec![],
        good[1..].to_vec(),
        [&good[..], &[0]].concat(),
        changed(0, -1),
        changed(63, 16),
        changed(7, i64::MIN),
        changed(7, i64::MAX),
    ];
    block_on(async {
        let mut site = Site::start(server::Options::default()).await;
        let mut client = open(site.connect().await).await.unwrap();
        for image in &bad {
            let slot = client.prepare(Reveal::Logits).await.unwrap();
            for outcome in [
                client.infer(slot, image).await,
                client.infer_direct(Reveal::Logits, image).await,
                client.answer(Schedule::Prepared, Reveal::Class, image).await,
            ] {
                assert!(matches!(&outcome, Err(error) if error.fault() == Fault::User), "{outcome:?}");
            }
            for schedule in [Schedule::Prepared, Schedule::Direct] {
                let answer = client.answer(schedule, Reveal::Logits, good).await.unwrap();
                assert_eq!(answer.output, digits().logits[4]);
            }
        }
        client.close().await.unwrap();
        assert_eq!(site.outcome("inputs").await.unwrap().inferences, 2 * bad.len() as u64);
    });
}

/// More refused inputs than a session may have slots: each slot comes back, with its own way to open the output, and no room is
/// lost at the server.
#[test]
fn slots_of_refused_inputs_come_back() {
    let (good, bad) = (&digits().images[4], vec![-1; 64]);
    block_on(async {
        let mut site = Site::start(server::Options::default()).await;
        let mut client = open(site.connect().await).await.unwrap();
        let class = client.prepare(Reveal::Class).await.unwrap();
        assert!(client.infer(class, &bad).await.is_err());
        for _ in 0..MAX_SLOTS + 5 {
            let slot = client.prepare(Reveal::Logits).await.unwrap();
            let sent = client.channel().traffic().total();
            assert!(matches!(client.infer(slot, &bad).await, Err(Error::Usage { .. })));
            assert_eq!(client.channel().traffic().total(), sent, "nothing is sent");
        }
        for (reveal, expected) in [(Reveal::Logits, &digits().logits), (Reveal::Class, &digits().classes)] {
            let slot = client.prepare(reveal).await.unwrap();
            assert_eq!(client.infer(slot, good).await.unwrap().output, expected[4]);
        }
        client.close().await.unwrap();
        let report = site.outcome("refused inputs").await.unwrap();
        assert_eq!(report.inferences, 2);
    });
}

/// Four clients with images and ways of their own, and two more that die among them.
#[test]
fn several_clients_at_once() {
    block_on(async {
        let mut site = Site::start(server::Options::default()).await;
        let mut clients = tokio::task::JoinSet::new();
        for number in 0..4 {
            let stream = site.connect().await;
            clients.spawn(async move {
                let mut client = open(stream).await.unwrap();
                for round in 0..3 {
                    let image = (number + round) % digits().images.len();
                    let schedule = [Schedule::Prepared, Schedule::Direct][(number + round) % 2];
                    let (reveal, expected) =
                        [(Reveal::Logits, &digits().logits), (Reveal::Class, &digits().classes)][number / 2];
                    let answer = client.answer(schedule, reveal, &digits().images[image]).await.unwrap();
                    assert_eq!(answer.output, expected[image], "client {number}, round {round}");
                }
                client.close().await.unwrap();
            });
        }
        for at in [5_000, 440_000] {
            let stream = Faulty::new(site.connect().await, Break::Die, Way::Written, at);
            clients.spawn(async move { drop(peer_fault("a dying client", whole_session(stream).await)) });
        }
        let all = async {
            while let Some(client) = clients.join_next().await {
                client.expect("no client fails");
            }
        };
        within("all clients", all).await;
        let mut answered = Vec::new();
        for _ in 0..6 {
            answered.push(site.outcome("a session").await.map_or(0, |report| report.inferences));
        }
        answered.sort_unstable();
        assert_eq!(answered, [0, 0, 3, 3, 3, 3]);
    });
}
