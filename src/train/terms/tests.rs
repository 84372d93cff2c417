//! Terms that agree, terms that differ, and those that no honest peer sends.

use lowkey_mpc::channel::Limits;

use super::*;
use crate::error::Fault;

fn wish() -> Wish {
    let (net, weights_to) = (Net::new(&[6, 10]).unwrap(), Receivers::Server);
    Wish { weights_to, ..Wish::new(net) }
}

fn mark(done: u64) -> Mark {
    Mark { history: [done as u8; 32], done, opened: Opened::default() }
}

async fn both(client: (Wish, &[Mark]), server: (Wish, &[Mark])) -> [Result<Terms>; 2] {
    let (mut c, mut s) = Channel::pair();
    let outcomes = tokio::join!(
        settle(&mut c, &client.0, Some(300), client.1, None),
        settle(&mut s, &server.0, None, server.1, None)
    );
    [outcomes.0, outcomes.1]
}

#[tokio::test]
async fn what_one_leaves_open_the_other_decides() {
    let client = Wish { epochs: Some(3), every: Some(7), ..wish() };
    let server = Wish { rates: Some(vec![4, 6]), every: Some(7), ..wish() };
    let [terms, theirs] = both((client, &[]), (server, &[])).await.map(Result::unwrap);
    assert_eq!((&terms, terms.digest()), (&theirs, theirs.digest()));
    assert_eq!(
        (terms.samples.client, terms.epochs, terms.every, terms.steps_per_epoch(), terms.steps()),
        (300, 3, 7, 2, 6)
    );
    assert_eq!([0, 1, 2, 3, 4, 5, 99].map(|step| terms.rate(step)), [4, 4, 6, 6, 6, 6, 6]);
    let [terms, _] = both((wish(), &[]), (wish(), &[])).await.map(Result::unwrap);
    assert_eq!((terms.epochs, terms.rates, terms.every), (1, vec![RATE], EVERY));
}

/// Both parties' samples make one epoch.
#[tokio::test]
async fn both_may_have_samples() {
    let (mut c, mut s) = Channel::pair();
    let wish = wish();
    let both = tokio::join!(settle(&mut c, &wish, Some(300), &[], None), settle(&mut s, &wish, Some(500), &[], None));
    let [terms, theirs] = [both.0.unwrap(), both.1.unwrap()];
    assert_eq!((&terms, terms.digest()), (&theirs, theirs.digest()));
    assert_eq!((terms.samples, terms.steps_per_epoch()), (Counts { client: 300, server: 500 }, 5));
    assert!(terms.owners().eq([Party::Client, Party::Server]));
    let places = (0..10).map(|step| terms.place(step)).map(|place| (place.owner, place.batch));
    let epoch = [(Party::Server, 0), (Party::Server, 1), (Party::Client, 0), (Party::Server, 2), (Party::Client, 1)];
    assert!(places.eq(epoch.into_iter().chain(epoch)));
    assert!((0..5).all(|step| terms.counted(step) == BATCH));
    let other = Terms { samples: Counts { client: 300, server: 501 }, ..terms.clone() };
    assert_ne!(other.digest(), terms.digest());

    let terms = Terms { evaluates: true, ..terms };
    let counted = (0..terms.steps()).map(|step| (terms.place(step).owner, terms.counted(step)));
    let of = |owner| counted.clone().filter(|(of, _)| *of == owner).map(|(_, counted)| counted).collect::<Vec<_>>();
    assert_eq!([of(Party::Client), of(Party::Server)], [vec![128, 128, 44], vec![128, 128, 128, 116]]);
}

