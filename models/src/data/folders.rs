//! Labelled pictures in folders named by their class, in a directory or a zip archive: `<class>/<name>.png` at any depth.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use zip::ZipArchive;
use zip::result::ZipError;

use super::{DataError, DataProblem, Fit, Inputs, MAX_DATA, load, read_limited};
use crate::json::printable;
use crate::network::Input;
use crate::regular;

/// Most pictures of one data set.
const MAX_PICTURES: usize = 1 << 20;

/// Deepest nesting of folders.
const MAX_DEPTH: usize = 8;

/// Inputs of a network and the class of each, an index into `classes`.
#[derive(Clone, Debug, PartialEq)]
pub struct Labelled {
    /// In order of the archive, or of the paths of a directory.
    pub inputs: Inputs,
    /// One for each input.
    pub labels: Vec<u16>,
}

impl Labelled {
    /// The names of the folders that have pictures in them, sorted as text, which is the order that frameworks give them.
    ///
    /// # Errors
    /// If the directory or the archive can't be read, or has too many pictures.
    pub fn folders(path: impl AsRef<Path>) -> Result<Vec<String>, DataError> {
        let path = path.as_ref();
        let whole = |problem| DataError { path: path.to_owned(), problem };
        let names: BTreeSet<String> = if path.is_dir() {
            let mut files = Vec::new();
            list(path, &mut Vec::new(), &mut files)?;
            files.iter().map(|file| folder(file)).collect()
        } else {
            let file = regular::open(path).map_err(|error| whole(error.into()))?;
            let archive = ZipArchive::new(io::BufReader::new(file)).map_err(|error| whole(broken(error)))?;
            let names = archive.file_names().flatten().filter(|name| is_picture(Path::new(&**name)));
            names.map(|name| folder(Path::new(&*name))).collect()
        };
        Ok(names.into_iter().collect())
    }

    /// Reads the PNG and JPEG files of a directory or a zip archive. The folder that a picture lies in is the name of its class; files
    /// that are not named `.png`, `.jpg` or `.jpeg` are skipped.
    ///
    /// # Errors
    /// As [`Inputs::read`] for any of the pictures; a folder that is not one of `classes`; no picture at all.
    pub fn read(path: impl AsRef<Path>, input: &Input, classes: &[String]) -> Result<Labelled, DataError> {
        Labelled::read_as(path, input, classes, Fit::Exact)
    }

    /// As [`Labelled::read`], with pictures of another size scaled if `fit` says so.
    ///
    /// # Errors
    /// As [`Labelled::read`].
    pub fn read_as(path: impl AsRef<Path>, input: &Input, classes: &[String], fit: Fit) -> Result<Labelled, DataError> {
        let path = path.as_ref();
        let mut pictures = Pictures { input, classes, fit, values: Vec::new(), labels: Vec::new() };
        let outcome = if path.is_dir() { pictures.directory(path) } else { pictures.archive(path) };
        outcome?;
        if pictures.labels.is_empty() {
            return Err(DataError { path: path.to_owned(), problem: DataProblem::Empty });
        }
        let inputs = Inputs { input: input.clone(), values: pictures.values, pictures: true, note: None };
        Ok(Labelled { inputs, labels: pictures.labels })
    }
}

struct Pictures<'a> {
    input: &'a Input,
    classes: &'a [String],
    fit: Fit,
    values: Vec<u8>,
    labels: Vec<u16>,
}

