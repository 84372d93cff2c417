//! A machine in the middle that knows frames: it loses one, sends it twice, late, short, or changed.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};

use super::faulty::Way;
use super::frames::HEADER;

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// It does not arrive.
    Lost,
    /// It arrives twice.
    Twice,
    /// The next one of its direction arrives before it.
    Swapped,
    /// It ends somewhere within; the next one follows at once.
    Cut,
    /// Its payload is shorter, and its header says so.
    Short,
    /// One bit of it, header or payload, is another.
    Changed,
}

/// All of them.
pub const MISHAPS: [Mishap; 6] =
    [Mishap::Lost, Mishap::Twice, Mishap::Swapped, Mishap::Cut, Mishap::Short, Mishap::Changed];

/// One mishap: what, to which frame of which direction (seen from the client), and what else is random.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub what: Mishap,
    pub way: Way,
    pub frame: usize,
    pub seed: u64,
}

/// Connects two ends through a relay; without a case it passes everything on.
pub fn relay(case: Option<Case>) -> [DuplexStream; 2] {
    let (client, client_end) = tokio::io::duplex(1 << 20);
    let (server, server_end) = tokio::io::duplex(1 << 20);
    let (from_client, to_client) = tokio::io::split(client_end);
    let (from_server, to_server) = tokio::io::split(server_end);
    tokio::spawn(pass(from_client, to_server, case.filter(|case| case.way == Way::Written)));
    tokio::spawn(pass(from_server, to_client, case.filter(|case| case.way == Way::Read)));
    [client, server]
}

/// One direction. Whatever goes wrong with either end ends it.
async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, case: Option<Case>) {
    let mut held = Vec::new();
    for number in 0.. {
        let Some(frame) = next(&mut from).await else { break };
        let case = case.filter(|case| case.frame == number);
        let mut bytes = match case {
            Some(Case { what: Mishap::Swapped, .. }) => {
                held = frame;
                continue;
            }
            Some(case) => happens(case, frame),
            None => frame,
        };
        bytes.append(&mut held);
        if to.write_all(&bytes).await.is_err() {
            break;
        }
    }
    let _ = to.write_all(&held).await;
    let _ = to.shutdown().await;
}

/// The next frame; `None` where the stream ends.
async fn next(from: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let mut frame = vec![0; HEADER];
    from.read_exact(&mut frame).await.ok()?;
    let length = u32::from_le_bytes(frame[..4].try_into().unwrap()) as usize;
    frame.resize(HEADER + length, 0);
    from.read_exact(&mut frame[HEADER..]).await.ok()?;
    Some(frame)
}

/// What arrives of a frame.
fn happens(case: Case, mut frame: Vec<u8>) -> Vec<u8> {
    let rng = &mut ChaCha20Rng::seed_from_u64(case.seed);
    match case.what {
        Mishap::Lost => frame.clear(),
        Mishap::Twice => frame.extend_from_within(..),
        Mishap::Cut => frame.truncate(rng.random_range(1..frame.len())),
        Mishap::Short => {
            let length = rng.random_range(HEADER..frame.len().max(HEADER + 1));
            frame.truncate(length);
            frame[..4].copy_from_slice(&((length - HEADER) as u32).to_le_bytes());
        }
        Mishap::Changed => {
            let at = rng.random_range(0..frame.len());
            frame[at] ^= 1 << rng.random_range(0..8);
        }
        Mishap::Swapped => unreachable!("it is held"),
    }
    frame
}
