//! A server that others may try: connections that say nothing, or say it slowly, keep nobody out, and a full server says so.

use std::net::SocketAddr;
use std::time::Duration;

use lowkey::readiness::State;
use lowkey::session::{Ask, Hello, MAGIC};
use lowkey::{Answer, Client, Error, Model, Result, Server};
use lowkey_mpc::channel::{Channel, FrameKind, Limits};
use lowkey_mpc::party::Party;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// Nothing here takes longer, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

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
    let image = model.demo().unwrap().inputs.get(7).unwrap();
    let mut client = Client::connect(address).await?;
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

/// The bytes of a hello, one per second, for as long as they are taken.
async fn drip(address: SocketAddr) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // Header (length, kind, stage, depth), then the payload.
    let mut bytes = vec![12, 0, 0, 0, 0, 0, 1, 0];
    bytes.extend_from_slice(&MAGIC);
    for byte in bytes.into_iter().cycle() {
        if stream.write_all(&[byte]).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_say_nothing_or_drip_keep_nobody_out() {
    let (model, server, running) = serve(2).await;
    let address = server.address().unwrap();
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let drips: Vec<_> = (0..16).map(|_| tokio::spawn(drip(address))).collect();
    // All are accepted before the honest client comes.
    within("the door", async {
        while server.attendance().at_the_door < 216 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    // Shorter than the time that the others have for their hello.
    tokio::time::timeout(Duration::from_secs(8), ask(&model, address)).await.expect("at once").unwrap();
    let now = server.attendance();
    assert!(now.at_the_door > 100, "the others were still there: {now:?}");
    within("hellos that never come", async {
        while server.attendance().at_the_door > 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    drips.iter().for_each(JoinHandle::abort);
    server.shutdown().await;
    running.await.unwrap().unwrap();
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
    within("sessions", async {
        while server.attendance().sessions < 3 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
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
    within("a session", async {
        while server.attendance().sessions < 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let start = std::time::Instant::now();
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
    within("readiness", async {
        while !server.ready() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    server.shutdown().await;
    assert_eq!((readiness.state(), server.ready()), (State::Ending, false));
    running.await.unwrap().unwrap();
    assert_eq!(readiness.state(), State::Ending);

    let server = Server::builder(Model::open("digits").unwrap()).build().await.unwrap();
    assert!(server.ready(), "it takes streams");
    server.shutdown().await;
    assert!(!server.ready());
}
