//! A framed, counted, two-party channel over any reliable byte stream.
//!
//! Frames are checked against what the protocol expects before their payload is allocated or read. Sending
//! never waits for the peer: frames are queued, and a background task writes them, so both parties may send
//! large frames at the same time. A transport error of that task surfaces on the next call.

mod attention;
mod frame;
mod record;
mod sums;
mod traffic;
mod writer;

pub use attention::{Attention, Doing};
pub use frame::{FrameKind, HEADER_BYTES};
pub use record::{Recorded, Recording, Way};
pub use sums::Sums;
pub use traffic::{Count, ScopeTraffic, StageTraffic, Traffic};

use crate::error::{Error, Result};
use crate::party::{Party, Stage};
use crate::transport::{runtime, wire};
use frame::Header;
use serde::{Serialize, de::DeserializeOwned};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use sums::Running;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, BufReader};
use traffic::Meter;
use writer::{Writer, limit};

/// Bytes of the read buffer; longer payloads bypass it.
const READ_BUFFER_BYTES: usize = 16 * 1024;

/// Length of the payload of an abort frame.
const ABORT_BYTES: usize = 2;

/// What a channel tolerates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest payload of a frame, in bytes.
    pub max_frame: usize,
    /// The longest time without any progress of a read or write that is due.
    pub timeout: Duration,
}

impl Default for Limits {
    /// 256 MiB and one minute.
    fn default() -> Self {
        Self { max_frame: 256 << 20, timeout: Duration::from_secs(60) }
    }
}

/// One end of a connection between the two parties.
///
/// Dropping a channel writes what is queued in the background; [`Channel::close`] waits for it.
pub struct Channel {
    party: Party,
    limits: Limits,
    reader: BufReader<Box<dyn AsyncRead + Send + Unpin>>,
    writer: Writer,
    meter: Meter,
    sums: Running,
    recording: Option<Recording>,
    attention: Attention,
    /// A receive failed or was cancelled within a frame, so the position in the stream is lost.
    out_of_step: bool,
}

