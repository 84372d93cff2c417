//! Guarded sessions between the library's two parties: bit-exact, as many bytes and flights as predicted, and for nobody else.

mod common;

use std::time::Duration;

use lowkey::error::Remedy;
use lowkey::guard::{AuditRate, Circuits, Forecast};
use lowkey::plan::{NonlinearKind, PlanError, Step};
use lowkey::policy::{Identity, Refusal};
use lowkey::{Answer, Client, ClientBuilder, Error, Link, Model, Result, Reveal, Schedule, Server, ServerBuilder};
use lowkey_models::{Network, Op, random, zoo};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use common::faulty::{Fault, Faulty, Way};
use common::frames::{HEADER, frames};

/// A client with this certificate.
fn identity(name: &str) -> Identity {
    Identity { name: Some(name.into()), ..Identity::default() }
}

fn model(name: &str) -> Model {
    Model::open(name).unwrap()
}

fn guarded(model: Model) -> (TempDir, ServerBuilder) {
    let folder = tempfile::tempdir().unwrap();
    let builder = Server::builder(model).state(folder.path()).guard().reveal(Reveal::Logits);
    (folder, builder)
}

/// A session of somebody, over a stream in memory.
async fn connect(server: &Server, name: &str, builder: ClientBuilder) -> (Result<Client>, JoinHandle<Result<()>>) {
    let (here, there) = tokio::io::duplex(1 << 20);
    let (server, client) = (server.clone(), identity(name));
    let serving = tokio::spawn(async move { server.serve_from(there, client).await.map(drop) });
    (builder.over(here, "memory").await, serving)
}

/// The same of a stream that changes a byte on its way to the server.
fn pair(server: &Server, name: &str, fault: Fault, at: usize) -> (Faulty<DuplexStream>, JoinHandle<Result<()>>) {
    let (here, there) = tokio::io::duplex(1 << 20);
    let (server, client) = (server.clone(), identity(name));
    let serving = tokio::spawn(async move { server.serve_from(there, client).await.map(drop) });
    (Faulty::new(here, fault, Way::Written, at), serving)
}

/// What the plan said of an answer.
fn check(client: &Client, answer: &Answer, reveal: Reveal) {
    let circuits = Circuits::derive(client.plan()).unwrap();
    let forecast = Forecast::new(client.plan(), &circuits, reveal);
    let report = &answer.report;
    assert_eq!(report.offline.bytes(), forecast.offline_bytes(report.audits + 1), "{} audits", report.audits);
    assert_eq!((report.online.bytes(), report.online.flights), (forecast.online_bytes(), forecast.flights()));
    assert_eq!(report.online.socket_bytes_sent + report.online.socket_bytes_received, forecast.online_bytes());
    let activations = client.plan().activations().max(1) as f64;
    let each = (forecast.mean_offline_bytes(AuditRate::default()) + forecast.online_bytes() as f64) / activations;
    println!(
        "{} {reveal:?}: {each:.1} bytes for each of {activations} activations, {} flights, {:.0} ms, {:.0} ms online",
        client.plan().architecture.name,
        forecast.flights(),
        report.offline.ms,
        report.online.ms
    );
}

/// Inputs through a guarded session: each is what the network computes in the clear, in as many bytes and flights as planned.
async fn exact(network: Model, inputs: &[lowkey::Tensor], reveal: Reveal) {
    let (_folder, builder) = guarded(network.clone());
    let server = builder.build().await.unwrap();
    let (client, serving) = connect(&server, "alice", Client::builder().guard().reveal(reveal)).await;
    let mut client = client.unwrap();
    assert!(!inputs.is_empty(), "there is something to compare");
    for input in inputs {
        let (answer, expected) = (client.infer(input).await.unwrap(), network.answer(input).unwrap());
        assert_eq!(answer.class, expected.class);
        match reveal {
            Reveal::Logits => assert!(answer.logits.is_some() && answer.logits == expected.logits),
            Reveal::Class => assert!(answer.class.is_some() && answer.logits.is_none()),
        }
        check(&client, &answer, reveal);
    }
    client.close().await.unwrap();
    serving.await.unwrap().unwrap();
}

