//! The model file: what is written is read back, and damage is a typed error.

mod common;

use lowkey_models::check::MAX_NAME;
use lowkey_models::{Architecture, FileProblem, JsonError, Network, Op, zoo};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;
use safetensors::tensor::{Dtype, TensorView};

#[test]
fn networks_survive_a_round_trip() {
    common::for_random_networks(200, |network, _| {
        for network in [network.clone(), network.folded().unwrap()] {
            let bytes = network.to_bytes().unwrap();
            let again = Network::from_bytes(&bytes).unwrap();
            assert_eq!(again, network);
            assert_eq!(again.to_bytes().unwrap(), bytes);
            safetensors::SafeTensors::deserialize(&bytes).unwrap();
        }
    });
}

#[test]
fn the_format_names_averages_that_floats_decide() {
    let networks = (0..100).map(|seed| common::network_and_inputs(seed).0);
    let network = networks.into_iter().find(|network| network.architecture().has_floats()).expect("one of a hundred");
    let text = String::from_utf8_lossy(&network.to_bytes().unwrap()).into_owned();
    assert!(text.contains("\"lowkey.format\":\"2: floats, digest\""));
    // A program that does not know of them has no such field, and says so.
    let older = network.architecture().to_json().replace("\"least\":", "\"more\":");
    assert!(Architecture::from_json(&older).is_err());
    let architecture = network.architecture().to_json();
    let file = |format| file(&[("lowkey.format", format), ("lowkey.architecture", &architecture)], &[]);
    let problem = Network::from_bytes(&file("1")).unwrap_err().problem;
    assert!(matches!(problem, FileProblem::WrongFormat { .. }), "{problem}");
}

#[test]
fn files_are_written_and_read_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.lowkey");
    let (network, _) = common::network_and_inputs(3);
    network.write(&path).unwrap();
    assert_eq!(Network::read(&path).unwrap(), network);
    let missing = folder.path().join("none.lowkey");
    let error = Network::read(&missing).unwrap_err();
    assert!(error.to_string().contains("none.lowkey"), "{error}");
    assert!(matches!(error.problem, FileProblem::Io(_)));
    std::fs::write(&path, b"not a model").unwrap();
    let error = Network::read(&path).unwrap_err();
    assert!(error.to_string().contains("model.lowkey: "), "{error}");
}

/// Whatever bit of whatever byte: header's length, header, its padding, the digest itself, weights, biases.
#[test]
fn every_flipped_bit_is_found() {
    let reference =
        small(&[("dense.0.weight", Dtype::I8, &[3, 2], WEIGHT), ("dense.bias", Dtype::I64, &[3], BIAS)]).unwrap();
    let bytes = reference.to_bytes().unwrap();
    for bit in 0..8 * bytes.len() {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(Network::from_bytes(&flipped).is_err(), "bit {} of byte {}", bit % 8, bit / 8);
    }
    let last = bytes.len() - 1;
    let changed = [&bytes[..last], &[bytes[last] ^ 1]].concat();
    let problem = Network::from_bytes(&changed).unwrap_err().problem;
    assert!(matches!(problem, FileProblem::Damaged { .. }), "{problem}");
}

/// Files of older programs, and of people who write their own, have none.
#[test]
fn a_digest_is_there_if_the_format_says_so() {
    let (network, _) = common::network_and_inputs(4);
    assert_eq!(Network::from_bytes(&network.to_bytes_without_digest().unwrap()).unwrap(), network);
    let json = network.architecture().to_json();
    let digest = "0".repeat(64);
    let problem = |metadata: &[(&str, &str)]| Network::from_bytes(&file(metadata, &[])).unwrap_err().problem;
    for metadata in [
        &[("lowkey.format", "1"), ("lowkey.architecture", &json), ("lowkey.sha256", &digest)][..],
        &[("lowkey.format", "2: digest"), ("lowkey.architecture", &json)],
    ] {
        let problem = problem(metadata);
        assert!(matches!(problem, FileProblem::DigestPresence { .. }), "{problem}");
    }
    for stated in [&digest, &digest[1..], ""] {
        let metadata = [("lowkey.format", "2: digest"), ("lowkey.architecture", &json), ("lowkey.sha256", stated)];
        let problem = problem(&metadata);
        assert!(matches!(problem, FileProblem::Damaged { .. }), "{problem}");
    }
}

/// Without a digest, so that what is behind it is met.
#[test]
fn damaged_files_are_errors() {
    let mut rng = ChaCha20Rng::seed_from_u64(11);
    for seed in 0..60 {
        let (network, _) = common::network_and_inputs(seed);
        let bytes = network.to_bytes_without_digest().unwrap();
        for _ in 0..60 {
            let mut damaged = bytes.clone();
            for _ in 0..rng.random_range(1..4) {
                let at = rng.random_range(0..damaged.len());
                damaged[at] = rng.random();
            }
            // A changed weight or name may still be a network; anything but a panic will do.
            if let Ok(network) = Network::from_bytes(&damaged) {
                network.architecture().check().unwrap();
            }
            let end = rng.random_range(0..bytes.len());
            assert!(Network::from_bytes(&bytes[..end]).is_err(), "seed {seed}, cut at {end}");
        }
        let longer = [&bytes[..], b"x"].concat();
        assert!(matches!(Network::from_bytes(&longer).unwrap_err().problem, FileProblem::Container(_)));
    }
}

