//! A server that others may try: connections that say nothing, or say it slowly, keep nobody out, and a full server says so.

#[path = "common/certificate.rs"]
mod certificate;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use lowkey::readiness::State;
use lowkey::session::{Accept, Ask, Hello, MAGIC};
use lowkey::shape::shape_as;
use lowkey::{Answer, Client, Error, Model, Result, Reveal, Server, ServerBuilder, Stream, Trust, client, net, server};
use lowkey_mpc::channel::{Channel, FrameKind, Limits};
use lowkey_mpc::ot::Correlations;
use lowkey_mpc::party::{Party, Stage};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

/// Nothing here takes longer, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// By which no attack may delay an honest client.
const DELAY: Duration = Duration::from_secs(1);
/// One way of a line to the other side of the world, and its bits per second.
const FAR: (Duration, f64) = (Duration::from_millis(150), 100e6);
/// What is timed here runs by itself.
static TIMED: Mutex<()> = Mutex::const_new(());

async fn within<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: no end after {PATIENCE:?}"))
}

async fn serve(sessions: u16) -> (Model, Server, JoinHandle<Result<()>>) {
    let model = Model::open("digits").unwrap();
    let (server, running) = start(Server::builder(model.clone()).sessions(sessions)).await;
    (model, server, running)
}

async fn start(builder: ServerBuilder) -> (Server, JoinHandle<Result<()>>) {
    let server = builder.bind("127.0.0.1:0").await.unwrap();
    let running = tokio::spawn(server.clone().run());
    (server, running)
}

/// Where a client finds a server, and how it knows it.
#[derive(Clone)]
struct Place {
    address: SocketAddr,
    trust: Trust,
}

impl From<SocketAddr> for Place {
    fn from(address: SocketAddr) -> Self {
        Self { address, trust: Trust::Plain }
    }
}

impl Place {
    fn of(server: &Server) -> Self {
        let trust = server.pin().map_or(Trust::Plain, Trust::Pin);
        Self { address: server.address().unwrap(), trust }
    }

    /// The same server, behind a line that is long.
    async fn far(self) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let stream = TcpStream::connect(self.address).await.unwrap();
                stream.set_nodelay(true).unwrap();
                let mut line = shape_as(stream, FAR.0, FAR.1);
                tokio::spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut line).await });
            }
        });
        Self { address, ..self }
    }

    async fn connect(&self) -> Box<dyn Stream> {
        net::connect(&self.address.to_string(), &self.trust).await.unwrap()
    }
}

/// An inference, and that it is right.
async fn ask(model: &Model, place: impl Into<Place>) -> Result<Answer> {
    let Place { address, trust } = place.into();
    answered(model, Client::builder().trust(trust).connect(address).await?).await
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

/// The longest time that an honest client takes, of so many that are alone.
async fn alone(model: &Model, place: impl Into<Place>, clients: usize) -> Duration {
    let (mut longest, place) = (Duration::ZERO, place.into());
    for _ in 0..clients {
        longest = longest.max(asked(model, place.clone()).await);
    }
    longest
}

/// How long an inference takes, from the connection to the end.
async fn asked(model: &Model, place: impl Into<Place>) -> Duration {
    let start = Instant::now();
    within("an honest client", ask(model, place)).await.unwrap();
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

/// A connection that two have: a channel reads and writes, and when it has written, bytes go past it.
#[derive(Clone)]
struct Twin(Arc<std::sync::Mutex<Box<dyn Stream>>>);

impl Twin {
    fn new(stream: impl Stream + 'static) -> Self {
        Self(Arc::new(std::sync::Mutex::new(Box::new(stream))))
    }
}

impl AsyncRead for Twin {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.lock().unwrap()).poll_read(cx, into)
    }
}

impl AsyncWrite for Twin {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.lock().unwrap()).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.lock().unwrap()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.lock().unwrap()).poll_shutdown(cx)
    }
}

