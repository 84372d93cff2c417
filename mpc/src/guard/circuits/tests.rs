//! Circuits against the ideal versions of the protocols that they stand for.

use super::*;
use crate::guard::testing::{Given, deal_bits, evaluate, rng};
use crate::primitive::bits::Planes;
use crate::protocol::requantise::{ideal, ideal_clipped};
use rand::Rng;

fn signed(value: u64, bits: usize) -> i64 {
    (value << (64 - bits)).cast_signed() >> (64 - bits)
}

/// Random shares, and what must come out of them.
fn shares(spec: Spec, clip: Clip, lanes: usize, seed: u64) -> (Vec<u64>, Vec<u64>, Vec<u64>) {
    let (rng, kept) = (&mut rng(seed), u64::MAX >> (64 - spec.width()));
    let mut all = (Vec::new(), Vec::new(), Vec::new());
    for lane in 0..lanes {
        let c = rng.next_u64() & kept;
        // Half of them small, so that not all are clipped.
        let sum = if lane % 2 == 0 { rng.next_u64() & kept } else { rng.next_u64() & kept >> 2 };
        let z = signed(sum, spec.width()) >> spec.guard;
        all.0.push(c);
        all.1.push(sum.wrapping_sub(c) & kept);
        all.2.push(if spec.effective_bits().unwrap() == 1 { u64::from(z >= 0) } else { ideal_clipped(spec, clip, z) });
    }
    all
}

async fn check(spec: Spec, clip: Clip, ring: u8, lanes: usize, seed: u64) {
    for how in [Carry::Ripple, Carry::Prefix] {
        check_by(how, spec, clip, ring, lanes, seed).await;
    }
}

async fn check_by(how: Carry, spec: Spec, clip: Clip, ring: u8, lanes: usize, seed: u64) {
    let circuit = requantise_by(how, spec, clip, Some(ring)).unwrap();
    let (c, v, y) = shares(spec, clip, lanes, seed);
    let xhat = Planes::random(lanes, ring.into(), &mut rng(!seed));
    let given = Given {
        early: vec![Planes::from_lanes(&c, spec.width()), xhat.clone()],
        server: vec![Planes::from_lanes(&v, spec.width())],
        ..Given::default()
    };
    let [_, server] = evaluate(circuit, lanes, given, seed).await.unwrap();
    let m: Vec<u64> = server.opened[0].to_lanes();
    let x = xhat.to_lanes::<u64>();
    for lane in 0..lanes {
        let got = m[lane].wrapping_add(x[lane]) & (u64::MAX >> (64 - ring));
        assert_eq!(got, y[lane], "{spec:?} {clip:?} c={} v={} seed {seed}", c[lane], v[lane]);
    }
}

#[tokio::test]
async fn requantise_is_the_ideal_version() {
    for (ell, shift, bits, guard, ring) in [
        (13, 7, 4, 1, 13),
        (13, 7, 4, 0, 4),
        (13, 9, 4, 1, 5),
        (6, 2, 3, 1, 7),
        (9, 7, 1, 1, 9),
        (5, 2, 8, 1, 6),
        (10, 0, 2, 0, 10),
        (23, 12, 8, 1, 22),
        (16, 5, 4, 1, 14),
        (40, 20, 8, 1, 40),
    ] {
        check(Spec { ell, shift, bits, guard }, Clip::default(), ring, 1000, u64::from(ell)).await;
    }
    check(Spec { ell: 13, shift: 7, bits: 4, guard: 1 }, Clip::default(), 13, 20_000, 1).await;
}

#[tokio::test]
async fn requantise_with_a_top_below_the_largest() {
    for top in [8, 9, 11, 14, 15, 255] {
        check(Spec { ell: 12, shift: 5, bits: 4, guard: 1 }, Clip { top, spare: false }, 8, 1000, 5).await;
    }
    assert!(requantise(Spec { ell: 12, shift: 5, bits: 4, guard: 1 }, Clip { top: 7, spare: false }, Some(8)).is_err());
    assert!(requantise(Spec { ell: 12, shift: 5, bits: 4, guard: 1 }, Clip::default(), Some(3)).is_err());
    assert_eq!(ideal(Spec { ell: 12, shift: 5, bits: 4, guard: 1 }, 40), 1);
}

