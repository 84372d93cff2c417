//! Sessions of a server that is full, or ends: whom it cuts, and that nobody is blamed for that.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU64, Ordering};

use lowkey_mpc::channel::Attention;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::*;
use crate::admission::{Admission, Cut, Seat};
use crate::threads;

/// Longer than an honest answer takes, and shorter than one may take.
const SLOW: Duration = Duration::from_millis(700);

fn often() -> AuditRate {
    "0.99".parse().unwrap()
}

/// Seats of a server without patience.
fn full(seats: usize) -> Arc<Admission> {
    let admission = Admission::new(seats, None, None, 0);
    admission.suffer(Duration::from_millis(200));
    admission
}

async fn seat(admission: &Arc<Admission>) -> Result<Seat, Refusal> {
    admission.seat(&IpAddr::V4(Ipv4Addr::LOCALHOST).into(), Attention::default(), 0).await
}

/// The server computes for long, with all messages in its buffer, when its session is cut. The thread goes on to where it next waits:
/// no coin has fallen there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_coin_falls_in_a_session_that_is_cut_while_it_computes() {
    for cut in [Cut::ForRoom, Cut::AtTheEnd] {
        let (_folder, store, registry) = registry(IdentityLimits::default());
        let admission = full(1);
        let own = seat(&admission).await.unwrap();
        let (presence, room) = (registry.enter_in(&client("alice"), own.room()).unwrap(), own.room());
        let ((begun, begins), (go_on, goes_on)) = (oneshot::channel(), std::sync::mpsc::channel::<()>());
        let (outcome, ended) = oneshot::channel();
        let session = threads::converse(async move || {
            let sent = send(Deviation::None, 0, &mut fresh());
            begun.send(()).unwrap();
            // A proof.
            goes_on.recv().unwrap();
            let decided = sent.undecided().decide(&presence, often(), &mut fresh(), open).await;
            match decided {
                Ok(Verdict::Audit(audit, ())) => audit.answer(std::future::pending()).await.unwrap(),
                Ok(Verdict::Use(_)) => {}
                Err(denied) => outcome.send(denied).unwrap(),
            }
        });
        let (end, ends) = watch::channel(false);
        let kept = tokio::spawn(async move { own.keep(session, ends).await.map(drop) });
        begins.await.unwrap();
        match cut {
            Cut::AtTheEnd => drop(end.send_replace(true)),
            Cut::ForRoom => {
                // As if it had been late.
                let _late = room.queue();
                seat(&admission).await.unwrap();
            }
        }
        assert_eq!(kept.await.unwrap(), Err(cut));
        go_on.send(()).unwrap();
        let denied = ended.await.expect("a coin has fallen");
        assert!(matches!(denied, Denied::Refused(Refusal::Full { .. })), "{denied:?}");
        assert_eq!(store.offences().unwrap().iter().count(), 0);
        registry.enter(&client("alice")).unwrap().begin_slot().unwrap();
    }
}

/// A client that answers rightly, and late, in a session of its own; with the coins that have fallen.
async fn slow(
    admission: &Arc<Admission>,
    registry: &Arc<Registry>,
    coins: &Arc<AtomicU64>,
    end: &watch::Sender<bool>,
) -> JoinHandle<Result<(), Cut>> {
    let own = seat(admission).await.unwrap();
    let presence = registry.enter_in(&client("mallory"), own.room()).unwrap();
    let (coins, ends) = (coins.clone(), end.subscribe());
    let session = threads::converse(async move || {
        for number in 0.. {
            let sent = send(Deviation::None, number, &mut fresh());
            let Ok(verdict) = sent.undecided().decide(&presence, often(), &mut fresh(), open).await else { break };
            coins.fetch_add(1, Ordering::SeqCst);
            let late = async {
                tokio::time::sleep(SLOW).await;
                Ok(sent.answer())
            };
            if let Verdict::Audit(audit, ()) = verdict {
                audit.answer(late).await.unwrap();
            }
        }
        // It has been told to leave.
        std::future::pending::<()>().await;
    });
    tokio::spawn(async move { own.keep(session, ends).await.map(drop) })
}

/// A name with several sessions that answers as late as it may: those that wait for their turn make room for others, and where the
/// server ends no coin falls any more, so that it ends one answer later. Nobody is shut out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_sessions_of_one_name_keep_one_seat() {
    let (_folder, store, registry) = registry(IdentityLimits::default());
    let (admission, coins, end) = (full(3), Arc::default(), watch::Sender::new(false));
    let mut sessions = Vec::new();
    for _ in 0..3 {
        sessions.push(slow(&admission, &registry, &coins, &end).await);
    }
    let other = seat(&admission).await.expect("somebody who waits for a turn makes room");
    end.send_replace(true);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let fell = coins.load(Ordering::SeqCst);
    for session in sessions {
        session.await.unwrap().unwrap_err();
    }
    assert!(fell > 0 && coins.load(Ordering::SeqCst) == fell, "a coin has fallen in a session that ends");
    drop(other);
    assert_eq!(store.offences().unwrap().iter().count(), 0);
    registry.enter(&client("mallory")).unwrap();
}

/// Who owes an answer comes on several connections: the one that is asked has its time, and the others make room. The debt stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_connections_of_a_debtor_keep_one_seat() {
    let (_folder, _store, registry) = registry(IdentityLimits::default());
    let admission = full(2);
    let sent = send(Deviation::None, 0, &mut fresh());
    drop(sent.audit(&registry.enter(&client("alice")).unwrap()).await);
    let [first, second] = [seat(&admission).await.unwrap(), seat(&admission).await.unwrap()];
    let audit = registry.owed_in(&client("alice"), &first.room()).await.unwrap().unwrap();
    let (_end, ends) = watch::channel(false);
    let waits = tokio::spawn({
        let (registry, room) = (registry.clone(), second.room());
        async move { second.keep(registry.owed_in(&client("alice"), &room), ends).await.map(drop) }
    });
    let other = seat(&admission).await.expect("the second one makes room");
    assert_eq!(waits.await.unwrap(), Err(Cut::ForRoom));
    // One that has to leave is not asked, and owes as before.
    drop(audit);
    let gone = first.room();
    drop((first, other));
    let asked = registry.owed_in(&client("alice"), &gone).await;
    assert!(matches!(asked.err(), Some(Denied::Refused(Refusal::Full { .. }))));
    registry.owed(&client("alice")).await.unwrap().unwrap().answer(given(sent.answer())).await.unwrap();
    registry.enter(&client("alice")).unwrap();
}
