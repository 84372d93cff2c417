//! A server that deviates from the protocol in any of its messages learns nothing of the image: what the client sends is as long
//! and as uniform as against an honest server, and it is the same whatever the client has computed from the server's messages.
//!
//! Between an honest client and an honest server a relay changes what the server says, and repairs the checksums, as a server
//! that means it would. To the client the two are one server.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crc32fast::Hasher;
use lowkey::session::Welcome;
use lowkey::{Error, Package, Reveal, Schedule, ServerModel, server};
use lowkey_models::zoo;
use lowkey_mpc::channel::{FrameKind, HEADER_BYTES, Sums};
use lowkey_mpc::error::Error as ProtocolError;
use lowkey_mpc::ot::silent::{DEPTH, FIRST};
use lowkey_mpc::party::Stage;
use lowkey_mpc::wire;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};

use crate::common;
use crate::view::Received;
use crate::view::{Asked, Frame, frames, inferences};
use crate::{Views, publish, seeded, view};

/// What happens to a frame of the server.
enum Fate {
    /// It passes, changed or not.
    Passes,
    /// The connection ends before it.
    Ends,
}

/// A deviation: changes a frame of the server, of the same length; or ends the connection.
type Deviation<'a> = &'a dyn Fn(&mut Frame) -> Fate;

/// Changes a frame, with some randomness.
type Change = Box<dyn Fn(&mut Frame, &mut ChaCha20Rng)>;

/// A deviation and its name.
type Named = (&'static str, Box<dyn Fn(&mut Frame) -> Fate>);

/// The checksum of one direction on both sides of the relay, and which belong together.
#[derive(Default)]
struct Leg {
    before: Hasher,
    after: Hasher,
    pairs: HashMap<u32, u32>,
}

impl Leg {
    fn add(&mut self, before: &Frame, after: &Frame) {
        for (hash, frame) in [(&mut self.before, before), (&mut self.after, after)] {
            hash.update(&frame.header);
            hash.update(&frame.payload);
        }
        self.pairs.insert(self.before.clone().finalize(), self.after.clone().finalize());
    }

    /// What the receiver of this direction has for what the sender has.
    fn forth(&self, sum: u32) -> Option<u32> {
        self.pairs.get(&sum).copied()
    }

    fn back(&self, sum: u32) -> Option<u32> {
        self.pairs.iter().find(|(_, after)| **after == sum).map(|(before, _)| *before)
    }
}

/// Puts the checksums of the other side of the relay into a control frame that ends with some.
fn repair(frame: &mut Frame, own: &Leg, other: &Leg) {
    if !frame.is(FrameKind::Control) || frame.payload.len() < size_of::<Sums>() {
        return;
    }
    let at = frame.payload.len() - size_of::<Sums>();
    let sums: Sums = wire::decode(&frame.payload[at..], size_of::<Sums>()).unwrap();
    if let (Some(sent), Some(received)) = (own.forth(sums.sent), other.back(sums.received)) {
        frame.payload[at..].copy_from_slice(&wire::encode(&Sums { sent, received }).unwrap());
    }
}

/// Reads a frame; `None` at the end of the stream.
async fn read(stream: &mut ReadHalf<DuplexStream>) -> Option<Frame> {
    let mut header = [0; HEADER_BYTES];
    stream.read_exact(&mut header).await.ok()?;
    let mut payload = vec![0; u32::from_le_bytes(header[..4].try_into().unwrap()) as usize];
    stream.read_exact(&mut payload).await.ok()?;
    Some(Frame { header, payload })
}

async fn write(stream: &mut WriteHalf<DuplexStream>, frame: &Frame) {
    // An end that has gone away hears no more.
    let _ = stream.write_all(&[&frame.header[..], &frame.payload].concat()).await;
}

/// Passes frames between the client and the server; returns the bytes of the client.
async fn relay(client: DuplexStream, server: DuplexStream, deviation: Deviation<'_>) -> Vec<u8> {
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_server, mut to_server) = tokio::io::split(server);
    let legs = Mutex::new([Leg::default(), Leg::default()]);
    let heard = Mutex::new(Vec::new());
    let up = async {
        while let Some(frame) = read(&mut from_client).await {
            heard.lock().unwrap().extend_from_slice(&[&frame.header[..], &frame.payload].concat());
            let mut passed = frame.clone();
            {
                let [up, down] = &mut *legs.lock().unwrap();
                repair(&mut passed, up, down);
                up.add(&frame, &passed);
            }
            write(&mut to_server, &passed).await;
        }
        let _ = to_server.shutdown().await;
    };
    let down = async {
        while let Some(frame) = read(&mut from_server).await {
            let mut passed = frame.clone();
            if let Fate::Ends = deviation(&mut passed) {
                break;
            }
            assert_eq!(passed.payload.len(), frame.payload.len());
            {
                let [up, down] = &mut *legs.lock().unwrap();
                repair(&mut passed, down, up);
                down.add(&frame, &passed);
            }
            write(&mut to_client, &passed).await;
        }
        let _ = to_client.shutdown().await;
    };
    tokio::join!(up, down);
    heard.into_inner().unwrap()
}

