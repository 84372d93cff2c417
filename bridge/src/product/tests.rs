//! Both roles of cross terms, side by side: the relation of the shares, the noise, the bytes.

use std::sync::Arc;

use lowkey_he::error::HeError;
use lowkey_he::mask::EpochSeed;
use lowkey_he::noise::{Cross, Drawn, Norms};
use lowkey_he::params::{T32N2048, T64N2048, T64N4096};
use lowkey_he::torus::Rounding;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;

use super::merge::MAX_STEPS;
use super::*;
use crate::error::BridgeError;
use crate::parameters::LayerParameters;
use crate::share::RingShare;

fn sizes(rows: usize, inner: usize, columns: usize) -> Sizes {
    Sizes { rows, inner, columns }
}

fn uniform(count: usize, ell: u32, rng: &mut ChaCha20Rng) -> Vec<u64> {
    (0..count).map(|_| rng.random::<u64>() >> (64 - ell)).collect()
}

/// A B modulo 2^64, by the definition.
fn matrix_product(sizes: Sizes, a: &[u64], b: &[u64]) -> Vec<u64> {
    let mut out = vec![0u64; sizes.outputs()];
    for (out, a) in out.chunks_exact_mut(sizes.columns).zip(a.chunks_exact(sizes.inner)) {
        for (a, b) in a.iter().zip(b.chunks_exact(sizes.columns)) {
            out.iter_mut().zip(b).for_each(|(out, b)| *out = out.wrapping_add(a.wrapping_mul(*b)));
        }
    }
    out
}

/// Everything of one run.
struct Run {
    bodies: Vec<u8>,
    hints: Vec<u8>,
    c: RingShare,
    v: RingShare,
    /// Of the phases, before the floors.
    errors: Vec<i64>,
}

fn run(plan: &CrossPlan, a: &[u64], b: &[u64], rng: &mut ChaCha20Rng) -> Run {
    let key_plan = KeyPlan::of_crosses([plan]);
    let epoch = EpochSeed(rng.random());
    let (masks, mask0) = (plan.masks(&epoch), key_plan.masks(&epoch).unwrap());
    let (mut secrets, message) = key_plan.generate(&epoch, &mask0, rng).unwrap();
    assert_eq!(message.len(), key_plan.message_len());
    let bodies = encrypt(plan, &masks, a, &mut secrets, rng).unwrap();
    let keys = key_plan.receive(&epoch, &message).unwrap();
    let public = Public { masks: &masks, mask0: &mask0, keys: &keys };
    let (hints, theirs) = evaluator::phases(plan, public, b, &bodies, rng).unwrap();
    let ours = owner::phases(plan, &hints, &secrets).unwrap();
    let exact = matrix_product(plan.sizes(), a, b);
    let error = |((ours, theirs), exact): ((&u64, &u64), &u64)| {
        ours.wrapping_add(*theirs).wrapping_sub(exact << plan.parameters().log_scaling()) as i64
    };
    Run {
        errors: ours.iter().zip(theirs.iter()).zip(&exact).map(error).collect(),
        c: share(plan, &hints, &secrets).unwrap(),
        v: RingShare::new(crate::convert::server_share(plan.parameters(), &theirs), plan.parameters().ring()),
        bodies,
        hints,
    }
}

/// c + v - 2 z of every output.
fn remainders(plan: &CrossPlan, run: &Run, a: &[u64], b: &[u64]) -> Vec<u64> {
    let mask = u64::MAX >> (63 - plan.parameters().ell);
    let exact = matrix_product(plan.sizes(), a, b);
    let shares = run.c.words().iter().zip(run.v.words());
    shares.zip(exact).map(|((c, v), z)| c.wrapping_add(*v).wrapping_sub(z << 1) & mask).collect()
}

fn check(plan: &CrossPlan, a: &[u64], b: &[u64], rng: &mut ChaCha20Rng) -> Run {
    let run = run(plan, a, b, rng);
    assert_eq!(run.bodies.len(), plan.bodies_len());
    assert_eq!(run.hints.len(), plan.hints_len());
    let wrong = remainders(plan, &run, a, b).into_iter().filter(|r| *r > 1).count();
    assert_eq!(wrong, 0, "{:?} modulo 2^{}: {:?}", plan.sizes(), plan.parameters().ell, plan.choice());
    run
}

