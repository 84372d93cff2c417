//! The command line: arguments, and what the subcommands share.

mod answers;
mod bench;
mod check;
mod demo;
mod distort;
#[macro_use]
mod ending;
mod eval;
mod foreign;
mod forget;
mod guard;
mod help;
mod import;
mod infer;
mod key;
mod local;
mod log;
mod metrics;
mod misplaced;
mod model;
mod models;
mod names;
mod optimise;
mod parameters;
mod plan;
mod plots;
mod progress;
mod quantise;
mod records;
mod serve;
mod shell;
mod size;
mod source;
mod table;
mod terminal;
mod toss;
mod train;

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use lowkey::planner::Widths;
use lowkey::store::Store;
use lowkey::{Error, Result};

use ending::Ending;

/// Private inference for low-bit neural networks.
///
/// A server holds the weights, a client the image. The client gets exactly the plaintext integer network's answer; the
/// server learns nothing of the image, the client nothing of the weights beyond the answer.
#[derive(Parser)]
#[command(name = "lowkey", version = help::version(), propagate_version = true, max_term_width = 80, after_help = help::ALL)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Print what happens (twice: in detail) on standard error.
    #[arg(short, long, action = clap::ArgAction::Count, global = true, display_order = 998)]
    verbose: u8,
}

#[derive(Subcommand)]
enum Command {
    /// Run both parties over loopback on bundled images.
    #[command(after_help = help::DEMO)]
    Demo(demo::Arguments),
    /// Make a .lowkey file of an ONNX or TFLite file.
    #[command(after_help = help::IMPORT)]
    Import(import::Arguments),
    /// Make a .lowkey file of a float network: 8, 6 or 4 bits.
    #[command(after_help = help::QUANTISE)]
    Quantise(quantise::Arguments),
    /// Measure how much each change of a network moves its answers.
    #[command(after_help = help::DISTORT)]
    Distort(distort::Arguments),
    /// Make a network cheaper: the least distortion within some bytes.
    #[command(after_help = help::OPTIMISE)]
    Optimise(optimise::Arguments),
    /// Serve a model to clients.
    #[command(after_help = help::SERVE)]
    Serve(serve::Arguments),
    /// Have a server's model answer an image, privately.
    #[command(after_help = help::INFER)]
    Infer(infer::Arguments),
    /// Train a network on data that its owner does not see.
    #[command(after_help = help::TRAIN)]
    Train(train::Arguments),
    /// Accept a changed model at an address: drop what was noted of it.
    #[command(after_help = help::FORGET)]
    Forget(forget::Arguments),
    /// List the bundled models: what they reach, what they cost.
    #[command(after_help = help::MODELS)]
    Models(models::Arguments),
    /// Show how a model would run: layers, bytes, flights, seconds.
    #[command(after_help = help::PLAN)]
    Plan(plan::Arguments),
    /// Show the parameter sets, and what known attacks on them cost.
    #[command(after_help = help::PARAMETERS)]
    Parameters(parameters::Arguments),
    /// Find a model's accuracy on a data set, in the clear and privately.
    #[command(after_help = help::EVAL)]
    Eval(eval::Arguments),
    /// Show or replace a server's key.
    #[command(after_help = help::KEY)]
    Key(key::Arguments),
    /// List and pardon the clients that failed an audit.
    #[command(after_help = help::GUARD)]
    Guard(guard::Arguments),
    /// Measure networks against each other, and a server under load.
    #[command(after_help = help::BENCH)]
    Bench(bench::Arguments),
    /// Print a completion script for a shell.
    #[command(after_help = help::COMPLETIONS)]
    Completions(shell::Completions),
    /// Write manual pages into a folder.
    #[command(after_help = help::MAN)]
    Man(shell::Man),
}

/// What the client is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Reveal {
    /// The network's integer outputs.
    #[default]
    Logits,
    /// The index of the largest output, and nothing else.
    Class,
}

impl From<Reveal> for lowkey::Reveal {
    fn from(reveal: Reveal) -> Self {
        match reveal {
            Reveal::Logits => Self::Logits,
            Reveal::Class => Self::Class,
        }
    }
}

