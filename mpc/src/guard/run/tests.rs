//! Every operation of the recorder, and a client that deviates while a circuit runs.

use super::*;
use crate::correlation::ot::{Cots, OtCount};
use crate::error::Error;
use crate::guard::Builder;
use crate::guard::bits::keys;
use crate::guard::circuits;
use crate::guard::early::{Early, with_products};
use crate::guard::prepare::offline;
use crate::guard::testing::{Given, Pair, evaluate, lie, prepare, rng, value};
use crate::guard::{Carry, Circuit, Triples, prove};
use crate::party::Stage;
use crate::primitive::block::Block;
use crate::program::testing::ODD_LANES;
use std::sync::Arc;

mod deviations;
mod random;

/// Everything at once: inputs of all origins, outputs of all kinds, constants, complements, known products.
#[tokio::test]
async fn every_operation_is_what_it_says() {
    for lanes in ODD_LANES {
        let mut b = Builder::new();
        let (e, l) = (b.input(Origin::Early, 3), b.input(Origin::Late, 2));
        let (s, k) = (b.input(Origin::Server, 2), b.input(Origin::Shared, 1));
        let known = b.known_and(e[0], e[1].not());
        let sum = b.xor(known, e[2]);
        let both = b.known_or(sum.not(), e[0]);
        let and = b.and(l[0].not(), s[0]);
        let or = b.or(and, both);
        let select = b.select(s[1], or, l[1].not());
        let majority = b.majority(k[0], select, known);
        let folded = [b.and(or, or.not()), b.and(or, Wire::ONE), b.xor(or, or), b.and(or, or), b.xor(or, Wire::ONE)];
        b.output(Destination::Server, &[and, majority.not(), Wire::ONE]);
        b.output(Destination::Kept, &[select, majority]);
        b.output(Destination::Client, &[or, both, known]);
        b.output(Destination::Client, &folded);
        let circuit = b.finish();
        assert_eq!((circuit.triples(), circuit.proved), (4, 2));
        let planes = |width, seed| Planes::random(lanes, width, &mut rng(seed));
        let (early, late, server, shared) = (planes(3, 1), planes(2, 2), planes(2, 3), planes(1, 4));
        let given = Given {
            early: vec![early.clone()],
            late: vec![late.clone()],
            server: vec![server.clone()],
            shared: vec![shared.clone()],
        };
        let [client, of_server] = evaluate(circuit, lanes, given, lanes as u64).await.unwrap();
        let kept: Vec<u8> = client.kept[0].xor(&of_server.kept[0]).halves().to_lanes();
        for (lane, kept) in kept.into_iter().enumerate() {
            let bits = |planes: &Planes| planes.to_lanes::<u8>()[lane];
            let bit = |planes: &Planes, i: u8| bits(planes) >> i & 1;
            let (e, l, s, k) = (|i| bit(&early, i), |i| bit(&late, i), |i| bit(&server, i), bit(&shared, 0));
            let known = e(0) & (1 ^ e(1));
            let both = 1 ^ known ^ e(2) | e(0);
            let and = (1 ^ l(0)) & s(0);
            let or = and | both;
            let select = if s(1) == 1 { or } else { 1 ^ l(1) };
            let majority = u8::from(k + select + known >= 2);
            assert_eq!(bits(&of_server.opened[0]), and | (1 ^ majority) << 1 | 4);
            assert_eq!(kept, select | majority << 1);
            assert_eq!(bits(&client.opened[0]), or | both << 1 | known << 2);
            assert_eq!(bits(&client.opened[1]), or << 1 | or << 3 | (1 ^ or) << 4);
        }
    }
}

const SPEC: crate::spec::Spec = crate::spec::Spec { ell: 8, shift: 3, bits: 3, guard: 1 };
const ELL: usize = 7;
const LANES: usize = 5;

