//! Connections: frames, and whole sessions of which one side is a recording with damage.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use lowkey::client::{Options, Session};
use lowkey::session::{Request, Welcome};
use lowkey::{Fault, Reveal, Schedule, server};
use lowkey_mpc::channel::{Channel, FrameKind, Limits};
use lowkey_mpc::party::{Party, Stage};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::files::model;

/// Nobody waits for a peer that has said all.
const LIMITS: Limits = Limits { max_frame: 1 << 24, timeout: Duration::from_secs(10) };

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

/// A connection on which the peer says `bytes`, hears everything, and hangs up.
fn peer(bytes: &[u8]) -> DuplexStream {
    let (here, mut there) = tokio::io::duplex(1 << 16);
    let bytes = bytes.to_vec();
    tokio::spawn(async move {
        let (mut read, mut write) = tokio::io::split(&mut there);
        let say = async {
            let _ = write.write_all(&bytes).await;
            let _ = write.shutdown().await;
        };
        let hear = async {
            let _ = tokio::io::copy(&mut read, &mut tokio::io::sink()).await;
        };
        tokio::join!(say, hear);
    });
    here
}

/// One byte of what is expected, then what is read from the connection.
pub fn channel(bytes: &[u8]) {
    let Some((expected, stream)) = bytes.split_first() else { return };
    block_on(async {
        let mut channel = Channel::new(peer(stream), Party::Server, LIMITS);
        // A reply may be as deep as what it answers.
        channel.send(FrameKind::Data, vec![1]).await.expect("queued");
        loop {
            let received = match expected % 5 {
                0 => channel.recv(FrameKind::Data, 5).await.map(|payload| assert_eq!(payload.len(), 5)),
                1 => channel.recv_at_most(FrameKind::OtBatch, 1000).await.map(|payload| assert!(payload.len() <= 1000)),
                2 => channel.recv_control::<Welcome>(256).await.map(|_| ()),
                3 => channel.recv_opening::<Request>(256).await.map(|_| assert!(channel.stage() != Stage::Setup)),
                _ => channel.recv(FrameKind::Hint, 1 << 23).await.map(|_| ()),
            };
            if received.is_err() {
                return;
            }
        }
    });
}

pub fn streams() -> Vec<Vec<u8>> {
    let frame = |len: u32, kind: FrameKind, stage: Stage, payload: &[u8]| {
        [&len.to_le_bytes()[..], &[kind.code(), stage.code(), 1, 0], payload].concat()
    };
    let request = &super::messages::controls()[4];
    vec![
        [vec![0], frame(5, FrameKind::Data, Stage::Setup, b"abcde"), frame(5, FrameKind::Data, Stage::Setup, b"abcde")]
            .concat(),
        [vec![1], frame(7, FrameKind::OtBatch, Stage::Setup, b"abcdefg")].concat(),
        [vec![2], frame(2, FrameKind::Abort, Stage::Online, &[5, 0])].concat(),
        [vec![3], frame(request.len() as u32, FrameKind::Control, Stage::Online, request)].concat(),
        [vec![4], frame(1 << 23, FrameKind::Hint, Stage::Setup, b"only a little")].concat(),
    ]
}

const SEEDS: [[u8; 32]; 2] = [[11; 32], [12; 32]];

fn options() -> Options {
    Options { address: "memory".into(), limits: LIMITS, ..Options::default() }
}

async fn use_session(stream: DuplexStream) -> lowkey::Result<()> {
    let mut client = Session::open_seeded(Box::new(stream), options(), SEEDS[0]).await?;
    let input = vec![1; client.model().plan.input().elements()];
    client.answer(Schedule::Prepared, Reveal::Logits, &input).await?;
    client.answer(Schedule::Direct, Reveal::Class, &input).await?;
    client.close().await
}

async fn serve(stream: DuplexStream) -> lowkey::Result<()> {
    let options = server::Options { limits: LIMITS, ..server::Options::default() };
    server::serve_seeded(Box::new(stream), model().clone(), options, SEEDS[1]).await.map(|_| ())
}

/// What both sides say in one honest session: the client and the server.
fn recording() -> &'static [Vec<u8>; 2] {
    static RECORDING: OnceLock<[Vec<u8>; 2]> = OnceLock::new();
    RECORDING.get_or_init(|| {
        let said: [Arc<Mutex<Vec<u8>>>; 2] = Default::default();
        block_on(async {
            let (client, mut client_end) = tokio::io::duplex(1 << 16);
            let (server, mut server_end) = tokio::io::duplex(1 << 16);
            let between = async {
                let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
                    (tokio::io::split(&mut client_end), tokio::io::split(&mut server_end));
                tokio::join!(
                    listen(&mut from_client, &mut to_server, &said[0]),
                    listen(&mut from_server, &mut to_client, &said[1])
                );
            };
            let (used, served, ()) = tokio::join!(use_session(client), serve(server), between);
            used.expect("an honest session");
            served.expect("an honest session");
        });
        said.map(|said| std::mem::take(&mut *said.lock().expect("nobody panicked")))
    })
}

/// Passes everything on and keeps it.
async fn listen(from: &mut (impl AsyncReadExt + Unpin), to: &mut (impl AsyncWriteExt + Unpin), said: &Mutex<Vec<u8>>) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(len @ 1..) = from.read(&mut buffer).await {
        said.lock().expect("nobody panicked").extend_from_slice(&buffer[..len]);
        if to.write_all(&buffer[..len]).await.is_err() {
            return;
        }
    }
    // The other end may be gone.
    let _ = to.shutdown().await;
}

/// Errors of a session with a broken peer are never ours.
fn blame(outcome: lowkey::Result<()>) {
    if let Err(error) = outcome {
        assert!(error.fault() != Fault::Internal, "{error}");
    }
}

/// A server that hears the bytes.
pub fn server(bytes: &[u8]) {
    blame(block_on(async { serve(peer(bytes)).await }));
}

/// A client that hears the bytes.
pub fn client(bytes: &[u8]) {
    blame(block_on(async { use_session(peer(bytes)).await }));
}

pub fn client_streams() -> Vec<Vec<u8>> {
    vec![recording()[0].clone()]
}

pub fn server_streams() -> Vec<Vec<u8>> {
    vec![recording()[1].clone()]
}
