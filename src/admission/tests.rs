use std::net::Ipv4Addr;

use super::room::Queued;
use super::*;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// So many sessions, each of which waits for another one of its name, with a client that has no patience.
async fn queued(many: usize) -> (Arc<Admission>, Vec<(Seat, Queued)>) {
    let admission = Admission::new(many, None, None, 0);
    admission.suffer(Duration::ZERO);
    let mut seats = Vec::new();
    for _ in 0..many {
        let seat = admission.seat(HERE, Attention::default(), 0).await.unwrap();
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
        let seat = admission.take((place, 0), HERE, &Attention::default()).unwrap();
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
