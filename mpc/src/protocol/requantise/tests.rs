//! Requantisation against plain integers, on rings small enough for every pair of shares and on large ones.

use super::*;
use crate::layout::{Choice, HighBits, Search, Start};
use crate::primitive::bits::Planes;
use crate::program::testing::{ODD_LANES, open, run};
use crate::spec::Part;
use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;
use std::sync::Arc;

/// The accumulator behind a pair of shares.
fn accumulator(spec: Spec, c: u64, v: u64) -> i64 {
    let width = spec.width() as u32;
    (c.wrapping_add(v) << (64 - width)) as i64 >> (64 - width) >> spec.guard
}

/// The activation that must come out of a pair of shares.
fn expected(spec: Spec, clip: Clip, c: u64, v: u64) -> u64 {
    let z = accumulator(spec, c, v);
    if spec.effective_bits().unwrap() == 1 {
        // The server has subtracted 2^s: only the sign counts.
        u64::from(z >= 0)
    } else {
        ideal_clipped(spec, clip, z)
    }
}

/// Runs one layout and compares every lane.
fn check(spec: Spec, layout: &Layout, form: Finish, c: &[u64], v: &[u64], seed: u64) {
    check_clipped(spec, Clip::default(), layout, form, c, v, seed);
}

fn check_clipped(spec: Spec, clip: Clip, layout: &Layout, form: Finish, c: &[u64], v: &[u64], seed: u64) {
    let program = Arc::new(program_clipped(spec, clip, layout, form, Time::OFFLINE, Time::START).unwrap());
    let (lanes, bits) = (c.len(), spec.effective_bits().unwrap());
    let ring = form.ring(bits);
    let kept = u64::MAX >> (64 - ring);
    let xhat = Planes::random(lanes, ring, &mut ChaCha20Rng::seed_from_u64(!seed));
    let (c_planes, v_planes) = (Planes::from_lanes(c, spec.width()), Planes::from_lanes(v, spec.width()));
    let got = match form {
        Finish::Upload { .. } => {
            let outcome = run(&program, lanes, &[c_planes, xhat.clone(), v_planes], seed);
            open(&xhat, &outcome.server[0])
        }
        Finish::Small | Finish::Share { .. } => {
            let outcome = run(&program, lanes, &[c_planes, v_planes], seed);
            open(&outcome.client[0], &outcome.server[0])
        }
    };
    for (lane, y) in got.into_iter().enumerate() {
        let want = expected(spec, clip, c[lane], v[lane]) & kept;
        assert_eq!(y, want, "{spec:?} {clip:?} {layout:?} {form:?} c={} v={} seed {seed}", c[lane], v[lane]);
    }
}

/// Every pair of shares of a small ring.
fn all_pairs(width: usize) -> (Vec<u64>, Vec<u64>) {
    (0..1 << width).flat_map(|c| (0..1 << width).map(move |v| (c, v))).unzip()
}

/// Pairs of shares whose accumulators the clip allows.
fn allowed(spec: Spec, clip: Clip, (c, v): (Vec<u64>, Vec<u64>)) -> (Vec<u64>, Vec<u64>) {
    let least = -(1_i64 << (spec.ell - 1)) + (1 << (spec.shift + spec.bits));
    let fits = |(c, v): &(u64, u64)| !clip.spare || accumulator(spec, *c, *v) >= least;
    c.into_iter().zip(v).filter(fits).unzip()
}

#[test]
fn exhaustive_on_small_rings() {
    let specs = [
        (6, 2, 2, 1),
        (6, 2, 3, 1),
        (6, 4, 1, 1),
        (6, 3, 2, 1),
        (6, 2, 2, 0),
        (5, 0, 2, 1),
        (5, 0, 3, 0),
        (5, 2, 8, 1),
        (7, 0, 2, 0),
    ];
    for (ell, shift, bits, guard) in specs {
        let spec = Spec { ell, shift, bits, guard };
        let (c, v) = all_pairs(spec.width());
        for form in [Finish::Small, Finish::Share { ring: 7 }, Finish::Upload { ring: 4 }] {
            for choice in Search::new(0.73).requantise(spec, form).unwrap().iter() {
                check(spec, &choice.layout, form, &c, &v, 1);
            }
        }
    }
}

