//! Cost of the nonlinear protocols for one party, on one core, without a network: frames of the peer are zeros, which
//! costs the same as any others.

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lowkey_mpc::bits::Planes;
use lowkey_mpc::carry::Part;
use lowkey_mpc::channel::Channel;
use lowkey_mpc::extend::Finish;
use lowkey_mpc::fixed::refresh::Refresh;
use lowkey_mpc::fixed::{extend, relu, softmax, truncate};
use lowkey_mpc::layout::{Choice, Search};
use lowkey_mpc::ot::{Correlations, Cots, OtCount};
use lowkey_mpc::party::{Party, Stage};
use lowkey_mpc::program::{OnlineRun, PreparedProgram, Program, ReadyProgram, Time, Turn};
use lowkey_mpc::{maxpool, requantise};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use std::sync::Arc;
use tokio::runtime::Runtime;

/// Values per program.
const LANES: usize = 1 << 16;

/// Both parties' correlated OTs, made on demand.
struct Pool {
    runtime: Runtime,
    client: (Correlations, Channel),
    server: (Correlations, Channel),
}

impl Pool {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        let (mut client, mut server) = runtime.block_on(async { Channel::pair() });
        let (to_server, to_client) = runtime.block_on(async {
            let (rng, other) = (&mut ChaCha20Rng::seed_from_u64(1), &mut ChaCha20Rng::seed_from_u64(2));
            tokio::join!(Correlations::setup(&mut client, rng), Correlations::setup(&mut server, other))
        });
        let (to_server, to_client) = (to_server.expect("an honest peer"), to_client.expect("an honest peer"));
        Self { runtime, client: (to_server, client), server: (to_client, server) }
    }

    /// The OTs of one party.
    fn take(&mut self, need: OtCount, party: Party) -> Cots {
        let (client, server) = (&mut self.client, &mut self.server);
        let (c, s) = self.runtime.block_on(async {
            tokio::join!(client.0.ensure(&mut client.1, need), server.0.ensure(&mut server.1, need))
        });
        c.and(s).expect("an honest peer");
        let (c, s) = (client.0.take(need), server.0.take(need));
        if party == Party::Client { c.expect("just made") } else { s.expect("just made") }
    }
}

/// Random inputs of one party and stage.
fn inputs(program: &Program, lanes: usize, party: Party, stage: Stage) -> Vec<Planes> {
    let rng = &mut ChaCha20Rng::seed_from_u64(3);
    let ports = program.inputs().iter().filter(|port| port.party == party && port.time.stage() == stage);
    ports.map(|port| Planes::random(lanes, port.width, rng)).collect()
}

fn offline(prepared: PreparedProgram, inputs: Vec<Planes>) -> ReadyProgram {
    let mut run = prepared.offline(inputs);
    loop {
        match run.turn() {
            Turn::Send(_) => {}
            Turn::Receive(len) => run.receive(&vec![0; len]).expect("the right length"),
            Turn::Done => return run.finish(),
        }
    }
}

fn online(mut run: OnlineRun) -> Vec<Planes> {
    loop {
        match run.turn() {
            Turn::Send(_) => {}
            Turn::Receive(len) => run.receive(&vec![0; len]).expect("the right length"),
            Turn::Done => return run.finish(),
        }
    }
}

/// Prepare, offline and online stage of both parties.
fn stages(c: &mut Criterion, pool: &mut Pool, name: &str, program: Program, lanes: usize) {
    let program = Arc::new(program);
    let need = program.ots() * lanes;
    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Elements(lanes as u64));
    group.sample_size(10);
    for party in [Party::Client, Party::Server] {
        let known = inputs(&program, lanes, party, Stage::Offline);
        let late = inputs(&program, lanes, party, Stage::Online);
        let once = BatchSize::PerIteration;
        group.bench_function(BenchmarkId::new("prepare", party), |b| {
            b.iter_batched(|| pool.take(need, party), |cots| program.prepare(lanes, cots), once);
        });
        let prepared = |pool: &mut Pool| program.prepare(lanes, pool.take(need, party)).expect("enough OTs");
        group.bench_function(BenchmarkId::new("offline", party), |b| {
            b.iter_batched(|| (prepared(pool), known.clone()), |(prepared, known)| offline(prepared, known), once);
        });
        group.bench_function(BenchmarkId::new("online", party), |b| {
            b.iter_batched(
                || (offline(prepared(pool), known.clone()), late.clone()),
                |(ready, late)| online(ready.online(late)),
                once,
            );
        });
    }
    group.finish();
}

