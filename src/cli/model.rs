//! Finding models, inputs and data sets.

use std::env;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use lowkey::{Error, Result};
use lowkey_models::data::{DataProblem, Inputs, read_labels};
use lowkey_models::{Architecture, Input, Labelled, Network, zoo};

use super::DataArgument;
use super::import::ImportOptions;

/// Reads a model file, importing it if it is another program's; the name of a bundled model stands for that model.
pub fn read(model: &Path, options: &ImportOptions) -> Result<Network> {
    if !model.exists()
        && let Some(bundled) = model.to_str().and_then(zoo::find)
    {
        return Ok(bundled.network());
    }
    if !model.exists() {
        let names: Vec<&str> = zoo::ALL.iter().map(|bundled| bundled.name).collect();
        return Err(Error::usage(
            format!("{}: no such file", model.display()),
            format!("give a .lowkey, ONNX or TFLite file, or the name of a bundled model: {}", names.join(", ")),
        ));
    }
    if !is_lowkey(model)? {
        return options.read(model);
    }
    Network::read(model).map_err(|error| Error::Model(Box::new(error)))
}

/// Whether a file is a safetensors file, by its name or by the JSON after its first eight bytes.
fn is_lowkey(model: &Path) -> Result<bool> {
    if model.extension().is_some_and(|end| end == "lowkey") {
        return Ok(true);
    }
    let mut start = Vec::new();
    let read = File::open(model).and_then(|file| file.take(9).read_to_end(&mut start));
    read.map_err(|error| Error::file(model, error))?;
    Ok(start.get(8) == Some(&b'{'))
}

/// Reads inputs for a network.
pub fn inputs(path: &Path, input: &Input) -> Result<Inputs> {
    Inputs::read(path, input).map_err(|error| Error::Input(Box::new(error)))
}

/// The folder of `--data`, or the one in the folder that LOWKEY_DATA names whose pictures have the network's size.
pub fn data_folder(argument: &DataArgument, input: &Input) -> Result<PathBuf> {
    match (&argument.data, env::var_os("LOWKEY_DATA")) {
        (Some(folder), _) => Ok(folder.clone()),
        (None, Some(root)) => Ok(Path::new(&root).join(if input.shape == [3, 32, 32] { "cifar10" } else { "mnist" })),
        (None, None) => Err(Error::usage(
            "no data set given",
            "name a folder with --data, or set LOWKEY_DATA to a folder that has mnist/ and cifar10/ in it",
        )),
    }
}

/// Reads the test part of a data set: IDX files, or pictures in folders named by class, in a zip archive or not.
pub fn data_set(argument: &DataArgument, architecture: &Architecture) -> Result<Labelled> {
    let folder = data_folder(argument, &architecture.input)?;
    let failed = |error| Error::Input(Box::new(error));
    if !folder.exists() {
        return Err(Error::usage(
            format!("{}: no such folder or archive", folder.display()),
            "--data names a folder with the IDX files of a test set, or pictures in folders named by class (.zip too)",
        ));
    }
    if let Some(images) = idx(&folder, "images", "idx3") {
        let Some(labels) = idx(&folder, "labels", "idx1") else {
            return Err(Error::usage(
                format!("{}: images but no labels in it", folder.display()),
                "the folder should have t10k-labels-idx1-ubyte or t10k-labels-idx1-ubyte.gz",
            ));
        };
        let inputs = inputs(&images, &architecture.input)?;
        let labels = read_labels(labels).map_err(failed)?;
        if labels.len() != inputs.len() {
            return Err(Error::usage(
                format!("{} images but {} labels", inputs.len(), labels.len()),
                "the two files of the data set do not belong together",
            ));
        }
        return Ok(Labelled { inputs, labels });
    }
    let pictures = ["test.zip", "test"].map(|name| folder.join(name)).into_iter().find(|path| path.exists());
    let pictures = pictures.as_ref().unwrap_or(&folder);
    Labelled::read(pictures, &architecture.input, &architecture.classes).map_err(|error| match error.problem {
        DataProblem::Empty => Error::usage(
            format!("{}: no test images in it", folder.display()),
            "it should have t10k-images-idx3-ubyte or t10k-images-idx3-ubyte.gz, or PNG files in folders named by class",
        ),
        _ => failed(error),
    })
}

/// The IDX file of a test set.
fn idx(folder: &Path, what: &str, kind: &str) -> Option<PathBuf> {
    let names =
        ["t10k", "test"].iter().flat_map(|part| ["", ".gz"].map(|end| format!("{part}-{what}-{kind}-ubyte{end}")));
    names.map(|name| folder.join(name)).find(|path| path.exists())
}
