//! Requantisation against plain integers, on rings small enough for every pair of shares and on large ones.

use super::*;
use crate::bits::Planes;
use crate::layout::Search;
use crate::program::testing::{ODD_LANES, open, run};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;
use std::sync::Arc;

/// The accumulator behind a pair of shares, and the activation that must come out.
fn expected(spec: Spec, c: u64, v: u64) -> u64 {
    let width = spec.width() as u32;
    let x = (c.wrapping_add(v) << (64 - width)) as i64 >> (64 - width) >> spec.guard;
    if spec.effective_bits().unwrap() == 1 {
        // The server has subtracted 2^s: only the sign counts.
        u64::from(x >= 0)
    } else {
        ideal(spec, x)
    }
}

/// Runs one layout and compares every lane.
fn check(spec: Spec, layout: &Layout, form: Finish, c: &[u64], v: &[u64], seed: u64) {
    let program = Arc::new(program(spec, layout, form).unwrap());
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
        let want = expected(spec, c[lane], v[lane]) & kept;
        assert_eq!(y, want, "{spec:?} {layout:?} {form:?} c={} v={} seed {seed}", c[lane], v[lane]);
    }
}

/// Every pair of shares of a small ring.
fn all_pairs(width: usize) -> (Vec<u64>, Vec<u64>) {
    (0..1 << width).flat_map(|c| (0..1 << width).map(move |v| (c, v))).unzip()
}

#[test]
fn exhaustive_on_small_rings() {
    let specs = [(6, 2, 2, 1), (6, 2, 3, 1), (6, 4, 1, 1), (6, 3, 2, 1), (6, 2, 2, 0), (5, 0, 2, 1), (5, 0, 3, 0), (5, 2, 8, 1)];
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
/// (ell, shift, bits, ring), price of an OT, then (flights, bits per activation, OTs that the client and the server
/// receive) of every layout found.
type Found = ((u8, u8, u8, u8), f64, &'static [(u32, usize, usize, usize)]);

/// What the executable specification of the design finds, less the bits of the next body.
const REFERENCE: [Found; 12] = [
    ((13, 7, 4, 13), 0.73, &[(6, 128, 18, 10), (8, 109, 11, 12), (10, 103, 10, 14), (12, 100, 7, 18), (14, 98, 3, 24), (16, 97, 3, 25)]),
    ((13, 7, 4, 13), 1.37, &[(6, 128, 18, 10), (8, 109, 11, 12), (10, 103, 10, 14)]),
    ((15, 8, 4, 15), 0.73, &[(6, 151, 21, 12), (8, 132, 13, 15), (10, 125, 10, 17), (12, 120, 10, 18), (14, 117, 7, 22), (16, 115, 6, 25), (18, 113, 3, 30)]),
    ((15, 8, 4, 15), 1.37, &[(6, 154, 19, 11), (8, 135, 11, 14), (10, 127, 14, 13), (12, 120, 10, 18)]),
    ((12, 7, 3, 12), 0.73, &[(6, 119, 16, 9), (8, 99, 8, 14), (10, 93, 10, 13), (12, 90, 7, 17), (14, 88, 3, 23)]),
    ((12, 7, 3, 12), 1.37, &[(6, 122, 9, 12), (8, 99, 8, 14), (10, 93, 10, 13)]),
    ((10, 6, 2, 10), 0.73, &[(6, 89, 8, 11), (8, 77, 7, 11), (10, 75, 4, 16), (12, 73, 3, 19)]),
    ((10, 6, 2, 10), 1.37, &[(6, 89, 8, 11), (8, 77, 7, 11)]),
    ((9, 7, 1, 9), 0.73, &[(4, 62, 9, 6), (6, 55, 6, 8), (8, 53, 5, 11), (10, 52, 2, 15)]),
    ((9, 7, 1, 9), 1.37, &[(4, 65, 7, 5), (6, 56, 6, 7)]),
    ((23, 12, 8, 22), 0.73, &[(6, 265, 28, 13), (8, 246, 18, 18), (10, 212, 19, 19), (12, 194, 19, 21), (14, 187, 16, 23), (16, 182, 16, 24), (18, 179, 13, 28), (20, 177, 10, 33), (22, 175, 9, 36), (24, 173, 6, 41), (26, 171, 3, 46)]),
    ((23, 12, 8, 22), 1.37, &[(6, 265, 28, 13), (8, 246, 18, 18), (10, 212, 19, 19), (12, 197, 17, 20), (14, 189, 20, 19), (16, 182, 16, 24)]),
];

#[test]
fn search_finds_what_the_specification_finds() {
    for ((ell, shift, bits, ring), ot_price, expected) in REFERENCE {
        let (spec, form) = (Spec { ell, shift, bits, guard: 1 }, Finish::Upload { ring });
        let found = Search::new(ot_price).requantise(spec, form).unwrap();
        let found: Vec<_> = (found.iter())
            .map(|choice| {
                let program = program(spec, &choice.layout, form).unwrap();
                let bits: usize = program.tally().frames().map(|(_, _, bits)| bits).sum();
                let ots = program.ots();
                assert!((choice.price - bits as f64 - ot_price * ots.total() as f64).abs() < 1e-9);
                assert_eq!(choice.flights, program.cost(1).flights());
                (choice.flights, bits, ots.client_receives, ots.server_receives)
            })
            .collect();
        assert_eq!(found, expected, "{spec:?} at {ot_price} bits per OT");
    }
}

#[test]
#[ignore]
fn timing() {
    use crate::ot::ideal;
    for (ell, shift, bits, ring) in [(13, 7, 4, 13), (12, 7, 3, 12), (10, 6, 2, 10), (9, 7, 1, 9), (23, 12, 8, 22)] {
        let (spec, form) = (Spec { ell, shift, bits, guard: 1 }, Finish::Upload { ring });
        let found = Search::new(0.73).requantise(spec, form).unwrap();
        for choice in [&found[0], &found[found.len() / 2]] {
            let t = std::time::Instant::now();
            let program = Arc::new(program(spec, &choice.layout, form).unwrap());
            println!("{spec:?} compile {:?}", t.elapsed());
            let lanes = 1 << 16;
            let mut rng = ChaCha20Rng::seed_from_u64(1);
            let c = Planes::random(lanes, spec.width(), &mut rng);
            let x = Planes::random(lanes, ring.into(), &mut rng);
            let v = Planes::random(lanes, spec.width(), &mut rng);
            for _ in 0..2 {
                let (client, server) = ideal::deal(program.ots() * lanes, &mut rng);
                let t = std::time::Instant::now();
                let client = program.prepare(lanes, client).unwrap();
                let pc = t.elapsed();
                let t = std::time::Instant::now();
                let server = program.prepare(lanes, server).unwrap();
                let ps = t.elapsed();
                let t = std::time::Instant::now();
                let mut frames = Vec::new();
                let mut client = client.offline(vec![c.clone(), x.clone()]);
                let mut server = server.offline(vec![]);
                crate::program::testing::converse(&mut client, &mut server, crate::party::Stage::Offline, &mut frames);
                let off = t.elapsed();
                let t = std::time::Instant::now();
                let mut client = client.finish().online(vec![]);
                let mut server = server.finish().online(vec![v.clone()]);
                crate::program::testing::converse(&mut client, &mut server, crate::party::Stage::Online, &mut frames);
                let on = t.elapsed();
                println!("  prepare c {pc:?} s {ps:?} offline both {off:?} online both {on:?} slots {} {} regs {} {}", program.client.slots, program.server.slots, program.client.registers, program.server.registers);
            }
        }
    }
}
