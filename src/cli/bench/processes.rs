//! Client and server as two processes over loopback TCP, as `lowkey serve` and `lowkey infer` run them.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
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
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs both processes until the client is done.
/// What they say on standard error is handed on; a pipe is no terminal, so they draw no bars of their own.
pub fn run(task: &Task<'_>) -> Result<Run> {
    let program = std::env::current_exe().map_err(|error| Error::file(Path::new("this program"), error))?;
    let failed = |error: std::io::Error| Error::file(&program, error);
    let mut server = Command::new(&program);
    server.args(["serve", "--listen", "127.0.0.1:0", "--model", task.model, "--link", &task.link.to_string()]);
    if task.straightforward {
        server.arg("--straightforward");
    }
    let keep = |command: &mut Command, name: &str| {
        let folder = task.cache.join(name);
        command.arg("--cache").arg(&folder).arg("--state").arg(&folder).stdout(Stdio::piped()).stderr(Stdio::piped());
    };
    keep(&mut server, "server");
    let mut server = Process(server.spawn().map_err(failed)?);
    hand_on(&mut server);
    let mut greeting = String::new();
    let stdout = server.0.stdout.take().expect("piped");
    BufReader::new(stdout).read_line(&mut greeting).map_err(failed)?;
    let address = greeting.trim().strip_prefix("listening on ").ok_or_else(|| {
        Error::usage(format!("the server for {} did not start", task.model), "what it says is printed above")
    })?;

    let mut client = Command::new(&program);
    client.args(["infer", "--json", "--server", address, "--count", &task.count.to_string()]);
    client.arg("--input").arg(task.inputs);
    keep(&mut client, "client");
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

/// Hands on what a process says on standard error, line by line.
fn hand_on(process: &mut Process) -> JoinHandle<()> {
    let stderr = process.0.stderr.take().expect("piped");
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(std::io::Result::ok) {
            warn(format_args!("{line}\n"));
        }
    })
}
