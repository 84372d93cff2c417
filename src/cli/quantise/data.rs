//! The data: a training part to calibrate with, a test part to measure on.

use std::path::{Path, PathBuf};

use lowkey::{Error, Result};
use lowkey_models::ptq::Sample;
use lowkey_models::rings::Wraps;
use lowkey_models::{Architecture, ClassRule, Fit, Input, Inputs, Labelled, Network, Tensor};

use super::super::eval::Wrapped;
use super::super::toss::{self, answers, class_of};
use super::super::{DataArgument, model, progress};
use super::before::{Before, integers};
use super::record::Accuracy;

/// Images that are evaluated at once.
const BATCH: usize = 64;

/// Where the data are.
pub struct Data {
    argument: DataArgument,
    training: Option<PathBuf>,
    /// What pixels are read as: themselves.
    pixels: Input,
    /// Inputs as the network reads them, where no data set is given.
    arrays: Option<Vec<Sample>>,
    /// Labels of these, where they are the images that come with the network.
    labels: Option<Vec<u16>>,
}

/// The file of `--data`, if that is no folder or archive of pictures.
pub fn arrays(argument: &DataArgument) -> Option<&Path> {
    let path = argument.data.as_deref()?;
    (path.is_file() && !model::is_archive(path)).then_some(path)
}

impl Data {
    /// The images that come with a network.
    pub fn bundled(argument: &DataArgument, images: Labelled) -> Data {
        let pixels = Input { shape: images.inputs.shape(), bits: 8, zero_point: 0, pixels: None, coding: None };
        let (arrays, labels) = (Some(integers(&images.inputs)), Some(images.labels));
        Data { argument: argument.clone(), training: None, pixels, arrays, labels }
    }

    /// Looks for the parts of a data set.
    pub fn find(argument: &DataArgument, before: &Before) -> Result<Data> {
        let input = &before.real.input;
        let folder = model::data_folder(argument, input)?;
        if !folder.exists() {
            return Err(Error::usage(
                format!("{}: no such folder or archive", folder.display()),
                "--data names a folder with IDX files, or with pictures in folders named by class (.zip too)",
            ));
        }
        let pixels = Input { bits: 8, zero_point: 0, pixels: None, coding: None, ..input.clone() };
        let arrays = arrays(argument).map(|path| before.arrays(path)).transpose()?;
        Ok(Data { argument: argument.clone(), training: training_part(&folder), pixels, arrays, labels: None })
    }

