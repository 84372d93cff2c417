//! A server that others may try: connections that say nothing, or say it slowly, keep nobody out, and a full server says so.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lowkey::readiness::State;
use lowkey::session::{Accept, Ask, Hello, MAGIC};
use lowkey::{Answer, Client, Error, Model, Result, Reveal, Server, client, server};
use lowkey_mpc::channel::{Channel, FrameKind, Limits};
use lowkey_mpc::party::{Party, Stage};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// Nothing here takes longer, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// By which no attack may delay an honest client.
const DELAY: Duration = Duration::from_secs(1);

async fn within<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: no end after {PATIENCE:?}"))
}

async fn serve(sessions: u16) -> (Model, Server, JoinHandle<Result<()>>) {
    let model = Model::open("digits").unwrap();
    let server = Server::builder(model.clone()).sessions(sessions).bind("127.0.0.1:0").await.unwrap();
    let running = tokio::spawn(server.clone().run());
    (model, server, running)
}

/// An inference, and that it is right.
async fn ask(model: &Model, address: SocketAddr) -> Result<Answer> {
    answered(model, Client::connect(address).await?).await
}

/// The same, of a client that is connected.
async fn answered(model: &Model, mut client: Client) -> Result<Answer> {
    let image = model.demo().unwrap().inputs.get(7).unwrap();
    let answer = client.infer(&image).await?;
    client.close().await?;
    assert_eq!(answer.logits, model.answer(&image)?.logits);
    Ok(answer)
}

/// A client that says hello, and what it says next.
async fn hello(address: SocketAddr) -> Channel {
    let stream = TcpStream::connect(address).await.unwrap();
    let mut channel = Channel::new(stream, Party::Client, Limits::default());
    channel.send_control(&Hello::new(Ask::Only)).await.unwrap();
    channel.flush().await.unwrap();
    channel
}

/// The longest time that an honest client takes, of three that are alone.
async fn alone(model: &Model, address: SocketAddr) -> Duration {
    let mut longest = Duration::ZERO;
    for _ in 0..3 {
        longest = longest.max(asked(model, address).await);
    }
    longest
}

/// How long an inference takes, from the connection to the end.
async fn asked(model: &Model, address: SocketAddr) -> Duration {
    let start = Instant::now();
    within("an honest client", ask(model, address)).await.unwrap();
    start.elapsed()
}

/// Waits until something is so.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    within(what, async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// Bytes, one after the other, for as long as they are taken.
async fn drip(mut stream: TcpStream, bytes: Vec<u8>, pause: Duration) {
    for byte in bytes.into_iter().cycle() {
        if stream.write_all(&[byte]).await.is_err() {
            return;
        }
        tokio::time::sleep(pause).await;
    }
}

/// The beginning of a frame of a kind: length, kind, stage, depth.
fn header(length: u8, kind: u8) -> Vec<u8> {
    vec![length, 0, 0, 0, kind, 0, 1, 0]
}

/// How far an attacker gets before it drips.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Drip {
    /// Within its hello.
    Hello,
    /// After asking for a model that is not there: it is told so, and heard out for a while.
    Refused,
    /// Within what follows its hello.
    Accept,
    /// Within its base OTs: all that can be sent without computing anything was sent before.
    BaseOts,
}

