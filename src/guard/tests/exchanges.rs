//! Both roles over a connection.

use lowkey_mpc::channel::{Channel, Sums};
use lowkey_mpc::party::Party;

use super::exchange::Fallen;
use super::*;
use crate::error::Misbehaviour;

/// What the client announced, and the number.
type Slot = ([u8; 32], u64);

/// The client's slot, taken apart.
fn macs<T>((announced, _): ([u8; 32], T)) -> ([u8; 32], ()) {
    (announced, ())
}

/// A slot over a connection, up to the word. The values that the client authenticates reach the server beside it.
async fn converse(
    channels: &mut [Channel; 2],
    presence: &Presence,
    number: u64,
    rngs: &mut [OnceRng; 2],
) -> (exchange::Waiting<Slot>, Undecided<Slot>) {
    let slot = SlotName::new(SessionId([3; 32]), number, MODEL.digest);
    let ([to_server, to_client], [own, theirs]) = (channels, rngs);
    let (sent, received) = tokio::join!(
        exchange::send(to_server, &MODEL, slot, own),
        exchange::receive(to_client, &SERVER, slot, presence, theirs),
    );
    let ((half, promise), (shares, arrived)) = (sent.unwrap(), received.unwrap());
    let of_layers = MODEL.layers.iter().enumerate().all(|(at, layer)| shares.get(at).is_some() == layer.is_some());
    assert!(of_layers, "shares of other layers than the encrypted ones");
    let announced = values(&half.pads, &half.shares);
    (exchange::Waiting::new(promise, (announced, number)), Undecided::new(arrived, MODEL.clone(), (announced, number)))
}

/// The server's end of a slot.
async fn decide(
    to_client: &mut Channel,
    undecided: Undecided<Slot>,
    presence: &Presence,
    rng: &mut OnceRng,
) -> Result<Fallen<Usable<Slot>, ()>> {
    exchange::complete(to_client).await?;
    exchange::decide(to_client, undecided, presence, AuditRate::default(), rng, open).await
}

fn connection() -> [Channel; 2] {
    Channel::pair().into()
}

#[tokio::test]
async fn slots_over_a_connection() {
    let (_folder, store, registry) = registry(IdentityLimits::default());
    let presence = registry.enter(&client("alice")).unwrap();
    let (mut channels, mut rngs) = (connection(), [20, 21].map(rng));
    let (debts, mut used) = (Debts::default(), Vec::new());
    for number in 0..24 {
        let (waiting, undecided) = converse(&mut channels, &presence, number, &mut rngs).await;
        let [to_server, to_client] = &mut channels;
        let (heard, decided) =
            tokio::join!(waiting.hear(to_server, &debts, macs), decide(to_client, undecided, &presence, &mut rngs[1]));
        match (heard.unwrap(), decided.unwrap()) {
            (Fallen::Use(own), Fallen::Use(usable)) => {
                assert_eq!((own.1, usable.begin(&presence).await.unwrap().1), (number, number));
                used.push(number);
            }
            (Fallen::Spent(()), Fallen::Spent(())) => {}
            (own, _) => panic!("{number}: {own:?}"),
        }
    }
    assert!((2..=22).contains(&used.len()), "{used:?}");
    assert!(debts.is_empty());
    assert_eq!(store.offences().unwrap().iter().count(), 0);
}

