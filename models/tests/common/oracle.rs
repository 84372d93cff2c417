//! Python environments under `target/oracles`, which are made when they are missing.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What the environment of ONNX has.
pub const ONNX: [&str; 5] = ["onnx", "onnxruntime", "qonnx", "numpy", "safetensors"];

/// The interpreter of the environment of ONNX; `None`, with a word on standard error, if there is none or `LOWKEY_ORACLES=0`.
pub fn onnx() -> Option<PathBuf> {
    let python = install(Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/oracles/onnx"));
    if python.is_none() {
        eprintln!("skipped: no Python environment with {} under target/oracles", ONNX.join(", "));
    }
    python
}

fn install(folder: PathBuf) -> Option<PathBuf> {
    if std::env::var("LOWKEY_ORACLES").is_ok_and(|value| value == "0") {
        return None;
    }
    let python = folder.join("bin/python");
    let works = || {
        let import = format!("import {}", ONNX.join(", "));
        Command::new(&python).args(["-c", &import]).output().is_ok_and(|output| output.status.success())
    };
    if works() {
        return Some(python);
    }
    let made = Command::new("python3").args(["-m", "venv"]).arg(&folder).output().ok()?;
    if made.status.success() {
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "install", "-q"]).args(ONNX).output().ok()?;
    }
    works().then_some(python)
}

/// LOWKEY_SLOW=1: everything, for minutes.
pub fn slow() -> bool {
    std::env::var("LOWKEY_SLOW").is_ok_and(|slow| slow == "1")
}
