//! The command as people and programs use it: transcripts of what it prints, where, and with which exit code.
//!
//! | file | what |
//! |---|---|
//! | `cli/demo.rs` | `demo`, `plan`, `eval`: one process |
//! | `cli/help.rs` | help, completions, manual pages, the list of models, comparisons of widths |
//! | `cli/import.rs` | `import`, and the files it reads given to other commands |
//! | `cli/inputs.rs` | arrays, classes and answers of imported networks |
//! | `cli/pair.rs` | `serve` and `infer`: images, files, models, digests |
//! | `cli/load.rs` | `bench serve`: many clients at one server |
//! | `cli/plain.rs` | clients on plain machines: read-only disks, pipes, files that are not what they seem |
//! | `cli/guard.rs` | `guard`: who is shut out, and pardons |
//! | `cli/key.rs` | the server's key: where it lies, its lifetime, a new one; what a server allows |
//! | `cli/life.rs` | a server's life: signals, as process 1; several models, other ones while it runs |
//! | `cli/optimise.rs` | `distort`, `optimise`: cheaper networks |
//! | `cli/quantise.rs` | `quantise`: float networks made integers |
//! | `cli/train.rs` | `train`: both parties, checkpoints, refusals |
//! | `cli/trust.rs` | TLS, pins, plain TCP |
//! | `cli/trouble.rs` | what users and networks do wrong |
//!
//! No test touches the user's folders: every process gets a cache of its own.

#[path = "common/command.rs"]
mod bare;
#[path = "common/certificate.rs"]
mod certificate;
mod common;

#[path = "cli/demo.rs"]
mod demo;
#[path = "cli/files.rs"]
mod files;
#[path = "../models/tests/common/float_onnx.rs"]
mod float_onnx;
#[path = "cli/guard.rs"]
mod guard;
#[path = "cli/help.rs"]
mod help;
#[path = "cli/import.rs"]
mod import;
#[path = "cli/inputs.rs"]
mod inputs;
#[path = "cli/key.rs"]
mod key;
#[path = "cli/life.rs"]
mod life;
#[path = "cli/load.rs"]
mod load;
#[path = "cli/optimise.rs"]
mod optimise;
#[path = "cli/pair.rs"]
mod pair;
#[path = "cli/plain.rs"]
mod plain;
#[path = "cli/quantise.rs"]
mod quantise;
#[path = "cli/train.rs"]
mod train;
#[path = "cli/trouble.rs"]
mod trouble;
#[path = "cli/trust.rs"]
mod trust;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use lowkey_models::{Network, Tensor, zoo};
use serde_json::Value;
use tempfile::TempDir;

/// No command takes longer, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The command, with nothing of the user's environment.
fn command(arguments: &[&str]) -> Command {
    let mut command = bare::lowkey(arguments);
    command.env("LOWKEY_CACHE", cache());
    command
}

/// The cache of commands that name none.
fn cache() -> &'static Path {
    static CACHE: OnceLock<TempDir> = OnceLock::new();
    CACHE.get_or_init(|| tempfile::tempdir().unwrap()).path()
}

/// What a command printed, and how it ended.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs a command to its end.
#[track_caller]
fn lowkey(arguments: &[&str]) -> Ran {
    let output = assert_cmd::Command::from_std(command(arguments)).timeout(PATIENCE).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).expect("everything printed is UTF-8");
    let ran = Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) };
    assert!(ran.code.is_some(), "{arguments:?} was killed after {PATIENCE:?}: {ran:?}");
    assert!(!ran.err.contains("panicked") && !ran.err.contains("RUST_BACKTRACE"), "{arguments:?}: {}", ran.err);
    ran
}

impl Ran {
    /// Standard output of a command that succeeded and complained about nothing.
    #[track_caller]
    fn prints(self) -> String {
        assert_eq!((self.code, &self.err[..]), (Some(0), ""), "{}", self.out);
        self.out
    }

