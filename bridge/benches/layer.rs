//! What one layer costs before the input is known, per party, on one thread: publication, bodies, the client's share, the
//! server's share. The layers are those of MiniONN (MNIST) and ResNet-20 (CIFAR-10) at four bits.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use lowkey_bridge::budget::{self, Norms};
use lowkey_bridge::conv::ConvShape;
use lowkey_bridge::keys::{self, SetPlan};
use lowkey_bridge::{
    Kept, LayerParameters, LayerPlan, Packing, Publisher, Schedule, Secrets, TermPlan, client_layer, publish_layer,
};
use lowkey_he::mask::EpochSeed;
use lowkey_he::params::{self, ParameterSet};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;

/// Rounding of b*_0, in bits.
const B0_ROUNDING: u32 = 8;

/// Name, accumulator bits and shape.
fn layers() -> [(&'static str, u32, ConvShape); 6] {
    [
        ("16-16 5x5 on 12x12", 11, ConvShape::square(16, 16, 5, 12, 0)),
        ("dense 256-100", 11, ConvShape::dense(256, 100)),
        ("16-16 3x3 on 32x32", 12, ConvShape::square(16, 16, 3, 32, 1)),
        ("32-32 3x3 on 16x16", 13, ConvShape::square(32, 32, 3, 16, 1)),
        ("64-64 3x3 on 8x8", 13, ConvShape::square(64, 64, 3, 8, 1)),
        ("64-64 3x3 on 32x32", 13, ConvShape::square(64, 64, 3, 32, 1)),
    ]
}

fn bench(c: &mut Criterion) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread();
    pool.build_global().expect("the pool is this thread");
    for (name, ell, shape) in layers() {
        stages(c, name, ell, &shape);
    }
}

fn stages(c: &mut Criterion, name: &str, ell: u32, shape: &ConvShape) {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let weights: Vec<i32> = (0..shape.out_channels * shape.fan_in()).map(|_| rng.random_range(-2..=2)).collect();
    let norms = budget::norms_per_output(shape, &weights).into_iter().fold(Norms::default(), Norms::max);
    let fitting =
        |&set: &&'static ParameterSet| Some((set, budget::largest_rounding(set, ell, &[norms], B0_ROUNDING)?));
    let (set, rounding) = params::ALL.iter().find_map(fitting).expect("the layer fits a set");
    let parameters = LayerParameters { set, ell, rounding };
    let term = TermPlan::new(0, Packing::new(shape, set.degree).expect("the layer fits"), |_| true);
    let (height, width) = shape.output();
    let plan = Arc::new(LayerPlan {
        first_secret: 0,
        parameters,
        output: [shape.out_channels, height, width],
        terms: vec![term],
    });
    let sets = [SetPlan { set, secrets: plan.secrets(), b0_rounding: rounding.b0 }];
    let epoch = EpochSeed([3; 32]);
    let masks = keys::rerandomiser_masks(&sets, &epoch).expect("a known set");
    let publisher =
        Publisher { epoch: &epoch, masks: &masks, server_key: &[1; 32], context: &[2; 32], kept: Kept::Ready };
    let publish = || publish_layer(Arc::clone(&plan), &[&weights], &publisher).expect("the noise fits");
    let (server, hint) = publish();
    let client = client_layer(Arc::clone(&plan), &epoch, &hint, Kept::Ready).expect("an honest server");
    let pads: Vec<u64> = (0..shape.input_len()).map(|_| rng.next_u64() & ((1 << ell) - 1)).collect();
    let (mut secrets, b0) = keys::generate(&sets, &masks, &mut rng).expect("masks of this plan");
    let keys = keys::receive(&sets, &b0).expect("an honest client");
    let bodies = client.encrypt_pads(0, &mut secrets, &mut pads.clone(), &mut rng).expect("the first time");

    let mut group = c.benchmark_group(format!("{name}, {}", set.name));
    group.throughput(Throughput::Elements(plan.outputs() as u64));
    group.bench_function("publish, once per model", |b| b.iter(publish));
    group.bench_function("client: secrets", |b| b.iter(|| keys::generate(&sets, &masks, &mut rng)));
    group.bench_function("client: bodies", |b| {
        let fresh = || {
            let secrets =
                keys::generate(&sets, &masks, &mut ChaCha20Rng::seed_from_u64(2)).expect("masks of this plan").0;
            (secrets, pads.clone(), ChaCha20Rng::seed_from_u64(4))
        };
        let run = |(mut secrets, mut pads, mut rng): (Secrets, Vec<u64>, ChaCha20Rng)| {
            client.encrypt_pads(0, &mut secrets, &mut pads, &mut rng)
        };
        b.iter_batched(fresh, run, BatchSize::LargeInput);
    });
    group.bench_function("client: share", |b| b.iter(|| client.share(black_box(&secrets))));
    group.bench_function("server: keys", |b| b.iter(|| keys::receive(&sets, black_box(&b0))));
    let messages = [bodies];
    group.bench_function("server: share", |b| {
        b.iter(|| server.offline(black_box(&messages), &keys, Schedule::Prepared));
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1000))
        .sample_size(20)
        .without_plots();
    targets = bench
}
criterion_main!(benches);