/// Both parties find the same difference; it is for a person to settle, and each is told both sides.
#[tokio::test]
async fn where_they_differ_both_are_told() {
    let net = |widths: &[usize]| Wish { net: Net::new(widths).unwrap(), ..wish() };
    let others = [
        (net(&[7, 10]), "the network: this end asks for 6-10, the server for 7-10"),
        (net(&[6, 6, 10]), "6-6-10"),
        (Wish { net: Net::d(), ..wish() }, "at 196 positions"),
        (
            Wish { weights_to: Receivers::Both, ..wish() },
            "who gets the weights: this end asks for server, the server for both",
        ),
        (Wish { epochs: Some(3), ..wish() }, "epochs: this end asks for 2, the server for 3"),
        (Wish { rates: Some(vec![5]), ..wish() }, "the rates: this end asks for [4, 4], the server for [5]"),
        (Wish { every: Some(0), ..wish() }, "steps between checkpoints: this end asks for 9, the server for 0"),
    ];
    for (other, says) in others {
        let own = Wish { epochs: Some(2), rates: Some(vec![4, 4]), every: Some(9), ..wish() };
        let [client, server] = both((own, &[]), (other, &[])).await.map(Result::unwrap_err);
        assert!(client.to_string().contains(says), "{client}");
        for error in [client, server] {
            assert!(matches!(error, Error::Terms { .. }), "{error}");
            assert_eq!((error.fault(), error.abort_code()), (Fault::User, None), "{error}");
            assert!(error.hint().is_some());
        }
    }
}

/// Whoever heard the peer first finds the difference at once, and may be gone before the peer has read why.
#[test]
fn the_peer_is_told_before_this_party_ends() {
    let once = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (own, theirs) = tokio::io::duplex(1 << 10);
    let heard = Ask::new(&Wish { epochs: Some(3), ..wish() }, Some(300), &[]);
    let differs = once().block_on(async {
        let mut channel = Channel::new(theirs, Party::Server, Limits::default());
        settle(&mut channel, &Wish { epochs: Some(2), ..wish() }, None, &[], Some(heard)).await
    });
    assert!(matches!(differs, Err(Error::Terms { what: "epochs", .. })), "{differs:?}");
    let read = once().block_on(async { hear(&mut Channel::new(own, Party::Client, Limits::default())).await });
    assert_eq!(read.unwrap().epochs, Some(2));
}

#[tokio::test]
async fn the_last_common_checkpoint_is_taken() {
    let [ten, twenty, thirty] = [10, 20, 30].map(mark);
    let pairs: [(&[Mark], &[Mark], u64); 4] = [
        (&[twenty, ten], &[twenty, ten], 20),
        (&[thirty, twenty], &[twenty, ten], 20),
        (&[ten], &[twenty, ten], 10),
        (&[twenty], &[twenty], 20),
    ];
    for (client, server, done) in pairs {
        for terms in both((wish(), client), (wish(), server)).await.map(Result::unwrap) {
            assert_eq!(terms.from, Some(mark(done)));
        }
    }
    let other = Mark { history: [9; 32], ..twenty };
    for (client, server) in
        [(&[thirty][..], &[twenty, ten][..]), (&[twenty], &[other]), (&[twenty], &[]), (&[], &[ten])]
    {
        for error in both((wish(), client), (wish(), server)).await.map(Result::unwrap_err) {
            assert!(matches!(error, Error::Terms { .. }), "{error}");
        }
    }
}

/// Whoever has had the weights gets later ones only if both parties mean that; one of them may not know of the first time.
#[tokio::test]
async fn a_second_opening_is_asked_for() {
    let opened = |to, step| {
        let mut opened = Opened::default();
        opened.note(to, step);
        Mark { opened, ..mark(2) }
    };
    let of = |weights_to, epochs, reopen| Wish { weights_to, epochs: Some(epochs), reopen, ..wish() };
    use Receivers::{Both, Client, None, Server};
    for (had, gets, epochs, second) in [
        (Server, Server, 2, true),
        (Both, Client, 2, true),
        (Client, Both, 2, true),
        // Another party, nobody, or the same weights again.
        (Server, Client, 2, false),
        (Server, None, 2, false),
        (None, Both, 2, false),
        (Both, Both, 1, false),
    ] {
        for (client, server) in [(opened(had, 2), mark(2)), (mark(2), opened(had, 2))] {
            let [client, server] = [[client], [server]];
            let own = |reopen| of(gets, epochs, reopen);
            let outcomes = both((own(false), &client), (own(false), &server)).await;
            for outcome in outcomes {
                match outcome {
                    Ok(terms) => assert!(!second && terms.from == Some(opened(had, 2)), "{had} {gets}"),
                    Err(error) => {
                        assert!(second && error.to_string().contains("has had the weights of step 2"), "{error}");
                        assert_eq!(error.fault(), Fault::User);
                    }
                }
            }
            let [client_said, server_said] = both((own(true), &client), (own(false), &server)).await;
            assert_eq!([client_said.is_err(), server_said.is_err()], [second; 2]);
            for outcome in both((own(true), &client), (own(true), &server)).await {
                assert_eq!(outcome.unwrap().from, Some(opened(had, 2)));
            }
        }
    }
}