fn images(model: &Model, count: usize) -> Vec<lowkey::Tensor> {
    let demo = model.demo().expect("it is bundled");
    (0..count).map(|index| demo.inputs.get(index).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn digits_are_exact_and_as_planned() {
    let digits = model("digits");
    let inputs = images(&digits, 4);
    exact(digits.clone(), &inputs, Reveal::Logits).await;
    exact(digits, &inputs[..2], Reveal::Class).await;
}

/// A server for a slow link has trees where chains were: fewer flights, more triples, the same answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_link_takes_fewer_flights() {
    let digits = model("digits");
    let input = images(&digits, 1).remove(0);
    let mut forecasts = Vec::new();
    for link in [Link::Lan, Link::Wan] {
        let (_folder, builder) = guarded(digits.clone());
        let server = builder.link(link).build().await.unwrap();
        let (client, serving) = connect(&server, "alice", Client::builder().guard().reveal(Reveal::Logits)).await;
        let mut client = client.unwrap();
        let answer = client.infer(&input).await.unwrap();
        assert_eq!(answer.logits, digits.answer(&input).unwrap().logits);
        check(&client, &answer, Reveal::Logits);
        let circuits = Circuits::derive(client.plan()).unwrap();
        forecasts.push(Forecast::new(client.plan(), &circuits, Reveal::Logits));
        client.close().await.unwrap();
        serving.await.unwrap().unwrap();
    }
    let [lan, wan] = &forecasts[..] else { unreachable!() };
    assert!(5 * wan.flights() <= 4 * lan.flights(), "{} and {}", wan.flights(), lan.flights());
    assert!(wan.triples > lan.triples);
}

/// Max pools with padding, clips, zero points, windows of several sizes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pools_are_exact() {
    for seed in 0..3 {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let network = common::convolution_and_pool(&mut rng);
        let input = random::input(&mut rng, &network.architecture().input);
        exact(Model::from(network), &[input], Reveal::Logits).await;
    }
}

/// Prepared ahead, and a session that goes on: triples of one batch serve several slots.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_ahead() {
    let digits = model("digits");
    let (_folder, builder) = guarded(digits.clone());
    let server = builder.audit_rate("1/4".parse().unwrap()).build().await.unwrap();
    let (client, serving) = connect(&server, "alice", Client::builder().guard().reveal(Reveal::Logits)).await;
    let mut client = client.unwrap();
    client.prepare(3).await.unwrap();
    for input in images(&digits, 3) {
        let answer = client.infer(&input).await.unwrap();
        assert_eq!(answer.logits, digits.answer(&input).unwrap().logits);
        check(&client, &answer, Reveal::Logits);
    }
    client.close().await.unwrap();
    serving.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_refused() {
    let (_folder, builder) = guarded(model("digits"));
    let server = builder.build().await.unwrap();
    // Without --guard, and with it at a server that has none.
    let (client, serving) = connect(&server, "alice", Client::builder()).await;
    let error = client.unwrap_err();
    assert!(matches!(error, Error::Declined(Refusal::Guarded)), "{error}");
    assert_eq!(error.remedy(), Some(Remedy::AskForGuard));
    assert!(matches!(serving.await.unwrap(), Err(Error::Declined(Refusal::Guarded))));
    let plain = Server::builder(model("digits")).build().await.unwrap();
    let (client, serving) = connect(&plain, "alice", Client::builder().guard()).await;
    let error = client.unwrap_err();
    assert!(matches!(error, Error::Declined(Refusal::Unguarded)), "{error}");
    assert!(matches!(serving.await.unwrap(), Err(Error::Declined(Refusal::Unguarded))));
    // Nobody knows who it is.
    let (here, there) = tokio::io::duplex(1 << 20);
    let (asked, served) = tokio::join!(Client::builder().guard().over(here, "memory"), server.serve(there));
    assert!(matches!(asked.unwrap_err(), Error::Declined(Refusal::Unknown)));
    assert!(matches!(served.unwrap_err(), Error::Declined(Refusal::Unknown)));
    // There is no direct schedule.
    let (here, _) = tokio::io::duplex(1);
    let direct = Client::builder().guard().schedule(Schedule::Direct).over(here, "memory").await;
    assert!(matches!(direct.unwrap_err(), Error::Usage { .. }));
}