/// 30 ANDs in 20 layers, and m: what the design counts.
#[test]
fn requantise_costs_what_the_design_says() {
    let circuit = requantise(Spec { ell: 13, shift: 7, bits: 4, guard: 1 }, Clip::default(), Some(13)).unwrap();
    assert_eq!((circuit.triples(), circuit.depth()), (30, 20));
    let lanes = 4096;
    let early = circuit.cost(lanes).demand.ots.total() - 128;
    assert_eq!(early, lanes * (14 + 13 + 7));
    assert_eq!(circuit.cost(lanes).flights(), 21);
}

/// By trees: half the flights for twice the ANDs. Arg max and logits take trees anyway.
#[test]
fn trees_trade_bytes_for_flights() {
    let spec = Spec { ell: 13, shift: 7, bits: 4, guard: 1 };
    let circuit = requantise_by(Carry::Prefix, spec, Clip::default(), Some(13)).unwrap();
    assert_eq!((circuit.triples(), circuit.depth()), (61, 11));
    assert_eq!((argmax(13, 10).unwrap().depth(), argmax(13, 17).unwrap().depth()), (5 + 4, 5 * 6));
    assert_eq!(logits(13, Destination::Client).unwrap().depth(), 5);
}

/// S of all wraps, whole products and truncated ones, multipliers by lane; `sum` is what [`crate::rescale`] says that it is.
#[tokio::test]
async fn truncated_products_are_the_sum_that_is_defined() {
    let lanes = 2000;
    for (ell, dropped, multipliers, spec, top) in [
        (8, 0, [181, 77], Spec { ell: 17, shift: 11, bits: 4, guard: 0 }, 255),
        (8, 6, [181, 77], Spec { ell: 11, shift: 5, bits: 4, guard: 0 }, 9),
        (12, 9, [1021, 650], Spec { ell: 14, shift: 7, bits: 5, guard: 0 }, 255),
        (13, 0, [1, 1 << 20], Spec { ell: 34, shift: 20, bits: 8, guard: 0 }, 255),
        (9, 3, [45, 44], Spec { ell: 12, shift: 10, bits: 1, guard: 0 }, 255),
    ] {
        for how in [Carry::Ripple, Carry::Prefix] {
            let (ring, kept) = (spec.ell, u64::MAX >> (64 - spec.ell));
            let factors = multipliers.map(|multiplier| Factor { multiplier, ell, dropped });
            let of = |lane: usize| factors[lane % 2];
            let rng = &mut rng(u64::from(ell));
            let [c, v]: [Vec<u64>; 2] = [(); 2].map(|()| (0..lanes).map(|_| rng.next_u64() >> (63 - ell)).collect());
            let offset = 1_i64 << (dropped + 2);
            let client: Vec<[u64; 3]> = c.iter().enumerate().map(|(lane, c)| of(lane).client(*c)).collect();
            let server: Vec<[u64; 3]> =
                v.iter().enumerate().map(|(lane, v)| of(lane).server_bits(*v, offset)).collect();
            let public: Vec<[u64; 3]> = (0..lanes).map(|lane| weights(of(lane))).collect();
            let column = |rows: &[[u64; 3]], at: usize, width: u8| {
                Planes::from_lanes(&rows.iter().map(|row| row[at]).collect::<Vec<_>>(), width.into())
            };
            let xhat = Planes::random(lanes, ring.into(), rng);
            let public = [0, 1, 2].map(|at| column(&public, at, ring));
            let given = Given {
                early: vec![column(&client, 0, 1), column(&client, 1, 1), column(&client, 2, ring), xhat.clone()],
                late: public.to_vec(),
                server: [vec![column(&server, 1, 1), column(&server, 2, 1), column(&server, 0, ring)], public.to_vec()]
                    .concat(),
                shared: Vec::new(),
            };
            let clip = Clip { top, spare: false };
            let circuit = rescale(how, spec, clip, Some(ring)).unwrap();
            let [_, of_server] = evaluate(circuit, lanes, given, 3).await.unwrap();
            let m = of_server.opened[0].to_lanes::<u64>();
            for (lane, (m, xhat)) in m.into_iter().zip(xhat.to_lanes::<u64>()).enumerate() {
                let ([c_0, alpha, own], [other, k, w]) = (of(lane).client(c[lane]), of(lane).server(v[lane], offset));
                let wraps = (c_0 * k).wrapping_add(alpha.wrapping_mul(w));
                let s = signed(own.wrapping_add(other).wrapping_add(wraps) & kept, ring.into());
                let value = (s >> spec.shift).clamp(0, i64::from(top).min((1 << spec.bits) - 1)).cast_unsigned();
                let value = if spec.bits == 1 { u64::from(s >= 0) } else { value };
                assert_eq!(m.wrapping_add(xhat) & kept, value, "{factors:?} {how:?} lane {lane}");
                if dropped == 0 {
                    let z = signed(c[lane].wrapping_add(v[lane]) & (u64::MAX >> (63 - ell)), ell as usize + 1) >> 1;
                    let fits = (-(1 << (ell - 2))..1 << (ell - 2)).contains(&z);
                    assert!(!fits || s == z * of(lane).multiplier + offset, "a whole product of {z}");
                }
            }
        }
    }
    let guarded = Spec { ell: 13, shift: 7, bits: 4, guard: 1 };
    assert!(rescale(Carry::Ripple, guarded, Clip::default(), None).is_err());
}

