//! Declared rings: what wraps, what is refused, what folding and files keep, and what calibration finds.

mod common;

use std::collections::BTreeMap;

use lowkey_models::check::MAX_RING;
use lowkey_models::declared::{of_channel, wrapped};
use lowkey_models::random;
use lowkey_models::{
    Architecture, Declared, FileProblem, Input, Kind, LinearWeights, ModelError, Network, Node, Op, Problem, Tensor,
    Term, Weights,
};
use ndarray::Array4;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;

/// Two sums of two numbers of four bits, requantised to two bits and added up.
fn small(shift: Vec<u32>) -> Network {
    let dense = |input, outputs| Op::Linear { terms: vec![Term::Dense { input, outputs, weight_bits: 4 }] };
    let nodes = vec![
        Node { name: "first".into(), op: dense(0, 2) },
        Node { name: "relu".into(), op: Op::Requantise { input: 1, bits: 2, shift, top: None, zero_point: 0 } },
        Node { name: "last".into(), op: dense(2, 2) },
    ];
    let architecture = Architecture {
        name: "small".into(),
        input: Input { shape: [2, 1, 1], bits: 4, zero_point: 0, pixels: None, coding: None },
        nodes,
        output: 3,
        rounding: None,
        output_scale: None,
        output_coding: None,
        classes: vec![],
        declared: BTreeMap::new(),
    };
    let weights = |values: [i32; 4], bias: [i64; 2]| LinearWeights {
        terms: vec![Some(Array4::from_shape_vec((2, 2, 1, 1), values.to_vec()).unwrap())],
        bias: bias.to_vec(),
    };
    let linear = vec![Some(weights([1, 2, -3, 1], [1, -1])), None, Some(weights([1, 0, 0, 1], [0, 0]))];
    Network::new(architecture, Weights { linear }).unwrap()
}

fn rings(of: &[(&str, &[u32])]) -> BTreeMap<String, Vec<u32>> {
    of.iter().map(|(name, ring)| ((*name).to_owned(), ring.to_vec())).collect()
}

fn vector(values: [i64; 2]) -> Tensor {
    Tensor::from_shape_vec((2, 1, 1), values.to_vec()).unwrap()
}

/// Every sum by hand: a + 2 b + 1 and -3 a + b - 1, in 5 bits.
#[test]
fn sums_wrap_as_signed_numbers() {
    let network = small(vec![1]).with_rings(rings(&[("first", &[5])])).unwrap();
    let mut wrapped_sums = 0;
    for a in 0..16 {
        for b in 0..16 {
            let sums = [a + 2 * b + 1, -3 * a + b - 1];
            let wrap = |z: i64| (z + 16).rem_euclid(32) - 16;
            let wanted = sums.map(|z| (wrap(z) >> 1).clamp(0, 3));
            let all = network.run_all(&vector([a, b])).unwrap();
            assert_eq!(all[1], vector(sums.map(wrap)), "{a} {b}");
            assert_eq!(all[3], vector(wanted), "{a} {b}");
            let (answers, wraps) = network.run_batch_counting(&[vector([a, b])]).unwrap();
            let own = sums.iter().filter(|&&z| wrap(z) != z).count() as u64;
            assert_eq!((&answers[0], wraps.sums(), wraps.inputs), (&all[3], own, u64::from(own > 0)));
            wrapped_sums += own;
        }
    }
    assert!(wrapped_sums > 100, "{wrapped_sums}");
    assert_eq!(network.bounds()[0].as_ref().unwrap().accumulator_bits(), 5);
    assert_eq!(network.ringed_sums(), 2);
}

/// Two parties that hold shares of 2 z + r modulo 2^(wide + 1) and cut them hold shares of the wrapped z.
#[test]
fn cut_shares_are_shares_of_what_wraps() {
    let mut rng = ChaCha20Rng::seed_from_u64(5);
    let keep = |word: u64, bits: u32| word & (u64::MAX >> (64 - bits));
    for _ in 0..20_000 {
        let ring = rng.random_range(2..=52);
        let wide = rng.random_range(ring + 1..=63);
        let limit = 1i64 << rng.random_range(0..=50);
        let (z, r, c): (i64, u64, u64) = (rng.random_range(-limit..limit), rng.random_range(0..2), rng.random());
        let (c, v) = (keep(c, wide), keep(((2 * z) as u64).wrapping_add(r).wrapping_sub(c), wide));
        let sum = keep(keep(c, ring + 1).wrapping_add(keep(v, ring + 1)), ring + 1);
        assert_eq!(sum & 1, r);
        let own = wrapped(z, ring);
        assert_eq!(wrapped((sum >> 1) as i64, ring), own, "{z} in {ring} of {wide} bits");
        assert_eq!((own - z).rem_euclid(1 << ring), 0);
        assert!(-(1 << (ring - 1)) <= own && own < 1 << (ring - 1));
    }
}