#[test]
fn damaged_architectures_are_errors() {
    let mut rng = ChaCha20Rng::seed_from_u64(12);
    let pieces = ["-1", "0", "9999999999", "18446744073709551615", "1e300", "null", "[]", "{}", "\"\"", "true", "1.5"];
    for seed in 0..100 {
        let (network, _) = common::network_and_inputs(seed);
        let json = network.architecture().to_json();
        for _ in 0..60 {
            // Replace a number by something else.
            let digits: Vec<usize> =
                json.bytes().enumerate().filter(|(_, b)| b.is_ascii_digit()).map(|(i, _)| i).collect();
            let at = digits[rng.random_range(0..digits.len())];
            let piece = pieces[rng.random_range(0..pieces.len())];
            let damaged = format!("{}{piece}{}", &json[..at], &json[at + 1..]);
            if let Ok(architecture) = Architecture::from_json(&damaged) {
                architecture.check().unwrap();
            }
        }
    }
}

/// A file of tensors with the given metadata.
fn file(metadata: &[(&str, &str)], tensors: &[(&str, Dtype, &[usize], &[u8])]) -> Vec<u8> {
    let metadata = metadata.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    let tensors = tensors
        .iter()
        .map(|(name, dtype, shape, data)| (name.to_string(), TensorView::new(*dtype, shape.to_vec(), data).unwrap()));
    safetensors::serialize(tensors, Some(metadata)).unwrap()
}

const SMALL: &str = r#"{
    "name": "small", "input": {"shape": [2, 1, 1], "bits": 4}, "output": 1,
    "nodes": [{"name": "dense", "op": "linear", "terms": [{"term": "dense", "input": 0, "outputs": 3, "weight_bits": 8}]}]
}"#;
const BIAS: &[u8] = &[0; 24];
const WEIGHT: &[u8] = &[1, 2, 3, 4, 5, 255];

fn small(tensors: &[(&str, Dtype, &[usize], &[u8])]) -> Result<Network, FileProblem> {
    let metadata = [("lowkey.format", "1"), ("lowkey.architecture", SMALL)];
    Network::from_bytes(&file(&metadata, tensors)).map_err(|error| error.problem)
}

#[test]
fn all_types_of_weights_and_both_forms_of_a_matrix_are_read() {
    let wide: Vec<u8> = WEIGHT.iter().flat_map(|&b| i16::from(b as i8).to_le_bytes()).collect();
    let wider: Vec<u8> = WEIGHT.iter().flat_map(|&b| i32::from(b as i8).to_le_bytes()).collect();
    let short: &[u8] = &[0; 12];
    let reference =
        small(&[("dense.0.weight", Dtype::I8, &[3, 2], WEIGHT), ("dense.bias", Dtype::I64, &[3], BIAS)]).unwrap();
    for (dtype, data) in [(Dtype::I8, WEIGHT), (Dtype::I16, &wide), (Dtype::I32, &wider)] {
        for shape in [&[3, 2][..], &[3, 2, 1, 1]] {
            for (bias_type, bias) in [(Dtype::I64, BIAS), (Dtype::I32, short)] {
                let tensors = [("dense.0.weight", dtype, shape, data), ("dense.bias", bias_type, &[3], bias)];
                assert_eq!(small(&tensors).unwrap(), reference);
            }
        }
    }
    let (_, weights) = reference.linear(0).unwrap();
    assert_eq!(weights.terms[0].as_ref().unwrap().as_slice().unwrap(), [1, 2, 3, 4, 5, -1]);
}

#[test]
fn tensors_must_be_those_of_the_architecture() {
    let weight = ("dense.0.weight", Dtype::I8, &[3, 2][..], WEIGHT);
    let bias = ("dense.bias", Dtype::I64, &[3][..], BIAS);
    let missing = small(&[weight]).unwrap_err();
    assert_eq!(missing.to_string(), "tensor \"dense.bias\" is missing");
    let missing = small(&[bias]).unwrap_err();
    assert_eq!(missing.to_string(), "tensor \"dense.0.weight\" is missing");
    let extra = small(&[weight, bias, ("dense.1.weight", Dtype::I8, &[1], &[0])]).unwrap_err();
    assert_eq!(extra.to_string(), "tensor \"dense.1.weight\" does not belong to any node");
    let float = small(&[weight, ("dense.bias", Dtype::F64, &[3], BIAS)]).unwrap_err();
    assert_eq!(float.to_string(), "tensor \"dense.bias\" has type F64, it must be I32 or I64");
    let unsigned = small(&[("dense.0.weight", Dtype::U8, &[3, 2], WEIGHT), bias]).unwrap_err();
    assert_eq!(unsigned.to_string(), "tensor \"dense.0.weight\" has type U8, it must be I8, I16 or I32");
    let turned = small(&[("dense.0.weight", Dtype::I8, &[2, 3], WEIGHT), bias]).unwrap_err();
    assert_eq!(turned.to_string(), "tensor \"dense.0.weight\" has shape [2, 3], it must be [3, 2]");
    let long = small(&[weight, ("dense.bias", Dtype::I64, &[3, 1], BIAS)]).unwrap_err();
    assert_eq!(long.to_string(), "tensor \"dense.bias\" has shape [3, 1], it must be [3]");
}

