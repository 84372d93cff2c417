//! Guarded sessions between the library's two parties: bit-exact, as many bytes and flights as predicted, and for nobody else.

mod common;

use std::time::Duration;

use lowkey::error::Remedy;
use lowkey::guard::{AuditRate, Circuits, Forecast};
use lowkey::plan::PlanError;
use lowkey::policy::{Identity, Refusal};
use lowkey::{Answer, Client, ClientBuilder, Error, Model, Result, Reveal, Schedule, Server, ServerBuilder};
use lowkey_models::{Network, random, zoo};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use tempfile::TempDir;
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
    let builder = Server::builder(model).state(folder.path()).guard();
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
fn pair(
    server: &Server,
    name: &str,
    fault: Fault,
    at: usize,
) -> (Faulty<tokio::io::DuplexStream>, JoinHandle<Result<()>>) {
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
    for input in inputs {
        let (answer, expected) = (client.infer(input).await.unwrap(), network.answer(input).unwrap());
        assert_eq!(answer.class, expected.class);
        if reveal == Reveal::Logits {
            assert_eq!(answer.logits, expected.logits);
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
    let (client, serving) = connect(&server, "alice", Client::builder().guard()).await;
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
    let scaled = zoo::find("digits-int8").map(|bundled| bundled.network());
    let scaled = scaled.unwrap_or_else(with_a_scale);
    let (_folder, builder) = guarded(Model::from(scaled));
    let error = builder.build().await.unwrap_err();
    assert!(matches!(error, Error::Plan(PlanError::NoCircuit { .. })), "{error}");
    let mut wrapping = (0..100).map(|seed| {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let plain = random::network(&mut rng, &random::Size::default());
        random::rings(&mut rng, &plain)
    });
    let wrapping = wrapping.find(|network| network.architecture().has_rings()).expect("one of many");
    let (_folder, builder) = guarded(Model::from(wrapping));
    let error = builder.build().await.unwrap_err();
    assert!(matches!(&error, Error::Usage { what, .. } if what.contains("sums wrap")), "{error}");
}

/// A network at random that multiplies.
fn with_a_scale() -> Network {
    let multiplies = |network: &Network| {
        network.architecture().nodes.iter().any(|node| matches!(node.op, lowkey_models::Op::Scale { .. }))
    };
    let made = |seed| random::network(&mut ChaCha20Rng::seed_from_u64(seed), &random::Size::default());
    (0..100).map(made).find(multiplies).expect("one of many")
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

/// The line is lost when a slot is to be opened. The next session of the same builder opens it, and goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_line_and_the_way_back() {
    let (folder, builder) = guarded(model("digits"));
    let server = builder.audit_rate("0.99".parse().unwrap()).build().await.unwrap();
    // Where the word of the first slot ends, as the client reads it: a control frame of four bytes in the offline stage.
    let (here, there) = tokio::io::duplex(1 << 20);
    let stream = Faulty::tapped(here);
    let tap = stream.tap();
    let serving = tokio::spawn({
        let (server, client) = (server.clone(), identity("bob"));
        async move { server.serve_from(there, client).await.map(drop) }
    });
    let mut bob = Client::builder().guard().over(stream, "memory").await.unwrap();
    let tried = tokio::time::timeout(Duration::from_secs(20), bob.prepare(1)).await;
    drop((bob, tried));
    let _ = serving.await.unwrap();
    let read = frames(&tap.lock().unwrap()[Way::Read as usize]);
    let is_word = |frame: &&common::frames::Frame| frame.kind == common::frames::CONTROL && frame.payload.len() == 4;
    let word = read.iter().find(is_word).expect("a coin has fallen");
    let at = word.start + HEADER + 4;

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
    // Somebody who owes nothing cannot answer for it, and is not let in.
    let (client, _) = connect(&server, "alice", Client::builder().guard()).await;
    assert!(client.is_err());
    let (client, serving) = connect(&server, "alice", builder).await;
    let client = client.unwrap();
    let store = lowkey::Store::open(Some(folder.path().into())).unwrap();
    assert!(store.offences().unwrap().shut("alice").is_none(), "it has answered");
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