/// When the lattice work happens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Schedule {
    /// Before the input is known; the online stage is plain integer arithmetic.
    #[default]
    Prepared,
    /// When the input is there: no offline stage, more bytes and a longer online stage.
    Direct,
}

impl From<Schedule> for lowkey::Schedule {
    fn from(schedule: Schedule) -> Self {
        match schedule {
            Schedule::Prepared => Self::Prepared,
            Schedule::Direct => Self::Direct,
        }
    }
}

/// How an inference is done.
#[derive(Args, Clone, Copy, Default)]
struct Mode {
    /// What the client is shown.
    #[arg(long, value_enum, default_value_t)]
    reveal: Reveal,
    /// When the lattice work happens.
    #[arg(long, value_enum, default_value_t)]
    schedule: Schedule,
}

/// How sessions are: who is trusted, and what the client is shown.
#[derive(Args, Clone, Copy)]
struct ModeArguments {
    /// What a client is shown, at most [default: logits; with --guard class].
    #[arg(long, value_enum)]
    reveal: Option<Reveal>,
    /// Guarded sessions: a client that cheats learns no more than its answers, and is shut out, by the name of its certificate, when it is
    /// caught. The client's privacy is then claimed against a server that follows the protocol, and no longer against any.
    #[arg(long)]
    guard: bool,
}

impl ModeArguments {
    /// What is revealed.
    fn reveal(self) -> Reveal {
        shown(self.reveal, self.guard)
    }

    /// Of a client that says when the lattice work happens.
    fn with(self, schedule: Schedule) -> Mode {
        Mode { reveal: self.reveal(), schedule }
    }
}

/// What is revealed, of what was asked for.
fn shown(asked: Option<Reveal>, guard: bool) -> Reveal {
    asked.unwrap_or_else(|| match lowkey::Reveal::default_for(guard) {
        lowkey::Reveal::Logits => Reveal::Logits,
        lowkey::Reveal::Class => Reveal::Class,
    })
}

/// The link that a plan is made for.
#[derive(Args, Clone, Copy)]
struct LinkArgument {
    /// The line to plan for: loopback, lan, wan (20 ms one way), metered (fewest bytes).
    #[arg(long, default_value = "lan", value_name = "LINK")]
    link: lowkey::Link,
}

/// How rings are chosen.
#[derive(Args, Clone, Copy)]
struct WidthsArgument {
    /// Plan with integers of 32 bits and the torus of 64 bits everywhere, to compare with.
    #[arg(long)]
    straightforward: bool,
}

impl From<WidthsArgument> for Widths {
    fn from(argument: WidthsArgument) -> Self {
        if argument.straightforward { Self::Straightforward } else { Self::Tight }
    }
}

/// Where data is found.
#[derive(Args, Clone)]
struct DataArgument {
    /// A folder with an IDX test set (t10k-images-idx3-ubyte[.gz] and its labels), or with pictures in folders named by class; a
    /// zip archive of such folders. Unless given: mnist/ or cifar10/ in the folder that LOWKEY_DATA names.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Scale pictures in folders so that they cover the network's size, and take the middle.
    #[arg(long)]
    resize: bool,
}

/// Where things are kept.
#[derive(Args, Clone)]
struct Places {
    /// Where published models are kept, which can be had again; and, unless --state is given, all the rest.
    #[arg(long, value_name = "DIR", env = "LOWKEY_CACHE", hide_env_values = true)]
    cache: Option<PathBuf>,
    /// Where the server's key and the digests of known servers are kept; the user's state folder unless given.
    #[arg(long, value_name = "DIR", env = "LOWKEY_STATE", hide_env_values = true)]
    state: Option<PathBuf>,
}

impl Places {
    /// Opens the store, and says what it moved.
    fn open(&self) -> Result<Store> {
        let store = Store::open_at(self.cache.clone(), self.state.clone())?;
        for moved in store.moved() {
            warn(format_args!("note: {moved}, where it stays when the cache is emptied\n"));
        }
        Ok(store)
    }
}

/// What a connection tolerates.
#[derive(Args, Clone, Copy)]
struct TimeoutArgument {
    /// Give up after this many seconds without progress.
    #[arg(long, default_value_t = 60, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
}

