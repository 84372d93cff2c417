//! ONNX files without Python: a few that are kept with their results, damaged ones, and what is refused with which words.
//!
//! The files were written and run by `tests/oracle/onnx/generate.py`, those of Brevitas, PyTorch and ONNX Runtime's quantiser by
//! `tests/oracle/onnx/exports/make.py`.

mod common;

use std::path::PathBuf;

use lowkey_models::import::{self, ImportProblem, Options, Preprocessing, Verdict};
use lowkey_models::interpret::Tensor;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;
use serde_json::Value;

const NAMES: [&str; 10] =
    ["qdq", "qdq_extras", "qcdq", "qoperator", "qonnx", "static_qdq", "static_qoperator", "product", "pad", "chain"];

fn fixture(name: &str) -> (Vec<u8>, Value) {
    kept("fixtures", name)
}

fn export(name: &str) -> (Vec<u8>, Value) {
    kept("exports", name)
}

/// A file and its case.
fn kept(folder: &str, name: &str) -> (Vec<u8>, Value) {
    let path = |suffix: &str| {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/oracle/onnx/{folder}/{name}.{suffix}"))
    };
    let read = |suffix: &str| std::fs::read(path(suffix)).expect("a fixture");
    (read("onnx"), serde_json::from_slice(&read("json")).expect("valid JSON"))
}

fn integers(value: &Value) -> Vec<i64> {
    value.as_array().expect("a list").iter().map(|v| v.as_i64().expect("an integer")).collect()
}

/// The file with one text in the place of another of the same length, so that all lengths stay right.
fn replaced(bytes: &[u8], old: &str, new: &str) -> Vec<u8> {
    assert_eq!(old.len(), new.len());
    let mut bytes = bytes.to_vec();
    let mut at = 0;
    while let Some(found) = bytes[at..].windows(old.len()).position(|window| window == old.as_bytes()) {
        bytes[at + found..at + found + old.len()].copy_from_slice(new.as_bytes());
        at += found + old.len();
    }
    bytes
}

fn refusal(bytes: &[u8]) -> String {
    import::from_bytes(bytes, &Options::default()).expect_err("a file that is refused").to_string()
}

/// A length-delimited field of a message.
fn field(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag << 3 | 2];
    let mut length = content.len();
    while length >= 128 {
        bytes.push(length as u8 | 128);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend_from_slice(content);
    bytes
}

/// The table for people is what the import decides by. LOWKEY_BLESS=1 writes it.
#[test]
fn the_table_of_operators_is_in_the_docs() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/operators-onnx.md");
    let head = "# ONNX operators\n\nWhat `lowkey import` makes of each operator of an ONNX or QONNX file.\n\n";
    let text = format!("{head}{}", import::onnx::markdown());
    if std::env::var_os("LOWKEY_BLESS").is_some() {
        std::fs::write(&path, &text).expect("it is written");
    }
    assert_eq!(std::fs::read_to_string(path).expect("a page"), text, "LOWKEY_BLESS=1 writes it");
}

