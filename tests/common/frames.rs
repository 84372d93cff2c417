//! Frames as bytes: length (4), kind, stage, depth (2), little-endian, then the payload.

use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes before the payload.
pub const HEADER: usize = 8;

/// Kinds.
pub const CONTROL: u8 = 0;
/// The sender gives up.
pub const ABORT: u8 = 4;

/// A frame and where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub start: usize,
    pub kind: u8,
    pub stage: u8,
    pub depth: u16,
    pub payload: Vec<u8>,
}

/// The bytes of a frame.
pub fn frame(kind: u8, stage: u8, depth: u16, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_le_bytes();
    [&length[..], &[kind, stage], &depth.to_le_bytes(), payload].concat()
}

/// The frames of a stream. The last may be cut short.
pub fn frames(bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    let mut start = 0;
    while let Some(header) = bytes.get(start..start + HEADER) {
        let length = u32::from_le_bytes(header[..4].try_into().unwrap()) as usize;
        let end = (start + HEADER + length).min(bytes.len());
        let depth = u16::from_le_bytes(header[6..].try_into().unwrap());
        let payload = bytes[start + HEADER..end].to_vec();
        frames.push(Frame { start, kind: header[4], stage: header[5], depth, payload });
        start = end;
    }
    frames
}

/// Reads to the end, or to a reset.
pub async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut chunk = vec![0; 1 << 16];
    while let Ok(n @ 1..) = stream.read(&mut chunk).await {
        bytes.extend_from_slice(&chunk[..n]);
    }
    bytes
}

/// The code of the abort frame that is all of `bytes`: it has two bytes of payload, and nothing follows.
pub fn abort_code(bytes: &[u8]) -> Option<u16> {
    let frames = frames(bytes);
    let [Frame { start: 0, kind: ABORT, payload, .. }] = &frames[..] else { return None };
    Some(u16::from_le_bytes(payload[..].try_into().ok()?))
}
