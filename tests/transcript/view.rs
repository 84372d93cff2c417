//! What a server sees: the bytes of its connection, cut into frames and named by the plan.

use std::collections::{BTreeMap, HashSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use lowkey::client::{Options, Session};
use lowkey::cost::predict;
use lowkey::plan::{Step, TensorId};
use lowkey::{Plan, Reveal, Schedule, ServerModel, server};
use lowkey_he::pack;
use lowkey_mpc::channel::{FrameKind, HEADER_BYTES, Sums};
use lowkey_mpc::ot::silent::{DEPTH, FIRST, PROOF_BYTES, REPLY_BYTES};
use lowkey_mpc::party::{Party, Stage};
use rand::RngExt;
use rand_chacha::ChaCha20Rng;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::common;

/// What a frame of the client carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Content {
    /// b*_0.
    Keys,
    /// The low bits of bodies that define pads.
    LowBits,
    /// Whole bodies: of padding, of second uploads, of everything in the direct schedule.
    Bodies,
    /// d of the input.
    Input,
    /// Offline frames of programs: corrections of c and of pads.
    Corrections,
    /// Online frames of programs, d of their results among them.
    Online,
    /// The arg max, both stages.
    Tournament,
    /// Batches of OTs.
    OtBatch,
}

/// The meaningful bits of one frame or of a part of it, each with its position: the bit of a field, or the plane.
#[derive(Clone, Debug, Default)]
pub struct Bits {
    pub positions: Vec<u32>,
    pub bits: Vec<bool>,
}

/// What the server received for one inference.
#[derive(Clone, Debug, Default)]
pub struct Received {
    pub contents: BTreeMap<Content, Bits>,
    /// Kind, stage, depth and length of every frame, and the payload of control frames but for the checksums.
    pub shape: Vec<(Header, Vec<u8>)>,
}

/// A frame's first eight bytes.
pub type Header = [u8; HEADER_BYTES];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub header: Header,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn is(&self, kind: FrameKind) -> bool {
        self.header[4] == kind.code()
    }

    pub fn stage(&self) -> Stage {
        Stage::ALL[usize::from(self.header[5])]
    }
}

/// Keeps all that is read.
struct Tapped<S> {
    inner: S,
    read: Arc<Mutex<Vec<u8>>>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Tapped<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let poll = Pin::new(&mut self.inner).poll_read(cx, buf);
        self.read.lock().unwrap().extend_from_slice(&buf.filled()[before..]);
        poll
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tapped<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// What a session is asked for.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// The image.
    pub input: &'a [i64],
    /// How often it is answered.
    pub count: usize,
    pub schedule: Schedule,
    pub reveal: Reveal,
}

/// One session with randomness of its own that answers one input `count` times: what the server's end of the connection read.
pub fn session(
    model: &Arc<ServerModel>,
    input: &[i64],
    count: usize,
    schedule: Schedule,
    reveal: Reveal,
    rng: &mut ChaCha20Rng,
) -> Vec<Received> {
    let seeds: [[u8; 32]; 2] = rng.random();
    let read = Arc::new(Mutex::new(Vec::new()));
    let asked = Asked { input, count, schedule, reveal };
    common::block_on(async {
        let (here, there) = tokio::io::duplex(1 << 20);
        let there = Tapped { inner: there, read: read.clone() };
        let options = server::Options::default();
        let server = tokio::spawn(server::serve_seeded(Box::new(there), model.clone(), options, seeds[0]));
        client(here, asked, seeds[1]).await.expect("the session succeeds");
        server.await.expect("no panic").expect("the server saw no error");
    });
    let bytes = read.lock().unwrap();
    inferences(&model.plan, asked, &bytes)
}

/// A client that asks and leaves.
pub async fn client(stream: tokio::io::DuplexStream, asked: Asked<'_>, seed: [u8; 32]) -> lowkey::Result<()> {
    let options = Options::default();
    let mut client = Session::open_seeded(Box::new(stream), options, seed).await?;
    for _ in 0..asked.count {
        client.answer(asked.schedule, asked.reveal, asked.input).await?;
    }
    client.close().await
}

