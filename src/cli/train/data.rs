//! What a party has: samples to train on, and others to measure on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lowkey::train::{self, Net, Pictures, Samples, SamplesError};
use lowkey::{Error, Result};
use lowkey_models::data::{Fit, Inputs, read_labels, reals_of};
use lowkey_models::{Input, Labelled, regular};

/// Read and checked.
pub struct Data {
    pub samples: Samples,
    pub held_out: Option<Labelled>,
}

/// Images and labels.
type Pair = (PathBuf, PathBuf);

/// The files to train on, and those to measure on.
struct Files {
    training: Pair,
    held_out: Option<Pair>,
}

impl Files {
    /// Those to evaluate on: of a folder the held-out ones, or a file of images with one of labels.
    fn find_held_out(path: &Path, labels: Option<&Path>) -> Result<Pair> {
        let Some(labels) = labels else {
            let Some(held_out) = part(path, "t10k") else {
                return Err(Error::usage(
                    format!("{}: no samples to evaluate on", path.display()),
                    "name a folder with t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, or a file of images with --labels",
                ));
            };
            return Ok(held_out);
        };
        Ok((path.to_owned(), labels.to_owned()))
    }

    /// Those of a folder of IDX files, or a file of images with one of labels.
    fn find(path: &Path, labels: Option<&Path>) -> Result<Self> {
        if let Some(labels) = labels {
            return Ok(Self { training: (path.to_owned(), labels.to_owned()), held_out: None });
        }
        if !path.is_dir() {
            let what = if path.exists() { "a file of images without labels" } else { "no such file or folder" };
            return Err(Error::usage(
                format!("{}: {what}", path.display()),
                "name a folder with IDX files, or a file of images, and the file of its labels with --labels",
            ));
        }
        let Some(training) = part(path, "train") else {
            return Err(Error::usage(
                format!("{}: no samples to train on", path.display()),
                "it should have train-images-idx3-ubyte and train-labels-idx1-ubyte, or the same with .gz",
            ));
        };
        Ok(Self { training, held_out: part(path, "t10k") })
    }
}

/// A part of a data set.
fn part(folder: &Path, name: &str) -> Option<Pair> {
    let file = |what: &str| {
        let file = folder.join(format!("{name}-{what}-ubyte"));
        [file.clone(), file.with_extension("gz")].into_iter().find(|file| file.exists())
    };
    file("images-idx3").zip(file("labels-idx1"))
}

impl Data {
    /// Reads a folder of IDX files, or a file of images with one of labels.
    pub fn read(path: &Path, labels: Option<&Path>, net: &Net) -> Result<Self> {
        let input = train::input(net);
        let Files { training: (images, labels), held_out } = Files::find(path, labels)?;
        let (inputs, labels) = pair(&images, &labels, &input)?;
        let samples = Samples::new(net, &inputs, &labels).map_err(|error| unfit(&error, &images))?;
        let held_out = held_out.map(|(images, labels)| labelled(&images, &labels, &input)).transpose()?;
        Ok(Self { samples, held_out })
    }
}

/// Samples to evaluate on.
pub fn held_out(path: &Path, labels: Option<&Path>, net: &Net) -> Result<Samples> {
    let (images, labels) = Files::find_held_out(path, labels)?;
    let (inputs, labels) = pair(&images, &labels, &train::input(net))?;
    Samples::held_out(net, &inputs, &labels).map_err(|error| unfit(&error, &images))
}

/// What a head is trained or evaluated on: labels now, images once the model owner's network says what it reads.
pub fn pictures(path: &Path, labels: Option<&Path>, evaluate: bool) -> Result<Pictures> {
    let (images, labels) = match evaluate {
        true => Files::find_held_out(path, labels)?,
        false => Files::find(path, labels)?.training,
    };
    let found = read_labels(&labels).map_err(|error| Error::Input(Box::new(error)))?;
    // A file that is none is found out now, not after the handshake.
    regular::open(&images).map_err(|error| Error::file(&images, error))?;
    let read =
        move |input: &Input| Inputs::read_as(&images, input, Fit::Exact).map_err(|error| Error::Input(Box::new(error)));
    let pictures = if evaluate { Pictures::held_out } else { Pictures::new };
    pictures(found, Arc::new(read)).map_err(|error| unfit(&error, &labels))
}

/// By how much a real number may miss 0 to 1: what float32 and a division by 255 make of a 1.
const SLACK: f32 = 1e-5;

fn pair(images: &Path, labels: &Path, input: &Input) -> Result<(Inputs, Vec<u8>)> {
    let failed = |error| Error::Input(Box::new(error));
    let reals = reals_of(images).map_err(failed)?;
    let beyond = |v: &f32| *v < -SLACK || *v > 1.0 + SLACK;
    // Reading would take the nearest number in range.
    if let Some((at, v)) = reals.iter().flatten().enumerate().find(|(_, v)| beyond(v)) {
        let sample = at / input.shape.iter().product::<usize>().max(1);
        let what = format!("{}: sample {sample} has the value {v}, and training reads 0 to 1", images.display());
        return Err(Error::usage(what, "divide all values by the largest that there can be, pixels by 255"));
    }
    Ok((Inputs::read_as(images, input, Fit::Exact).map_err(failed)?, read_labels(labels).map_err(failed)?))
}

fn unfit(error: &SamplesError, path: &Path) -> Error {
    Error::usage(format!("{}: {error}", path.display()), "give samples as the network reads them")
}

fn labelled(images: &Path, labels: &Path, input: &Input) -> Result<Labelled> {
    let (inputs, labels) = pair(images, labels, input)?;
    if labels.len() != inputs.len() {
        let what = format!("{}: {} images but {} labels", images.display(), inputs.len(), labels.len());
        return Err(Error::usage(what, "the two files do not belong together"));
    }
    Ok(Labelled { inputs, labels: labels.into_iter().map(u16::from).collect() })
}
