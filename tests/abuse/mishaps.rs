//! Frames that are lost, arrive twice, late, cut, short or changed, at every boundary of a session and in both directions: a typed error
//! that blames the other end or the connection, or the right answers. Never a wrong one, a hang or a panic.

use std::collections::BTreeMap;
use std::time::Instant;

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;

use super::common::faulty::Way;
use super::common::relay::{Case, MISHAPS, Mishap, relay};
use super::common::{self, block_on};
use super::garbage::transcript;
use super::*;

/// How long a party waits for bytes that never come.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Sessions at once: most of them wait.
const TOGETHER: usize = 16;
/// So many are tried, however long they take.
const LEAST: usize = 2 * TOGETHER;

/// How long to try; `None` with LOWKEY_SLOW=1, for all cases.
fn time() -> Option<Duration> {
    let seconds = std::env::var("LOWKEY_FUZZ_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    let slow = std::env::var("LOWKEY_SLOW").is_ok_and(|slow| slow == "1");
    (!slow).then(|| Duration::from_secs(seconds.unwrap_or(5)))
}

/// Every mishap of every frame, in a random order.
fn cases(transcript: &[Vec<common::frames::Frame>; 2], rng: &mut ChaCha20Rng) -> Vec<Case> {
    let mut cases = Vec::new();
    for (way, frames) in [Way::Read, Way::Written].into_iter().zip(transcript) {
        for frame in 0..frames.len() {
            let one = |what| Case { what, way, frame, seed: rng.random() };
            cases.extend(MISHAPS.map(one));
        }
    }
    cases.shuffle(rng);
    cases
}

/// A session through the relay: how the client fared, and the server. Answers are compared here.
async fn session(case: Option<Case>) -> [Result<()>; 2] {
    let what = format!("{case:?}");
    let [here, there] = relay(case);
    let options = server::Options { limits: limits(TIMEOUT), idle: TIMEOUT, ..server::Options::default() };
    let server = tokio::spawn(server::serve_seeded(Box::new(there), digits().model.clone(), options, common::seed()));
    let client = async {
        let mut client = Session::open_seeded(Box::new(here), forgetful(TIMEOUT), common::seed()).await?;
        let first = client.answer(Schedule::Prepared, Reveal::Logits, &digits().images[0]).await?;
        assert_eq!(first.output, digits().logits[0], "{what}: wrong in silence");
        let second = client.answer(Schedule::Direct, Reveal::Class, &digits().images[1]).await?;
        assert_eq!(second.output, digits().classes[1], "{what}: wrong in silence");
        client.close().await
    };
    [within(&what, client).await, within(&what, server).await.expect("no panic").map(|_| ())]
}

#[test]
fn frames_through_bad_hands() {
    let transcript = transcript();
    let seed = std::env::var("LOWKEY_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("LOWKEY_SEED={seed}");
    let cases = cases(&transcript, &mut ChaCha20Rng::seed_from_u64(seed));
    let last = transcript.each_ref().map(|frames| frames.len() - 1);
    let (start, time) = (Instant::now(), time());
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut tried = 0;
    block_on(async {
        for end in session(None).await {
            end.expect("a relay that changes nothing is not noticed");
        }
        for together in cases.chunks(TOGETHER) {
            let enough = tried >= LEAST && seen.len() == MISHAPS.len();
            if enough && time.is_some_and(|time| start.elapsed() > time) {
                break;
            }
            let mut sessions = tokio::task::JoinSet::new();
            for &case in together {
                sessions.spawn(async move { (case, session(Some(case)).await) });
            }
            for (case, ends) in sessions.join_all().await {
                let noticed = ends.iter().any(Result::is_err);
                // A close that comes twice, or not at all, takes nothing from anybody.
                let harmless = case.frame == last[case.way as usize] && matches!(case.what, Mishap::Twice);
                assert!(noticed || harmless || is_unchanged(&case, &transcript), "{case:?}: nobody noticed");
                for error in ends.into_iter().filter_map(Result::err) {
                    assert_eq!(error.fault(), Fault::Peer, "{case:?}: {error}");
                }
                *seen.entry(format!("{:?}", case.what)).or_default() += 1;
                tried += 1;
            }
        }
    });
    println!("{tried} of {} cases: {seen:?}", cases.len());
    assert!(seen.len() == MISHAPS.len(), "every kind of mishap: {seen:?}");
}

/// A frame without a payload that is made shorter is the same frame, and the last one has none to change places with.
fn is_unchanged(case: &Case, transcript: &[Vec<common::frames::Frame>; 2]) -> bool {
    let frames = &transcript[case.way as usize];
    match case.what {
        Mishap::Short => frames[case.frame].payload.is_empty(),
        Mishap::Swapped => case.frame + 1 == frames.len(),
        _ => false,
    }
}