/// The line is lost when the slot is to be opened, and again when it was; what a client owes it owes for this slot alone.
#[tokio::test]
async fn an_answer_on_another_connection() {
    let (_folder, _store, registry) = registry(IdentityLimits::default());
    let presence = registry.enter(&client("alice")).unwrap();
    let (mut channels, mut rngs) = (connection(), [22, 23].map(rng));
    let mut number = 0;
    let debts = Debts::default();
    let slot = loop {
        let (waiting, undecided) = converse(&mut channels, &presence, number, &mut rngs).await;
        let [to_server, to_client] = &mut channels;
        let rate = AuditRate::default();
        let Verdict::Audit(audit, ()) = undecided.decide(&presence, rate, &mut rngs[1], open).await.unwrap() else {
            number += 1;
            continue;
        };
        // Asked, and cut before the answer.
        to_client.send_control(&exchange::Word::Open).await.unwrap();
        to_client.flush().await.unwrap();
        drop(std::mem::replace(to_client, connection().into_iter().next().unwrap()));
        drop(audit);
        waiting.hear(to_server, &debts, macs).await.unwrap_err();
        break SlotName::new(SessionId([3; 32]), number, MODEL.digest);
    };
    assert_eq!(debts.len(), 1);
    assert!(*presence.ended().borrow() && registry.enter(&client("alice")).is_err());

    // A client that owes nothing opens nothing, and neither does one that owes another slot.
    let other = Committed::new(SlotName { number: 99, ..slot }, &mut fresh()).seed(&nonce()).1;
    let other = exchange::Waiting::new(other, ([0; 32], ()));
    let owes_another = Debts::default();
    other.hear(&mut { connection().into_iter().next().unwrap() }, &owes_another, macs).await.unwrap_err();
    for foreign in [Debts::default(), owes_another] {
        let [mut to_server, mut to_client] = connection();
        let audit = registry.owed(&client("alice")).await.unwrap();
        let (paid, collected) = tokio::join!(
            async {
                let paid = foreign.pay(&mut to_server).await;
                drop(to_server);
                paid
            },
            exchange::collect(&mut to_client, audit),
        );
        assert!(matches!(paid, Err(Error::Peer(Party::Server, Misbehaviour::NotOwed))));
        assert!(collected.is_err() && registry.enter(&client("alice")).is_err());
    }

    // A server that asks for nothing, such as another one, settles nothing.
    let [mut to_server, mut to_client] = connection();
    let (paid, collected) = tokio::join!(debts.pay(&mut to_server), exchange::collect(&mut to_client, None));
    assert!(paid.is_ok() && collected.is_ok() && debts.len() == 1);

    // Paid; the server's word of it is not heard, and the next connection asks for nothing.
    let [mut to_server, mut to_client] = connection();
    let audit = registry.owed(&client("alice")).await.unwrap();
    assert!(audit.is_some());
    let (paid, collected) = tokio::join!(debts.pay(&mut to_server), exchange::collect(&mut to_client, audit));
    assert!(paid.is_ok() && collected.is_ok() && debts.is_empty());
    let presence = registry.enter(&client("alice")).unwrap();
    presence.begin_slot().unwrap();
    let [mut to_server, mut to_client] = connection();
    let audit = registry.owed(&client("alice")).await.unwrap();
    let (paid, collected) = tokio::join!(debts.pay(&mut to_server), exchange::collect(&mut to_client, audit));
    assert!(paid.is_ok() && collected.is_ok());
}

/// A client's future is dropped when its slot may have been asked for: what opens it is there, but not before the slot is gone, and until no server
/// takes it.
#[tokio::test]
async fn a_dropped_future_keeps_the_debt() {
    let (_folder, _store, registry) = registry(IdentityLimits::default());
    let presence = registry.enter(&client("alice")).unwrap();
    let (mut channels, mut rngs, debts) = (connection(), [26, 27].map(rng), Debts::default());
    let (waiting, undecided) = converse(&mut channels, &presence, 0, &mut rngs).await;
    let slot = SlotName::new(SessionId([3; 32]), 0, MODEL.digest);
    let [to_server, to_client] = &mut channels;
    {
        let mut hears = Box::pin(waiting.hear(to_server, &debts, macs));
        assert!(comes_to_wait(&mut hears).await);
        exchange::complete(to_client).await.unwrap();
        // Elsewhere it is opened by nobody as long as it may be used.
        assert_eq!(debts.len(), 1);
        let [mut elsewhere, _other] = connection();
        let opened = debts.open(&mut elsewhere, &slot).await;
        assert!(matches!(opened, Err(Error::Peer(Party::Server, Misbehaviour::NotOwed))));
    }
    assert_eq!(debts.len(), 1);
    let Verdict::Audit(audit, ()) = undecided.decide(&presence, AuditRate::default(), &mut coin(), open).await.unwrap()
    else {
        panic!("another coin")
    };
    drop(audit);
    assert!(registry.enter(&client("alice")).is_err());
    // The answer is given up as well, and then given.
    for dropped in [true, false] {
        let [mut to_server, mut to_client] = connection();
        let audit = registry.owed(&client("alice")).await.unwrap();
        assert!(audit.is_some());
        if dropped {
            let mut pays = Box::pin(debts.pay(&mut to_server));
            to_client.send_control(&exchange::Owes(Some(slot))).await.unwrap();
            to_client.flush().await.unwrap();
            assert!(comes_to_wait(&mut pays).await);
        } else {
            let (paid, collected) = tokio::join!(debts.pay(&mut to_server), exchange::collect(&mut to_client, audit));
            assert!(paid.is_ok() && collected.is_ok());
        }
        assert_eq!(debts.len(), usize::from(dropped));
    }
    registry.enter(&client("alice")).unwrap();
}

