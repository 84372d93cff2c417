//! Roundings by coins: what the interpreter makes of given ones, what is refused, and what folding and files keep.

mod common;

use std::collections::BTreeMap;

use lowkey_models::json::JsonError;
use lowkey_models::random;
use lowkey_models::{
    Architecture, Declared, FileProblem, Input, LinearWeights, Network, Node, Op, Problem, Tensor, Term, Weights,
    Window,
};
use ndarray::Array4;
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

/// 9 a - 20, rounded to a multiple of 8 and clipped to three bits; the answer is the result itself.
fn small(coin: u32, ring: &[u32]) -> Network {
    let dense = |input| Op::Linear { terms: vec![Term::Dense { input, outputs: 1, weight_bits: 6 }] };
    let relu = Op::Requantise { input: 1, bits: 3, shift: vec![3], top: None, zero_point: 0 };
    let nodes = [("first", dense(0)), ("relu", relu), ("last", dense(2))];
    let declared = [("relu", Declared { ring: vec![], coin }), ("first", Declared { ring: ring.to_vec(), coin: 0 })];
    let kept = declared.into_iter().filter(|(_, declared)| *declared != Declared::default());
    let architecture = Architecture {
        name: "small".into(),
        input: Input { shape: [1, 1, 1], bits: 4, zero_point: 0, pixels: None, coding: None },
        nodes: nodes.map(|(name, op)| Node { name: name.into(), op }).into(),
        output: 3,
        rounding: None,
        output_scale: None,
        output_coding: None,
        classes: vec![],
        declared: kept.map(|(name, declared)| (name.to_owned(), declared)).collect(),
    };
    let weights = |w, bias| LinearWeights { terms: vec![Some(Array4::from_elem((1, 1, 1, 1), w))], bias: vec![bias] };
    Network::new(architecture, Weights { linear: vec![Some(weights(9, -20)), None, Some(weights(1, 0))] }).unwrap()
}

#[test]
fn every_coin_by_hand() {
    for (ring, wrap) in [(vec![], 1 << 20), (vec![6], 64)] {
        for coin in 1..=3 {
            let network = small(coin, &ring);
            for a in 0..16 {
                let input = Tensor::from_elem((1, 1, 1), a);
                let in_ring = |z: i64| (z + wrap / 2).rem_euclid(wrap) - wrap / 2;
                let mut sum = 0;
                for d in 0..1 << coin {
                    let moved = in_ring(9 * a - 20 - (1 << (coin - 1)) + d);
                    let found = network.run_with_coins(&input, |node, element| {
                        assert_eq!((node, element), (1, 0));
                        d as u64
                    });
                    assert_eq!(found.unwrap()[[0, 0, 0]], (moved >> 3).clamp(0, 7), "{a}, coin {d} of {coin} bits");
                    sum += moved >> 3;
                }
                let usual = network.run_with_coins(&input, |_, _| 1 << (coin - 1)).unwrap();
                assert_eq!(usual, network.run(&input).unwrap(), "{a}");
                // All bits of the shift: on average what is rounded, less the rounding constant.
                if coin == 3 && ring.is_empty() {
                    assert_eq!(sum, 9 * a - 20 - 4, "{a}");
                }
            }
        }
    }
}

