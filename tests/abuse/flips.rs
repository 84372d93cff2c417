//! Single bits that change on plain connections: never a wrong answer in silence.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;

use super::common::faulty::{Fault, Faulty, Way};
use super::common::frames::{Frame, HEADER};
use super::common::{self, block_on};
use super::garbage::transcript;
use super::*;

/// Flips in all: every frame at least about once, or four times with LOWKEY_SLOW=1.
fn flips() -> usize {
    if std::env::var("LOWKEY_SLOW").is_ok_and(|slow| slow == "1") { 400 } else { 100 }
}

/// Places in the frames of one direction, every frame equally often: (byte of the stream, bit).
fn places(frames: &[Frame], count: usize, rng: &mut ChaCha20Rng) -> Vec<(usize, u8)> {
    let place = |frame: &Frame| {
        let byte = rng.random_range(0..HEADER + frame.payload.len());
        (frame.start + byte, 1 << rng.random_range(0..8))
    };
    frames.iter().cycle().take(count).map(place).collect()
}

/// What became of a session with a flip: the client's outcome, and the server's.
async fn with_flip(way: Way, at: usize, by: u8) -> [Result<()>; 2] {
    let (here, there) = tokio::io::duplex(1 << 20);
    // A longer frame than was sent never ends.
    let limits = limits(Duration::from_secs(3));
    let options = server::Options { limits, idle: Duration::from_secs(3), ..server::Options::default() };
    let server = tokio::spawn(server::serve_seeded(Box::new(there), digits().model.clone(), options, common::seed()));
    let stream = Faulty::new(here, Fault::Change(by), way, at);
    let session = async {
        let mut client = Session::open_seeded(Box::new(stream), forgetful(limits.timeout), common::seed()).await?;
        let first = client.answer(Schedule::Prepared, Reveal::Logits, &digits().images[0]).await?;
        assert_eq!(first.output, digits().logits[0], "bit {by} of byte {at} {way:?}: wrong in silence");
        let second = client.answer(Schedule::Direct, Reveal::Class, &digits().images[1]).await?;
        assert_eq!(second.output, digits().classes[1], "bit {by} of byte {at} {way:?}: wrong in silence");
        client.close().await
    };
    let what = format!("bit {by} of byte {at} {way:?}");
    [within(&what, session).await, within(&what, server).await.expect("no panic").map(|_| ())]
}

/// Single bits over all frames of a session with both schedules: each ends in an error of the peer or the connection, and no answer
/// before it is wrong.
#[test]
fn single_bits() {
    let transcript = transcript();
    let (count, rng) = (flips(), &mut ChaCha20Rng::seed_from_u64(3));
    let mut all = Vec::new();
    for (way, frames) in [Way::Read, Way::Written].into_iter().zip(&transcript) {
        all.extend(places(frames, count / 2, rng).into_iter().map(|(at, by)| (way, at, by)));
    }
    let mut changed = 0;
    block_on(async {
        // Some of them wait for bytes that never come.
        for together in all.chunks(8) {
            let mut sessions = tokio::task::JoinSet::new();
            together.iter().for_each(|&(way, at, by)| drop(sessions.spawn(with_flip(way, at, by))));
            for [client, server] in sessions.join_all().await {
                assert!(client.is_err() || server.is_err(), "nobody noticed");
                for error in [client, server].into_iter().filter_map(Result::err) {
                    assert_eq!(error.fault(), lowkey::Fault::Peer, "{error}");
                    if matches!(error, Error::Session(ProtocolError::Changed)) {
                        assert!(error.hint().unwrap().contains("TLS"));
                        changed += 1;
                    }
                }
            }
        }
    });
    println!("{changed} of {count} found by the checksums");
    assert!(changed > count / 3, "the others are found by length, kind or content: only {changed}");
}
