//! Networks that were trained elsewhere: from an ONNX or TFLite file to the integer network that computes the same, bit for bit.
//!
//! | module | what |
//! |---|---|
//! | [`error`] | what can be wrong with a file, with the node and what to do about it |
//! | [`report`] | which operations a file has and what became of them |
//! | `builder` | puts networks together: linear nodes, requantisations by any rule, pools, tables |
//! | `erf` | the error function |
//! | `foreign` | what files are that are neither |
//! | `same` | the padding of windows that move over all of their input |
//! | [`onnx`] | QONNX (`Quant`, `BipolarQuant`, `Trunc`, `MultiThreshold`), ONNX QDQ, QCDQ and QOperator |
//! | [`tflite`] | TensorFlow Lite |
//! | [`twin`] | what an approximate import is near to |
//!
//! Every rounding rule of a source runtime is a monotone step function of the accumulator; [`crate::rescale`] turns it into
//! multipliers, offsets and shifts that equal it on every reachable accumulator, or the file is refused. Files are untrusted:
//! they are read with limits, into typed errors.

pub mod advice;
pub(crate) mod builder;
pub(crate) mod erf;
pub mod error;
mod foreign;
pub mod onnx;
pub mod report;
mod same;
pub mod tflite;
pub mod twin;

use std::io::{self, Read};
use std::path::Path;

pub use builder::Fold;
pub use error::{ImportError, ImportProblem};
pub use report::{Report, Row, Verdict};
pub use twin::{Difference, Twin};

use crate::coding::Coding;
use crate::regular;
use crate::shape::of_channel;
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
    pub tflite: tflite::Kernels,
    /// What computes an ONNX network with signed activations of 8 bits.
    pub onnx: onnx::Kernels,
    /// Accept what is not equal to the runtime bit for bit, each case with a note in the report: floating-point sums whose
    /// result depends on the order of summation, and outputs of different units.
    pub approximate: bool,
}

impl Options {
    /// The same, and what is not equal to the runtime is accepted.
    pub fn approximately(self) -> Options {
        Options { approximate: true, ..self }
    }
}

/// value = (scale * pixel / over - mean) / std for each channel, in 32-bit floats and in this order, as the frameworks do it: they
/// divide by 255.
#[derive(Clone, Debug, PartialEq)]
pub struct Preprocessing {
    /// 1 for most.
    pub scale: f32,
    /// 255 for most; 1 if the scale says it all.
    pub over: f32,
    /// One for all channels, or one each.
    pub mean: Vec<f32>,
    /// One for all channels, or one each; positive.
    pub std: Vec<f32>,
}

impl Preprocessing {
    /// The real value of a pixel on a channel.
    pub fn value(&self, pixel: u8, channel: usize) -> f32 {
        let (mean, std) = (of_channel(&self.mean, channel), of_channel(&self.std, channel));
        (self.scale * f32::from(pixel) / self.over - mean) / std
    }

    /// Refuses other numbers of means and deviations than one for all channels, or one for each.
    pub(crate) fn suits(&self, channels: usize) -> Result<(), ImportProblem> {
        let counts = [self.mean.len(), self.std.len()];
        if counts.iter().all(|&count| count == 1 || count == channels) {
            return Ok(());
        }
        let [means, stds] = counts.map(|count| if count == 1 { "one".to_owned() } else { count.to_string() });
        let channels = if channels == 1 { "one channel".to_owned() } else { format!("{channels} channels") };
        let what =
            format!("the preprocessing has {means} for the mean and {stds} for the deviation, the input {channels}");
        Err(ImportProblem::Preprocessing(what))
    }

    /// What the network reads for each pixel, by channel.
    ///
    /// # Errors
    /// Numbers that are none, or not one for each channel.
    pub(crate) fn tables(&self, coding: &Coding, channels: usize) -> Result<Vec<Vec<u8>>, ImportProblem> {
        let Preprocessing { scale, over, mean, std } = self;
        self.suits(channels)?;
        let finite = [&[*scale, *over][..], mean, std].concat().iter().all(|v| v.is_finite());
        if !finite || !std.iter().chain([scale, over]).all(|&v| v.is_normal() && v > 0.0) {
            let what = "the preprocessing has a scale or a deviation that is no positive number";
            return Err(ImportProblem::Preprocessing(what.to_owned()));
        }
        let y = |channel, pixel| coding.quantised(self.value(pixel, channel), channel).unwrap_or(0);
        Ok((0..channels).map(|channel| (0..=255).map(|pixel| y(channel, pixel)).collect()).collect())
    }
}

/// An imported network.
#[derive(Clone, Debug)]
pub struct Imported {
    /// What it computes.
    pub network: Network,
    /// What became of the file's operations.
    pub report: Report,
    /// What it is near to, where it is not exact.
    pub twin: Twin,
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

/// True of a file that says that it is TFLite's.
///
/// # Errors
/// When it cannot be read, or is no regular file.
pub fn is_tflite(path: impl AsRef<Path>) -> io::Result<bool> {
    let mut start = Vec::new();
    regular::open(path)?.take(8).read_to_end(&mut start)?;
    Ok(tflite::is_tflite(&start))
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
    let imported = match tflite::is_tflite(bytes) {
        true => tflite::import(bytes, options),
        false => match foreign::refusal(bytes) {
            Some(problem) => Err(problem.into()),
            None => onnx::import_beside(bytes, folder, options),
        },
    };
    imported.map_err(|error| match options.approximate {
        true => ImportError { problem: Box::new(error.problem.once_approximate()), ..error },
        false => error,
    })
}

/// The bytes of a file that may be a model's.
///
/// # Errors
/// When it can't be read, is no regular file, or is over [`MAX_FILE`].
pub fn load(path: &Path) -> Result<Vec<u8>, ImportProblem> {
    let file = regular::open(path)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(ImportProblem::TooLarge { what: "the file", value: bytes.len() as u128, limit: MAX_FILE.into() });
    }
    Ok(bytes)
}
