//! Random circuits against their evaluation in the clear, and their cost against the counters.

use super::*;
use rand::Rng;
use rand_chacha::ChaCha20Rng;

const ORIGINS: [Origin; 5] = [Origin::Early, Origin::Late, Origin::Server, Origin::Shared, Origin::Public];

/// A wire, its value in every lane, and what may be done with it.
#[derive(Clone)]
struct Traced {
    wire: Wire,
    value: Vec<bool>,
    known: bool,
    public: bool,
}

/// The planes of these bits.
fn planes(lanes: usize, traced: &[Traced]) -> Planes {
    let lane = |lane: usize| traced.iter().rev().fold(0, |sum: u64, of| sum << 1 | u64::from(of.value[lane]));
    Planes::from_lanes(&(0..lanes).map(lane).collect::<Vec<_>>(), traced.len())
}

/// A step of a random circuit, on two of its wires.
fn step(b: &mut Builder, [x, y]: [&Traced; 2], third: &Traced, kind: u32) -> Option<Traced> {
    let of = |f: fn(bool, bool, bool) -> bool| {
        let all = x.value.iter().zip(&y.value).zip(&third.value);
        all.map(|((x, y), z)| f(*x, *y, *z)).collect::<Vec<_>>()
    };
    let known = x.known && y.known;
    let traced = |wire, value, known| Some(Traced { wire, value, known, public: false });
    if x.public || y.public || third.public {
        let fits = x.public && !y.public && !y.wire.flipped;
        return if fits { traced(b.times(x.wire, y.wire), of(|x, y, _| x && y), false) } else { None };
    }
    match kind % 7 {
        0 => traced(b.xor(x.wire, y.wire), of(|x, y, _| x != y), known),
        1 => traced(x.wire.not(), of(|x, _, _| !x), x.known),
        2 => traced(b.and(x.wire, y.wire), of(|x, y, _| x && y), false),
        3 => traced(b.or(x.wire, y.wire), of(|x, y, _| x || y), false),
        4 => traced(b.select(x.wire, y.wire, third.wire), of(|x, y, z| if x { y } else { z }), false),
        5 => traced(
            b.majority(x.wire, y.wire, third.wire),
            of(|x, y, z| u8::from(x) + u8::from(y) + u8::from(z) > 1),
            false,
        ),
        _ if known => traced(b.known_and(x.wire, y.wire), of(|x, y, _| x && y), true),
        _ => None,
    }
}

#[tokio::test]
async fn random_circuits_are_what_they_are_in_the_clear() {
    for seed in 0..60 {
        let rng: &mut ChaCha20Rng = &mut rng(seed);
        let lanes = 1 + rng.next_u32() as usize % 130;
        let mut b = Builder::new();
        let mut given = Given::default();
        let mut public = Vec::new();
        let mut all = Vec::new();
        for of in ORIGINS {
            for _ in 0..1 + rng.next_u32() % 2 {
                let wires = b.input(of, 1 + rng.next_u32() as usize % 3);
                let port: Vec<Traced> = wires
                    .into_iter()
                    .map(|wire| {
                        let value = (0..lanes).map(|_| rng.next_u32() & 1 == 1).collect();
                        Traced { wire, value, known: of == Origin::Early, public: of == Origin::Public }
                    })
                    .collect();
                let values = planes(lanes, &port);
                match of {
                    Origin::Early => given.early.push(values),
                    Origin::Late => given.late.push(values),
                    Origin::Server => given.server.push(values),
                    Origin::Shared => given.shared.push(values),
                    Origin::Public => public.push(values),
                }
                all.extend(port);
            }
        }
        given.late.extend(public.iter().cloned());
        given.server.extend(public);
        all.extend([Wire::ZERO, Wire::ONE].map(|wire| Traced {
            wire,
            value: vec![wire == Wire::ONE; lanes],
            known: false,
            public: false,
        }));
        while all.len() < 70 {
            let mut pick = || all[rng.next_u32() as usize % all.len()].clone();
            let (x, y, z) = (pick(), pick(), pick());
            let kind = rng.next_u32();
            all.extend(step(&mut b, [&x, &y], &z, kind));
        }
        let mut outputs = Vec::new();
        for to in [Destination::Server, Destination::Client, Destination::Kept, Destination::Server] {
            let mut some = Vec::new();
            while some.len() < 5 {
                some.extend(Some(all[rng.next_u32() as usize % all.len()].clone()).filter(|traced| !traced.public));
            }
            b.output(to, &some.iter().map(|traced| traced.wire).collect::<Vec<_>>());
            outputs.push(planes(lanes, &some).to_lanes::<u8>());
        }
        let [client, server] = evaluate(b.finish(), lanes, given, seed).await.unwrap();
        let kept = client.kept[0].xor(&server.kept[0]).halves();
        let got = [&server.opened[0], &client.opened[0], &kept, &server.opened[1]].map(Planes::to_lanes::<u8>);
        assert_eq!(got.to_vec(), outputs, "seed {seed}");
    }
}
