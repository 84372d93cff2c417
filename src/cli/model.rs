//! Finding models, inputs and data sets.

use std::env;
use std::path::{Path, PathBuf};

use lowkey::{Error, Result};
use lowkey_models::data::{Inputs, read_labels};
use lowkey_models::{Input, Network, zoo};

use super::DataArgument;

/// Reads a model file; the name of a bundled model stands for that model.
pub fn read(model: &Path) -> Result<Network> {
    if !model.exists()
        && let Some(bundled) = model.to_str().and_then(zoo::find)
    {
        return Ok(bundled.network());
    }
    if !model.exists() {
        let names: Vec<&str> = zoo::ALL.iter().map(|bundled| bundled.name).collect();
        return Err(Error::usage(
            format!("{}: no such file", model.display()),
            format!("give a .lowkey file, or the name of a bundled model: {}", names.join(", ")),
        ));
    }
    Network::read(model).map_err(|error| Error::Model(Box::new(error)))
}

/// Reads inputs for a network.
pub fn inputs(path: &Path, input: &Input) -> Result<Inputs> {
    Inputs::read(path, input).map_err(|error| Error::Input(Box::new(error)))
}

/// A labelled data set.
pub struct DataSet {
    pub inputs: Inputs,
    pub labels: Vec<u8>,
}

/// The folder of `--data`, or `mnist` in the folder that LOWKEY_DATA names.
pub fn data_folder(argument: &DataArgument) -> Result<PathBuf> {
    match (&argument.data, env::var_os("LOWKEY_DATA")) {
        (Some(folder), _) => Ok(folder.clone()),
        (None, Some(root)) => Ok(Path::new(&root).join("mnist")),
        (None, None) => Err(Error::usage(
            "no data set given",
            "name a folder with --data, or set LOWKEY_DATA to a folder that has mnist/ in it",
        )),
    }
}

/// Reads the test part of an IDX data set.
pub fn data_set(argument: &DataArgument, input: &Input) -> Result<DataSet> {
    let folder = data_folder(argument)?;
    let find = |what: &str, kind: &str| {
        let names =
            ["t10k", "test"].iter().flat_map(|part| ["", ".gz"].map(|end| format!("{part}-{what}-{kind}-ubyte{end}")));
        let paths: Vec<PathBuf> = names.map(|name| folder.join(name)).collect();
        paths.iter().find(|path| path.exists()).cloned().ok_or_else(|| {
            let example = paths[0].file_name().unwrap_or_default().to_string_lossy().into_owned();
            Error::usage(
                format!("{}: no test {what} in it", folder.display()),
                format!("the folder should have {example} or {example}.gz"),
            )
        })
    };
    let inputs = inputs(&find("images", "idx3")?, input)?;
    let labels = read_labels(find("labels", "idx1")?).map_err(|error| Error::Input(Box::new(error)))?;
    if labels.len() != inputs.len() {
        return Err(Error::usage(
            format!("{} images but {} labels", inputs.len(), labels.len()),
            "the two files of the data set do not belong together",
        ));
    }
    Ok(DataSet { inputs, labels })
}
