//! Peers, connections and callers that misbehave: each ends in a typed error, in time, and nobody else is disturbed.
//!
//! | file | what misbehaves |
//! |---|---|
//! | `abuse/cut.rs` | connections that die or stall anywhere in a session |
//! | `abuse/flips.rs` | bits that change in transit |
//! | `abuse/garbage.rs` | bytes that are not what the protocol has there |
//! | `abuse/mishaps.rs` | whole frames that are lost, doubled, swapped, cut, shortened or changed on the way |
//! | `abuse/model.rs` | servers whose model, plan or version is not acceptable; damaged files |
//! | `abuse/policy.rs` | clients that ask for more than a server allows |
//! | `abuse/rules.rs` | slots, OTs, stages and inputs that break a rule; many clients at once |
//! | `abuse/versions.rs` | clients and servers of other versions |
//!
//! Everything runs the real protocol. What must never happen: a panic, a hang, an error that blames this program.

mod common;

#[path = "abuse/cut.rs"]
mod cut;
#[path = "abuse/flips.rs"]
mod flips;
#[path = "abuse/garbage.rs"]
mod garbage;
#[path = "abuse/mishaps.rs"]
mod mishaps;
#[path = "abuse/model.rs"]
mod model;
#[path = "abuse/policy.rs"]
mod policy;
#[path = "abuse/rules.rs"]
mod rules;
#[path = "abuse/versions.rs"]
mod versions;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use lowkey::client::{Options, Session};
use lowkey::error::AbortCode;
use lowkey::net::Stream;
use lowkey::server::{self, SessionReport};
use lowkey::{Error, Fault, Output, Result, Reveal, Schedule, ServerModel};
use lowkey_models::{Network, zoo};
use lowkey_mpc::channel::Limits;
use lowkey_mpc::error::Error as ProtocolError;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// No case takes longer, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The network of most cases, published once, with images and answers.
struct Digits {
    model: Arc<ServerModel>,
    images: Vec<Vec<i64>>,
    logits: Vec<Output>,
    classes: Vec<Output>,
}

fn digits() -> &'static Digits {
    static DIGITS: OnceLock<Digits> = OnceLock::new();
    DIGITS.get_or_init(|| {
        let bundled = zoo::find("digits").unwrap();
        let network = bundled.network();
        let images: Vec<_> = bundled.demo().unwrap().inputs.iter().take(6).collect();
        let expected = |reveal| images.iter().map(|image| common::expected(&network, image, reveal)).collect();
        let (logits, classes) = (expected(Reveal::Logits), expected(Reveal::Class));
        let images = images.iter().map(|image| image.iter().copied().collect()).collect();
        Digits { model: common::publish(&network), images, logits, classes }
    })
}

/// Another network under the same name, with other weights.
fn retrained() -> Arc<ServerModel> {
    let (architecture, mut weights) = zoo::find("digits").unwrap().network().into_parts();
    weights.linear.iter_mut().flatten().for_each(|own| own.bias[0] += 1);
    common::publish(&Network::new(architecture, weights).unwrap())
}

/// Fails if `future` does not end.
async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("{what}: no end after {PATIENCE:?}"),
    }
}

fn limits(timeout: Duration) -> Limits {
    Limits { timeout, ..Limits::default() }
}

/// Options of a client without a memory.
fn forgetful(timeout: Duration) -> Options {
    Options { address: "here".into(), limits: limits(timeout), ..Options::default() }
}

async fn open(stream: impl Stream + 'static) -> Result<Session> {
    Session::open_seeded(Box::new(stream), forgetful(Duration::from_secs(20)), common::seed()).await
}

/// A session with something of everything: both schedules, both ways to open the output.
async fn whole_session(stream: impl Stream + 'static) -> Result<[Output; 2]> {
    let mut client = open(stream).await?;
    let first = client.answer(Schedule::Prepared, Reveal::Logits, &digits().images[0]).await?;
    let second = client.answer(Schedule::Direct, Reveal::Class, &digits().images[1]).await?;
    client.close().await?;
    Ok([first.output, second.output])
}

fn whole_answer() -> [Output; 2] {
    [digits().logits[0].clone(), digits().classes[1].clone()]
}

/// A server on a socket, for any number of sessions.
struct Site {
    address: SocketAddr,
    outcomes: mpsc::UnboundedReceiver<Result<Result<SessionReport>, tokio::task::JoinError>>,
}

impl Site {
    async fn start(options: server::Options) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (report, outcomes) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let session =
                    server::serve_seeded(Box::new(stream), digits().model.clone(), options.clone(), common::seed());
                let report = report.clone();
                tokio::spawn(async move { report.send(tokio::spawn(session).await) });
            }
        });
        Self { address, outcomes }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// How the next session ended.
    async fn outcome(&mut self, what: &str) -> Result<SessionReport> {
        within(what, self.outcomes.recv()).await.unwrap().unwrap_or_else(|panic| panic!("{what}: {panic}"))
    }

    /// Checks that an honest client is served as if nothing had happened.
    async fn still_serves(&mut self, what: &str) {
        let stream = self.connect().await;
        let answers = within(what, whole_session(stream)).await;
        assert_eq!(answers.unwrap_or_else(|error| panic!("{what}: {error}")), whole_answer(), "{what}");
        assert_eq!(self.outcome(what).await.unwrap().inferences, 2, "{what}");
    }
}

/// Checks that an error blames the other end, and returns it.
#[track_caller]
fn peer_fault<T>(what: &str, outcome: Result<T>) -> Error {
    match outcome {
        Ok(_) => panic!("{what}: no error"),
        Err(error) => {
            assert_eq!(error.fault(), Fault::Peer, "{what}: {error}");
            error
        }
    }
}

/// Checks that the other end gave up for this reason.
#[track_caller]
fn aborted<T>(what: &str, outcome: Result<T>, code: AbortCode) {
    match peer_fault(what, outcome) {
        Error::Session(ProtocolError::PeerAborted(found)) => assert_eq!(found, code as u16, "{what}"),
        error => panic!("{what}: {error}"),
    }
}

/// As [`aborted`], for an end that went on sending: it may find the connection closed before it reads why.
#[track_caller]
fn aborted_or_closed<T>(what: &str, outcome: Result<T>, code: AbortCode) {
    match peer_fault(what, outcome) {
        Error::Session(ProtocolError::Disconnected) => {}
        error => aborted::<T>(what, Err(error), code),
    }
}
