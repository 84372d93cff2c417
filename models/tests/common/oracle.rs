//! Python environments under `target/oracles`, which are made when they are missing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use lowkey_models::{Network, Tensor};
use serde_json::Value;

/// The interpreter of the environment of ONNX; `None`, with a word on standard error, if there is none or `LOWKEY_ORACLES=0`.
pub fn onnx() -> Option<&'static Path> {
    static PYTHON: OnceLock<Option<PathBuf>> = OnceLock::new();
    let packages = ["onnx", "onnxruntime", "qonnx", "numpy", "safetensors"];
    environment(&PYTHON, "onnx", &packages.join(", "), &packages)
}

/// As [`onnx`], of LiteRT.
pub fn tflite() -> Option<&'static Path> {
    static PYTHON: OnceLock<Option<PathBuf>> = OnceLock::new();
    let packages = ["ai-edge-litert==2.3.0", "numpy", "flatbuffers"];
    environment(&PYTHON, "tflite", "ai_edge_litert.schema_py_generated, numpy", &packages)
}

/// Looks for the environment once, however many tests ask at the same time.
fn environment(
    found: &'static OnceLock<Option<PathBuf>>,
    name: &str,
    modules: &str,
    packages: &[&str],
) -> Option<&'static Path> {
    if std::env::var("LOWKEY_ORACLES").is_ok_and(|value| value == "0") {
        eprintln!("skipped: LOWKEY_ORACLES=0");
        return None;
    }
    let python = found.get_or_init(|| install(name, modules, packages)).as_deref();
    if python.is_none() {
        eprintln!("skipped: no Python environment with {} under target/oracles", packages.join(", "));
    }
    python
}

fn install(name: &str, modules: &str, packages: &[&str]) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/oracles").join(name);
    let python = folder.join("bin/python");
    let works = || {
        let import = format!("import {modules}");
        Command::new(&python).args(["-c", &import]).output().is_ok_and(|output| output.status.success())
    };
    if works() {
        return Some(python);
    }
    let made = Command::new("python3").args(["-m", "venv"]).arg(&folder).output().ok()?;
    if made.status.success() {
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "install", "-q"]).args(packages).output().ok()?;
    }
    works().then_some(python)
}

/// LOWKEY_SLOW=1: everything, for minutes.
pub fn slow() -> bool {
    std::env::var("LOWKEY_SLOW").is_ok_and(|slow| slow == "1")
}

/// What became of the cases of a file.
#[derive(Debug, Default, PartialEq)]
pub struct Comparison {
    /// Outputs.
    pub outputs: usize,
    /// Outputs that differ.
    pub differ: usize,
    /// The largest difference as a part of the largest output of its case.
    pub worst: f64,
    /// The same in units of the network's outputs.
    pub steps: f64,
    /// Cases in which the file's largest output is not one of the network's largest.
    pub classes: usize,
}

/// What a unit of output `at` of so many stands for, where the network says it: of all, or of its channel.
pub fn unit_of(network: &Network, at: usize, outputs: usize) -> Option<f64> {
    let architecture = network.architecture();
    let units = architecture.output_coding.as_ref().map_or(&[][..], |coding| &coding.units);
    units.get((at * units.len()).checked_div(outputs)?).copied().or(architecture.output_scale)
}

/// Runs a network on the inputs of a case that `tests/oracle/onnx/run.py` wrote.
///
/// Outputs of the file are real numbers. Those of the network times their unit are within half a unit of them, since the bias of a last
/// layer that nothing quantises is rounded to units.
pub fn compare(network: &Network, case: &Value) -> Comparison {
    let list = |value: &Value| -> Vec<f64> {
        value.as_array().expect("a list").iter().map(|v| v.as_f64().expect("a number")).collect()
    };
    let largest = |values: &[f64]| values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let cases = case["inputs"].as_array().expect("a list").iter().zip(case["outputs"].as_array().expect("a list"));
    let mut comparison = Comparison::default();
    for (input, wanted) in cases {
        let values = list(input).into_iter().map(|x| x as i64).collect();
        let input = Tensor::from_shape_vec(network.architecture().input.shape, values).expect("the input's shape");
        let found = network.run(&input).expect("a valid input");
        let units: Vec<f64> = (0..found.len()).map(|at| unit_of(network, at, found.len()).unwrap_or(1.0)).collect();
        let found: Vec<f64> = found.iter().zip(&units).map(|(&z, unit)| z as f64 * unit).collect();
        let wanted = list(wanted);
        assert_eq!(found.len(), wanted.len(), "the number of outputs");
        let most = wanted.iter().fold(0.0f64, |most, y| most.max(y.abs()));
        for ((z, y), unit) in found.iter().zip(&wanted).zip(&units) {
            let apart = (z - y).abs();
            comparison.differ += usize::from(apart > 0.51 * unit + 1e-5 * most);
            comparison.worst = comparison.worst.max(apart / most);
            comparison.steps = comparison.steps.max(apart / unit);
        }
        comparison.outputs += wanted.len();
        let class = wanted.iter().position(|&y| y == largest(&wanted)).expect("an output");
        comparison.classes += usize::from(found[class] < largest(&found));
    }
    comparison
}