fn check_uniform(sizes: Sizes, ell: u32, seed: u64) {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let plan = CrossPlan::cheapest(7, sizes, ell, Clear::Share).unwrap();
    let (a, b) = (uniform(sizes.encrypted(), ell, &mut rng), uniform(sizes.clear(), ell, &mut rng));
    check(&plan, &a, &b, &mut rng);
}

#[test]
fn two_shares_differ_from_twice_the_product_by_a_guard_bit() {
    let all =
        [(1, 1, 1), (5, 3, 7), (128, 128, 10), (10, 128, 128), (33, 49, 2), (3, 2100, 1), (1, 7, 300), (300, 2, 3)];
    for (seed, (rows, inner, columns)) in (1..).zip(all) {
        check_uniform(sizes(rows, inner, columns), 18, seed);
    }
}

#[test]
fn every_width_that_fits_is_exact() {
    for ell in [2, 9, 16, 20, 24, 26, 32] {
        check_uniform(sizes(9, 30, 5), ell, ell.into());
    }
}

/// Wide digits times many taps in one polynomial: sums leave the exact range of the ring unless they are cut.
#[test]
fn sums_that_the_ring_does_not_hold_are_cut() {
    let mut rng = ChaCha20Rng::seed_from_u64(3);
    for (ell, block) in [(25, sizes(1, 64, 4)), (25, sizes(2, 16, 4)), (20, sizes(1, 2000, 1))] {
        let sizes = sizes(2, 2000, 33);
        let rounding = Rounding { body: 0, b0: 0, hint: 20 };
        let choice = Choice { set: &T64N4096, digits: 1, block, merge: 0, rounding };
        let plan = CrossPlan::new(1, sizes, ell, Clear::Share, choice).unwrap();
        let (a, b) = (uniform(sizes.encrypted(), ell, &mut rng), uniform(sizes.clear(), ell, &mut rng));
        check(&plan, &a, &b, &mut rng);
    }
}

/// The first layers' operands are known to one party, and small.
#[test]
fn a_known_operand_takes_fewer_bits() {
    let mut rng = ChaCha20Rng::seed_from_u64(4);
    let (sizes, ell) = (sizes(20, 98, 16), 18);
    let known = CrossPlan::cheapest(7, sizes, ell, Clear::Known { magnitude: 16 }).unwrap();
    let uniform_plan = CrossPlan::cheapest(7, sizes, ell, Clear::Share).unwrap();
    assert!(known.bodies_len() + known.hints_len() < uniform_plan.bodies_len() + uniform_plan.hints_len());
    let a = uniform(sizes.encrypted(), ell, &mut rng);
    let signed: Vec<i64> = (0..sizes.clear()).map(|_| rng.random_range(-16..=16)).collect();
    let b: Vec<u64> = signed.iter().map(|&x| x as u64 & ((1 << ell) - 1)).collect();
    check(&known, &a, &b, &mut rng);
}

/// sqrt of the mean square of the errors over that of the formula, for the norms of this B.
fn noise(plan: &CrossPlan, run: &Run, b: &[u64]) -> f64 {
    let (parameters, packing, Sizes { columns, .. }) = (plan.parameters(), plan.packing(), plan.sizes());
    let digits: Vec<_> = (0..plan.choice().digits).map(|d| plan.digits().take(b, d)).collect();
    let width = packing.block().columns;
    let variance = |l: usize| {
        let rows = digits.iter().flat_map(|digits| digits.chunks_exact(columns));
        let norm2 = rows.flat_map(|row| &row[packing.columns(l)]).map(|&x| (x as f64).powi(2)).sum();
        let (norms, drawn) = (Norms { norm2, norm1: 0.0 }, Drawn::expected(parameters.set, parameters.rounding));
        let mut terms = budget::terms(parameters.set, norms, drawn, parameters.rounding, plan.choice().merge);
        // The mean of what switches bring, not its bound.
        terms.iter_mut().skip(1).for_each(|switches| *switches = merge::noise(parameters.set, plan.choice().merge));
        lowkey_he::noise::variance(parameters.set, &terms, Cross::NONE)
    };
    let variances: Vec<f64> = (0..packing.blocks().columns).map(variance).collect();
    let at = |output: usize| variances[output % columns / width];
    let errors = run.errors.iter().enumerate().map(|(output, &error)| (error as f64).powi(2) / at(output));
    (errors.sum::<f64>() / run.errors.len() as f64).sqrt()
}

