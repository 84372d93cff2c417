//! Cost of guarded computation: both parties on two threads, over a channel in memory, oblivious transfers included.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lowkey_mpc::bits::Planes;
use lowkey_mpc::channel::Channel;
use lowkey_mpc::guard::{
    Batch, Carry, Circuit, Guard, Origin, Triples, Workspace, circuits, cost, least_error_bits, make_of, offline_all,
    online, triples,
};
use lowkey_mpc::ot::Correlations;
use lowkey_mpc::party::{Party, Stage};
use lowkey_mpc::requantise::{Clip, Spec};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use std::future::Future;
use std::sync::Arc;
use tokio::runtime::{Handle, Runtime};

const SPEC: Spec = Spec { ell: 13, shift: 7, bits: 4, guard: 1 };

/// A party between two pieces of work.
struct State {
    ch: Channel,
    pool: Correlations,
    guard: Guard,
    triples: Triples,
    space: Workspace,
    rng: ChaCha20Rng,
}

async fn start(mut ch: Channel) -> State {
    let mut rng = ChaCha20Rng::seed_from_u64(ch.party() as u64);
    let mut pool = Correlations::setup(&mut ch, &mut rng).await.expect("an honest peer");
    let guard = Guard::new(&pool.take(lowkey_mpc::ot::OtCount::ZERO).expect("none is always there"));
    ch.enter(Stage::Offline);
    State { ch, pool, guard, triples: Triples::default(), space: Workspace::default(), rng }
}

impl State {
    async fn make(&mut self, batch: Batch) -> Triples {
        let Self { ch, pool, guard, rng, space, .. } = self;
        pool.ensure(ch, batch.ots()).await.expect("an honest peer");
        make_of(ch, guard, batch, pool, space, rng).await.expect("an honest peer")
    }

    async fn layer(&mut self, circuit: &Arc<Circuit>, lanes: usize) {
        let Self { ch, pool, guard, triples, rng, .. } = self;
        ch.enter(Stage::Offline);
        pool.ensure(ch, circuit.ots(lanes)).await.expect("an honest peer");
        let client = ch.party() == Party::Client;
        let mut given = |origins: &[Origin]| -> Vec<Planes> {
            let ports = circuit.inputs().iter().filter(|port| origins.contains(&port.of));
            ports.map(|port| Planes::random(lanes, port.width, rng)).collect()
        };
        let early = given(if client { &[Origin::Early] } else { &[] });
        let late = given(if client { &[Origin::Public] } else { &[Origin::Server, Origin::Public] });
        let circuits = [(circuit.clone(), lanes)];
        let prepared = offline_all(&circuits, ch, guard, (pool, triples), (vec![early], |_, _| ()), rng).await;
        let prepared = prepared.expect("an honest peer").remove(0);
        ch.enter(Stage::Online);
        online(prepared, ch, guard, late, &[]).await.expect("an honest peer");
    }
}

/// Both parties do the same at the same time.
fn both<F>(runtime: &Runtime, states: &mut Option<[State; 2]>, work: impl Fn(State) -> F + Clone + Send + 'static)
where
    F: Future<Output = State>,
{
    let [client, server] = states.take().expect("put back below").map(|state| {
        let work = work.clone();
        runtime.spawn_blocking(move || Handle::current().block_on(work(state)))
    });
    let done = runtime.block_on(async { tokio::join!(client, server) });
    *states = Some([done.0.expect("no panic"), done.1.expect("no panic")]);
}

fn guarded(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let _guard = runtime.enter();
    let (client, server) = Channel::pair();
    let started = runtime.block_on(async { tokio::join!(start(client), start(server)) });
    let mut states = Some([started.0, started.1]);

    let mut group = c.benchmark_group("guarded triples");
    group.sample_size(10);
    for bucket in [2, 3] {
        let batch = Batch::at_least(bucket, 1 << 19, least_error_bits(bucket)).expect("a batch");
        group.throughput(Throughput::Elements(batch.good() as u64));
        group.bench_function(format!("B = {bucket}, two threads"), |b| {
            b.iter(|| {
                both(&runtime, &mut states, move |mut state| async move {
                    drop(state.make(batch).await);
                    state
                });
            });
        });
    }
    group.finish();

    let lanes = 1 << 14;
    let product = Spec { ell: 17, shift: 7, bits: 4, guard: 0 };
    for (name, circuit) in [
        ("requantisation, a=4 ell=13", circuits::requantise(SPEC, Clip::default(), Some(SPEC.ell))),
        (
            "requantisation by trees, a=4 ell=13",
            circuits::requantise_by(Carry::Prefix, SPEC, Clip::default(), Some(SPEC.ell)),
        ),
        ("truncated product, a=4 R=17", circuits::rescale(Carry::Ripple, product, Clip::default(), Some(SPEC.ell))),
    ] {
        let circuit = Arc::new(circuit.expect("a layer"));
        let batch = Batch::at_least(3, circuit.triples() * lanes, 40.0).expect("a batch");
        let mut group = c.benchmark_group(format!("guarded {name}"));
        group.sample_size(10);
        group.throughput(Throughput::Elements(lanes as u64));
        group.bench_function("triples (B = 3) and both stages, two threads", |b| {
            b.iter(|| {
                let circuit = circuit.clone();
                both(&runtime, &mut states, move |mut state| {
                    let circuit = circuit.clone();
                    async move {
                        state.ch.enter(Stage::Offline);
                        state.triples = state.make(batch).await;
                        state.layer(&circuit, lanes).await;
                        state
                    }
                });
            });
        });
        group.finish();
    }
}

/// What a planner asks for before anything runs.
fn planned(c: &mut Criterion) {
    let mut group = c.benchmark_group("guarded, planned");
    group.bench_function("circuits and cost of 19 requantisations", |b| {
        b.iter(|| {
            let layer = |shift| circuits::requantise(Spec { shift, ..SPEC }, Clip::default(), Some(SPEC.ell));
            let layers: Vec<_> = (0..19).map(|i| (layer(3 + i % 5).expect("a layer"), 1 << 13)).collect();
            let batches = Batch::pieces(3, triples(&layers), 40.0).expect("batches");
            cost(&batches, &layers).total_bytes()
        });
    });
    group.finish();
}

criterion_group!(benches, guarded, planned);
criterion_main!(benches);
