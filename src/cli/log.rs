//! The log on standard error: how much of it, and in which form.

use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicBool, Ordering};

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// The form of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Lines of each level and above, by how often `-v` was said.
#[derive(Clone, Copy)]
pub struct Levels(pub [&'static str; 3]);

impl Levels {
    /// Of commands that a person runs and looks at.
    pub const QUIET: Self = Self(["warn", "info", "debug"]);
    /// Of a server, which tells of each session and each inference.
    pub const SERVER: Self = Self(["info", "debug", "trace"]);
}

/// What others' code says of what clients send is not written, whatever the level.
const FOREIGN: [&str; 2] = ["tungstenite=off", "tokio_tungstenite=off"];

/// True once every line is an object.
static JSON: AtomicBool = AtomicBool::new(false);

/// Whether what is said to people on standard error has to go through the log, so that programs can read it.
pub fn is_json() -> bool {
    JSON.load(Ordering::Relaxed)
}

/// Starts it; RUST_LOG has the last word.
pub fn start(levels: Levels, verbose: u8, format: Format) {
    JSON.store(format == Format::Json, Ordering::Relaxed);
    let level = levels.0[usize::from(verbose).min(2)];
    let mut filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    for crates in FOREIGN {
        filter = filter.add_directive(crates.parse().expect("a directive"));
    }
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).log_internal_errors(false);
    match format {
        Format::Text => log.with_target(false).with_ansi(io::stderr().is_terminal()).init(),
        Format::Json => log.json().flatten_event(true).with_current_span(false).with_span_list(false).init(),
    }
}
