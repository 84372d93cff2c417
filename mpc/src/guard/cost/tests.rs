//! The predicted cost of all circuits in a row against the counters of a channel.

use super::*;
use crate::correlation::ot::Cots;
use crate::guard::circuits::{argmax, input, logits, max_pool, requantise, reveal, table};
use crate::guard::prepare::all_from;
use crate::guard::prove::{CHALLENGE_BYTES, PROOF_BYTES};
use crate::guard::testing::{deal, rng};
use crate::guard::triples::make;
use crate::guard::{Bits, Destination, Guard, Origin, Outputs, online};
use crate::party::Stage;
use crate::primitive::bits::Planes;
use crate::spec::{Clip, Spec};
use crate::transport::channel::{Channel, HEADER_BYTES};
use std::sync::Arc;

const SPEC: Spec = Spec { ell: 9, shift: 3, bits: 3, guard: 1 };
const IMAGES: usize = 3;

/// A network of one layer of each kind, and their lanes.
fn layers() -> Vec<(Arc<Circuit>, usize)> {
    let entries: Vec<u64> = (0..8).map(|x| x * x).collect();
    let circuits = [
        (input(4, 11, 9), 70),
        (requantise(SPEC, Clip::default(), Some(9)), 33),
        (requantise(SPEC, Clip::default(), None), 40),
        (max_pool(3, 4, Some(9)), 10),
        (table(3, &entries, 7), 40),
        (logits(8, Destination::Kept), 5 * IMAGES),
        (argmax(8, 5), IMAGES),
        (reveal(9), 10),
        (logits(8, Destination::Client), 11),
    ];
    circuits.into_iter().map(|(circuit, lanes)| (Arc::new(circuit.unwrap()), lanes)).collect()
}

/// What a circuit of [`layers`] takes from those before.
fn shared(number: usize, kept: &[Bits]) -> Vec<Bits> {
    match number {
        3 => (0..4).map(|i| kept[0].gather(10, |lane| 4 * lane + i)).collect(),
        4 => vec![kept[0].planes(0..3)],
        6 => crate::guard::circuits::per_class(&kept[1], 5),
        _ => Vec::new(),
    }
}

async fn party(mut ch: Channel, batches: &[Batch], (mut cots, mut guard): (Cots, Guard)) -> (Vec<Outputs>, Channel) {
    let (layers, rng) = (layers(), &mut rng(ch.party() as u64));
    let client = ch.party() == Party::Client;
    ch.enter(Stage::Offline);
    let mut pool = crate::guard::Triples::default();
    for batch in batches {
        let own = cots.split_front(batch.ots()).unwrap();
        pool.append(make(&mut ch, &mut guard, *batch, own, rng).await.unwrap());
    }
    let mut early = Vec::new();
    for (circuit, lanes) in &layers {
        let ports = circuit.inputs().iter().filter(|port| client && port.of == Origin::Early);
        early.push(ports.map(|port| Planes::random(*lanes, port.width, rng)).collect::<Vec<_>>());
    }
    let (mut told, own) = (Vec::new(), (|need| cots.split_front(need), &mut pool));
    let prepared =
        all_from(&layers, &mut ch, &mut guard, own, (early, |_, number| told.push(number)), rng).await.unwrap();
    assert_eq!(told, (0..layers.len()).map(Some).chain([None]).collect::<Vec<_>>());
    assert_eq!(cots.count(), OtCount::ZERO, "all OTs that were planned");
    ch.enter(Stage::Online);
    let (mut outputs, mut kept) = (Vec::new(), Vec::new());
    for (number, prepared) in prepared.into_iter().enumerate() {
        let (circuit, lanes) = &layers[number];
        let own = if client { Origin::Late } else { Origin::Server };
        let ports = circuit.inputs().iter().filter(|port| port.of == own);
        let late = ports.map(|port| Planes::random(*lanes, port.width, rng)).collect();
        let shared = shared(number, &kept);
        let mut out = online(prepared, &mut ch, &mut guard, late, &shared.iter().collect::<Vec<_>>()).await.unwrap();
        kept.append(&mut out.kept);
        outputs.push(out);
    }
    (outputs, ch)
}

#[tokio::test]
async fn the_cost_of_a_network_is_that_of_the_channel() {
    let circuits = layers();
    let need = triples(&circuits);
    for batches in [vec![Batch::of(3, need).unwrap()], vec![Batch::of(2, need.div_ceil(2)).unwrap(); 2]] {
        let cost = cost(&batches, &circuits);
        assert_eq!(cost.demand.ots.server_receives, 0);
        let [(client, own), (server, guard)] = deal(cost.demand.ots.total(), 1);
        let (a, b) = Channel::pair();
        let (client, server) = tokio::join!(party(a, &batches, (client, own)), party(b, &batches, (server, guard)));
        assert_eq!(client.0[6].opened[0].lanes(), IMAGES);
        for (channel, party) in [(&client.1, Party::Client), (&server.1, Party::Server)] {
            for stage in [Stage::Offline, Stage::Online] {
                let traffic = channel.traffic().stage(stage);
                assert_eq!(traffic.total().bytes_sent as usize, cost.sent_bytes(stage, party), "{party} {stage}");
                assert_eq!(traffic.flights, u64::from(cost.flights_of(stage)), "{party} {stage}");
                let frames = cost.frames.iter().filter(|frame| frame.time.stage() == stage && frame.sender == party);
                assert_eq!(traffic.total().frames_sent as usize, frames.count(), "{party} {stage}");
            }
        }
    }
}

/// One proof for all: three flights of the offline stage behind those of the batch, and 128 OTs.
#[test]
fn one_proof_spares_flights_and_masks() {
    let circuits = layers();
    let (each, once) = (circuits.iter().map(|(circuit, lanes)| circuit.cost(*lanes)), cost(&[], &circuits));
    assert_eq!(once.flights_of(Stage::Offline), 3);
    let masks = each.map(|cost| cost.demand.ots.client_receives).sum::<usize>() - once.demand.ots.client_receives;
    assert_eq!((proofs(&circuits), masks), (3, 2 * MASK_OTS));
    let plain = [(reveal(4).unwrap(), 3)];
    assert_eq!(cost(&[], &plain), plain[0].0.cost(3));
}

/// In the long run a layer costs what its lanes cost, whatever it runs with, but for the proof, of which there is one.
#[test]
fn amortised_bytes_add_up() {
    let circuits = layers();
    let proof = MASK_OTS as f64 * BYTES_PER_OT + (CHALLENGE_BYTES + PROOF_BYTES + 2 * HEADER_BYTES) as f64;
    for bucket in [2, 3, 4] {
        let alone: f64 = circuits.iter().map(|layer| amortised_bytes(bucket, std::slice::from_ref(layer))).sum();
        let spared = (proofs(&circuits) - 1) as f64 * proof;
        assert!((amortised_bytes(bucket, &circuits) - (alone - spared)).abs() < 1e-6 * alone);
    }
    let none: [(&Circuit, usize); 0] = [];
    assert_eq!((amortised_bytes(3, &none), triples(&none)), (0.0, 0));
}
