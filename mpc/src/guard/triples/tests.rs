//! Honest batches, and a client that deviates in every way that the messages leave it.

use super::*;
use crate::guard::Bits;
use crate::guard::testing::{deal, lie, rng, value};
use crate::party::Stage;
use crate::transport::channel::HEADER_BYTES;

/// To triples and e.
type Spoil<'a> = &'a dyn Fn(&mut Given, &mut Vec<u8>);
/// To a message.
type Garble<'a> = &'a dyn Fn(&mut Vec<u8>);

/// What a client does to its state or messages.
#[derive(Default)]
struct Deviation<'a> {
    /// To its triples and e.
    e: Option<Spoil<'a>>,
    /// To its triples before it opens.
    held: Option<&'a dyn Fn(&mut Given)>,
    /// To its last message.
    opened: Option<Garble<'a>>,
}

/// Both parties, before e is sent.
struct Dealt {
    formed: Formed,
    given: (Given, Vec<u8>),
    guards: [Guard; 2],
}

fn dealt(batch: Batch, seed: u64) -> Dealt {
    let [(mut client, own), (mut server, guard)] = deal(batch.ots().total(), seed);
    let formed = Formed::form(batch, server.session(), |need| server.split_front(need), Workspace::default()).unwrap();
    let given = Given::give(batch, client.session(), |need| client.split_front(need), Workspace::default()).unwrap();
    Dealt { formed, given, guards: [own, guard] }
}

/// A batch with a client that deviates: what the server thinks of it.
fn run(batch: Batch, deviation: &Deviation<'_>, seed: u64) -> Result<[Bits; 2]> {
    let Dealt { formed, given: (mut given, mut e), guards: [mut own, mut guard] } = dealt(batch, seed);
    if let Some(deviate) = deviation.e {
        deviate(&mut given, &mut e);
    }
    let (sealed, order) = formed.correct(&e, &mut rng(!seed))?;
    if let Some(deviate) = deviation.held {
        deviate(&mut given);
    }
    let ((client, _), mut message) = given.open(&mut own, &order)?;
    if let Some(deviate) = deviation.opened {
        deviate(&mut message);
    }
    let (server, _) = sealed.check(&mut guard, &message)?;
    let (client, server) = (client.into_bits(), server.into_bits());
    let value = value(&guard, &client, &server);
    let [x, y, z] = [0, 1, 2].map(|i| value.plane(i).to_vec());
    assert!(x.iter().zip(&y).zip(&z).all(|((x, y), z)| x & y == *z), "x y = z");
    Ok([client, server])
}

/// Flips e of a triple, as a client that goes on consistently.
fn flip(given: &mut Given, e: &mut [u8], i: usize) {
    lie(&mut given.space.made(given.batch)[i][2]);
    e[i / 8] ^= 1 << (i % 8);
}

fn is_caught(batch: Batch, deviation: &Deviation<'_>, seed: u64) -> bool {
    match run(batch, deviation, seed) {
        Err(Error::Cheated) => true,
        Err(other) => panic!("{other}"),
        Ok(_) => false,
    }
}

#[test]
fn honest_batches_of_every_size_are_right() {
    for bucket in 2..=4 {
        for good in [1, 2, 55, 56, 57, 1000, BUCKETS + 3] {
            let batch = Batch::of(bucket, good).unwrap();
            let [client, server] = run(batch, &Deviation::default(), good as u64).unwrap();
            assert_eq!((client.lanes(), server.lanes()), (good, good));
        }
    }
}

/// Memory of batches before, smaller and larger ones, with what is left in it.
#[test]
fn memory_is_used_again() {
    let mut spaces = [(); 2].map(|()| Workspace::default());
    for (seed, (bucket, good)) in (20..).zip([(3, 100), (3, 900), (2, 40), (4, 900)]) {
        let batch = Batch::of(bucket, good).unwrap();
        let [(mut client, mut own), (mut server, mut guard)] = deal(batch.ots().total(), seed);
        let [first, second] = spaces;
        let formed = Formed::form(batch, server.session(), |need| server.split_front(need), first).unwrap();
        let (given, e) = Given::give(batch, client.session(), |need| client.split_front(need), second).unwrap();
        let (sealed, order) = formed.correct(&e, &mut rng(seed)).unwrap();
        let ((client, second), message) = given.open(&mut own, &order).unwrap();
        let (server, first) = sealed.check(&mut guard, &message).unwrap();
        let value = value(&guard, &client.into_bits(), &server.into_bits());
        let [x, y, z] = [0, 1, 2].map(|i| value.plane(i).to_vec());
        assert!(value.lanes() == good && x.iter().zip(&y).zip(&z).all(|((x, y), z)| x & y == *z), "x y = z");
        spaces = [first, second];
    }
    assert!(spaces.iter().all(|space| space.made.len() == 3 * Batch::of(4, 900).unwrap().triples()));
}

