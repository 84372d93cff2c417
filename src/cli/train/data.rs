//! What the data owner has: samples to train on, and others to measure on.

use std::path::Path;

use lowkey::train::{self, Net, Samples};
use lowkey::{Error, Result};
use lowkey_models::data::{Fit, Inputs, read_labels};
use lowkey_models::{Input, Labelled};

/// Read and checked.
pub struct Data {
    pub samples: Samples,
    pub held_out: Option<Labelled>,
}

impl Data {
    /// Reads a folder of IDX files, or a file of images with one of labels.
    pub fn read(path: &Path, labels: Option<&Path>, net: &Net) -> Result<Self> {
        let input = train::input(net);
        if let Some(labels) = labels {
            let (inputs, labels) = pair(path, labels, &input)?;
            return Ok(Self { samples: samples(net, &inputs, &labels, path)?, held_out: None });
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
        let Some((images, labels)) = part("train") else {
            return Err(Error::usage(
                format!("{}: no samples to train on", path.display()),
                "it should have train-images-idx3-ubyte and train-labels-idx1-ubyte, or the same with .gz",
            ));
        };
        let (inputs, labels) = pair(&images, &labels, &input)?;
        let samples = samples(net, &inputs, &labels, &images)?;
        let held_out = part("t10k").map(|(images, labels)| held_out(&images, &labels, &input)).transpose()?;
        Ok(Self { samples, held_out })
    }
}

fn pair(images: &Path, labels: &Path, input: &Input) -> Result<(Inputs, Vec<u8>)> {
    let failed = |error| Error::Input(Box::new(error));
    Ok((Inputs::read_as(images, input, Fit::Exact).map_err(failed)?, read_labels(labels).map_err(failed)?))
}

fn samples(net: &Net, inputs: &Inputs, labels: &[u8], path: &Path) -> Result<Samples> {
    let samples = Samples::new(net, inputs, labels);
    samples
        .map_err(|error| Error::usage(format!("{}: {error}", path.display()), "give samples as the network reads them"))
}

fn held_out(images: &Path, labels: &Path, input: &Input) -> Result<Labelled> {
    let (inputs, labels) = pair(images, labels, input)?;
    if labels.len() != inputs.len() {
        let what = format!("{}: {} images but {} labels", images.display(), inputs.len(), labels.len());
        return Err(Error::usage(what, "the two files do not belong together"));
    }
    Ok(Labelled { inputs, labels: labels.into_iter().map(u16::from).collect() })
}
