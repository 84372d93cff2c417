//! The two views. Of the server: what it receives is uniform and fresh, whatever the image. Of the client: what is published
//! hides the weights.
//!
//! Real sessions run in memory; what the server's end reads is cut into frames and named by the plan. A statistic cannot tell a
//! masked bit from a bit that is random for another reason (c is): that no message depends on more than it may is tested by
//! enumeration of everything random in `mpc/src/program/tests.rs`, among it that the pads of a polynomial OT give the table's
//! entry at the receiver's x and no other.

mod common;
#[path = "transcript/deviating.rs"]
mod deviating;
#[path = "transcript/hint.rs"]
mod hint;
#[path = "transcript/statistics.rs"]
mod statistics;
#[path = "transcript/view.rs"]
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lowkey::plan::TensorId;
use lowkey::{Link, Reveal, Schedule, ServerModel};
use lowkey_models::random::{self, Size};
use lowkey_models::{Network, zoo};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;

use statistics::{FEW_BITS, LIMIT, balance, bytes, homogeneity, imbalance, uniformity};
use view::{Bits, Content, Received};

/// Seeded freshly, or by LOWKEY_SEED to repeat a run.
fn seeded() -> ChaCha20Rng {
    let seed = std::env::var("LOWKEY_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("LOWKEY_SEED={seed}");
    ChaCha20Rng::seed_from_u64(seed)
}

fn publish(network: &Network, rng: &mut ChaCha20Rng) -> lowkey::Result<Arc<ServerModel>> {
    ServerModel::publish(network, Link::Lan, &rng.random::<[u8; 32]>().into(), &|_, _| {})
}

/// Ones and total by position.
fn by_position(samples: &[&Bits]) -> BTreeMap<u32, (u64, u64)> {
    let mut counts: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    for (position, bit) in samples.iter().flat_map(|bits| bits.positions.iter().zip(&bits.bits)) {
        let count = counts.entry(*position).or_default();
        *count = (count.0 + u64::from(*bit), count.1 + 1);
    }
    counts
}

fn all_bytes(samples: &[&Bits]) -> ([u64; 256], usize) {
    let bits = samples.iter().flat_map(|sample| sample.bits.iter().copied());
    (bytes(bits), samples.iter().map(|sample| sample.bits.len()).sum())
}

/// The largest deviation from uniform bits: of every position, and of all bytes.
fn uniform(samples: &[&Bits]) -> f64 {
    let positions = by_position(samples).into_values().map(|(ones, n)| balance(ones, n).abs());
    let (counts, bits) = all_bytes(samples);
    positions.chain((bits >= FEW_BITS).then(|| uniformity(&counts).abs())).fold(0.0, f64::max)
}

/// The largest deviation of the bits that two messages differ in from uniform bits: a mask that is used twice shows here.
fn fresh(first: &[&Bits], second: &[&Bits]) -> f64 {
    let difference = |(a, b): (&&Bits, &&Bits)| {
        assert!(a.positions == b.positions, "two messages of one kind have one form");
        Bits { positions: a.positions.clone(), bits: a.bits.iter().zip(&b.bits).map(|(a, b)| a ^ b).collect() }
    };
    let differences: Vec<Bits> = first.iter().zip(second).map(difference).collect();
    uniform(&differences.iter().collect::<Vec<_>>())
}

/// The largest deviation between the distributions of two images.
fn alike(first: &[&Bits], second: &[&Bits]) -> f64 {
    let (a, b) = (by_position(first), by_position(second));
    assert!(a.keys().eq(b.keys()));
    let positions = a.into_values().zip(b.into_values()).map(|(a, b)| imbalance(a, b).abs());
    let ((a, bits), (b, _)) = (all_bytes(first), all_bytes(second));
    positions.chain((bits >= FEW_BITS).then(|| homogeneity(&a, &b).abs())).fold(0.0, f64::max)
}

/// All three, by name.
fn verdict(zero: &[&Bits], maximum: &[&Bits]) -> [(&'static str, f64); 5] {
    [
        ("an all-zero image", uniform(zero)),
        ("an all-maximum image", uniform(maximum)),
        ("two inferences on one image", fresh(&zero[1..], zero).max(fresh(&maximum[1..], maximum))),
        ("two images, their difference", fresh(zero, maximum)),
        ("two images, their distributions", alike(zero, maximum)),
    ]
}

/// Both images in two sessions each.
struct Views {
    zero: Vec<Received>,
    maximum: Vec<Received>,
}

impl Views {
    fn new(model: &Arc<ServerModel>, count: usize, schedule: Schedule, reveal: Reveal, rng: &mut ChaCha20Rng) -> Self {
        let info = model.plan.input();
        let mut run = |value: i64| {
            let image = vec![value; info.elements()];
            (0..2).flat_map(|_| view::session(model, &image, count.div_ceil(2), schedule, reveal, rng)).collect()
        };
        let (mut zero, mut maximum): (Vec<_>, Vec<_>) = (run(info.range.lo), run(info.range.hi));
        view::trim_tournaments(&mut zero.iter_mut().chain(&mut maximum).collect::<Vec<_>>());
        Self { zero, maximum }
    }

    fn of(&self, content: Content) -> [Vec<&Bits>; 2] {
        [&self.zero, &self.maximum].map(|all| all.iter().filter_map(|one| one.contents.get(&content)).collect())
    }

    fn contents(&self) -> BTreeSet<Content> {
        self.zero.iter().flat_map(|one| one.contents.keys().copied()).collect()
    }

    /// Fails unless everything received is uniform, fresh and the same for both images.
    fn check(&self, context: &str) {
        let all = || self.zero.iter().zip(&self.maximum);
        for (zero, maximum) in all() {
            assert_eq!(zero.shape, maximum.shape, "{context}: frames and requests depend on the image");
        }
        for content in self.contents() {
            let [zero, maximum] = self.of(content);
            let bits: usize = zero.iter().map(|bits| bits.bits.len()).sum();
            for (what, deviation) in verdict(&zero, &maximum) {
                println!("{context}, {content:?}, {what}: {deviation:.2} over {bits} bits");
                assert!(deviation < LIMIT, "{context}, {content:?}, {what}: {deviation:.2} over {bits} bits");
            }
        }
    }
}

#[test]
fn the_server_sees_uniform_bits_whatever_the_image() {
    use Content::*;
    let rng = &mut seeded();
    let model = publish(&zoo::find("digits").expect("bundled").network(), rng).expect("it fits");
    let views = Views::new(&model, 24, Schedule::Prepared, Reveal::Logits, rng);
    assert!(views.contents().into_iter().eq([Keys, LowBits, Bodies, Input, Corrections, Online, OtBatch]));
    views.check("digits, prepared");
    controls(&model, &views, rng);
    let views = Views::new(&model, 8, Schedule::Direct, Reveal::Class, rng);
    assert!(views.contents().into_iter().eq([Keys, Bodies, Online, Tournament, OtBatch]));
    views.check("digits, direct, class only");
}

/// The same tests on the same numbers, sent as they should not be.
fn controls(model: &ServerModel, views: &Views, rng: &mut ChaCha20Rng) {
    let info = model.plan.input();
    let (ring, _) = model.plan.shared(TensorId::INPUT).expect("the input is shared");
    let (yes, no) = (Some(true), Some(false));
    let (mask, image) = ((1u64 << ring) - 1, |value: i64| vec![value as u64; info.elements()]);
    let sent = |values: Vec<u64>| {
        let (mut packed, mut bits) = (Vec::new(), Bits::default());
        lowkey_he::pack::append(&mut packed, &values, ring);
        bits.fields(&packed, values.len(), ring, 0);
        bits
    };
    let mut pad = || -> Vec<u64> { (0..info.elements()).map(|_| rng.next_u64() & mask).collect() };
    let masked = |x: Vec<u64>, pad: &[u64]| x.iter().zip(pad).map(|(x, p)| x.wrapping_sub(*p) & mask).collect();
    let count = views.zero.len();
    let control = |name: &str, pads: &mut dyn FnMut(usize, i64) -> Vec<u64>, caught: [Option<bool>; 5]| {
        let mut run =
            |value: i64| -> Vec<Bits> { (0..count).map(|i| sent(masked(image(value), &pads(i, value)))).collect() };
        let (zero, maximum) = (run(info.range.lo), run(info.range.hi));
        let (zero, maximum) = (zero.iter().collect::<Vec<_>>(), maximum.iter().collect::<Vec<_>>());
        for ((what, deviation), caught) in verdict(&zero, &maximum).into_iter().zip(caught) {
            println!("{name}, {what}: {deviation:.2}");
            match caught {
                Some(true) => assert!(deviation > 1.5 * LIMIT, "{name}, {what}: only {deviation:.2}"),
                Some(false) => assert!(deviation < LIMIT, "{name}, {what}: {deviation:.2}"),
                None => {}
            }
        }
    };
    // As it should be.
    control("fresh pads", &mut |_, _| pad(), [no; 5]);
    control("no pads", &mut |_, _| image(0), [yes; 5]);
    // Everything is uniform, but two messages subtract to the difference of the images.
    let once: Vec<Vec<u64>> = (0..count).map(|_| pad()).collect();
    control("one pad for two images", &mut |i, _| once[i].clone(), [no, no, no, yes, None]);
    let same = pad();
    control("one pad for all", &mut |_, _| same.clone(), [None, None, yes, yes, None]);
    // A pad of a smaller ring leaves the sign of the difference to the image.
    control("pads one bit short", &mut |_, _| pad().iter().map(|p| p >> 1).collect(), [yes, yes, yes, yes, None]);
    let leaky = &mut |_: usize, _: i64| pad().iter().map(|p| if p % 4 == 0 { 0 } else { *p }).collect();
    control("one pixel in four", leaky, [yes, yes, None, None, yes]);
}

/// Networks of every operation, in the prepared schedule.
#[test]
fn the_server_sees_uniform_bits_of_random_networks() {
    let rng = &mut seeded();
    let size = Size { blocks: 3, channels: 3, side: 12, ..Size::default() };
    let mut suitable = 0;
    while suitable < 2 {
        let network = random::network(rng, &size);
        let Ok(model) = publish(&network, rng) else { continue };
        if model.plan.activations() < 100 || model.plan.answer.lanes == 1 {
            continue;
        }
        suitable += 1;
        for reveal in [Reveal::Logits, Reveal::Class] {
            let views = Views::new(&model, 10, Schedule::Prepared, reveal, rng);
            views.check(&format!("random network {suitable}, {reveal:?}"));
        }
    }
}