/// One session against a deviating server: how it ended for the client, and what the client sent.
fn session(
    model: &Arc<ServerModel>,
    asked: Asked<'_>,
    seeds: [[u8; 32]; 2],
    deviation: Deviation<'_>,
) -> (lowkey::Result<()>, Vec<u8>) {
    common::block_on(async {
        let ((here, client), (server, there)) = (tokio::io::duplex(1 << 20), tokio::io::duplex(1 << 20));
        let serving =
            tokio::spawn(server::serve_seeded(Box::new(there), model.clone(), server::Options::default(), seeds[0]));
        let (outcome, sent) = tokio::join!(view::client(here, asked, seeds[1]), relay(client, server, deviation));
        serving.abort();
        (outcome, sent)
    })
}

fn passes(_: &mut Frame) -> Fate {
    Fate::Passes
}

fn is_first_batch(frame: &Frame) -> bool {
    frame.is(FrameKind::OtBatch) && frame.payload.len() == FIRST.message_bytes()
}

fn is_data(frame: &Frame, stage: Stage) -> bool {
    frame.is(FrameKind::Data) && frame.stage() == stage
}

/// The deviations that keep to the form of the messages, by name.
fn deviations(model: &ServerModel, seed: u64) -> Vec<Named> {
    let rng = Arc::new(Mutex::new(ChaCha20Rng::seed_from_u64(seed)));
    let with_rng = move |f: Change| {
        let rng = rng.clone();
        Box::new(move |frame: &mut Frame| {
            f(frame, &mut rng.lock().unwrap());
            Fate::Passes
        }) as Box<dyn Fn(&mut Frame) -> Fate>
    };
    let publishing = |hint: fn(usize) -> u8| {
        let package = &model.package;
        let hint: Vec<u8> = (0..package.hint.len()).map(hint).collect();
        let digest = Package { hint: hint.clone(), ..package.clone() }.digest();
        let next = Mutex::new(0);
        with_rng(Box::new(move |frame: &mut Frame, _: &mut ChaCha20Rng| {
            if frame.is(FrameKind::Hint) {
                let mut next = next.lock().unwrap();
                let end = *next + frame.payload.len();
                frame.payload.copy_from_slice(&hint[*next..end]);
                *next = end;
            } else if let (Stage::Setup, true, Ok(welcome)) =
                (frame.stage(), frame.is(FrameKind::Control), wire::decode::<Welcome>(&frame.payload, 256))
            {
                *next.lock().unwrap() = 0;
                frame.payload = wire::encode(&Welcome { digest, ..welcome }).unwrap();
            }
        }))
    };
    vec![
        ("no weights in the hint", publishing(|_| 0)),
        ("a hint of ones", publishing(|_| 0xff)),
        // -c s of large c: the client's share is then its secret key.
        ("a hint that returns the secret", publishing(|i| if i % 4 == 3 { 0x40 } else { 0 })),
        (
            "first bits online flipped",
            with_rng(Box::new(|frame, _| {
                if is_data(frame, Stage::Online) {
                    frame.payload[0] ^= 1;
                }
            })),
        ),
        (
            "zeros online",
            with_rng(Box::new(|frame, _| {
                if is_data(frame, Stage::Online) {
                    frame.payload.fill(0);
                }
            })),
        ),
        ("what was said before, online", {
            let said = Mutex::new(HashMap::new());
            with_rng(Box::new(move |frame, _| {
                if is_data(frame, Stage::Online)
                    && let Some(before) = said.lock().unwrap().insert(frame.payload.len(), frame.payload.clone())
                {
                    frame.payload = before;
                }
            }))
        }),
    ]
}