#[test]
fn kept_files_equal_their_runtimes() {
    for name in NAMES {
        let (bytes, case) = fixture(name);
        let imported =
            import::from_bytes(&bytes, &Options::default()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let network = &imported.network;
        let cases = case["inputs"].as_array().expect("a list").iter().zip(case["outputs"].as_array().expect("a list"));
        for (input, output) in cases {
            let shape = network.architecture().input.shape;
            let input = Tensor::from_shape_vec(shape, integers(input)).expect("an input of the network's shape");
            let found: Vec<i64> = network.run(&input).expect("a valid input").into_iter().collect();
            assert_eq!(found, integers(output), "{name}");
        }
    }
}

/// Files of the tools, and why they are refused unless results may be approximate.
const EXPORTS: [(&str, Option<&str>); 24] = [
    ("brevitas-qcdq-w2-channel-any-float", None),
    ("brevitas-qcdq-w2-channel-power-quant", None),
    ("brevitas-qcdq-w2-tensor-any-trunc", None),
    ("brevitas-qcdq-w3-tensor-any-branches", None),
    ("brevitas-qcdq-w3-tensor-power-branches", None),
    ("brevitas-qcdq-w4-channel-any-quant", Some("signed 8-bit activations are")),
    ("brevitas-qcdq-w4-channel-power-trunc", None),
    ("brevitas-qcdq-w4-tensor-power-float", None),
    ("brevitas-qonnx-w2-channel-any-float", None),
    ("brevitas-qonnx-w2-channel-power-quant", None),
    ("brevitas-qonnx-w2-tensor-any-trunc", None),
    ("brevitas-qonnx-w3-tensor-any-branches", None),
    ("brevitas-qonnx-w3-tensor-power-branches", None),
    ("brevitas-qonnx-w4-channel-any-quant", Some("a value lies nearer to a boundary than its error")),
    ("brevitas-qonnx-w4-channel-power-trunc", None),
    ("brevitas-qonnx-w4-tensor-power-float", None),
    ("pt2e-x86", Some("a sum of values that nothing has quantised")),
    ("pt2e-xnnpack-channel", Some("signed 8-bit activations are")),
    ("pt2e-xnnpack-tensor", Some("signed 8-bit activations are")),
    ("static-qdq-channel-global", Some("signed 8-bit activations are")),
    ("static-qdq-channel-windows", Some("signed 8-bit activations are")),
    ("static-qdq-tensor-global", Some("signed 8-bit activations are")),
    ("static-qoperator-channel-global", None),
    ("static-qoperator-tensor-global", None),
];

#[test]
fn files_of_other_tools_equal_their_runtimes() {
    for (name, doubt) in EXPORTS {
        let (bytes, case) = export(name);
        let read = |approximate| import::from_bytes(&bytes, &Options { approximate, ..Options::default() });
        let imported = match (read(false), doubt) {
            (exact, None) => exact.unwrap_or_else(|error| panic!("{name}: {error}")),
            (Ok(_), Some(_)) => panic!("{name} is exact"),
            (Err(error), Some(doubt)) => {
                let text = error.to_string();
                assert!(text.contains(doubt) && text.contains("approximate"), "{name}: {text}");
                let near = read(true).unwrap_or_else(|error| panic!("{name}: {error}"));
                if doubt.contains("signed tensor") {
                    let told = format!("{}", near.report);
                    assert!(
                        told.contains("random inputs of each channel is ") && told.contains(doubt),
                        "{name}: {told}"
                    );
                }
                near
            }
        };
        let comparison = common::oracle::compare(&imported.network, &case);
        eprintln!("{name}: {comparison:?}");
        assert!(comparison.outputs >= 80 && comparison.classes == 0, "{name}: {comparison:?}");
        assert!(doubt.is_some() || comparison.differ == 0, "{name}: {comparison:?}");
        assert!(comparison.worst < 0.03, "{name}: {comparison:?}");
    }
}

#[test]
fn reports_say_what_became_of_a_file() {
    let (bytes, _) = fixture("static_qdq");
    let options = Options { name: Some("a name".to_owned()), ..Options::default() };
    let imported = import::from_bytes(&bytes, &options).expect("a valid file");
    let (report, architecture) = (&imported.report, imported.network.architecture());
    assert_eq!(report.format, "ONNX QDQ");
    assert_eq!(architecture.name, "a name");
    assert!(report.rows.iter().any(|row| row.op == "Conv" && matches!(row.verdict, Verdict::Imported(_))), "{report}");
    assert!(architecture.rounding.as_deref().is_some_and(|rule| rule.contains("half to even")), "{report}");
    assert!(architecture.output_scale.is_some_and(|scale| scale > 0.0));
    assert_eq!(import::from_bytes(&fixture("qonnx").0, &options).expect("a valid file").report.format, "QONNX");
}

#[test]
fn pictures_become_inputs_by_the_preprocessing() {
    let (bytes, _) = fixture("static_qdq");
    let preprocessing = Preprocessing { scale: 1.0, over: 255.0, mean: vec![0.5], std: vec![0.25] };
    let options = Options { preprocessing: Some(preprocessing), ..Options::default() };
    let imported = import::from_bytes(&bytes, &options).expect("a valid file");
    let input = &imported.network.architecture().input;
    let tables = input.pixels.as_ref().expect("tables");
    assert_eq!(tables.len(), input.shape[0]);
    for table in tables {
        assert!(table.is_sorted() && table[0] < table[255]);
        // Half of the brightest pixel is 0.0, which is stored as the zero point.
        assert!((i64::from(table[127]) - input.zero_point).abs() <= 1);
    }
    let bad = Preprocessing { scale: 1.0, over: 1.0, mean: vec![0.0], std: vec![0.0] };
    let options = Options { preprocessing: Some(bad), ..Options::default() };
    assert!(import::from_bytes(&bytes, &options).is_err());
}

#[test]
fn damaged_files_are_errors() {
    let seed: u64 = 20_26;
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let (mut accepted, mut refused) = (0, 0);
    let exports = EXPORTS.map(|(name, _)| (export(name).0, 40));
    for (bytes, count) in NAMES.map(|name| (fixture(name).0, 150)).into_iter().chain(exports) {
        for _ in 0..count {
            let mut damaged = bytes.clone();
            for _ in 0..rng.random_range(1..=4) {
                let at = rng.random_range(0..damaged.len());
                match rng.random_range(0..4) {
                    0 => damaged.truncate(at.max(1)),
                    1 => damaged[at] ^= 1 << rng.random_range(0..8),
                    2 => damaged[at] = rng.random(),
                    _ => damaged.insert(at, rng.random()),
                }
            }
            let options = Options { approximate: rng.random(), ..Options::default() };
            match import::from_bytes(&damaged, &options) {
                Ok(_) => accepted += 1,
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    refused += 1;
                }
            }
        }
    }
    assert!(accepted > 0 && refused > 0, "seed {seed}: {accepted} accepted, {refused} refused");
    for length in 0..200 {
        let noise: Vec<u8> = (0..length).map(|_| rng.random()).collect();
        assert!(import::from_bytes(&noise, &Options::default()).is_err(), "seed {seed}");
    }
}

