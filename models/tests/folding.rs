//! Folding: the same activations on every input, one shift per requantisation, bounded biases.

mod common;

use lowkey_models::random;
use lowkey_models::{Kind, Network, Op, Range, Tensor};
use rand::SeedableRng;

fn assert_same_activations(network: &Network, folded: &Network, input: &Tensor) {
    let (before, after) = (network.run_all(input).unwrap(), folded.run_all(input).unwrap());
    for (tensor, info) in network.tensors().iter().enumerate() {
        if info.kind == Kind::Activation || tensor == network.architecture().output {
            assert_eq!(before[tensor], after[tensor], "tensor {tensor}");
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
            if architecture.consumers(*input).count() > 1 || architecture.output == *input {
                continue;
            }
            assert_eq!(shift.len(), 1);
            let (_, weights) = folded.linear(*input - 1).unwrap();
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
        for (index, (before, after)) in network.bounds().iter().zip(folded.bounds()).enumerate() {
            let (Some(before), Some(after)) = (before, after) else { continue };
            let dead = |c: &Range| c.lo == c.hi;
            if after.channels.iter().any(dead) && after.accumulator_bits() < before.accumulator_bits() {
                found += 1;
                assert!(folded.linear(index).is_some());
            }
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