/// x, y, and the halves of the server and of the client are all balanced and pairwise independent.
#[test]
fn triples_are_uniform() {
    let n = 1 << 16;
    let [client, server] = run(Batch::of(2, n).unwrap(), &Deviation::default(), 5).unwrap();
    let halves = [client, server].map(|triples| triples.halves());
    let planes: Vec<&[u64]> = halves.iter().flat_map(|halves| (0..3).map(|i| halves.plane(i))).collect();
    let ones = |words: Vec<u64>| words.iter().map(|word| word.count_ones()).sum::<u32>();
    for (i, a) in planes.iter().enumerate() {
        // z itself is a product: its two halves are not independent.
        for b in planes[..i].iter().enumerate().filter(|(j, _)| (*j, i) != (2, 5)).map(|(_, b)| b) {
            let sum = ones(a.iter().zip(*b).map(|(a, b)| a ^ b).collect());
            assert!((f64::from(sum) - n as f64 / 2.0).abs() < 3.0 * (n as f64).sqrt(), "{sum}");
        }
        assert!((f64::from(ones(a.to_vec())) - n as f64 / 2.0).abs() < 3.0 * (n as f64).sqrt());
    }
}

#[test]
fn a_wrong_e_is_caught_wherever_it_is() {
    for bucket in [2, 3] {
        let batch = Batch::of(bucket, 20).unwrap();
        for i in 0..batch.triples() {
            let consistent = |given: &mut Given, e: &mut Vec<u8>| flip(given, e, i);
            assert!(is_caught(batch, &Deviation { e: Some(&consistent), ..Default::default() }, i as u64));
            // The same without its own MAC in step.
            let careless = |_: &mut Given, e: &mut Vec<u8>| e[i / 8] ^= 1 << (i % 8);
            assert!(is_caught(batch, &Deviation { e: Some(&careless), ..Default::default() }, i as u64));
        }
    }
}

/// Differences don't see it: the opened triples do, always.
#[test]
fn who_flips_every_e_is_caught() {
    for (bucket, good) in [(2, 1), (2, 30), (3, 1), (3, 30)] {
        let batch = Batch::of(bucket, good).unwrap();
        let all = |given: &mut Given, e: &mut Vec<u8>| (0..batch.triples()).for_each(|i| flip(given, e, i));
        assert!((0..50).all(|seed| is_caught(batch, &Deviation { e: Some(&all), ..Default::default() }, seed)));
    }
}

/// Flips that would cancel in one bucket are in one bucket as often as the bound says.
#[test]
fn flips_that_would_cancel_survive_at_the_rate_of_the_bound() {
    let batch = Batch::of(2, 5).unwrap();
    let tries = 3000;
    let two = |given: &mut Given, e: &mut Vec<u8>| [3, 7].iter().for_each(|i| flip(given, e, *i));
    let survived = (0..tries).filter(|seed| {
        let Dealt { formed, given: (mut given, mut e), guards: [mut own, mut guard] } = dealt(batch, *seed);
        two(&mut given, &mut e);
        let (sealed, order) = formed.correct(&e, &mut rng(!seed)).unwrap();
        let (_, message) = given.open(&mut own, &order).unwrap();
        sealed.check(&mut guard, &message).is_ok()
    });
    let (survived, bound) = (survived.count() as f64, (-batch.error_bits()).exp2() * tries as f64);
    assert!((survived - bound).abs() < 5.0 * bound.sqrt(), "{survived} of {tries}, {bound} by the bound");
    assert!(survived > 0.0, "the test would see it");
    // At the size of a network, never.
    let large = Batch::of(3, 2000).unwrap();
    let three = |given: &mut Given, e: &mut Vec<u8>| [5, 70, 900].iter().for_each(|i| flip(given, e, *i));
    assert!((0..100).all(|seed| is_caught(large, &Deviation { e: Some(&three), ..Default::default() }, seed)));
}

#[test]
fn wrong_bits_and_macs_are_caught() {
    let batch = Batch::of(3, 20).unwrap();
    for i in 0..batch.opened_bits() {
        let bit = |message: &mut Vec<u8>| message[i / 8] ^= 1 << (i % 8);
        assert!(is_caught(batch, &Deviation { opened: Some(&bit), ..Default::default() }, 1));
    }
    let digest = |message: &mut Vec<u8>| *message.last_mut().unwrap() ^= 1;
    assert!(is_caught(batch, &Deviation { opened: Some(&digest), ..Default::default() }, 1));
    for i in 0..batch.triples() {
        for part in 0..3 {
            // Another bit under the same MAC, and another MAC of the same bit.
            for change in [Tag::new(1), Tag::new(2)] {
                let held = |given: &mut Given| given.space.made(batch)[i][part] ^= change;
                assert!(is_caught(batch, &Deviation { held: Some(&held), ..Default::default() }, 2), "{i} {part}");
            }
        }
    }
}