/// A product of random shares is exact, and its noise within 5 % of the formula's.
fn check_noise(seed: u64, sizes: Sizes, ell: u32, choice: Choice) {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let plan = CrossPlan::new(1, sizes, ell, Clear::Share, choice).unwrap();
    let (a, b) = (uniform(sizes.encrypted(), ell, &mut rng), uniform(sizes.clear(), ell, &mut rng));
    let run = check(&plan, &a, &b, &mut rng);
    let measured = noise(&plan, &run, &b);
    assert!((0.95..1.05).contains(&measured), "seed {seed}: {measured:.3} of sqrt(V), {choice:?}");
}

/// The products that the design measured with a bit less rounded off, and digits.
#[test]
fn the_noise_is_that_of_the_formula() {
    let of = |set, digits, block, body, hint| Choice {
        set,
        digits,
        block,
        merge: 0,
        rounding: Rounding { body, b0: 20, hint },
    };
    let runs = [
        (18, 980, of(&T64N2048, 1, sizes(128, 4, 4), 18, 35)),
        (20, 784, of(&T64N4096, 1, sizes(128, 8, 4), 14, 33)),
        (24, 784, of(&T64N4096, 1, sizes(128, 8, 4), 6, 29)),
        (20, 128, of(&T64N2048, 2, sizes(128, 8, 2), 22, 34)),
    ];
    for (seed, (ell, inner, choice)) in (1..).zip(runs) {
        check_noise(seed, sizes(128, inner, 24), ell, choice);
    }
}

#[test]
fn merged_answers_are_exact() {
    let all = [(5, 3, 7), (128, 40, 10), (10, 128, 40), (33, 49, 20), (300, 2, 3), (1, 1, 1), (2000, 3, 2)];
    for (seed, (rows, inner, columns)) in (1..).zip(all) {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        for ell in [12, 18, 24] {
            let sizes = sizes(rows, inner, columns);
            let plan = CrossPlan::merged(7, sizes, ell, Clear::Share).unwrap();
            let (a, b) = (uniform(sizes.encrypted(), ell, &mut rng), uniform(sizes.clear(), ell, &mut rng));
            check(&plan, &a, &b, &mut rng);
        }
    }
}

/// Steps of all counts; by far the most of the noise from products, or half of it from switches.
#[test]
fn the_noise_of_merged_answers_is_that_of_the_formula() {
    let of = |digits, merge: u32, rows, body, hint| Choice {
        set: &T64N2048,
        digits,
        block: sizes(rows, 1 << merge, 1),
        merge,
        rounding: Rounding { body, b0: 20, hint },
    };
    let runs = [
        (18, 100, of(1, 4, 128, 14, 34)),
        (18, 128, of(2, 6, 32, 14, 28)),
        (16, 30, of(1, 1, 128, 15, 30)),
        // Digits of two bits of a column of two: nothing but switches and hints.
        (4, 2, of(2, 5, 64, 10, 20)),
    ];
    for (seed, (ell, inner, choice)) in (1..).zip(runs) {
        check_noise(seed, sizes(choice.block.rows, inner, 50), ell, choice);
    }
}

/// Switches deviate from their mean by less than the bound that plans and the evaluator go by, and that by little.
#[test]
fn the_noise_of_switches_has_a_bound() {
    for set in [&T64N2048, &T64N4096] {
        let variance = |terms| lowkey_he::noise::variance(set, &[terms], Cross::NONE);
        let ratio = variance(merge::noise_bound(set, 4)) / variance(merge::noise(set, 4));
        // Eight deviations of 3 N squares, and of N.
        let n = set.degree as f64;
        let [least, most] = [3.0 * n, n].map(|count| 1.0 + 8.0 * (0.8 / count).sqrt());
        assert!((least..most).contains(&ratio), "{ratio}");
    }
}

