//! Folding: the same activations on every input, one shift per requantisation, bounded biases.

mod common;

use lowkey_models::random;
use lowkey_models::{
    Architecture, Input, Kind, LinearWeights, Network, Node, Op, Problem, Range, Tensor, Term, Weights, Window,
};
use ndarray::Array4;
use rand::SeedableRng;

/// Compares the output and every activation, by the name of the node that makes it: a folded network may have more nodes.
fn assert_same_activations(network: &Network, folded: &Network, input: &Tensor) {
    let (before, after) = (network.run_all(input).unwrap(), folded.run_all(input).unwrap());
    assert_eq!(before[network.architecture().output], after[folded.architecture().output]);
    for (index, node) in network.architecture().nodes.iter().enumerate() {
        if network.tensors()[index + 1].kind == Kind::Activation {
            let same = folded.architecture().nodes.iter().position(|other| other.name == node.name);
            let same = same.expect("folding keeps the names of activations");
            assert_eq!(before[index + 1], after[same + 1], "{}", node.name);
        }
    }
}

#[test]
fn folded_network_is_equivalent() {
    common::for_random_networks(600, |network, inputs| {
        let folded = network.folded().unwrap();
        for input in inputs {
            assert_same_activations(network, &folded, input);
        }
        for value in [network.architecture().input.range().lo, network.architecture().input.range().hi] {
            let input = Tensor::from_elem(network.architecture().input.shape, value);
            assert_same_activations(network, &folded, &input);
        }
        assert_eq!(folded.folded().unwrap(), folded, "folding twice is folding once");
    });
}

#[test]
fn folded_network_has_one_shift_and_bounded_biases() {
    common::for_random_networks(600, |network, _| {
        let folded = network.folded().unwrap();
        let architecture = folded.architecture();
        let bounds = folded.bounds();
        for node in &architecture.nodes {
            let Op::Requantise { input, bits, shift, .. } = &node.op else { continue };
            assert_eq!(shift.len(), 1);
            if architecture.consumers(*input).count() > 1 || architecture.output == *input {
                continue;
            }
            let Some((_, weights)) = folded.linear(*input - 1) else { continue };
            for (&bias, z) in weights.bias.iter().zip(&bounds[*input - 1].as_ref().unwrap().channels) {
                // z - bias, the reach of the terms alone.
                let reach = Range { lo: z.lo - bias, hi: z.hi - bias }.magnitude();
                let limit = reach + (1 << (bits + shift[0]));
                assert!(bias.unsigned_abs() <= limit, "bias {bias}, terms reach {reach}, limit {limit}");
            }
        }
    });
}

#[test]
fn constant_channels_cost_no_accumulator_bits() {
    let mut found = 0;
    for seed in 0..200 {
        let (network, _) = common::network_and_inputs(seed);
        let folded = network.folded().unwrap();
        let bounds = folded.bounds();
        for (node, before) in network.architecture().nodes.iter().zip(network.bounds()) {
            let Some(before) = before else { continue };
            let same = folded.architecture().nodes.iter().position(|other| other.name == node.name);
            let after = bounds[same.expect("folding keeps names")].as_ref().expect("a linear node stays one");
            let dead = |c: &Range| c.lo == c.hi;
            found +=
                usize::from(after.channels.iter().any(dead) && after.accumulator_bits() < before.accumulator_bits());
        }
    }
    assert!(found >= 10, "only {found} of the networks have a channel like that");
}

#[test]
fn folding_keeps_networks_of_full_width() {
    let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(7);
    let size = random::Size { blocks: 12, channels: 8, side: 12, ..Default::default() };
    for _ in 0..20 {
        let network = random::network(&mut rng, &size);
        let folded = network.folded().unwrap();
        let input = random::input(&mut rng, &network.architecture().input);
        assert_same_activations(&network, &folded, &input);
    }
}

