//! A guarded requantisation and its output end to end, as a session would run them: silent OT, triples, one channel, both stages.

mod common;

use common::{Given, LANES, RING, SPEC};
use lowkey_mpc::bits::Planes;
use lowkey_mpc::channel::Channel;
use lowkey_mpc::guard::{
    Batch, Carry, Circuit, Destination, Guard, Triples, Workspace, amortised_bytes, circuits, cost, least_error_bits,
    make_of, offline_all, online, ots_at_once, triples,
};
use lowkey_mpc::ot::{Correlations, OtCount, price};
use lowkey_mpc::party::{Party, Stage};
use lowkey_mpc::requantise::{Clip, Spec};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use std::sync::Arc;

fn layers() -> [Arc<Circuit>; 2] {
    let layer = circuits::requantise(SPEC, Clip::default(), Some(RING));
    let output = circuits::logits(SPEC.ell.into(), Destination::Client);
    [layer.unwrap(), output.unwrap()].map(Arc::new)
}

/// One party: triples, then both circuits, each stage of both before the next.
async fn party(
    mut ch: Channel,
    batch: Batch,
    early: [Vec<Planes>; 2],
    late: [Vec<Planes>; 2],
) -> (Vec<Planes>, Channel) {
    let mut rng = ChaCha20Rng::seed_from_u64(ch.party() as u64);
    let mut pool = Correlations::setup(&mut ch, &mut rng).await.unwrap();
    let circuits = layers().map(|circuit| (circuit, LANES));
    let need = batch.ots() + ots_at_once(&circuits);
    pool.ensure(&mut ch, need).await.unwrap();
    // The traffic below is that of the protocols.
    ch.enter(Stage::Offline);
    let mut guard = Guard::new(&pool.take(OtCount::ZERO).unwrap());
    let mut triples =
        make_of(&mut ch, &mut guard, batch, &mut pool, &mut Workspace::default(), &mut rng).await.unwrap();
    assert_eq!(triples.held_bytes(), Triples::BYTES * batch.good());
    let own = (&mut pool, &mut triples);
    let prepared = offline_all(&circuits, &mut ch, &mut guard, own, (early.into(), |_, _| ()), &mut rng).await.unwrap();
    assert_eq!(triples.len(), batch.good() - self::triples(&circuits));
    ch.enter(Stage::Online);
    let mut outputs = Vec::new();
    for (prepared, inputs) in prepared.into_iter().zip(late) {
        outputs.extend(online(prepared, &mut ch, &mut guard, inputs, &[]).await.unwrap().opened);
    }
    (outputs, ch)
}

#[tokio::test]
async fn guarded_layers_over_silent_ot() {
    let circuits = layers();
    let triples: usize = circuits.iter().map(|circuit| circuit.triples() * LANES).sum();
    let batch = Batch::at_least(3, triples, 40.0).unwrap();
    let given = Given::random();
    let (client, server) = Channel::pair();
    let client = party(client, batch, given.early(), [vec![], vec![]]);
    let server = party(server, batch, [vec![], vec![]], given.late());
    let ((logits, client), (m, server)) = tokio::join!(client, server);

    given.check(&m[0], &logits[0]);

    // The bytes and flights of the records are those of the sockets.
    let cost = cost(&[batch], &circuits.map(|circuit| (circuit, LANES)));
    for (channel, sender) in [(client, Party::Client), (server, Party::Server)] {
        for stage in [Stage::Offline, Stage::Online] {
            let traffic = channel.traffic().stage(stage);
            assert_eq!(traffic.other.bytes_sent as usize, cost.sent_bytes(stage, sender), "{sender} {stage}");
            assert_eq!(traffic.flights, u64::from(cost.flights_of(stage)), "{sender} {stage}");
        }
    }
}

/// Bytes per activation of a requantisation that ends as the next layer's input, OTs at the price of a batch, at the sizes of a network.
#[test]
fn bytes_per_activation() {
    for (spec, limits) in [
        (SPEC, [64.0, 91.0]),
        (Spec { ell: 10, shift: 6, bits: 2, guard: 1 }, [48.0, 68.0]),
        (Spec { ell: 9, shift: 7, bits: 1, guard: 1 }, [38.0, 54.0]),
    ] {
        let circuit = circuits::requantise(spec, Clip::default(), Some(spec.ell)).unwrap();
        for (bucket, limit) in [2, 3].into_iter().zip(limits) {
            let batch = Batch::at_least(bucket, 500_000, least_error_bits(bucket)).unwrap();
            let of = |cost: &lowkey_mpc::program::Cost| {
                cost.total_bytes() as f64 + cost.demand.ots.total() as f64 * price::BYTES_PER_OT
            };
            let triple = of(&batch.cost()) / batch.good() as f64;
            let lanes = 1 << 14;
            let bytes = of(&circuit.cost(lanes)) / lanes as f64 + triple * circuit.triples() as f64;
            println!(
                "a={} ell={} B={bucket}: {bytes:.1} bytes, {} triples of {:.1} bits, {} flights",
                spec.bits,
                spec.ell,
                circuit.triples(),
                8.0 * triple,
                circuit.cost(lanes).flights()
            );
            assert!(bytes <= limit, "{spec:?}, B = {bucket}: {bytes}");
        }
    }
}