/// Bytes, one after the other, for as long as they are taken.
async fn drip(mut stream: Twin, bytes: Vec<u8>, pause: Duration) {
    for byte in bytes.into_iter().cycle() {
        if stream.write_all(&[byte]).await.is_err() || stream.flush().await.is_err() {
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
    /// Within the first message of TLS.
    Tls,
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
    async fn begin(self, place: &Place, pause: Duration) -> JoinHandle<()> {
        if self == Self::Tls {
            let stream = Twin::new(TcpStream::connect(place.address).await.unwrap());
            // A handshake of 512 bytes.
            return tokio::spawn(drip(stream, vec![22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3], pause));
        }
        let stream = Twin::new(place.connect().await);
        if self == Self::Hello {
            let mut bytes = header(12, 0);
            bytes.extend_from_slice(&MAGIC);
            return tokio::spawn(drip(stream, bytes, pause));
        }
        let mut channel = Channel::new(stream.clone(), Party::Client, Limits::default());
        let asks = if self == Self::Refused { Ask::Model("nowhere".into()) } else { Ask::Only };
        channel.send_control(&Hello::new(asks)).await.unwrap();
        channel.flush().await.unwrap();
        tokio::spawn(async move {
            if self == Self::BaseOts {
                accept(&mut channel).await.unwrap();
                // A version, and what nobody checks yet.
                channel.send(FrameKind::OtBatch, [vec![2], vec![7; 64]].concat()).await.unwrap();
                channel.flush().await.unwrap();
            }
            let kind = if self == Self::BaseOts { FrameKind::OtBatch } else { FrameKind::Control };
            drip(stream, header(1, kind as u8), pause).await;
        })
    }
}

/// Takes what is served, of which it has the hint.
async fn accept(channel: &mut Channel) -> Result<(), lowkey_mpc::error::Error> {
    for _ in 0..2 {
        channel.recv_at_most(FrameKind::Control, 1 << 20).await?;
    }
    channel.send_control(&Accept { send_hint: false }).await
}

/// As many as there are seats get so far and drip, and 200 more say nothing. So many honest clients come by way of `place`.
async fn delays_nobody(kind: Drip, model: &Model, server: &Server, place: Place, clients: usize) {
    let alone = alone(model, place.clone(), clients).await;
    until("an empty server", || server.attendance().sessions == 0).await;
    let own = Place::of(server);
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(own.address).await.unwrap());
    }
    let drips = futures_util::future::join_all((0..16).map(|_| kind.begin(&own, Duration::from_secs(1)))).await;
    // All are there before the honest client comes.
    match kind {
        Drip::Tls | Drip::Hello => until("the door", || server.attendance().at_the_door == 216).await,
        // Each is heard out for a second, within which not all of them need have come.
        Drip::Refused => until("a seat", || server.attendance().sessions > 0).await,
        _ => until("all seats", || server.attendance().sessions == 16).await,
    }
    for client in 0..clients {
        let took = asked(model, place.clone()).await;
        println!("{kind:?}, client {client}: {took:?}, and {alone:?} alone");
        assert!(took < alone + DELAY, "{kind:?}, client {client}: {took:?}, and {alone:?} alone");
        assert!(client > 0 || server.attendance().at_the_door > 100, "the others were still there");
    }
    drips.iter().for_each(JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_say_nothing_or_drip_delay_nobody_for_long() {
    let _timed = TIMED.lock().await;
    for kind in [Drip::Hello, Drip::Refused, Drip::Accept, Drip::BaseOts] {
        let (model, server, running) = serve(16).await;
        delays_nobody(kind, &model, &server, Place::of(&server), 3).await;
        within("shutdown", server.shutdown()).await;
        running.await.unwrap().unwrap();
    }
}

/// Over TLS, of clients near by and of some that are far away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_over_tls_and_a_long_line() {
    let _timed = TIMED.lock().await;
    let folder = tempfile::tempdir().unwrap();
    let [certificate, key] = certificate::write(folder.path());
    let model = Model::open("digits").unwrap();
    let near = [Drip::Tls, Drip::Hello, Drip::Refused, Drip::Accept, Drip::BaseOts];
    for (is_far, kinds) in [(false, &near[..]), (true, &[Drip::Hello, Drip::BaseOts])] {
        for &kind in kinds {
            let builder = Server::builder(model.clone()).tls(&certificate, &key).sessions(16);
            let (server, running) = start(builder).await;
            let near = Place::of(&server);
            let (place, clients) = if is_far { (near.far().await, 1) } else { (near, 3) };
            delays_nobody(kind, &model, &server, place, clients).await;
            within("shutdown", server.shutdown()).await;
            running.await.unwrap().unwrap();
        }
    }
}

/// Does base OTs, and then nothing.
async fn half_a_set_up(stream: impl Stream + 'static) -> Result<Channel, lowkey_mpc::error::Error> {
    let mut channel = Channel::new(stream, Party::Client, Limits::default());
    channel.send_control(&Hello::new(Ask::Only)).await?;
    channel.flush().await?;
    accept(&mut channel).await?;
    Correlations::agree(&mut channel, &mut ChaCha20Rng::from_seed(rand::random())).await?;
    channel.flush().await?;
    Ok(channel)
}

/// A client at an address, and the server's end of its session.
fn from(server: &Server, address: &str) -> (DuplexStream, JoinHandle<Result<server::SessionReport>>) {
    let (here, there) = tokio::io::duplex(1 << 20);
    let (server, address) = (server.clone(), address.parse::<IpAddr>().unwrap());
    (here, tokio::spawn(async move { server.serve_from(there, address).await }))
}

/// Who does base OTs and then stops keeps its seat until it is late. One address has three quarters of them, and others need not wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_that_stops_after_its_base_ots_delays_no_other() {
    let _timed = TIMED.lock().await;
    let model = Model::open("digits").unwrap();
    let server = Server::builder(model.clone()).sessions(16).build().await.unwrap();
    let asked = async || {
        let (stream, _) = from(&server, "192.0.2.2");
        let start = Instant::now();
        let client = within("a session", Client::builder().over(stream, "host:1")).await.unwrap();
        within("an answer", answered(&model, client)).await.unwrap();
        start.elapsed()
    };
    let mut alone = Duration::ZERO;
    for _ in 0..3 {
        alone = alone.max(asked().await);
    }
    let attacks = (0..200).map(|_| tokio::spawn(half_a_set_up(from(&server, "192.0.2.1").0)));
    let mut stopped = Vec::new();
    for attack in attacks.collect::<Vec<_>>() {
        stopped.extend(within("base OTs", attack).await.unwrap());
    }
    assert_eq!(stopped.len(), 12, "the others are told that the server is full");
    assert_eq!(server.attendance().sessions, 12);
    let took = asked().await;
    println!("{took:?}, and {alone:?} alone");
    assert!(took < alone + DELAY, "{took:?}, and {alone:?} alone");
    assert!(server.attendance().sessions >= 12, "the others were still there");
    drop(stopped);
    within("shutdown", server.shutdown()).await;
}

