//! A guarded requantisation and its output end to end, as a session would run them: silent OT, triples, one channel, both stages.

mod common;

use common::{Given, LANES, RING, SPEC};
use lowkey_mpc::bits::Planes;
use lowkey_mpc::channel::{Channel, HEADER_BYTES};
use lowkey_mpc::guard::{
    Batch, Circuit, Destination, Flights, Guard, circuits, least_error_bits, make, offline, online,
};
use lowkey_mpc::ot::{Correlations, price};
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
    let circuits = layers();
    ch.enter(Stage::Offline);
    let need = batch.ots() + circuits.iter().map(|circuit| circuit.ots(LANES)).sum();
    pool.ensure(&mut ch, need).await.unwrap();
    // A new visit, so that the traffic below is that of the protocols.
    ch.enter(Stage::Offline);
    let cots = pool.take(batch.ots()).unwrap();
    let mut guard = Guard::new(&cots);
    let mut triples = make(&mut ch, &mut guard, batch, cots, &mut rng).await.unwrap();
    let mut prepared = Vec::new();
    for (circuit, inputs) in circuits.iter().zip(early) {
        let own = (pool.take(circuit.ots(LANES)).unwrap(), triples.take(circuit.triples() * LANES).unwrap());
        prepared.push(offline(circuit, LANES, &mut ch, &mut guard, own, inputs, &mut rng).await.unwrap());
    }
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
    let costs: Vec<_> = [batch.cost()].into_iter().chain(circuits.iter().map(|circuit| circuit.cost(LANES))).collect();
    let mut flights = Flights::default();
    for circuit in &circuits {
        let _ = circuit.online_frames(LANES, &mut flights);
    }
    for (channel, sender) in [(client, Party::Client), (server, Party::Server)] {
        for stage in [Stage::Offline, Stage::Online] {
            let frames = costs.iter().flat_map(|cost| &cost.frames);
            let frames = frames.filter(|frame| frame.time.stage() == stage && frame.sender == sender);
            let planned: usize = frames.map(|frame| frame.bytes + HEADER_BYTES).sum();
            assert_eq!(channel.traffic().stage(stage).other.bytes_sent as usize, planned, "{sender} {stage}");
        }
        assert_eq!(channel.traffic().stage(Stage::Online).flights, u64::from(flights.count()));
    }
}

/// Bytes per activation of a requantisation that ends as the next layer's input, OTs at the price of a batch, at the sizes of a network.
#[test]
fn bytes_per_activation() {
    for (spec, limits) in [
        (SPEC, [72.0, 99.0]),
        (Spec { ell: 10, shift: 6, bits: 2, guard: 1 }, [55.0, 76.0]),
        (Spec { ell: 9, shift: 7, bits: 1, guard: 1 }, [44.0, 60.0]),
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
