//! One cross term of a product of two shared matrices, per party, on one thread: those of a training step of 784-128-128-10 at a
//! batch of 128. The name says what travels.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use lowkey_bridge::product::{self, Clear, CrossPlan, KeyPlan, Public, Sizes};
use lowkey_he::mask::EpochSeed;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;

/// Name, rows of the encrypted operand, inner dimension, columns, ell, and what the clear operand is. Each without merging and with.
fn products() -> [(&'static str, [usize; 3], u32, Clear); 4] {
    let pixels = Clear::Known { magnitude: 16 };
    [
        ("first layer", [128, 784, 128], 18, pixels),
        ("first layer's weights", [128, 128, 784], 19, pixels),
        ("second layer", [128, 128, 128], 18, Clear::Share),
        ("third layer", [128, 128, 10], 18, Clear::Share),
    ]
}

fn bench(c: &mut Criterion) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread();
    pool.build_global().expect("the pool is this thread");
    for (name, [rows, inner, columns], ell, clear) in products() {
        let sizes = Sizes { rows, inner, columns };
        stages(c, name, &CrossPlan::cheapest(0, sizes, ell, clear).expect("it fits"));
        stages(c, &format!("{name}, merged"), &CrossPlan::merged(0, sizes, ell, clear).expect("it fits"));
    }
}

fn stages(c: &mut Criterion, name: &str, plan: &CrossPlan) {
    let (sizes, ell, clear) = (plan.sizes(), plan.parameters().ell, plan.clear());
    let key_plan = KeyPlan::of_crosses([plan]);
    let epoch = EpochSeed([3; 32]);
    let (masks, mask0) = (plan.masks(&epoch), key_plan.masks(&epoch).expect("a known set"));
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let a: Vec<u64> = (0..sizes.encrypted()).map(|_| rng.next_u64() >> (64 - ell)).collect();
    let widest = match clear {
        Clear::Share => ell,
        Clear::Known { magnitude } => magnitude.ilog2(),
    };
    let b: Vec<u64> = (0..sizes.clear()).map(|_| rng.next_u64() >> (64 - widest)).collect();
    let (mut secrets, message) = key_plan.generate(&epoch, &mask0, &mut rng).expect("masks of this plan");
    let keys = key_plan.receive(&epoch, &message).expect("an honest owner");
    let bodies = product::encrypt(plan, &masks, &a, &mut secrets, &mut rng).expect("the first time");
    let public = Public { masks: &masks, mask0: &mask0, keys: &keys };
    let hints = product::evaluate(plan, public, &b, &bodies, &mut rng).expect("the noise fits").hints;

    let counts = plan.count();
    let title = format!(
        "{name}, {}, {:.1} + {:.1} kB, {} products",
        plan.parameters().set.name,
        plan.bodies_len() as f64 / 1e3,
        plan.hints_len() as f64 / 1e3,
        counts.products
    );
    let mut group = c.benchmark_group(title);
    group.throughput(Throughput::Elements(counts.products as u64));
    group.bench_function("masks, once", |b| b.iter(|| plan.masks(&epoch)));
    group.bench_function("owner: bodies", |b| {
        let fresh =
            || key_plan.generate(&epoch, &mask0, &mut ChaCha20Rng::seed_from_u64(2)).expect("masks of this plan").0;
        let mut rng = ChaCha20Rng::seed_from_u64(4);
        b.iter_batched(
            fresh,
            |mut secrets| product::encrypt(plan, &masks, &a, &mut secrets, &mut rng),
            BatchSize::LargeInput,
        );
    });
    group.bench_function("evaluator", |bench| {
        bench.iter(|| product::evaluate(plan, public, black_box(&b), &bodies, &mut rng));
    });
    group.bench_function("owner: share", |b| b.iter(|| product::share(plan, black_box(&hints), &secrets)));
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1000))
        .sample_size(10)
        .without_plots();
    targets = bench
}
criterion_main!(benches);
