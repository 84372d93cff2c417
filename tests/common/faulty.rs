//! A stream that dies, stalls, or changes a byte after so many bytes, and that keeps what passed.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// The stream is dropped: the other end sees its end, this one a reset.
    Die,
    /// No byte passes any more, either way.
    Stall,
    /// One byte is XORed with this value.
    Change(u8),
}

/// Which way, seen from the end that holds the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the other end.
    Read,
    /// To the other end.
    Written,
}

/// The bytes that passed: read, written.
pub type Tap = Arc<Mutex<[Vec<u8>; 2]>>;

/// The stream.
pub struct Faulty<S> {
    inner: Option<S>,
    fault: Fault,
    way: Way,
    at: usize,
    tap: Tap,
    reader: Option<Waker>,
}

impl<S> Faulty<S> {
    /// `fault` happens at byte `at`, counted from 0, of the bytes that go `way`.
    pub fn new(inner: S, fault: Fault, way: Way, at: usize) -> Self {
        Self { inner: Some(inner), fault, way, at, tap: Tap::default(), reader: None }
    }

    /// Without a fault.
    pub fn tapped(inner: S) -> Self {
        Self::new(inner, Fault::None, Way::Read, 0)
    }

    /// What passes.
    pub fn tap(&self) -> Tap {
        self.tap.clone()
    }

    /// Bytes that may still pass before the fault; `None` if any number.
    fn room(&self, way: Way) -> Option<usize> {
        let passed = self.tap.lock().unwrap()[way as usize].len();
        match self.fault {
            Fault::Die | Fault::Stall if self.way == way => Some(self.at.saturating_sub(passed)),
            _ => None,
        }
    }

    /// The fault's time has come, in either direction.
    fn due(&self) -> bool {
        self.room(Way::Read) == Some(0) || self.room(Way::Written) == Some(0)
    }

    fn fail<T>(&mut self) -> Poll<io::Result<T>> {
        if self.fault == Fault::Stall {
            return Poll::Pending;
        }
        self.inner = None;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
    }

    /// What passes for `bytes`.
    fn pass(&self, way: Way, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        let passed = self.tap.lock().unwrap()[way as usize].len();
        if let Fault::Change(by) = self.fault
            && way == self.way
            && let Some(byte) = self.at.checked_sub(passed).and_then(|at| bytes.get_mut(at))
        {
            *byte ^= by;
        }
        bytes
    }

    fn note(&self, way: Way, bytes: &[u8]) {
        self.tap.lock().unwrap()[way as usize].extend_from_slice(bytes);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Faulty<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.due() {
            return self.fail();
        }
        let mut bytes = vec![0; buf.remaining().min(self.room(Way::Read).unwrap_or(usize::MAX))];
        let mut part = ReadBuf::new(&mut bytes);
        let Some(inner) = &mut self.inner else { return self.fail() };
        let poll = Pin::new(inner).poll_read(cx, &mut part);
        if poll.is_pending() {
            self.reader = Some(cx.waker().clone());
        }
        let bytes = self.pass(Way::Read, part.filled());
        self.note(Way::Read, &bytes);
        buf.put_slice(&bytes);
        poll
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Faulty<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.due() {
            return self.fail();
        }
        let bytes = self.pass(Way::Written, &buf[..buf.len().min(self.room(Way::Written).unwrap_or(usize::MAX))]);
        let Some(inner) = &mut self.inner else { return self.fail() };
        let poll = Pin::new(inner).poll_write(cx, &bytes);
        if let Poll::Ready(Ok(n)) = poll {
            self.note(Way::Written, &bytes[..n]);
        }
        poll
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.inner {
            Some(inner) => Pin::new(inner).poll_flush(cx),
            None => self.fail(),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.inner {
            Some(inner) => Pin::new(inner).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}
