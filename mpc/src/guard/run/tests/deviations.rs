//! A client that gives one bit or MAC another way, in every circuit and at every place.

use super::*;
use crate::guard::testing::deal_bits;
use crate::spec::{Clip, Spec};

/// The circuits that layers are made of, and their inputs by origin.
fn layers() -> Vec<(Circuit, Vec<usize>)> {
    let (clip, product) = (Clip::default(), Spec { ell: 7, shift: 3, bits: 2, guard: 0 });
    let all = [
        circuits::requantise_by(Carry::Prefix, SPEC, clip, Some(9)),
        circuits::requantise(SPEC, Clip { top: 5, spare: false }, Some(9)),
        circuits::rescale(Carry::Ripple, product, clip, Some(6)),
        circuits::rescale(Carry::Prefix, product, clip, Some(6)),
        circuits::max_pool_by(Carry::Prefix, 3, 3, Some(5)),
        circuits::table(2, &[3, 1, 2, 6], 4),
        circuits::input(3, 5, 6),
    ];
    let widths = |circuit: &Circuit, of: Origin| -> Vec<usize> {
        circuit.inputs().iter().filter(|port| port.of == of).map(|port| port.width).collect()
    };
    let with_early = |circuit: Circuit| {
        let early = widths(&circuit, Origin::Early);
        (circuit, early)
    };
    all.into_iter().map(|circuit| with_early(circuit.unwrap())).collect()
}

/// Runs a circuit that opens a value to the server, with a client that spoils triples, its state, and what it shares: whether that is found.
async fn is_found(
    circuit: &Circuit,
    early: &[usize],
    spoil: impl FnOnce(&mut Triples),
    deviate: impl FnOnce(&mut PreparedCircuit, &mut [Bits]),
) -> bool {
    let planes = |width: usize, seed| Planes::random(2, width, &mut rng(seed));
    let of = |origin: Origin| circuit.inputs().iter().filter(move |port| port.of == origin);
    let given = |origin: Origin| of(origin).zip(7..).map(|(port, seed)| planes(port.width, seed)).collect::<Vec<_>>();
    let early = early.iter().zip(3..).map(|(width, seed)| planes(*width, seed)).collect();
    let Pair { channels: [mut a, mut b], guards: [mut own, mut guard], prepared: [mut client, server], .. } =
        prepare(circuit.clone(), 2, early, 5, spoil).await.unwrap();
    let [mut shared_c, shared_s]: [Vec<Bits>; 2] = {
        let all: Vec<_> = given(Origin::Shared).iter().map(|values| deal_bits(values, 5)).collect();
        let [mut c, mut s] = [Vec::new(), Vec::new()];
        for [client, server] in all {
            c.push(client);
            s.push(server);
        }
        [c, s]
    };
    deviate(&mut client, &mut shared_c);
    a.enter(Stage::Online);
    b.enter(Stage::Online);
    let public = || given(Origin::Public);
    let late = [given(Origin::Late), public()].concat();
    let own_late = [given(Origin::Server), public()].concat();
    let (shared_c, shared_s): (Vec<_>, Vec<_>) = (shared_c.iter().collect(), shared_s.iter().collect());
    let both = tokio::join!(
        online(client, &mut a, &mut own, late, &shared_c),
        online(server, &mut b, &mut guard, own_late, &shared_s)
    );
    assert!(both.0.is_ok() && both.1.is_ok(), "nothing is said before the comparison");
    guard.compare(&own.digest()).is_err()
}

/// Every bit that a client could give another way, in every circuit: its early and shared inputs, all of a triple, MACs alone.
#[tokio::test]
async fn every_deviation_in_every_circuit_is_found() {
    for (circuit, early) in layers() {
        let none = |_: &mut Triples| ();
        assert!(!is_found(&circuit, &early, none, |_, _| ()).await, "an honest client");
        for change in [Tag::new(1), Tag::new(1 << 63)] {
            for (i, node) in circuit.nodes.iter().enumerate() {
                let known = match node.op {
                    Op::Input { port, .. } => circuit.inputs()[port as usize].of == Origin::Early,
                    Op::Known(..) => true,
                    Op::Xor(..) | Op::And(..) | Op::Times(..) => false,
                };
                if known {
                    let held =
                        |client: &mut PreparedCircuit, _: &mut [Bits]| client.values[i].as_mut().unwrap()[1] ^= change;
                    assert!(is_found(&circuit, &early, none, held).await, "node {i}, {:?}", node.op);
                }
            }
            for port in 0..circuit.inputs().iter().filter(|port| port.of == Origin::Shared).count() {
                let shared = |_: &mut PreparedCircuit, bits: &mut [Bits]| bits[port].tags_mut()[1] ^= change;
                assert!(is_found(&circuit, &early, none, shared).await, "shared input {port}");
            }
            for i in 0..2 * circuit.triples() {
                for part in 0..3 {
                    let spoil = |triples: &mut Triples| triples.at_mut(i)[part] ^= change;
                    assert!(is_found(&circuit, &early, spoil, |_, _| ()).await, "triple {i}, part {part}");
                }
            }
        }
    }
}
