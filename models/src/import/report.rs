//! The report of an import: which operations a file has, what became of each, and how its runtime rounds.

use std::fmt;

use crate::json::{printable, printable_up_to};

/// Most characters of a note that are shown.
const MAX_NOTE: usize = 500;

/// What became of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// "QONNX", "ONNX QDQ", "TFLite", ...
    pub format: String,
    /// The program that wrote the file, where it says so.
    pub producer: String,
    /// The rounding rule that the network reproduces, e.g. "ONNX Runtime: float32 multiply, half to even".
    pub rounding: Vec<String>,
    /// One row per operation and verdict, in order of first appearance.
    pub rows: Vec<Row>,
    /// How the file codes its input and its output, a line each; empty until the whole file is imported.
    pub codings: [String; 2],
    /// Whatever else the user should know, one sentence each.
    pub notes: Vec<String>,
}

/// Nodes of one operation that had the same fate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The operation's name in the file.
    pub op: String,
    /// How many nodes.
    pub count: usize,
    /// What became of them.
    pub verdict: Verdict,
}

/// The fate of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is part of the network; as what.
    Imported(&'static str),
    /// It is left out, which changes nothing that the network promises; why.
    Dropped(&'static str),
    /// No network has it.
    Unsupported {
        /// The first such node.
        node: String,
        /// What to do about it.
        hint: String,
    },
}

impl Report {
    /// Counts a node of operation `op`.
    pub(crate) fn count(&mut self, op: &str, verdict: Verdict) {
        let alike = |other: &Verdict| match (other, &verdict) {
            (Verdict::Unsupported { .. }, Verdict::Unsupported { .. }) => true,
            (one, other) => one == other,
        };
        let same = |row: &&mut Row| row.op == op && alike(&row.verdict);
        match self.rows.iter_mut().find(same) {
            Some(row) => row.count += 1,
            None => self.rows.push(Row { op: op.to_owned(), count: 1, verdict }),
        }
    }

    /// Adds a note unless it is there.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        let note = note.into();
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Adds a rounding rule unless it is there.
    pub(crate) fn rule(&mut self, rule: &str) {
        if !self.rounding.iter().any(|known| known == rule) {
            self.rounding.push(rule.to_owned());
        }
    }

    /// The rounding rules in one line, empty if nothing is rounded.
    pub fn rounding_rule(&self) -> String {
        self.rounding.join("; ")
    }
}

/// Width of a terminal, at least.
const WIDTH: usize = 80;

/// `head` and the words behind it, in lines of at most [`WIDTH`] characters below each other; longer words have a line of their own.
fn hanging(head: String, words: &str) -> String {
    let indent = head.chars().count();
    let (mut text, mut column) = (head, indent);
    for (at, word) in words.split(' ').enumerate() {
        let length = word.chars().count();
        if at > 0 && column + 1 + length > WIDTH {
            text.push('\n');
            text.extend(std::iter::repeat_n(' ', indent));
            column = indent;
        } else if at > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += length;
    }
    text
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.format)?;
        if !self.producer.is_empty() {
            write!(f, " written by {}", printable(&self.producer))?;
        }
        writeln!(f)?;
        for row in &self.rows {
            let head = format!("  {:>5} x {:<24} ", row.count, printable(&row.op));
            let fate = match &row.verdict {
                Verdict::Imported(what) => (*what).to_owned(),
                Verdict::Dropped(why) => format!("dropped: {why}"),
                Verdict::Unsupported { node, hint } => {
                    format!("NOT SUPPORTED, first at \"{}\": {}", printable(node), printable(hint))
                }
            };
            writeln!(f, "{}", hanging(head, &fate))?;
        }
        for (name, coding) in ["input", "output"].iter().zip(&self.codings).filter(|(_, coding)| !coding.is_empty()) {
            writeln!(f, "{name}: {coding}")?;
        }
        for rule in &self.rounding {
            writeln!(f, "rounding: {rule}")?;
        }
        for note in &self.notes {
            writeln!(f, "note: {}", printable_up_to(note, MAX_NOTE))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_fit_a_terminal() {
        let mut report = Report { format: "ONNX QDQ".into(), ..Report::default() };
        report.count(
            "Softmax",
            Verdict::Dropped("the client takes it, of the values before it; their order is the same"),
        );
        report.count("Conv", Verdict::Imported("a linear layer"));
        let text = report.to_string();
        assert!(text.lines().all(|line| line.len() <= WIDTH), "{text}");
        let words: Vec<&str> = text.split_whitespace().collect();
        assert!(
            words.join(" ").contains("dropped: the client takes it, of the values before it; their order is the same")
        );
        assert!(text.contains("Conv                     a linear layer\n"), "{text}");
    }
}