/// A logits circuit with a client that spoils its triples, then its state: what both get, and the frames that the server has sent.
async fn logits(
    seed: u64,
    spoil: impl FnOnce(&mut Triples),
    deviate: impl FnOnce(&mut PreparedCircuit),
) -> (Result<Outputs>, u64, usize) {
    let circuit = circuits::logits_by(Carry::Ripple, ELL, Destination::Client).unwrap();
    let [c, v] = [1, 2].map(|seed| Planes::random(LANES, ELL + 1, &mut rng(seed)));
    let Pair { circuit, channels: [mut a, mut b], guards: [mut own, mut guard], prepared: [mut client, server] } =
        prepare(circuit, LANES, vec![c], seed, spoil).await.unwrap();
    deviate(&mut client);
    a.enter(Stage::Online);
    b.enter(Stage::Online);
    let server = async {
        let outputs = online(server, &mut b, &mut guard, vec![v], &[]).await;
        let sent = b.traffic().stage(Stage::Online).total().frames_sent;
        // The client waits for what does not come.
        b.close().await.unwrap();
        (outputs, sent)
    };
    let (client, (outputs, sent)) = tokio::join!(online(client, &mut a, &mut own, Vec::new(), &[]), server);
    assert_eq!(client.is_ok(), outputs.is_ok(), "the client gets an output where the server lets it");
    (outputs, sent, circuit.depth())
}

#[tokio::test]
async fn an_honest_client_gets_its_output_in_one_frame_more() {
    let (outputs, sent, depth) = logits(1, |_| (), |_| ()).await;
    assert!(outputs.is_ok());
    assert_eq!(sent as usize, depth + 1);
}

/// Wrong triples, wrong bits, wrong MACs, at every place: the frame with the output is never sent.
#[tokio::test]
async fn whatever_is_spoiled_is_caught_before_an_output_is_sent() {
    let caught = |(outputs, sent, depth): (Result<Outputs>, u64, usize)| {
        matches!(outputs, Err(Error::Cheated)) && sent as usize == depth
    };
    for i in 0..ELL * LANES {
        for part in 0..3 {
            for change in [Tag::new(1), Tag::new(1 << 40)] {
                // The z of the last layer, which takes the first, is in no opening but the output, which is the client's own.
                if part == 2 && i < LANES {
                    continue;
                }
                let spoil = |triples: &mut Triples| triples.at_mut(i)[part] ^= change;
                assert!(caught(logits(i as u64, spoil, |_| ()).await), "triple {i}, part {part}");
            }
        }
    }
    // c: the lowest bits feed ANDs, the last only the output.
    for i in 0..ELL {
        for lane in 0..LANES {
            let held = |prepared: &mut PreparedCircuit| lie(&mut prepared.values[i].as_mut().unwrap()[lane]);
            assert!(caught(logits(i as u64, |_| (), held).await), "bit {i} of lane {lane}");
            let mac = |prepared: &mut PreparedCircuit| prepared.values[i].as_mut().unwrap()[lane] ^= Tag::new(8);
            assert!(caught(logits(i as u64, |_| (), mac).await), "MAC of bit {i} of lane {lane}");
        }
    }
    // Two lies whose errors would cancel.
    let two = |prepared: &mut PreparedCircuit| {
        let bits = prepared.values[2].as_mut().unwrap();
        lie(&mut bits[0]);
        lie(&mut bits[1]);
    };
    assert!(caught(logits(1, |_| (), two).await));
    let swapped = |prepared: &mut PreparedCircuit| prepared.values[2].as_mut().unwrap().swap(0, 3);
    assert!(caught(logits(1, |_| (), swapped).await));
}