/// The batch interpreter, folding and files keep what wraps, whatever the shifts; and the sums are those of an interpreter that
/// wraps nothing, up to the first node that does.
#[test]
fn random_networks_with_rings() {
    let (mut wraps, mut uneven) = (0, 0);
    for seed in 0..400 {
        let (network, inputs) = common::network_and_inputs(seed);
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let network = random::rings(&mut rng, &network);
        let plain = network.with_rings(BTreeMap::new()).unwrap();
        let (answers, counted) = network.run_batch_counting(&inputs).unwrap();
        wraps += counted.sums();
        let declared = network.architecture().declared.values();
        uneven += declared.filter(|of| of.ring.iter().any(|ring| ring != &of.ring[0])).count();
        let folded = match network.folded() {
            Ok(folded) => folded,
            // Channels that are not constant now, and far from the others.
            Err(ModelError { problem, .. }) => {
                assert!(
                    matches!(*problem, Problem::WeightValue { .. } | Problem::OutOfRange { .. }),
                    "{seed} {problem}"
                );
                continue;
            }
        };
        let again = Network::from_bytes(&network.to_bytes().unwrap()).unwrap();
        assert_eq!(again, network, "seed {seed}");
        for (input, answer) in inputs.iter().zip(&answers) {
            let before = network.run_all(input).unwrap();
            assert_eq!(&before[network.architecture().output], answer, "seed {seed}");
            let after = folded.run_all(input).unwrap();
            for (index, node) in network.architecture().nodes.iter().enumerate() {
                if network.tensors()[index + 1].kind == Kind::Activation {
                    let same = folded.architecture().nodes.iter().position(|other| other.name == node.name).unwrap();
                    assert_eq!(before[index + 1], after[same + 1], "seed {seed} {}", node.name);
                }
            }
            let wide = plain.run_all(input).unwrap();
            if let Some(first) = (0..before.len()).find(|&at| before[at] != wide[at]) {
                let ring = network.architecture().ring(first - 1).expect("the first difference is a sum that wrapped");
                for ((channel, row, column), &z) in wide[first].indexed_iter() {
                    assert_eq!(before[first][[channel, row, column]], wrapped(z, of_channel(ring, channel)));
                }
            }
        }
    }
    assert!(wraps > 1000 && uneven > 20, "{wraps} sums wrapped, {uneven} rings differed by channel");
}

fn problem(change: impl FnOnce(&mut Architecture)) -> Problem {
    let mut architecture = small(vec![1]).architecture().clone();
    change(&mut architecture);
    *architecture.check().expect_err("it breaks a rule").problem
}

#[test]
fn rings_that_nobody_can_hold_are_refused() {
    let declare = |architecture: &mut Architecture, name: &str, ring: &[u32]| {
        architecture.declared.insert(name.into(), Declared { ring: ring.to_vec(), coin: 0 });
    };
    let why = |name: &str, ring: &[u32]| match problem(|a| declare(a, name, ring)) {
        Problem::Ring { why, .. } => why,
        other => panic!("{other}"),
    };
    assert!(why("last", &[9]).contains("the answer"));
    assert!(why("relu", &[9]).contains("no linear node"));
    assert!(why("first", &[3]).contains("two bits and a sign"));
    assert!(why("first", &[5, 6]).contains("different numbers"));
    assert!(why("first", &[MAX_RING + 1]).contains("56"));
    assert_eq!(problem(|a| declare(a, "first", &[5; 3])), Problem::RingCount { found: 3, channels: 2 });
    assert_eq!(problem(|a| declare(a, "first", &[])), Problem::RingCount { found: 0, channels: 2 });
    assert_eq!(problem(|a| declare(a, "second", &[5])), Problem::Undeclared { name: "second".into() });
    let one_bit = problem(|a| {
        declare(a, "first", &[5]);
        a.nodes[1].op = Op::Requantise { input: 1, bits: 1, shift: vec![1], top: None, zero_point: 0 };
    });
    assert!(matches!(one_bit, Problem::Ring { why, .. } if why.contains("one bit")));
    let scaled = problem(|a| {
        declare(a, "first", &[5]);
        a.nodes.insert(1, Node { name: "scale".into(), op: Op::Scale { input: 1, multiplier: vec![3] } });
        a.nodes[2].op = Op::Requantise { input: 2, bits: 2, shift: vec![1], top: None, zero_point: 0 };
        a.nodes[3].op = Op::Linear { terms: vec![Term::Dense { input: 3, outputs: 2, weight_bits: 4 }] };
        a.output = 4;
    });
    assert!(matches!(scaled, Problem::Ring { why, .. } if why.contains("scale")));
    // Shifts that differ by channel leave as many bits above each.
    let network = small(vec![1, 2]);
    assert!(network.with_rings(rings(&[("first", &[5])])).is_err());
    let folded = network.with_rings(rings(&[("first", &[5, 6])])).unwrap().folded().unwrap();
    assert_eq!(folded.architecture().ring(0), Some(&[6][..]));
}