/// More steps are taken where they are asked for, and only there.
#[test]
fn plans_merge_in_four_steps_unasked() {
    let (sizes, ell) = (sizes(10, 128, 128), 18);
    let merged = CrossPlan::merged(7, sizes, ell, Clear::Share).unwrap();
    let more = CrossPlan::merged_up_to(7, sizes, ell, Clear::Share, u32::MAX).unwrap();
    assert_eq!((merged.choice().merge, more.choice().merge), (4, 7));
    // The keys of the steps beyond four are more than they save.
    let total = |plan: &CrossPlan| KeyPlan::of_crosses([plan]).message_len() + plan.bodies_len() + plan.hints_len();
    assert!(total(&merged) < total(&more));
    for (steps, taken) in [(0, 1), (1, 1)] {
        let plan = CrossPlan::merged_up_to(7, sizes, ell, Clear::Share, steps).unwrap();
        assert_eq!(plan.choice().merge, taken);
    }
}

/// The same products as above, in kB both ways; and the keys of one party.
#[test]
fn merged_answers_take_a_third_of_the_bytes() {
    let known = Clear::Known { magnitude: 16 };
    let plan =
        |rows, inner, columns, ell, clear| CrossPlan::merged(1, sizes(rows, inner, columns), ell, clear).unwrap();
    let switches_part = |plan: &CrossPlan| {
        let LayerParameters { set, rounding, .. } = *plan.parameters();
        let drawn = Drawn::expected(set, rounding);
        let terms = budget::terms(set, plan.planned_norms(), drawn, rounding, plan.choice().merge);
        let variance = |terms| lowkey_he::noise::variance(set, terms, Cross::NONE);
        variance(&terms[1..]) / variance(&terms)
    };
    let kilobytes = |plan: &CrossPlan| (plan.bodies_len() + plan.hints_len()) as f64 / 1e3;
    let either = |m, k, n, ell| {
        let (a, b) = (plan(m, k, n, ell, Clear::Share), plan(n, k, m, ell, Clear::Share));
        if kilobytes(&a) <= kilobytes(&b) { a } else { b }
    };
    let all = [
        (plan(128, 784, 128, 18, known), 1usize, 520.0),
        (plan(128, 128, 784, 19, known), 1, 450.0),
        (either(128, 128, 128, 18), 4, 160.0),
        (either(128, 128, 128, 19), 2, 230.0),
        (either(128, 128, 10, 18), 2, 70.0),
        (either(128, 128, 10, 19), 2, 75.0),
        (either(128, 10, 128, 18), 2, 70.0),
    ];
    let mut total = 0.0;
    for (plan, times, most) in &all {
        assert!(switches_part(plan) < 0.02, "{:?}: {}", plan.sizes(), switches_part(plan));
        assert!(kilobytes(plan) < *most, "{:?}: {:.1} kB", plan.sizes(), kilobytes(plan));
        total += *times as f64 * kilobytes(plan);
    }
    let keys = KeyPlan::of_crosses(all.iter().map(|(plan, ..)| plan)).message_len();
    assert!(total < 2450.0 && keys < 160_000, "{total:.0} kB, and keys of {keys} bytes");
    // m of the party that owns most, which R1 counts.
    let bodies: usize = all.iter().map(|(plan, times, _)| times.div_ceil(2) * plan.count().polynomials).sum();
    assert_eq!(bodies, 114);
    // Seven steps of merging would save 0.195 MB of that, and cost three keys more at each party, 0.221 MB.
    let seven = |rows, columns, ell| {
        CrossPlan::merged_up_to(1, sizes(rows, 128, columns), ell, Clear::Share, MAX_STEPS).unwrap()
    };
    let more = [seven(10, 128, 18), seven(10, 128, 19)];
    let saved: f64 =
        all[4..6].iter().zip(&more).map(|((plan, ..), more)| 2.0 * (kilobytes(plan) - kilobytes(more))).sum();
    let cost = 2.0 * (KeyPlan::of_crosses(&more).message_len() - keys) as f64 / 1e3;
    assert!(saved < cost, "{saved:.0} kB, {cost:.0} kB");
    // The largest part of switches is that of the last product of seven steps, which counts.
    assert!((0.6..0.7).contains(&switches_part(&more[1])), "{}", switches_part(&more[1]));
}

