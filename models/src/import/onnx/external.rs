//! Tensors that are stored in files of their own beside the model, as PyTorch's exporter writes them.
//!
//! A file may name any path: only plain names below the model's folder are opened, and links that leave it are not followed.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use super::schema::{Model, TensorProto};
use crate::import::{ImportProblem, MAX_FILE};
use crate::regular;

/// Reads what is stored outside of the file, if its folder is known.
pub(super) fn fill(model: &mut Model, folder: Option<&Path>) -> Result<(), ImportProblem> {
    let Some(graph) = &mut model.graph else { return Ok(()) };
    let attributes = graph.node.iter_mut().flat_map(|node| &mut node.attribute).filter_map(|a| a.t.as_mut());
    let (mut left, mut files) = (MAX_FILE, HashMap::new());
    for tensor in graph.initializer.iter_mut().chain(attributes).filter(|tensor| tensor.data_location == 1) {
        let folder = folder.ok_or_else(|| refused(tensor, "is stored in another file"))?;
        tensor.raw_data = read(tensor, folder, &mut files, &mut left)?;
        tensor.data_location = 0;
    }
    Ok(())
}

fn refused(tensor: &TensorProto, what: &str) -> ImportProblem {
    ImportProblem::File {
        reason: format!("the tensor {:?} {what}", tensor.name),
        hint: "keep its file beside the model, or save the model as one: onnx.save(model, path, save_as_external_data=False)",
    }
}

fn read(
    tensor: &TensorProto,
    folder: &Path,
    files: &mut HashMap<PathBuf, File>,
    left: &mut u64,
) -> Result<Vec<u8>, ImportProblem> {
    let entry =
        |key: &str| tensor.external_data.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str());
    let number = |key: &str| entry(key).map(|text| text.parse::<u64>().map_err(|_| refused(tensor, "has no place")));
    let location = Path::new(entry("location").ok_or_else(|| refused(tensor, "has no place"))?);
    let plain = location.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !plain || location.as_os_str().is_empty() {
        return Err(refused(tensor, "is stored outside of the model's folder"));
    }
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let within = folder.canonicalize()?;
    let path =
        within.join(location).canonicalize().map_err(|_| refused(tensor, "is stored in a file that is missing"))?;
    if !path.starts_with(&within) {
        return Err(refused(tensor, "is stored outside of the model's folder"));
    }
    let file = match files.entry(path) {
        std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
        std::collections::hash_map::Entry::Vacant(entry) => {
            let file = regular::open(entry.key());
            entry.insert(
                file.map_err(|error| refused(tensor, &format!("is stored in a file that can't be read ({error})")))?,
            )
        }
    };
    let size = file.metadata()?.len();
    let offset = number("offset").transpose()?.unwrap_or(0);
    let length = number("length").transpose()?.unwrap_or(size.saturating_sub(offset));
    if offset.checked_add(length).is_none_or(|end| end > size) {
        return Err(refused(tensor, "leaves the file that it is stored in"));
    }
    if length > *left {
        let value = u128::from(MAX_FILE - *left) + u128::from(length);
        return Err(ImportProblem::TooLarge { what: "the tensors in other files", value, limit: MAX_FILE.into() });
    }
    *left -= length;
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::schema::{Entry, GraphProto};
    use super::*;

    fn model(entries: &[(&str, &str)]) -> Model {
        let external_data = entries.iter().map(|(k, v)| Entry { key: (*k).into(), value: (*v).into() }).collect();
        let tensor = TensorProto { name: "w".into(), data_location: 1, external_data, ..TensorProto::default() };
        Model { graph: Some(GraphProto { initializer: vec![tensor], ..GraphProto::default() }), ..Model::default() }
    }

    #[test]
    fn tensors_are_read_from_beside_the_file_and_nowhere_else() {
        let outside = tempfile::tempdir().expect("a folder");
        let folder = outside.path().join("model");
        std::fs::create_dir(&folder).expect("a folder");
        std::fs::write(folder.join("weights.bin"), [1, 2, 3, 4, 5]).expect("a file");
        std::fs::write(outside.path().join("secret"), [9; 8]).expect("a file");
        let filled = |entries: &[(&str, &str)]| {
            let mut model = model(entries);
            fill(&mut model, Some(&folder)).map(|()| model.graph.expect("a graph").initializer[0].raw_data.clone())
        };
        let bytes = filled(&[("location", "weights.bin"), ("offset", "1"), ("length", "3")]).expect("a part");
        assert_eq!(bytes, [2, 3, 4]);
        assert_eq!(filled(&[("location", "./weights.bin")]).expect("the whole"), [1, 2, 3, 4, 5]);
        let escape = outside.path().join("secret");
        for location in ["../secret", escape.to_str().expect("a path"), "a/../../secret", "", ".", "missing"] {
            let error = filled(&[("location", location)]).expect_err(location).to_string();
            assert!(error.contains("\"w\""), "{location}: {error}");
        }
        for (offset, length) in [("3", "3"), ("18446744073709551615", "2"), ("x", "1"), ("-1", "1")] {
            assert!(filled(&[("location", "weights.bin"), ("offset", offset), ("length", length)]).is_err());
        }
        assert!(fill(&mut model(&[("location", "weights.bin")]), None).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn links_that_leave_the_folder_are_not_followed() {
        let outside = tempfile::tempdir().expect("a folder");
        let folder = outside.path().join("model");
        std::fs::create_dir(&folder).expect("a folder");
        std::fs::write(outside.path().join("secret"), [9; 8]).expect("a file");
        std::os::unix::fs::symlink("../secret", folder.join("link")).expect("a link");
        let error = fill(&mut model(&[("location", "link")]), Some(&folder)).expect_err("a link").to_string();
        assert!(error.contains("outside"), "{error}");
    }
}
