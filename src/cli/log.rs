//! The log on standard error: how much of it, and in which form.
//!
//! Lines are written by a thread of their own, so that nobody waits for a reader that has stopped: what does not fit its queue is lost,
//! and counted.

use std::io::{self, IsTerminal};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::ValueEnum;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
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

/// Lines that wait for standard error at most; at some 200 bytes each a few megabytes.
const WAITING_LINES: usize = 16_384;

/// Counts the lines that found the queue full.
static LOST: OnceLock<ErrorCounter> = OnceLock::new();

/// Lines lost since the start.
pub fn lost_lines() -> u64 {
    LOST.get().map_or(0, |lost| lost.dropped_lines() as u64)
}

/// Whether what is said to people on standard error has to go through the log, so that programs can read it.
pub fn is_json() -> bool {
    JSON.load(Ordering::Relaxed)
}

/// Starts it; RUST_LOG has the last word. Dropping what it returns writes the lines that wait, for a second at most.
pub fn start(levels: Levels, verbose: u8, format: Format) -> WorkerGuard {
    JSON.store(format == Format::Json, Ordering::Relaxed);
    let level = levels.0[usize::from(verbose).min(2)];
    let mut filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    for crates in FOREIGN {
        filter = filter.add_directive(crates.parse().expect("a directive"));
    }
    let (writer, waiting) = NonBlockingBuilder::default().buffered_lines_limit(WAITING_LINES).finish(io::stderr());
    let _ = LOST.set(writer.error_counter());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).log_internal_errors(false);
    match format {
        Format::Text => log.with_target(false).with_ansi(io::stderr().is_terminal()).init(),
        Format::Json => log.json().flatten_event(true).with_current_span(false).with_span_list(false).init(),
    }
    waiting
}
