//! Changes of networks: what they do to answers, counted by hand here, and tables that begin where others ended.

mod common;

use std::collections::BTreeMap;

use common::network_and_inputs;
use lowkey_models::choose::distortion::{Change, DistortionError, Measured, Measuring, Table};
use lowkey_models::choose::skeleton::Skeletons;
use lowkey_models::random;
use lowkey_models::{Network, Tensor};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

fn inputs(network: &Network, seed: u64, count: usize) -> Vec<Tensor> {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    (0..count).map(|_| random::input(&mut rng, &network.architecture().input)).collect()
}

fn filled(network: &Network, seed: u64) -> (Table, Vec<Tensor>) {
    let (calibration, measured) = (inputs(network, 2 * seed, 8), inputs(network, 2 * seed + 1, 8));
    let (measuring, mut table) = Measuring::start(network, &calibration, measured.clone(), 2).unwrap();
    measuring.fill(&mut table, |_| Ok::<(), DistortionError>(())).unwrap();
    (table, measured)
}

/// The squared changes of all outputs, and the inputs that have some.
fn difference(one: &Network, other: &Network, inputs: &[Tensor]) -> Measured {
    let mut sum = Measured::default();
    for input in inputs {
        let (a, b) = (one.run(input).unwrap(), other.run(input).unwrap());
        let squared: u64 = a.iter().zip(&b).map(|(a, b)| a.abs_diff(*b).pow(2)).sum();
        sum = Measured { squared: sum.squared + squared, inputs: sum.inputs + u64::from(squared > 0) };
    }
    sum
}

#[test]
fn each_entry_is_the_change_of_the_networks_answers() {
    let (mut rings, mut widths, mut moved) = (0, 0, 0);
    for seed in 0..24 {
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
                }
            }
        }
    }
    assert!(rings > 20 && widths > 20 && moved > 20, "{rings} rings, {widths} widths, {moved} that moved answers");
}

/// A skeleton says of rings and units what the changed network has.
#[test]
fn skeletons_are_those_of_the_networks() {
    let mut declared = 0;
    for seed in 0..24 {
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
        }
    }
    assert!(declared > 10, "{declared} rings");
}

#[test]
fn a_table_goes_on_where_it_stopped() {
    let (network, _) = network_and_inputs(3);
    let (whole, measured) = filled(&network, 3);
    let calibration = inputs(&network, 6, 8);
    let (measuring, start) = Measuring::start(&network, &calibration, measured, 2).unwrap();
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
    let mut none = Measuring::start(&network, &calibration, inputs(&network, 7, 8), 2).unwrap().1;
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