/// Chi square over the top and the low bits of c, of one run: 32 bins, 5 deviations.
#[test]
fn the_owners_share_is_uniform() {
    let mut rng = ChaCha20Rng::seed_from_u64(11);
    let (sizes, ell) = (sizes(128, 32, 64), 18);
    let plan = CrossPlan::cheapest(7, sizes, ell, Clear::Share).unwrap();
    // Nothing in either operand: what is uniform comes from the masks.
    let run = check(&plan, &vec![0; sizes.encrypted()], &vec![0; sizes.clear()], &mut rng);
    for shares in [&run.c, &run.v] {
        for shift in [0, ell + 1 - 5] {
            let mut bins = [0f64; 32];
            shares.words().iter().for_each(|share| bins[(share >> shift & 31) as usize] += 1.0);
            let expected = shares.words().len() as f64 / 32.0;
            let chi: f64 = bins.iter().map(|bin| (bin - expected).powi(2) / expected).sum();
            assert!((chi - 31.0).abs() < 5.0 * 62f64.sqrt(), "{chi}: {bins:?}");
        }
    }
}

/// The cross terms of a training step of 784-128-128-10 at a batch of 128, in kB both ways: those of the design within 2 %.
#[test]
fn the_sizes_are_those_of_the_design() {
    let known = Clear::Known { magnitude: 16 };
    let of = |rows, inner, columns, ell, clear| {
        let plan = CrossPlan::cheapest(1, sizes(rows, inner, columns), ell, clear).unwrap();
        (plan.bodies_len() + plan.hints_len()) as f64 / 1e3
    };
    let share = Clear::Share;
    let all = [
        (of(128, 784, 128, 18, known), 1245.0),
        (of(128, 128, 784, 19, known), 1243.0),
        (of(128, 128, 128, 18, share), 582.0),
        (of(128, 128, 128, 19, share), 606.0),
        (of(128, 128, 10, 18, share), 157.0),
        (of(128, 128, 10, 19, share), 164.0),
        (of(128, 10, 128, 18, share), 165.0),
    ];
    for (planned, design) in all {
        assert!((0.98..1.02).contains(&(planned / design)), "{planned:.1} kB, the design has {design}");
    }
}

/// The first layer of that step, both ways round; some seconds without optimisation.
#[test]
fn a_first_layer_is_exact() {
    let mut rng = ChaCha20Rng::seed_from_u64(41);
    let (sizes, ell) = (sizes(128, 784, 128), 18);
    let plan = CrossPlan::cheapest(7, sizes, ell, Clear::Share).unwrap();
    let (a, b) = (uniform(sizes.encrypted(), ell, &mut rng), uniform(sizes.clear(), ell, &mut rng));
    check(&plan, &a, &b, &mut rng);
}

/// Both parties of a whole product, over owned messages.
fn whole(plan: ProductPlan, left: [&[u64]; 2], right: [&[u64]; 2], rng: &mut ChaCha20Rng) -> [Vec<u64>; 2] {
    let plan = Arc::new(plan);
    let epoch = EpochSeed(rng.random());
    let parties = [Party::Client, Party::Server];
    let key_plans = parties.map(|party| KeyPlan::of(party, [&*plan]));
    let all = KeyPlan::of_crosses([plan.cross()]);
    let (masks, mask0) = (plan.cross().masks(&epoch), all.masks(&epoch).unwrap());
    let mut own = key_plans.each_ref().map(|plan| plan.generate(&epoch, &mask0, rng).unwrap());
    let mut begun = vec![];
    for (at, party) in parties.into_iter().enumerate() {
        begun.push(plan.begin(party, left[at], right[at], &masks, &mut own[at].0, rng).unwrap());
        assert_eq!(begun[at].0.len(), plan.bodies_len(party));
    }
    let bodies: Vec<Vec<u8>> = begun.iter().map(|(bodies, _)| bodies.clone()).collect();
    let mut answered = vec![];
    for (at, (_, state)) in begun.into_iter().enumerate() {
        let keys = key_plans[1 - at].receive(&epoch, &own[1 - at].1).unwrap();
        let public = Public { masks: &masks, mask0: &mask0, keys: &keys };
        answered.push(state.answer(&bodies[1 - at], public, rng).unwrap());
        assert_eq!(answered[at].0.len(), plan.hints_len(parties[at]));
    }
    let hints: Vec<Vec<u8>> = answered.iter().map(|(hints, _)| hints.clone()).collect();
    let mut shares = answered
        .into_iter()
        .enumerate()
        .map(|(at, (_, state))| state.finish(&hints[1 - at], &own[at].0, rng).unwrap().words().to_vec());
    [shares.next().unwrap(), shares.next().unwrap()]
}

