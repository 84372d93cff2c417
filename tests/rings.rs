//! Declared rings in secret: sums wrap as the interpreter's do, and what a narrower ring saves.

mod common;

use std::collections::BTreeMap;

use lowkey::cost::predict;
use lowkey::{Link, Reveal, Schedule, ServerModel};
use lowkey_models::random::{self, Size};
use lowkey_models::{Network, Tensor, zoo};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

/// Bytes of an inference with its OTs at their price, as the plan says.
fn bytes(model: &ServerModel) -> u64 {
    let all = predict(&model.plan, Schedule::Prepared, Reveal::Logits);
    let frames: u64 = all.frames.iter().map(|frame| frame.bytes).sum();
    frames + all.demand.price(lowkey_mpc::ot::price::BYTES_PER_OT) as u64
}

fn check(network: &Network, link: Link, inputs: &[Tensor], context: &str) {
    let model = match common::try_publish_for(network, link) {
        Ok(model) => model,
        Err(error) => panic!("{context}: {error}\n{}", network.architecture().to_json()),
    };
    assert!(model.plan.architecture.declared.is_empty(), "what is published says nothing of declarations");
    for (schedule, reveal) in
        [(Schedule::Prepared, Reveal::Logits), (Schedule::Direct, Reveal::Logits), (Schedule::Prepared, Reveal::Class)]
    {
        for (input, answer) in inputs.iter().zip(common::infer(&model, inputs, schedule, reveal)) {
            let wanted = common::expected(network, input, reveal);
            assert_eq!(answer.output, wanted, "{context} {schedule:?}\n{}", network.architecture().to_json());
        }
    }
}

/// Random networks, most of whose rings are so narrow that sums wrap.
#[test]
fn random_networks_with_rings() {
    let (mut wraps, mut networks) = (0, 0);
    for seed in 1..=40 {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let plain = random::network(&mut rng, &Size { clips: true, ..Size::default() });
        let network = random::rings(&mut rng, &plain);
        let inputs: Vec<Tensor> = (0..2).map(|_| random::input(&mut rng, &network.architecture().input)).collect();
        // Channels that are constant no more may need weights that are too wide.
        if !network.architecture().has_rings() || network.folded().is_err() {
            continue;
        }
        let link = if seed.is_multiple_of(2) { Link::Metered } else { Link::Lan };
        check(&network, link, &inputs, &format!("seed {seed}"));
        wraps += network.run_batch_counting(&inputs).unwrap().1.sums();
        networks += 1;
    }
    assert!(networks >= 20 && wraps > 200, "{wraps} sums of {networks} networks wrapped");
}

/// Rings of a trained network: wrong in the clear and in secret alike once they are too narrow, and cheaper.
#[test]
fn narrower_rings_of_the_digits_cost_less() {
    let bundled = zoo::find("digits").unwrap();
    let (plain, demo) = (bundled.network(), bundled.demo().unwrap());
    let inputs: Vec<Tensor> = (0..120).map(|i| demo.inputs.get(i).unwrap()).collect();
    // Its training kept the sums near the ends of their rings: with bits to spare there is nothing to gain.
    assert_eq!(plain.calibrated(&inputs, 4).unwrap(), plain);
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    for spare in [0, -1, -2] {
        let network = plain.calibrated(&inputs, spare).unwrap();
        let (answers, wraps) = network.run_batch_counting(&inputs).unwrap();
        if spare == 0 {
            assert_eq!((wraps.sums(), answers), (0, plain.run_batch(&inputs).unwrap()));
        } else {
            assert!(wraps.sums() > 0, "{spare} to spare");
        }
        check(&network, Link::Lan, &inputs[..6], &format!("{spare} to spare"));
        for (name, link) in [("lan", Link::Lan), ("metered", Link::Metered)] {
            let worst = bytes(&common::publish_for(&plain, link));
            let own = bytes(&common::publish_for(&network, link));
            let before = last.insert(name, own).unwrap_or(worst);
            assert!(
                own <= before && (spare > -2 || own < worst),
                "{spare} to spare, {name}: {own} of {before}, {worst}"
            );
        }
    }
}

/// Two networks that differ in their weights alone, with one declared ring each: the layer's plan is the same, whatever their sums could
/// reach.
#[test]
fn a_declared_ring_hides_the_reach_of_the_weights() {
    let plain = zoo::find("digits").unwrap().network();
    let demo = zoo::find("digits").unwrap().demo().unwrap();
    let inputs: Vec<Tensor> = (0..120).map(|i| demo.inputs.get(i).unwrap()).collect();
    let network = plain.calibrated(&inputs, -1).unwrap();
    assert!(network.architecture().has_rings());
    let (architecture, mut weights) = network.clone().into_parts();
    for (index, node) in weights.linear.iter_mut().enumerate() {
        let Some(weights) = node.as_mut().filter(|_| architecture.ring(index).is_some()) else { continue };
        // The same norms by another sign: sums reach elsewhere.
        weights.terms.iter_mut().flatten().for_each(|array| array.mapv_inplace(|w| w.abs()));
        weights.bias.iter_mut().for_each(|bias| *bias += 7);
    }
    let other = Network::new(architecture, weights).unwrap();
    let reach = |network: &Network| network.with_rings(BTreeMap::new()).unwrap().bounds();
    assert_ne!(reach(&network), reach(&other));
    for link in [Link::Lan, Link::Metered] {
        let [one, two] = [&network, &other].map(|network| common::publish_for(network, link));
        assert_eq!(one.plan.choices, two.plan.choices, "{link}");
        assert_eq!(one.plan.architecture, two.plan.architecture, "{link}");
    }
}