/// What a guarded server takes: clients with names, a folder that remembers, layers that have circuits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_guarded_server_needs() {
    let (_folder, builder) = guarded(model("digits"));
    let error = builder.bind("127.0.0.1:0").await.unwrap_err();
    assert!(matches!(&error, Error::Usage { what, .. } if what.contains("who they are")), "{error}");
    let error = Server::builder(model("digits")).guard().build().await.unwrap_err();
    assert!(matches!(&error, Error::Usage { what, .. } if what.contains("state folder")), "{error}");
    let mut wrapping = (0..100).map(|seed| {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let plain = random::network(&mut rng, &random::Size::default());
        random::rings(&mut rng, &plain)
    });
    let wrapping = wrapping.find(|network| network.architecture().has_rings()).expect("one of many");
    let (_folder, builder) = guarded(Model::from(wrapping));
    let error = builder.build().await.unwrap_err();
    assert!(matches!(&error, Error::Usage { what, .. } if what.contains("sums wrap")), "{error}");
    let mut tossing = (0..100).map(|seed| {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let plain = random::network(&mut rng, &random::Size::default());
        random::coins(&mut rng, &plain)
    });
    let tossing = Model::from(tossing.find(|network| network.architecture().has_coins()).expect("one of many"));
    let error = Circuits::derive(&tossing.plan(Link::Lan).expect("it can be planned")).unwrap_err();
    assert!(matches!(&error, PlanError::NoCircuit { what, .. } if what.contains("coins")), "{error}");
    let (_folder, builder) = guarded(tossing);
    let error = builder.build().await.unwrap_err();
    assert!(matches!(&error, Error::Usage { what, .. } if what.contains("coins of the client")), "{error}");
}

/// Blocks have no circuit, and a guarded server says so before it starts.
#[tokio::test]
async fn blocks_are_refused() {
    let digits = model("digits");
    let network = digits.network().with_blocks(&[("relu1".to_owned(), Some([2, 2]))].into()).unwrap();
    let blocked = Model::from(network);
    let error = Circuits::derive(&blocked.plan(Link::Lan).expect("it can be planned")).unwrap_err();
    assert!(matches!(&error, PlanError::NoCircuit { what: "a block", .. }), "{error}");
    let (_folder, builder) = guarded(blocked);
    let error = builder.build().await.unwrap_err();
    assert!(matches!(&error, Error::Usage { what, .. } if what.contains("one sign for a patch")), "{error}");
}

/// Unless it is said, a guarded server shows the class alone, and a client asks for nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_class_alone_is_the_default() {
    let (folder, digits) = (tempfile::tempdir().unwrap(), model("digits"));
    let server = Server::builder(digits.clone()).state(folder.path()).guard().build().await.unwrap();
    let (input, asks) = (images(&digits, 1).remove(0), Client::builder().guard());
    let (client, serving) = connect(&server, "alice", asks.clone()).await;
    let mut client = client.unwrap();
    let answer = client.infer(&input).await.unwrap();
    assert_eq!((answer.class, answer.logits), (digits.answer(&input).unwrap().class, None));
    client.close().await.unwrap();
    serving.await.unwrap().unwrap();
    let (client, _) = connect(&server, "alice", asks.reveal(Reveal::Logits)).await;
    let error = client.unwrap().infer(&input).await.unwrap_err();
    assert!(matches!(error, Error::Declined(Refusal::ClassOnly)), "{error}");
}

/// Networks at random.
fn networks() -> impl Iterator<Item = Network> {
    (0..200).map(|seed| random::network(&mut ChaCha20Rng::seed_from_u64(seed), &random::Size::default()))
}

/// What is masked, since another layer reads it, and pooled or looked up all the same: its bits come back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_read_too_is_exact() {
    let mut seen = [0, 0];
    for (seed, network) in (0..).zip(networks()) {
        let architecture = network.architecture();
        let shared = |pools: bool| {
            architecture.nodes.iter().any(|node| {
                let input = match node.op {
                    Op::MaxPool { input, .. } if pools => input,
                    Op::Table { input, .. } if !pools => input,
                    _ => return false,
                };
                let alone =
                    |reader: usize| matches!(architecture.nodes[reader].op, Op::MaxPool { .. } | Op::Table { .. });
                input == 0 || !architecture.consumers(input).all(alone)
            })
        };
        let kinds = [shared(true), shared(false)];
        if seen.iter().zip(kinds).all(|(seen, is)| *seen >= 2 || !is) {
            continue;
        }
        let (_folder, builder) = guarded(Model::from(network.clone()));
        match builder.build().await {
            Ok(_) => {}
            Err(Error::Plan(error @ PlanError::NoCircuit { .. })) => {
                println!("network {seed}: {error}");
                continue;
            }
            Err(other) => panic!("{other}"),
        }
        seen.iter_mut().zip(kinds).for_each(|(seen, is)| *seen += usize::from(is));
        println!("network {seed}: pooled, looked up: {kinds:?}");
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let inputs = [(); 2].map(|()| random::input(&mut rng, &network.architecture().input));
        exact(Model::from(network), &inputs, Reveal::Logits).await;
    }
    assert!(seen.iter().all(|seen| *seen >= 1), "{seen:?}");
}