fn image(model: &ServerModel, maximum: bool) -> Vec<i64> {
    let info = model.plan.input();
    vec![if maximum { info.range.hi } else { info.range.lo }; info.elements()]
}

fn digits(rng: &mut ChaCha20Rng) -> Arc<ServerModel> {
    publish(&zoo::find("digits").expect("bundled").network(), rng).expect("it fits")
}

/// What the server received for two images, in a session each.
fn views(
    model: &Arc<ServerModel>,
    count: usize,
    schedule: Schedule,
    deviation: Deviation<'_>,
    rng: &mut ChaCha20Rng,
) -> Views {
    let mut run = |maximum: bool| -> Vec<Received> {
        let input = image(model, maximum);
        let asked = Asked { input: &input, count, schedule, reveal: Reveal::Logits };
        let (outcome, sent) = session(model, asked, rng.random(), deviation);
        outcome.expect("a wrong answer is not an error");
        inferences(&model.plan, asked, &sent)
    };
    Views { zero: run(false), maximum: run(true) }
}

/// Uniform, fresh, the same for both images, and of the form that an honest server gets.
#[test]
fn a_server_that_deviates_sees_what_an_honest_one_sees() {
    let rng = &mut seeded();
    let model = digits(rng);
    for schedule in [Schedule::Prepared, Schedule::Direct] {
        let honest = views(&model, 6, schedule, &passes, rng);
        for (what, deviation) in deviations(&model, rng.random()) {
            let views = views(&model, 6, schedule, &deviation, rng);
            views.check(&format!("{what}, {schedule:?}"));
            for (received, of_honest) in views.zero.iter().zip(&honest.zero) {
                assert_eq!(received.shape, of_honest.shape, "{what}, {schedule:?}");
            }
        }
    }
}

/// The choices of the client's OTs are its own: with the same randomness, everything that it sends before it has an image is the
/// same under any deviation online, bit for bit. Its answer is not.
#[test]
fn choices_do_not_depend_on_what_the_server_says_online() {
    let rng = &mut seeded();
    let model = digits(rng);
    let input = image(&model, true);
    let asked = Asked { input: &input, count: 1, schedule: Schedule::Prepared, reveal: Reveal::Logits };
    let seeds = rng.random();
    let run = |deviation: Deviation<'_>| {
        let (outcome, sent) = session(&model, asked, seeds, deviation);
        outcome.expect("a wrong answer is not an error");
        let of_stage = |stage| frames(&sent).into_iter().filter(move |frame| is_data(frame, stage));
        [Stage::Offline, Stage::Online].map(|stage| of_stage(stage).collect::<Vec<_>>())
    };
    let [honest, honest_online] = run(&passes);
    assert_eq!(run(&passes), [honest.clone(), honest_online.clone()], "nothing else is random");
    for (what, deviation) in deviations(&model, rng.random()) {
        let [before, online] = run(&deviation);
        if what.contains("hint") {
            // The client's shares are others, and with them what it corrects.
            assert!(before != honest, "{what}");
        } else {
            assert!(before == honest, "{what}");
        }
        assert!(online != honest_online, "{what}");
    }
}

/// A change of the sums of the server's trees, given where the sums begin.
type OfSums = fn(&mut [u8]);