/// Openings of a circuit without outputs to the client are found by the next that has some.
#[tokio::test]
async fn a_lie_in_a_layer_is_caught_before_the_output_of_another() {
    for honest in [true, false] {
        let circuit = circuits::requantise(SPEC, crate::spec::Clip::default(), Some(9)).unwrap();
        let (c, xhat) = (Planes::random(LANES, 9, &mut rng(1)), Planes::random(LANES, 9, &mut rng(2)));
        let v = Planes::random(LANES, 9, &mut rng(3));
        let Pair { channels: [mut a, mut b], guards: [mut own, mut guard], prepared: [mut client, server], .. } =
            prepare(circuit, LANES, vec![c, xhat], 4, |_| ()).await.unwrap();
        if !honest {
            lie(&mut client.values[0].as_mut().unwrap()[1]);
        }
        a.enter(Stage::Online);
        b.enter(Stage::Online);
        let both = tokio::join!(
            online(client, &mut a, &mut own, Vec::new(), &[]),
            online(server, &mut b, &mut guard, vec![v], &[])
        );
        let m = both.1.unwrap().opened.remove(0);
        assert!(both.0.is_ok(), "nothing is said so far");
        // What is revealed next goes with a comparison.
        let reveal = Arc::new(circuits::reveal(9).unwrap());
        let session = own.session();
        let none = |circuit: &Arc<Circuit>| PreparedCircuit {
            circuit: circuit.clone(),
            session,
            lanes: LANES,
            values: (0..circuit.nodes.len()).map(|_| None).collect(),
            late: Vec::new(),
            triples: Triples::default(),
        };
        let server = async {
            let outputs = online(none(&reveal), &mut b, &mut guard, vec![m], &[]).await;
            b.close().await.unwrap();
            outputs
        };
        let both = tokio::join!(online(none(&reveal), &mut a, &mut own, Vec::new(), &[]), server);
        assert_eq!((both.0.is_ok(), both.1.is_ok()), (honest, honest));
        assert!(honest || matches!(both.1, Err(Error::Cheated)));
    }
}

/// A wrong P_i, with a consistent MAC: the proof is what finds it, that of one circuit or of several.
#[test]
fn a_wrong_product_is_found_by_its_proof() {
    let lanes = 9;
    let mut b = Builder::new();
    let e = b.input(Origin::Early, 4);
    let ab = b.known_and(e[0], e[1].not());
    let sum = b.xor(ab, e[2]);
    let last = b.known_or(sum.not(), e[3]);
    b.output(Destination::Kept, &[last]);
    let circuit = Arc::new(b.finish());
    let early = Planes::random(lanes, 4, &mut rng(1));
    for wrong in (0..2 * lanes).map(Some).chain([None]) {
        let [(mut client, mut own), (mut server, mut guard)] =
            crate::guard::testing::deal(3 * circuit.ots(lanes).total(), 3);
        let take =
            |cots: &mut Cots, bits: usize| keys(cots.split_front(OtCount::received_by(Party::Client, bits)).unwrap());
        // The second of three circuits has the wrong product.
        let mut all = [Vec::new(), Vec::new()];
        for wrong in [None, wrong, None] {
            let [mut of_client, mut of_server] = [(); 2].map(|()| Early::new(circuit.clone(), lanes));
            let ports = |cots: &mut Cots| vec![take(cots, 4 * lanes)];
            let mut message = of_client.give(ports(&mut client), std::slice::from_ref(&early), None);
            of_server.take(&guard, ports(&mut server), None, &message).unwrap();
            message = of_client.give_products(Some(take(&mut client, 2 * lanes)));
            if let Some(i) = wrong {
                // What a client sends that holds the complement of the product, and goes on with it.
                message[i / 8] ^= 1 << (i % 8);
                let node = circuit.nodes.iter().enumerate().filter(|(_, node)| matches!(node.op, Op::Known(..)));
                let node = node.map(|(node, _)| node).nth(i / lanes).unwrap();
                of_client.values[node].as_mut().unwrap()[i % lanes] ^= Block::new(1, 0);
            }
            of_server.take_products(&guard, Some(take(&mut server, 2 * lanes)), &message).unwrap();
            all[0].push(of_client.settle());
            all[1].push(of_server.settle());
        }
        let chi = Block::random(&mut rng(5));
        let masks = [&mut client, &mut server].map(|cots| take(cots, 128));
        let [of_client, of_server] = all.each_ref().map(|all| all.iter().collect::<Vec<_>>());
        let v = with_products(&of_client, &mut own, |guard, products| prove::prove(guard, products, &masks[0], chi));
        with_products(&of_server, &mut guard, |guard, products| {
            prove::verify(guard, products, &masks[1], chi, v);
        });
        assert_eq!(guard.compare(&own.digest()).is_ok(), wrong.is_none(), "product {wrong:?}");
    }
}

