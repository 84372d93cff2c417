//! Changes of networks: what they do to answers, counted by hand here, and tables that begin where others ended.

mod common;

use std::collections::BTreeMap;

use common::network_and_inputs;
use lowkey_models::choose::distortion::{Change, DistortionError, Kinds, Measured, Measuring, Table, Toss};
use lowkey_models::choose::skeleton::Skeletons;
use lowkey_models::random;
use lowkey_models::{Network, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;

fn inputs(network: &Network, seed: u64, count: usize) -> Vec<Tensor> {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    (0..count).map(|_| random::input(&mut rng, &network.architecture().input)).collect()
}

const KINDS: Kinds = Kinds { fewer: 2, weights: 1, coins: Some(0) };

/// Coins of an input, always the same.
fn coins_of(input: usize) -> Toss {
    let mut rng = ChaCha20Rng::seed_from_u64(input as u64);
    Box::new(move |bits| rng.next_u64() >> (64 - bits))
}

fn filled_with(network: &Network, seed: u64, kinds: Kinds) -> (Table, Vec<Tensor>) {
    let (calibration, measured) = (inputs(network, 2 * seed, 8), inputs(network, 2 * seed + 1, 8));
    let (measuring, mut table) = Measuring::start(network, &calibration, measured.clone(), kinds, coins_of).unwrap();
    measuring.fill(&mut table, |_| Ok::<(), DistortionError>(())).unwrap();
    (table, measured)
}

fn filled(network: &Network, seed: u64) -> (Table, Vec<Tensor>) {
    filled_with(network, seed, KINDS)
}

/// A network's answer to an input where the coins are those of [`coins_of`], taken one after the other.
fn tossed(network: &Network, input: &Tensor, at: usize) -> Tensor {
    let (architecture, mut toss) = (network.architecture(), coins_of(at));
    let coins = |(index, bits): (usize, u32)| {
        let wanted = if bits == 0 { 0 } else { network.tensors()[index + 1].elements() };
        (0..wanted).map(|_| toss(bits)).collect::<Vec<u64>>()
    };
    let nodes = (0..architecture.nodes.len()).map(|index| (index, architecture.coin(index)));
    let coins: Vec<Vec<u64>> = nodes.map(coins).collect();
    network.run_with_coins(input, |node, element| coins[node][element]).unwrap()
}

/// The squared changes of all outputs, and the inputs that have some.
fn difference(one: &Network, other: &Network, inputs: &[Tensor]) -> Measured {
    let mut sum = Measured::default();
    for (at, input) in inputs.iter().enumerate() {
        let (a, b) = (tossed(one, input, at), tossed(other, input, at));
        let squared: u64 = a.iter().zip(&b).map(|(a, b)| a.abs_diff(*b).pow(2)).sum();
        sum = Measured { squared: sum.squared + squared, inputs: sum.inputs + u64::from(squared > 0) };
    }
    sum
}

#[test]
fn each_entry_is_the_change_of_the_networks_answers() {
    let (mut rings, mut widths, mut weights, mut coins, mut moved) = (0, 0, 0, 0, 0);
    for seed in 0..60 {
        let (network, _) = network_and_inputs(seed);
        let plain = network.with_rings(BTreeMap::new()).unwrap();
        let (table, measured) = filled(&network, seed);
        for (variable, of) in table.variables.iter().enumerate() {
            for (option, entry) in of.options.iter().enumerate() {
                let mut selection = vec![0; table.variables.len()];
                selection[variable] = option + 1;
                let changed = table.apply(&network, &selection).unwrap();
                let found = entry.measured.expect("the table is filled");
                assert_eq!(found, difference(&plain, &changed, &measured), "seed {seed}: {of:?}");
                moved += u64::from(found.squared > 0);
                match entry.change {
                    Change::Spare(_) => rings += 1,
                    Change::Fewer(_) => widths += 1,
                    Change::Weights(_) => weights += 1,
                    Change::Coin { left } => {
                        let (architecture, index) = (changed.architecture(), node_of(&changed, &of.nodes[0]));
                        assert_eq!(architecture.coin(index), architecture.tossable(index).unwrap() - left);
                        coins += 1;
                    }
                }
            }
        }
    }
    assert!(rings > 20 && widths > 20 && coins > 20, "{rings} rings, {widths} widths, {coins} coins");
    assert!(weights > 20, "{weights} widths of weights");
    assert!(moved > 40, "{moved} that moved answers");
}

/// Wraps count a tenth where training follows, and nothing else does.
#[test]
fn tables_to_train_by() {
    let (mut rings, mut others) = (0, 0);
    for seed in 0..60 {
        let (table, _) = filled(&network_and_inputs(seed).0, seed);
        let trained = table.clone().to_train();
        for (variable, of) in table.variables.iter().enumerate() {
            for option in 1..=of.options.len() {
                let [before, after] =
                    [&table, &trained].map(|table| table.distortion(variable, option).expect("it is filled"));
                if of.above.is_some() {
                    // Whole numbers are divided, of the change and of its floor.
                    assert!((before / 10.0 - after).abs() <= 2.0 / table.spread.max(1.0), "seed {seed}: {of:?}");
                    rings += usize::from(before > 0.0);
                } else {
                    assert_eq!(before, after, "seed {seed}: {of:?}");
                    others += 1;
                }
            }
        }
        let all: Vec<usize> = table.variables.iter().map(|variable| variable.options.len()).collect();
        let sum: f64 = (0..all.len()).map(|at| table.distortion(at, all[at]).unwrap()).sum();
        assert!((table.sum(&all) - sum).abs() <= 1e-9 * sum.max(1.0));
    }
    assert!(rings > 10 && others > 50, "{rings} rings, {others} others");
}

/// Coins that a network has already stay as long as nobody chooses them: both runs have them, and calibrated rings have room for them.
#[test]
fn coins_that_are_there_already() {
    let (mut compared, mut kept) = (0, 0);
    for seed in 0..60 {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let network = random::coins(&mut rng, &network_and_inputs(seed).0);
        let plain = network.with_rings(BTreeMap::new()).unwrap();
        if !plain.architecture().has_coins() {
            continue;
        }
        let (table, measured) = filled_with(&network, seed, Kinds { fewer: 1, weights: 0, coins: None });
        for (variable, of) in table.variables.iter().enumerate() {
            for (option, entry) in of.options.iter().enumerate() {
                let mut selection = vec![0; table.variables.len()];
                selection[variable] = option + 1;
                let changed = table.apply(&network, &selection).unwrap();
                assert_eq!(entry.measured, Some(difference(&plain, &changed, &measured)), "seed {seed}: {of:?}");
                compared += 1;
                kept += usize::from(changed.architecture().has_coins());
            }
        }
        // Chosen anew, none is left where nothing is chosen.
        let (anew, _) = filled_with(&network, seed, KINDS);
        let none = anew.apply(&network, &vec![0; anew.variables.len()]).unwrap();
        assert!(!none.architecture().has_coins(), "seed {seed}");
    }
    assert!(compared > 20 && kept > 20, "{compared} changes, {kept} with coins");
}

fn node_of(network: &Network, name: &str) -> usize {
    network.architecture().position(name).unwrap()
}

/// Rings that are calibrated for a table with coins hold the sums of its inputs, whatever the largest coins are.
#[test]
fn calibrated_rings_have_room_for_coins_that_may_be_chosen() {
    let mut wider = 0;
    for seed in 0..60 {
        let (network, _) = network_and_inputs(seed);
        let above = |kinds| -> BTreeMap<String, u32> {
            let (table, _) = filled_with(&network, seed, kinds);
            let of = |variable: &lowkey_models::choose::distortion::Variable| {
                Some((variable.nodes[0].clone(), variable.above?))
            };
            table.variables.iter().filter_map(of).collect()
        };
        let [exact, tossed] = [None, Some(0)].map(|coins| above(Kinds { fewer: 0, weights: 0, coins }));
        for (name, bits) in &tossed {
            // A half of a step moves the longest sum by a bit at most.
            let before = exact.get(name).copied().unwrap_or(*bits);
            assert!((before..=before + 1).contains(bits), "seed {seed}: {name}: {bits} for {before}");
            wider += usize::from(*bits > before);
        }
    }
    assert!(wider > 0, "no ring had to have room");
}

/// A table is the same again, and one with other coins is not.
#[test]
fn coins_of_a_seed_make_one_table() {
    let (network, _) = network_and_inputs(3);
    let (one, measured) = filled(&network, 3);
    assert_eq!(filled(&network, 3).0, one);
    let calibration = inputs(&network, 6, 8);
    let (measuring, mut other) =
        Measuring::start(&network, &calibration, measured, KINDS, |input| coins_of(input + 100)).unwrap();
    measuring.fill(&mut other, |_| Ok::<(), DistortionError>(())).unwrap();
    let coins = |table: &Table| -> Vec<Measured> {
        let entries = table.variables.iter().flat_map(|variable| &variable.options);
        let coins = entries.filter(|entry| matches!(entry.change, Change::Coin { .. }));
        coins.filter_map(|entry| entry.measured).collect()
    };
    assert!(!coins(&one).is_empty() && coins(&one) != coins(&other), "{:?}", coins(&one));
}

/// What a file says of variables is looked at before anything is made of it.
#[test]
fn tables_with_other_changes_are_refused() {
    let of_all_kinds = |seed: u64| {
        let (network, _) = network_and_inputs(seed);
        let (table, _) = filled(&network, seed);
        let at = |is: fn(&Change) -> bool| table.variables.iter().position(|of| is(&of.options[0].change));
        let coin = at(|change| matches!(change, Change::Coin { .. }))?;
        let width = at(|change| matches!(change, Change::Fewer(_)))?;
        // With one option alone it could as well be a coin's.
        let width = Some(width).filter(|&width| table.variables[width].options.len() > 1)?;
        let ring = at(|change| matches!(change, Change::Spare(_)))?;
        let weights = at(|change| matches!(change, Change::Weights(_)))?;
        Some((network, table, coin, width, ring, weights))
    };
    let (network, table, coin, width, ring, weights) =
        (0..60).find_map(of_all_kinds).expect("a network with all kinds");
    let architecture = network.architecture();
    assert!(table.check(architecture).is_ok());
    let refused = |change: &dyn Fn(&mut Table), why: &str| {
        let mut wrong = table.clone();
        change(&mut wrong);
        let error = wrong.check(architecture).expect_err(why).to_string();
        assert!(error.contains(why), "{error} for {why}");
    };
    let tossed = Change::Coin { left: 0 };
    refused(&|t| t.variables[width].options[0].change = tossed, "none of its own");
    refused(&|t| t.variables[ring].options[0].change = tossed, "none of its own");
    refused(&|t| t.variables[coin].options[0].change = Change::Coin { left: 1 << 20 }, "none of its own");
    refused(&|t| t.variables.push(t.variables[coin].clone()), "decided twice");
    refused(&|t| t.variables.push(t.variables[ring].clone()), "decided twice");
    refused(&|t| t.variables[width].options[0].change = Change::Weights(1), "another operation");
    refused(&|t| t.variables[ring].options[0].change = Change::Weights(1), "none of its own");
    refused(&|t| t.variables[weights].options[0].change = Change::Fewer(1), "another operation");
    refused(&|t| t.variables[weights].options[0].change = Change::Weights(17), "none of its own");
    refused(&|t| t.variables.push(t.variables[weights].clone()), "decided twice");
}

/// A skeleton says of rings and units what the changed network has.
#[test]
fn skeletons_are_those_of_the_networks() {
    let (mut declared, mut coins) = (0, 0);
    for seed in 0..60 {
        let (network, _) = network_and_inputs(seed);
        let (table, _) = filled(&network, seed);
        let selection: Vec<usize> =
            table.variables.iter().enumerate().map(|(at, of)| (at + seed as usize) % (of.options.len() + 1)).collect();
        let Ok(changed) = table.apply(&network, &selection) else { continue };
        let skeleton = Skeletons::new(&table, network.architecture()).of(&selection);
        for (index, node) in changed.architecture().nodes.iter().enumerate() {
            let ring = changed.architecture().ring(index).and_then(|ring| ring.iter().max().copied());
            if ring.is_some() {
                assert_eq!(skeleton.rings[index], ring, "seed {seed}: {}", node.name);
                declared += 1;
            }
            let coin = changed.architecture().coin(index);
            if coin > 0 {
                let left = changed.architecture().tossable(index).unwrap() - coin;
                assert_eq!(skeleton.left[index], Some(left), "seed {seed}: {}", node.name);
                coins += 1;
            }
        }
    }
    assert!(declared > 10 && coins > 10, "{declared} rings, {coins} coins");
}

#[test]
fn a_table_goes_on_where_it_stopped() {
    let (network, _) = network_and_inputs(3);
    let (whole, measured) = filled(&network, 3);
    let calibration = inputs(&network, 6, 8);
    let (measuring, start) = Measuring::start(&network, &calibration, measured, KINDS, coins_of).unwrap();
    // It is stopped after three measurements,
    let (mut stopped, mut left) = (start.clone(), 3);
    let kept = measuring.fill(&mut stopped, |_| {
        left -= 1;
        if left == 0 { Err(DistortionError::NoInputs) } else { Ok(()) }
    });
    assert!(kept.is_err());
    assert_eq!(stopped.progress().0, 3);
    // written and read, and taken over:
    let stopped: Table = serde_json::from_str(&serde_json::to_string(&stopped).unwrap()).unwrap();
    let mut table = start;
    table.resume(&stopped);
    let mut measurements = 0;
    measuring
        .fill(&mut table, |_| {
            measurements += 1;
            Ok::<(), DistortionError>(())
        })
        .unwrap();
    assert_eq!(table, whole);
    assert_eq!(measurements + 3, whole.progress().1);
    // Nothing of a table over other inputs is.
    let other = Table { spread: whole.spread + 1.0, ..whole.clone() };
    let mut none = Measuring::start(&network, &calibration, inputs(&network, 7, 8), KINDS, coins_of).unwrap().1;
    none.resume(&other);
    assert_eq!(none.progress().0, 0);
}

/// What any change does, however small, is no distortion; what wraps in none of the inputs is none.
#[test]
fn a_floor_is_subtracted_for_the_inputs_that_changed() {
    let (network, _) = network_and_inputs(3);
    let (mut table, _) = filled(&network, 3);
    let entry = Measured { squared: 1000, inputs: 4 };
    table.spread = 100.0;
    table.variables[0].options[0].measured = Some(entry);
    table.variables[0].floor = Some(Measured { squared: 800, inputs: 8 });
    assert_eq!(table.distortion(0, 1), Some((1000.0 - 400.0) / 100.0));
    table.variables[0].floor = Some(Measured { squared: 8000, inputs: 8 });
    assert_eq!(table.distortion(0, 1), Some(0.0));
    assert_eq!(table.distortion(0, 0), Some(0.0));
    table.variables[0].floor = None;
    assert_eq!(table.distortion(0, 1), None);
}