/// Wrong sums of trees end the session when the first batch is checked, before the client has an image: until then it has sent the
/// beginning of what it sends to an honest server, and nothing but its reply, which choices hide, depends on the sums.
#[test]
fn wrong_sums_of_trees_end_the_session() {
    let rng = &mut seeded();
    let model = digits(rng);
    let seeds = rng.random();
    let run = |maximum: bool, deviation: Deviation<'_>| {
        let input = image(&model, maximum);
        let asked = Asked { input: &input, count: 1, schedule: Schedule::Prepared, reveal: Reveal::Logits };
        let (outcome, sent) = session(&model, asked, seeds, deviation);
        (outcome, frames(&sent))
    };
    let (outcome, honest) = run(false, &passes);
    outcome.expect("an honest server");
    let changes: [(&str, OfSums); 4] = [
        ("other sums", |sums| sums.iter_mut().for_each(|byte| *byte = byte.wrapping_mul(77).wrapping_add(13))),
        ("no sums", |sums| sums.fill(0)),
        ("one sum of every tree flipped", |sums| sums.chunks_mut(16 * DEPTH).for_each(|tree| tree[5] ^= 0x10)),
        ("one bit of one sum flipped", |sums| sums[16 * (DEPTH * 300 + 4)] ^= 2),
    ];
    let mut texts = Vec::new();
    for (what, change) in changes {
        let deviation = |frame: &mut Frame| {
            if is_first_batch(frame) {
                change(&mut frame.payload[FIRST.message_bytes() % 16..]);
            }
            Fate::Passes
        };
        let [zero, maximum] = [false, true].map(|maximum| {
            let (outcome, sent) = run(maximum, &deviation);
            let error = outcome.expect_err(what);
            assert!(matches!(&error, Error::Session(error) if error.is_peer_fault()), "{what}: {error}");
            texts.push(error.to_string());
            sent
        });
        assert!(zero == maximum, "{what}");
        assert!(zero.iter().all(|frame| frame.stage() == Stage::Setup), "{what}");
        let batches = |frames: &[Frame]| -> Vec<Frame> {
            frames
                .iter()
                .filter(|frame| frame.is(FrameKind::OtBatch) && frame.stage() == Stage::Setup)
                .cloned()
                .collect()
        };
        let (sent, expected) = (batches(&zero), batches(&honest));
        assert_eq!(sent.len(), expected.len(), "{what}");
        let [before, after] = [&sent, &expected].map(|frames| &frames[..frames.len() - 2]);
        assert!(before == after, "{what}");
        // Reply and proof; the proof is of the client's trees, and of the server's reply.
        let end = sent.len() - 2;
        assert!(sent[end].payload != expected[end].payload, "{what}");
        assert!(sent[end].header == expected[end].header && sent[end + 1] == expected[end + 1], "{what}");
    }
    assert!(texts.iter().all(|text| *text == texts[0]), "{texts:?}");
}

/// Wherever the server stops, the client has sent the beginning of what it sends to an honest one, and ends with the same error for
/// every image.
#[test]
fn servers_that_stop() {
    let rng = &mut seeded();
    let model = digits(rng);
    let images = [false, true].map(|maximum| image(&model, maximum));
    let run = |input: &[i64], deviation: Deviation<'_>, rng: &mut ChaCha20Rng| {
        let asked = Asked { input, count: 1, schedule: Schedule::Prepared, reveal: Reveal::Class };
        let (outcome, sent) = session(&model, asked, rng.random(), deviation);
        (outcome, frames(&sent).iter().map(|frame| frame.header).collect::<Vec<_>>())
    };
    let said = Mutex::new(0);
    let counting = |_: &mut Frame| {
        *said.lock().unwrap() += 1;
        Fate::Passes
    };
    let (outcome, honest) = run(&images[0], &counting, rng);
    outcome.expect("an honest server");
    let all = *said.lock().unwrap();
    assert!(all > 20, "{all}");
    for last in 0..all {
        let mut sent = images.iter().map(|input| {
            let left = Mutex::new(Some(last));
            let stops = |_: &mut Frame| {
                let mut left = left.lock().unwrap();
                *left = left.and_then(|left: usize| left.checked_sub(1));
                if left.is_none() { Fate::Ends } else { Fate::Passes }
            };
            let (outcome, sent) = run(input, &stops, rng);
            assert!(matches!(outcome, Err(Error::Session(ProtocolError::Disconnected))), "{last}: {outcome:?}");
            sent
        });
        let (zero, maximum) = (sent.next().expect("two images"), sent.next().expect("two images"));
        assert_eq!(zero, maximum, "after {last} frames");
        assert!(honest.starts_with(&zero), "after {last} frames");
    }
}
