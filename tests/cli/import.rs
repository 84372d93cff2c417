//! `import`, and files of other programs given to the other commands.

use super::{files, lowkey, text};

/// The bytes of a small TFLite network: a convolution, a pool, a dense layer and a softmax.
const SOFTMAX: &[u8] = include_bytes!("../../models/tests/golden/tflite/softmax.tflite");

#[test]
fn a_file_of_another_program_becomes_a_model() {
    let folder = tempfile::tempdir().unwrap();
    let source = text(&files::write(folder.path(), "softmax.tflite", SOFTMAX)).to_owned();
    let model = text(&folder.path().join("mine.lowkey")).to_owned();
    let report = lowkey(&["import", &source, "-o", &model]).prints();
    assert!(report.starts_with("TFLite") && report.contains("dropped"), "{report}");
    assert!(report.contains("rounding: ") && report.contains("CONV_2D"), "{report}");
    // The same plan from both files, and it says whose rounding it has.
    let plan = lowkey(&["plan", &model]).prints();
    assert!(plan.starts_with("softmax, planned for lan\nrounding: "), "{plan}");
    let direct = lowkey(&["plan", &source]).prints();
    assert_eq!(direct, plan);
    let record = &lowkey(&["plan", &source, "--json"]).records()[0];
    assert!(record["rounding"].as_str().unwrap().contains("reference"), "{record}");
}

#[test]
fn files_that_cannot_be_imported() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| text(&files::write(folder.path(), name, bytes)).to_owned();
    let cut = file("cut.tflite", &SOFTMAX[..SOFTMAX.len() / 2]);
    lowkey(&["import", &cut]).fails(2, "cut.tflite", "give a whole");
    let words = file("words.onnx", b"words, and no network at all");
    lowkey(&["import", &words]).fails(2, "words.onnx", "give a whole");
    lowkey(&["plan", &words]).fails(2, "words.onnx", "networks are .lowkey, ONNX and TFLite files");
    let nothing = folder.path().join("nothing.onnx");
    lowkey(&["import", text(&nothing)]).fails(2, "nothing.onnx", "");
    let good = file("good.tflite", SOFTMAX);
    lowkey(&["import", &good, "-o", "/nowhere/at/all.lowkey"]).fails(2, "/nowhere/at/all.lowkey", "");
    lowkey(&["import", &good, "-o", &good]).fails(2, "written over it", "another file");
    assert_eq!(std::fs::read(&good).unwrap(), SOFTMAX);
    lowkey(&["import", "digits"]).fails(2, "bundled network", "lowkey plan digits");
    let note = lowkey(&["import", "examples/digits.onnx", "--rounding", "xnnpack"]).err;
    assert!(note.contains("--rounding xnnpack is of TFLite files"), "{note}");
    let note = lowkey(&["import", &good, "--rounding", "int8"]).err;
    assert!(note.contains("--rounding int8 is of ONNX files"), "{note}");
    // A network that is read as it is has its own.
    let note = lowkey(&["plan", "digits", "--mean", "0.5", "--std", "0.5"]).err;
    assert!(note.contains("digits: --mean and --std are of ONNX and TFLite files: nothing changes here"), "{note}");
    lowkey(&["eval", "--model", "digits", "--data", "models/zoo/digits-images.npy"]).fails(
        2,
        "neither a folder",
        "labels",
    );
    lowkey(&["infer", "--server", "127.0.0.1:1", "--input", "README.md"]).fails(2, "none of PNG", "inputs are");
}

/// A network whose outputs have units of their own, which an approximate import makes multiples of one.
const UNITS: &[u8] = include_bytes!("../../models/tests/oracle/onnx/exports/pt2e-x86.onnx");

/// One with signed activations that several nodes read.
const SIGNED: &[u8] = include_bytes!("../../models/tests/oracle/onnx/exports/pt2e-xnnpack-tensor.onnx");