/// Every pair of shares of small rings, every clip, and not only the best layouts but all that the search looks at.
#[test]
fn exhaustive_with_every_clip_and_candidate() {
    for (ell, shift, bits, guard) in
        [(6, 2, 2, 1), (5, 1, 2, 0), (6, 2, 3, 0), (6, 0, 2, 0), (5, 0, 3, 1), (6, 1, 3, 0)]
    {
        let spec = Spec { ell, shift, bits, guard };
        for (top, spare) in (1 << (bits - 1)..1 << bits).flat_map(|top| [(top, false), (top, true)]) {
            let clip = Clip { top, spare };
            if spare && ell == shift + bits + 1 {
                continue;
            }
            let (c, v) = allowed(spec, clip, all_pairs(spec.width()));
            let mut search = Search::new(0.73);
            let candidates = search.candidates(spec, clip, Finish::Small, PREPARED).unwrap();
            let some = candidates.len().div_ceil(40);
            assert!(candidates.iter().any(|layout| layout.high_bits == HighBits::Chain));
            for layout in candidates.iter().step_by(some) {
                check_clipped(spec, clip, layout, Finish::Small, &c, &v, 2);
            }
            for choice in
                search.requantise_clipped(spec, clip, Finish::Small, Time::OFFLINE, Time::START).unwrap().iter()
            {
                check_clipped(spec, clip, &choice.layout, Finish::Small, &c, &v, 3);
            }
        }
    }
}