impl TimeoutArgument {
    fn duration(self) -> Duration {
        Duration::from_secs(self.timeout)
    }

    fn limits(self) -> lowkey::Limits {
        lowkey::Limits { timeout: self.duration(), ..Default::default() }
    }
}

/// What `lowkey plan MODEL --link LINK --json` prints.
///
/// # Errors
/// As there.
pub fn plan_json(model: &lowkey::Model, link: lowkey::Link) -> Result<String> {
    let record = plan::record(model.network(), link, Widths::Tight, Mode::default())?;
    serde_json::to_string(&record).map_err(Error::internal)
}

/// The command line with all its subcommands.
fn command() -> clap::Command {
    Cli::command()
}

/// Parses the arguments, the program's name first, runs the command, and turns the outcome into an exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let cli = Cli::try_parse_from(&arguments)
        .unwrap_or_else(|error| misplaced::explained(error, command(), &arguments).exit());
    let (levels, format) = match &cli.command {
        Command::Serve(arguments) => (log::Levels::SERVER, arguments.log_format()),
        _ => (log::Levels::QUIET, log::Format::Text),
    };
    let _waiting = log::start(levels, cli.verbose, format);
    let outcome = match cli.command {
        Command::Demo(arguments) => demo::run(arguments),
        Command::Import(arguments) => import::run(arguments),
        Command::Quantise(arguments) => quantise::run(arguments),
        Command::Distort(arguments) => distort::run(arguments),
        Command::Optimise(arguments) => optimise::run(arguments),
        Command::Serve(arguments) => serve::run(arguments),
        Command::Infer(arguments) => infer::run(arguments),
        Command::Train(arguments) => train::run(arguments),
        Command::Forget(arguments) => forget::run(&arguments),
        Command::Models(arguments) => models::run(arguments),
        Command::Plan(arguments) => plan::run(arguments),
        Command::Parameters(arguments) => parameters::run(&arguments),
        Command::Eval(arguments) => eval::run(arguments),
        Command::Key(arguments) => key::run(arguments),
        Command::Guard(arguments) => guard::run(arguments),
        Command::Bench(arguments) => bench::run(arguments),
        Command::Completions(arguments) => shell::completions(&arguments, command()),
        Command::Man(arguments) => shell::man(&arguments, command()),
    };
    match outcome {
        Ok(code) => code,
        // Whoever read the output has seen enough, as in `lowkey demo | head`.
        Err(Error::File { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let what = foreign::in_switches(&error.to_string());
            if log::is_json() {
                tracing::error!(hint = ending::hint(&error), "{what}");
            } else {
                let hint = ending::hint(&error).map(|hint| format!("hint: {hint}\n")).unwrap_or_default();
                warn(format_args!("error: {what}\n{hint}"));
            }
            Ending::from(error.fault()).into()
        }
    }
}

/// Writes to standard error, where somebody still reads it.
fn warn(text: impl fmt::Display) {
    if log::is_json() {
        let text = text.to_string();
        tracing::warn!("{}", text.trim_end().trim_start_matches("warning: "));
        return;
    }
    let text = terminal::message(&text.to_string());
    progress::above(|| {
        let _ = write!(io::stderr(), "{text}");
    });
}

/// "1 image", "2 images".
fn several(count: u64, one: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}

/// Prints text for people and a line's end; on a terminal lines break between words.
fn say(text: impl fmt::Display) -> Result<()> {
    print(&terminal::output(&text.to_string()))
}

/// Prints a line.
fn print(line: &str) -> Result<()> {
    let printed = progress::above(|| writeln!(io::stdout(), "{line}"));
    printed.map_err(|error| Error::file(Path::new("standard output"), error))
}

/// A runtime for connections of a client; the library computes on threads of its own.
fn runtime() -> Result<tokio::runtime::Runtime> {
    runtime_with(16)
}

/// A runtime for connections, with so many threads that the library may compute and wait on.
fn runtime_with(threads: usize) -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(threads)
        .enable_all()
        .build()
        .map_err(|error| Error::internal(format!("no runtime: {error}")))
}

/// Prints one JSON object on a line.
fn print_json(record: &impl serde::Serialize) -> Result<()> {
    print(&serde_json::to_string(record).map_err(Error::internal)?)
}
