//! Bytes that are not what the protocol has there: before, around and within frames.

use lowkey::session::{Ask, Hello, MAGIC, VERSION, Welcome};
use lowkey_mpc::wire;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;
use tokio::io::AsyncWriteExt;

use super::common::faulty::{Fault, Faulty, Way};
use super::common::frames::{ABORT, CONTROL, Frame, HEADER, abort_code, frame, frames, rest};
use super::common::{self, block_on};
use super::*;

fn hello(magic: [u8; 8], version: u32) -> Vec<u8> {
    wire::encode(&Hello { magic, version, ask: Ask::Only }).unwrap()
}

/// What a stranger may send first, and why it is turned away. The stranger then closes its half.
fn strangers() -> Vec<(&'static str, Vec<u8>, Option<AbortCode>)> {
    let good = hello(MAGIC, VERSION);
    let framed = |payload: &[u8]| frame(CONTROL, 0, 1, payload);
    let mut header_only = framed(&good);
    header_only.truncate(HEADER);
    let mut random = vec![0; 200];
    ChaCha20Rng::seed_from_u64(1).fill_bytes(&mut random);
    let protocol = Some(AbortCode::Protocol);
    vec![
        ("nothing", vec![], None),
        ("half a header", vec![16, 0, 0], None),
        ("a header alone", header_only, None),
        ("half a hello", framed(&good)[..HEADER + 5].to_vec(), None),
        ("random bytes", random, protocol),
        ("zeros", vec![0; 100], protocol),
        ("ones", vec![0xff; 100], protocol),
        ("a browser", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(), protocol),
        ("a TLS client", [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 500]].concat(), protocol),
        ("a secure shell", b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), protocol),
        ("a frame of 4 GiB", [&u32::MAX.to_le_bytes()[..], &[CONTROL, 0, 1, 0]].concat(), protocol),
        ("a hello of 257 bytes", framed(&[0; 257]), protocol),
        ("an empty hello", framed(&[]), protocol),
        ("a hello that is too short", framed(&good[..15]), protocol),
        ("a hello that is too long", framed(&[&good[..], &[0]].concat()), protocol),
        ("a hello as data", frame(1, 0, 1, &good), protocol),
        ("a hello as an OT batch", frame(2, 0, 1, &good), protocol),
        ("a hello as a hint", frame(3, 0, 1, &good), protocol),
        ("a hello of no kind", frame(5, 0, 1, &good), protocol),
        ("a hello offline", frame(CONTROL, 1, 1, &good), protocol),
        ("a hello online", frame(CONTROL, 2, 1, &good), protocol),
        ("a hello in no stage", frame(CONTROL, 3, 1, &good), protocol),
        ("a hello of depth 0", frame(CONTROL, 0, 0, &good), protocol),
        ("a hello of depth 2", frame(CONTROL, 0, 2, &good), protocol),
        ("a hello of depth 65535", frame(CONTROL, 0, u16::MAX, &good), protocol),
        ("another magic", framed(&hello(*b"lowkey\n\r", VERSION)), protocol),
        ("an older version", framed(&hello(MAGIC, VERSION - 1)), Some(AbortCode::Version)),
        ("a newer version", framed(&hello(MAGIC, VERSION + 1)), Some(AbortCode::Version)),
        ("an abort", frame(ABORT, 0, 1, &[2, 0]), None),
        ("an abort of no code", frame(ABORT, 0, 1, &[0xff, 0xff]), None),
        ("an abort of 3 bytes", frame(ABORT, 0, 1, &[2, 0, 0]), protocol),
    ]
}

/// A server answers a stranger with an abort frame and nothing else: a code of two bytes, no text, no state. A client of another
/// version hears the server's first.
#[test]
fn strangers_at_a_server() {
    block_on(async {
        let mut site = Site::start(server::Options::default()).await;
        for (what, bytes, code) in strangers() {
            let mut stream = site.connect().await;
            stream.write_all(&bytes).await.unwrap();
            stream.shutdown().await.unwrap();
            let answer = within(what, rest(&mut stream)).await;
            let error = peer_fault(what, site.outcome(what).await);
            match code {
                None => assert!(answer.is_empty(), "{what}: {answer:?}"),
                // The reset of a connection with unread bytes may overtake the frame.
                Some(code) if !answer.is_empty() => {
                    let refusal = frame(CONTROL, 0, 2, &wire::encode(&Welcome::refusal()).unwrap());
                    let answer = if code == AbortCode::Version {
                        answer.strip_prefix(&refusal[..]).unwrap_or_else(|| panic!("{what}: {answer:?}"))
                    } else {
                        &answer
                    };
                    assert_eq!(answer.len(), 10, "{what}");
                    assert_eq!(abort_code(answer), Some(code as u16), "{what}");
                }
                Some(_) => assert!(bytes.len() > 30, "{what}: no answer"),
            }
            assert_eq!(code, error.abort_code(), "{what}: {error}");
        }
        site.still_serves("after all strangers").await;
    });
}