/// More than tokio has unless told so: each waits on a thread.
#[test]
fn sessions_that_wait_leave_threads_for_others() {
    const MANY: u16 = 540;
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.max_blocking_threads(Server::threads(MANY + 1)).enable_all().build().unwrap();
    runtime.block_on(async {
        let model = Model::open("digits").unwrap();
        let server = Server::builder(model.clone()).sessions(MANY + 1).build().await.unwrap();
        let mut stuck = Vec::new();
        for _ in 0..MANY {
            let mut channel = Channel::new(from(&server, "127.0.0.1").0, Party::Client, Limits::default());
            channel.send_control(&Hello::new(Ask::Only)).await.unwrap();
            channel.flush().await.unwrap();
            stuck.push(channel);
        }
        for channel in &mut stuck {
            within("a welcome", channel.recv_at_most(FrameKind::Control, 1 << 20)).await.unwrap();
        }
        let client = Client::builder().over(from(&server, "127.0.0.1").0, "host:1");
        let client = within("a session", client).await.unwrap();
        within("an answer", answered(&model, client)).await.unwrap();
        until("the end of its session", || server.attendance().sessions == usize::from(MANY)).await;
        drop(stuck);
        within("shutdown", server.shutdown()).await;
    });
}

/// A client that computes in its set-up for longer than any client is waited for, on the only seat, is not cut for others, who need not
/// wait for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_set_up_is_neither_cut_nor_waited_for() {
    let _timed = TIMED.lock().await;
    let (model, server, running) = serve(1).await;
    let address = server.address().unwrap();
    let alone = alone(&model, address, 3).await;
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
    let drips = Drip::Hello.begin(&address.into(), Duration::from_millis(50)).await;
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