/// The sum of both shares is 2 z + rho with rho of mean 0 in -1..=1, whichever operand is encrypted.
fn check_whole(plan: ProductPlan, left: [&[u64]; 2], right: [&[u64]; 2], rng: &mut ChaCha20Rng) {
    let (sizes, ell) = (plan.sizes(), plan.ell());
    let add = |[a, b]: [&[u64]; 2]| a.iter().zip(b).map(|(a, b)| a.wrapping_add(*b)).collect::<Vec<u64>>();
    let exact = matrix_product(sizes, &add(left), &add(right));
    let [c, v] = whole(plan, left, right, rng);
    let rest = c
        .iter()
        .zip(&v)
        .zip(&exact)
        .map(|((c, v), z)| (c.wrapping_add(*v).wrapping_sub(z << 1) << (63 - ell)) as i64 >> (63 - ell));
    let rest: Vec<i64> = rest.collect();
    assert!(rest.iter().all(|rho| (-1..=1).contains(rho)), "{sizes:?}");
    let sum: i64 = rest.iter().sum();
    assert!((sum as f64).abs() < 5.0 * (rest.len() as f64 / 2.0).sqrt(), "{sum} of {}", rest.len());
}

#[test]
fn a_whole_product_is_shared_with_centred_guard_bits() {
    let mut rng = ChaCha20Rng::seed_from_u64(21);
    let ell = 18;
    for (sizes, encrypted) in
        [(sizes(30, 20, 9), Side::Right), (sizes(9, 20, 30), Side::Left), (sizes(64, 40, 64), Side::Left)]
    {
        let plan = ProductPlan::shared(3, sizes, ell, Answers::Plain).unwrap();
        assert_eq!(plan.encrypted(), encrypted, "{sizes:?}");
        for plan in [plan, ProductPlan::shared(3, sizes, ell, Answers::Merged).unwrap()] {
            let [left, right] =
                [sizes.encrypted(), sizes.clear()].map(|count| [0; 2].map(|_| uniform(count, ell, &mut rng)));
            check_whole(plan, left.each_ref().map(|x| &x[..]), right.each_ref().map(|x| &x[..]), &mut rng);
        }
    }
}

#[test]
fn a_whole_product_with_a_known_operand() {
    let mut rng = ChaCha20Rng::seed_from_u64(22);
    let (sizes, ell) = (sizes(40, 98, 16), 18);
    for answers in [Answers::Plain, Answers::Merged] {
        let [mine, theirs] = [Party::Client, Party::Server].map(|knower| {
            let plan = ProductPlan::known_left(3, sizes, ell, 16, knower, answers).unwrap();
            assert_eq!(plan.bodies_len(knower) + plan.hints_len(knower.peer()), 0);
            assert!(plan.owns(knower.peer()) && !plan.owns(knower));
            let left: Vec<u64> = (0..sizes.encrypted()).map(|_| rng.random_range(0..=16)).collect();
            let right = [0; 2].map(|_| uniform(sizes.clear(), ell, &mut rng));
            let mut both = [&left[..], &vec![0; left.len()]];
            if knower == Party::Server {
                both.reverse();
            }
            check_whole(plan.clone(), both, right.each_ref().map(|x| &x[..]), &mut rng);
            plan
        });
        assert_eq!((mine.cross(), mine.total_len()), (theirs.cross(), theirs.total_len()));
    }
}

/// c_0 v_0 is all that is missing once the lowest bits are off.
#[test]
fn a_guard_bit_comes_off_with_the_product_of_the_lowest_bits() {
    let mut rng = ChaCha20Rng::seed_from_u64(23);
    let (sizes, ell) = (sizes(16, 20, 16), 18);
    let plan = CrossPlan::cheapest(7, sizes, ell, Clear::Share).unwrap();
    let (a, b) = (uniform(sizes.encrypted(), ell, &mut rng), uniform(sizes.clear(), ell, &mut rng));
    let run = check(&plan, &a, &b, &mut rng);
    let ((c, c0), (v, v0)) = (split_guard(run.c), split_guard(run.v));
    for (at, z) in matrix_product(sizes, &a, &b).into_iter().enumerate() {
        let sum = c.words()[at] + v.words()[at] + c0[at] * v0[at];
        assert_eq!(sum & ((1 << ell) - 1), z & ((1 << ell) - 1));
    }
}

