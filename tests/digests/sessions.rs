//! What a server publishes of a network, and what both parties send in a session of two inferences. Together the networks have every
//! operator.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use lowkey::client::{Options, Session};
use lowkey::guard::{self, AuditRate, Debts, Guarding, Registry};
use lowkey::policy::{Identity, Visitor};
use lowkey::store::Store;
use lowkey::{Link, Reveal, Schedule, ServerModel, server};
use lowkey_models::random::{self, Size};
use lowkey_models::{Network, Node, Op, zoo};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

use super::{Row, Sum, common};

/// A connection that sums up what is written to it.
pub struct Summed {
    stream: DuplexStream,
    written: Arc<Mutex<Sum>>,
}

impl AsyncRead for Summed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Summed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        if let Poll::Ready(Ok(length)) = &written {
            self.written.lock().unwrap().update(&buf[..*length]);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// What client and server send while `talk` has their ends of a connection.
pub fn sent<F: Future<Output = ()>>(talk: impl FnOnce(Box<Summed>, Box<Summed>) -> F) -> [Sum; 2] {
    let sums = [(); 2].map(|()| Arc::new(Mutex::new(Sum::default())));
    let [by_client, by_server] = sums.clone();
    common::block_on(async {
        let (here, there) = tokio::io::duplex(1 << 20);
        let end = |stream, written| Box::new(Summed { stream, written });
        talk(end(here, by_client), end(there, by_server)).await;
    });
    sums.map(|sum| sum.lock().unwrap().clone())
}

/// What client and server send.
fn session(model: &Arc<ServerModel>, inputs: &[Vec<i64>], schedule: Schedule, reveal: Reveal) -> [Sum; 2] {
    sent(async |here, there| {
        let options = server::Options::default();
        let server = tokio::spawn(server::serve_seeded(there, model.clone(), options, [3; 32]));
        let mut client = Session::open_seeded(here, Options::default(), [4; 32]).await.unwrap();
        for input in inputs {
            client.answer(schedule, reveal, input).await.unwrap();
        }
        client.close().await.unwrap();
        server.await.unwrap().unwrap();
    })
}

fn of_network(name: &str, network: &Network, rng: &mut ChaCha20Rng) -> Vec<Row> {
    let model = ServerModel::publish(network, Link::Lan, &[7; 32].into(), &|_, _| {}).unwrap();
    let mut input = || random::input(rng, &network.architecture().input).iter().copied().collect();
    let inputs: [Vec<i64>; 2] = [input(), input()];
    let (plan, package) = (Sum::of(&model.package.plan), Sum::of(&model.package.to_bytes()));
    let mut rows = vec![Row::new(format!("package {name}"), ["plan", "package"], [plan, package])];
    for (schedule, when) in [(Schedule::Prepared, "prepared"), (Schedule::Direct, "direct")] {
        for (reveal, what) in [(Reveal::Logits, "logits"), (Reveal::Class, "class")] {
            let sent = session(&model, &inputs, schedule, reveal);
            rows.push(Row::new(format!("session {name} {when} {what}"), ["client", "server"], sent));
        }
    }
    rows
}

/// What client and server send in a guarded session of two answers, slots that are opened included.
fn guarded_session() -> Row {
    let network = zoo::find("digits").unwrap().network();
    let model = ServerModel::publish(&network, Link::Lan, &[7; 32].into(), &|_, _| {}).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(Some(folder.path().into())).unwrap();
    let registry = Registry::open(store, guard::IdentityLimits::default()).unwrap();
    let sent = sent(async |here, there| {
        let client = Identity { name: Some("alice".into()), ..Identity::default() };
        let options = server::Options { visitor: Visitor::new(Arc::default(), client), ..server::Options::default() };
        let guarding = Guarding { registry, rate: AuditRate::default() };
        let serving = server::serve_guarded_seeded(there, model.clone(), options, guarding, [3; 32]);
        let serving = tokio::spawn(serving);
        let options = Options { guard: Some(Debts::default()), ..Options::default() };
        let mut client = Session::open_seeded(here, options, [4; 32]).await.unwrap();
        let input = vec![1; model.plan.input().elements()];
        for reveal in [Reveal::Logits, Reveal::Class] {
            client.answer(Schedule::Prepared, reveal, &input).await.unwrap();
        }
        client.close().await.unwrap();
        serving.await.unwrap().unwrap();
    });
    Row::new("session digits guarded", ["client", "server"], sent)
}

/// The zoo's smallest; pools in both orders; operators at random.
fn networks() -> Vec<(String, Network, ChaCha20Rng)> {
    let seeded = ChaCha20Rng::seed_from_u64;
    let mut all = vec![("digits".to_owned(), zoo::find("digits").unwrap().network(), seeded(1))];
    for seed in 0..3 {
        let mut rng = seeded(seed);
        all.push((format!("pool-{seed}"), common::convolution_and_pool(&mut rng), rng));
    }
    for seed in 0..12 {
        let mut rng = seeded(seed);
        let network = random::network(&mut rng, &Size { clips: seed % 2 == 1, ..Size::default() });
        all.push((format!("random-{seed}"), network, rng));
    }
    let with_floats = |seed| {
        let mut rng = seeded(seed);
        let plain = random::network(&mut rng, &Size::default());
        let network = random::floats(&mut rng, &plain);
        network.architecture().has_floats().then_some(("floats".to_owned(), network, rng))
    };
    all.extend((0..).find_map(with_floats));
    let blocks = [("relu1".to_owned(), Some([3, 2])), ("relu2".to_owned(), None)].into();
    let blocked = zoo::find("digits").unwrap().network().with_blocks(&blocks).unwrap();
    all.push(("blocks".to_owned(), blocked, seeded(1)));
    all
}

pub fn rows() -> Vec<Row> {
    let of = |(name, network, mut rng): (String, Network, ChaCha20Rng)| of_network(&name, &network, &mut rng);
    networks().into_iter().flat_map(of).chain([guarded_session()]).collect()
}

/// None is left out when one is added.
#[test]
fn the_networks_have_every_operator() {
    // A new operator is named here, and then has to be in a network.
    let name = |node: &Node| match node.op {
        Op::Linear { .. } => "linear",
        Op::Scale { .. } => "scale",
        Op::Requantise { .. } => "requantise",
        Op::Block { .. } => "block",
        Op::MaxPool { .. } => "max pool",
        Op::AvgPool { .. } => "average pool",
        Op::SumPool { .. } => "sum pool",
        Op::Flatten { .. } => "flatten",
        Op::Concat { .. } => "concat",
        Op::Select { .. } => "select",
        Op::Table { .. } => "table",
    };
    let networks = networks();
    let nodes = networks.iter().flat_map(|(_, network, _)| &network.architecture().nodes);
    let seen: BTreeSet<&str> = nodes.map(name).collect();
    let all = "linear, scale, requantise, block, max pool, average pool, sum pool, flatten, concat, select, table";
    assert_eq!(seen, all.split(", ").collect());
}
