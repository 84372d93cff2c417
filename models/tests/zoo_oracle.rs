//! The bundled networks against the QONNX executor and ONNX Runtime: each is exported (`models/train/qonnx.py`), run and imported.
//! Runtime, imported network and bundled network give the same integers on every image.
//!
//! On the first 50 images of each test set, or 1,000 with LOWKEY_SLOW=1 (`digits` has 360, and random ones to fill up). Without
//! LOWKEY_DATA, the folder that holds mnist/ and cifar10/, only `digits` is compared; without Python or its packages nothing is.

mod common;

use std::path::PathBuf;
use std::process::Command;

use lowkey_models::import::{self, Options};
use lowkey_models::zoo::{self, Bundled};
use lowkey_models::{Architecture, Inputs, Labelled, Tensor, random};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

/// The first images of a network's test set; `None` where there is no data.
fn images(bundled: &Bundled, count: usize) -> Option<Vec<Tensor>> {
    let Architecture { input, classes, .. } = bundled.network().architecture().clone();
    if let Some(demo) = bundled.demo() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let filled = std::iter::repeat_with(|| random::input(&mut rng, &input));
        return Some(demo.inputs.iter().chain(filled).take(count).collect());
    }
    let data = std::env::var_os("LOWKEY_DATA").map(PathBuf::from)?;
    let inputs = if bundled.name.starts_with("mnist-") {
        Inputs::read(data.join("mnist/t10k-images-idx3-ubyte.gz"), &input).expect("images")
    } else {
        Labelled::read(data.join("cifar10/test.zip"), &input, &classes).expect("images").inputs
    };
    Some(inputs.iter().take(count).collect())
}

#[test]
fn bundled_networks_equal_the_qonnx_executor() {
    compare("qonnx", |_| true);
}

#[test]
fn bundled_networks_equal_onnxruntime() {
    // Weights of 8 bits would need 9 in this form.
    compare("qdq", |name| !name.contains("w8"));
}

/// Exports the networks that the form has, runs and imports them.
fn compare(form: &str, has: impl Fn(&str) -> bool) {
    let Some(python) = common::oracle::onnx() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str, suffix: &str| folder.path().join(name).with_added_extension(suffix);
    let count = if common::oracle::slow() { 1000 } else { 50 };
    let mut sets = Vec::new();
    for bundled in zoo::ALL.iter().filter(|bundled| has(bundled.name)) {
        let Some(images) = images(bundled, count) else {
            eprintln!("skipped: {}, since LOWKEY_DATA does not name the folder that holds its data", bundled.name);
            continue;
        };
        let bytes: Vec<u8> = images.iter().flatten().map(|&x| u8::try_from(x).expect("at most 8 bits")).collect();
        std::fs::write(path(bundled.name, "inputs"), bytes).expect("it is written");
        std::fs::write(path(bundled.name, "lowkey"), bundled.file()).expect("it is written");
        sets.push((bundled, images));
    }
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/onnx/zoo.py");
    let mut command = Command::new(python);
    command.arg(script).arg(form).arg(folder.path()).args(sets.iter().map(|(bundled, _)| bundled.name));
    let output = command.output().expect("Python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for (bundled, images) in sets {
        let name = bundled.name;
        let floats = std::fs::read(path(name, "outputs")).expect("the runtime's results");
        let runtime: Vec<f64> = floats.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes).into()).collect();
        let imported = import::read(path(name, "onnx"), &Options::default());
        let imported = imported.unwrap_or_else(|error| panic!("{name}: {error}")).network;
        let scale = imported.architecture().output_scale.expect("outputs have a unit");
        let integers: Vec<i64> = imported.run_batch(&images).expect("valid inputs").into_iter().flatten().collect();
        let bundled: Vec<i64> =
            bundled.network().run_batch(&images).expect("valid inputs").into_iter().flatten().collect();
        assert_eq!(integers.iter().map(|&z| z as f64 * scale).collect::<Vec<_>>(), runtime, "{name}: the runtime");
        assert_eq!(integers, bundled, "{name}: the bundled network");
        eprintln!("{form}, {name}: {} images, {} outputs equal", images.len(), integers.len());
    }
}
