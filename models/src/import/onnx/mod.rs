//! ONNX files.

use crate::import::{ImportError, ImportProblem, Imported, Options};

/// Reads an ONNX file.
///
/// # Errors
/// Whatever is wrong with the file.
pub fn import(_bytes: &[u8], _options: &Options) -> Result<Imported, ImportError> {
    Err(ImportProblem::UnknownFormat.into())
}
