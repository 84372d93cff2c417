//! Cost of correlated OTs and of their parts, on one core per party, without a network.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use lowkey_mpc::block::{Block, Delta};
use lowkey_mpc::channel::Channel;
use lowkey_mpc::hash::{CcrHash, TccrHash};
use lowkey_mpc::ot::base::{self, Domain, SessionId};
use lowkey_mpc::ot::coins::Coins;
use lowkey_mpc::ot::silent::{BatchMessage, Prover};
use lowkey_mpc::ot::{Correlations, OtCount, price, silent, softspoken};
use lowkey_mpc::party::Party;
use lowkey_mpc::prg::Prg;
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use std::hint::black_box;
use tokio::runtime::Handle;

const COINS: Coins = Coins::fixed([1; 32], Party::Client);
const SEED_BLOCKS: usize = silent::SEED.div_ceil(128);

/// Base OTs dealt by one party: both keys, and the chosen one.
fn base_keys(delta: &Delta, rng: &mut ChaCha20Rng) -> (Vec<[Block; 2]>, Vec<Block>) {
    let pairs: Vec<_> = (0..softspoken::BASE_OTS).map(|_| [Block::random(rng), Block::random(rng)]).collect();
    let choices = softspoken::base_choices(delta);
    let chosen = pairs.iter().zip(choices).map(|(pair, b)| pair[usize::from(b)]).collect();
    (pairs, chosen)
}

fn silent_ot(c: &mut Criterion) {
    let rng = &mut ChaCha20Rng::seed_from_u64(1);
    let delta = Delta::random(rng);
    let (pairs, chosen) = base_keys(&delta, rng);
    let (m, correction) = softspoken::receive(&pairs, &COINS, SEED_BLOCKS);
    let k = softspoken::send(&chosen, &delta, &correction, &COINS, SEED_BLOCKS).expect("an honest peer");
    let mut roots = Prg::new(&[3; 32]);
    // Both roles after the first batch.
    let mut pair = || {
        let (sender, _, message, _) = silent::Sender::new(delta.clone(), &k[..silent::SEED], COINS).start(&mut roots);
        let (receiver, _) = silent::Receiver::new(&m[..silent::SEED], COINS).start(message);
        (Some(sender), Some(receiver))
    };
    let ((mut sender, _), (mut other, mut receiver)) = (pair(), pair());
    let mut roots = Prg::new(&[4; 32]);
    let reply = [0; silent::REPLY_BYTES];
    // As layers take them: some 100,000 at a time.
    let mut out = vec![Block::ZERO; 1 << 17];
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    let mut expand = |mut batch: silent::Batch| one.install(|| while batch.expand(&mut out) > 0 {});

    // One batch, after the first, yields 3,241,240 usable OTs; the time per element is the time per usable OT.
    let mut group = c.benchmark_group("silent OT, per batch");
    group.sample_size(40);
    group.throughput(Throughput::Elements(silent::LATER.usable() as u64));
    group.bench_function("sender", |b| {
        b.iter(|| {
            let (next, batch, message, check) = sender.take().expect("put back below").start(&mut roots);
            let proof = check.hash(&batch).prove(&reply);
            expand(batch);
            sender = Some(next);
            (message, proof)
        });
    });
    let mut message = || {
        let (next, batch, message, check) = other.take().expect("put back below").start(&mut roots);
        other = Some(next);
        (message, check.hash(&batch))
    };
    group.bench_function("receiver", |b| {
        let run = |(message, prover): (BatchMessage, Prover)| {
            let (next, unchecked) = receiver.take().expect("put back below").start(message);
            let proof = prover.prove(unchecked.reply());
            expand(unchecked.check(&proof).expect("an honest peer"));
            receiver = Some(next);
        };
        b.iter_batched(&mut message, run, BatchSize::PerIteration);
    });
    group.finish();
}