impl Channel {
    /// A channel of `party` over `io`, in [`Stage::Setup`]. Must be called within a tokio runtime that has
    /// I/O and time enabled.
    pub fn new<IO>(io: IO, party: Party, limits: Limits) -> Self
    where
        IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (read, write) = tokio::io::split(io);
        Self {
            party,
            limits,
            reader: BufReader::with_capacity(READ_BUFFER_BYTES, Box::new(read)),
            writer: Writer::spawn(write, limits.timeout),
            meter: Meter::new(),
            sums: Running::default(),
            recording: None,
            attention: Attention::default(),
            out_of_step: false,
        }
    }

    /// Both ends of a channel in memory, client first, with default limits.
    #[must_use]
    pub fn pair() -> (Self, Self) {
        let (client, server) = tokio::io::duplex(1 << 20);
        (Self::new(client, Party::Client, Limits::default()), Self::new(server, Party::Server, Limits::default()))
    }

    /// The party at this end.
    #[must_use]
    pub fn party(&self) -> Party {
        self.party
    }

    /// The current stage.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.meter.stage()
    }

    /// Starts a visit to a stage. Both parties enter it at the same point of the protocol.
    pub fn enter(&mut self, stage: Stage) {
        self.meter.enter(stage);
    }

    /// Names what the following frames belong to, for example a layer; ends with the stage.
    pub fn scope(&mut self, label: impl Into<Arc<str>>) {
        self.meter.scope(label.into());
    }

    /// The counters so far. A frame counts when it is queued.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.meter.snapshot()
    }

    /// The checksums of all frames so far. A frame counts when it is queued.
    #[must_use]
    pub fn sums(&self) -> Sums {
        self.sums.now()
    }

    /// Compares the checksums of both ends. Both call it at the same time, when each has received all that the other has sent:
    /// one flight.
    ///
    /// # Errors
    /// [`Error::Changed`] if they differ, and as [`Channel::recv_control`].
    pub async fn compare_sums(&mut self) -> Result<()> {
        let sums = self.sums();
        self.send_control(&sums).await?;
        sums.check(self.recv_control(size_of::<Sums>()).await?)
    }

    /// What the channel waits for, to be looked at from elsewhere.
    #[must_use]
    pub fn attention(&self) -> Attention {
        self.attention.clone()
    }

    /// Starts to record all frames; off unless called. For tests of what a party sees.
    ///
    /// A second call starts a new recording and ends the first.
    pub fn record(&mut self) -> Recording {
        let recording = Recording::default();
        self.recording = Some(recording.clone());
        recording
    }

    /// Queues a frame. The payload is moved, not copied.
    ///
    /// # Errors
    /// [`Error::FrameTooLarge`]; or the transport error that ended the writer.
    pub async fn send(&mut self, kind: FrameKind, payload: Vec<u8>) -> Result<()> {
        let header = Header {
            len: match u32::try_from(payload.len()) {
                Ok(len) if payload.len() <= self.limits.max_frame => len,
                _ => {
                    return Err(Error::FrameTooLarge { len: payload.len(), max: self.limits.max_frame });
                }
            },
            kind,
            stage: self.meter.stage(),
            depth: self.meter.next_depth(),
        };
        let bytes = header.encode();
        self.meter.sent(kind, payload.len());
        self.sums.sent(&bytes, &payload);
        if let Some(recording) = &self.recording {
            recording.push(Way::Sent, kind, header.stage, &payload);
        }
        self.writer.send(bytes, payload).await
    }

    /// Receives a frame of exactly `len` bytes.
    ///
    /// # Errors
    /// [`Error::Protocol`] if kind, stage, depth or length differ, [`Error::PeerAborted`], or a transport error.
    pub async fn recv(&mut self, kind: FrameKind, len: usize) -> Result<Vec<u8>> {
        self.recv_between(kind, len, len).await
    }

    /// Receives a frame of at most `max` bytes.
    ///
    /// # Errors
    /// As [`Channel::recv`].
    pub async fn recv_at_most(&mut self, kind: FrameKind, max: usize) -> Result<Vec<u8>> {
        self.recv_between(kind, 0, max).await
    }

    /// Sends a control message.
    ///
    /// # Errors
    /// [`Error::Encode`], and as [`Channel::send`].
    pub async fn send_control<T: Serialize>(&mut self, message: &T) -> Result<()> {
        self.send(FrameKind::Control, wire::encode(message)?).await
    }

    /// Receives a control message of at most `max_len` bytes.
    ///
    /// # Errors
    /// [`Error::Protocol`] if the payload is not a `T`, and as [`Channel::recv`].
    pub async fn recv_control<T: DeserializeOwned>(&mut self, max_len: usize) -> Result<T> {
        let payload = self.recv_at_most(FrameKind::Control, max_len).await?;
        wire::decode(&payload, max_len)
    }

    /// Receives the control message that opens a stage, and enters the stage that its frame names: for the party that is
    /// told what comes next. Returns the counters as they were before.
    ///
    /// # Errors
    /// As [`Channel::recv_control`], and [`Error::Protocol`] if the stage is [`Stage::Setup`]. Silence is not an error here:
    /// the peer may take its time.
    pub async fn recv_opening<T: DeserializeOwned>(&mut self, max_len: usize) -> Result<(T, Traffic)> {
        if self.out_of_step {
            return Err(Error::Disconnected);
        }
        self.attention.idles();
        if self.reader.fill_buf().await?.is_empty() {
            return Err(Error::Disconnected);
        }
        let before = self.traffic();
        let payload = self.recv_checked(FrameKind::Control, 0, max_len, true).await?;
        Ok((wire::decode(&payload, max_len)?, before))
    }

    /// Tells the peer that this party gives up, as well as the connection still allows.
    ///
    /// The code says which step gave up. It must not depend on anything computed from secrets.
    pub async fn abort(&mut self, code: u16) {
        if self.send(FrameKind::Abort, code.to_le_bytes().into()).await.is_ok() {
            // The connection may be the very thing that failed.
            let _ = self.writer.flush().await;
        }
    }

    /// Reads and drops what still comes, until the peer closes or `patience` is over. A connection that is closed with bytes
    /// unread is reset, and a peer that was sending may then never read why.
    pub async fn drain(&mut self, patience: Duration) {
        self.out_of_step = true;
        let mut nowhere = tokio::io::sink();
        let _ = runtime::timeout(patience, tokio::io::copy_buf(&mut self.reader, &mut nowhere)).await;
    }

    /// Waits until all queued frames are written.
    ///
    /// # Errors
    /// The transport error that ended the writer.
    pub async fn flush(&mut self) -> Result<()> {
        self.writer.flush().await
    }

    /// Writes all queued frames and closes the connection.
    ///
    /// # Errors
    /// The transport error that ended the writer.
    pub async fn close(self) -> Result<()> {
        self.writer.close().await
    }

    async fn recv_between(&mut self, kind: FrameKind, min: usize, max: usize) -> Result<Vec<u8>> {
        self.recv_checked(kind, min, max, false).await
    }

    async fn recv_checked(&mut self, kind: FrameKind, min: usize, max: usize, opens: bool) -> Result<Vec<u8>> {
        if self.writer.failed() {
            return Err(self.writer.failure().await);
        }
        if self.out_of_step {
            return Err(Error::Disconnected);
        }
        self.out_of_step = true;
        self.attention.waits();
        let mut bytes = [0; HEADER_BYTES];
        self.read_exact(&mut bytes).await?;
        let header = Header::decode(bytes)?;
        if header.kind == FrameKind::Abort && kind != FrameKind::Abort {
            return Err(self.read_abort(header).await);
        }
        if opens {
            if header.stage == Stage::Setup {
                return Err(Error::protocol("stage of a request", "offline or online", header.stage));
            }
            self.meter.enter(header.stage);
        }
        self.check(header, kind, min, max)?;
        self.attention.expects(header.len as usize);
        let payload = self.read_payload(header.len as usize).await?;
        self.attention.works();
        self.meter.received(kind, payload.len(), header.depth);
        self.sums.received(&bytes, &payload);
        if let Some(recording) = &self.recording {
            recording.push(Way::Received, kind, header.stage, &payload);
        }
        self.out_of_step = false;
        Ok(payload)
    }

    fn check(&self, header: Header, kind: FrameKind, min: usize, max: usize) -> Result<()> {
        let max = max.min(self.limits.max_frame);
        let len = header.len as usize;
        if header.kind != kind {
            return Err(Error::protocol("frame kind", kind, header.kind));
        }
        if header.stage != self.meter.stage() {
            return Err(Error::protocol("frame stage", self.meter.stage(), header.stage));
        }
        if header.depth == 0 || header.depth > self.meter.largest_depth() {
            let expected = format_args!("from 1 to {}", self.meter.largest_depth()).to_string();
            return Err(Error::protocol("frame depth", expected, header.depth));
        }
        if len < min || len > max {
            let expected = if min == max { String::new() } else { "at most ".into() };
            return Err(Error::protocol("frame length", expected + &max.to_string(), len));
        }
        Ok(())
    }

    /// An abort is valid in any stage and at any depth, since the parties may have diverged.
    async fn read_abort(&mut self, header: Header) -> Error {
        if header.len as usize != ABORT_BYTES {
            return Error::protocol("length of an abort frame", ABORT_BYTES, header.len);
        }
        let mut code = [0; ABORT_BYTES];
        match self.read_exact(&mut code).await {
            Ok(()) => Error::PeerAborted(u16::from_le_bytes(code)),
            Err(error) => error,
        }
    }

    async fn read_exact(&mut self, mut bytes: &mut [u8]) -> Result<()> {
        while !bytes.is_empty() {
            let read = limit(self.limits.timeout, self.reader.read(bytes)).await?;
            if read == 0 {
                return Err(Error::Disconnected);
            }
            bytes = &mut bytes[read..];
        }
        Ok(())
    }

    async fn read_payload(&mut self, len: usize) -> Result<Vec<u8>> {
        let mut payload = Vec::with_capacity(len);
        while payload.len() < len {
            let mut rest = (&mut self.reader).take((len - payload.len()) as u64);
            if limit(self.limits.timeout, rest.read_buf(&mut payload)).await? == 0 {
                return Err(Error::Disconnected);
            }
        }
        Ok(payload)
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("party", &self.party)
            .field("stage", &self.meter.stage())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
