//! Both parties in one process, over an in-memory connection, with independent randomness.
#![allow(dead_code)]

pub mod faulty;
pub mod frames;

use std::sync::Arc;

use lowkey::client::{Client, Options};
use lowkey::server::{self, SessionReport};
use lowkey::{Inference, Link, Output, Reveal, Schedule, ServerModel};
use lowkey_models::{Network, Tensor};
use lowkey_mpc::channel::Limits;

/// Fresh randomness.
pub fn seed() -> [u8; 32] {
    rand::random()
}

/// Publishes under a key of its own.
pub fn publish(network: &Network) -> Arc<ServerModel> {
    ServerModel::publish(network, Link::Lan, &seed(), &|_, _| {}).expect("the network can be planned")
}

/// As [`publish`], for networks that may be refused.
pub fn try_publish(network: &Network) -> lowkey::Result<Arc<ServerModel>> {
    ServerModel::publish(network, Link::Lan, &seed(), &|_, _| {})
}

/// The first MNIST test images, quantised for four bits; `None`, and a word why, where there is no data.
pub fn mnist_test(count: usize) -> Option<Vec<Tensor>> {
    let Some(root) = std::env::var_os("LOWKEY_DATA") else {
        eprintln!("skipped: LOWKEY_DATA is not set (a folder with mnist/ in it)");
        return None;
    };
    let path = std::path::Path::new(&root).join("mnist/t10k-images-idx3-ubyte.gz");
    let input = lowkey_models::Input { shape: [1, 28, 28], bits: 4, zero_point: 0, pixels: None };
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
        input: Input { shape: [1, 2, 2], bits: 1, zero_point: 0, pixels: None },
        nodes,
        output: 2,
        rounding: None,
        output_scale: None,
        classes: vec![],
    };
    let weights =
        LinearWeights { terms: vec![Some(ndarray::Array4::zeros((logits.len(), 4, 1, 1)))], bias: logits.to_vec() };
    Network::new(architecture, Weights { linear: vec![None, Some(weights)] }).expect("valid")
}

/// Opens a session with a server task of its own.
pub async fn session(model: &Arc<ServerModel>) -> (Client, tokio::task::JoinHandle<lowkey::Result<SessionReport>>) {
    let (here, there) = tokio::io::duplex(1 << 20);
    let server = tokio::spawn(server::serve(Box::new(there), model.clone(), server::Options::default(), seed()));
    let options =
        Options { digest: None, store: None, address: "memory", limits: Limits::default(), progress: &|_, _| {} };
    let client = Client::open(Box::new(here), options, seed()).await.expect("the session opens");
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