#[test]
fn wishes_have_limits() {
    let wrong = [
        Wish { epochs: Some(0), ..wish() },
        Wish { epochs: Some(MOST_EPOCHS + 1), ..wish() },
        Wish { rates: Some(vec![]), ..wish() },
        Wish { rates: Some(vec![4; MOST_RATES + 1]), ..wish() },
        Wish { rates: Some(vec![4, 25]), ..wish() },
        Wish { net: Net::new(&[4, 1 << 17, 10]).unwrap(), ..wish() },
        Wish { net: Net::new(&[10; 10]).unwrap(), ..wish() },
    ];
    for wish in wrong {
        assert_eq!(wish.check().unwrap_err().fault(), Fault::User, "{wish:?}");
    }
    wish().check().unwrap();
}

/// What a peer may send instead: an error that says whose fault it is, never a panic.
#[tokio::test]
async fn hostile_messages_are_refused() {
    let good = Ask::new(&wish(), Some(300), &[mark(10)]);
    let wrong = [
        Ask { samples: Some(127), ..good.clone() },
        Ask { samples: Some(u64::MAX), ..good.clone() },
        Ask { samples: None, ..good.clone() },
        Ask { epochs: Some(u32::MAX), ..good.clone() },
        Ask { epochs: Some(0), ..good.clone() },
        Ask { rates: Some(vec![]), ..good.clone() },
        Ask { rates: Some(vec![4; 65]), ..good.clone() },
        Ask { rates: Some(vec![255]), ..good.clone() },
        Ask { kept: vec![mark(1); 3], ..good.clone() },
        Ask { widths: vec![6; 10], ..good.clone() },
        Ask { version: 1, ..good.clone() },
        Ask { magic: *b"lowkey\r\n", ..good.clone() },
    ];
    let valid = wire::encode(&good).unwrap();
    let mut messages: Vec<Vec<u8>> = wrong.iter().map(|ask| wire::encode(ask).unwrap()).collect();
    messages.extend((0..valid.len()).map(|len| valid[..len].to_vec()));
    messages.push([&valid[..], &[0]].concat());
    for message in messages {
        let (mut c, mut s) = Channel::pair();
        let send = async {
            c.send(FrameKind::Control, message.clone()).await.unwrap();
            c.recv_at_most(FrameKind::Control, MOST_BYTES).await.unwrap();
        };
        let (own, kept) = (wish(), [mark(10)]);
        let (outcome, ()) = tokio::join!(settle(&mut s, &own, None, &kept, None), send);
        assert_eq!(outcome.unwrap_err().fault(), Fault::Peer, "{message:?}");
    }
    // Any byte of it changed: terms, or an error that is nobody's panic.
    for (at, bit) in (0..valid.len()).flat_map(|at| [0, 3, 7].map(|bit| (at, bit))) {
        let mut message = valid.clone();
        message[at] ^= 1 << bit;
        if let Ok(ask) = Ask::decode(&message, Party::Client) {
            let own = Ask::new(&wish(), None, &[mark(10)]);
            if let Ok(terms) = merge(&wish(), &own, &ask, Party::Client) {
                assert!(terms.steps() > 0 && terms.steps() < 1 << 40);
            }
        }
    }
}
