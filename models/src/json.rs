//! An architecture as JSON: the form in which it lies in a model file and travels to the client. Read as untrusted input.

use serde_json::Value;

use crate::error::ModelError;
use crate::network::Architecture;

/// Longest JSON text of an architecture, in bytes.
pub const MAX_JSON: usize = 4 << 20;

/// A text that is not the JSON of an architecture.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Longer than [`MAX_JSON`].
    #[error("the JSON text has {bytes} bytes, at most {MAX_JSON} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Not JSON (or nested deeper than 128), or not of the form of an architecture.
    #[error("not the JSON of an architecture: {0}")]
    Form(String),
    /// A field that an architecture does not have: a misspelt one would change the result silently.
    #[error("unknown field {path}")]
    UnknownField {
        /// Where it is.
        path: String,
    },
    /// A well-formed architecture that breaks a rule.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl Architecture {
    /// The JSON text. The same architecture always gives the same text.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("an architecture has only text keys and finite numbers")
    }

    /// Reads and checks an architecture.
    ///
    /// # Errors
    /// If the text is too long, not JSON of this form, has fields that are not known, or breaks a rule of
    /// [`Architecture::check`].
    pub fn from_json(text: &str) -> Result<Architecture, JsonError> {
        if text.len() > MAX_JSON {
            return Err(JsonError::TooLong { bytes: text.len() });
        }
        let form = |error: serde_json::Error| JsonError::Form(printable(&error.to_string()));
        let given: Value = serde_json::from_str(text).map_err(form)?;
        let architecture: Architecture = serde_json::from_value(given.clone()).map_err(form)?;
        architecture.check()?;
        let known = serde_json::to_value(&architecture).map_err(form)?;
        match unknown_field(&given, &known) {
            None => Ok(architecture),
            Some(path) => Err(JsonError::UnknownField { path: printable(&path) }),
        }
    }
}

/// The path of a field of `given` that is not in `known`, which is what was understood of it.
fn unknown_field(given: &Value, known: &Value) -> Option<String> {
    match (given, known) {
        (Value::Object(given), Value::Object(known)) => {
            given.iter().find_map(|(key, value)| match known.get(key) {
                Some(known) => unknown_field(value, known).map(|path| format!(".{key}{path}")),
                // An absent value may be written out.
                None if matches!(value, Value::Null) || value.as_array().is_some_and(Vec::is_empty) => None,
                None => Some(format!(".{key}")),
            })
        }
        (Value::Array(given), Value::Array(known)) => given
            .iter()
            .zip(known)
            .enumerate()
            .find_map(|(index, (given, known))| unknown_field(given, known).map(|path| format!("[{index}]{path}"))),
        _ => None,
    }
}

/// Text of a stranger, fit for a terminal: control characters escaped, at most 200 characters.
pub(crate) fn printable(text: &str) -> String {
    printable_up_to(text, 200)
}

/// The same, of `most` characters.
pub(crate) fn printable_up_to(text: &str, most: usize) -> String {
    let mut shown = String::new();
    for c in text.chars().take(most) {
        match c {
            '"' | '\'' => shown.push(c),
            c => shown.extend(c.escape_debug()),
        }
    }
    shown
}