/// A requantisation of a network of the zoo: what it reads and becomes, and how many there are.
struct Layer {
    lanes: usize,
    ell: u8,
    shift: u8,
    /// Of the next layer's sums; none before a max pool.
    ring: Option<u8>,
}

fn layer(lanes: usize, ell: u8, shift: u8, ring: Option<u8>) -> Layer {
    Layer { lanes, ell, shift, ring }
}

/// ell, the shift and the ring of what reads a requantisation.
type Widths = (u8, u8, u8);

/// Lanes of each stage of the ResNet-20, and the requantisations in it.
const RESNET20: [(usize, &[Widths]); 3] = [
    (16384, &[(11, 5, 12), (12, 3, 13), (13, 6, 12), (12, 4, 13), (13, 6, 12), (12, 5, 13), (13, 6, 14)]),
    (8192, &[(13, 5, 14), (14, 6, 14), (13, 5, 14), (14, 6, 13), (13, 5, 14), (14, 6, 14)]),
    (4096, &[(13, 6, 14), (14, 6, 13), (13, 5, 14), (14, 6, 13), (13, 6, 14), (14, 9, 15)]),
];

/// The circuits of a network of 4-bit activations, an arg max of ten behind them.
fn network(
    how: Carry,
    input: (usize, usize, u8),
    layers: &[Layer],
    pools: &[(usize, u8)],
    last: usize,
) -> Vec<(Circuit, usize)> {
    let (pixels, bits, ring) = input;
    let mut all = vec![(circuits::input(bits, u64::MAX, ring), pixels)];
    for Layer { lanes, ell, shift, ring } in layers {
        let spec = Spec { ell: *ell, shift: *shift, bits: 4, guard: 1 };
        all.push((circuits::requantise_by(how, spec, Clip::default(), *ring), *lanes));
    }
    all.extend(pools.iter().map(|(lanes, ring)| (circuits::max_pool_by(how, 4, 4, Some(*ring)), *lanes)));
    all.push((circuits::logits(last, Destination::Kept), 10));
    all.push((circuits::argmax(last, 10), 1));
    all.into_iter().map(|(circuit, lanes)| (circuit.unwrap(), lanes)).collect()
}

/// `lowkey plan` has the widths, the files' headers the shifts.
fn minionn(how: Carry) -> Vec<(Circuit, usize)> {
    let layers = [layer(9216, 9, 4, None), layer(1024, 11, 6, None), layer(100, 11, 6, Some(12))];
    network(how, (784, 4, 9), &layers, &[(2304, 11), (256, 11)], 11)
}

fn resnet20(how: Carry) -> Vec<(Circuit, usize)> {
    let layers: Vec<Layer> = RESNET20
        .iter()
        .flat_map(|(lanes, rows)| rows.iter().map(|(ell, shift, ring)| layer(*lanes, *ell, *shift, Some(*ring))))
        .collect();
    network(how, (3072, 5, 11), &layers, &[], 14)
}

/// What whole networks of the zoo take, bodies and audits aside, and what each of their activations does; trees take fewer flights.
#[test]
fn bytes_and_flights_of_networks() {
    type Network = fn(Carry) -> Vec<(Circuit, usize)>;
    for (name, circuits, activations) in
        [("mnist-minionn-w4a4", minionn as Network, 10_340), ("cifar10-resnet20-w4a4", resnet20, 188_416)]
    {
        let of = |how| {
            let circuits = circuits(how);
            let (need, flights) = (triples(&circuits), cost(&[], &circuits).flights());
            println!("{name} {how:?}: {need} triples, {:.1} MB of memory, {flights} flights", need as f64 * 24e-6);
            let bytes = [2, 3].map(|bucket| amortised_bytes(bucket, &circuits));
            let each = bytes.map(|bytes| bytes / f64::from(activations));
            println!("  B=2, B=3: {:.2?} MB, {each:.1?} bytes per activation", bytes.map(|bytes| bytes / 1e6));
            (each, flights)
        };
        let (chains, trees) = (of(Carry::Ripple), of(Carry::Prefix));
        assert!(chains.0[0] < 85.0 && chains.0[1] < 110.0, "{name}");
        assert!(trees.0[1] < 2.2 * chains.0[1] && trees.1 * 5 <= chains.1 * 4, "{name}");
    }
}