/// (ell, shift, bits, ring), price of an OT, then (flights, bits per activation, OTs that the client and the server
/// receive) of every layout found.
type Found = ((u8, u8, u8, u8), f64, &'static [(u32, usize, usize, usize)]);

/// What an independent search under the same cost model finds, less the bits of the next body.
const REFERENCE: [Found; 12] = [
    (
        (13, 7, 4, 13),
        0.73,
        &[(6, 128, 18, 10), (8, 109, 11, 12), (10, 103, 10, 14), (12, 100, 7, 18), (14, 98, 3, 24), (16, 97, 3, 25)],
    ),
    ((13, 7, 4, 13), 1.37, &[(6, 128, 18, 10), (8, 109, 11, 12), (10, 103, 10, 14)]),
    (
        (15, 8, 4, 15),
        0.73,
        &[
            (6, 151, 21, 12),
            (8, 132, 13, 15),
            (10, 125, 10, 17),
            (12, 120, 10, 18),
            (14, 117, 7, 22),
            (16, 115, 6, 25),
            (18, 113, 3, 30),
        ],
    ),
    ((15, 8, 4, 15), 1.37, &[(6, 154, 19, 11), (8, 135, 11, 14), (10, 127, 14, 13), (12, 120, 10, 18)]),
    ((12, 7, 3, 12), 0.73, &[(6, 119, 16, 9), (8, 99, 8, 14), (10, 93, 10, 13), (12, 90, 7, 17), (14, 88, 3, 23)]),
    ((12, 7, 3, 12), 1.37, &[(6, 122, 9, 12), (8, 99, 8, 14), (10, 93, 10, 13)]),
    ((10, 6, 2, 10), 0.73, &[(6, 89, 8, 11), (8, 77, 7, 11), (10, 75, 4, 16), (12, 73, 3, 19)]),
    ((10, 6, 2, 10), 1.37, &[(6, 89, 8, 11), (8, 77, 7, 11)]),
    ((9, 7, 1, 9), 0.73, &[(4, 62, 9, 6), (6, 55, 6, 8), (8, 53, 5, 11), (10, 52, 2, 15)]),
    ((9, 7, 1, 9), 1.37, &[(4, 65, 7, 5), (6, 56, 6, 7)]),
    (
        (23, 12, 8, 22),
        0.73,
        &[
            (6, 265, 28, 13),
            (8, 246, 18, 18),
            (10, 212, 19, 19),
            (12, 194, 19, 21),
            (14, 187, 16, 23),
            (16, 182, 16, 24),
            (18, 179, 13, 28),
            (20, 177, 10, 33),
            (22, 175, 9, 36),
            (24, 173, 6, 41),
            (26, 171, 3, 46),
        ],
    ),
    (
        (23, 12, 8, 22),
        1.37,
        &[
            (6, 265, 28, 13),
            (8, 246, 18, 18),
            (10, 212, 19, 19),
            (12, 197, 17, 20),
            (14, 189, 20, 19),
            (16, 182, 16, 24),
        ],
    ),
];

/// A prepared layer: the client knows its share before the input exists.
const PREPARED: Start = Start { server: Time::START, client: Time::OFFLINE, carry_in: false };

/// (ell, shift, bits) of a layer, how it ends, its clip, and the costs of its layouts.
type Pinned = ((u8, u8, u8), Finish, Clip, &'static [(u32, usize, usize, usize)]);

/// (flights, bits, OTs that the client and the server receive) of layouts, and their prices.
fn costs(
    spec: Spec,
    clip: Clip,
    form: Finish,
    found: &[Choice<Layout>],
    ot_price: f64,
) -> Vec<(u32, usize, usize, usize)> {
    let cost = |choice: &Choice<Layout>| {
        let program = program_clipped(spec, clip, &choice.layout, form, Time::OFFLINE, Time::START).unwrap();
        let bits: usize = program.tally().frames().map(|(_, _, bits)| bits).sum();
        let ots = program.ots();
        assert!((choice.price - bits as f64 - ot_price * ots.total() as f64).abs() < 1e-9);
        assert_eq!(choice.flights, program.cost(1).flights());
        (choice.flights, bits, ots.client_receives, ots.server_receives)
    };
    found.iter().map(cost).collect()
}

/// Two conversions of a bit less: for every number of flights we need fewer bits than the specification.
#[test]
fn search_finds_better_than_the_specification() {
    for ((ell, shift, bits, ring), ot_price, expected) in REFERENCE {
        let (spec, form) = (Spec { ell, shift, bits, guard: 1 }, Finish::Upload { ring });
        let found = Search::new(ot_price).requantise(spec, form).unwrap();
        let less = if bits == 1 { 1.0 } else { 2.0 };
        for (flights, sent, c, s) in expected {
            let price = *sent as f64 + ot_price * (c + s) as f64;
            let ours = found.iter().rfind(|ours| ours.flights <= *flights).unwrap();
            assert!(ours.price < price - less + 1e-9, "{spec:?}: {price} bits in {flights} flights, ours {ours:?}");
        }
    }
}

/// (flights, bits, OTs that the client and the server receive) of every layout, for an OT of 0.73 bits.
#[test]
fn costs_are_pinned() {
    let known = Clip { spare: true, ..Clip::default() };
    let low = Clip { top: 11, ..Clip::default() };
    let upload = |ring| Finish::Upload { ring };
    let cases: [Pinned; 9] = [
        (
            (13, 7, 4),
            upload(13),
            Clip::default(),
            &[(6, 126, 18, 10), (8, 107, 11, 12), (10, 100, 10, 13), (12, 98, 7, 18), (14, 96, 3, 24), (16, 94, 3, 26)],
        ),
        (
            (13, 7, 4),
            upload(13),
            known,
            &[(6, 126, 18, 10), (8, 102, 11, 11), (10, 95, 10, 13), (12, 93, 7, 18), (14, 91, 3, 24), (16, 90, 3, 25)],
        ),
        (
            (13, 7, 4),
            upload(13),
            low,
            &[(8, 173, 11, 12), (10, 112, 9, 18), (12, 106, 8, 21), (14, 104, 4, 27), (16, 103, 4, 28)],
        ),
        (
            (10, 4, 4),
            Finish::Small,
            Clip::default(),
            &[
                (4, 99, 13, 8),
                (5, 84, 9, 8),
                (6, 67, 10, 8),
                (7, 65, 7, 10),
                (8, 64, 7, 11),
                (9, 63, 6, 13),
                (10, 62, 6, 14),
                (11, 61, 3, 18),
                (12, 60, 3, 19),
            ],
        ),
        (
            (10, 4, 4),
            Finish::Small,
            known,
            &[
                (4, 99, 13, 8),
                (5, 79, 9, 7),
                (6, 62, 7, 10),
                (7, 60, 7, 10),
                (8, 59, 7, 11),
                (9, 58, 6, 13),
                (10, 57, 6, 14),
                (11, 56, 3, 18),
            ],
        ),
        (
            (12, 6, 4),
            upload(12),
            Clip::default(),
            &[(6, 115, 17, 10), (8, 96, 10, 12), (10, 93, 10, 12), (12, 91, 6, 18), (14, 89, 3, 23), (16, 88, 3, 24)],
        ),
        (
            (12, 6, 4),
            upload(12),
            known,
            &[(6, 117, 10, 9), (8, 91, 10, 11), (10, 88, 10, 12), (12, 86, 6, 18), (14, 84, 3, 23)],
        ),
        ((10, 6, 2), upload(10), Clip::default(), &[(6, 86, 8, 10), (8, 75, 7, 11), (10, 73, 4, 16), (12, 71, 3, 19)]),
        ((9, 7, 1), upload(9), Clip::default(), &[(4, 61, 9, 6), (6, 54, 6, 8), (8, 52, 5, 11), (10, 51, 2, 15)]),
    ];
    for ((ell, shift, bits), form, clip, expected) in cases {
        let spec = Spec { ell, shift, bits, guard: 1 };
        let found = Search::new(0.73).requantise_clipped(spec, clip, form, Time::OFFLINE, Time::START).unwrap();
        assert_eq!(costs(spec, clip, form, &found, 0.73), expected, "{spec:?} {clip:?} {form:?}");
    }
}

#[test]
fn random_and_edges_on_large_rings() {
    let specs = [
        (9, 7, 1, 1),
        (10, 6, 2, 1),
        (12, 7, 3, 1),
        (13, 7, 4, 1),
        (15, 8, 5, 1),
        (17, 3, 6, 1),
        (20, 0, 7, 0),
        (23, 12, 8, 1),
        (40, 30, 8, 1),
        (40, 10, 4, 0),
        (48, 47, 8, 1),
        (48, 40, 8, 1),
        (56, 40, 8, 1),
        (56, 44, 8, 1),
    ];
    for (seed, (ell, shift, bits, guard)) in specs.into_iter().enumerate() {
        let spec = Spec { ell, shift, bits, guard };
        let (c, v) = samples(spec, 300, seed as u64);
        let mut search = Search::new(1.37);
        for form in [Finish::Small, Finish::Share { ring: 20 }, Finish::Upload { ring: 9 }] {
            let Ok(found) = search.requantise(spec, form) else {
                assert_eq!(spec.effective_bits(), Err(LayoutError::Spec(spec)));
                continue;
            };
            for choice in [&found[0], &found[found.len() / 2], &found[found.len() - 1]] {
                check(spec, &choice.layout, form, &c, &v, seed as u64);
            }
            let a = spec.effective_bits().unwrap();
            for (top, spare) in [(1 << (a - 1), false), ((1_u16 << a) - 2, true), ((1 << a) - 1, true)] {
                let clip = Clip { top: top as u8, spare };
                if a == 1 || (spare && usize::from(ell) < usize::from(shift) + a + 2) {
                    continue;
                }
                let (c, v) = allowed(spec, clip, (c.clone(), v.clone()));
                let found = search.requantise_clipped(spec, clip, form, Time::OFFLINE, Time::START).unwrap();
                for choice in [&found[0], &found[found.len() - 1]] {
                    check_clipped(spec, clip, &choice.layout, form, &c, &v, seed as u64);
                }
            }
        }
    }
}

/// Random shares of random accumulators and of those at the edges of every step and of the ring, for every r.
fn samples(spec: Spec, random: usize, seed: u64) -> (Vec<u64>, Vec<u64>) {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let kept = u64::MAX >> (64 - spec.width());
    let (top, half) = (1_i64 << spec.effective_bits().unwrap_or(1), 1_i64 << (spec.ell - 1));
    let steps = [-half, -half + 1, -1, 0, 1, half - 1].into_iter();
    let near = (0..=top).flat_map(|y| [-1, 0, 1].map(|off| (y << spec.shift) + off)).filter(|z| *z < half);
    let edges: Vec<u64> =
        steps.chain(near).flat_map(|z| (0..1_u64 << spec.guard).map(move |r| ((z << spec.guard) as u64) | r)).collect();
    let uniform = (0..random).map(|_| rng.next_u64());
    let x: Vec<u64> = edges.into_iter().chain(uniform).collect();
    let mut rng = ChaCha20Rng::seed_from_u64(!seed);
    x.into_iter()
        .map(|x| {
            let c = rng.next_u64() & kept;
            (c, x.wrapping_sub(c) & kept)
        })
        .unzip()
}

#[test]
fn any_number_of_lanes() {
    let spec = Spec { ell: 13, shift: 7, bits: 4, guard: 1 };
    let (c, v) = samples(spec, 5000, 4);
    for form in [Finish::Upload { ring: 13 }, Finish::Small] {
        let found = Search::new(0.73).requantise(spec, form).unwrap();
        for lanes in ODD_LANES.into_iter().chain([512, 513, 4096, 5000]) {
            check(spec, &found[1].layout, form, &c[..lanes], &v[..lanes], lanes as u64);
        }
    }
}

/// Shares that arrive late or early change frames, never results: the parts of a chain of programs.
#[test]
fn any_times() {
    let spec = Spec { ell: 10, shift: 4, bits: 3, guard: 1 };
    let form = Finish::Share { ring: 8 };
    let (c, v) = samples(spec, 64, 11);
    let late = (Time::Online(5), Time::Online(2));
    for (c_time, v_time) in [(Time::START, Time::START), late, (Time::OFFLINE, Time::OFFLINE)] {
        for choice in Search::new(0.73).requantise_at(spec, form, c_time, v_time).unwrap().iter() {
            let program = Arc::new(program_at(spec, &choice.layout, form, c_time, v_time).unwrap());
            assert_eq!(program.cost(1).flights(), choice.flights);
            let inputs = [Planes::from_lanes(&c, spec.width()), Planes::from_lanes(&v, spec.width())];
            let outcome = run(&program, c.len(), &inputs, 3);
            for (lane, y) in open(&outcome.client[0], &outcome.server[0]).into_iter().enumerate() {
                assert_eq!(y, expected(spec, Clip::default(), c[lane], v[lane]), "{c_time:?} {v_time:?}");
            }
        }
    }
}

#[test]
fn refuses_layouts_that_do_not_fit() {
    let (spec, form) = (Spec { ell: 13, shift: 7, bits: 4, guard: 1 }, Finish::Upload { ring: 13 });
    let good = Layout {
        low: vec![Part::Digit(4), Part::Digit(4)],
        mid: vec![Part::Digit(4)],
        high: vec![],
        high_bits: HighBits::Table,
        joined: true,
    };
    assert_eq!(good.check(spec, form), Ok(()));
    let bad = [
        Layout { low: vec![Part::Digit(4)], ..good.clone() },
        Layout { low: vec![Part::Digit(8)], ..good.clone() },
        Layout { low: vec![Part::Digit(4), Part::Digit(4), Part::Digit(0)], ..good.clone() },
        Layout { low: vec![Part::Block(vec![1; 8]), Part::Block(vec![])], ..good.clone() },
        Layout { low: vec![Part::Block(vec![255; 1 << 20])], ..good.clone() },
        Layout { mid: vec![], ..good.clone() },
        Layout { mid: vec![Part::Digit(4), Part::Digit(1)], ..good.clone() },
        Layout { high: vec![2], ..good.clone() },
        Layout { high: vec![1, 0], ..good.clone() },
        Layout { high_bits: HighBits::Chain, ..good.clone() },
        Layout { high: vec![2], high_bits: HighBits::Chain, ..good.clone() },
        Layout { high: vec![1], high_bits: HighBits::Skip, ..good.clone() },
    ];
    for layout in bad {
        assert!(program(spec, &layout, form).is_err(), "{layout:?}");
    }
    let wide = Spec { shift: 2, ..spec };
    let low = vec![Part::Digit(3)];
    for (high, high_bits, fits) in
        [(vec![], HighBits::Table, false), (vec![], HighBits::Skip, false), (vec![2], HighBits::Table, true)]
    {
        assert_eq!(program(wide, &Layout { low: low.clone(), high, high_bits, ..good.clone() }, form).is_ok(), fits);
    }
    for spec in [Spec { ell: 8, ..spec }, Spec { ell: 57, ..spec }, Spec { bits: 0, ..spec }, Spec { bits: 9, ..spec }]
    {
        assert!(Search::new(0.73).requantise(spec, form).is_err(), "{spec:?}");
    }
    assert!(Search::new(0.73).requantise(spec, Finish::Share { ring: 3 }).is_err());
    assert!(Search::new(0.73).requantise(spec, Finish::Share { ring: 65 }).is_err());
}

#[test]
fn few_bits_left_run_without_clip() {
    let spec = Spec { ell: 9, shift: 5, bits: 8, guard: 1 };
    assert_eq!((spec.effective_bits(), spec.is_sign()), (Ok(3), Ok(false)));
    assert_eq!(Spec { shift: 7, ..spec }.is_sign(), Ok(true));
    assert!(Spec { shift: 8, ..spec }.effective_bits().is_err());
    for z in -256..256 {
        assert!(ideal(spec, z) < 8);
    }
}

fn any_part() -> impl Strategy<Value = Part> {
    prop_oneof![(0..6_u8).prop_map(Part::Digit), prop::collection::vec(0..6_u8, 0..4).prop_map(Part::Block)]
}

fn any_layout() -> impl Strategy<Value = Layout> {
    let parts = || prop::collection::vec(any_part(), 0..4);
    let high_bits = prop_oneof![Just(HighBits::Chain), Just(HighBits::Table), Just(HighBits::Skip)];
    let high = prop::collection::vec(0..6_u8, 0..3);
    let layout = (parts(), parts(), high, high_bits, any::<bool>());
    layout.prop_map(|(low, mid, high, high_bits, joined)| Layout { low, mid, high, high_bits, joined })
}

proptest! {
    /// Whatever a peer proposes is refused or computes the right thing.
    #[test]
    fn layouts_of_a_peer_are_refused_or_right(
        layout in any_layout(), ell in 0..14_u8, shift in 0..10_u8, bits in 0..10_u8, guard in 0..3_u8, ring in 0..70_u8,
        top in prop_oneof![Just(u8::MAX), any::<u8>(), 0..16_u8],
    ) {
        let clip = Clip { top, spare: false };
        let (spec, form) = (Spec { ell, shift, bits, guard }, Finish::Share { ring });
        // Digits that fit are rare among random ones: also try them on the layer that they cover.
        let covered = |parts: &[Part]| parts.iter().map(Part::bits).sum::<usize>() as u8;
        let fitting = Spec {
            ell: covered(&layout.low) + covered(&layout.mid) + bits % 6,
            shift: covered(&layout.low).saturating_sub(1),
            bits: covered(&layout.mid),
            guard: 1,
        };
        for spec in [spec, fitting] {
            match program_clipped(spec, clip, &layout, form, Time::OFFLINE, Time::START) {
                Ok(_) => {
                    let (c, v) = samples(spec, 20, 1);
                    check_clipped(spec, clip, &layout, form, &c, &v, 1);
                }
                Err(error) => prop_assert_eq!(layout.check_clipped(spec, clip, form), Err(error)),
            }
        }
    }
}