impl Drip {
    async fn begin(self, address: SocketAddr, pause: Duration) -> JoinHandle<()> {
        let stream = TcpStream::connect(address).await.unwrap();
        let (stream, twin) = twins(stream);
        if self == Self::Hello {
            let mut bytes = header(12, 0);
            bytes.extend_from_slice(&MAGIC);
            return tokio::spawn(drip(stream, bytes, pause));
        }
        let mut channel = Channel::new(twin, Party::Client, Limits::default());
        let asks = if self == Self::Refused { Ask::Model("nowhere".into()) } else { Ask::Only };
        channel.send_control(&Hello::new(asks)).await.unwrap();
        channel.flush().await.unwrap();
        tokio::spawn(async move {
            if self == Self::BaseOts {
                for _ in 0..2 {
                    channel.recv_at_most(FrameKind::Control, 1 << 20).await.unwrap();
                }
                channel.send_control(&Accept { send_hint: false }).await.unwrap();
                // A version, and what nobody checks yet.
                channel.send(FrameKind::OtBatch, [vec![2], vec![7; 64]].concat()).await.unwrap();
                channel.flush().await.unwrap();
            }
            let kind = if self == Self::BaseOts { FrameKind::OtBatch } else { FrameKind::Control };
            drip(stream, header(1, kind as u8), pause).await;
        })
    }
}

/// Both ends of one connection's handle: a channel has one of them, and bytes go past it by the other.
fn twins(stream: TcpStream) -> (TcpStream, TcpStream) {
    let stream = stream.into_std().unwrap();
    let twin = stream.try_clone().unwrap();
    (TcpStream::from_std(stream).unwrap(), TcpStream::from_std(twin).unwrap())
}

/// However far they get first, with as many as there are seats, and 200 more that say nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_say_nothing_or_drip_delay_nobody_for_long() {
    for kind in [Drip::Hello, Drip::Refused, Drip::Accept, Drip::BaseOts] {
        let (model, server, running) = serve(16).await;
        let address = server.address().unwrap();
        let alone = alone(&model, address).await;
        until("an empty server", || server.attendance().sessions == 0).await;
        let mut silent = Vec::new();
        for _ in 0..200 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let mut drips = Vec::new();
        for _ in 0..16 {
            drips.push(kind.begin(address, Duration::from_secs(1)).await);
        }
        // All are there before the honest client comes.
        match kind {
            Drip::Hello => until("the door", || server.attendance().at_the_door == 216).await,
            _ => until("all seats", || server.attendance().sessions == 16).await,
        }
        let longest = alone + DELAY;
        for client in 0..3 {
            let took = asked(&model, address).await;
            assert!(took < longest, "{kind:?}, client {client}: {took:?}, and {alone:?} alone");
            assert!(client > 0 || server.attendance().at_the_door > 100, "the others were still there");
        }
        drips.iter().for_each(JoinHandle::abort);
        drop(silent);
        within("shutdown", server.shutdown()).await;
        running.await.unwrap().unwrap();
    }
}

/// A client that computes in its set-up for longer than any client is waited for, on the only seat, is not cut for others, who need not
/// wait for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_set_up_is_neither_cut_nor_waited_for() {
    let (model, server, running) = serve(1).await;
    let address = server.address().unwrap();
    let alone = alone(&model, address).await;
    let paused = AtomicBool::new(false);
    let builder = Client::builder().progress(move |_, _| {
        if !paused.swap(true, Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(2500));
        }
    });
    let slow = tokio::spawn({
        let model = model.clone();
        async move { answered(&model, builder.connect(address).await?).await }
    });
    until("a session", || server.attendance().sessions == 1).await;
    let start = Instant::now();
    while !slow.is_finished() {
        let took = asked(&model, address).await;
        // The last one may wait for the one that was slow.
        assert!(took < alone + DELAY || slow.is_finished(), "{took:?}, and {alone:?} alone");
    }
    assert!(start.elapsed() > Duration::from_millis(2200), "it was slow");
    slow.await.unwrap().expect("it has its answer");
    within("shutdown", server.shutdown()).await;
    running.await.unwrap().unwrap();
}

