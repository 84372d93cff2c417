//! Both parties' halves, opened; circuits run over a channel, with dealt triples: what the tests of this room share.

use super::packed;
use super::prepare::offline;
use super::tag::{Tag, Word, mac};
use super::{Bits, Circuit, Guard, Outputs, PreparedCircuit, Triples, online};
use crate::correlation::ot::{Cots, OtCount, ideal};
use crate::error::Result;
use crate::party::{Party, Stage};
use crate::primitive::bits::Planes;
use crate::primitive::block::Delta;
use crate::transport::channel::{Channel, HEADER_BYTES};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Dealt oblivious transfers in which the client receives, and both guards: the client's first.
pub(crate) fn deal(n: usize, seed: u64) -> [(Cots, Guard); 2] {
    let (client, server) = ideal::deal(OtCount::received_by(Party::Client, n), &mut ChaCha20Rng::seed_from_u64(seed));
    [client, server].map(|cots| {
        let guard = Guard::new(&cots);
        (cots, guard)
    })
}

/// The values of bits; panics unless they are authenticated.
pub(crate) fn value(guard: &Guard, client: &Bits, server: &Bits) -> Planes {
    for (m, s) in client.tags().iter().zip(server.tags()) {
        assert!(*m == mac(guard.delta(), *s, m.lsb()), "the MAC of a bit");
    }
    client.xor(server).halves()
}

/// A generator.
pub(crate) fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

/// A half with another bit, as a client would claim it.
pub(crate) fn lie(tag: &mut Tag) {
    *tag ^= Tag::bit(1);
}

/// A shared bit of this value: the client's tag and the server's.
fn share(delta: &Delta, bit: u8, rng: &mut ChaCha20Rng) -> [Tag; 2] {
    let (key, own) = (Tag::new(rng.next_u64()), (rng.next_u32() & 1) as u8);
    [mac(delta, key, own), key.with_lsb(own ^ bit)]
}

fn deal_triples(guard: &Guard, n: usize, rng: &mut ChaCha20Rng) -> [Triples; 2] {
    let mut both = [(); 2].map(|()| Vec::with_capacity(n));
    for _ in 0..n {
        let (x, y) = ((rng.next_u32() & 1) as u8, (rng.next_u32() & 1) as u8);
        let parts = [x, y, x & y].map(|bit| share(guard.delta(), bit, rng));
        both.iter_mut().enumerate().for_each(|(i, triples)| triples.push(parts.map(|part| part[i])));
    }
    both.map(|triples| Triples::of(guard.session(), Zeroizing::new(triples)))
}

/// Shared bits of these values under the Delta of [`deal`] with this seed.
pub(crate) fn deal_bits(values: &Planes, seed: u64) -> [Bits; 2] {
    let [_, (_, guard)] = deal(1, seed);
    let (rng, lanes) = (&mut rng(seed + 1), values.lanes());
    let packed = packed::of_planes(values);
    let bit = |i| packed::bit(&packed, i);
    let all: Vec<_> = (0..lanes * values.width()).map(|i| share(guard.delta(), bit(i), rng)).collect();
    [0, 1].map(|party| Bits::of(Some(guard.session()), lanes, all.iter().map(|tags| tags[party]).collect()))
}

/// Inputs of a circuit.
#[derive(Default)]
pub(crate) struct Given {
    pub early: Vec<Planes>,
    pub late: Vec<Planes>,
    pub server: Vec<Planes>,
    pub shared: Vec<Planes>,
}

/// Both parties of a circuit, prepared.
pub(crate) struct Pair {
    pub circuit: Arc<Circuit>,
    pub channels: [Channel; 2],
    pub guards: [Guard; 2],
    pub prepared: [PreparedCircuit; 2],
}

/// The offline stage of both parties, whose triples are spoiled before.
pub(crate) async fn prepare(
    circuit: Circuit,
    lanes: usize,
    early: Vec<Planes>,
    seed: u64,
    spoil: impl FnOnce(&mut Triples),
) -> Result<Pair> {
    let circuit = Arc::new(circuit);
    let [(client, mut own), (server, mut guard)] = deal(circuit.ots(lanes).total(), seed);
    let [mut of_client, of_server] = deal_triples(&guard, circuit.triples() * lanes, &mut rng(seed + 2));
    spoil(&mut of_client);
    let (mut a, mut b) = Channel::pair();
    a.enter(Stage::Offline);
    b.enter(Stage::Offline);
    let (mut r, mut s) = (rng(1), rng(2));
    let both = tokio::join!(
        offline(&circuit, lanes, &mut a, &mut own, (client, of_client), early, &mut r),
        offline(&circuit, lanes, &mut b, &mut guard, (server, of_server), Vec::new(), &mut s)
    );
    Ok(Pair { circuit, channels: [a, b], guards: [own, guard], prepared: [both.0?, both.1?] })
}

/// Runs a circuit; compares its cost with the counters of the channel.
pub(crate) async fn evaluate(circuit: Circuit, lanes: usize, given: Given, seed: u64) -> Result<[Outputs; 2]> {
    let Given { early, late, server, shared } = given;
    let Pair { circuit, channels: [mut a, mut b], guards: [mut own, mut guard], prepared: [client, of_server] } =
        prepare(circuit, lanes, early, seed, |_| ()).await?;
    let shared: Vec<[Bits; 2]> = shared.iter().map(|values| deal_bits(values, seed)).collect();
    let [shared_c, shared_s] = [0, 1].map(|party| shared.iter().map(|bits| &bits[party]).collect::<Vec<_>>());
    a.enter(Stage::Online);
    b.enter(Stage::Online);
    let both = tokio::join!(
        online(client, &mut a, &mut own, late, &shared_c),
        online(of_server, &mut b, &mut guard, server, &shared_s)
    );
    let outputs = [both.0?, both.1?];
    guard.compare(&own.digest()).expect("an honest client");
    let cost = circuit.cost(lanes);
    for stage in [Stage::Offline, Stage::Online] {
        for (channel, party) in [(&a, Party::Client), (&b, Party::Server)] {
            let frames = cost.frames.iter().filter(|frame| frame.time.stage() == stage && frame.sender == party);
            let bytes = cost.bytes(stage, party) + HEADER_BYTES * frames.count();
            assert_eq!(channel.traffic().stage(stage).total().bytes_sent as usize, bytes, "{party} {stage}");
        }
    }
    assert_eq!(a.traffic().stage(Stage::Online).flights, u64::from(cost.flights()));
    Ok(outputs)
}