/// A slot that is audited: the server knows what the inputs should be, and finds any other.
#[tokio::test]
async fn an_audited_slot_has_the_inputs_that_it_should_or_is_found() {
    let (c, xhat) = (Planes::random(LANES, 9, &mut rng(1)), Planes::random(LANES, 9, &mut rng(2)));
    for wrong in (0..2 * 9 * LANES).map(Some).chain([None]) {
        let circuit = circuits::requantise(SPEC, crate::spec::Clip::default(), Some(9)).unwrap();
        let mut given = [c.clone(), xhat.clone()];
        if let Some(i) = wrong {
            let (input, bit) = (i / (9 * LANES), i % (9 * LANES));
            given[input].plane_mut(bit / LANES)[0] ^= 1 << (bit % LANES);
        }
        let Pair { guards: [mut own, mut guard], prepared: [client, server], .. } =
            prepare(circuit, LANES, given.to_vec(), 4, |_| ()).await.unwrap();
        guard.compare(&own.digest()).expect("what it gave, it holds");
        let _ = client.audit(&mut own, &[]);
        let triples = server.audit(&mut guard, &[c.clone(), xhat.clone()]);
        assert!(!triples.is_empty());
        assert_eq!(guard.compare(&own.digest()).is_ok(), wrong.is_none(), "bit {wrong:?}");
    }
}

#[tokio::test]
async fn too_few_triples_are_refused_before_anything_is_sent() {
    let circuit = Arc::new(circuits::logits(4, Destination::Client).unwrap());
    let [(client, mut own), _] = crate::guard::testing::deal(circuit.ots(3).total(), 1);
    let (mut a, _b) = Channel::pair();
    a.enter(Stage::Offline);
    let early = vec![Planes::zero(3, 5)];
    let error = offline(&circuit, 3, &mut a, &mut own, (client, Triples::default()), early, &mut rng(1)).await;
    assert!(matches!(error, Err(Error::Exhausted { need, have: 0, .. }) if need == 3 * circuit.triples()));
    assert_eq!(a.traffic().total().frames_sent, 0);
}

/// What is of another session, under another Delta, is refused before anything is sent: OTs, triples, a prepared circuit, shared bits.
#[tokio::test]
async fn what_is_of_another_session_is_refused() {
    use crate::guard::Batch;
    use crate::guard::testing::{deal, deal_bits};
    use crate::guard::triples::make;
    let circuit = Arc::new(circuits::requantise(SPEC, crate::spec::Clip::default(), Some(9)).unwrap());
    let refused = |result: Result<()>, ch: &Channel| {
        assert!(matches!(result, Err(Error::OtherSession)), "{result:?}");
        assert_eq!(ch.traffic().total().frames_sent, 0);
    };
    for party in [0, 1] {
        let (mut ch, _peer) = Channel::pair();
        ch.enter(Stage::Offline);
        let of = |seed: u64, n: usize| deal(n, seed).into_iter().nth(party).unwrap();
        let ((cots, mut guard), (others, mut other)) = (of(1, 1000), of(2, 1000));
        assert!(cots.session() != others.session());
        let batch = Batch::of(2, 4).unwrap();
        refused(make(&mut ch, &mut guard, batch, of(2, 30).0, &mut rng(1)).await.map(drop), &ch);

        let early = || [9, 9].map(|width| Planes::zero(LANES, width)).to_vec();
        let none = || (of(1, 1000).0, Triples::default());
        refused(
            offline(&circuit, LANES, &mut ch, &mut guard, (others, Triples::default()), early(), &mut rng(1))
                .await
                .map(drop),
            &ch,
        );
        let pair = prepare(circuits::reveal(3).unwrap(), LANES, Vec::new(), 2, |_| ()).await.unwrap();
        let [client, server] = pair.prepared;
        let prepared = if party == 0 { client } else { server };
        let mut triples = prepare((*circuit).clone(), LANES, early(), 2, |_| ()).await.unwrap().prepared.into_iter();
        let theirs = triples.nth(party).unwrap().audit(&mut other, &early());
        let result = offline(&circuit, LANES, &mut ch, &mut guard, (none().0, theirs), early(), &mut rng(1)).await;
        refused(result.map(drop), &ch);
        let m = || {
            if party == 0 { Vec::new() } else { vec![Planes::zero(LANES, 3)] }
        };
        refused(online(prepared, &mut ch, &mut guard, m(), &[]).await.map(drop), &ch);

        let pool = circuits::max_pool(3, 2, None).unwrap();
        let own = prepare(pool, LANES, Vec::new(), 1, |_| ()).await.unwrap().prepared.into_iter().nth(party).unwrap();
        let [good, bad] = [1, 2].map(|seed| deal_bits(&Planes::zero(LANES, 3), seed).into_iter().nth(party).unwrap());
        refused(online(own, &mut ch, &mut guard, Vec::new(), &[&good, &bad]).await.map(drop), &ch);
        assert!(std::panic::catch_unwind(|| good.xor(&bad)).is_err(), "a sum of two sessions");
        assert!(std::panic::catch_unwind(|| Bits::join(&[&good, &bad])).is_err(), "planes of two sessions");
        assert_eq!(good.xor(&Bits::zero(LANES, 3)).session(), good.session(), "what is public is of every session");
        if party == 1 {
            let error = guard.opened(&bad, &[0; 2]).unwrap_err();
            assert!(matches!(error, Error::OtherSession) && !error.is_peer_fault());
            assert!(matches!(apply(&guard, bad, &[0; 2]), Err(Error::OtherSession)));
        }
    }
}

