//! Finding models, inputs and data sets.

use std::env;
use std::path::{Path, PathBuf};

use lowkey::{Error, Model, Result};
use lowkey_models::data::{DataError, DataProblem, Fit, Inputs, read_labels};
use lowkey_models::{Architecture, ClassRule, Input, Labelled, zoo};

use super::foreign::{ImportOptions, in_switches};
use super::{DataArgument, Reveal, names, warn};

/// Names standard input where a file is asked for.
pub const STANDARD_INPUT: &str = "-";

/// Reads a model file, importing it if it is another program's; the name of a bundled model stands for that model. Notes of an import
/// go to the log.
pub fn read(model: &Path, options: &ImportOptions) -> Result<Model> {
    named(model)?;
    let file = model;
    let model = Model::open_with(file, &options.options(None))?;
    match model.report() {
        Some(_) => options.note_of(file),
        None => options.note_of_own(file),
    }
    // Said where pictures are read.
    let of_pictures = model.architecture().picture_warning();
    let notes = model.report().into_iter().flat_map(|report| &report.notes);
    for note in notes.filter(|note| of_pictures.as_ref().is_none_or(|warning| !note.ends_with(warning))) {
        tracing::info!("{}", in_switches(note));
    }
    name_classes(model, options)
}

/// Refuses what is neither a file nor the name of a bundled model.
pub fn named(model: &Path) -> Result<()> {
    if !model.exists() && model.to_str().and_then(zoo::find).is_none() {
        let hint = match model.to_str().and_then(names::neighbour) {
            Some(near) => format!("did you mean {near}? `lowkey models` lists the bundled models"),
            None => {
                "give a .lowkey, ONNX or TFLite file, or the name of a bundled model: `lowkey models` lists them".into()
            }
        };
        return Err(Error::usage(format!("{}: no such file", model.display()), hint));
    }
    Ok(())
}

/// Refuses to write over a file that is read.
pub fn spare(output: Option<&Path>, sources: &[&Path]) -> Result<()> {
    let Some((output, found)) = output.and_then(|output| Some((output, output.canonicalize().ok()?))) else {
        return Ok(());
    };
    match sources.iter().any(|source| source.canonicalize().is_ok_and(|source| source == found)) {
        false => Ok(()),
        true => Err(Error::usage(
            format!("{}: what is made of it would be written over it", output.display()),
            "name another file with -o",
        )),
    }
}

/// Refuses before the work what could not be written after it.
pub fn writable<'a>(outputs: impl IntoIterator<Item = &'a PathBuf>) -> Result<()> {
    // What is neither a file nor a folder, such as /dev/stdout, is written to as it is.
    let is_stream = |path: &Path| path.metadata().is_ok_and(|about| !about.is_file() && !about.is_dir());
    outputs.into_iter().filter(|path| !is_stream(path)).try_for_each(|path| match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => {
            let problem = format!("there is no folder {}", folder.display());
            Err(Error::file(path, std::io::Error::new(std::io::ErrorKind::NotFound, problem)))
        }
        _ => lowkey::train::check_target(path),
    })
}

/// Reads inputs for a network; a warning where they are pixels and nothing says how the network reads them.
/// `-` is standard input.
pub fn inputs(path: &Path, architecture: &Architecture, fit: Fit) -> Result<Inputs> {
    let inputs = match path == Path::new(STANDARD_INPUT) {
        true => Inputs::from_reader(std::io::stdin().lock(), &architecture.input, fit)
            .map_err(|problem| DataError { path: "standard input".into(), problem }),
        false => Inputs::read_as(path, &architecture.input, fit),
    };
    noted(inputs, architecture)
}

/// Inputs that were read, with what is to be said of them.
pub fn noted(inputs: Result<Inputs, DataError>, architecture: &Architecture) -> Result<Inputs> {
    let inputs = inputs.map_err(|error| Error::Input(Box::new(error)))?;
    warn_of_pictures(architecture, &inputs);
    if let Some(note) = inputs.note() {
        warn(format_args!("note: {note}\n"));
    }
    Ok(inputs)
}

fn warn_of_pictures(architecture: &Architecture, inputs: &Inputs) {
    if let Some(warning) = architecture.picture_warning().filter(|_| inputs.are_pictures()) {
        warn(format_args!("warning: {}\n", in_switches(&warning)));
    }
}

/// Says on standard error what a network reads and answers, a line each, where it was imported.
pub fn say_codings(architecture: &Architecture, outputs: usize) {
    if architecture.input.coding.is_some() {
        warn(format_args!("input: {}\noutput: {}\n", architecture.input_line(), architecture.output_line()));
        if let ClassRule::None(why) = architecture.class_rule(outputs) {
            warn(format_args!("note: no class: {why}\n"));
        }
    }
}