#[test]
fn unknown_operations_are_named_with_their_node() {
    let (bytes, _) = fixture("qonnx");
    let text = refusal(&replaced(&bytes, "Conv", "Sinh"));
    assert!(text.contains("Sinh") && text.contains("conv") && text.contains("replace it"), "{text}");
    let error =
        import::from_bytes(&replaced(&bytes, "Conv", "Sinh"), &Options::default()).expect_err("no such operation");
    let report = error.report.expect("a report");
    assert!(report.rows.iter().any(|row| row.op == "Sinh" && matches!(row.verdict, Verdict::Unsupported { .. })));
}

#[test]
fn all_obstacles_are_named_at_once() {
    let (bytes, _) = fixture("qdq_extras");
    let text = refusal(&replaced(&replaced(&bytes, "Conv", "Sinh"), "Gemm", "Cosh"));
    assert!(text.contains("2 obstacles") && text.contains("Sinh") && text.contains("Cosh"), "{text}");
    // Nodes that are refused for their numbers only, each by its name; the advice is not given twice.
    let doubtful = EXPORTS.into_iter().filter(|(_, doubt)| doubt.is_some());
    let texts: Vec<String> = doubtful.map(|(name, _)| refusal(&export(name).0)).collect();
    assert!(texts.iter().any(|text| text.lines().count() > 2), "{texts:#?}");
    let (bytes, _) = export("static-qdq-channel-windows");
    let options = Options { approximate: true, ..Options::default() };
    let text =
        import::from_bytes(&replaced(&bytes, "Conv", "Sinh"), &options).expect_err("no such operation").to_string();
    assert!(!text.contains("approximate"), "{text}");
}

#[test]
fn inputs_that_nothing_quantises_are_refused() {
    // model { graph { node { input "x" output "y" op_type "Relu" } input { "x", float [1, 2] } output { "y" } } }
    let dimension = |size: u8| field(1, &[1 << 3, size]);
    let shape = field(2, &[dimension(1), dimension(2)].concat());
    let ty = field(2, &field(1, &[vec![1 << 3, 1], shape].concat()));
    let node = [field(1, b"x"), field(2, b"y"), field(4, b"Relu")].concat();
    let input = [field(1, b"x"), ty].concat();
    let graph = [field(1, &node), field(11, &input), field(12, &field(1, b"y"))].concat();
    let text = refusal(&field(7, &graph));
    assert!(text.contains("a float network") && text.contains("quantise it first"), "{text}");
}

#[test]
fn tensors_in_other_files_are_refused_with_a_hint() {
    let tensor = [field(8, b"weights"), vec![14 << 3, 1]].concat();
    let text = refusal(&field(7, &field(5, &tensor)));
    assert!(text.contains("weights") && text.contains("save_as_external_data=False"), "{text}");
}

#[test]
fn floods_of_messages_are_refused_before_they_are_decoded() {
    // Two bytes in the file, hundreds in memory.
    let nodes: Vec<u8> = [1 << 3 | 2, 0].repeat((1 << 20) + 1);
    let error = import::from_bytes(&field(7, &nodes), &Options::default()).expect_err("too many");
    assert!(matches!(*error.problem, ImportProblem::TooLarge { .. }), "{error}");
}

#[test]
fn what_biases_of_the_outputs_lose_is_told() {
    let (bytes, _) = export("brevitas-qcdq-w2-channel-power-quant");
    let imported = import::from_bytes(&bytes, &Options::default()).expect("a valid file");
    let report = format!("{}", imported.report);
    // Sums have units of 2 * 0.5 and of 2 * 0.25, so biases are multiples of 2^-12: what they lose is at most half of that.
    let told = report.lines().find(|line| line.contains("the biases of the outputs are rounded, each by "));
    let told = told.unwrap_or_else(|| panic!("{report}"));
    let most: f64 = told
        .split("each by ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next())
        .expect("a number")
        .parse()
        .expect("a number");
    assert!(most > 1e-5 && most <= 0.5f64.powi(13), "{told}");
}