/// Sorts what a client sent in a session by inference and content.
pub fn inferences(plan: &Plan, asked: Asked<'_>, bytes: &[u8]) -> Vec<Received> {
    let Asked { count, schedule, reveal, .. } = asked;
    let (setup, frames): (Vec<Frame>, Vec<Frame>) =
        frames(bytes).into_iter().partition(|frame| frame.stage() == Stage::Setup);
    let batches = setup.iter().filter(|frame| frame.is(FrameKind::OtBatch));
    let first_batch: Vec<&Frame> = batches.skip_while(|frame| frame.payload.len() != FIRST.message_bytes()).collect();
    assert_eq!(first_batch.len(), 3, "the set-up makes the first batch of OTs: sums, reply and proof");
    let (last, frames) = frames.split_last().expect("a session ends with a request");
    assert!(last.is(FrameKind::Control));
    let requests = frames.iter().filter(|frame| frame.is(FrameKind::Control)).count();
    assert_eq!(requests % count, 0, "every inference has as many requests");
    let mut inferences: Vec<Vec<&Frame>> = vec![Vec::new(); count];
    inferences[0].extend(first_batch);
    let mut seen = 0;
    for frame in frames {
        seen += usize::from(frame.is(FrameKind::Control));
        inferences[(seen - 1) / (requests / count)].push(frame);
    }
    inferences.iter().map(|frames| receive(plan, schedule, reveal, frames)).collect()
}

pub fn frames(mut bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() {
        let len = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let (payload, rest) = rest.split_at(len);
        frames.push(Frame { header: *header, payload: payload.to_vec() });
        bytes = rest;
    }
    assert!(bytes.is_empty(), "the session ends with a frame");
    frames
}

fn receive(plan: &Plan, schedule: Schedule, reveal: Reveal, frames: &[&Frame]) -> Received {
    let mut received = Received::default();
    for frame in frames {
        // A request ends with the checksums of what both ends have sent.
        let own = frame.payload.len().saturating_sub(size_of::<Sums>());
        let payload = if frame.is(FrameKind::Control) { frame.payload[..own].to_vec() } else { Vec::new() };
        // Batches come when they are needed, which is the same for all inputs but not for all inferences.
        if !frame.is(FrameKind::OtBatch) {
            received.shape.push((frame.header, payload));
        }
    }
    for frame in frames.iter().filter(|frame| frame.is(FrameKind::OtBatch)) {
        received.contents.entry(Content::OtBatch).or_default().batch(&frame.payload);
    }

    let data: Vec<&&Frame> = frames.iter().filter(|frame| frame.is(FrameKind::Data)).collect();
    let predicted = predict(plan, schedule, reveal).frames;
    let predicted: Vec<_> =
        predicted.iter().filter(|frame| frame.sender == Party::Client && frame.scope != "control").collect();
    assert_eq!(data.len(), predicted.len(), "frames of data");
    let mut uploads = match schedule {
        Schedule::Prepared => plan.uploads.clone(),
        Schedule::Direct => (0..plan.linear.len()).flat_map(|linear| plan.uploads_of(linear)).copied().collect(),
    }
    .into_iter();
    for (number, (frame, predicted)) in data.iter().zip(predicted).enumerate() {
        assert_eq!(frame.payload.len() + HEADER_BYTES, predicted.bytes as usize);
        let base = (number as u32) << 16;
        let scope = predicted.scope.as_str();
        match (scope, lanes(plan, scope)) {
            ("keys", _) => received.keys(plan, &frame.payload, base),
            ("input", _) => {
                let (ring, _) = plan.shared(TensorId::INPUT).expect("the input is shared");
                let bits = received.contents.entry(Content::Input).or_default();
                bits.fields(&frame.payload, plan.input().elements(), ring, base);
            }
            ("output", _) if reveal == Reveal::Class => {
                let bits = received.contents.entry(Content::Tournament).or_default();
                frame.payload.iter().enumerate().for_each(|(i, byte)| bits.fields(&[*byte], 1, 8, base + 8 * i as u32));
            }
            (_, Some(lanes)) => {
                let content = if frame.stage() == Stage::Offline { Content::Corrections } else { Content::Online };
                received.contents.entry(content).or_default().planes(&frame.payload, lanes, base);
            }
            (_, None) => {
                let upload = uploads.next().expect("as many as predicted");
                let layer = plan.linear[upload.linear].encrypted.as_ref().expect("an upload has a layer");
                received.bodies(&layer.parameters, &layer.terms[upload.term], schedule, &frame.payload, base);
            }
        }
    }
    assert!(uploads.next().is_none());
    received
}

