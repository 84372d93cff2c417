use std::net::IpAddr;

use super::room::{Queued, Sends};
use super::*;

fn client(address: &str) -> Identity {
    address.parse::<IpAddr>().unwrap().into()
}

fn here() -> Identity {
    client("127.0.0.1")
}

/// So many sessions, each of which waits for another one of its name, with a client that has no patience.
async fn queued(many: usize) -> (Arc<Admission>, Vec<(Seat, Queued)>) {
    let admission = Admission::new(many, None, None, 0);
    admission.suffer(Duration::ZERO);
    let mut seats = Vec::new();
    for _ in 0..many {
        let seat = admission.seat(&here(), Attention::default(), 0).await.unwrap();
        let waits = seat.room().queue();
        seats.push((seat, waits));
    }
    (admission, seats)
}

/// So many in line look once for a seat each. How many sessions have been asked to leave by then.
fn line(admission: &Arc<Admission>, many: u64) -> usize {
    let places = 1000..1000 + many;
    admission.state().line.extend(places.clone().map(|place| (place, 0)));
    for place in places {
        let seat = admission.take((place, 0), &here(), &Attention::default()).unwrap();
        assert!(seat.is_none());
    }
    admission.state().line.clear();
    let state = admission.state();
    assert!(state.seats.iter().all(|taken| !(taken.asked() && taken.held)));
    state.seats.iter().filter(|taken| taken.asked()).count()
}

/// Who waits for another session of its name is late; one is asked for each that is in line.
#[tokio::test]
async fn sessions_that_wait_for_their_names_turn_make_room() {
    let (admission, mut seats) = queued(3).await;
    assert_eq!(line(&admission, 2), 2);
    let (last, waits) = seats.pop().unwrap();
    drop(waits);
    assert!(!*last.left.borrow(), "it has waited for the shortest time");
    assert_eq!(line(&admission, 3), 2, "one that works is not late");
}

/// A session that is held is not asked, and others are in its place. One that was asked is held no more, so that it leaves soon.
#[tokio::test]
async fn nobody_is_held_and_asked_to_leave() {
    let (admission, seats) = queued(2).await;
    let hold = seats[0].0.room().hold().unwrap();
    assert_eq!(line(&admission, 2), 1);
    assert!(!*seats[0].0.left.borrow() && *seats[1].0.left.borrow());
    assert!(matches!(seats[1].0.room().hold(), Err(Refusal::Full { .. })));
    drop(hold);
    assert_eq!(line(&admission, 2), 2);
    assert!(seats[0].0.room().hold().is_err());
}

/// The end waits for what is held, of which there is no more from then on; and a seat that was given back holds nothing.
#[tokio::test]
async fn a_session_that_is_cut_is_held_no_more() {
    let (_admission, mut seats) = queued(1).await;
    let (seat, _waits) = seats.remove(0);
    let (room, (end, ends)) = (seat.room(), watch::channel(false));
    let hold = room.hold().unwrap();
    let mut kept = Box::pin(seat.keep(std::future::pending::<()>(), ends));
    end.send_replace(true);
    assert!(timeout(Duration::from_millis(100), &mut kept).await.is_err());
    assert!(room.hold().is_err(), "it is to be cut");
    drop(hold);
    assert_eq!(kept.await, Err(Cut::AtTheEnd));
    drop(seat);
    assert!(room.hold().is_err(), "it is gone");
}

/// A seat whose session began so long ago that it is lent while its client is sent something, and is so.
async fn slow(admission: &Arc<Admission>, who: &str, memory: u64) -> (Seat, Sends) {
    let seat = within(admission.seat(&client(who), Attention::default(), memory)).await.unwrap();
    let sends = seat.room().sends(0);
    admission.state().seat(seat.number).unwrap().began -= LOAN;
    (seat, sends)
}

async fn within<F: Future>(future: F) -> F::Output {
    timeout(LINE * 2, future).await.expect("an end")
}