#[test]
fn bytes_of_the_peer_of_a_wrong_length_are_its_fault() {
    let mut rng = ChaCha20Rng::seed_from_u64(31);
    let sizes = sizes(5, 30, 3);
    let plan = CrossPlan::merged(7, sizes, 18, Clear::Share).unwrap();
    let key_plan = KeyPlan::of_crosses([&plan]);
    let epoch = EpochSeed([1; 32]);
    let (masks, mask0) = (plan.masks(&epoch), key_plan.masks(&epoch).unwrap());
    let (mut secrets, message) = key_plan.generate(&epoch, &mask0, &mut rng).unwrap();
    let keys = key_plan.receive(&epoch, &message).unwrap();
    let public = Public { masks: &masks, mask0: &mask0, keys: &keys };
    let (a, b) = (vec![0; sizes.encrypted()], vec![0; sizes.clear()]);
    let bodies = encrypt(&plan, &masks, &a, &mut secrets, &mut rng).unwrap();
    let hints = evaluate(&plan, public, &b, &bodies, &mut rng).unwrap().hints;
    for cut in [0, 1, bodies.len() - 1, bodies.len() + 1] {
        let bytes: Vec<u8> = bodies.iter().copied().chain([0]).take(cut).collect();
        let error = evaluate(&plan, public, &b, &bytes, &mut rng).unwrap_err();
        assert!(error.is_peer_fault(), "{error}");
    }
    for cut in [0, hints.len() - 1, hints.len() + 1] {
        let bytes: Vec<u8> = hints.iter().copied().chain([0]).take(cut).collect();
        assert!(share(&plan, &bytes, &secrets).unwrap_err().is_peer_fault());
    }
    for cut in [0, message.len() - 1] {
        assert!(key_plan.receive(&epoch, &message[..cut]).is_err_and(|error| error.is_peer_fault()));
    }
    // Arbitrary bytes of the right length are a share of nonsense and no panic, but for bits that no field uses.
    let noise: Vec<u8> = (0..bodies.len()).map(|_| rng.random()).collect();
    match evaluate(&plan, public, &b, &noise, &mut rng) {
        Ok(evaluated) => assert_eq!(evaluated.hints.len(), plan.hints_len()),
        Err(error) => assert!(error.is_peer_fault(), "{error}"),
    }
    let noise: Vec<u8> = (0..hints.len()).map(|_| rng.random()).collect();
    assert!(share(&plan, &noise, &secrets).is_ok_and(|share| share.words().len() == sizes.outputs()));
    // Our own mistakes are not the peer's.
    let again = encrypt(&plan, &masks, &a, &mut secrets, &mut rng).unwrap_err();
    assert!(matches!(again, BridgeError::He(HeError::MaskReused(_))) && !again.is_peer_fault());
}

#[test]
fn a_share_that_is_no_share_is_refused_and_so_are_numbers_that_are_too_large() {
    let mut rng = ChaCha20Rng::seed_from_u64(32);
    let (sizes, ell) = (sizes(8, 500, 4), 18);
    for (clear, wrong) in [(Clear::Share, 1u64 << (ell - 1)), (Clear::Known { magnitude: 3 }, 4)] {
        let plan = CrossPlan::cheapest(7, sizes, ell, clear).unwrap();
        let key_plan = KeyPlan::of_crosses([&plan]);
        let epoch = EpochSeed([1; 32]);
        let (masks, mask0) = (plan.masks(&epoch), key_plan.masks(&epoch).unwrap());
        let (mut secrets, message) = key_plan.generate(&epoch, &mask0, &mut rng).unwrap();
        let keys = key_plan.receive(&epoch, &message).unwrap();
        let public = Public { masks: &masks, mask0: &mask0, keys: &keys };
        let bodies = encrypt(&plan, &masks, &vec![1; sizes.encrypted()], &mut secrets, &mut rng).unwrap();
        let error = evaluate(&plan, public, &vec![wrong; sizes.clear()], &bodies, &mut rng).unwrap_err();
        assert!(!error.is_peer_fault(), "{error}");
    }
}

