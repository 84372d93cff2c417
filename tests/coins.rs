//! Roundings by coins in secret: given the coins that the client was shown, the answer is the interpreter's, bit for bit.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use lowkey::{Coins, Link, Model, Output, Reveal, Schedule, ServerModel};
use lowkey_models::random::{self, Size};
use lowkey_models::{Network, Tensor, argmax, zoo};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

/// The coins of an inference by node of a network: of each node that has any as many as it has results, of its width.
fn coins_of(network: &Network, coins: &Coins, context: &str) -> Vec<Vec<u64>> {
    let nodes = network.architecture().nodes.iter().enumerate();
    let own = nodes.map(|(index, node)| {
        let (own, bits) = (coins.of(&node.name).to_vec(), network.architecture().coin(index));
        let wanted = if bits == 0 { 0 } else { network.tensors()[index + 1].elements() };
        assert_eq!(own.len(), wanted, "{context} {}", node.name);
        assert!(own.iter().all(|coin| coin >> bits == 0), "{context} {}", node.name);
        own
    });
    own.collect()
}

/// Runs inputs in all ways; returns how many answers differ from those without coins.
fn check(network: &Network, model: &Arc<ServerModel>, inputs: &[Tensor], context: &str) -> usize {
    let mut changed = 0;
    for (schedule, reveal) in [
        (Schedule::Prepared, Reveal::Logits),
        (Schedule::Direct, Reveal::Logits),
        (Schedule::Prepared, Reveal::Class),
        (Schedule::Direct, Reveal::Class),
    ] {
        for (input, answer) in inputs.iter().zip(common::infer(model, inputs, schedule, reveal)) {
            let coins = coins_of(network, &answer.coins, context);
            let output = network.run_with_coins(input, |node, element| coins[node][element]).unwrap();
            let wanted = match reveal {
                Reveal::Logits => Output::Logits(output.iter().copied().collect()),
                Reveal::Class => Output::Class(argmax(&output)),
            };
            let json = network.architecture().to_json();
            assert_eq!(answer.output, wanted, "{context} {schedule:?} {reveal:?}\n{json}");
            changed += usize::from(answer.output != common::expected(network, input, reveal));
        }
    }
    changed
}

/// Random networks with coins, half of them with rings in which sums wrap.
#[test]
fn random_networks_with_coins() {
    let (mut networks, mut changed) = (0, 0);
    for seed in 1..=40 {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let plain = random::network(&mut rng, &Size { clips: true, ..Size::default() });
        let ringed = if seed % 4 < 2 { plain } else { random::rings(&mut rng, &plain) };
        let network = random::coins(&mut rng, &ringed);
        // Channels that are constant no more may need weights that are too wide.
        if !network.architecture().has_coins() || network.folded().is_err() {
            continue;
        }
        let inputs: Vec<Tensor> = (0..2).map(|_| random::input(&mut rng, &network.architecture().input)).collect();
        let link = if seed % 2 == 0 { Link::Metered } else { Link::Lan };
        let model = match common::try_publish_for(&network, link) {
            Ok(model) => model,
            Err(error) => panic!("seed {seed}: {error}\n{}", network.architecture().to_json()),
        };
        changed += check(&network, &model, &inputs, &format!("seed {seed}"));
        networks += 1;
    }
    assert!(networks >= 12 && changed >= 12, "{networks} networks, {changed} answers changed");
}

/// A network whose max pools would come before their clips: with coins they do not, and the answers are the interpreter's.
#[test]
fn max_pools_stay_behind_coins() {
    let plain = zoo::find("mnist-minionn-w4a4").unwrap().network();
    assert_eq!(common::pooled(&common::publish_for(&plain, Link::Metered)), 2);
    // By rule there are no coins before them.
    let ruled = plain.with_coins(1).unwrap();
    assert!(ruled.architecture().has_coins());
    assert_eq!(common::pooled(&common::publish_for(&ruled, Link::Metered)), 2);
    let network = plain.with_coin_bits([("relu1".to_owned(), 3), ("relu2".to_owned(), 5)].into()).unwrap();
    let model = common::publish_for(&network, Link::Metered);
    assert_eq!(common::pooled(&model), 0);
    let mut rng = ChaCha20Rng::seed_from_u64(3);
    let inputs: Vec<Tensor> = vec![random::input(&mut rng, &network.architecture().input)];
    check(&network, &model, &inputs, "mnist");
}

/// The digits with coins before their max pools.
fn digits(bits: u32) -> Network {
    let plain = zoo::find("digits").unwrap().network();
    plain.with_coin_bits(["relu1", "relu2"].map(|name| (name.to_owned(), bits)).into()).unwrap()
}

/// Coins of sessions and slots are fresh: uniform by node, and no two inferences have the same.
#[test]
fn coins_are_fresh_and_uniform() {
    let network = digits(4);
    let model = common::publish(&network);
    let input = Tensor::zeros(network.architecture().input.shape);
    let mut counts: BTreeMap<(usize, u64), f64> = BTreeMap::new();
    let mut seen: Vec<Vec<Vec<u64>>> = Vec::new();
    for schedule in [Schedule::Prepared, Schedule::Direct] {
        // The same input four times in each of two sessions.
        for answer in (0..2).flat_map(|_| common::infer(&model, &vec![input.clone(); 4], schedule, Reveal::Logits)) {
            let coins = coins_of(&network, &answer.coins, "digits");
            for (node, own) in coins.iter().enumerate() {
                own.iter().for_each(|coin| *counts.entry((node, *coin)).or_default() += 1.0);
            }
            assert!(!seen.contains(&coins));
            assert_eq!(format!("{:?}", answer.coins), "Coins([redacted])");
            seen.push(coins);
        }
    }
    for node in 0..network.architecture().nodes.len() {
        let values = 1u64 << network.architecture().coin(node);
        let own: Vec<f64> = (0..values).map(|coin| counts.get(&(node, coin)).copied().unwrap_or(0.0)).collect();
        let each = own.iter().sum::<f64>() / values as f64;
        let chi: f64 = own.iter().map(|count| (count - each) * (count - each) / each.max(1.0)).sum();
        // Five deviations of chi square, and room where values are few.
        assert!(
            chi < values as f64 + 5.0 * (2.0 * values as f64).sqrt() + 10.0,
            "node {node}: {chi} of {values} values"
        );
    }
}

/// The answer in the clear with the coins of a private one, by the library's own words; other networks' coins are refused.
#[test]
fn an_answer_and_its_coins() {
    let network = digits(3);
    let (model, input) = (Model::from(network.clone()), Tensor::ones(network.architecture().input.shape));
    let answers =
        common::infer(&common::publish(&network), std::slice::from_ref(&input), Schedule::Prepared, Reveal::Logits);
    let plain = model.answer_with(&input, &answers[0].coins).unwrap();
    assert_eq!(Some(answers[0].output.clone()), plain.logits.map(Output::Logits));
    let other = Model::from(zoo::find("digits").unwrap().network());
    assert!(other.answer_with(&input, &answers[0].coins).unwrap_err().to_string().contains("another network"));
    assert!(model.answer_with(&input, &Coins::default()).unwrap_err().to_string().contains("another network"));
    assert_eq!(other.answer_with(&input, &Coins::default()).unwrap().logits, other.answer(&input).unwrap().logits);
}
