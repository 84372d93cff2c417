//! Tests of the channel against honest, silent and hostile peers.

use super::*;
use proptest::prelude::*;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncWriteExt, DuplexStream, ReadBuf, duplex};

const SHORT: Limits = Limits { max_frame: 1000, timeout: Duration::from_millis(50) };

/// A channel whose peer is a raw stream.
fn against_raw(limits: Limits) -> (Channel, DuplexStream) {
    let (ours, theirs) = duplex(1 << 16);
    (Channel::new(ours, Party::Client, limits), theirs)
}

/// What a client in the setup stage makes of raw bytes, where a data frame of 4 bytes is due.
async fn receive_raw(bytes: &[u8]) -> Result<Vec<u8>> {
    let (mut channel, mut raw) = against_raw(SHORT);
    raw.write_all(bytes).await.unwrap();
    drop(raw);
    channel.recv(FrameKind::Data, 4).await
}

fn what(result: Result<Vec<u8>>) -> &'static str {
    match result {
        Err(Error::Protocol { what, .. }) => what,
        other => panic!("expected a protocol violation, got {other:?}"),
    }
}

#[tokio::test]
async fn frames_arrive_in_order() {
    let (mut client, mut server) = Channel::pair();
    client.send(FrameKind::Data, vec![1, 2, 3]).await.unwrap();
    client.send(FrameKind::Hint, vec![]).await.unwrap();
    client.send_control(&(7_u16, true)).await.unwrap();
    assert_eq!(server.recv(FrameKind::Data, 3).await.unwrap(), [1, 2, 3]);
    assert!(server.recv_at_most(FrameKind::Hint, 9).await.unwrap().is_empty());
    assert_eq!(server.recv_control::<(u16, bool)>(3).await.unwrap(), (7, true));
}

#[tokio::test]
async fn headers_are_checked_before_the_payload() {
    // length, kind, stage, depth; no payload follows, so only an early check can find the fault
    assert_eq!(what(receive_raw(&[4, 0, 0, 0, 5, 0, 1, 0]).await), "frame kind");
    assert_eq!(what(receive_raw(&[4, 0, 0, 0, 3, 0, 1, 0]).await), "frame kind");
    assert_eq!(what(receive_raw(&[4, 0, 0, 0, 1, 3, 1, 0]).await), "frame stage");
    assert_eq!(what(receive_raw(&[4, 0, 0, 0, 1, 1, 1, 0]).await), "frame stage");
    assert_eq!(what(receive_raw(&[4, 0, 0, 0, 1, 0, 0, 0]).await), "frame depth");
    assert_eq!(what(receive_raw(&[4, 0, 0, 0, 1, 0, 2, 0]).await), "frame depth");
    assert_eq!(what(receive_raw(&[3, 0, 0, 0, 1, 0, 1, 0]).await), "frame length");
    assert_eq!(what(receive_raw(&[255, 255, 255, 255, 1, 0, 1, 0]).await), "frame length");
    assert_eq!(what(receive_raw(&[3, 0, 0, 0, 4, 2, 9, 9]).await), "length of an abort frame");
    assert_eq!(receive_raw(&[4, 0, 0, 0, 1, 0, 1, 0, 5, 6, 7, 8]).await.unwrap(), [5, 6, 7, 8]);
}

#[tokio::test]
async fn the_frame_limit_holds_both_ways() {
    let (mut channel, mut raw) = against_raw(SHORT);
    let header = Header { len: 1001, kind: FrameKind::Data, stage: Stage::Setup, depth: 1 };
    raw.write_all(&header.encode()).await.unwrap();
    assert_eq!(what(channel.recv_at_most(FrameKind::Data, 1 << 30).await), "frame length");
    assert!(matches!(
        channel.send(FrameKind::Data, vec![0; 1001]).await,
        Err(Error::FrameTooLarge { len: 1001, max: 1000 })
    ));
}

