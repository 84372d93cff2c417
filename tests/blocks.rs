//! One sign for a patch of pixels, in secret: the answer is the interpreter's, bit for bit.

mod common;

use std::collections::BTreeMap;

use lowkey::plan::{NonlinearKind, Step};
use lowkey::{Link, Reveal, Schedule};
use lowkey_models::random::{self, Size};
use lowkey_models::{Network, Op, Tensor, zoo};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

/// Runs inputs in all ways; returns the number of blocks of the plan.
fn check(network: &Network, link: Link, inputs: &[Tensor], context: &str) -> Option<usize> {
    let model = common::try_publish_for(network, link).ok()?;
    for (schedule, reveal) in
        [(Schedule::Prepared, Reveal::Logits), (Schedule::Direct, Reveal::Logits), (Schedule::Prepared, Reveal::Class)]
    {
        for (input, answer) in inputs.iter().zip(common::infer(&model, inputs, schedule, reveal)) {
            let json = network.architecture().to_json();
            let wanted = common::expected(network, input, reveal);
            assert_eq!(answer.output, wanted, "{context} {schedule:?} {reveal:?}\n{json}");
        }
    }
    let is_block =
        |step: &&Step| matches!(step, Step::Nonlinear(step) if matches!(step.kind, NonlinearKind::Block { .. }));
    Some(model.plan.steps.iter().filter(is_block).count())
}

/// Patches of one row, squares with a border, the whole map, and none, before convolutions and max pools.
#[test]
fn patches_of_the_digits() {
    let plain = zoo::find("digits").unwrap().network();
    let demo = zoo::find("digits").unwrap().demo().unwrap();
    let inputs: Vec<Tensor> = (0..2).map(|image| demo.inputs.get(image).unwrap()).collect();
    let index = plain.architecture().position("relu1").unwrap();
    let [_, height, width] = plain.tensors()[index + 1].shape;
    let mut answers = Vec::new();
    for (at, patch) in [Some([1, 2]), Some([2, 2]), Some([3, 5]), Some([height, width]), None].into_iter().enumerate() {
        let network = plain.with_blocks(&[("relu1".to_owned(), patch)].into()).unwrap();
        let link = if at % 2 == 0 { Link::Metered } else { Link::Lan };
        assert_eq!(check(&network, link, &inputs, &format!("{patch:?}")), Some(1));
        answers.push(network.run(&inputs[0]).unwrap());
    }
    answers.dedup();
    assert_eq!(answers.len(), 5, "each patch has its own answer");
}

/// Random networks with blocks wherever there can be some, in residuals, before pools and beside requantisations.
#[test]
fn random_networks_with_blocks() {
    let (mut networks, mut kinds) = (0, BTreeMap::<&str, usize>::new());
    for seed in 1..=10 {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let size = Size { weight_bits: 3, activation_bits: 4, ..Size::default() };
        let plain = random::network(&mut rng, &size);
        let network = random::blocks(&mut rng, &plain);
        if !network.architecture().has_blocks() || network.folded().is_err() {
            continue;
        }
        let inputs: Vec<Tensor> = (0..2).map(|_| random::input(&mut rng, &network.architecture().input)).collect();
        let link = if seed % 2 == 0 { Link::Metered } else { Link::Lan };
        // Values that get wider from block to block may have no parameter set.
        let Some(blocks) = check(&network, link, &inputs, &format!("seed {seed}")) else { continue };
        networks += usize::from(blocks > 0);
        for node in &network.architecture().nodes {
            if let Op::Block { patch, .. } = node.op {
                *kinds.entry(if patch.is_some() { "block" } else { "identity" }).or_default() += 1;
            }
        }
    }
    assert!(networks >= 4 && kinds.len() == 2, "{networks} networks, {kinds:?}");
}
