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
    lowkey(&["plan", &words]).fails(2, "words.onnx", "each operation");
    let nothing = folder.path().join("nothing.onnx");
    lowkey(&["import", text(&nothing)]).fails(2, "nothing.onnx", "");
    let good = file("good.tflite", SOFTMAX);
    lowkey(&["import", &good, "-o", "/nowhere/at/all.lowkey"]).fails(2, "/nowhere/at/all.lowkey", "");
}