    /// The same of a server with too few seats for its clients, which says so where they wait for long.
    #[track_caller]
    fn prints_though_full(self) -> String {
        assert_eq!((self.code, but_full(&self.err)), (Some(0), String::new()), "{}", self.out);
        self.out
    }

    /// The JSON objects of a command that succeeded, one per line.
    #[track_caller]
    fn records(self) -> Vec<Value> {
        self.prints().lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
    }

    /// A failure: the exit code, what is wrong and what to do, each on a line of standard error, and no result.
    #[track_caller]
    fn fails(self, code: i32, wrong: &str, remedy: &str) -> Self {
        assert_eq!(self.code, Some(code), "{}", self.err);
        let line = |start: &str| self.err.lines().find_map(|line| line.strip_prefix(start)).unwrap_or_default();
        assert!(line("error: ").contains(wrong), "{wrong:?} is not in:\n{}", self.err);
        assert!(line("hint: ").contains(remedy), "{remedy:?} is not in:\n{}", self.err);
        assert_eq!(self.out, "", "an error leaves standard output alone");
        self
    }
}

/// A running `lowkey serve`; killed when it is dropped.
struct Serving {
    child: Child,
    address: String,
    model: String,
    digest: String,
    pin: Option<String>,
    /// What it prints later.
    out: BufReader<ChildStdout>,
    err: ChildStderr,
}

impl Serving {
    /// Serves the digits on a free port.
    fn digits(arguments: &[&str]) -> Self {
        Self::start(&[&["--model", "digits", "--listen", "127.0.0.1:0"], arguments].concat())
    }

    fn start(arguments: &[&str]) -> Self {
        Self::of(command(&[&["serve"], arguments].concat()))
    }

    /// Of a command that ends in `serve` and its arguments.
    fn of(mut command: Command) -> Self {
        // What it does is in its log, with a test of its own; here it tells what is wrong.
        command.env("RUST_LOG", "warn");
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let err = child.stderr.take().unwrap();
        let mut line = || {
            let mut line = String::new();
            out.read_line(&mut line).unwrap();
            line.trim_end().to_owned()
        };
        let (first, second) = (line(), line());
        let address = first.strip_prefix("listening on ").unwrap_or_else(|| panic!("{first:?}")).to_owned();
        let (model, digest) = second.strip_prefix("model ").unwrap().split_once(" digest ").unwrap();
        let (model, digest) = (model.to_owned(), digest.to_owned());
        let pin = command.get_args().any(|argument| argument == "--cert");
        // Behind the lines of the models.
        let pin = pin.then(|| {
            loop {
                if let Some(pin) = line().strip_prefix("certificate pin ") {
                    break pin.to_owned();
                }
            }
        });
        Self { child, address, model, digest, pin, out, err }
    }

    /// Sends a signal, `TERM` say.
    #[track_caller]
    fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// `lowkey infer` at this server.
    #[track_caller]
    fn infer(&self, arguments: &[&str]) -> Ran {
        lowkey(&[&["infer", "--server", &self.address], arguments].concat())
    }

    /// Asks it to end, so that what it was doing is done and told; returns what it printed on standard error.
    fn end(mut self) -> String {
        self.signal("TERM");
        let mut text = String::new();
        self.err.read_to_string(&mut text).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{text}");
        text
    }

    /// Stops it; returns what it printed on standard error.
    fn stop(mut self) -> String {
        self.child.kill().unwrap();
        let mut text = String::new();
        self.err.read_to_string(&mut text).unwrap();
        text
    }
}