/// A generator whose first word is small, so that a slot is opened.
fn coin() -> OnceRng {
    rng((0..).find(|&seed| rng(seed).next_u32() < 1 << 31).unwrap())
}

/// Lets a future come to where it waits: true if it does.
async fn comes_to_wait<F: Future + Unpin>(future: F) -> bool {
    tokio::time::timeout(Duration::from_millis(100), future).await.is_err()
}

/// What no server takes any more is forgotten, and so is what was owed longest where that is much.
#[tokio::test]
async fn debts_lapse() {
    let debts = Debts::default();
    let owe = async |number| {
        let slot = SlotName::new(SessionId([3; 32]), number, MODEL.digest);
        let waiting = exchange::Waiting::new(Committed::new(slot, &mut fresh()).seed(&nonce()).1, ([0; 32], ()));
        let mut lost = connection().into_iter().next().unwrap();
        waiting.hear(&mut lost, &debts, macs).await.unwrap_err();
    };
    for number in 0..70 {
        owe(number).await;
    }
    assert_eq!(debts.len(), 64);
    let now = lowkey_mpc::runtime::Instant::now();
    debts.lapse(now + Duration::from_secs(10 * 60));
    assert_eq!(debts.len(), 64);
    debts.lapse(now + Duration::from_secs(16 * 60));
    assert!(debts.is_empty());
}

fn nonce() -> Nonce {
    Arrived::new(SlotName::new(SessionId([0; 32]), 0, [0; 32]), commitment(), &mut fresh()).nonce()
}

fn commitment() -> Commitment {
    Committed::new(SlotName::new(SessionId([0; 32]), 0, [0; 32]), &mut fresh()).commitment()
}

/// A line that changes bytes, and a client that stops before the coin: the session ends, and nobody is shut out.
#[tokio::test]
async fn what_is_no_offence() {
    let (_folder, store, registry) = registry(IdentityLimits::default());
    let presence = registry.enter(&client("alice")).unwrap();
    let (mut channels, mut rngs) = (connection(), [24, 25].map(rng));
    let (_, undecided) = converse(&mut channels, &presence, 0, &mut rngs).await;
    let [to_server, to_client] = &mut channels;
    let mut sums = to_server.sums();
    sums.sent ^= 1;
    to_server.send_control(&exchange::Complete { sums }).await.unwrap();
    let decided = decide(to_client, undecided, &presence, &mut rngs[1]).await;
    assert!(matches!(decided.err(), Some(Denied::Other(Error::Session(lowkey_mpc::error::Error::Changed)))));

    let mut channels = connection();
    let (waiting, undecided) = converse(&mut channels, &presence, 1, &mut rngs).await;
    drop(waiting);
    let [to_server, mut to_client] = channels;
    drop(to_server);
    let decided = decide(&mut to_client, undecided, &presence, &mut rngs[1]).await;
    assert!(decided.is_err());
    assert_eq!(store.offences().unwrap().iter().count(), 0);
    presence.begin_slot().unwrap();
}

/// Payloads of the messages, which a plan of the guarded mode counts.
#[test]
fn sizes() {
    fn size(message: &impl serde::Serialize) -> usize {
        lowkey_mpc::wire::encode(message).unwrap().len()
    }
    let name = SlotName::new(SessionId([0; 32]), 0, [0; 32]);
    let answer = Committed::new(name, &mut fresh()).seed(&nonce()).1.answer([0; 32]);
    let sums = Sums { sent: 1, received: 2 };
    assert_eq!(
        [size(&commitment()), size(&nonce()), size(&answer)],
        [slot::COMMITMENT_BYTES, slot::NONCE_BYTES, slot::ANSWER_BYTES]
    );
    assert_eq!(
        [size(&exchange::Complete { sums }), size(&exchange::Word::Use), size(&exchange::Word::Open)],
        [8, 4, 4]
    );
    assert_eq!([size(&exchange::Settled { slot: 0 }), size(&exchange::Owes(None))], [8, 1]);
    assert_eq!(size(&exchange::Owes(Some(name))), 1 + 32 + 8 + 32);
}
