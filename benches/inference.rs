//! One inference over loopback TCP, both parties on this machine: the offline stage, the online stage, the direct schedule.
//!
//! Inputs are zeros: time does not depend on them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use lowkey::client::{Options, Session};
use lowkey::net::{self, Listener, Trust};
use lowkey::{Link, Reveal, Schedule, ServerModel, server};
use lowkey_models::zoo;
use tokio::runtime::{Handle, Runtime};

/// A session with a server on a thread of its own.
async fn session(model: Arc<ServerModel>) -> Session {
    let listener = Listener::bind("127.0.0.1:0", None).await.expect("a free port");
    let address = listener.address().expect("bound").to_string();
    tokio::task::spawn_blocking(move || {
        Handle::current().block_on(async {
            let (incoming, _) = listener.accept().await.expect("a client");
            let (stream, _) = incoming.secure().await.expect("plain TCP");
            // The client leaves without saying so.
            let _ = server::serve(stream, model, server::Options::default()).await;
        });
    });
    let stream = net::connect(&address, &Trust::Plain).await.expect("it listens");
    Session::open(stream, Options::default()).await.expect("the session opens")
}

fn inference(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    for name in ["digits", "mnist-minionn-w1a1", "mnist-minionn-w4a4"] {
        let Some(bundled) = zoo::find(name) else { continue };
        let network = bundled.network();
        let input = vec![0; network.architecture().input.shape.iter().product()];
        let model = ServerModel::publish(&network, Link::Lan, &[1; 32].into(), &|_, _| {}).expect("it fits");
        let mut client = runtime.block_on(session(model));
        let mut group = c.benchmark_group(name);
        group.sample_size(20).measurement_time(Duration::from_secs(4));
        // The offline stage includes its share of the OT batches.
        group.bench_function("offline", |b| {
            b.iter_custom(|count| {
                let mut spent = Duration::ZERO;
                for _ in 0..count {
                    let start = Instant::now();
                    let prepared = runtime.block_on(client.prepare(Reveal::Logits)).expect("prepared");
                    spent += start.elapsed();
                    runtime.block_on(client.infer(prepared, &input)).expect("answered");
                }
                spent
            });
        });
        group.bench_function("online", |b| {
            b.iter_custom(|count| {
                let mut spent = Duration::ZERO;
                for _ in 0..count {
                    let prepared = runtime.block_on(client.prepare(Reveal::Logits)).expect("prepared");
                    let start = Instant::now();
                    runtime.block_on(client.infer(prepared, &input)).expect("answered");
                    spent += start.elapsed();
                }
                spent
            });
        });
        group.bench_function("direct", |b| {
            b.iter(|| runtime.block_on(client.answer(Schedule::Direct, Reveal::Logits, &input)).expect("answered"));
        });
        group.finish();
    }
}

criterion_group!(benches, inference);
criterion_main!(benches);