/// The bits that an audit is about are those that the layers read: who changes them changes what runs.
#[tokio::test]
async fn what_is_claimed_is_what_runs() {
    let circuit = circuits::requantise(SPEC, crate::spec::Clip::default(), Some(9)).unwrap();
    let given = [1, 2].map(|seed| Planes::random(LANES, 9, &mut rng(seed)));
    let Pair { guards: [_, guard], prepared: [mut client, server], .. } =
        prepare(circuit, LANES, given.to_vec(), 4, |_| ()).await.unwrap();
    let both = client.early().into_iter().zip(server.early());
    for ((client, server), given) in both.zip(&given) {
        assert_eq!(value(&guard, &client, &server).to_lanes::<u16>(), given.to_lanes::<u16>());
    }
    for (port, given) in given.iter().enumerate() {
        for plane in 0..given.width() {
            let before = client.early()[port].tags().to_vec();
            let (node, _) = client.circuit.input_nodes(Origin::Early, port);
            lie(&mut client.values[node + plane].as_mut().unwrap()[2]);
            let changed = client.early()[port].tags().iter().zip(&before).filter(|(a, b)| a != b).count();
            assert_eq!(changed, 1);
        }
    }
}

/// What a slot holds of a layer, and gives up while it runs: half of what blocks would take.
#[tokio::test]
async fn a_prepared_layer_holds_eight_bytes_for_a_bit() {
    let lanes = 1000;
    let circuit = circuits::requantise(SPEC, crate::spec::Clip::default(), Some(9)).unwrap();
    let given = [1, 2].map(|seed| Planes::random(lanes, 9, &mut rng(seed)));
    let Pair { circuit, prepared: [mut client, _], .. } =
        prepare(circuit, lanes, given.to_vec(), 4, |_| ()).await.unwrap();
    let bits = 2 * 9 + circuit.proved;
    assert_eq!(client.held_bytes(), lanes * (8 * bits + Triples::BYTES * circuit.triples()));
    for layer in 0..circuit.depth() {
        drop(client.triples_of(layer).unwrap());
        let left: usize = circuit.ands[layer + 1..].iter().sum();
        assert_eq!(client.triples.len(), left * lanes);
    }
    assert!(client.triples.is_empty());
}

/// What is public multiplies and does nothing else.
#[test]
fn public_bits_only_multiply() {
    type Misuse = fn(&mut Builder, Wire, Wire);
    let misuses: [Misuse; 6] = [
        |b, p, x| {
            let _ = b.xor(p, x);
        },
        |b, p, x| {
            let _ = b.and(x, p);
        },
        |b, p, _| b.output(Destination::Server, &[p]),
        |b, p, x| {
            let _ = b.times(p, x.not());
        },
        |b, p, x| {
            let _ = b.times(p.not(), x);
        },
        |b, _, x| {
            let _ = b.times(x, x);
        },
    ];
    for misuse in misuses {
        let panics = std::panic::catch_unwind(|| {
            let mut b = Builder::new();
            let (p, x) = (b.input(Origin::Public, 1)[0], b.input(Origin::Server, 1)[0]);
            assert_eq!(b.times(p, Wire::ZERO), Wire::ZERO);
            misuse(&mut b, p, x);
        });
        assert!(panics.is_err());
    }
}
