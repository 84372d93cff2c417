//! The terminals that standard output and standard error may be: their width, and whether they take colours.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

/// Columns where standard output is no terminal.
const WIDTH: usize = 80;
/// Nothing is laid out for less.
const NARROWEST: usize = 40;

/// Columns that a line of standard output may have.
pub fn width() -> usize {
    columns(&io::stdout()).unwrap_or(WIDTH)
}

/// The columns of a stream that is a terminal.
fn columns(stream: &(impl IsTerminal + AsFd)) -> Option<usize> {
    let size = if stream.is_terminal() { terminal_size::terminal_size_of(stream) } else { None };
    size.map(|(terminal_size::Width(columns), _)| usize::from(columns).max(NARROWEST))
}

/// A message broken between words, so that it fits standard error; whole lines where that is no terminal.
pub fn message(text: &str) -> String {
    columns(&io::stderr()).map_or_else(|| text.to_owned(), |columns| broken(text, columns))
}

/// The same of standard output.
pub fn output(text: &str) -> String {
    columns(&io::stdout()).map_or_else(|| text.to_owned(), |columns| broken(text, columns))
}

/// Lines of at most `columns`, those that follow one indented; words that are longer, such as paths and digests, stay whole.
fn broken(text: &str, columns: usize) -> String {
    let options = textwrap::Options::new(columns)
        .subsequent_indent("  ")
        .break_words(false)
        .word_splitter(textwrap::WordSplitter::NoHyphenation);
    text.split_inclusive('\n')
        .map(|line| {
            textwrap::fill(line.trim_end_matches('\n'), &options) + if line.ends_with('\n') { "\n" } else { "" }
        })
        .collect()
}

/// Whether standard output takes colours: a terminal that can, and nobody set `NO_COLOR` (<https://no-color.org>).
pub fn colours() -> bool {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    io::stdout().is_terminal() && set("NO_COLOR").is_none() && set("TERM").is_none_or(|term| term != "dumb")
}

/// How a text stands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// A heading.
    Bold,
    /// Beside the point.
    Faint,
    /// As it should be.
    Green,
    /// As it must not be.
    Red,
}

/// A text with its colour, if `colours`.
pub fn paint(text: &str, paint: Paint, colours: bool) -> String {
    let code = match paint {
        Paint::Bold => 1,
        Paint::Faint => 2,
        Paint::Red => 31,
        Paint::Green => 32,
    };
    if colours && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::broken;

    #[test]
    fn messages_break_between_words() {
        let text = "error: one two three four\nhint: see /a/path-that-is-long/and-stays-whole, then go on\n";
        let expected =
            "error: one two\n  three four\nhint: see\n  /a/path-that-is-long/and-stays-whole,\n  then go on\n";
        assert_eq!(broken(text, 16), expected);
        assert_eq!(broken(text, 200), text);
        assert_eq!(broken("  kept\n\n    as it is\n", 40), "  kept\n\n    as it is\n");
    }
}