/// Refuses `--reveal class` where the index of the largest output is not the network's class.
pub fn check_reveal(architecture: &Architecture, outputs: usize, reveal: Reveal) -> Result<()> {
    match architecture.class_rule(outputs).not_revealed().filter(|_| reveal == Reveal::Class) {
        None => Ok(()),
        Some(why) => Err(Error::usage(
            format!("--reveal class opens the index of the largest output, which is not this network's class: {why}"),
            "use --reveal logits",
        )),
    }
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

/// By its name; what is in it is looked at when it is read.
pub fn is_archive(path: &Path) -> bool {
    path.extension().is_some_and(|end| end.eq_ignore_ascii_case("zip"))
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
    if folder.is_file() && !is_archive(&folder) {
        return Err(Error::usage(
            format!("{}: neither a folder nor an archive", folder.display()),
            "labels are wanted too: a folder with the IDX files of a test set, or pictures in folders named by class (.zip too)",
        ));
    }
    if let Some(images) = idx(&folder, "images", "idx3") {
        let Some(labels) = idx(&folder, "labels", "idx1") else {
            return Err(Error::usage(
                format!("{}: images but no labels in it", folder.display()),
                "the folder should have t10k-labels-idx1-ubyte or t10k-labels-idx1-ubyte.gz",
            ));
        };
        let inputs = inputs(&images, architecture, Fit::Exact)?;
        let labels = read_labels(labels).map_err(failed)?;
        if labels.len() != inputs.len() {
            return Err(Error::usage(
                format!("{} images but {} labels", inputs.len(), labels.len()),
                "the two files of the data set do not belong together",
            ));
        }
        return Ok(Labelled { inputs, labels: labels.into_iter().map(u16::from).collect() });
    }
    let pictures = ["test.zip", "test"].map(|name| folder.join(name)).into_iter().find(|path| path.exists());
    let pictures = pictures.as_ref().unwrap_or(&folder);
    let empty = |error: DataError| match error.problem {
        DataProblem::Empty => Error::usage(
            format!("{}: no test images in it", folder.display()),
            "it should have t10k-images-idx3-ubyte or t10k-images-idx3-ubyte.gz, or PNG files in folders named by class",
        ),
        _ => failed(error),
    };
    let classes =
        if architecture.classes.is_empty() { folders(pictures, architecture)? } else { architecture.classes.clone() };
    let fit = if argument.resize { Fit::Scaled } else { Fit::Exact };
    let data = Labelled::read_as(pictures, &architecture.input, &classes, fit).map_err(empty)?;
    warn_of_pictures(architecture, &data.inputs);
    Ok(data)
}

/// Names of classes in the order of their folders, for a network without names.
fn folders(pictures: &Path, architecture: &Architecture) -> Result<Vec<String>> {
    let names = Labelled::folders(pictures).map_err(|error| Error::Input(Box::new(error)))?;
    if names.is_empty() {
        return Ok(names);
    }
    let outputs = architecture.check().map_err(|error| Error::Model(Box::new(error)))?[architecture.output].elements();
    let wanted = architecture.named_classes(outputs);
    if names.len() != wanted {
        return Err(Error::usage(
            format!("{}: pictures of {} classes, the network has {wanted}", pictures.display(), names.len()),
            "give the names of the classes in order of the outputs with --classes FILE, one per line",
        ));
    }
    let shown: Vec<&str> = names.iter().take(12).map(String::as_str).collect();
    let more = if names.len() > shown.len() { ", ..." } else { "" };
    warn(format_args!("note: classes in the order of their folders: {}{more}\n", shown.join(", ")));
    Ok(names)
}

/// Gives a model the names of its classes: those of `--classes`, a file with one name per line.
pub fn name_classes(model: Model, options: &ImportOptions) -> Result<Model> {
    let Some(path) = &options.classes else { return Ok(model) };
    let text = lowkey_models::regular::open(path)
        .and_then(std::io::read_to_string)
        .map_err(|error| Error::file(path, error))?;
    let mut classes: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
    while classes.last().is_some_and(String::is_empty) {
        classes.pop();
    }
    model.with_classes(classes).map_err(|error| {
        Error::usage(
            format!("{}: {error}", path.display()),
            "--classes names a file with one name per line, in order of the outputs",
        )
    })
}

/// The IDX file of a test set.
fn idx(folder: &Path, what: &str, kind: &str) -> Option<PathBuf> {
    let names =
        ["t10k", "test"].iter().flat_map(|part| ["", ".gz"].map(|end| format!("{part}-{what}-{kind}-ubyte{end}")));
    names.map(|name| folder.join(name)).find(|path| path.exists())
}
