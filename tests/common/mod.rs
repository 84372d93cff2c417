//! Both parties in one process, over an in-memory connection, with independent randomness.
#![allow(dead_code)]

pub mod faulty;
pub mod frames;
pub mod relay;

use std::sync::Arc;

use lowkey::client::{Options, Session};
use lowkey::plan::{NonlinearKind, Step};
use lowkey::server::{self, SessionReport};
use lowkey::{Inference, Link, Output, Reveal, Schedule, ServerModel};
use lowkey_models::{Network, Tensor};

/// Fresh randomness.
pub fn seed() -> [u8; 32] {
    rand::random()
}

/// Publishes under a key of its own.
pub fn publish(network: &Network) -> Arc<ServerModel> {
    publish_for(network, Link::Lan)
}

/// As [`publish`], planned for another link.
pub fn publish_for(network: &Network, link: Link) -> Arc<ServerModel> {
    try_publish_for(network, link).expect("the network can be planned")
}

/// As [`publish`], for networks that may be refused.
pub fn try_publish(network: &Network) -> lowkey::Result<Arc<ServerModel>> {
    try_publish_for(network, Link::Lan)
}

/// As [`try_publish`], planned for another link.
pub fn try_publish_for(network: &Network, link: Link) -> lowkey::Result<Arc<ServerModel>> {
    ServerModel::publish(network, link, &seed().into(), &|_, _| {})
}

/// The max pools of a plan that come before their clip.
pub fn pooled(model: &ServerModel) -> usize {
    let is_pooled =
        |step: &&Step| matches!(step, Step::Nonlinear(step) if matches!(step.kind, NonlinearKind::Pooled { .. }));
    model.plan.steps.iter().filter(is_pooled).count()
}

/// The first MNIST test images, quantised for four bits; `None`, and a word why, where there is no data.
pub fn mnist_test(count: usize) -> Option<Vec<Tensor>> {
    let Some(root) = std::env::var_os("LOWKEY_DATA") else {
        eprintln!("skipped: LOWKEY_DATA is not set (a folder with mnist/ in it)");
        return None;
    };
    let path = std::path::Path::new(&root).join("mnist/t10k-images-idx3-ubyte.gz");
    let input = lowkey_models::Input { shape: [1, 28, 28], bits: 4, zero_point: 0, pixels: None, coding: None };
    let inputs = lowkey_models::data::Inputs::read(path, &input).expect("LOWKEY_DATA has the MNIST test images");
    Some(inputs.iter().take(count).collect())
}

/// A network whose logits are these whatever the (1 x 2 x 2, one bit) input.
pub fn constant_logits(logits: &[i64]) -> Network {
    use lowkey_models::{Architecture, Input, LinearWeights, Node, Op, Term, Weights};
    let nodes = vec![
        Node { name: "flatten".into(), op: Op::Flatten { input: 0 } },
        Node {
            name: "dense".into(),
            op: Op::Linear { terms: vec![Term::Dense { input: 1, outputs: logits.len(), weight_bits: 2 }] },
        },
    ];
    let architecture = Architecture {
        name: "constant".into(),
        input: Input { shape: [1, 2, 2], bits: 1, zero_point: 0, pixels: None, coding: None },
        nodes,
        output: 2,
        rounding: None,
        output_scale: None,
        output_coding: None,
        classes: vec![],
        declared: Default::default(),
    };
    let weights =
        LinearWeights { terms: vec![Some(ndarray::Array4::zeros((logits.len(), 4, 1, 1)))], bias: logits.to_vec() };
    Network::new(architecture, Weights { linear: vec![None, Some(weights)] }).expect("valid")
}