#[test]
fn versions_and_other_files_are_told_apart() {
    let problem = |metadata: &[(&str, &str)]| Network::from_bytes(&file(metadata, &[])).unwrap_err().problem;
    assert!(matches!(problem(&[("format", "pt")]), FileProblem::NoFormat));
    let newer = problem(&[("lowkey.format", "3"), ("lowkey.architecture", SMALL)]);
    assert_eq!(
        newer.to_string(),
        "the file has format \"3\", this program reads \"1\" and \"2: rings, coins, blocks, floats, digest\""
    );
    assert!(matches!(problem(&[("lowkey.format", "1")]), FileProblem::NoArchitecture));
    let text = problem(&[("lowkey.format", "1"), ("lowkey.architecture", "{")]);
    assert!(matches!(text, FileProblem::Architecture(JsonError::Form(_))), "{text}");
    for bytes in [&b""[..], b"\0\0\0\0\0\0\0\0", b"\xff\xff\xff\xff\xff\xff\xff\xff{}"] {
        assert!(Network::from_bytes(bytes).is_err());
    }
}

#[test]
fn headers_over_the_limit_are_refused_before_they_are_read() {
    let mut bytes = ((1u64 << 40).to_le_bytes()).to_vec();
    bytes.extend_from_slice(b"{}");
    assert!(matches!(
        Network::from_bytes(&bytes).unwrap_err().problem,
        FileProblem::TooLarge { what: "the header", .. }
    ));
    let long = format!("{}{SMALL}", " ".repeat(5 << 20));
    assert_eq!(Architecture::from_json(&long), Err(JsonError::TooLong { bytes: long.len() }));
    for nested in ["[".repeat(100_000), "{\"a\":".repeat(100_000)] {
        assert!(matches!(Architecture::from_json(&nested), Err(JsonError::Form(_))));
        let metadata = [("lowkey.format", "1"), ("lowkey.architecture", &nested)];
        assert!(Network::from_bytes(&file(&metadata, &[])).is_err());
    }
}

#[test]
fn unknown_fields_are_refused_where_they_are() {
    let misspelt = |from: &str, to: &str| {
        let text = SMALL.replacen(from, to, 1);
        assert_ne!(text, SMALL);
        Architecture::from_json(&text)
    };
    let path = |result: Result<Architecture, JsonError>| match result {
        Err(JsonError::UnknownField { path }) => path,
        other => panic!("{other:?}"),
    };
    assert_eq!(path(misspelt("\"bits\": 4", "\"bits\": 4, \"zero_pint\": 3")), ".input.zero_pint");
    assert_eq!(path(misspelt("\"outputs\": 3", "\"outputs\": 3, \"bias\": 1")), ".nodes[0].terms[0].bias");
    assert_eq!(path(misspelt("\"output\": 1", "\"output\": 1, \"output_scael\": 1.0")), ".output_scael");
    assert!(misspelt("\"output\": 1", "\"output\": 1, \"output_scale\": null, \"classes\": []").is_ok());
    assert!(matches!(misspelt("\"linear\"", "\"softmax\""), Err(JsonError::Form(_))));
}

#[test]
fn text_of_a_stranger_is_printed_safely() {
    let text = SMALL.replace("\"linear\"", "\"\\u001b[31m\\n\"");
    let error = Architecture::from_json(&text).unwrap_err().to_string();
    assert!(!error.chars().any(char::is_control), "{error:?}");
    let long = SMALL.replace("\"linear\"", &format!("\"{}\"", "x".repeat(100_000)));
    assert!(Architecture::from_json(&long).unwrap_err().to_string().len() < 1000);
}

#[test]
fn architecture_is_the_same_text_every_time() {
    let network = zoo::find("digits").unwrap().network();
    let json = network.architecture().to_json();
    let again = Architecture::from_json(&json).unwrap();
    assert_eq!(&again, network.architecture());
    assert_eq!(again.to_json(), json);
    assert!(again.nodes.iter().all(|node| node.name.len() <= MAX_NAME));
    assert!(matches!(again.nodes[0].op, Op::Linear { .. }));
}