impl Pictures<'_> {
    /// Adds a picture that lies in folder `class`.
    fn add(&mut self, class: &str, png: &[u8]) -> Result<(), DataProblem> {
        let Some(label) = self.classes.iter().take(1 << 16).position(|name| name == class) else {
            return Err(DataProblem::UnknownClass { found: printable(class), known: self.classes.join(", ") });
        };
        let inputs = Inputs::from_bytes_as(png, self.input, self.fit)?;
        if self.labels.len() + inputs.len() > MAX_PICTURES {
            return Err(DataProblem::TooMany { limit: MAX_PICTURES });
        }
        if self.values.len() as u64 + inputs.values.len() as u64 > MAX_DATA {
            return Err(DataProblem::TooLarge { decompressed: true, limit: MAX_DATA });
        }
        self.labels.extend(std::iter::repeat_n(label as u16, inputs.len()));
        self.values.extend(inputs.values);
        Ok(())
    }

    fn directory(&mut self, root: &Path) -> Result<(), DataError> {
        let mut files = Vec::new();
        list(root, &mut Vec::new(), &mut files)?;
        files.sort();
        for file in files {
            let class = folder(&file);
            load(&file)
                .and_then(|png| self.add(&class, &png))
                .map_err(|problem| DataError { path: file.clone(), problem })?;
        }
        Ok(())
    }

    fn archive(&mut self, path: &Path) -> Result<(), DataError> {
        let whole = |problem| DataError { path: path.to_owned(), problem };
        let file = regular::open(path).map_err(|error| whole(error.into()))?;
        let mut archive = ZipArchive::new(io::BufReader::new(file)).map_err(|error| whole(broken(error)))?;
        for index in 0..archive.len() {
            let mut file = archive.by_index(index).map_err(|error| whole(broken(error)))?;
            let name = file.name().map_err(|error| whole(broken(error)))?.into_owned();
            if !file.is_file() || !is_picture(Path::new(&name)) {
                continue;
            }
            let class = name.rsplit('/').nth(1).unwrap_or_default();
            read_limited(file.by_ref(), true)
                .and_then(|png| self.add(class, &png))
                .map_err(|problem| DataError { path: path.join(printable(&name)), problem })?;
        }
        Ok(())
    }
}

/// The name of the folder that a file lies in.
fn folder(file: &Path) -> String {
    file.parent().and_then(Path::file_name).map_or_else(String::new, |name| name.to_string_lossy().into())
}

fn broken(error: ZipError) -> DataProblem {
    match error {
        ZipError::Io(error) => DataProblem::Io(error),
        other => DataProblem::Zip(printable(&other.to_string())),
    }
}

/// The pictures under a folder. `within` are the folders that it lies in, by their real names: a link to one of them is not followed.
fn list(folder: &Path, within: &mut Vec<PathBuf>, files: &mut Vec<PathBuf>) -> Result<(), DataError> {
    let failed = |problem| DataError { path: folder.to_owned(), problem };
    let real = fs::canonicalize(folder).map_err(|error| failed(error.into()))?;
    if within.contains(&real) {
        return Ok(());
    }
    within.push(real);
    for entry in fs::read_dir(folder).map_err(|error| failed(error.into()))? {
        let path = entry.map_err(|error| failed(error.into()))?.path();
        if path.is_dir() && within.len() <= MAX_DEPTH {
            list(&path, within, files)?;
        } else if is_picture(&path) {
            files.push(path);
        }
        if files.len() > MAX_PICTURES {
            return Err(failed(DataProblem::TooMany { limit: MAX_PICTURES }));
        }
    }
    within.pop();
    Ok(())
}

