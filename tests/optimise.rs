//! Cheaper networks: what is chosen within a budget is what trying every choice finds, its plan keeps the budget, and both parties
//! compute what the interpreter does.

mod common;

use std::sync::Arc;

use lowkey::optimise::{OptimiseError, Search, bytes_of};
use lowkey::{Link, Model, Output, Reveal, Schedule, ServerModel, planner};
use lowkey_models::choose::distortion::{Change, DistortionError, Kinds, Measuring, Table, Toss};
use lowkey_models::random::{self, Size};
use lowkey_models::{Network, Tensor, zoo};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;

/// What changes do to the answers to inputs, every second of which calibrates rings.
fn measured(network: &Network, inputs: &[Tensor], kinds: Kinds) -> Table {
    let part = |first: usize| inputs.iter().skip(first).step_by(2).cloned().collect::<Vec<_>>();
    let coins_of = |input| -> Toss {
        let mut rng = ChaCha20Rng::seed_from_u64(input as u64);
        Box::new(move |bits| rng.next_u64() >> (64 - bits))
    };
    let (measuring, mut table) = Measuring::start(network, &part(0), part(1), kinds, coins_of).unwrap();
    measuring.fill(&mut table, |_| Ok::<(), DistortionError>(())).unwrap();
    table
}

const EXACT: Kinds = Kinds { fewer: 2, weights: 0, coins: None };
const TOSSED: Kinds = Kinds { fewer: 1, weights: 0, coins: Some(0) };
const LIGHTER: Kinds = Kinds { fewer: 1, weights: 2, coins: None };

fn bytes(network: &Network, link: Link) -> Option<u64> {
    Some(bytes_of(&planner::plan(&network.folded().ok()?, link).ok()?))
}

/// Every selection that has a plan: its distortion, and the plan's bytes.
fn all(network: &Network, table: &Table, link: Link) -> Vec<(f64, u64)> {
    let mut found = Vec::new();
    let mut selection = vec![0; table.variables.len()];
    loop {
        let distortion: f64 =
            selection.iter().enumerate().filter_map(|(at, &option)| table.distortion(at, option)).sum();
        let own = table.apply(network, &selection).ok().and_then(|network| bytes(&network, link));
        found.extend(own.map(|bytes| (distortion, bytes)));
        let Some(at) = (0..selection.len()).find(|&at| selection[at] < table.variables[at].options.len()) else {
            return found;
        };
        selection[..at].fill(0);
        selection[at] += 1;
    }
}

/// The digits and their images; or, where coins and lighter weights pay, a network for larger ones and random inputs.
fn cases(kinds: Kinds) -> (Network, Vec<Tensor>) {
    if kinds != EXACT {
        let network = zoo::find("mnist-cryptonets-w4a4").unwrap().network();
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let inputs = (0..64).map(|_| random::input(&mut rng, &network.architecture().input)).collect();
        return (network, inputs);
    }
    let bundled = zoo::find("digits").unwrap();
    (bundled.network(), bundled.demo().unwrap().inputs.iter().take(160).collect())
}

