//! What an audit is for: a client of the semi-honest mode that announces other pads than it has encrypted reads the last layer's weights
//! out of exact answers, a few activations per inference.
//!
//! The server opens m = x - xhat to itself and computes W m + W xhat, the second part under encryption. With xhat + delta announced and
//! xhat encrypted, the answer is W (x - delta). Differences to an honest answer are sums of delta_j W_j, and balanced digits of these the
//! weights themselves.

use lowkey_models::Network;
use lowkey_mpc::channel::Channel;
use lowkey_mpc::erasing::Erasing;
use lowkey_mpc::ot::Correlations;
use lowkey_mpc::party::Stage;

use super::*;
use crate::answer::Output;
use crate::offline;
use crate::online;
use crate::plan::{Operand, Reveal, TensorId};

/// Bits of a weight of the last layer.
const BITS: u32 = 4;

/// A session with the semi-honest server, and what it takes to deviate in it.
struct Session {
    channels: (Channel, Channel),
    ots: (Correlations, Correlations),
    randomness: Erasing,
    queries: u64,
}

impl Session {
    async fn open() -> Self {
        let (mut to_server, mut to_client) = Channel::pair();
        let [mut randomness, mut theirs] = [1, 2].map(|seed| Erasing::new([seed; 32]));
        let (rng_c, rng_s) = (&mut randomness.next_rng(), &mut theirs.next_rng());
        let (own, others) =
            tokio::join!(Correlations::setup(&mut to_server, rng_c), Correlations::setup(&mut to_client, rng_s));
        let ots = (own.unwrap(), others.unwrap());
        Self { channels: (to_server, to_client), ots, randomness, queries: 0 }
    }

    /// The logits of an image, with `shifts` (element, delta) subtracted from a tensor on its way.
    async fn query(&mut self, image: &[i64], tensor: TensorId, shifts: &[(usize, u64)]) -> Vec<i64> {
        let (to_server, to_client) = &mut self.channels;
        to_server.enter(Stage::Offline);
        to_client.enter(Stage::Offline);
        let (number, rng) = (self.queries, &mut self.randomness.next_rng());
        self.queries += 1;
        let (ot, plan) = (&mut self.ots.0, &MODEL.plan);
        let deviating = async {
            let mut supply = offline::Supply::new(plan, Reveal::Logits);
            supply.start(to_server, ot).await?;
            let mut halves = offline::send_lattice(to_server, &MODEL, Draws::Once(rng)).await?;
            halves.shared[tensor].change(|pads| {
                for &(element, delta) in shifts {
                    pads[element] = pads[element].wrapping_add(delta);
                }
            });
            let key = (supply, ot.session(), number);
            offline::correct(to_server, &MODEL, ot, key, Reveal::Logits, halves).await
        };
        let honest = offline::server(to_client, &SERVER, &mut self.ots.1, number, Reveal::Logits);
        let (slot, theirs) = tokio::join!(deviating, honest);
        let (slot, theirs) = (slot.unwrap(), theirs.unwrap());
        to_server.enter(Stage::Online);
        to_client.enter(Stage::Online);
        let mut times = online::Times::new();
        let (output, served) = tokio::join!(
            online::client(to_server, &MODEL, slot, image, &mut times),
            online::server(to_client, &SERVER, theirs),
        );
        served.expect("the server has noticed nothing");
        match output.unwrap().0 {
            Output::Logits(logits) => logits,
            Output::Class(_) => panic!("logits were asked for"),
        }
    }
}

/// The last layer as the attack sees it from the plan alone: its node, the tensor that it reads, and the bits of its answers.
fn last_layer() -> (usize, TensorId, u32) {
    let plan = &MODEL.plan;
    let Operand::Accumulator(node) = plan.answer.operand else { panic!("a network that ends in a layer") };
    let linear = plan.linear.iter().position(|linear| linear.node == node).unwrap();
    let uploads: Vec<_> = plan.uploads.iter().filter(|upload| upload.linear == linear).collect();
    assert_eq!(uploads.len(), 1);
    (node.index(), uploads[0].tensor, plan.answer.bits)
}

/// Balanced digits of a number modulo 2^bits, the lowest first.
fn digits(mut number: i64, count: u32) -> impl Iterator<Item = i64> {
    (0..count).map(move |_| {
        let half = 1 << (BITS - 1);
        let digit = (number + half).rem_euclid(1 << BITS) - half;
        number = (number - digit) >> BITS;
        digit
    })
}

fn digits_network() -> Network {
    zoo::find("digits").unwrap().network().folded().unwrap()
}

/// As SECURITY.md says of the semi-honest mode: all weights of the last layer, exactly, in so many queries.
#[tokio::test]
async fn the_last_layer_is_read_from_the_semi_honest_mode() {
    let (node, tensor, bits) = last_layer();
    let (inputs, image) = (MODEL.plan.tensors[tensor].elements(), vec![0; MODEL.plan.input().elements()]);
    let mut session = Session::open().await;
    let honest = session.query(&image, tensor, &[]).await;
    let per_query = bits / BITS;
    let mut columns: Vec<Vec<i64>> = Vec::new();
    while columns.len() < inputs {
        let next: Vec<(usize, u64)> = (columns.len()..inputs).zip((0..per_query).map(|k| 1 << (BITS * k))).collect();
        let answer = session.query(&image, tensor, &next).await;
        let read = |(z, shifted): (&i64, &i64)| digits(z - shifted, next.len() as u32).collect::<Vec<i64>>();
        let rows: Vec<Vec<i64>> = honest.iter().zip(&answer).map(read).collect();
        columns.extend((0..next.len()).map(|column| rows.iter().map(|row| row[column]).collect()));
    }
    let network = digits_network();
    let (_, own) = network.linear(node).unwrap();
    let weights = own.terms[0].as_ref().unwrap();
    let (outputs, columns_of_weights) = (weights.shape()[0], weights.len() / weights.shape()[0]);
    assert_eq!((outputs, columns_of_weights), (honest.len(), inputs));
    let weights: Vec<i64> = weights.iter().map(|&weight| weight.into()).collect();
    let read: Vec<i64> = (0..outputs).flat_map(|row| columns.iter().map(move |column| column[row])).collect();
    assert_eq!(read, weights);
    println!("{} weights of {outputs} x {inputs} in {} queries", weights.len(), session.queries);
    assert_eq!(session.queries as usize, 1 + inputs.div_ceil(per_query as usize));
}

/// The same slots in an audit: each is found out, and its client has no second one.
#[tokio::test]
async fn an_audit_ends_it() {
    let (_folder, _store, registry) = registry(IdentityLimits::default());
    let presence = registry.enter(&client("mallory")).unwrap();
    let (_, tensor, _) = last_layer();
    let mut sent = send(Deviation::None, 0, &mut rng(30));
    let mut shifted = sent.half();
    shifted.pads[tensor].change(|words| words[0] ^= 1);
    sent.announced = values(&shifted.pads, &shifted.shares);
    let outcome = sent.audit(&presence).await.answer(given(sent.answer())).await;
    assert!(matches!(outcome, Err(Denied::Failed(SlotPart::Corrections))), "{outcome:?}");
    assert!(registry.enter(&client("mallory")).is_err());
}
