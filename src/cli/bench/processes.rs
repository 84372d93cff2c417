//! Client and server as two processes over loopback TCP, as `lowkey serve` and `lowkey infer` run them.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use lowkey::plan::Link;
use lowkey::report::{StageReport, peak_memory};
use lowkey::{Error, Result};
use serde::Deserialize;

use crate::cli::warn;

/// A line of `lowkey infer --json`.
#[derive(Deserialize)]
pub struct Line {
    pub logits: Vec<i64>,
    pub stages: Stages,
    pub peak_memory_bytes: Option<u64>,
}

/// Its stages.
#[derive(Deserialize)]
pub struct Stages {
    pub setup: StageReport,
    pub offline: StageReport,
    pub online: StageReport,
}

/// What both processes said.
pub struct Run {
    pub lines: Vec<Line>,
    /// Bytes.
    pub server_peak: Option<u64>,
    pub client_peak: Option<u64>,
}

/// What is run.
pub struct Task<'a> {
    /// Name of a bundled network.
    pub model: &'a str,
    /// 32-bit rings and the 64-bit torus.
    pub straightforward: bool,
    pub link: Link,
    /// The link that the client pretends to have.
    pub shape: Option<Link>,
    /// Quantised inputs, NPY.
    pub inputs: &'a Path,
    pub count: usize,
    /// For the server's key and the client's hints; a folder of this run, so that setup is paid.
    pub cache: &'a Path,
}

/// A process that ends with its owner.
pub struct Process(Child);

impl Process {
    /// Its number.
    pub fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs both processes until the client is done.
/// What they say on standard error is handed on; a pipe is no terminal, so they draw no bars of their own.
pub fn run(task: &Task<'_>) -> Result<Run> {
    let program = program()?;
    let failed = |error: std::io::Error| Error::file(&program, error);
    let link = task.link.to_string();
    let mut options = vec!["--link", &link];
    options.extend(task.straightforward.then_some("--straightforward"));
    let (server, address) = serve(task.model, &options, &task.cache.join("server"))?;

    let mut client = Command::new(&program);
    client.args(["infer", "--json", "--server", &address, "--count", &task.count.to_string()]);
    client.arg("--input").arg(task.inputs);
    keep(&mut client, &task.cache.join("client"));
    if let Some(shape) = task.shape {
        client.args(["--shape", &shape.to_string()]);
    }
    let mut client = Process(client.spawn().map_err(failed)?);
    let said = hand_on(&mut client);
    let mut text = String::new();
    client.0.stdout.take().expect("piped").read_to_string(&mut text).map_err(failed)?;
    let server_peak = peak_memory(Some(server.0.id()));
    let ended = client.0.wait().map_err(failed)?;
    let _ = said.join();
    if !ended.success() {
        return Err(Error::usage(format!("the client for {} failed", task.model), "what it says is printed above"));
    }
    let lines = text.lines().map(serde_json::from_str).collect::<Result<Vec<Line>, _>>().map_err(Error::internal)?;
    let client_peak = lines.iter().filter_map(|line| line.peak_memory_bytes).max();
    Ok(Run { lines, server_peak, client_peak })
}

/// Starts a server of a model on a free port of loopback; it ends when it is dropped. Returns its address too.
pub fn serve(model: &str, options: &[&str], folder: &Path) -> Result<(Process, String)> {
    let program = program()?;
    let failed = |error: std::io::Error| Error::file(&program, error);
    let mut server = Command::new(&program);
    server.args(["serve", "--listen", "127.0.0.1:0", "--model", model]).args(options);
    keep(&mut server, folder);
    let mut server = Process(server.spawn().map_err(failed)?);
    hand_on(&mut server);
    let mut greeting = String::new();
    let stdout = server.0.stdout.take().expect("piped");
    BufReader::new(stdout).read_line(&mut greeting).map_err(failed)?;
    match greeting.trim().strip_prefix("listening on ") {
        Some(address) => Ok((server, address.to_owned())),
        None => Err(Error::usage(format!("the server for {model} did not start"), "what it says is printed above")),
    }
}

fn program() -> Result<PathBuf> {
    std::env::current_exe().map_err(|error| Error::file(Path::new("this program"), error))
}

/// Everything that a process keeps lies in one folder, and what it complains about is heard.
fn keep(command: &mut Command, folder: &Path) {
    if std::env::var_os("RUST_LOG").is_none() {
        command.env("RUST_LOG", "warn");
    }
    command.arg("--cache").arg(folder).arg("--state").arg(folder).stdout(Stdio::piped()).stderr(Stdio::piped());
}

/// Hands on what a process says on standard error, line by line.
fn hand_on(process: &mut Process) -> JoinHandle<()> {
    let stderr = process.0.stderr.take().expect("piped");
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(std::io::Result::ok) {
            warn(format_args!("{line}\n"));
        }
    })
}
