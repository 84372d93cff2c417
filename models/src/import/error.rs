//! What can be wrong with a file of another program: the node, the reason, and what to do about it.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::error::ModelError;
use crate::import::report::Report;
use crate::json::{printable, printable_up_to};

/// A file that can't be imported.
#[derive(Debug)]
pub struct ImportError {
    /// The file, if it was read by name.
    pub path: Option<PathBuf>,
    /// What is wrong with it.
    pub problem: Box<ImportProblem>,
    /// What became of the operations until then, where the file could be decoded.
    pub report: Option<Box<Report>>,
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(f, "{}: {}", path.display(), self.problem),
            None => self.problem.fmt(f),
        }
    }
}

impl std::error::Error for ImportError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.problem)
    }
}

impl<T: Into<ImportProblem>> From<T> for ImportError {
    fn from(problem: T) -> ImportError {
        ImportError { path: None, problem: Box::new(problem.into()), report: None }
    }
}

/// What is wrong with a file. Names are quoted and escaped where they are printed.
#[derive(Debug, thiserror::Error)]
pub enum ImportProblem {
    /// The operating system refuses.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A part over its limit.
    #[error("{what}: {value}, at most {limit} is allowed")]
    TooLarge {
        /// Which part.
        what: &'static str,
        /// Its size.
        value: u128,
        /// The limit.
        limit: u128,
    },
    /// Neither ONNX nor TFLite.
    #[error("neither an ONNX nor a TFLite file")]
    UnknownFormat,
    /// A file that breaks the rules of its format.
    #[error("damaged: {}", reason(.0))]
    Damaged(String),
    /// Something that concerns the file as a whole.
    #[error("{}; {hint}", self::reason(.reason))]
    File {
        /// What.
        reason: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// Options that do not suit the file's input: what was asked of pixels.
    #[error("{0}")]
    Preprocessing(String),
    /// Operations that no network has, or that networks have but not like this: all that were found.
    #[error("{}", obstacles(.rows))]
    Unsupported {
        /// One for each, at least one.
        rows: Vec<Refusal>,
    },
    /// An operation that networks have, but not like this.
    #[error("{0}")]
    Refused(Refusal),
    /// A network that breaks a rule.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl ImportProblem {
    /// The same for someone who has accepted approximate results already: without the advice to do so.
    pub(crate) fn once_approximate(self) -> ImportProblem {
        let without = |refusal: Refusal| Refusal { hint: without_approximate(&refusal.hint), ..refusal };
        match self {
            ImportProblem::Refused(refusal) => ImportProblem::Refused(without(refusal)),
            ImportProblem::Unsupported { rows } => {
                ImportProblem::Unsupported { rows: rows.into_iter().map(without).collect() }
            }
            other => other,
        }
    }
}

/// A hint's clauses but those that speak of approximate results.
fn without_approximate(hint: &str) -> String {
    let clauses = hint.split("; ").flat_map(|clause| clause.split(", or "));
    let kept: Vec<&str> = clauses.filter(|clause| !clause.contains("approximate")).collect();
    if kept.is_empty() { "networks have nothing like it".to_owned() } else { kept.join(", or ") }
}

/// Most kinds of obstacles, and most nodes of one kind, that are listed.
const LISTED: [usize; 2] = [24, 4];

/// All obstacles, those of one kind in one line with their nodes.
fn obstacles(rows: &[Refusal]) -> String {
    if let [row] = rows {
        return format!("an operation that is not supported: {row}");
    }
    let mut kinds: Vec<(&Refusal, Vec<&str>)> = Vec::new();
    for row in rows {
        let same = |known: &&mut (&Refusal, Vec<&str>)| Refusal { node: row.node.clone(), ..known.0.clone() } == *row;
        match kinds.iter_mut().find(same) {
            Some((_, nodes)) => nodes.push(&row.node),
            None => kinds.push((row, vec![&row.node])),
        }
    }
    let mut text = format!("{} obstacles:", rows.len());
    for (row, nodes) in kinds.iter().take(LISTED[0]) {
        let names: Vec<String> = nodes.iter().take(LISTED[1]).map(|name| format!("\"{}\"", printable(name))).collect();
        let more = nodes.len().saturating_sub(LISTED[1]);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let (op, reason, hint) = (printable(&row.op), reason(&row.reason), reason(&row.hint));
        text += &format!("\n  {op} {}{more}: {reason}; {hint}", names.join(", "));
    }
    if kinds.len() > LISTED[0] {
        text += &format!("\n  and {} kinds more", kinds.len() - LISTED[0]);
    }
    text
}

/// A reason or a hint: our own sentences, with names of the file in them.
fn reason(text: &str) -> String {
    printable_up_to(text, 1000)
}

/// A node, why it is refused, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The operation.
    pub op: String,
    /// The node's name, or that of its first output.
    pub node: String,
    /// Why.
    pub reason: String,
    /// What to do about it.
    pub hint: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (op, node) = (printable(&self.op), printable(&self.node));
        write!(f, "{op} \"{node}\": {}; {}", reason(&self.reason), reason(&self.hint))
    }
}

impl From<Refusal> for ImportProblem {
    fn from(refusal: Refusal) -> ImportProblem {
        ImportProblem::Refused(refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::{Refusal, without_approximate};

    /// What strangers wrote is cut, and our own sentences are not.
    #[test]
    fn reasons_are_printed_whole() {
        let words = |count: usize| vec!["word"; count].join(" ");
        let refusal = Refusal { op: "Conv".into(), node: words(100), reason: words(90), hint: words(80) };
        let text = refusal.to_string();
        assert!(text.ends_with(&format!("\": {}; {}", words(90), words(80))), "{text}");
        assert_eq!(text.split('"').nth(1).map(str::len), Some(200), "{text}");
    }

    #[test]
    fn advice_that_was_taken_is_not_given_again() {
        let kept =
            without_approximate("use scales that are powers of two, or accept results that differ (approximate)");
        assert_eq!(kept, "use scales that are powers of two");
        assert_eq!(without_approximate("split it; join it, or quantise it"), "split it, or join it, or quantise it");
        assert_eq!(
            without_approximate("accept sums that differ by one (approximate)"),
            "networks have nothing like it"
        );
    }
}