/// The server's messages are the same, whatever the client did before: nothing is told by when or how it goes on.
#[test]
fn nothing_before_the_comparison_depends_on_what_was_spoiled() {
    let batch = Batch::of(3, 30).unwrap();
    let of = |spoil: usize| {
        let Dealt { formed, given: (mut given, mut e), .. } = dealt(batch, 8);
        (0..spoil).for_each(|i| flip(&mut given, &mut e, i));
        formed.correct(&e, &mut rng(1)).unwrap().1
    };
    assert!((1..93).all(|spoil| of(spoil) == of(0)));
}

#[test]
fn malformed_messages_are_refused() {
    let batch = Batch::of(2, 9).unwrap();
    let Dealt { formed, given: (given, e), guards: [mut own, mut guard] } = dealt(batch, 3);
    let mut rest = e.clone();
    *rest.last_mut().unwrap() |= 0x80;
    assert!(dealt(batch, 3).formed.correct(&rest, &mut rng(3)).unwrap_err().is_peer_fault());
    let (sealed, order) = formed.correct(&e, &mut rng(3)).unwrap();
    let mut more = order.clone();
    *more.last_mut().unwrap() |= 0x80;
    for wrong in [&order[..20], &order[..SEED_BYTES], &order[..order.len() - 1], &more[..]] {
        let Dealt { given: (given, _), guards: [mut own, _], .. } = dealt(batch, 3);
        assert!(given.open(&mut own, wrong).unwrap_err().is_peer_fault());
    }
    let (_, message) = given.open(&mut own, &order).unwrap();
    assert!(sealed.check(&mut guard, &message[..8]).unwrap_err().is_peer_fault());
}

/// What the server tells of a bucket's other triples says nothing of the first, which is used: over many batches d_s and f_s of its pairs are
/// balanced and independent of its x_s and y_s.
#[test]
fn what_the_server_tells_of_pairs_hides_the_first() {
    let batch = Batch::of(3, 1 << 14).unwrap();
    let Dealt { formed, given: (_, e), .. } = dealt(batch, 12);
    let (sealed, order) = formed.correct(&e, &mut rng(12)).unwrap();
    let firsts = sealed.space.arranged(batch).0.chunks(3).map(|members| members[0]);
    let told = |bit: usize| packed::bit(&order[SEED_BYTES..], bit);
    let mut counts = [[0_u32; 4]; 8];
    for (i, [x, y, _]) in firsts.enumerate() {
        for (k, counts) in counts.chunks_exact_mut(2).enumerate() {
            let bit = told(4 * i + k);
            counts[0][usize::from(2 * bit + x.lsb())] += 1;
            counts[1][usize::from(2 * bit + y.lsb())] += 1;
        }
    }
    let (mean, deviation) = (f64::from(1 << 12), f64::from(1_u32 << 12).sqrt());
    assert!(counts.as_flattened().iter().all(|n| (f64::from(*n) - mean).abs() < 5.0 * deviation), "{counts:?}");
}

/// Bytes and flights over a channel.
#[tokio::test]
async fn a_batch_takes_three_flights_and_the_bytes_that_are_said() {
    let batch = Batch::of(3, 1000).unwrap();
    let [(client, mut own), (server, mut guard)] = deal(batch.ots().total(), 6);
    let (mut a, mut b) = Channel::pair();
    a.enter(Stage::Offline);
    b.enter(Stage::Offline);
    let (mut no, mut yes) = (rng(1), rng(2));
    let both =
        tokio::join!(make(&mut a, &mut own, batch, client, &mut no), make(&mut b, &mut guard, batch, server, &mut yes));
    assert_eq!((both.0.unwrap().len(), both.1.unwrap().len()), (1000, 1000));
    let traffic = a.traffic().stage(Stage::Offline);
    let cost = batch.cost();
    assert_eq!(traffic.flights, 3);
    assert_eq!(traffic.total().bytes() as usize, cost.total_bytes() + 3 * HEADER_BYTES);
    assert_eq!(traffic.total().bytes_sent as usize, cost.bytes(Stage::Offline, Party::Client) + 2 * HEADER_BYTES);
    // B + 4 (B - 1) bits, and three OTs for each of B triples.
    let bits = 8.0 * cost.total_bytes() as f64 / 1000.0;
    assert!((bits - 11.0).abs() < 0.6, "{bits}");
}
