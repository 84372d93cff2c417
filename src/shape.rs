//! A slower link than the one there is: delay and rate, put between a party and its connection.
//!
//! Only benchmarks and tests use this. One party shapes both directions; the other one runs as it is.

use std::io;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;

use crate::net::Stream;
use crate::plan::Link;

/// Bytes taken from a connection at once; the rate holds for pieces of this size.
const PIECE: usize = 16 << 10;

/// The timer of the runtime is this coarse; what is left is waited for awake.
const TIMER: Duration = Duration::from_millis(2);

/// Bytes on their way, and when they arrive.
struct Piece {
    due: Instant,
    bytes: Vec<u8>,
}

/// A stream over `stream` whose bytes take the latency of `link` and leave at its rate, each way. Ends when either end does.
pub fn shape<S: Stream + 'static>(stream: S, link: Link) -> DuplexStream {
    shape_as(stream, Duration::from_secs_f64(link.latency()), link.bandwidth())
}

/// The same, of a link with this latency and bits per second, each way.
pub fn shape_as<S: Stream + 'static>(stream: S, latency: Duration, bandwidth: f64) -> DuplexStream {
    let (near, far) = tokio::io::duplex(1 << 20);
    let (from_party, to_party) = tokio::io::split(far);
    let (from_peer, to_peer) = tokio::io::split(stream);
    carry(from_party, to_peer, latency, bandwidth / 8.0);
    carry(from_peer, to_party, latency, bandwidth / 8.0);
    near
}

/// One direction, at a rate in bytes per second.
fn carry<R, W>(reader: R, writer: W, latency: Duration, rate: f64)
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    // What the link itself holds: latency times rate, and some more.
    let pieces = 64 + (rate * latency.as_secs_f64()) as usize / PIECE * 2;
    let (sender, receiver) = mpsc::channel(pieces);
    tokio::spawn(depart(reader, sender, latency, rate));
    tokio::spawn(arrive(receiver, writer));
}

/// Takes bytes at the rate of the link.
async fn depart(mut reader: impl AsyncRead + Unpin, sender: mpsc::Sender<Piece>, latency: Duration, rate: f64) {
    let mut free = Instant::now();
    let mut buffer = vec![0; PIECE];
    while let Ok(length @ 1..) = reader.read(&mut buffer).await {
        free = free.max(Instant::now()) + Duration::from_secs_f64(length as f64 / rate);
        let piece = Piece { due: free + latency, bytes: buffer[..length].to_vec() };
        if sender.send(piece).await.is_err() {
            break;
        }
    }
}

/// Hands bytes on when they are due.
async fn arrive(mut receiver: mpsc::Receiver<Piece>, mut writer: impl AsyncWrite + Unpin) -> io::Result<()> {
    while let Some(Piece { due, bytes }) = receiver.recv().await {
        while let left = due.saturating_duration_since(Instant::now())
            && !left.is_zero()
        {
            match left.checked_sub(TIMER) {
                Some(long) => tokio::time::sleep(long).await,
                None => tokio::task::yield_now().await,
            }
        }
        writer.write_all(&bytes).await?;
        writer.flush().await?;
    }
    writer.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends `length` bytes and waits for one back; the seconds that took at least.
    async fn there_and_back(link: Link, length: usize) -> f64 {
        let (mut peer, stream) = tokio::io::duplex(1 << 16);
        let mut party = shape(stream, link);
        let echo = tokio::spawn(async move {
            let mut bytes = vec![0; length];
            peer.read_exact(&mut bytes).await.unwrap();
            assert!(bytes.iter().enumerate().all(|(i, &byte)| byte == i as u8));
            peer.write_all(&[1]).await.unwrap();
            peer
        });
        let start = Instant::now();
        let bytes: Vec<u8> = (0..length).map(|i| i as u8).collect();
        party.write_all(&bytes).await.unwrap();
        assert_eq!(party.read_u8().await.unwrap(), 1);
        let seconds = start.elapsed().as_secs_f64();
        drop(party);
        // The end of one side is seen by the other.
        assert_eq!(echo.await.unwrap().read(&mut [0]).await.unwrap(), 0);
        seconds
    }

    #[tokio::test]
    async fn bytes_take_as_long_as_the_link_says() {
        // Never less than round trip and rate; the machine may be busy, so no upper bound.
        assert!(there_and_back(Link::Wan, 1).await >= 40e-3);
        assert!(there_and_back(Link::Wan, 250_000).await >= 60e-3);
        assert!(there_and_back(Link::Lan, 1000).await >= 0.3e-3);
    }
}