#[test]
fn plans_that_do_not_go_together_are_refused() {
    let (sizes, ell) = (sizes(8, 500, 4), 18);
    for zero in [Sizes { rows: 0, ..sizes }, Sizes { inner: 0, ..sizes }, Sizes { columns: 0, ..sizes }] {
        assert_eq!(CrossPlan::cheapest(7, zero, ell, Clear::Share), Err(PlanError::Empty));
        assert_eq!(CrossPlan::merged(7, zero, ell, Clear::Share), Err(PlanError::Empty));
        for answers in [Answers::Plain, Answers::Merged] {
            assert_eq!(ProductPlan::shared(7, zero, ell, answers), Err(PlanError::Empty));
            assert_eq!(ProductPlan::known_left(7, zero, ell, 16, Party::Server, answers), Err(PlanError::Empty));
        }
        let choice = CrossPlan::cheapest(7, sizes, ell, Clear::Share).unwrap().choice();
        assert_eq!(CrossPlan::new(7, zero, ell, Clear::Share, choice), Err(PlanError::Empty));
    }
    let good = CrossPlan::cheapest(7, sizes, ell, Clear::Share).unwrap().choice();
    let new = |domain, ell, clear, choice| CrossPlan::new(domain, sizes, ell, clear, choice).map(|_| ());
    assert_eq!(new(7, ell, Clear::Share, good), Ok(()));
    let wrong = Err(PlanError::Inconsistent);
    assert_eq!(new(u32::MAX, ell, Clear::Share, good), wrong);
    assert_eq!(new(7, 60, Clear::Share, good), wrong);
    assert_eq!(new(7, 0, Clear::Share, good), wrong);
    assert_eq!(new(7, ell, Clear::Share, Choice { digits: 0, ..good }), wrong);
    assert_eq!(new(7, ell, Clear::Share, Choice { digits: 17, ..good }), wrong);
    assert_eq!(new(7, ell, Clear::Share, Choice { set: &T32N2048, ..good }), wrong);
    assert_eq!(new(7, ell, Clear::Known { magnitude: 1 << 17 }, Choice { digits: 1, ..good }), wrong);
    for (merge, inner, columns) in [(3, 4, 1), (2, 4, 2), (200, 1, 1), (1, 2, 1)] {
        let block = Sizes { rows: 8, inner, columns };
        let fine = (merge, inner, columns) == (1, 2, 1);
        let rounding = Rounding { body: 0, b0: 0, hint: 0 };
        let choice = Choice { merge, block, rounding, ..good };
        assert_eq!(new(7, 12, Clear::Share, choice), if fine { Ok(()) } else { wrong });
    }
    let block = Sizes { rows: 8, inner: 500, columns: 2 };
    assert_eq!(new(7, ell, Clear::Share, Choice { block, ..good }), wrong);
    let rounding = Rounding { body: good.rounding.body + 3, ..good.rounding };
    assert_eq!(new(7, ell, Clear::Share, Choice { rounding, ..good }), Err(PlanError::Noise));
}

/// Every byte that travels and both shares, as digests: a changed byte shows here, and changes the protocol's version.
#[test]
fn the_bytes_are_pinned() {
    // FNV-1a: finds accidents.
    let digest = |bytes: &[u8]| {
        bytes
            .iter()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
    };
    let (sizes, ell) = (sizes(20, 30, 12), 18);
    let plans = [CrossPlan::cheapest(7, sizes, ell, Clear::Share), CrossPlan::merged(7, sizes, ell, Clear::Share)];
    let digests = plans.map(|plan| {
        let mut rng = ChaCha20Rng::seed_from_u64(51);
        let (a, b) = (uniform(sizes.encrypted(), ell, &mut rng), uniform(sizes.clear(), ell, &mut rng));
        let run = check(&plan.unwrap(), &a, &b, &mut rng);
        let shares = [run.c.words(), run.v.words()].concat().iter().flat_map(|word| word.to_le_bytes()).collect();
        [run.bodies, run.hints, shares].map(|bytes: Vec<u8>| (bytes.len(), digest(&bytes)))
    });
    assert_eq!(digests, PINNED);
}

/// Bodies, hints and shares of the test above, plain and merged.
const PINNED: [[(usize, u64); 3]; 2] = [
    [(20157, 2533361263429650738), (14336, 4120562263693621312), (3840, 7182640077609697725)],
    [(3450, 8259197293395176113), (7168, 15575479393117579427), (3840, 2970302351656435655)],
];