/// Lanes of a program's frame; `None` for a linear node, which has no program.
fn lanes(plan: &Plan, scope: &str) -> Option<usize> {
    if scope == "output" {
        return Some(plan.answer.lanes);
    }
    plan.steps.pairs().find_map(|(node, step)| match step {
        Step::Nonlinear(step) if plan.name(node) == scope => Some(step.lanes),
        _ => None,
    })
}

/// Takes the padding out of the frames of tournaments, whose lanes the plan does not tell: bits that are never set.
pub fn trim_tournaments(all: &mut [&mut Received]) {
    let tournaments = || all.iter().filter_map(|received| received.contents.get(&Content::Tournament));
    let pairs = tournaments().flat_map(|bits| bits.positions.iter().zip(&bits.bits));
    let used: HashSet<u32> = pairs.filter(|(_, bit)| **bit).map(|(position, _)| *position).collect();
    for bits in all.iter_mut().filter_map(|received| received.contents.get_mut(&Content::Tournament)) {
        let kept = std::mem::take(bits).pairs().filter(|(position, _)| used.contains(position));
        kept.for_each(|(position, bit)| bits.push(position, bit));
    }
}

impl Received {
    fn keys(&mut self, plan: &Plan, mut payload: &[u8], base: u32) {
        let bits = self.contents.entry(Content::Keys).or_default();
        for set in &plan.sets {
            let width = set.set.torus_bits - set.b0_rounding;
            for _ in 0..set.secrets {
                let (polynomial, rest) = payload.split_at(pack::packed_len(set.set.degree, width));
                bits.fields(polynomial, set.set.degree, width, base + (u32::from(set.set.id) << 8));
                payload = rest;
            }
        }
    }

    fn bodies(
        &mut self,
        parameters: &lowkey_bridge::LayerParameters,
        term: &lowkey_bridge::TermPlan,
        schedule: Schedule,
        mut payload: &[u8],
        base: u32,
    ) {
        for tile in &term.tiles {
            let low = match schedule {
                Schedule::Prepared => tile.bodies.iter().filter(|body| body.own_pad()).count(),
                Schedule::Direct => 0,
            };
            let parts = [
                (Content::LowBits, low, parameters.low_width()),
                (Content::Bodies, tile.bodies.len() - low, parameters.full_width()),
            ];
            for (content, count, width) in parts {
                let (part, rest) = payload.split_at(pack::packed_len(count, width));
                if count > 0 {
                    self.contents.entry(content).or_default().fields(part, count, width, base);
                }
                payload = rest;
            }
        }
        assert!(payload.is_empty());
    }
}

impl Bits {
    /// Adds `count` packed fields of `width` bits.
    pub fn fields(&mut self, packed: &[u8], count: usize, width: u32, base: u32) {
        let fields: Vec<u64> = pack::read(packed, count, width).expect("packed fields");
        for field in fields {
            (0..width).for_each(|bit| self.push(base + bit, field >> bit & 1 == 1));
        }
    }

    /// Adds a batch of OTs: after 12 bytes of version and index a block for each level of each tree. The leaves and the keys have
    /// even blocks, so the lowest bit of the last level is zero.
    fn batch(&mut self, payload: &[u8]) {
        if [REPLY_BYTES, PROOF_BYTES].contains(&payload.len()) {
            for block in payload.as_chunks::<16>().0 {
                let block = u128::from_le_bytes(*block);
                (0..128).for_each(|bit| self.push(bit, block >> bit & 1 == 1));
            }
            return;
        }
        for (number, block) in payload[12..].as_chunks::<16>().0.iter().enumerate() {
            let (block, level) = (u128::from_le_bytes(*block), number % DEPTH);
            let is_last = level == DEPTH - 1;
            assert!(!is_last || block & 1 == 0);
            (u32::from(is_last)..128).for_each(|bit| self.push(bit, block >> bit & 1 == 1));
        }
    }

    fn pairs(self) -> impl Iterator<Item = (u32, bool)> {
        self.positions.into_iter().zip(self.bits)
    }

    /// Adds planes of `lanes` bits each.
    fn planes(&mut self, payload: &[u8], lanes: usize, base: u32) {
        for (plane, bytes) in payload.chunks(lanes.div_ceil(8).max(1)).enumerate() {
            for lane in 0..lanes {
                self.push(base + plane as u32, bytes[lane / 8] >> (lane % 8) & 1 == 1);
            }
        }
    }

    fn push(&mut self, position: u32, bit: bool) {
        self.positions.push(position);
        self.bits.push(bit);
    }
}