/// One batch in each direction, both parties at work on two threads, over a channel in memory.
fn pool(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let need = OtCount { client_receives: price::OTS_PER_BATCH, server_receives: price::OTS_PER_BATCH };
    const LAYERS: usize = 19;
    let layer =
        OtCount { client_receives: need.client_receives / LAYERS, server_receives: need.server_receives / LAYERS };
    let step = |state: Option<Correlations>, mut ch: Channel| {
        move || {
            Handle::current().block_on(async move {
                let rng = &mut ChaCha20Rng::seed_from_u64(ch.party() as u64);
                let mut pool = match state {
                    Some(pool) => pool,
                    None => Correlations::setup(&mut ch, rng).await.expect("an honest peer"),
                };
                pool.ensure(&mut ch, need).await.expect("an honest peer");
                // As the layers of a network take them.
                for _ in 0..LAYERS {
                    drop(pool.take(layer).expect("just made"));
                }
                (Some(pool), ch)
            })
        }
    };
    let _guard = runtime.enter();
    let (client, server) = Channel::pair();
    let mut states = Some([(None, client), (None, server)]);
    let mut group = c.benchmark_group("pool");
    group.sample_size(20);
    group.throughput(Throughput::Elements(need.total() as u64));
    group.bench_function("one batch each way, two threads", |b| {
        b.iter(|| {
            let [client, server] = states.take().expect("put back below");
            let client = tokio::task::spawn_blocking(step(client.0, client.1));
            let server = tokio::task::spawn_blocking(step(server.0, server.1));
            let done = runtime.block_on(async { tokio::join!(client, server) });
            states = Some([done.0.expect("no panic"), done.1.expect("no panic")]);
        });
    });
    group.finish();
}

fn bootstrap(c: &mut Criterion) {
    let rng = &mut ChaCha20Rng::seed_from_u64(2);
    let delta = Delta::random(rng);
    let (pairs, chosen) = base_keys(&delta, rng);
    let (_, correction) = softspoken::receive(&pairs, &COINS, SEED_BLOCKS);

    let mut group = c.benchmark_group("SoftSpokenOT, per bootstrap");
    group.throughput(Throughput::Elements(SEED_BLOCKS as u64 * 128));
    group.bench_function("sender", |b| {
        b.iter(|| softspoken::send(&chosen, &delta, &correction, &COINS, SEED_BLOCKS));
    });
    group.bench_function("receiver", |b| b.iter(|| softspoken::receive(&pairs, &COINS, SEED_BLOCKS)));
    group.finish();

    let domain = Domain { session: SessionId([0; 32]), receiver: Party::Client };
    let mut group = c.benchmark_group("base OT, 128");
    group.sample_size(10);
    group.bench_function("both parties", |b| {
        b.iter(|| {
            let (sender, to_receiver) = base::Sender::start(domain, softspoken::BASE_OTS, rng);
            let choices = softspoken::base_choices(&delta);
            let (receiver, to_sender) = base::Receiver::start(domain, choices, rng);
            (sender.finish(&to_sender), receiver.finish(&to_receiver))
        });
    });
    group.finish();
}

fn hashes(c: &mut Criterion) {
    const N: usize = 4096;
    let mut keys = vec![Block::new(1, 2); N];
    let mut out = vec![Block::ZERO; N];
    let tweak = |j: usize| Block::new(j as u64, 0);

    let mut group = c.benchmark_group("hash, per 4096 blocks");
    group.throughput(Throughput::Elements(N as u64));
    let tccr = TccrHash::new(Block::ONES);
    group.bench_function("TCCR", |b| b.iter(|| tccr.hash(black_box(&mut keys), tweak)));
    group.bench_function("TCCR, inner known", |b| {
        b.iter(|| tccr.finish(black_box(&keys), tweak, &mut out));
    });
    let ccr = CcrHash::new(Block::ONES);
    group.bench_function("CCR", |b| b.iter(|| ccr.hash(black_box(&keys), &mut out)));
    group.finish();
}

criterion_group!(benches, silent_ot, pool, bootstrap, hashes);
criterion_main!(benches);
