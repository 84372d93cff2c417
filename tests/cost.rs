//! The bytes and flights that a report prints are those of the sockets, and those that the plan predicted.

mod common;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use lowkey::client::{Options, Session};
use lowkey::cost::{Prediction, predict};
use lowkey::report::{StageReport, charges};
use lowkey::{Inference, Link, Reveal, Schedule, ServerModel, server};
use lowkey_models::{Network, zoo};
use lowkey_mpc::ot::price;
use lowkey_mpc::party::{Party, Stage};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Counts what really passes.
struct Counting<S> {
    inner: S,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    read: AtomicU64,
    written: AtomicU64,
}

impl Counts {
    fn now(&self) -> [u64; 2] {
        [self.written.load(Ordering::SeqCst), self.read.load(Ordering::SeqCst)]
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counting<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let poll = Pin::new(&mut self.inner).poll_read(cx, buf);
        self.counts.read.fetch_add((buf.filled().len() - before) as u64, Ordering::SeqCst);
        poll
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counting<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        let poll = Pin::new(&mut self.inner).poll_write(cx, buf);
        if let Poll::Ready(Ok(n)) = poll {
            self.counts.written.fetch_add(n as u64, Ordering::SeqCst);
        }
        poll
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// What a run of some inferences put on the client's socket, and what it reported.
struct Run {
    setup: StageReport,
    setup_socket: [u64; 2],
    inferences: Vec<Inference>,
    socket: [u64; 2],
}

fn run(model: &Arc<ServerModel>, schedule: Schedule, reveal: Reveal, count: usize) -> Run {
    let values = vec![0; model.plan.input().elements()];
    common::block_on(async {
        let (here, there) = tokio::io::duplex(1 << 20);
        let counts = Arc::new(Counts::default());
        let here = Counting { inner: here, counts: counts.clone() };
        let options = server::Options::default();
        let server = tokio::spawn(server::serve_seeded(Box::new(there), model.clone(), options, common::seed()));
        let options = Options::default();
        let mut client = Session::open_seeded(Box::new(here), options, common::seed()).await.unwrap();
        client.channel().flush().await.unwrap();
        let setup_socket = counts.now();
        let mut inferences = Vec::new();
        for _ in 0..count {
            inferences.push(client.answer(schedule, reveal, &values).await.unwrap());
        }
        let total = counts.now();
        let setup = client.setup().clone();
        client.close().await.unwrap();
        server.await.unwrap().unwrap();
        Run { setup, setup_socket, inferences, socket: [total[0] - setup_socket[0], total[1] - setup_socket[1]] }
    })
}

fn check(network: &Network, link: Link, schedule: Schedule, reveal: Reveal) {
    let model = common::publish_for(network, link);
    let run = run(&model, schedule, reveal, 3);
    let context = format!("{} {schedule:?} {reveal:?}", network.architecture().name);

    // Reports against sockets.
    assert_eq!([run.setup.bytes_sent, run.setup.bytes_received], run.setup_socket, "{context}: setup");
    let sum =
        |pick: fn(&StageReport) -> u64| run.inferences.iter().map(|i| pick(&i.offline) + pick(&i.online)).sum::<u64>();
    assert_eq!([sum(|s| s.socket_bytes_sent), sum(|s| s.socket_bytes_received)], run.socket, "{context}");

    // Reports against the prediction.
    assert_eq!(run.setup.bytes(), model.package.setup_bytes(), "{context}: setup");
    let prediction = predict(&model.plan, schedule, reveal);
    for inference in &run.inferences {
        check_stage(&prediction, &inference.offline, Stage::Offline, schedule, &context);
        check_stage(&prediction, &inference.online, Stage::Online, schedule, &context);
        for layer in &inference.layers {
            let predicted = [Stage::Offline, Stage::Online].map(|stage| prediction.scope_bytes(stage, &layer.name));
            assert_eq!([layer.offline_bytes, layer.online_bytes], predicted, "{context}: {}", layer.name);
        }
        for stage in [Stage::Offline, Stage::Online] {
            let flights =
                inference.layers.iter().map(|layer| prediction.scope_flights(stage, &layer.name)).sum::<u64>();
            assert_eq!(flights, prediction.flights(stage, &[]), "{context}: {stage:?}");
        }
    }
}

fn check_stage(prediction: &Prediction, report: &StageReport, stage: Stage, schedule: Schedule, context: &str) {
    let consumes =
        matches!((stage, schedule), (Stage::Offline, Schedule::Prepared) | (Stage::Online, Schedule::Direct));
    let [charge_sent, charge_received] = if consumes { charges(prediction.demand, Party::Client) } else { [0, 0] };
    let context = format!("{context}: {stage}");
    assert_eq!(report.bytes_sent, prediction.bytes(stage, Party::Client) + charge_sent, "{context}: sent");
    assert_eq!(report.bytes_received, prediction.bytes(stage, Party::Server) + charge_received, "{context}: received");
    assert_eq!(report.ots, if consumes { prediction.demand.ots.total() as u64 } else { 0 }, "{context}: OTs");
    // A batch is sent one way, the reply to it the other way.
    let (batch, reply) = (price::BATCH_BYTES as u64, price::REPLY_FRAME_BYTES as u64);
    let [sent, received] = [report.ot_batch_bytes_sent, report.ot_batch_bytes_received];
    let [by_client, by_server] = [sent, received].map(|bytes| bytes / (batch - reply));
    assert_eq!(sent, by_client * (batch - reply) + by_server * reply, "{context}");
    assert_eq!(received, by_server * (batch - reply) + by_client * reply, "{context}");
    let mut batches = Vec::new();
    if by_client > 0 {
        batches.push(Party::Client);
    }
    if by_server > 0 {
        batches.push(Party::Server);
    }
    assert_eq!(report.flights, prediction.flights(stage, &batches), "{context}: flights");
}

#[test]
fn reports_sockets_and_predictions_agree() {
    let digits = zoo::find("digits").unwrap().network();
    for schedule in [Schedule::Prepared, Schedule::Direct] {
        for reveal in [Reveal::Logits, Reveal::Class] {
            check(&digits, Link::Lan, schedule, reveal);
        }
    }
}

#[test]
fn reports_sockets_and_predictions_agree_on_random_networks() {
    use lowkey_models::random::{self, Size};
    use rand::SeedableRng;
    for seed in 1..=15 {
        let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(seed);
        let mut network = random::network(&mut rng, &Size { clips: true, ..Size::default() });
        let (mut architecture, weights) = network.into_parts();
        architecture.name = format!("random {seed}");
        network = Network::new(architecture, weights).unwrap();
        let link = if seed.is_multiple_of(2) { Link::Metered } else { Link::Lan };
        check(&network, link, Schedule::Prepared, Reveal::Logits);
        check(&network, link, Schedule::Direct, Reveal::Class);
    }
}

#[test]
fn reports_sockets_and_predictions_agree_where_pools_come_before_their_clip() {
    let network = zoo::find("mnist-minionn-w4a4").unwrap().network();
    assert_eq!(common::pooled(&common::publish_for(&network, Link::Metered)), 2);
    check(&network, Link::Metered, Schedule::Prepared, Reveal::Logits);
    check(&network, Link::Metered, Schedule::Direct, Reveal::Logits);
}

#[test]
fn reports_sockets_and_predictions_agree_where_rings_are_declared() {
    let bundled = zoo::find("digits").unwrap();
    let demo = bundled.demo().unwrap();
    let samples: Vec<_> = (0..60).map(|i| demo.inputs.get(i).unwrap()).collect();
    let network = bundled.network().calibrated(&samples, -1).unwrap();
    assert!(network.architecture().has_rings());
    for link in [Link::Lan, Link::Metered] {
        check(&network, link, Schedule::Prepared, Reveal::Logits);
        check(&network, link, Schedule::Direct, Reveal::Class);
    }
}

#[test]
fn reports_sockets_and_predictions_agree_where_roundings_have_coins() {
    let plain = zoo::find("mnist-minionn-w4a4").unwrap().network();
    let bits = ["relu1", "relu2", "relu3"].map(|name| (name.to_owned(), 3));
    let network = plain.with_coin_bits(bits.into()).unwrap();
    check(&network, Link::Metered, Schedule::Prepared, Reveal::Logits);
    check(&network, Link::Lan, Schedule::Direct, Reveal::Class);
}

#[test]
fn reports_sockets_and_predictions_agree_where_layers_have_blocks() {
    let plain = zoo::find("digits").unwrap().network();
    for patch in [Some([2, 3]), None] {
        let network = plain.with_blocks(&[("relu1".to_owned(), patch)].into()).unwrap();
        check(&network, Link::Metered, Schedule::Prepared, Reveal::Logits);
        check(&network, Link::Lan, Schedule::Direct, Reveal::Class);
    }
}

/// Bytes per activation offline and online together, OTs charged by consumption: few flights, or few bytes; setup within 3 MB.
#[test]
fn traffic_of_the_mnist_model() {
    let network = zoo::find("mnist-minionn-w4a4").unwrap().network();
    for (link, most) in [(Link::Lan, 15.5), (Link::Loopback, 13.2), (Link::Metered, 12.4)] {
        let model = common::publish_for(&network, link);
        assert_eq!(model.plan.activations(), 10_340);
        assert!(model.package.setup_bytes() < 3_000_000);
        let run = run(&model, Schedule::Prepared, Reveal::Logits, 1);
        let bytes = run.inferences[0].offline.bytes() + run.inferences[0].online.bytes();
        let per_activation = bytes as f64 / 10_340.0;
        assert!(per_activation <= most, "{link}: {per_activation:.2} bytes per activation");
    }
}