/// Free scales: multiplied and truncated where that is proved exact, and multiplied in a wider ring.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scales_are_exact() {
    let mut seen = [0, 0];
    for (seed, network) in (0..).zip(networks()) {
        let multiplies = |op: &Op| matches!(op, Op::Scale { .. });
        if !network.architecture().nodes.iter().any(|node| multiplies(&node.op)) {
            continue;
        }
        let (_folder, builder) = guarded(Model::from(network.clone()));
        let server = match builder.build().await {
            Ok(server) => server,
            Err(Error::Plan(PlanError::NoCircuit { .. })) => continue,
            Err(other) => panic!("{other}"),
        };
        let steps = |kind: fn(&NonlinearKind) -> bool| {
            let is = |step: &Step| matches!(step, Step::Nonlinear(step) if kind(&step.kind));
            server.model().plan.steps.iter().any(is)
        };
        let kinds = [
            steps(|kind| matches!(kind, NonlinearKind::Rescale { .. })),
            steps(|kind| matches!(kind, NonlinearKind::Scale { .. })),
        ];
        if seen.iter().zip(kinds).all(|(seen, is)| *seen >= 2 || !is) {
            continue;
        }
        seen.iter_mut().zip(kinds).for_each(|(seen, is)| *seen += usize::from(is));
        println!("network {seed}: truncated, scaled: {kinds:?}");
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let inputs = [(); 2].map(|()| random::input(&mut rng, &network.architecture().input));
        exact(Model::from(network), &inputs, Reveal::Logits).await;
    }
    assert!(seen.iter().all(|seen| *seen >= 1), "{seen:?}");
}

/// A bit of what the client opens online is changed: the server says so, shuts it out, and ends the session beside it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_opens_what_it_does_not_hold_is_shut_out() {
    let digits = model("digits");
    let input = images(&digits, 1).remove(0);
    let (folder, builder) = guarded(digits);
    let server = builder.audit_rate("0.01".parse().unwrap()).build().await.unwrap();
    let (beside, waiting) = connect(&server, "mallory", Client::builder().guard()).await;
    let mut beside = beside.unwrap();
    // An honest session says where the longest opening of the online stage is.
    let at = loop {
        let (stream, serving) = pair(&server, "mallory", Fault::None, 0);
        let tap = stream.tap();
        let mut client = Client::builder().guard().over(stream, "memory").await.unwrap();
        let audits = client.infer(&input).await.unwrap().report.audits;
        client.close().await.unwrap();
        serving.await.unwrap().unwrap();
        let frames = frames(&tap.lock().unwrap()[Way::Written as usize]);
        let online = frames.iter().filter(|frame| frame.stage == frames[frames.len() - 1].stage);
        let longest = online.max_by_key(|frame| frame.payload.len()).unwrap();
        if audits == 0 {
            break longest.start + HEADER + longest.payload.len() / 2;
        }
    };
    let ended = loop {
        let (stream, serving) = pair(&server, "mallory", Fault::Change(1), at);
        let mut client = Client::builder().guard().over(stream, "memory").await.unwrap();
        let error = client.infer(&input).await.unwrap_err();
        // Rarely a slot was opened, and the byte was another one.
        if let Error::Declined(Refusal::ShutOut) = error {
            break serving.await.unwrap();
        }
    };
    assert!(matches!(ended, Err(Error::Declined(Refusal::ShutOut))), "{ended:?}");
    let error = beside.infer(&input).await.unwrap_err();
    assert!(matches!(error, Error::Declined(Refusal::ShutOut)), "{error}");
    let ended = waiting.await.unwrap();
    assert!(matches!(ended, Err(Error::Declined(Refusal::ShutOut))), "{ended:?}");
    let store = lowkey::Store::open(Some(folder.path().into())).unwrap();
    assert_eq!(store.offences().unwrap().shut("mallory").unwrap().offence, lowkey::store::Offence::Cheated);
    let (client, _) = connect(&server, "mallory", Client::builder().guard()).await;
    assert!(matches!(client.unwrap_err(), Error::Declined(Refusal::ShutOut)));
}