/// Frames in place of the server's welcome.
fn impostors() -> Vec<(&'static str, Vec<u8>, Option<AbortCode>)> {
    let model = &digits().model;
    let (digest, epoch) = (model.digest, model.package.epoch);
    let welcome = |version| {
        wire::encode(&Welcome { version, digest, epoch, plan_bytes: model.package.plan.len() as u32, hint_bytes: 1 })
            .unwrap()
    };
    let good = welcome(VERSION);
    let framed = |payload: &[u8]| frame(CONTROL, 0, 2, payload);
    let protocol = Some(AbortCode::Protocol);
    vec![
        ("nothing", vec![], None),
        ("half a header", vec![12, 0, 0], None),
        ("half a welcome", framed(&good)[..30].to_vec(), None),
        ("a web server", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), protocol),
        ("a TLS server", vec![0x15, 3, 3, 0, 2, 2, 50, 0], protocol),
        ("a hello", framed(&hello(MAGIC, VERSION)), protocol),
        ("a welcome of 4 GiB", [&u32::MAX.to_le_bytes()[..], &[CONTROL, 0, 2, 0]].concat(), protocol),
        ("a welcome as a hint", frame(3, 0, 2, &good), protocol),
        ("a welcome online", frame(CONTROL, 2, 2, &good), protocol),
        ("a welcome of depth 0", frame(CONTROL, 0, 0, &good), protocol),
        ("a welcome of depth 3", frame(CONTROL, 0, 3, &good), protocol),
        ("an older version", framed(&welcome(VERSION - 1)), Some(AbortCode::Version)),
        ("a newer version", framed(&welcome(VERSION + 1)), Some(AbortCode::Version)),
        ("an abort", frame(ABORT, 0, 1, &[3, 0]), None),
        ("version 1's refusal", frame(ABORT, 0, 2, &[1, 0]), Some(AbortCode::Version)),
    ]
}

#[test]
fn impostors_at_a_client() {
    block_on(async {
        for (what, bytes, code) in impostors() {
            let (here, mut there) = tokio::io::duplex(1 << 20);
            there.write_all(&bytes).await.unwrap();
            let read = tokio::spawn(async move {
                there.shutdown().await.unwrap();
                rest(&mut there).await
            });
            let error = peer_fault(what, within(what, open(here)).await);
            assert_eq!(error.abort_code(), code, "{what}: {error}");
            let sent = frames(&within(what, read).await.unwrap());
            assert_eq!(sent[0].payload, hello(MAGIC, VERSION), "{what}");
            assert!(sent.len() <= 2, "{what}");
            if let Some(code) = code {
                assert_eq!((sent[1].kind, &sent[1].payload[..]), (ABORT, &(code as u16).to_le_bytes()[..]), "{what}");
            }
        }
    });
}

/// The frames of a whole session: what the client reads, what it writes.
pub fn transcript() -> [Vec<Frame>; 2] {
    block_on(async {
        let (here, there) = tokio::io::duplex(1 << 20);
        let server =
            server::serve_seeded(Box::new(there), digits().model.clone(), server::Options::default(), common::seed());
        let server = tokio::spawn(server);
        let stream = Faulty::tapped(here);
        let tap = stream.tap();
        assert_eq!(whole_session(stream).await.unwrap(), whole_answer());
        server.await.unwrap().unwrap();
        tap.lock().unwrap().each_ref().map(|bytes| frames(bytes))
    })
}

/// Runs a session in which one byte is changed; returns how both ends fared.
async fn with_change(site: &mut Site, what: &str, way: Way, at: usize, by: u8) -> [Result<()>; 2] {
    let stream = Faulty::new(site.connect().await, Fault::Change(by), way, at);
    let client = within(what, whole_session(stream)).await.map(|_| ());
    [client, site.outcome(what).await.map(|_| ())]
}

/// A frame of another kind, stage, depth or length than the protocol has there is always noticed, whichever frame it is.
#[test]
fn changed_headers() {
    let transcript = transcript();
    // Offset in the header and bits: length beyond every limit, another kind, another stage, a depth beyond every limit.
    let changes = [(3, 0x01), (4, 0x01), (5, 0x01), (7, 0x80)];
    block_on(async {
        let mut site = Site::start(server::Options::default()).await;
        for (way, frames) in [Way::Read, Way::Written].into_iter().zip(&transcript) {
            assert!(frames.len() > 30, "{}", frames.len());
            for (number, frame) in frames.iter().enumerate().filter(|(number, _)| number % 3 == 0) {
                let (offset, by) = changes[number / 3 % changes.len()];
                let what = format!("frame {number} {way:?}, header byte {offset}");
                for outcome in with_change(&mut site, &what, way, frame.start + offset, by).await {
                    peer_fault(&what, outcome);
                }
            }
        }
        site.still_serves("changed headers").await;
    });
}
