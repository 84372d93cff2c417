//! What a planner chooses, and what it refuses.

mod common;

use lowkey::plan::{PlanError, Prediction, planner, predict};
use lowkey::{Link, Reveal, Schedule};
use lowkey_models::{Architecture, Input, LinearWeights, Network, Node, Op, Term, Weights, zoo};
use lowkey_mpc::party::{Party, Stage};
use ndarray::Array4;

/// One dense layer with equal weights, requantised and read by another.
fn dense(inputs: usize, weight: i32, weight_bits: u32, bits: u32, shift: u32) -> Network {
    let layer = |name: &str, input, outputs| Node {
        name: name.into(),
        op: Op::Linear { terms: vec![Term::Dense { input, outputs, weight_bits }] },
    };
    let requantise = Op::Requantise { input: 1, bits, shift: vec![shift], top: None, zero_point: 0 };
    let nodes = vec![layer("wide", 0, 8), Node { name: "relu".into(), op: requantise }, layer("last", 2, 2)];
    let architecture = Architecture {
        name: "dense".into(),
        input: Input { shape: [inputs, 1, 1], bits, zero_point: 0, pixels: None },
        nodes,
        output: 3,
        rounding: None,
        output_scale: None,
        classes: vec![],
    };
    let weights = |outputs: usize, inputs: usize, weight: i32| {
        let terms = vec![Some(Array4::from_elem((outputs, inputs, 1, 1), weight))];
        Some(LinearWeights { terms, bias: vec![0; outputs] })
    };
    let linear = vec![weights(8, inputs, weight), None, weights(2, 8, 1)];
    Network::new(architecture, Weights { linear }).expect("valid")
}

#[test]
fn a_layer_that_fits_nowhere_is_named_with_the_numbers() {
    let network = dense(60_000, 30_000, 16, 8, 30);
    let error = planner::plan(&network, Link::Lan).expect_err("the noise is beyond every torus");
    let PlanError::NothingFits { node, ell, tried } = &error else { panic!("{error}") };
    assert_eq!((node.as_str(), *ell), ("wide", 40));
    assert_eq!(tried.len(), 4);
    let text = error.to_string();
    for part in ["\"wide\"", "40 bits", "T32N2048: the torus has 32 bits", "T64N4096: its noise is", "bits too large"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn wide_layers_take_the_wide_torus_and_narrow_ones_the_narrow() {
    let torus = |network: &Network| {
        let plan = planner::plan(network, Link::Lan).expect("fits");
        let layer = plan.linear[0].encrypted.as_ref().expect("encrypted");
        (layer.parameters.ell, layer.parameters.set.torus_bits)
    };
    assert_eq!(torus(&dense(64, 1, 1, 1, 2)), (8, 32));
    assert_eq!(torus(&dense(64, 7, 4, 4, 6)), (14, 32));
    assert_eq!(torus(&dense(1024, 127, 8, 8, 14)), (26, 64));
}

#[test]
fn bytes_fall_with_the_widths() {
    let bytes = |bits: u32| {
        let weight = ((1 << (bits - 1)) - 1).max(1);
        let network = dense(256, weight, bits, bits, 2 * bits);
        let plan = planner::plan(&network, Link::Lan).expect("fits");
        let all = predict(&plan, Schedule::Prepared, Reveal::Logits);
        all.frames.iter().map(|frame| frame.bytes).sum::<u64>() + all.ots.total() as u64
    };
    let sizes: Vec<u64> = [1, 2, 3, 4, 6, 8].into_iter().map(bytes).collect();
    assert!(sizes.is_sorted() && sizes[0] * 2 < sizes[5], "{sizes:?}");
}

#[test]
fn slow_links_get_fewer_flights_and_fast_ones_fewer_bytes() {
    let network = zoo::find("mnist-minionn-w4a4").unwrap().network().folded().unwrap();
    let of = |link: Link| {
        let plan = planner::plan(&network, link).expect("fits");
        let all: Prediction = predict(&plan, Schedule::Prepared, Reveal::Logits);
        let bytes = [Party::Client, Party::Server].map(|party| all.bytes(Stage::Online, party)).iter().sum::<u64>();
        (all.flights(Stage::Online, &[]), bytes)
    };
    let (wan, loopback) = (of(Link::Wan), of(Link::Loopback));
    assert!(wan.0 < loopback.0, "{wan:?} {loopback:?}");
    assert!(wan.1 > loopback.1, "{wan:?} {loopback:?}");
}

#[test]
fn a_published_model_depends_on_key_and_weights_only() {
    let network = zoo::find("digits").unwrap().network();
    let publish = |key: u8, link| lowkey::ServerModel::publish(&network, link, &[key; 32], &|_, _| {}).unwrap();
    let (first, again) = (publish(1, Link::Lan), publish(1, Link::Lan));
    assert_eq!(first.digest, again.digest);
    let other = publish(2, Link::Lan);
    assert_ne!(first.digest, other.digest);
    assert_ne!(first.package.epoch, other.package.epoch);
    // Another plan of the same weights has its own masks too.
    assert_ne!(first.package.epoch, publish(1, Link::Wan).package.epoch);
}

/// The two pools of the MNIST model come before their clip where bytes count and after it where flights do; a convolution whose
/// accumulators leave too little room gets a bit more.
#[test]
fn max_pools_come_before_their_clip_where_that_saves() {
    let network = zoo::find("mnist-minionn-w4a4").unwrap().network();
    let [few_flights, few_bytes] = [Link::Wan, Link::Metered].map(|link| common::publish_for(&network, link));
    assert_eq!([&few_flights, &few_bytes].map(|model| common::pooled(model)), [0, 2]);
    let ell = |model: &lowkey::ServerModel| model.plan.linear[0].ell;
    assert_eq!(ell(&few_bytes), ell(&few_flights) + 1);
}