/// x of 4 bits in two channels, z = w x (1x1) + M x + bias, y = clamp(z >> shift_c, 0, 15).
fn residual(weights: [i32; 4], multiplier: i64, bias: [i64; 2], shift: [u32; 2]) -> Network {
    let conv = Term::Conv { input: 0, out_channels: 2, groups: 1, window: Window::POINT, weight_bits: 4 };
    let terms = vec![conv, Term::Identity { input: 0, multiplier }];
    let shift = shift.to_vec();
    let nodes = vec![
        Node { name: "sum".into(), op: Op::Linear { terms } },
        Node { name: "relu".into(), op: Op::Requantise { input: 1, bits: 4, shift, top: None, zero_point: 0 } },
    ];
    let input = Input { shape: [2, 1, 1], bits: 4, zero_point: 0, pixels: None, coding: None };
    let array = Array4::from_shape_vec([2, 2, 1, 1], weights.to_vec()).unwrap();
    let linear = LinearWeights { terms: vec![Some(array), None], bias: bias.to_vec() };
    let architecture = Architecture {
        name: "residual".into(),
        input,
        nodes,
        output: 2,
        rounding: None,
        output_scale: None,
        output_coding: None,
        classes: Vec::new(),
        declared: Default::default(),
    };
    Network::new(architecture, Weights { linear: vec![Some(linear), None] }).unwrap()
}

fn assert_same_everywhere(network: &Network, folded: &Network) {
    for value in 0..256 {
        let input = Tensor::from_shape_vec([2, 1, 1], vec![value / 16, value % 16]).unwrap();
        assert_eq!(network.run(&input).unwrap(), folded.run(&input).unwrap());
    }
}

#[test]
fn a_residual_of_channels_with_different_shifts_becomes_depthwise() {
    let network = residual([1, 2, -3, 4], 3, [5, -6], [2, 4]);
    let folded = network.folded().unwrap();
    assert_same_everywhere(&network, &folded);
    let (terms, weights) = folded.linear(0).unwrap();
    let wanted = Term::Conv { input: 0, out_channels: 2, groups: 2, window: Window::POINT, weight_bits: 5 };
    assert_eq!(terms[1], wanted);
    assert_eq!(weights.terms[1].as_ref().unwrap().as_slice().unwrap(), [12, 3]);
    assert_eq!(weights.terms[0].as_ref().unwrap().as_slice().unwrap(), [4, 8, -3, 4]);
    assert_eq!(weights.bias, [20, -6]);
    let Op::Requantise { shift, .. } = &folded.architecture().nodes[1].op else { panic!() };
    assert_eq!(shift, &[4]);
}

#[test]
fn a_constant_channel_beside_a_residual_keeps_its_side() {
    // z in -100_000 + 3 x + ... is never positive; z in 100_000 + ... always over the top.
    for (bias, y) in [(-100_000, 0), (100_000, 15)] {
        let network = residual([1, 2, -3, 4], 3, [5, bias], [3, 3]);
        let folded = network.folded().unwrap();
        assert_same_everywhere(&network, &folded);
        let (terms, weights) = folded.linear(0).unwrap();
        assert!(matches!(terms[1], Term::Identity { multiplier: 3, .. }));
        // 3 x lies in 0..=45: at most 7 for y = 0, at least 15 * 8 for y = 15.
        assert_eq!(weights.bias, [5, if y == 0 { 7 - 45 } else { 120 }]);
        assert_eq!(weights.terms[0].as_ref().unwrap().as_slice().unwrap(), [1, 2, 0, 0]);
        assert_eq!(folded.run(&Tensor::zeros([2, 1, 1])).unwrap()[(1, 0, 0)], y);
        assert!(folded.bounds()[0].as_ref().unwrap().accumulator_bits() <= 9);
    }
}

#[test]
fn shifts_that_are_too_far_apart_are_refused() {
    let network = residual([1, 2, -3, 4], i64::from(i32::MAX), [0, 1 << 40], [0, 40]);
    assert!(matches!(*network.folded().unwrap_err().problem, Problem::WeightValue { bits: 16, .. }));
    let network = residual([0, 0, -3, 4], 1, [0, 1 << 45], [0, 40]);
    assert!(network.folded().is_ok(), "a constant channel sets no shift");
}