/// Where the word of the first slot begins, as a client reads it: a control frame of four bytes in the offline stage. Its future is dropped
/// when that was read.
async fn first_word(server: &Server) -> usize {
    let (stream, serving) = pair(server, "bob", Fault::None, 0);
    let tap = stream.tap();
    let mut bob = Client::builder().guard().over(stream, "memory").await.unwrap();
    let prepares = tokio::spawn(async move { bob.prepare(1).await });
    let is_word = |frame: &common::frames::Frame| frame.kind == common::frames::CONTROL && frame.payload.len() == 4;
    let word = || {
        let read = frames(&tap.lock().unwrap()[Way::Read as usize]);
        read.into_iter().find(is_word).map(|frame| frame.start)
    };
    let at = loop {
        match word() {
            Some(at) => break at,
            None => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    prepares.abort();
    let _ = (prepares.await, serving.await.unwrap());
    at
}

/// A session in which what the server says from byte `at` on comes late, and word of when it is late.
fn late(
    server: &Server,
    name: &str,
    at: usize,
    pause: Duration,
) -> (DuplexStream, JoinHandle<Result<()>>, oneshot::Receiver<()>) {
    let ((here, near), (far, there)) = (tokio::io::duplex(1 << 20), tokio::io::duplex(1 << 20));
    let (mut from_client, mut to_client) = tokio::io::split(near);
    let (mut from_server, mut to_server) = tokio::io::split(far);
    let (say, is_late) = oneshot::channel();
    // Either end hears when the other one is gone.
    tokio::spawn(async move {
        let _ = tokio::io::copy(&mut from_client, &mut to_server).await;
        to_server.shutdown().await
    });
    tokio::spawn(async move {
        let _ = tokio::io::copy(&mut (&mut from_server).take(at as u64), &mut to_client).await;
        let _ = say.send(());
        tokio::time::sleep(pause).await;
        let _ = tokio::io::copy(&mut from_server, &mut to_client).await;
        to_client.shutdown().await
    });
    let (server, client) = (server.clone(), identity(name));
    (here, tokio::spawn(async move { server.serve_from(there, client).await.map(drop) }), is_late)
}

/// A session in which a coin has fallen, nearly always to open the slot, and whose client hears that late.
struct Late {
    builder: ClientBuilder,
    prepares: JoinHandle<Result<()>>,
    serving: JoinHandle<Result<()>>,
    /// The coin asks for it.
    is_asked: bool,
}

impl Late {
    /// One that is asked: without it a test would see nothing.
    async fn opened(server: &Server, folder: &TempDir, name: &str, at: usize, pause: Duration) -> Self {
        loop {
            let late = Self::asked(server, folder, name, at, pause).await;
            if late.is_asked {
                assert!(is_shut(folder, name), "it stands there that it was");
                return late;
            }
            late.prepares.abort();
            let _ = (late.prepares.await, late.serving.await);
        }
    }

    async fn asked(server: &Server, folder: &TempDir, name: &str, at: usize, pause: Duration) -> Self {
        let (stream, serving, is_late) = late(server, name, at, pause);
        let builder = Client::builder().guard();
        let mut client = builder.clone().over(stream, "memory").await.unwrap();
        let prepares = tokio::spawn(async move { client.prepare(1).await });
        is_late.await.unwrap();
        while builder.owes() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let mut is_asked = false;
        for _ in 0..20 {
            is_asked |= is_shut(folder, name);
            tokio::time::sleep(Duration::from_millis(if is_asked { 0 } else { 50 })).await;
        }
        Self { builder, prepares, serving, is_asked }
    }
}

fn is_shut(folder: &TempDir, name: &str) -> bool {
    lowkey::Store::open(Some(folder.path().into())).unwrap().offences().unwrap().shut(name).is_some()
}

/// A client that takes 9 of its 15 seconds for an audit, while others wait for its seat again and again: it is not cut, which would shut it
/// out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_has_its_time_whoever_waits() {
    let (folder, builder) = guarded(model("digits"));
    let server = builder.audit_rate("0.99".parse().unwrap()).sessions(1).build().await.unwrap();
    let at = first_word(&server).await;
    let alice = Late::opened(&server, &folder, "alice", at, Duration::from_secs(9)).await;
    for _ in 0..2 {
        let (others, _) = connect(&server, "anne", Client::builder().guard()).await;
        assert!(matches!(others, Err(Error::Declined(Refusal::Full { .. })) | Ok(_)), "{others:?}");
    }
    // A session that goes on may be in the audit of its next slot.
    assert!(!alice.serving.is_finished() || !is_shut(&folder, "alice"));
    alice.prepares.abort();
}

/// The same, with 5 seconds, of a server that ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_has_its_time_when_the_server_ends() {
    let (folder, builder) = guarded(model("digits"));
    let builder = builder.audit_rate("0.99".parse().unwrap()).drain(Duration::from_secs(1));
    let server = builder.build().await.unwrap();
    let at = first_word(&server).await;
    let alice = Late::opened(&server, &folder, "alice", at, Duration::from_secs(5)).await;
    tokio::time::timeout(Duration::from_secs(20), server.shutdown()).await.expect("it waits no longer");
    assert!(alice.serving.await.unwrap().is_err(), "it was cut then");
    assert!(!is_shut(&folder, "alice"));
    alice.prepares.abort();
}