#[test]
fn a_truncated_product_costs_two_additions() {
    let spec = Spec { ell: 14, shift: 7, bits: 4, guard: 0 };
    let of = |circuit: Circuit| (circuit.triples(), circuit.depth());
    let plain = of(requantise(spec, Clip::default(), Some(14)).unwrap());
    let rescaled = of(rescale(Carry::Ripple, spec, Clip::default(), Some(14)).unwrap());
    assert_eq!(rescaled, (plain.0 + 3 + 13 - 1, plain.1 + 2));
}

#[tokio::test]
async fn pools_of_kept_values_are_their_largest() {
    for (bits, window, ring) in [(4, 4, 9), (4, 9, 4), (1, 4, 6), (8, 3, 12), (4, 1, 5)] {
        let how = if window % 2 == 0 { Carry::Ripple } else { Carry::Prefix };
        let circuit = max_pool_by(how, bits, window, Some(ring)).unwrap();
        let lanes = 300;
        let values: Vec<Planes> = (0..window).map(|i| Planes::random(lanes, bits, &mut rng(i as u64))).collect();
        let xhat = Planes::random(lanes, ring.into(), &mut rng(99));
        let given = Given { early: vec![xhat.clone()], shared: values.clone(), ..Given::default() };
        let [_, server] = evaluate(circuit, lanes, given, 7).await.unwrap();
        let m: Vec<u64> = server.opened[0].to_lanes();
        for (lane, (m, xhat)) in m.iter().zip(xhat.to_lanes::<u64>()).enumerate() {
            let got = m.wrapping_add(xhat) & (u64::MAX >> (64 - ring));
            let window = values.iter().map(|value| value.to_lanes::<u64>()[lane]);
            assert_eq!(Some(got), window.max(), "{bits} bits, window {window:?}", window = values.len());
        }
    }
}

#[tokio::test]
async fn unmasked_values_are_those_that_were_masked() {
    let lanes = 300;
    for (how, bits) in [(Carry::Ripple, 1), (Carry::Ripple, 5), (Carry::Prefix, 8), (Carry::Ripple, 32)] {
        let circuit = unmask(how, bits).unwrap();
        assert!(how == Carry::Prefix || circuit.triples() == bits - 1);
        let [y, xhat] = [1, 2].map(|seed| Planes::random(lanes, bits, &mut rng(seed)).to_lanes::<u64>());
        let m: Vec<u64> = y.iter().zip(&xhat).map(|(y, x)| y.wrapping_sub(*x) & (u64::MAX >> (64 - bits))).collect();
        let [early, server] = [&xhat, &m].map(|values| vec![Planes::from_lanes(values, bits)]);
        let outputs = evaluate(circuit, lanes, Given { early, server, ..Given::default() }, 7).await.unwrap();
        let [client, server] = outputs.map(|outputs| outputs.kept[0].halves().to_lanes::<u64>());
        assert!(client.iter().zip(&server).zip(&y).all(|((c, s), y)| c ^ s == *y), "{how:?} {bits}");
    }
    assert!(unmask(Carry::Ripple, 0).is_err() && unmask(Carry::Ripple, MAX_VALUE + 1).is_err());
}

