//! The terminal that standard output may be: its width, and whether it takes colours.

use std::io::{self, IsTerminal};

/// Columns where standard output is no terminal.
const WIDTH: usize = 80;
/// Nothing is laid out for less.
const NARROWEST: usize = 40;

/// Columns that a line may have.
pub fn width() -> usize {
    let stdout = io::stdout();
    let size = if stdout.is_terminal() { terminal_size::terminal_size_of(&stdout) } else { None };
    size.map_or(WIDTH, |(terminal_size::Width(columns), _)| usize::from(columns).max(NARROWEST))
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
