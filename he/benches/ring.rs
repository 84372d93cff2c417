//! Costs of the building blocks, per parameter set: `cargo bench -p lowkey-he`.

#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use lowkey_he::params::{T32N1024, T32N2048, T64N2048, T64N4096};
use lowkey_he::{EpochSeed, Mask, MaskId, ParameterSet, Ring, Secret, TorusWord, Window, pack, publish};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

fn blocks<W: TorusWord>(criterion: &mut Criterion, set: &'static ParameterSet) {
    let ring = Ring::<W>::shared(set).expect("the word has the width of the torus");
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let epoch = EpochSeed([1; 32]);
    let mask = Mask::expand(ring, &epoch, MaskId { layer: 0, ciphertext: 0 });
    let mask0 = Mask::expand(ring, &epoch, MaskId::RERANDOMISER);
    let secret = Secret::generate(ring, &mut rng);
    let ternary: Vec<i8> = (0..set.degree).map(|i| (i * i % 3) as i8 - 1).collect();
    let weights: Vec<i64> = (0..set.degree).map(|i| (i * i % 15) as i64 - 7).collect();
    let small = ring.forward_ternary(&ternary);
    let window = Window::new(mask.coefficients());
    let mut words = vec![W::default(); set.degree];
    let (mut poly, mut small_out) = (ring.zero(), ring.zero_small());

    let mut group = criterion.benchmark_group(set.name);
    group.bench_function("forward", |b| b.iter(|| ring.forward_into(black_box(mask.coefficients()), &mut poly)));
    group.bench_function("forward_small", |b| b.iter(|| ring.forward_small_into(black_box(&weights), &mut small_out)));
    group.bench_function("mul_acc", |b| {
        // A fresh sum each time: a sum has a largest number of exact products.
        b.iter_batched_ref(|| ring.zero(), |acc| ring.mul_acc(acc, mask.ntt(), &small), BatchSize::LargeInput);
    });
    group.bench_function("inverse", |b| {
        let clone = || mask.ntt().clone();
        b.iter_batched_ref(clone, |poly| ring.inverse_into(poly, &mut words), BatchSize::LargeInput);
    });
    group.bench_function("mask_expand", |b| b.iter(|| Mask::expand(ring, &epoch, mask.id())));
    group.bench_function("secret_generate", |b| b.iter(|| Secret::generate(ring, &mut rng)));
    group.bench_function("body", |b| {
        // A fresh secret each time, made outside the timing: a mask encrypts once.
        b.iter_batched_ref(
            || Secret::generate(ring, &mut ChaCha20Rng::seed_from_u64(2)),
            |secret| secret.body_into(mask.transform(), &mut rng, &mut words),
            BatchSize::LargeInput,
        );
    });
    group.bench_function("phase_share", |b| b.iter(|| secret.phase_share(black_box(mask.ntt()))));
    group.bench_function("phase_share_at_1", |b| b.iter(|| secret.phase_share_at(black_box(&window), &[17])));
    let positions: Vec<usize> = (0..64).map(|i| 5 * i).collect();
    group.bench_function("product_at_64", |b| b.iter(|| window.product_at(black_box(&ternary), &positions)));
    let evaluated = [mask.coefficients().to_vec()];
    group.bench_function("publish", |b| {
        b.iter(|| publish(&evaluated, &mask0, &mut rng, 8, |_| true));
    });
    let mut bytes = vec![];
    group.bench_function("pack_11", |b| {
        b.iter(|| {
            bytes.clear();
            pack::append(&mut bytes, black_box(mask.coefficients()), 11);
        });
    });
    group.bench_function("unpack_11", |b| b.iter(|| pack::read_into(black_box(&bytes), 11, &mut words)));
    group.finish();
}

fn all(criterion: &mut Criterion) {
    blocks::<u32>(criterion, &T32N1024);
    blocks::<u32>(criterion, &T32N2048);
    blocks::<u64>(criterion, &T64N2048);
    blocks::<u64>(criterion, &T64N4096);
}

criterion_group! {
    name = ring;
    config = Criterion::default().sample_size(20).measurement_time(std::time::Duration::from_secs(1)).warm_up_time(std::time::Duration::from_millis(300));
    targets = all
}
criterion_main!(ring);
