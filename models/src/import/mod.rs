//! Networks that were trained elsewhere: from an ONNX or TFLite file to the integer network that computes the same, bit for bit.
//!
//! | module | what |
//! |---|---|
//! | [`error`] | what can be wrong with a file, with the node and what to do about it |
//! | [`report`] | which operations a file has and what became of them |
//! | `builder` | puts networks together: linear nodes, requantisations by any rule, pools, tables |
//! | [`onnx`] | QONNX (`Quant`, `BipolarQuant`, `Trunc`, `MultiThreshold`), ONNX QDQ, QCDQ and QOperator |
//! | [`tflite`] | TensorFlow Lite |
//!
//! Every rounding rule of a source runtime is a monotone step function of the accumulator; [`crate::rescale`] turns it into
//! multipliers, offsets and shifts that equal it on every reachable accumulator, or the file is refused. Files are untrusted:
//! they are read with limits, into typed errors.

pub(crate) mod builder;
pub mod error;
pub mod onnx;
pub mod report;
pub mod tflite;

use std::fs::File;
use std::io::Read;
use std::path::Path;

pub use builder::Fold;
pub use error::{ImportError, ImportProblem};
pub use report::{Report, Row, Verdict};

use crate::weights::Network;

/// Largest file that is read, in bytes.
pub const MAX_FILE: u64 = 2 << 30;

/// What the file does not say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// Name of the network; that of the file unless given.
    pub name: Option<String>,
    /// How pictures became the floating-point input that the network was trained on. With it the network reads pictures; without
    /// it only arrays of quantised values.
    pub preprocessing: Option<Preprocessing>,
    /// When multipliers go into the weights.
    pub fold: Fold,
    /// Whose rounding a TFLite network has.
    pub tflite: tflite::Rounding,
    /// Accept what is not equal to the runtime bit for bit, each case with a note in the report: floating-point sums whose
    /// result depends on the order of summation, and outputs of different units.
    pub approximate: bool,
}

/// value = (scale * pixel - mean) / std for each channel, in 32-bit floats and in this order.
#[derive(Clone, Debug, PartialEq)]
pub struct Preprocessing {
    /// 1/255 for most.
    pub scale: f32,
    /// One for all channels, or one each.
    pub mean: Vec<f32>,
    /// One for all channels, or one each; positive.
    pub std: Vec<f32>,
}

/// An imported network.
#[derive(Clone, Debug)]
pub struct Imported {
    /// What it computes.
    pub network: Network,
    /// What became of the file's operations.
    pub report: Report,
}

/// Reads an ONNX or TFLite file; its kind is known by its bytes.
///
/// # Errors
/// Whatever is wrong with the file, with its name: it can't be read, is damaged, or has an operation, a scale or a shape that no
/// network has.
pub fn read(path: impl AsRef<Path>, options: &Options) -> Result<Imported, ImportError> {
    let path = path.as_ref();
    let name = || path.file_stem().map_or("network".into(), |stem| stem.to_string_lossy().into_owned());
    let options = Options { name: Some(options.name.clone().unwrap_or_else(name)), ..options.clone() };
    load(path)
        .map_err(ImportError::from)
        .and_then(|bytes| from_folder(&bytes, path.parent(), &options))
        .map_err(|error| ImportError { path: Some(path.to_owned()), ..error })
}

/// The same from the bytes of a file.
///
/// # Errors
/// As [`read`].
pub fn from_bytes(bytes: &[u8], options: &Options) -> Result<Imported, ImportError> {
    from_folder(bytes, None, options)
}

/// The same of a file in a folder, which may hold more of it.
fn from_folder(bytes: &[u8], folder: Option<&Path>, options: &Options) -> Result<Imported, ImportError> {
    if tflite::is_tflite(bytes) { tflite::import(bytes, options) } else { onnx::import_beside(bytes, folder, options) }
}

fn load(path: &Path) -> Result<Vec<u8>, ImportProblem> {
    let file = File::open(path)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(ImportProblem::TooLarge { what: "the file", value: bytes.len() as u128, limit: MAX_FILE.into() });
    }
    Ok(bytes)
}