/// A client gives its request up while it is asked, as with a time limit: the debt is there, and the next session of the builder pays it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_given_up_leaves_a_debt() {
    let (folder, builder) = guarded(model("digits"));
    let server = builder.audit_rate("0.99".parse().unwrap()).build().await.unwrap();
    let at = first_word(&server).await;
    let alice = Late::opened(&server, &folder, "alice", at, Duration::from_secs(4)).await;
    alice.prepares.abort();
    assert!(alice.prepares.await.unwrap_err().is_cancelled());
    assert_eq!(alice.builder.owes(), 1);
    let _ = alice.serving.await.unwrap();
    assert!(is_shut(&folder, "alice"));
    let alice = alice.builder;
    let (client, serving) = connect(&server, "alice", alice.clone()).await;
    client.unwrap().close().await.unwrap();
    serving.await.unwrap().unwrap();
    assert!(alice.owes() == 0 && !is_shut(&folder, "alice"));
}

/// The line is lost when a slot is to be opened. The next session of the same builder opens it, and goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_line_and_the_way_back() {
    let (folder, builder) = guarded(model("digits"));
    let server = builder.audit_rate("0.99".parse().unwrap()).build().await.unwrap();
    let at = first_word(&server).await + HEADER + 4;
    let builder = Client::builder().guard();
    let error = loop {
        let (here, there) = tokio::io::duplex(1 << 20);
        let serving = tokio::spawn({
            let (server, client) = (server.clone(), identity("alice"));
            async move { server.serve_from(there, client).await.map(drop) }
        });
        let stream = Faulty::new(here, Fault::Die, Way::Read, at);
        let mut client = builder.clone().over(stream, "memory").await.unwrap();
        let Err(error) = client.prepare(1).await else { continue };
        let _ = serving.await.unwrap();
        let store = lowkey::Store::open(Some(folder.path().into())).unwrap();
        if store.offences().unwrap().shut("alice").is_some() {
            break error;
        }
    };
    assert!(matches!(error, Error::Session(_)), "{error}");
    assert_eq!(builder.owes(), 1);
    // Somebody who owes nothing cannot answer for it, and is not let in.
    let (client, _) = connect(&server, "alice", Client::builder().guard()).await;
    assert!(client.is_err());
    // Another server asks for nothing, which settles nothing.
    let (_elsewhere, other) = guarded(model("digits"));
    let (client, _) = connect(&other.build().await.unwrap(), "alice", builder.clone()).await;
    client.unwrap().close().await.unwrap();
    let owed = builder.clone();
    let (client, serving) = connect(&server, "alice", builder).await;
    let client = client.unwrap();
    let store = lowkey::Store::open(Some(folder.path().into())).unwrap();
    assert!(store.offences().unwrap().shut("alice").is_none(), "it has answered");
    assert_eq!(owed.owes(), 0);
    client.close().await.unwrap();
    serving.await.unwrap().unwrap();
}

/// The networks of the zoo whose images are not bundled, on inputs at random. ResNet-20 takes some gigabytes.
async fn zoo_network(name: &str) {
    let network = Model::from(zoo::find(name).unwrap().network());
    let input = random::input(&mut ChaCha20Rng::seed_from_u64(5), &network.architecture().input);
    exact(network, &[input], Reveal::Logits).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a minute"]
async fn minionn_is_exact_and_as_planned() {
    zoo_network("mnist-minionn-w4a4").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes, and gigabytes"]
async fn resnet_is_exact_and_as_planned() {
    zoo_network("cifar10-resnet20-w4a4").await;
}