/// What a server said, but for clients that it had no seat for in time: on a slow machine there are some.
fn but_full(said: &str) -> String {
    said.split_inclusive('\n').filter(|line| !line.contains("no session: refused: the server is full")).collect()
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A certificate and its key, as files.
struct Identity {
    folder: TempDir,
}

impl Identity {
    fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        certificate::write(folder.path());
        Self { folder }
    }

    fn file(&self, name: &str) -> String {
        text(&self.folder.path().join(name)).to_owned()
    }

    fn serve(&self) -> Serving {
        Serving::digits(&["--cert", &self.file("cert.pem"), "--key", &self.file("key.pem")])
    }

    /// Serves where others could connect, so that clients note the model: `address` is `0.0.0.0:0`, or one that was used before.
    fn serve_all(&self, address: &str, arguments: &[&str]) -> Serving {
        let (cert, key) = (self.file("cert.pem"), self.file("key.pem"));
        Serving::start(&[&["--listen", address, "--cert", &cert, "--key", &key], arguments].concat())
    }
}

/// The bundled digits: the network, its demo images and labels.
struct Digits {
    network: Network,
    images: Vec<Tensor>,
    labels: Vec<u8>,
}

fn digits() -> &'static Digits {
    static DIGITS: OnceLock<Digits> = OnceLock::new();
    DIGITS.get_or_init(|| {
        let bundled = zoo::find("digits").unwrap();
        let demo = bundled.demo().unwrap();
        Digits { network: bundled.network(), images: demo.inputs.iter().collect(), labels: demo.labels }
    })
}

impl Digits {
    const SIZE: files::Size = files::Size { height: 8, width: 8 };

    /// The values 0..=15 of some images, row-major.
    fn values(&self, images: std::ops::Range<usize>) -> Vec<u8> {
        self.images[images].iter().flatten().map(|&value| u8::try_from(value).unwrap()).collect()
    }

    /// The same as pixels of 8 bits: `pixel >> 4` is the value.
    fn pixels(&self, images: std::ops::Range<usize>) -> Vec<u8> {
        self.values(images).iter().map(|value| value << 4 | 0x5).collect()
    }

    /// What the plaintext network answers.
    fn logits(&self, image: usize) -> Vec<i64> {
        self.network.run(&self.images[image]).unwrap().iter().copied().collect()
    }

    /// The largest output, the lowest of equals.
    fn class(&self, image: usize) -> usize {
        lowkey_models::argmax(&self.network.run(&self.images[image]).unwrap())
    }

    /// Writes images as an `.npy` file.
    fn npy(&self, folder: &Path, images: std::ops::Range<usize>) -> PathBuf {
        files::write(folder, "digits.npy", &files::npy(&[images.len(), 8, 8], &self.values(images)))
    }

    /// Writes an IDX data set.
    fn data_set(&self, folder: &Path, images: std::ops::Range<usize>) {
        let pictures = files::idx_images(Self::SIZE, &self.pixels(images.clone()));
        files::write(folder, "t10k-images-idx3-ubyte.gz", &files::gzip(&pictures));
        files::write(folder, "t10k-labels-idx1-ubyte", &files::idx_labels(&self.labels[images]));
    }
}

/// The keys of an object.
fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

/// Keys from a list with blanks between them.
fn named(list: &str) -> BTreeSet<&str> {
    list.split_whitespace().collect()
}

fn integers(value: &Value) -> Vec<i64> {
    value.as_array().expect("an array").iter().map(|n| n.as_i64().expect("an integer")).collect()
}

#[track_caller]
fn signal(process: u32, name: &str) {
    assert!(Command::new("kill").args([&format!("-{name}"), &process.to_string()]).status().unwrap().success());
}

/// Waits until a process ends.
#[track_caller]
fn ends(child: &mut Child) -> std::process::ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(start.elapsed() < PATIENCE, "it does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// No line is longer than a terminal of 80 columns, and nothing is coloured for a pipe.
#[track_caller]
fn fits(text: &str) {
    let wide: Vec<&str> = text.lines().filter(|line| line.chars().count() > 80).collect();
    assert!(wide.is_empty() && !text.contains('\x1b'), "{wide:#?}");
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
