//! A server that browsers reach: the same answers, rules and limits in messages of a WebSocket as over TCP.

#[path = "common/certificate.rs"]
mod certificate;

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lowkey::net::websocket::{self, Messages, Violation};
use lowkey::policy::Refusal;
use lowkey::watch::{Event, Watcher};
use lowkey::{Client, Error, Fault, Model, Result, Server, ServerBuilder, Stream, Trust, net};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// Nothing here takes longer, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a browser sends first, but for its page's origin.
const REQUEST: &str = "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

async fn within<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: no end after {PATIENCE:?}"))
}

fn digits() -> Model {
    Model::open("digits").unwrap()
}

fn image() -> lowkey::Tensor {
    digits().demo().unwrap().inputs.get(7).unwrap()
}

/// Writes down why connections came to no session.
#[derive(Clone, Default)]
struct Dismissed(Arc<Mutex<Vec<String>>>);

impl Watcher for Dismissed {
    fn notice(&self, event: &Event<'_>) {
        if let Event::Dismissed { error, .. } = event {
            self.0
                .lock()
                .unwrap()
                .push(violation(error).map_or_else(|| error.to_string(), |found| format!("{found:?}")));
        }
    }
}

impl Dismissed {
    /// Waits for the next.
    async fn next(&self) -> String {
        within("a dismissal", async {
            loop {
                if let Some(why) = self.0.lock().unwrap().pop() {
                    return why;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
    }
}

/// What a peer did that no browser does.
fn violation(error: &Error) -> Option<&Violation> {
    let source: &io::Error = match error {
        Error::Connect { source, .. } => source,
        Error::Session(lowkey_mpc::error::Error::Io(source)) => source,
        _ => return None,
    };
    source.get_ref()?.downcast_ref()
}

struct Running {
    server: Server,
    run: JoinHandle<Result<()>>,
    dismissed: Dismissed,
}

impl Running {
    async fn start(builder: ServerBuilder) -> Self {
        let dismissed = Dismissed::default();
        let server = builder.watcher(dismissed.clone()).websocket("127.0.0.1:0").bind("127.0.0.1:0").await.unwrap();
        let run = tokio::spawn(server.clone().run());
        within("readiness", async {
            while !server.ready() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        Self { server, run, dismissed }
    }

    fn address(&self) -> SocketAddr {
        self.server.websocket_address().unwrap()
    }

    /// A connection on which nothing was said.
    async fn bare(&self) -> TcpStream {
        TcpStream::connect(self.address()).await.unwrap()
    }

    /// As a browser that has this page.
    async fn page(&self, origin: Option<&str>) -> io::Result<Messages<TcpStream>> {
        let stream = self.bare().await;
        within("a handshake", websocket::connect(stream, &self.address().to_string(), origin)).await
    }

    async fn client(&self) -> Result<Client> {
        session(self.page(Some("http://localhost:8000")).await.unwrap()).await
    }

    /// That it still answers.
    async fn answers(&self) {
        let mut client = self.client().await.unwrap();
        let answer = within("an answer", client.infer(&image())).await.unwrap();
        assert_eq!(answer.logits, digits().answer(&image()).unwrap().logits);
        client.close().await.unwrap();
    }

    async fn end(self) {
        within("the end", self.server.shutdown()).await;
        self.run.await.unwrap().unwrap();
    }
}

async fn session(stream: impl Stream + 'static) -> Result<Client> {
    within("a session", Client::builder().over(stream, "a browser")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_answer_as_over_tcp() {
    let running = Running::start(Server::builder(digits())).await;
    let mut browser = running.client().await.unwrap();
    let mut other = Client::connect(running.server.address().unwrap()).await.unwrap();
    assert_eq!(browser.digest(), other.digest());
    let answers = [browser.infer(&image()).await.unwrap(), other.infer(&image()).await.unwrap()];
    let [here, there] = &answers;
    assert_eq!((here.class, &here.logits), (there.class, &there.logits));
    // The same frames: what a report counts is what TCP would have carried.
    assert_eq!(here.report.online.bytes(), there.report.online.bytes());
    assert_eq!(here.report.offline.bytes(), there.report.offline.bytes());
    assert_eq!(browser.setup().bytes(), other.setup().bytes());
    assert_eq!(running.server.attendance().sessions, 2);
    browser.close().await.unwrap();
    other.close().await.unwrap();
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_certificate_of_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let [cert, key] = certificate::write(folder.path());
    let running = Running::start(Server::builder(digits()).tls(&cert, &key)).await;
    let address = format!("localhost:{}", running.address().port());
    let trust = Trust::Pin(running.server.pin().unwrap());
    let stream = within("TLS", net::connect(&address, &trust)).await.unwrap();
    let stream = within("a handshake", websocket::connect(stream, &address, None)).await.unwrap();
    let mut client = session(stream).await.unwrap();
    let answer = within("an answer", client.infer(&image())).await.unwrap();
    assert_eq!(answer.logits, digits().answer(&image()).unwrap().logits);
    client.close().await.unwrap();
    // Without TLS there is nothing.
    assert!(running.page(None).await.is_err());
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_other_origins_are_refused() {
    let running = Running::start(Server::builder(digits())).await;
    for origin in ["https://example.org", "null", "http://localhost.example.org"] {
        assert!(running.page(Some(origin)).await.is_err(), "{origin}");
        assert_eq!(running.dismissed.next().await, format!("Origin({origin:?})"));
    }
    running.answers().await;
    running.end().await;

    let named = Running::start(Server::builder(digits()).origin("https://example.org")).await;
    assert!(named.page(Some("http://localhost:8000")).await.is_err());
    session(named.page(Some("https://example.org")).await.unwrap()).await.unwrap().close().await.unwrap();
    session(named.page(None).await.unwrap()).await.unwrap().close().await.unwrap();
    named.end().await;
}

/// What holds for a client holds however it comes: one count of inferences, one limit of sessions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quotas_and_sessions_are_counted_together() {
    let running = Running::start(Server::builder(digits()).quota(NonZeroU32::MIN)).await;
    let mut other = Client::connect(running.server.address().unwrap()).await.unwrap();
    other.infer(&image()).await.unwrap();
    let error = running.client().await.unwrap().infer(&image()).await.unwrap_err();
    assert!(matches!(error, Error::Declined(Refusal::Quota { .. })), "{error:?}");
    drop(other);
    running.end().await;

    let running = Running::start(Server::builder(digits()).sessions(1)).await;
    let other = Client::connect(running.server.address().unwrap()).await.unwrap();
    let error = running.client().await.unwrap_err();
    assert!(matches!(error, Error::Declined(Refusal::Full { .. })), "{error:?}");
    other.close().await.unwrap();
    running.end().await;
}

/// Until its hello a connection has ten seconds, or the timeout if that is shorter, whatever it is that takes so long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_says_nothing_is_not_waited_for() {
    let running = Running::start(Server::builder(digits()).timeout(Duration::from_secs(1))).await;
    for (said, messages) in [("", false), ("GET / HTTP/1.1\r\nHost: ", false), ("", true)] {
        let start = Instant::now();
        let mut nothing = Vec::new();
        if messages {
            let mut page = running.page(None).await.unwrap();
            // An abort frame may come.
            let _ = within("an end", page.read_to_end(&mut nothing)).await;
        } else {
            let mut stream = running.bare().await;
            stream.write_all(said.as_bytes()).await.unwrap();
            let _ = within("an end", stream.read_to_end(&mut nothing)).await;
            assert!(nothing.is_empty());
        }
        assert!(start.elapsed() < Duration::from_secs(15), "{said:?}");
        running.dismissed.next().await;
    }
    running.answers().await;
    running.end().await;
}

/// A masked frame of `length` bytes, which are zeros if they come at all.
fn frame(first: u8, length: usize, sent: usize) -> Vec<u8> {
    let header = match length {
        0..126 => vec![first, 0x80 | length as u8],
        126..65536 => [&[first, 0xfe][..], &(length as u16).to_be_bytes()].concat(),
        _ => [&[first, 0xff][..], &(length as u64).to_be_bytes()].concat(),
    };
    [header, vec![0; 4 + sent]].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_messages_end_their_own_connection_alone() {
    let running = Running::start(Server::builder(digits())).await;
    let page = format!("{REQUEST}Origin: http://localhost:8000\r\n\r\n");
    let (text, binary, ping, last) = (1, 2, 9, 0x80);
    let too_long = websocket::MAX_MESSAGE + 1;
    for (sent, expected) in [
        (frame(text | last, 5, 5), "Text"),
        (frame(binary | last, too_long, too_long), "TooLong"),
        (frame(binary | last, 1 << 40, 0), "TooLong"),
        ([frame(binary, too_long - 1, too_long - 1), frame(last, 1, 1)].concat(), "TooLong"),
        (frame(ping | last, 1, 1).repeat(websocket::MAX_IDLE_MESSAGES as usize + 1), "Idle"),
        (frame(0x40 | binary | last, 1, 1), "Framing"),
    ] {
        let mut stream = running.bare().await;
        stream.write_all(page.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        within("a handshake", stream.read_exact(&mut answer)).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 101");
        stream.write_all(&sent).await.unwrap();
        let why = running.dismissed.next().await;
        assert!(why.starts_with(expected), "{expected}: {why}");
        let _ = within("its end", stream.read_to_end(&mut Vec::new())).await;
    }
    // Not even a handshake.
    let mut stream = running.bare().await;
    stream.write_all(b"\x16\x03\x01\r\n\r\n").await.unwrap();
    let why = running.dismissed.next().await;
    assert!(why.starts_with("Handshake"), "{why}");
    running.answers().await;
    running.end().await;
}

#[tokio::test]
async fn what_makes_no_sense_is_said_before_anything_is_published() {
    let bind = async |builder: ServerBuilder| builder.bind("127.0.0.1:0").await.expect_err("refused");
    let origin_alone = bind(Server::builder(digits()).origin("https://example.org")).await;
    assert_eq!(origin_alone.fault(), Fault::User);
    let no_origin = bind(Server::builder(digits()).websocket("127.0.0.1:0").origin("example.org/page")).await;
    assert_eq!(no_origin.fault(), Fault::User);
    let exposed = bind(Server::builder(digits()).websocket("0.0.0.0:0")).await;
    assert!(matches!(exposed, Error::Unprotected { .. }), "{exposed:?}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = bind(Server::builder(digits()).websocket(taken.local_addr().unwrap())).await;
    assert!(matches!(taken, Error::Listen { .. }), "{taken:?}");
}