/// One with a mean whose float sums decide.
const MEANS: &[u8] = include_bytes!("../../models/tests/oracle/onnx/exports/static-qdq-tensor-global.onnx");

/// A residual of signed bytes, as a quantiser made it by default: refused with what helps, and taken with it.
#[test]
fn signed_activations_are_integers_where_the_runtime_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = files::write(folder.path(), "signed.onnx", SIGNED);
    let refused = lowkey(&["import", text(&file)]);
    assert!(refused.code == Some(2) && refused.err.contains("and use --rounding int8"), "{}", refused.err);
    let taken = lowkey(&["import", text(&file), "--rounding", "int8"]);
    assert_eq!(taken.code, Some(0), "{}", taken.err);
}

/// The same array with elements of type int8.
fn signed(npy: &[u8]) -> Vec<u8> {
    let at = npy.windows(3).position(|three| three == b"|u1").unwrap();
    [&npy[..at], b"|i1", &npy[at + 3..]].concat()
}

#[test]
fn an_approximate_import_is_compared_with_its_twin() {
    let folder = tempfile::tempdir().unwrap();
    let model = text(&files::write(folder.path(), "units.onnx", UNITS)).to_owned();
    let options = lowkey_models::import::Options { approximate: true, ..Default::default() };
    let shape = lowkey_models::import::from_bytes(UNITS, &options).unwrap().network.architecture().input.shape;
    let size: usize = shape.iter().product();
    let pixels: Vec<u8> = (0..3 * size).map(|i| (i * i % 251) as u8).collect();
    let data =
        text(&files::write(folder.path(), "data.npy", &files::npy(&[&[3][..], &shape].concat(), &pixels))).to_owned();
    let report = lowkey(&["import", &model, "--approximate", "--check", &data]).prints();
    assert!(
        report.contains(
            "check: 3 inputs; compared with: the same network, where 2 requantisations follow the file's rules \
             themselves and the outputs have"
        ),
        "{report}"
    );
    let record = &lowkey(&["import", &model, "--approximate", "--check", &data, "--json"]).records()[0];
    let check = &record["check"];
    assert_eq!(check["inputs"], 3);
    let [largest, mean] = ["largest_difference", "mean_difference"].map(|name| check[name].as_f64().unwrap());
    assert!(largest > 0.0 && mean > 0.0 && mean <= largest, "{record}");
    assert!(
        check["same_class"].as_u64().unwrap() <= 3 && record["operators"].as_array().unwrap().len() > 3,
        "{record}"
    );
    // The order of float additions decides, which a twin does not show.
    let means = text(&files::write(folder.path(), "means.onnx", MEANS)).to_owned();
    let shape = lowkey_models::import::from_bytes(MEANS, &options).unwrap().network.architecture().input.shape;
    let bytes = files::npy(&[&[1][..], &shape].concat(), &vec![7; shape.iter().product()]);
    let image = text(&files::write(folder.path(), "image.npy", &signed(&bytes))).to_owned();
    let report = lowkey(&["import", &means, "--approximate", "--check", &image]).prints();
    assert!(report.contains("integers near the runtime's floats") && !report.contains("nothing is"), "{report}");
    // What is exact is its own twin.
    let exact = text(&files::write(folder.path(), "softmax.tflite", SOFTMAX)).to_owned();
    let signed = signed(&files::npy(&[1, 6, 5, 3], &[100; 90]));
    let data = text(&files::write(folder.path(), "exact.npy", &signed)).to_owned();
    let ran = lowkey(&["import", &exact, "--check", &data, "--json"]);
    let record: serde_json::Value = serde_json::from_str(ran.out.trim()).unwrap_or_else(|_| panic!("{ran:?}"));
    assert_eq!(
        (&record["check"]["outputs_that_differ"], &record["check"]["largest_difference"]),
        (&0.into(), &0.0.into())
    );
    // Data that the network does not read.
    lowkey(&["import", &model, "--approximate", "--check", &data]).fails(2, "exact.npy", "");
}
