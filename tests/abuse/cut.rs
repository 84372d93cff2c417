//! Connections that die or stall after any number of bytes, in any stage, at either end.

use std::time::Duration;

use super::common::faulty::{Fault, Faulty, Tap, Way};
use super::common::{self, block_on};
use super::*;

/// Bytes that the client has (read, written) before the session and at the end of each part.
fn marks() -> &'static [[usize; 2]] {
    static MARKS: OnceLock<Vec<[usize; 2]>> = OnceLock::new();
    MARKS.get_or_init(|| {
        let run = async {
            let (here, there) = tokio::io::duplex(1 << 20);
            let model = digits().model.clone();
            let options = server::Options::default();
            let server = tokio::spawn(server::serve_seeded(Box::new(there), model, options, common::seed()));
            let stream = Faulty::tapped(here);
            let tap = stream.tap();
            let mut marks = vec![[0, 0]];
            let mut client = open(stream).await.unwrap();
            mark(&mut client, &tap, &mut marks).await;
            let slot = client.prepare(Reveal::Logits).await.unwrap();
            mark(&mut client, &tap, &mut marks).await;
            client.infer(slot, &digits().images[0]).await.unwrap();
            mark(&mut client, &tap, &mut marks).await;
            client.answer(Schedule::Direct, Reveal::Class, &digits().images[1]).await.unwrap();
            mark(&mut client, &tap, &mut marks).await;
            client.close().await.unwrap();
            server.await.unwrap().unwrap();
            marks
        };
        std::thread::spawn(move || block_on(run)).join().unwrap()
    })
}

async fn mark(client: &mut Session, tap: &Tap, marks: &mut Vec<[usize; 2]>) {
    client.channel().flush().await.unwrap();
    marks.push(tap.lock().unwrap().each_ref().map(Vec::len));
}

/// Places in every part, each way: at its ends, within its first header and payload, in its middle.
fn places(way: Way) -> Vec<usize> {
    let mut places = Vec::new();
    for part in marks().windows(2) {
        let [start, end] = [part[0], part[1]].map(|counts| counts[way as usize]);
        places.extend([start, start + 3, start + 9, (start + end) / 2, end - 1]);
    }
    places.dedup();
    places
}

fn all_places() -> impl Iterator<Item = (Way, usize)> {
    [Way::Read, Way::Written].into_iter().flat_map(|way| places(way).into_iter().map(move |at| (way, at)))
}

#[test]
fn clients_that_die() {
    block_on(async {
        let mut site = Site::start(server::Options::default()).await;
        for (number, (way, at)) in all_places().enumerate() {
            let what = format!("client dies at byte {at} {way:?}");
            let stream = Faulty::new(site.connect().await, Fault::Die, way, at);
            peer_fault(&what, within(&what, whole_session(stream)).await);
            peer_fault(&what, site.outcome(&what).await);
            if number % 16 == 0 {
                site.still_serves(&what).await;
            }
        }
        site.still_serves("all clients are dead").await;
    });
}

#[test]
fn servers_that_die() {
    block_on(async {
        for (way, at) in all_places() {
            // What the client reads is what the server writes.
            let way = if way == Way::Read { Way::Written } else { Way::Read };
            let what = format!("server dies at byte {at} {way:?}");
            let (here, there) = tokio::io::duplex(1 << 20);
            let stream = Box::new(Faulty::new(there, Fault::Die, way, at));
            let server =
                server::serve_seeded(stream, digits().model.clone(), server::Options::default(), common::seed());
            let server = tokio::spawn(server);
            peer_fault(&what, within(&what, whole_session(here)).await);
            peer_fault(&what, within(&what, server).await.expect("no panic"));
        }
    });
}

/// Silence is not an error at once, but it is one.
#[test]
fn clients_that_stall() {
    let timeout = Duration::from_millis(300);
    block_on(async {
        let mut site =
            Site::start(server::Options { limits: limits(timeout), idle: timeout, ..server::Options::default() }).await;
        for part in marks().windows(2) {
            let [start, end] = [part[0], part[1]].map(|counts| counts[Way::Written as usize]);
            for at in [start, (start + end) / 2] {
                let what = format!("client stalls at byte {at}");
                let stream = Faulty::new(site.connect().await, Fault::Stall, Way::Written, at);
                let client = tokio::spawn(whole_session(stream));
                match peer_fault(&what, site.outcome(&what).await) {
                    Error::Session(ProtocolError::Timeout { after }) => assert_eq!(after, timeout, "{what}"),
                    error => panic!("{what}: {error}"),
                }
                client.abort();
            }
        }
    });
}

#[test]
fn servers_that_stall() {
    let timeout = Duration::from_millis(300);
    block_on(async {
        for part in marks().windows(2) {
            let [start, end] = [part[0], part[1]].map(|counts| counts[Way::Read as usize]);
            for at in [start, (start + end) / 2] {
                let what = format!("server stalls at byte {at}");
                let (here, there) = tokio::io::duplex(1 << 20);
                let stream = Box::new(Faulty::new(there, Fault::Stall, Way::Written, at));
                let server =
                    server::serve_seeded(stream, digits().model.clone(), server::Options::default(), common::seed());
                let server = tokio::spawn(server);
                let session = async {
                    let mut client = Session::open_seeded(Box::new(here), forgetful(timeout), common::seed()).await?;
                    client.answer(Schedule::Prepared, Reveal::Logits, &digits().images[0]).await?;
                    client.answer(Schedule::Direct, Reveal::Class, &digits().images[1]).await
                };
                match peer_fault(&what, within(&what, session).await) {
                    Error::Session(ProtocolError::Timeout { after }) => assert_eq!(after, timeout, "{what}"),
                    error => panic!("{what}: {error}"),
                }
                server.abort();
            }
        }
    });
}

/// A client that opens a session and then asks for nothing is told to go; its neighbours are not.
#[test]
fn clients_that_idle() {
    block_on(async {
        let idle = Duration::from_millis(100);
        let mut site = Site::start(server::Options { idle, ..server::Options::default() }).await;
        let mut client = within("open", open(site.connect().await)).await.unwrap();
        match site.outcome("idle").await {
            Err(Error::Session(ProtocolError::Timeout { after })) => assert_eq!(after, idle),
            other => panic!("{other:?}"),
        }
        let answer = within("late", client.answer(Schedule::Prepared, Reveal::Logits, &digits().images[0])).await;
        aborted_or_closed("late", answer, AbortCode::Timeout);
    });
}