#[tokio::test]
async fn a_closed_or_cut_stream_is_disconnected() {
    let whole = [4, 0, 0, 0, 1, 0, 1, 0, 5, 6, 7, 8];
    for cut in 0..whole.len() {
        let result = receive_raw(&whole[..cut]).await;
        assert!(matches!(result, Err(Error::Disconnected)), "cut at {cut}: {result:?}");
    }
}

#[tokio::test]
async fn after_a_violation_the_channel_reads_no_more() {
    let (mut channel, mut raw) = against_raw(SHORT);
    raw.write_all(&[0; 100]).await.unwrap();
    assert_eq!(what(channel.recv(FrameKind::Data, 4).await), "frame kind");
    assert!(matches!(channel.recv(FrameKind::Data, 4).await, Err(Error::Disconnected)));
}

#[tokio::test]
async fn a_silent_peer_times_out() {
    let (mut channel, mut raw) = against_raw(SHORT);
    assert!(matches!(channel.recv(FrameKind::Data, 4).await, Err(Error::Timeout { after }) if after == SHORT.timeout));
    // A peer that moves within the limit does not, however slow it is.
    let (mut channel, mut slow) = against_raw(SHORT);
    let feed = async {
        for byte in [4, 0, 0, 0, 1, 0, 1, 0, 5, 6, 7, 8] {
            tokio::time::sleep(Duration::from_millis(10)).await;
            slow.write_all(&[byte]).await.unwrap();
        }
    };
    let (payload, ()) = tokio::join!(channel.recv(FrameKind::Data, 4), feed);
    assert_eq!(payload.unwrap(), [5, 6, 7, 8]);
    raw.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_peer_that_does_not_read_times_out() {
    let (ours, _theirs) = duplex(16);
    let mut channel = Channel::new(ours, Party::Client, SHORT);
    channel.send(FrameKind::Data, vec![0; 100]).await.unwrap();
    assert!(matches!(channel.flush().await, Err(Error::Timeout { .. })));
    assert!(matches!(channel.send(FrameKind::Data, vec![]).await, Err(Error::Disconnected)));
}

#[tokio::test]
async fn a_write_error_surfaces_on_the_next_call() {
    let (mut channel, raw) = against_raw(SHORT);
    drop(raw);
    channel.send(FrameKind::Data, vec![0; 100]).await.unwrap();
    assert!(channel.flush().await.is_err());
    assert!(channel.recv(FrameKind::Data, 1).await.is_err());
}

#[tokio::test]
async fn an_abort_carries_its_code_across_stages() {
    let (mut client, mut server) = Channel::pair();
    client.enter(Stage::Online);
    client.abort(0x1234).await;
    let error = server.recv(FrameKind::Data, 4).await.unwrap_err();
    assert!(matches!(error, Error::PeerAborted(0x1234)), "{error}");
}

#[tokio::test]
async fn both_parties_send_32_megabytes_at_once() {
    let (client, server) = duplex(1 << 12);
    let mut client = Channel::new(client, Party::Client, Limits::default());
    let mut server = Channel::new(server, Party::Server, Limits::default());
    let len = 32 << 20;
    let run = async |channel: &mut Channel, fill: u8| {
        channel.send(FrameKind::Data, vec![fill; len]).await.unwrap();
        let payload = channel.recv(FrameKind::Data, len).await.unwrap();
        assert!(payload.iter().all(|&byte| byte == 3 - fill));
        channel.flush().await.unwrap();
    };
    tokio::join!(run(&mut client, 1), run(&mut server, 2));
}

#[tokio::test]
async fn flights_are_the_longest_chain() {
    let (mut client, mut server) = Channel::pair();
    for visit in 1..=2 {
        client.enter(Stage::Online);
        server.enter(Stage::Online);
        // Two frames that cross, then one answer to them: a chain of two. Then a third message.
        client.send(FrameKind::Data, vec![1]).await.unwrap();
        client.send(FrameKind::Data, vec![1]).await.unwrap();
        server.send(FrameKind::Data, vec![2]).await.unwrap();
        assert_eq!(client.traffic().stage(Stage::Online).flights, 3 * (visit - 1) + 1);
        server.recv(FrameKind::Data, 1).await.unwrap();
        server.send(FrameKind::Data, vec![3]).await.unwrap();
        client.recv(FrameKind::Data, 1).await.unwrap();
        client.recv(FrameKind::Data, 1).await.unwrap();
        client.send(FrameKind::Data, vec![4]).await.unwrap();
        server.recv(FrameKind::Data, 1).await.unwrap();
        server.recv(FrameKind::Data, 1).await.unwrap();
        for channel in [&client, &server] {
            assert_eq!(channel.traffic().stage(Stage::Online).flights, 3 * visit);
            assert_eq!(channel.traffic().stage(Stage::Setup).flights, 0);
        }
    }
}

#[tokio::test]
async fn an_opening_names_its_stage_and_may_be_late() {
    let (io, peer) = duplex(1 << 16);
    let mut client = Channel::new(peer, Party::Client, Limits::default());
    let mut server = Channel::new(io, Party::Server, SHORT);
    let late = async {
        tokio::time::sleep(2 * SHORT.timeout).await;
        client.enter(Stage::Online);
        client.send_control(&5_u32).await.unwrap();
    };
    let (opening, ()) = tokio::join!(server.recv_opening::<u32>(4), late);
    let (message, before) = opening.unwrap();
    assert_eq!((message, server.stage()), (5, Stage::Online));
    assert_eq!(before.total(), Count::default());
    assert_eq!(server.traffic().stage(Stage::Online).flights, 1);

    client.enter(Stage::Setup);
    client.send_control(&6_u32).await.unwrap();
    assert!(server.recv_opening::<u32>(4).await.unwrap_err().is_peer_fault());
    assert!(matches!(server.recv_opening::<u32>(4).await, Err(Error::Disconnected)));
}

#[tokio::test]
async fn traffic_is_kept_per_stage_scope_and_kind() {
    let (mut client, mut server) = Channel::pair();
    client.enter(Stage::Offline);
    client.scope("conv1");
    client.send(FrameKind::OtBatch, vec![0; 10]).await.unwrap();
    let before = client.traffic();
    client.scope("conv2");
    client.send(FrameKind::Data, vec![0; 20]).await.unwrap();
    client.scope("conv1");
    client.send(FrameKind::Data, vec![0; 30]).await.unwrap();
    server.enter(Stage::Offline);
    for (kind, len) in [(FrameKind::OtBatch, 10), (FrameKind::Data, 20), (FrameKind::Data, 30)] {
        server.recv(kind, len).await.unwrap();
    }

    let traffic = client.traffic();
    let offline = traffic.stage(Stage::Offline);
    assert_eq!(offline.ot_batches.bytes_sent, 18);
    assert_eq!(offline.other.bytes_sent, 28 + 38);
    assert_eq!(offline.total(), traffic.total());
    let conv1 = traffic.scopes().iter().find(|scope| &*scope.label == "conv1").unwrap();
    assert_eq!(conv1.total().bytes_sent, 18 + 38);
    assert_eq!(conv1.kind(FrameKind::Data).frames_sent, 1);

    let added = traffic.since(&before);
    assert_eq!(added.total().bytes_sent, 28 + 38);
    assert_eq!(added.stage(Stage::Offline).flights, 0);

    let mirrored = server.traffic().total();
    assert_eq!((mirrored.bytes_received, mirrored.frames_received), (84, 3));
    assert_eq!(mirrored.bytes_sent, 0);
}

/// A stream that counts what really passes.
struct Counting<T> {
    inner: T,
    read: Arc<AtomicU64>,
    written: Arc<AtomicU64>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Counting<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let poll = Pin::new(&mut self.inner).poll_read(cx, buf);
        self.read.fetch_add((buf.filled().len() - before) as u64, Ordering::Relaxed);
        poll
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counting<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.inner).poll_write(cx, buf);
        if let Poll::Ready(Ok(n)) = poll {
            self.written.fetch_add(n as u64, Ordering::Relaxed);
        }
        poll
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn counted_bytes_are_the_bytes_on_the_socket() {
    let (io, peer) = duplex(1000);
    let (read, written) = <(Arc<AtomicU64>, Arc<AtomicU64>)>::default();
    let io = Counting { inner: io, read: read.clone(), written: written.clone() };
    let mut client = Channel::new(io, Party::Client, Limits::default());
    let mut server = Channel::new(peer, Party::Server, Limits::default());
    let lens = [0, 1, 7, 16_375, 16_376, 16_377, 16_384, 50_000, 3, 100_000];
    let run = async |channel: &mut Channel| {
        for len in lens {
            let payload = (0..len).map(|i| i as u8).collect();
            channel.send(FrameKind::Data, payload).await.unwrap();
        }
        for len in lens {
            let payload = channel.recv(FrameKind::Data, len).await.unwrap();
            assert!(payload.iter().enumerate().all(|(i, &byte)| byte == i as u8));
        }
        channel.flush().await.unwrap();
    };
    tokio::join!(run(&mut client), run(&mut server));
    let total = client.traffic().total();
    assert_eq!(total.bytes_sent, written.load(Ordering::Relaxed));
    assert_eq!(total.bytes_received, read.load(Ordering::Relaxed));
    assert_eq!(total.bytes_sent, lens.iter().map(|&len| len as u64 + 8).sum::<u64>());
    client.close().await.unwrap();
}

#[tokio::test]
async fn close_writes_everything_that_is_queued() {
    let (client, server) = duplex(100);
    let mut client = Channel::new(client, Party::Client, Limits::default());
    let mut server = Channel::new(server, Party::Server, Limits::default());
    client.send(FrameKind::Data, vec![9; 100_000]).await.unwrap();
    let (closed, payload) = tokio::join!(client.close(), server.recv(FrameKind::Data, 100_000));
    closed.unwrap();
    assert_eq!(payload.unwrap(), vec![9; 100_000]);
    assert!(matches!(server.recv(FrameKind::Data, 1).await, Err(Error::Disconnected)));
}

#[tokio::test]
async fn a_recording_is_the_view_of_one_party() {
    let (mut client, mut server) = Channel::pair();
    server.send(FrameKind::Data, vec![0]).await.unwrap();
    let view = server.record();
    client.send(FrameKind::Data, vec![1]).await.unwrap();
    server.recv(FrameKind::Data, 1).await.unwrap();
    server.send(FrameKind::Hint, vec![2]).await.unwrap();
    let frame = |way, kind, byte| Recorded { way, kind, stage: Stage::Setup, payload: vec![byte] };
    assert_eq!(view.take(), [frame(Way::Received, FrameKind::Data, 1), frame(Way::Sent, FrameKind::Hint, 2)]);
    assert!(view.take().is_empty());
}

#[tokio::test]
async fn a_cancelled_receive_loses_its_place() {
    let (mut channel, mut raw) = against_raw(Limits::default());
    raw.write_all(&[4, 0, 0]).await.unwrap();
    let cancelled = tokio::time::timeout(Duration::from_millis(20), channel.recv(FrameKind::Data, 4)).await;
    assert!(cancelled.is_err());
    assert!(matches!(channel.recv(FrameKind::Data, 4).await, Err(Error::Disconnected)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn garbage_is_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        if let Ok(payload) = runtime.block_on(receive_raw(&bytes)) {
            prop_assert_eq!(&payload[..], &bytes[8..12]);
        }
    }
}