fn is_picture(path: &Path) -> bool {
    let known = |end: &std::ffi::OsStr| ["png", "jpg", "jpeg"].iter().any(|known| end.eq_ignore_ascii_case(known));
    path.extension().is_some_and(known)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    fn png(pixels: [u8; 4]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, 2, 2);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
        bytes
    }

    fn input() -> Input {
        Input { shape: [1, 2, 2], bits: 4, zero_point: 0, pixels: None, coding: None }
    }

    fn classes() -> Vec<String> {
        ["ant", "bee"].map(String::from).to_vec()
    }

    fn archive(entries: &[(&str, &[u8])]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut writer = ZipWriter::new(file.as_file_mut());
        for (name, bytes) in entries {
            writer.start_file(*name, SimpleFileOptions::default()).unwrap();
            writer.write_all(bytes).unwrap();
        }
        writer.finish().unwrap();
        file
    }

    #[test]
    fn archives_and_directories_hold_the_same() {
        let (ant, bee) = (png([0, 16, 32, 255]), png([255, 0, 0, 0]));
        let entries = [("test/ant/1.png", &ant[..]), ("test/bee/1.PNG", &bee), ("test/bee/notes.txt", b"nothing")];
        let read = Labelled::read(archive(&entries).path(), &input(), &classes()).unwrap();
        assert_eq!(read.labels, [0, 1]);
        assert_eq!(read.inputs.get(0).unwrap().as_slice().unwrap(), [0, 1, 2, 15]);
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in entries {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        assert_eq!(Labelled::read(folder.path(), &input(), &classes()).unwrap(), read);
    }

    /// Links to folders are followed, and to those that they lie in they are not.
    #[cfg(unix)]
    #[test]
    fn links_in_a_circle_are_not_followed() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let [ant, bee, far] = ["data/ant", "data/bee", "far"].map(|name| folder.path().join(name));
        [&ant, &far].iter().for_each(|path| fs::create_dir_all(path).unwrap());
        fs::write(ant.join("1.png"), png([0; 4])).unwrap();
        fs::write(far.join("2.png"), png([255; 4])).unwrap();
        symlink(&far, &bee).unwrap();
        for (number, to) in [&ant, &bee, &folder.path().join("data")].into_iter().enumerate() {
            symlink(to, ant.join(format!("again{number}"))).unwrap();
            symlink(to, far.join(format!("again{number}"))).unwrap();
        }
        let data = folder.path().join("data");
        let mut files = Vec::new();
        list(&data, &mut Vec::new(), &mut files).unwrap();
        // Each from the root, and each once more from the other's folder.
        assert_eq!(files.len(), 4, "{files:?}");
    }

    /// A pipe that has a picture's name, and nobody who writes.
    #[cfg(unix)]
    #[test]
    fn a_pipe_among_the_pictures_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("ant/1.png");
        fs::create_dir(folder.path().join("ant")).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let (send, receive) = std::sync::mpsc::channel();
        let path = folder.path().to_owned();
        std::thread::spawn(move || {
            let _ = send.send(Labelled::read(path, &input(), &classes()));
        });
        let error = receive.recv_timeout(std::time::Duration::from_secs(20)).expect("it does not wait").unwrap_err();
        let pipes = io::ErrorKind::InvalidInput;
        let is_pipe = |problem: &DataProblem| matches!(problem, DataProblem::Io(error) if error.kind() == pipes);
        assert!(is_pipe(&error.problem) && error.path == pipe, "{error}");
        assert!(is_pipe(&super::super::read_labels(&pipe).unwrap_err().problem));
    }

    #[test]
    fn a_data_set_has_limits() {
        let (input, classes) = (input(), classes());
        let full = vec![0; MAX_PICTURES];
        let mut pictures =
            Pictures { input: &input, classes: &classes, fit: Fit::Exact, values: Vec::new(), labels: full };
        let error = pictures.add("ant", &png([0; 4])).unwrap_err();
        assert!(matches!(error, DataProblem::TooMany { limit: MAX_PICTURES }), "{error}");
        assert_eq!(error.to_string(), "more than 1048576 pictures");
        pictures.labels.pop();
        pictures.add("ant", &png([0; 4])).unwrap();
    }

    #[test]
    fn what_is_wrong_names_the_picture() {
        let good = png([0; 4]);
        let of = |entries: &[(&str, &[u8])]| {
            let file = archive(entries);
            Labelled::read(file.path(), &input(), &classes()).unwrap_err()
        };
        let error = of(&[("cow/1.png", &good)]);
        assert!(
            matches!(error.problem, DataProblem::UnknownClass { .. }) && error.path.ends_with("cow/1.png"),
            "{error}"
        );
        let error = of(&[("ant/1.png", &good), ("ant/2.png", &good[..30])]);
        assert!(matches!(error.problem, DataProblem::Png(_)) && error.path.ends_with("ant/2.png"), "{error}");
        assert!(matches!(of(&[("ant/readme", b"")]).problem, DataProblem::Empty));
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"PK\x03\x04 cut short").unwrap();
        let error = Labelled::read(file.path(), &input(), &classes()).unwrap_err();
        assert!(matches!(error.problem, DataProblem::Zip(_)), "{error}");
    }
}