/// A convolution, its requantisation, a max pool, and a dense layer: widths, clips, zero points, windows and weights at random.
pub fn convolution_and_pool<R: rand::Rng>(rng: &mut R) -> Network {
    use lowkey_models::{Architecture, Input, LinearWeights, Node, Op, Term, Weights, Window};
    use rand::RngExt;
    let weight_bits = rng.random_range(2..=8);
    let [bits, input_bits] = [rng.random_range(2..=8), rng.random_range(1..=8)];
    let input =
        Input { shape: [2, 9, 9], bits: input_bits, zero_point: rng.random_range(0..2), pixels: None, coding: None };
    let window = Window { kernel: [3, 3], padding: [rng.random_range(0..2); 4], ..Window::POINT };
    let [height, width] = window.output([9, 9]).expect("it fits");
    let size = rng.random_range(2..=3);
    let pad = [rng.random_range(0..size); 4];
    let pool = Window { kernel: [size; 2], stride: [rng.random_range(2..=size); 2], padding: pad, dilation: [1, 1] };
    let [rows, columns] = pool.output([height, width]).expect("it fits");

    let first = lowkey_models::random::weights(rng, [3, 2, 3, 3], weight_bits);
    let norm = first.iter().map(|w| i64::from(w.abs())).sum::<i64>() / 3 * ((1 << input_bits) - 1);
    // Most values are clipped, or few, or none.
    let shift = (64 - norm.leading_zeros()).saturating_sub(bits + rng.random_range(0..4));
    let bias = (0..3).map(|_| rng.random_range(-norm / 4 - 1..=norm / 2)).collect();
    let largest = (1 << bits) - 1;
    let top = rng.random::<bool>().then(|| rng.random_range(1..=largest));
    let op = Op::Requantise { input: 1, bits, shift: vec![shift], top, zero_point: rng.random_range(0..=largest) };
    let conv = Term::Conv { input: 0, out_channels: 3, groups: 1, window, weight_bits };
    let nodes = [
        ("conv", Op::Linear { terms: vec![conv] }),
        ("relu", op),
        ("pool", Op::MaxPool { input: 2, window: pool }),
        ("flatten", Op::Flatten { input: 3 }),
        ("dense", Op::Linear { terms: vec![Term::Dense { input: 4, outputs: 4, weight_bits }] }),
    ];
    let architecture = Architecture {
        name: "convolution and pool".into(),
        input,
        nodes: nodes.map(|(name, op)| Node { name: name.into(), op }).into(),
        output: 5,
        rounding: None,
        output_scale: None,
        output_coding: None,
        classes: vec![],
        declared: Default::default(),
    };
    let last = lowkey_models::random::weights(rng, [4, 3 * rows * columns, 1, 1], weight_bits);
    let first = LinearWeights { terms: vec![Some(first)], bias };
    let last = LinearWeights { terms: vec![Some(last)], bias: vec![0; 4] };
    let linear = vec![Some(first), None, None, None, Some(last)];
    Network::new(architecture, Weights { linear }).expect("valid")
}

/// Opens a session with a server task of its own.
pub async fn session(model: &Arc<ServerModel>) -> (Session, tokio::task::JoinHandle<lowkey::Result<SessionReport>>) {
    let (here, there) = tokio::io::duplex(1 << 20);
    let server = tokio::spawn(server::serve_seeded(Box::new(there), model.clone(), server::Options::default(), seed()));
    let options = Options::default();
    let client = Session::open_seeded(Box::new(here), options, seed()).await.expect("the session opens");
    (client, server)
}

/// Runs a future on a runtime of two threads.
pub fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(future)
}

/// Answers inputs in one session.
pub fn infer(model: &Arc<ServerModel>, inputs: &[Tensor], schedule: Schedule, reveal: Reveal) -> Vec<Inference> {
    block_on(async {
        let (mut client, server) = session(model).await;
        let mut answers = Vec::new();
        for input in inputs {
            let values: Vec<i64> = input.iter().copied().collect();
            answers.push(client.answer(schedule, reveal, &values).await.expect("the inference succeeds"));
        }
        client.close().await.expect("the session closes");
        let report = server.await.expect("no panic").expect("the server saw no error");
        assert_eq!(report.inferences as usize, inputs.len());
        answers
    })
}

/// The plaintext network's answer.
pub fn expected(network: &Network, input: &Tensor, reveal: Reveal) -> Output {
    let output = network.run(input).expect("the input suits the network");
    match reveal {
        Reveal::Logits => Output::Logits(output.iter().copied().collect()),
        Reveal::Class => Output::Class(lowkey_models::argmax(&output)),
    }
}