/// Hellos that never come end their connections, also where each byte comes in time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_door_is_not_held_open() {
    let builder = Server::builder(Model::open("digits").unwrap()).timeout(Duration::from_millis(200));
    let server = builder.bind("127.0.0.1:0").await.unwrap();
    let running = tokio::spawn(server.clone().run());
    let address = server.address().unwrap();
    let silent = TcpStream::connect(address).await.unwrap();
    let drips = Drip::Hello.begin(address, Duration::from_millis(50)).await;
    until("the door", || server.attendance().at_the_door == 2).await;
    until("nobody", || server.attendance().at_the_door == 0).await;
    drips.abort();
    drop(silent);
    within("shutdown", server.shutdown()).await;
    running.await.unwrap().unwrap();
}

/// Carries bytes from a client, whole pieces at first and then one byte in a second.
async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, slow: Arc<AtomicBool>) {
    let mut buffer = [0; 1 << 12];
    loop {
        let drips = slow.load(Ordering::Relaxed);
        let room = if drips { 1 } else { buffer.len() };
        let Ok(length @ 1..) = from.read(&mut buffer[..room]).await else { return };
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
        if drips {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

/// With free seats too a stage has its end, however little each silence lasts. The clock is the test's.
#[tokio::test(start_paused = true)]
async fn a_stage_in_which_bytes_drip_ends() {
    let model = Model::open("digits").unwrap();
    let published = Server::builder(model.clone()).build().await.unwrap().model();
    let image = model.demo().unwrap().inputs.get(7).unwrap();
    for stage in [Stage::Setup, Stage::Offline, Stage::Online] {
        let ((client, near), (far, server)) = (tokio::io::duplex(1 << 20), tokio::io::duplex(1 << 20));
        let ((from_client, mut to_client), (mut from_server, to_server)) =
            (tokio::io::split(near), tokio::io::split(far));
        let slow = Arc::new(AtomicBool::new(stage == Stage::Setup));
        tokio::spawn(carry(from_client, to_server, slow.clone()));
        tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
        let limits = Limits { timeout: Duration::from_secs(2), ..Limits::default() };
        let options = server::Options { limits, ..server::Options::default() };
        let serving = tokio::spawn(server::serve(Box::new(server), published.clone(), options));
        let limits = Limits { timeout: Duration::from_secs(3600), ..limits };
        let options = client::Options { limits, ..client::Options::default() };
        let image: Vec<i64> = image.iter().copied().collect();
        let asking = tokio::spawn(async move {
            let mut session = client::Session::open(Box::new(client), options).await?;
            slow.store(stage == Stage::Offline, Ordering::Relaxed);
            let slot = session.prepare(Reveal::Logits).await?;
            slow.store(true, Ordering::Relaxed);
            session.infer(slot, &image).await
        });
        let start = tokio::time::Instant::now();
        let ended = serving.await.unwrap();
        let Err(Error::Session(lowkey_mpc::error::Error::Timeout { after })) = ended else {
            panic!("{stage:?}: {ended:?}")
        };
        assert!(after > Duration::from_secs(100), "no silence was so long: {stage:?}, {after:?}");
        assert!(start.elapsed() < after + Duration::from_secs(300), "{stage:?}: {:?}", start.elapsed());
        assert!(asking.await.unwrap().is_err());
    }
}

/// Sessions whose clients owe a message make room; nothing that they send bit by bit changes that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_stop_after_their_hello_make_room() {
    let (model, server, running) = serve(3).await;
    let address = server.address().unwrap();
    let mut stuck = Vec::new();
    for _ in 0..3 {
        stuck.push(hello(address).await);
    }
    until("sessions", || server.attendance().sessions == 3).await;
    for _ in 0..2 {
        within("an honest client", ask(&model, address)).await.unwrap();
    }
    drop(stuck);
    within("shutdown", server.shutdown()).await;
    running.await.unwrap().unwrap();
}

/// Honest sessions are not ended for others, who hear that the server is full; and are served when it is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_server_says_so() {
    let (model, server, running) = serve(1).await;
    let address = server.address().unwrap();
    let image = model.demo().unwrap().inputs.get(0).unwrap();
    let mut first = Client::connect(address).await.unwrap();
    first.infer(&image).await.unwrap();

    let refused = within("a refusal", Client::connect(address)).await;
    let error = refused.expect_err("there is no room");
    assert!(matches!(error, Error::Declined(_)), "{error:?}");
    assert!(error.to_string().contains("the server is full"), "{error}");
    assert_eq!(error.hint().as_deref(), Some("try again in 5 s"));

    first.infer(&image).await.unwrap();
    first.close().await.unwrap();
    within("a free seat", ask(&model, address)).await.unwrap();
    within("shutdown", server.shutdown()).await;
    running.await.unwrap().unwrap();
}

/// Who waits in line gets the seat that becomes free.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_in_line_are_served_in_turn() {
    let (model, server, running) = serve(1).await;
    let address = server.address().unwrap();
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let model = model.clone();
            tokio::spawn(async move { ask(&model, address).await })
        })
        .collect();
    for client in clients {
        within("a client in line", client).await.unwrap().unwrap();
    }
    assert_eq!(server.attendance().in_line, 0);
    server.shutdown().await;
    running.await.unwrap().unwrap();
}