/// With the same coins by name a folded network has the same answers; batches toss theirs input by input, node by node.
#[test]
fn random_networks_with_coins() {
    let (mut tosses, mut changed) = (0, 0);
    for seed in 0..300 {
        let (network, inputs) = common::network_and_inputs(seed);
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let ringed = if seed % 2 == 0 { network } else { random::rings(&mut rng, &network) };
        let network = random::coins(&mut rng, &ringed);
        tosses += network.tosses();
        assert_eq!(Network::from_bytes(&network.to_bytes().unwrap()).unwrap(), network, "seed {seed}");
        // Channels that are not constant now may be too far from the others.
        let Ok(folded) = network.folded() else { continue };
        let coin = |network: &Network, node: usize, element: usize| {
            let bits = network.architecture().coin(node);
            let name = &network.architecture().nodes[node].name;
            let mixed = name.bytes().fold(element as u64 + 7 * seed, |mixed, byte| {
                (mixed ^ u64::from(byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
            });
            mixed >> (64 - bits)
        };
        for input in &inputs {
            let before = network.run_with_coins(input, |node, element| coin(&network, node, element)).unwrap();
            let after = folded.run_with_coins(input, |node, element| coin(&folded, node, element)).unwrap();
            assert_eq!(before, after, "seed {seed}\n{}", network.architecture().to_json());
            let usual = network.run(input).unwrap();
            assert_eq!(usual, folded.run(input).unwrap(), "seed {seed}");
            changed += usize::from(usual != before);
        }
        // Tossed in order: the coins of an input by node and element, whatever inputs came before.
        let order = |bits: u32, toss: u64| toss.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - bits);
        let own = |at: usize| {
            let mut next = 1000 * at as u64;
            move |bits| {
                next += 1;
                order(bits, next)
            }
        };
        let (batch, _) = network.run_batch_tossing(&inputs, own).unwrap();
        for (at, (input, found)) in inputs.iter().zip(&batch).enumerate() {
            let before = |node: usize| -> u64 {
                let tossed = (0..node).filter(|&node| network.architecture().coin(node) > 0);
                tossed.map(|node| network.tensors()[node + 1].elements() as u64).sum()
            };
            let coin = |node: usize, element: usize| {
                order(network.architecture().coin(node), 1000 * at as u64 + before(node) + element as u64 + 1)
            };
            assert_eq!(&network.run_with_coins(input, coin).unwrap(), found, "seed {seed}");
        }
    }
    assert!(tosses > 1000 && changed > 50, "{tosses} tosses, {changed} answers changed");
}

#[test]
fn coins_that_nobody_can_toss_are_refused() {
    let problem = |change: &dyn Fn(&mut Architecture)| {
        let mut architecture = small(1, &[]).architecture().clone();
        change(&mut architecture);
        *architecture.check().expect_err("it breaks a rule").problem
    };
    let relu = |bits, shift, top| Op::Requantise { input: 1, bits, shift, top, zero_point: 0 };
    let why = |change: &dyn Fn(&mut Architecture)| match problem(change) {
        Problem::Coin { why, .. } => why,
        other => panic!("{other}"),
    };
    assert!(why(&|a| a.declared.get_mut("relu").unwrap().coin = 4).contains("more bits than the shift"));
    assert!(why(&|a| a.nodes[1].op = relu(1, vec![3], None)).contains("one bit"));
    assert!(why(&|a| a.nodes[1].op = relu(3, vec![3], Some(1))).contains("one bit"));
    assert!(
        why(&|a| a.nodes[0].op = Op::Linear { terms: vec![Term::Identity { input: 0, multiplier: 3 }] })
            .contains("encrypted")
    );
    let coin = Declared { ring: vec![], coin: 1 };
    assert!(why(&|a| drop(a.declared.insert("first".into(), coin.clone()))).contains("no requantisation"));
    assert!(
        why(&|a| {
            a.nodes.insert(1, Node { name: "scale".into(), op: Op::Scale { input: 1, multiplier: vec![3] } });
            a.nodes[2].op = Op::Requantise { input: 2, bits: 3, shift: vec![3], top: None, zero_point: 0 };
            a.nodes[3].op = Op::Linear { terms: vec![Term::Dense { input: 3, outputs: 1, weight_bits: 6 }] };
            a.output = 4;
        })
        .contains("linear node")
    );
}

#[test]
fn a_file_says_that_it_has_coins() {
    let format = |network: &Network| {
        let bytes = network.to_bytes().unwrap();
        assert_eq!(&Network::from_bytes(&bytes).unwrap(), network);
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        header.metadata().as_ref().unwrap()["lowkey.format"].clone()
    };
    assert_eq!(format(&small(0, &[])), "2: digest");
    assert_eq!(format(&small(2, &[])), "2: coins, digest");
    assert_eq!(format(&small(0, &[6])), "2: rings, digest");
    assert_eq!(format(&small(2, &[6])), "2: rings, coins, digest");
    let bytes = small(2, &[]).to_bytes().unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let json = small(2, &[]).architecture().to_json();
    let metadata = [("lowkey.format", "2: rings"), ("lowkey.architecture", &json[..])];
    let metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let wrong = Network::from_bytes(&safetensors::serialize(file.tensors(), Some(metadata)).unwrap());
    assert!(matches!(wrong.unwrap_err().problem, FileProblem::WrongFormat { .. }));
}

/// Coins where shifts are long enough for them, and none where they are short.
#[test]
fn coins_are_declared_where_they_pay() {
    for (left, coin) in [(0, 3), (1, 0), (3, 0), (9, 0)] {
        let network = small(0, &[6]).with_coins(left).unwrap();
        assert_eq!(network.architecture().coin(1), coin, "{left} left");
        assert_eq!(network.architecture().ring(0), Some(&[6][..]));
        assert_eq!(network.tosses(), u64::from(coin > 0));
        let plain = network.with_rings(BTreeMap::new()).unwrap();
        assert_eq!(plain.architecture().coin(1), coin, "rings and coins are chosen apart");
    }
    assert_eq!(small(2, &[]).with_coins(9).unwrap(), small(0, &[]));
    // Not before a max pool that alone reads the results.
    let pooled = |read_twice: bool| {
        let (mut architecture, weights) = small(0, &[]).into_parts();
        let window = Window { kernel: [1, 1], stride: [1, 1], padding: [0; 4], dilation: [1, 1] };
        architecture.nodes.insert(2, Node { name: "pool".into(), op: Op::MaxPool { input: 2, window } });
        let mut terms = vec![Term::Dense { input: 3, outputs: 1, weight_bits: 6 }];
        let mut linear = weights.linear;
        if read_twice {
            terms.push(Term::Dense { input: 2, outputs: 1, weight_bits: 6 });
            let last = linear[2].as_mut().unwrap();
            last.terms.push(last.terms[0].clone());
        }
        architecture.nodes[3].op = Op::Linear { terms };
        architecture.output = 4;
        linear.insert(2, None);
        Network::new(architecture, Weights { linear }).unwrap().with_coins(0).unwrap().architecture().coin(1)
    };
    assert_eq!((pooled(false), pooled(true)), (0, 3));
}

/// A ring that is calibrated has room for what coins add to the largest sum.
#[test]
fn calibrated_rings_have_room_for_coins() {
    let network = |coin| {
        let (architecture, mut weights) = small(coin, &[]).into_parts();
        weights.linear[0].as_mut().unwrap().bias = vec![18];
        Network::new(architecture, weights).unwrap()
    };
    let input = Tensor::from_elem((1, 1, 1), 12);
    // 9 * 12 + 18 = 126 fits eight bits; with a coin it is 129 at most.
    let samples = std::slice::from_ref(&input);
    assert_eq!(network(0).calibrated(samples, 0).unwrap().architecture().ring(0), Some(&[8][..]));
    let tossed = network(3).calibrated(samples, 0).unwrap();
    assert_eq!(tossed.run_with_coins(&input, |_, _| 7).unwrap()[[0, 0, 0]], 7);
    let cramped = tossed.with_rings([("first".to_owned(), vec![8])].into()).unwrap();
    assert_eq!(cramped.run_with_coins(&input, |_, _| 7).unwrap()[[0, 0, 0]], 0, "it wraps");
}

/// What a file says of coins may be anything.
#[test]
fn corrupt_declarations_are_refused() {
    let network = small(2, &[6]);
    let json = network.architecture().to_json();
    let bytes = network.to_bytes().unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let given = |format: &str, json: &str| {
        let metadata = [("lowkey.format", format), ("lowkey.architecture", json)];
        let metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        Network::from_bytes(&safetensors::serialize(file.tensors(), Some(metadata)).unwrap())
    };
    assert!(json.contains("\"coin\":2") && given("2: rings, coins", &json).is_ok());
    let with = |from: &str, to: &str| {
        let changed = json.replacen(from, to, 1);
        assert_ne!(changed, json, "{from}");
        given("2: rings, coins", &changed).expect_err(to).problem
    };
    for coin in ["4", "57", "64", "4294967295"] {
        let problem = with("\"coin\":2", &format!("\"coin\":{coin}"));
        let FileProblem::Architecture(JsonError::Model(error)) = problem else { panic!("{coin}: {problem}") };
        assert!(matches!(*error.problem, Problem::Coin { .. }), "{coin}: {error}");
    }
    for coin in ["-1", "4294967296", "1.5", "\"2\"", "null", "[2]"] {
        let problem = with("\"coin\":2", &format!("\"coin\":{coin}"));
        assert!(matches!(problem, FileProblem::Architecture(JsonError::Form(_))), "{coin}: {problem}");
    }
    // A node that is not there, a coin on another node, nothing declared at all.
    for other in ["\"none\":{\"coin\":2}", "\"last\":{\"coin\":2}", "\"relu\":{}"] {
        let problem = with("\"relu\":{\"coin\":2}", other);
        assert!(matches!(problem, FileProblem::Architecture(JsonError::Model(_))), "{other}: {problem}");
    }
    let problem = with("\"coin\":2", "\"coin\":2,\"coins\":2");
    assert!(matches!(problem, FileProblem::Architecture(JsonError::UnknownField { .. })), "{problem}");
    for format in ["1", "2: rings", "2: coins", "2: coins, rings", "2: rings, rings, coins"] {
        assert!(matches!(given(format, &json).unwrap_err().problem, FileProblem::WrongFormat { .. }), "{format}");
    }
    for format in ["2: rings, coin", "2: rings,coins", "2: ", "2: rings, coins, "] {
        assert!(matches!(given(format, &json).unwrap_err().problem, FileProblem::UnknownChoice { .. }), "{format}");
    }
    for format in ["3: coins", "", "2"] {
        assert!(matches!(given(format, &json).unwrap_err().problem, FileProblem::UnknownFormat { .. }), "{format}");
    }
}
