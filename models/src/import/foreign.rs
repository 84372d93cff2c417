//! What a file is that is neither ONNX nor TFLite, by how it begins.

use super::ImportProblem;

/// First bytes, what has them, and what to do about it.
const KINDS: &[(&[u8], &str, &str)] = &[
    (b"PK\x03\x04", "a zip archive, as PyTorch and Keras write", EXPORT),
    (b"\x89HDF", "an HDF5 file, as Keras writes", EXPORT),
    (b"\x80\x02", PICKLE, EXPORT),
    (b"\x80\x03", PICKLE, EXPORT),
    (b"\x80\x04", PICKLE, EXPORT),
    (b"\x80\x05", PICKLE, EXPORT),
    (b"version https://git-lfs", "a pointer of Git LFS and not the file itself", "git lfs pull fetches the file"),
    (b"<", "a web page or other text", "fetch the file itself, not the page that shows it"),
    (b"{", "JSON", EXPORT),
    (b"\x89PNG", "a picture", MODEL),
    (b"\xff\xd8\xff", "a picture", MODEL),
    (b"\x93NUMPY", "an array of NumPy", MODEL),
];
const PICKLE: &str = "a pickle of Python, as PyTorch writes";
const EXPORT: &str = "export the network as ONNX or TFLite";
const MODEL: &str = "give the file of a network: ONNX or TFLite";

/// Why a file that can't be decoded is no model, as far as its first bytes tell; `None` if it may be one.
pub(super) fn refusal(bytes: &[u8]) -> Option<ImportProblem> {
    if bytes.is_empty() {
        return Some(ImportProblem::File { reason: "the file is empty".to_owned(), hint: MODEL });
    }
    // A network of lowkey: the length of a header in JSON, and the header.
    let own =
        bytes.get(8) == Some(&b'{') && bytes[..bytes.len().min(1 << 16)].windows(7).any(|part| part == b"lowkey.");
    if own {
        let hint = "it needs no import: it is read as it is";
        return Some(ImportProblem::File { reason: "a network of lowkey already".to_owned(), hint });
    }
    let (_, what, hint) = KINDS.iter().find(|(start, ..)| bytes.starts_with(start))?;
    Some(ImportProblem::File { reason: format!("this is {what}"), hint })
}

#[cfg(test)]
mod tests {
    use super::super::{Options, from_bytes};

    #[test]
    fn files_that_are_no_models_are_named() {
        for (bytes, words) in [
            (&b""[..], "the file is empty"),
            (b"PK\x03\x04\x14\0", "a zip archive"),
            (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS"),
            (b"<!DOCTYPE html>", "a web page"),
            (b"\x40\0\0\0\0\0\0\0{\"__metadata__\":{\"lowkey.format\":\"1\"}}", "needs no import"),
            (b"\xff\xfe\xfd\xfc", "neither an ONNX nor a TFLite file"),
            (b"\x00\x01\x02\x03TFL2", "neither an ONNX nor a TFLite file"),
            // The version of the format, and a graph that is longer than the file.
            (b"\x08\x08\x3a\x50\x0a", "cut off or damaged"),
        ] {
            let text = from_bytes(bytes, &Options::default()).expect_err("no model").to_string();
            assert!(text.contains(words) && !text.contains("Protobuf"), "{text}");
        }
    }
}