#[test]
fn what_is_chosen_is_what_trying_everything_finds() {
    for (kinds, link) in [(EXACT, Link::Lan), (EXACT, Link::Metered), (TOSSED, Link::Metered), (LIGHTER, Link::Metered)]
    {
        let (network, inputs) = cases(kinds);
        let mut table = measured(&network, &inputs, kinds);
        if kinds != EXACT {
            // Rings of so small a network change its parameter sets, which no price of a node has.
            table.variables.retain(|variable| variable.above.is_none());
        }
        // As many as can be tried.
        for variable in &mut table.variables {
            let kept = variable.options.len().saturating_sub(2);
            variable.options.drain(..kept);
        }
        let every = all(&network, &table, link);
        let search = Search::new(&network, &table, link, &|_, _| {}).unwrap();
        assert_eq!(search.whole(), bytes(&network, link).unwrap());
        let least = every.iter().map(|(_, bytes)| *bytes).min().unwrap();
        let (mut narrower, mut tossed, mut lighter) = (0, 0, 0);
        for percent in [100, 97, 94, 90, 85, 80, 75, 70] {
            let budget = search.whole() * percent / 100;
            // Lighter weights move the values that are reachable behind them, and so rings that nobody declares: no price has these bytes.
            let sure = if kinds.weights > 0 { budget * 97 / 100 } else { budget };
            let within = every.iter().filter(|(_, bytes)| *bytes <= sure);
            let best = within.map(|(distortion, _)| *distortion).fold(f64::INFINITY, f64::min);
            match search.within(budget) {
                Ok(found) => {
                    assert_eq!(bytes(&found.network, link), Some(found.bytes));
                    assert!(found.bytes <= budget, "{link} {percent} %: {} of {budget}", found.bytes);
                    assert!(
                        found.distortion <= best + 1e-9 && (kinds.weights > 0 || found.distortion >= best - 1e-9),
                        "{kinds:?} {link} {percent} %: {} for {best}",
                        found.distortion
                    );
                    narrower += usize::from(found.bytes < search.whole());
                    tossed += usize::from(found.network.architecture().has_coins());
                    let changes = table.variables.iter().zip(&found.selection);
                    let changes = changes.filter_map(|(of, option)| Some(of.options[option.checked_sub(1)?].change));
                    lighter += changes.filter(|change| matches!(change, Change::Weights(_))).count();
                }
                Err(OptimiseError::Budget { .. }) => {
                    assert!(best.is_infinite(), "{link} {percent} %: {least} of {budget}")
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!(narrower >= 3, "{link}: {narrower} cheaper networks");
        assert_eq!(tossed > 0, kinds.coins.is_some(), "{link}: {tossed} networks with coins");
        assert_eq!(lighter > 0, kinds.weights > 0, "{link}: {lighter} layers with lighter weights");
    }
}

#[test]
fn what_is_chosen_is_computed_exactly() {
    for kinds in [EXACT, TOSSED, LIGHTER] {
        let (network, inputs) = cases(kinds);
        let table = measured(&network, &inputs, kinds);
        let search = Search::new(&network, &table, Link::Metered, &|_, _| {}).unwrap();
        let (mut checked, mut tossed) = (0, 0);
        for percent in [90, 75] {
            let Ok(found) = search.within(search.whole() * percent / 100) else { continue };
            assert_ne!(found.network, network);
            let written = Network::from_bytes(&found.network.to_bytes().unwrap()).unwrap();
            let model = common::publish_for(&written, Link::Metered);
            checked += exact(&written, &model, &inputs[..6], &format!("{kinds:?}, {percent} %"));
            tossed += usize::from(written.architecture().has_coins());
        }
        assert!(checked >= 6, "{checked} answers");
        assert_eq!(tossed > 0, kinds.coins.is_some(), "{tossed} networks with coins");
    }
}

/// Private answers are the interpreter's for the same coins; says how many were compared.
fn exact(network: &Network, model: &Arc<ServerModel>, inputs: &[Tensor], context: &str) -> usize {
    let answers = common::infer(model, inputs, Schedule::Prepared, Reveal::Logits);
    for (input, answer) in inputs.iter().zip(&answers) {
        let expected = Model::from(network.clone()).answer_with(input, &answer.coins).unwrap();
        assert_eq!(Some(answer.output.clone()), expected.logits.map(Output::Logits), "{context}");
    }
    answers.len()
}

/// Random networks under random choices: skips, concatenations, pools of all kinds.
#[test]
fn random_choices_of_random_networks_are_computed_exactly() {
    let (mut checked, mut tossed) = (0, 0);
    for seed in 0..60 {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let network = random::network(&mut rng, &Size::default());
        let inputs: Vec<Tensor> = (0..6).map(|_| random::input(&mut rng, &network.architecture().input)).collect();
        let table = measured(&network, &inputs, [EXACT, TOSSED, LIGHTER][seed as usize % 3]);
        let option = |(at, of): (usize, &lowkey_models::choose::distortion::Variable)| {
            (at + seed as usize) % (of.options.len() + 1)
        };
        let selection: Vec<usize> = table.variables.iter().enumerate().map(option).collect();
        let Ok(chosen) = table.apply(&network, &selection) else { continue };
        if chosen == network || chosen.folded().is_err() {
            continue;
        }
        let Ok(model) = common::try_publish_for(&chosen, Link::Metered) else { continue };
        checked += exact(&chosen, &model, &inputs[..2], &format!("seed {seed}"));
        tossed += usize::from(chosen.architecture().has_coins());
    }
    assert!(checked >= 30 && tossed >= 5, "{checked} answers, {tossed} networks with coins");
}

#[test]
fn a_table_of_another_network_is_refused() {
    let (digits, other) = (zoo::find("digits").unwrap(), zoo::find("mnist-hcnn-w2a2").unwrap().network());
    let inputs: Vec<Tensor> = digits.demo().unwrap().inputs.iter().take(8).collect();
    let mut table = measured(&digits.network(), &inputs, EXACT);
    table.variables[0].nodes[0] = "nobody".into();
    let refused = Search::new(&other, &table, Link::Lan, &|_, _| {}).err().expect("it has no such node");
    assert!(refused.to_string().contains("nobody"), "{refused}");
    let mut table = measured(&digits.network(), &inputs, EXACT);
    table.variables[0].floor = None;
    let refused =
        Search::new(&digits.network(), &table, Link::Lan, &|_, _| {}).err().expect("a measurement is missing");
    assert!(matches!(refused, OptimiseError::Unmeasured(_)), "{refused}");
}