/// A client that stops in the middle holds up the end for as long as the server allows, and then is cut.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_end_is_cut() {
    let drain = Duration::from_millis(300);
    let builder = Server::builder(Model::open("digits").unwrap()).drain(drain);
    let server = builder.bind("127.0.0.1:0").await.unwrap();
    let running = tokio::spawn(server.clone().run());
    let mut stuck = hello(server.address().unwrap()).await;
    until("a session", || server.attendance().sessions == 1).await;
    let start = Instant::now();
    // Without the limit it lasts for the minute after which the connection is given up.
    tokio::time::timeout(Duration::from_secs(20), server.shutdown()).await.expect("it is cut");
    assert!(start.elapsed() >= drain, "not before its time");
    running.await.unwrap().unwrap();
    within("the welcome", stuck.recv_at_most(FrameKind::Control, 256)).await.unwrap();
    within("the plan", stuck.recv_at_most(FrameKind::Control, 1 << 20)).await.unwrap();
    within("the end", stuck.recv_at_most(FrameKind::Control, 256)).await.unwrap_err();
}

/// A frame of a kind that is no hello ends the connection before it takes a seat.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_hello_takes_no_seat() {
    let (_, server, running) = serve(1).await;
    let stream = TcpStream::connect(server.address().unwrap()).await.unwrap();
    let mut channel = Channel::new(stream, Party::Client, Limits::default());
    channel.send(FrameKind::Control, b"GET / HTTP/1.1\r\n\r\n".to_vec()).await.unwrap();
    let answer = within("an answer", channel.recv_at_most(FrameKind::Control, 100)).await;
    assert!(answer.is_err(), "{answer:?}");
    assert_eq!(server.attendance().sessions, 0);
    server.shutdown().await;
    running.await.unwrap().unwrap();
}

/// A probe asks from before the publication until after the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ready_when_published_and_until_the_end() {
    let builder = Server::builder(Model::open("digits").unwrap());
    let readiness = builder.readiness();
    let seen = readiness.clone();
    // While it publishes, a client can connect and would wait.
    let builder = builder.progress(move |_, _| assert_eq!(seen.state(), State::Starting));
    let server = builder.bind("127.0.0.1:0").await.unwrap();
    assert_eq!((readiness.state(), server.ready()), (State::Starting, false), "nobody takes clients yet");
    let running = tokio::spawn(server.clone().run());
    until("readiness", || server.ready()).await;
    server.shutdown().await;
    assert_eq!((readiness.state(), server.ready()), (State::Ending, false));
    running.await.unwrap().unwrap();
    assert_eq!(readiness.state(), State::Ending);

    let server = Server::builder(Model::open("digits").unwrap()).build().await.unwrap();
    assert!(server.ready(), "it takes streams");
    server.shutdown().await;
    assert!(!server.ready());
}