/// Bytes of a file with its format replaced by another of the same length.
fn with_format(network: &Network, from: &str, to: &str) -> FileProblem {
    let bytes = network.to_bytes_without_digest().unwrap();
    let key = br#""lowkey.format":""#;
    let at = bytes.windows(key.len()).position(|window| window == key).unwrap() + key.len();
    assert_eq!(&bytes[at..][..from.len() + 1], format!("{from}\"").as_bytes());
    let mut other = bytes;
    other[at..][..to.len()].copy_from_slice(to.as_bytes());
    Network::from_bytes(&other).expect_err("another format").problem
}

#[test]
fn a_file_says_what_it_chooses() {
    let (plain, ringed) = (small(vec![1]), small(vec![1]).with_rings(rings(&[("first", &[5])])).unwrap());
    for network in [&plain, &ringed] {
        assert_eq!(&Network::from_bytes(&network.to_bytes().unwrap()).unwrap(), network);
    }
    assert!(matches!(with_format(&plain, "1", "2"), FileProblem::UnknownFormat { .. }));
    assert!(matches!(with_format(&ringed, "2: rings", "3: rings"), FileProblem::UnknownFormat { .. }));
    let unknown = with_format(&ringed, "2: rings", "2: kings");
    assert!(unknown.to_string().contains("\"kings\""), "{unknown}");
    // The format is that of the architecture.
    let json = ringed.architecture().to_json();
    let with = |format: &str, json: &str| {
        let bytes = small(vec![1]).to_bytes().unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let metadata = [("lowkey.format", format), ("lowkey.architecture", json)];
        let metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        Network::from_bytes(&safetensors::serialize(file.tensors(), Some(metadata)).unwrap())
    };
    assert_eq!(with("2: rings", &json).unwrap(), ringed);
    let wrong = with("1", &json).expect_err("rings in format 1").problem;
    assert!(matches!(wrong, FileProblem::WrongFormat { .. }), "{wrong}");
    let wrong = with("2: rings", &plain.architecture().to_json()).expect_err("format 2 without rings").problem;
    assert!(matches!(wrong, FileProblem::WrongFormat { .. }), "{wrong}");
}

/// Samples never wrap with bits to spare; each bit less makes rings narrower, and in the end sums wrap.
#[test]
fn calibrated_rings_hold_the_samples() {
    let (mut narrower, mut wrapped) = (0, 0);
    for seed in 0..60 {
        let (network, samples) = common::network_and_inputs(seed);
        let mut last: BTreeMap<String, Declared> = BTreeMap::new();
        for spare in [3, 1, 0, -1, -2] {
            let ringed = network.calibrated(&samples, spare).unwrap();
            let (answers, wraps) = ringed.run_batch_counting(&samples).unwrap();
            let declared = &ringed.architecture().declared;
            for (name, wider) in &last {
                let pairs = declared[name].ring.iter().zip(&wider.ring);
                assert!(pairs.clone().all(|(own, wider)| own <= wider), "seed {seed}, {spare} to spare, {name}");
            }
            last = declared.clone();
            if spare >= 0 {
                assert_eq!(answers, network.run_batch(&samples).unwrap(), "seed {seed}, {spare} to spare");
                assert_eq!(wraps.sums(), 0, "seed {seed}, {spare} to spare");
            }
            narrower += u32::from(ringed.architecture().has_rings());
            wrapped += wraps.sums();
        }
        // Calibrating again starts from the sums themselves.
        let twice = network.calibrated(&samples, -2).unwrap().calibrated(&samples, 1).unwrap();
        assert_eq!(twice, network.calibrated(&samples, 1).unwrap(), "seed {seed}");
    }
    assert!(narrower > 100 && wrapped > 100, "{narrower} networks, {wrapped} wraps");
    assert!(small(vec![1]).calibrated(&[], 1).is_err());
}
