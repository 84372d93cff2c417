//! What the data owner has: samples to train on, and others to measure on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lowkey::train::{self, Net, Pictures, Samples, SamplesError};
use lowkey::{Error, Result};
use lowkey_models::data::{Fit, Inputs, read_labels};
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
    /// Those of a folder of IDX files, or a file of images with one of labels.
    fn find(path: &Path, labels: Option<&Path>) -> Result<Self> {
        if let Some(labels) = labels {
            return Ok(Self { training: (path.to_owned(), labels.to_owned()), held_out: None });
        }
        if !path.is_dir() {
            let what = format!("{}: no folder, and no labels for a file", path.display());
            return Err(Error::usage(
                what,
                "name a folder with IDX files, or a file of images and with --labels one of labels",
            ));
        }
        let part = |name: &str| {
            let file = |what: &str| {
                let file = path.join(format!("{name}-{what}-ubyte"));
                [file.clone(), file.with_extension("gz")].into_iter().find(|file| file.exists())
            };
            file("images-idx3").zip(file("labels-idx1"))
        };
        let Some(training) = part("train") else {
            return Err(Error::usage(
                format!("{}: no samples to train on", path.display()),
                "it should have train-images-idx3-ubyte and train-labels-idx1-ubyte, or the same with .gz",
            ));
        };
        Ok(Self { training, held_out: part("t10k") })
    }
}

impl Data {
    /// Reads a folder of IDX files, or a file of images with one of labels.
    pub fn read(path: &Path, labels: Option<&Path>, net: &Net) -> Result<Self> {
        let input = train::input(net);
        let Files { training: (images, labels), held_out } = Files::find(path, labels)?;
        let (inputs, labels) = pair(&images, &labels, &input)?;
        let samples = samples(net, &inputs, &labels, &images)?;
        let held_out = held_out.map(|(images, labels)| self::held_out(&images, &labels, &input)).transpose()?;
        Ok(Self { samples, held_out })
    }
}

/// What a head is trained on: labels now, images once the model owner's network says what it reads.
pub fn pictures(path: &Path, labels: Option<&Path>) -> Result<Pictures> {
    let Files { training: (images, labels), .. } = Files::find(path, labels)?;
    let found = read_labels(&labels).map_err(|error| Error::Input(Box::new(error)))?;
    // A file that is none is found out now, not after the handshake.
    regular::open(&images).map_err(|error| Error::file(&images, error))?;
    let read =
        move |input: &Input| Inputs::read_as(&images, input, Fit::Exact).map_err(|error| Error::Input(Box::new(error)));
    Pictures::new(found, Arc::new(read)).map_err(|error| unfit(&error, &labels))
}

fn pair(images: &Path, labels: &Path, input: &Input) -> Result<(Inputs, Vec<u8>)> {
    let failed = |error| Error::Input(Box::new(error));
    Ok((Inputs::read_as(images, input, Fit::Exact).map_err(failed)?, read_labels(labels).map_err(failed)?))
}

fn samples(net: &Net, inputs: &Inputs, labels: &[u8], path: &Path) -> Result<Samples> {
    Samples::new(net, inputs, labels).map_err(|error| unfit(&error, path))
}

fn unfit(error: &SamplesError, path: &Path) -> Error {
    Error::usage(format!("{}: {error}", path.display()), "give samples as the network reads them")
}

fn held_out(images: &Path, labels: &Path, input: &Input) -> Result<Labelled> {
    let (inputs, labels) = pair(images, labels, input)?;
    if labels.len() != inputs.len() {
        let what = format!("{}: {} images but {} labels", images.display(), inputs.len(), labels.len());
        return Err(Error::usage(what, "the two files do not belong together"));
    }
    Ok(Labelled { inputs, labels: labels.into_iter().map(u16::from).collect() })
}