    /// What the user should know of the data.
    pub fn note(&self) -> Option<&'static str> {
        match (&self.arrays, &self.training) {
            (Some(_), _) if self.labels.is_some() => {
                Some("units and shifts are chosen by images that come with the network, on which it is measured too")
            }
            (Some(_), _) => {
                Some("arrays have no labels: units and shifts are chosen by them, and the classes of both are compared")
            }
            (None, None) => Some("there is no training part: units and shifts are chosen by images of the test part"),
            (None, Some(_)) => None,
        }
    }

    /// At most `count` pictures of the training part, or of the test part if there is none, evenly spread.
    pub fn samples(&self, before: &Before, count: usize) -> Result<Vec<Sample>> {
        let failed = |error| Error::Input(Box::new(error));
        if let Some(arrays) = &self.arrays {
            let count = count.min(arrays.len());
            return Ok((0..count).map(|n| arrays[n * arrays.len() / count].clone()).collect());
        }
        let inputs = match &self.training {
            None => self.test(&self.without_layers())?.inputs,
            Some(part) if part.is_dir() || part.extension().is_some_and(|end| end == "zip") => {
                let classes = Labelled::folders(part).map_err(failed)?;
                Labelled::read(part, &self.pixels, &classes).map_err(failed)?.inputs
            }
            Some(part) => Inputs::read_as(part, &self.pixels, Fit::Exact).map_err(failed)?,
        };
        let count = count.min(inputs.len());
        let chosen: Vec<usize> = (0..count).map(|n| n * inputs.len() / count).collect();
        let mut samples = Vec::with_capacity(count);
        let mut next = 0;
        for (at, pixels) in inputs.stored().enumerate() {
            if chosen.get(next) == Some(&at) {
                samples.push(before.sample(pixels));
                next += 1;
            }
        }
        Ok(samples)
    }

    /// The test part, as pixels.
    fn test(&self, architecture: &Architecture) -> Result<Labelled> {
        model::data_set(&self.argument, architecture)
    }

    /// An architecture that reads pixels and has no layers; its classes are those of the folders.
    fn without_layers(&self) -> Architecture {
        let folder = model::data_folder(&self.argument, &self.pixels).unwrap_or_default();
        let pictures = ["test.zip", "test"].map(|name| folder.join(name)).into_iter().find(|path| path.exists());
        Architecture {
            name: "pixels".into(),
            input: self.pixels.clone(),
            nodes: vec![],
            output: 0,
            rounding: None,
            output_scale: None,
            output_coding: None,
            classes: Labelled::folders(pictures.unwrap_or(folder)).unwrap_or_default(),
            declared: Default::default(),
        }
    }

    /// How often both networks have the label's class, and the same one, on the first `most` test images; `None` if they tell no classes
    /// apart.
    pub fn accuracy(&self, before: &Before, network: &Network, most: Option<usize>) -> Result<Option<Accuracy>> {
        let architecture = network.architecture();
        let rule = architecture.class_rule(network.tensors()[architecture.output].elements());
        let unit = architecture.output_scale.unwrap_or(1.0);
        if matches!(rule, ClassRule::None(_) | ClassRule::Each { .. }) {
            return Ok(None);
        }
        let data = match &self.arrays {
            Some(_) => None,
            None => Some(self.test(&Architecture { input: self.pixels.clone(), ..architecture.clone() })?),
        };
        let pictures: Vec<&[u8]> = data.iter().flat_map(|data| data.inputs.stored()).collect();
        let arrays = self.arrays.as_deref().unwrap_or_default();
        let count = most.unwrap_or(usize::MAX).min(pictures.len().max(arrays.len()));
        let labels = self.labels.as_ref().or(data.as_ref().map(|data| &data.labels));
        let bar = progress::bar("evaluating", count as u64);
        let right = labels.map(|_| 0);
        let mut accuracy = Accuracy { images: count, before: right, after: right, same: 0, wraps: None };
        let mut all = Wraps::default();
        for first in (0..count).step_by(BATCH) {
            let batch = first..(first + BATCH).min(count);
            let samples: Vec<Sample> = match &data {
                Some(_) => pictures[batch.clone()].iter().map(|pixels| before.sample(pixels)).collect(),
                None => arrays[batch.clone()].to_vec(),
            };
            let stored: Vec<Tensor> = samples.iter().map(Sample::integers).collect();
            let (found, wraps) = answers(network, &stored, first, toss::SEED)?;
            all = all.and(wraps);
            let wanted = before.classes(&samples, first, rule, unit)?;
            for ((at, found), wanted) in batch.zip(&found).zip(wanted) {
                let found = class_of(network, found);
                let label = labels.map(|labels| usize::from(labels[at]));
                let is_right = |class: Option<usize>| usize::from(class.is_some() && class == label);
                accuracy.before = accuracy.before.map(|right| right + is_right(wanted));
                accuracy.after = accuracy.after.map(|right| right + is_right(found));
                accuracy.same += usize::from(found == wanted);
            }
            bar.inc(samples.len() as u64);
        }
        bar.finish_and_clear();
        accuracy.wraps = Wrapped::of(network, all, count);
        Ok(Some(accuracy))
    }
}

/// The training part of a data set: an IDX file, a folder or an archive of pictures, the first of several archives.
fn training_part(folder: &Path) -> Option<PathBuf> {
    let idx = ["", ".gz"].map(|end| folder.join(format!("train-images-idx3-ubyte{end}")));
    let known = idx.into_iter().chain(["train.zip", "train"].map(|name| folder.join(name))).find(|path| path.exists());
    known.or_else(|| {
        let entries = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
        let is_part = |path: &PathBuf| {
            let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().to_lowercase());
            name.starts_with("train") && name.ends_with(".zip")
        };
        entries.filter(is_part).min()
    })
}