#[tokio::test]
async fn tables_give_their_entries() {
    for (bits, ring) in [(1, 5), (2, 3), (4, 9), (8, 12)] {
        // A bump with negative ends, and noise.
        let smooth = (0..1_i64 << bits).map(|x| (20 - (x - 6) * (x - 6) / 3).cast_unsigned());
        let noise = (0..1_u64 << bits).map(|x| x.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40);
        for entries in [smooth.collect::<Vec<_>>(), noise.collect()] {
            let circuit = table(bits, &entries, ring).unwrap();
            let lanes = 600;
            let x = Planes::random(lanes, bits, &mut rng(1));
            let xhat = Planes::random(lanes, ring.into(), &mut rng(2));
            let given = Given { early: vec![xhat.clone()], shared: vec![x.clone()], ..Given::default() };
            let [_, server] = evaluate(circuit, lanes, given, 7).await.unwrap();
            let pairs = server.opened[0].to_lanes::<u64>().into_iter().zip(xhat.to_lanes::<u64>());
            for ((m, xhat), x) in pairs.zip(x.to_lanes::<u64>()) {
                let kept = u64::MAX >> (64 - ring);
                assert_eq!(m.wrapping_add(xhat) & kept, entries[x as usize] & kept, "{bits} bits, entry {x}");
            }
        }
    }
    assert!(table(3, &[0; 7], 5).is_err() && table(9, &[0; 512], 5).is_err());
}

#[tokio::test]
async fn inputs_are_masked_and_clipped() {
    for (bits, top, ring) in [(8, 255, 14), (8, 200, 14), (4, 9, 4), (1, 1, 8)] {
        let circuit = input(bits, top, ring).unwrap();
        let lanes = 500;
        let x = Planes::random(lanes, bits, &mut rng(1));
        let xhat = Planes::random(lanes, ring.into(), &mut rng(2));
        let given = Given { early: vec![xhat.clone()], late: vec![x.clone()], ..Given::default() };
        let [_, server] = evaluate(circuit, lanes, given, 7).await.unwrap();
        let m: Vec<u64> = server.opened[0].to_lanes();
        for (lane, (m, xhat)) in m.iter().zip(xhat.to_lanes::<u64>()).enumerate() {
            let got = m.wrapping_add(xhat) & (u64::MAX >> (64 - ring));
            assert_eq!(got, x.to_lanes::<u64>()[lane].min(top));
        }
    }
}

#[tokio::test]
async fn logits_and_revealed_sums_go_to_the_client() {
    let (ell, lanes) = (11, 100);
    let [c, v] = [1, 2].map(|seed| Planes::random(lanes, ell + 1, &mut rng(seed)));
    let given = Given { early: vec![c.clone()], server: vec![v.clone()], ..Given::default() };
    let [client, server] = evaluate(logits(ell, Destination::Client).unwrap(), lanes, given, 7).await.unwrap();
    let pairs = c.to_lanes::<u64>().into_iter().zip(v.to_lanes::<u64>());
    let want: Vec<u64> = pairs.map(|(c, v)| crate::protocol::output::ideal(ell, c, v)).collect();
    assert_eq!(client.opened[0].to_lanes::<u64>(), want);
    assert!(server.opened.is_empty());

    let given = Given { server: vec![v.clone()], ..Given::default() };
    let [client, _] = evaluate(reveal(ell + 1).unwrap(), lanes, given, 7).await.unwrap();
    assert_eq!(client.opened[0].to_lanes::<u64>(), v.to_lanes::<u64>());
}

#[tokio::test]
async fn argmax_is_the_first_of_the_largest() {
    for (ell, classes) in [(3, 10), (8, 10), (12, 2), (5, 7), (6, 1), (4, 100), (2, 16), (2, 17), (1, 3)] {
        let images = 60;
        let values: Vec<Planes> = (0..classes).map(|i| Planes::random(images, ell, &mut rng(i as u64))).collect();
        let given = Given { shared: values.clone(), ..Given::default() };
        let [client, _] = evaluate(argmax(ell, classes).unwrap(), images, given, 3).await.unwrap();
        let index: Vec<u64> = client.opened[0].to_lanes();
        for (image, index) in index.iter().enumerate() {
            let logits: Vec<i64> = values.iter().map(|value| signed(value.to_lanes::<u64>()[image], ell)).collect();
            assert_eq!(*index as usize, crate::protocol::argmax::ideal(&logits), "{logits:?}");
        }
    }
}

#[test]
fn logits_of_images_become_classes() {
    let (images, classes) = (5, 3);
    let values = Planes::from_lanes(&(0..15_u64).collect::<Vec<_>>(), 4);
    let [client, server] = deal_bits(&values, 3);
    for (class, (client, server)) in per_class(&client, classes).iter().zip(per_class(&server, classes)).enumerate() {
        let got: Vec<u64> = client.xor(&server).halves().to_lanes();
        assert_eq!(got, (0..images).map(|image| (image * classes + class) as u64).collect::<Vec<_>>());
    }
}