/// The cheapest of at most `flights` flights.
fn pick<L>(choices: &[Choice<L>], flights: u32) -> &L {
    let within = choices.iter().take_while(|choice| choice.flights <= flights).last();
    &within.unwrap_or(&choices[0]).layout
}

fn requantisation(c: &mut Criterion) {
    let mut pool = Pool::new();
    for (ell, shift, bits) in [(9, 7, 1), (10, 6, 2), (12, 7, 3), (13, 7, 4), (23, 12, 8)] {
        let (spec, finish) = (requantise::Spec { ell, shift, bits, guard: 1 }, Finish::Upload { ring: ell });
        let choices = Search::new(0.73).requantise(spec, finish).expect("a layer");
        let program = requantise::program(spec, pick(&choices, 8), finish).expect("found by the search");
        let name = format!("requantise 2^16, a={bits} ell={ell}, {} flights", program.cost(1).flights());
        stages(c, &mut pool, &name, program, LANES);
    }
}

fn max_pool(c: &mut Criterion) {
    let mut pool = Pool::new();
    for bits in [1, 4] {
        let spec = maxpool::Spec { bits, window: 4, client: Time::START, server: Time::START };
        let finish = Finish::Upload { ring: 13 };
        let choices = Search::new(0.73).max_pool(spec, finish).expect("a pool");
        let chain: &Vec<Part> = pick(&choices, 8);
        let program = maxpool::program(spec, chain, finish).expect("found by the search");
        let name = format!("max pool 2x2 to 2^14, a={bits}, {} flights", program.cost(1).flights());
        stages(c, &mut pool, &name, program, LANES / 4);
    }
}

/// T and extension of the gradient of a layer of 784 x 128 weights.
fn fixed_point(c: &mut Criterion) {
    const WEIGHTS: usize = 784 * 128;
    let spec = truncate::Spec { width: 20, dropped: 7 };
    let mut group = c.benchmark_group("truncate 784 x 128, 20 bits to 13");
    group.throughput(Throughput::Elements(WEIGHTS as u64));
    let mut refresh = Refresh::new(&[1; 32], &[2; 32], 0);
    for party in [Party::Client, Party::Server] {
        let mut shares = vec![0x5_a5a5; WEIGHTS];
        group.bench_function(BenchmarkId::from_parameter(party), |b| {
            b.iter(|| spec.apply(party, &mut shares, &mut refresh));
        });
    }
    group.finish();
    let spec = extend::Spec { from: spec.kept(), to: 25, signed: true };
    let program = extend::program(spec, Time::START, Time::START).expect("the widths fit");
    let mut pool = Pool::new();
    stages(c, &mut pool, "extend 784 x 128, 13 bits to 25", program, WEIGHTS);

    let (spec, at) = (relu::Spec { from: 12, to: 19 }, Time::START);
    let choices = Search::new(0.73).rectify(spec, at, at).expect("a rectifier");
    let chain: &Vec<Part> = pick(&choices, 8);
    let program = relu::program(spec, chain, at, at).expect("found by the search");
    stages(c, &mut pool, "rectify 128 x 128, 12 bits to 19", program, 128 * 128);

    let spec = softmax::Spec { classes: 10, width: 13, fraction: 4, result: 5, to: 19 };
    let choices = Search::new(0.73).softmax(spec).expect("a softmax");
    let program = softmax::program(spec, pick(&choices, 40), softmax::More::default()).expect("found by the search");
    stages(c, &mut pool, "softmax of 10, 128 samples", program, 128);
}

fn planning(c: &mut Criterion) {
    let mut group = c.benchmark_group("plan");
    for (ell, shift, bits) in [(13, 7, 4), (23, 12, 8), (40, 24, 8)] {
        let (spec, finish) = (requantise::Spec { ell, shift, bits, guard: 1 }, Finish::Upload { ring: ell });
        group.bench_function(BenchmarkId::new("search", format!("a={bits} ell={ell}")), |b| {
            b.iter(|| Search::new(0.73).requantise(spec, finish));
        });
        let choices = Search::new(0.73).requantise(spec, finish).expect("a layer");
        group.bench_function(BenchmarkId::new("compile", format!("a={bits} ell={ell}")), |b| {
            b.iter(|| requantise::program(spec, pick(&choices, 8), finish));
        });
    }
    group.finish();
}

criterion_group!(benches, requantisation, max_pool, fixed_point, planning);
criterion_main!(benches);
