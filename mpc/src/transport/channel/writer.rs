//! The background task that writes frames, so that two parties can send at the same time without deadlock.

use super::frame::HEADER_BYTES;
use crate::error::{Error, Result};
use crate::transport::runtime::{self, JoinHandle};
use std::future::Future;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

/// Headers and short payloads are gathered up to this size; the rest of a long payload is written in place.
const GATHER_BYTES: usize = 16 * 1024;

enum Job {
    Frame([u8; HEADER_BYTES], Vec<u8>),
    Flush(oneshot::Sender<()>),
}

/// The sending half of a channel. The queue is unbounded: a protocol never holds more than its own messages.
pub(super) struct Writer {
    queue: mpsc::UnboundedSender<Job>,
    task: Option<JoinHandle<Result<()>>>,
}

impl Writer {
    /// Spawns the task. It ends, after writing all that is queued and closing the stream, when `Writer` drops.
    pub fn spawn<W>(io: W, timeout: Duration) -> Self
    where
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let (queue, jobs) = mpsc::unbounded_channel();
        let task = runtime::spawn(run(io, jobs, timeout));
        Self { queue, task: Some(task) }
    }

    /// Queues a frame.
    pub async fn send(&mut self, header: [u8; HEADER_BYTES], payload: Vec<u8>) -> Result<()> {
        match self.queue.send(Job::Frame(header, payload)) {
            Ok(()) => Ok(()),
            Err(_) => Err(self.failure().await),
        }
    }

    /// Waits until all queued frames are written and flushed.
    pub async fn flush(&mut self) -> Result<()> {
        let (done, wait) = oneshot::channel();
        if self.queue.send(Job::Flush(done)).is_err() || wait.await.is_err() {
            return Err(self.failure().await);
        }
        Ok(())
    }

    /// True if the task has ended although it was not asked to.
    pub fn failed(&self) -> bool {
        self.queue.is_closed()
    }

    /// The error that ended the task; [`Error::Disconnected`] if it was reported before.
    pub async fn failure(&mut self) -> Error {
        match self.task.take() {
            Some(task) => match task.await {
                Ok(Err(error)) => error,
                Ok(Ok(())) | Err(_) => Error::Disconnected,
            },
            None => Error::Disconnected,
        }
    }

    /// Writes all that is queued and closes the stream.
    pub async fn close(self) -> Result<()> {
        let Self { queue, task } = self;
        drop(queue);
        match task {
            Some(task) => task.await.unwrap_or(Err(Error::Disconnected)),
            None => Err(Error::Disconnected),
        }
    }
}

async fn run<W>(mut io: W, mut jobs: mpsc::UnboundedReceiver<Job>, timeout: Duration) -> Result<()>
where
    W: AsyncWrite + Unpin,
{
    let mut gathered = Vec::with_capacity(GATHER_BYTES);
    loop {
        let job = match jobs.try_recv() {
            Ok(job) => Some(job),
            Err(_) => {
                write(&mut io, &gathered, timeout).await?;
                gathered.clear();
                limit(timeout, io.flush()).await?;
                jobs.recv().await
            }
        };
        match job {
            Some(Job::Frame(header, payload)) => {
                for mut part in [&header[..], &payload[..]] {
                    while !part.is_empty() {
                        let room = GATHER_BYTES - gathered.len();
                        let (now, rest) = part.split_at(room.min(part.len()));
                        gathered.extend_from_slice(now);
                        part = rest;
                        if gathered.len() == GATHER_BYTES {
                            write(&mut io, &gathered, timeout).await?;
                            gathered.clear();
                            write(&mut io, part, timeout).await?;
                            part = &[];
                        }
                    }
                }
            }
            Some(Job::Flush(done)) => {
                write(&mut io, &gathered, timeout).await?;
                gathered.clear();
                limit(timeout, io.flush()).await?;
                // The caller may have given up waiting, which is not this task's concern.
                let _ = done.send(());
            }
            None => return limit(timeout, io.shutdown()).await,
        }
    }
}

async fn write<W: AsyncWrite + Unpin>(io: &mut W, mut bytes: &[u8], timeout: Duration) -> Result<()> {
    while !bytes.is_empty() {
        let written = limit(timeout, io.write(bytes)).await?;
        if written == 0 {
            return Err(Error::Disconnected);
        }
        bytes = &bytes[written..];
    }
    Ok(())
}

/// Runs one I/O operation, at most for `after`.
pub(super) async fn limit<T>(after: Duration, operation: impl Future<Output = io::Result<T>>) -> Result<T> {
    match runtime::timeout(after, operation).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(Error::Timeout { after }),
    }
}