/// With its memory. It comes back before those that have had none, when there is a seat, and keeps it then.
#[tokio::test]
async fn a_seat_is_lent_until_its_session_computes() {
    let admission = Admission::new(1, None, Some(10), 0);
    let (first, sends) = slow(&admission, "192.0.2.1", 10).await;
    let (second, _) = slow(&admission, "192.0.2.2", 9).await;
    let now = admission.attendance();
    assert_eq!((now.sessions, now.reserved), (2, 9));
    // The second is sent nothing any more: it computes.
    let room = first.room();
    drop(sends);
    let mut stays = Box::pin(room.stay());
    assert!(timeout(Duration::from_millis(100), &mut stays).await.is_err());
    assert_eq!(admission.state().line, [(first.number, 10)]);
    drop(second);
    within(stays).await.unwrap();
    assert_eq!(admission.attendance().reserved, 10);
    let _sends = room.sends(0);
    assert!(!admission.state().lend(LOAN), "it is kept, however slow the client is");
}

/// Each newcomer gets the seat of the one before. Nobody is asked to leave for being late, until there are many.
#[tokio::test]
async fn many_lend_and_then_the_late_leave() {
    let admission = Admission::new(1, Some(usize::MAX), None, 0);
    admission.suffer(Duration::ZERO);
    let mut seats = Vec::new();
    for _ in 0..=MANY_LENT {
        seats.push(slow(&admission, "192.0.2.1", 0).await);
    }
    assert_eq!(admission.state().lent().count(), MANY_LENT);
    assert!(!seats.iter().any(|(seat, _)| *seat.left.borrow()));
    seats.push(slow(&admission, "192.0.2.1", 0).await);
    assert!(seats[..MANY_LENT].iter().all(|(seat, _)| *seat.left.borrow()), "all that had lent theirs by then");
}

/// However many come at once, and do nothing but wait: with a loan for each 16 of them the last of 217 would have a seat after 14 loans.
#[tokio::test]
async fn a_long_line_passes_as_soon_as_a_short_one() {
    for many in [16, 216] {
        let admission = Admission::new(16, Some(usize::MAX), None, 0);
        let start = Instant::now();
        let sessions = (0..=many).map(|_| {
            let admission = admission.clone();
            tokio::spawn(async move {
                let seat = within(admission.seat(&here(), Attention::default(), 0)).await.unwrap();
                let sends = seat.room().sends(0);
                (start.elapsed(), seat, sends)
            })
        });
        let mut longest = Duration::ZERO;
        let mut kept = Vec::new();
        for session in sessions.collect::<Vec<_>>() {
            let (took, seat, sends) = session.await.unwrap();
            longest = longest.max(took);
            kept.push((seat, sends));
        }
        println!("{many}: {longest:?}");
        assert!(longest < 5 * LOAN, "{many}: {longest:?}");
    }
}

/// A client is what it is for quotas: a name, an address, or a network of IPv6. This machine has no limit, however its address is written.
#[tokio::test]
async fn a_client_has_so_many_seats() {
    let admission = Admission::new(100, Some(2), None, 0);
    let mut seats = Vec::new();
    let mut taken = async |who: &Identity| match within(admission.seat(who, Attention::default(), 0)).await {
        Ok(seat) => seats.push(seat),
        Err(refusal) => assert_eq!(refusal, full()),
    };
    for (who, most) in [
        (vec![client("192.0.2.1"), client("::ffff:192.0.2.1")], 2),
        (vec![client("192.0.2.2")], 2),
        (vec![client("2001:db8::1"), client("2001:db8::ffff:1")], 2),
        (vec![client("2001:db8:0:1::1")], 2),
        (vec![client("127.0.0.1"), client("::ffff:127.0.0.1"), client("::1"), client("::ffff:127.0.0.2")], 8),
        (vec![Identity { name: Some("alice".into()), ..client("192.0.2.9") }], 2),
        (vec![Identity { name: Some("bob".into()), ..client("192.0.2.9") }], 2),
    ] {
        let before = admission.attendance().sessions;
        for who in who.iter().chain(&who) {
            taken(who).await;
        }
        // One more each.
        if most == 2 {
            taken(&who[0]).await;
        }
        assert_eq!(admission.attendance().sessions - before, most, "{who:?}");
    }
}
