//! The life of a server: asked to end, as process 1 too.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lowkey::session::{MAGIC, VERSION};
use serde_json::Value;

use super::{Serving, command, digits, ends, integers, signal, text};

/// What makes a command process 1 of a namespace of its own; `None`, and a word, where it is not permitted.
fn first_process() -> Option<Vec<&'static str>> {
    let unshare = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let tried = Command::new(unshare[0]).args(&unshare[1..]).arg("true").output();
    match tried {
        Ok(output) if output.status.success() => Some(unshare.to_vec()),
        Ok(output) => {
            eprintln!("skipped: no namespaces here: {}", String::from_utf8_lossy(&output.stderr).trim());
            None
        }
        Err(error) => {
            eprintln!("skipped: no unshare: {error}");
            None
        }
    }
}

/// The command behind `unshare`, with its environment.
fn wrapped(wrapper: &[&str], inner: &Command) -> Command {
    let mut command = Command::new(wrapper[0]);
    command.args(&wrapper[1..]).arg(inner.get_program()).args(inner.get_args()).stdin(Stdio::null());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

/// The one child of a process, by its number outside of the namespace.
fn child_of(process: u32) -> u32 {
    let children = std::fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap();
    children.trim().parse().unwrap_or_else(|_| panic!("one child: {children:?}"))
}

/// As in a container: signals without a handler do nothing to process 1. The inference that runs is finished, and it is right.
#[test]
fn process_1_is_asked_to_end_under_load() {
    let Some(unshare) = first_process() else { return };
    let serve = ["serve", "--model", "digits", "--listen", "127.0.0.1:0", "--drain", "30"];
    for name in ["TERM", "INT"] {
        let mut server = Serving::of(wrapped(&unshare, &command(&serve)));
        let inside = child_of(server.child.id());
        let status = std::fs::read_to_string(format!("/proc/{inside}/status")).unwrap();
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).expect("Linux 4.1");
        assert_eq!(numbers.split_whitespace().next_back(), Some("1"), "it is process 1: {numbers}");

        let folder = tempfile::tempdir().unwrap();
        let npy = digits().npy(folder.path(), 0..360);
        let arguments = ["infer", "--server", &server.address, "--input", text(&npy), "--count", "360", "--json"];
        let mut client = command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut answers = BufReader::new(client.stdout.take().unwrap()).lines();
        let first = answers.next().expect("an answer").unwrap();
        signal(inside, name);
        let mut count = 0;
        for line in std::iter::once(first).chain(answers.map(Result::unwrap)) {
            let record: Value = serde_json::from_str(&line).unwrap();
            assert_eq!(integers(&record["logits"]), digits().logits(count), "image {count}");
            count += 1;
        }
        assert!((1..360).contains(&count), "{count} answers: it was asked in between");
        assert_eq!(ends(&mut server.child).code(), Some(0), "{name}");
        assert_eq!(ends(&mut client).code(), Some(3));
        let mut said = String::new();
        client.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(said.contains("it was asked to end; what it was doing, it has done"), "{said}");
    }
}

/// A client that has a session and goes no further.
fn stuck(server: &Serving) -> TcpStream {
    let mut stream = TcpStream::connect(&server.address).unwrap();
    // Header (length, kind, stage, depth), then the payload.
    let mut hello = vec![12, 0, 0, 0, 0, 0, 1, 0];
    hello.extend_from_slice(&MAGIC);
    hello.extend_from_slice(&VERSION.to_le_bytes());
    stream.write_all(&hello).unwrap();
    stream.read_exact(&mut [0]).unwrap();
    stream
}

/// What goes no further is not waited for: in time, or when it is asked again.
#[test]
fn what_runs_is_cut() {
    let mut server = Serving::digits(&["--drain", "1"]);
    let _client = stuck(&server);
    let start = Instant::now();
    server.signal("TERM");
    assert_eq!(ends(&mut server.child).code(), Some(0));
    let took = start.elapsed();
    assert!((Duration::from_secs(1)..Duration::from_secs(30)).contains(&took), "not the minute of --timeout: {took:?}");

    let mut server = Serving::digits(&[]);
    let _client = stuck(&server);
    server.signal("TERM");
    std::thread::sleep(Duration::from_millis(500));
    assert!(server.child.try_wait().unwrap().is_none(), "it waits for what runs");
    let start = Instant::now();
    server.signal("INT");
    assert_eq!(ends(&mut server.child).code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(30));
}

/// Long before it listens for clients it can be ended.
#[test]
fn a_server_that_publishes_is_asked_to_end() {
    let mut child = command(&["serve", "--model", "mnist-minionn-w2a2", "--listen", "127.0.0.1:0"]).spawn().unwrap();
    // Its handlers are there before the work begins.
    std::thread::sleep(Duration::from_millis(300));
    signal(child.id(), "TERM");
    assert_eq!(ends(&mut child).code(), Some(0));
}
