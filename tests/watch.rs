//! What a server tells of itself: its log, its events, the memory that sessions hold, and its bound.

#[path = "common/command.rs"]
mod command;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStderr, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use lowkey::policy::Refusal;
use lowkey::session::{Ask, Hello};
use lowkey::watch::{Event, Stock, Watcher};
use lowkey::{Client, Error, Model, Result, Server};
use lowkey_mpc::channel::{Channel, Limits};
use lowkey_mpc::party::Party;
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::task::JoinHandle;

use command::lowkey;

/// Nothing here takes longer, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

async fn within<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: no end after {PATIENCE:?}"))
}

/// Waits until something is so.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    within(what, async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// Writes events down, a word each, with the bytes or the count that they tell.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<(&'static str, u64)>>>);

impl Watcher for Notes {
    fn notice(&self, event: &Event<'_>) {
        let note = match event {
            Event::Dismissed { .. } => ("dismissed", 0),
            Event::Begun(subject) => {
                assert_eq!((&*subject.model, subject.client.address.is_loopback()), ("digits", true));
                ("begun", subject.session)
            }
            Event::SetUp(_, stage) => ("set up", stage.bytes()),
            Event::Prepared(_, stage) => ("prepared", stage.bytes()),
            Event::Answered { offline, online, .. } => {
                assert!(offline.is_some_and(|stage| stage.bytes() > 0));
                ("answered", online.bytes())
            }
            Event::Ended { error: None, report, .. } => ("closed", report.inferences),
            Event::Ended { error: Some(_), report, .. } => ("failed", report.inferences),
            _ => ("more", 0),
        };
        self.0.lock().unwrap().push(note);
    }
}

impl Notes {
    fn words(&self) -> Vec<&'static str> {
        self.0.lock().unwrap().iter().map(|(word, _)| *word).collect()
    }

    fn of(&self, word: &str) -> Vec<u64> {
        let notes = self.0.lock().unwrap();
        notes.iter().filter(|(found, _)| *found == word).map(|(_, number)| *number).collect()
    }
}

async fn serve(notes: &Notes, memory: Option<u64>) -> Result<(Server, JoinHandle<Result<()>>)> {
    let mut builder = Server::builder(Model::open("digits")?).watcher(notes.clone());
    if let Some(most) = memory {
        builder = builder.memory(most);
    }
    let server = builder.bind("127.0.0.1:0").await?;
    let running = tokio::spawn(server.clone().run());
    Ok((server, running))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_sessions_and_what_these_hold() {
    let notes = Notes::default();
    let (server, running) = serve(&notes, None).await.unwrap();
    let image = Model::open("digits").unwrap().demo().unwrap().inputs.get(0).unwrap();
    let planned = server.model().plan.server_memory();

    let mut client = Client::connect(server.address().unwrap()).await.unwrap();
    assert_eq!(server.attendance().reserved, planned.with_slots(1));
    client.prepare(3).await.unwrap();
    until("three slots", || server.attendance().held.slots == 3).await;
    let Stock { slot_bytes, ots, ot_bytes, .. } = server.attendance().held;
    assert!(slot_bytes > 0 && slot_bytes <= 3 * planned.slot, "{slot_bytes} of {planned:?}");
    // OTs are made in batches of some megabytes.
    assert!(ots > 0 && ot_bytes > 4 << 20 && ot_bytes <= planned.session, "{ot_bytes} of {planned:?}");
    assert_eq!(server.attendance().reserved, planned.with_slots(3));
    let answers = [client.infer(&image).await.unwrap(), client.infer(&image).await.unwrap()];
    until("one slot", || server.attendance().held.slots == 1).await;
    assert_eq!(server.attendance().reserved, planned.with_slots(1));
    client.close().await.unwrap();
    until("nobody", || server.attendance().sessions == 0).await;
    assert_eq!((server.attendance().held, server.attendance().reserved), (Stock::default(), 0));

    let expected = ["begun", "set up", "prepared", "prepared", "prepared", "answered", "answered", "closed"];
    assert_eq!(notes.words(), expected);
    assert_eq!(notes.of("closed"), [2]);
    // Both ends count the same bytes.
    let online: Vec<u64> = answers.iter().map(|answer| answer.report.online.bytes()).collect();
    assert_eq!(notes.of("answered"), online);

    // A client that goes away in the middle, and one that never says hello.
    let mut gone = Client::connect(server.address().unwrap()).await.unwrap();
    gone.prepare(1).await.unwrap();
    drop(gone);
    until("a failure", || notes.of("failed").len() == 1).await;
    drop(TcpStream::connect(server.address().unwrap()).unwrap());
    until("a connection without a session", || notes.of("dismissed").len() == 1).await;
    until("nothing held", || server.attendance().held == Stock::default()).await;

    within("shutdown", server.shutdown()).await;
    running.await.unwrap().unwrap();
}

/// Sessions together never reserve more than the bound; whoever has to wait hears it, and is served when there is room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_bounded() {
    let planned = Server::builder(Model::open("digits").unwrap()).build().await.unwrap().model().plan.server_memory();
    let few = serve(&Notes::default(), Some(planned.with_slots(1) - 1)).await.expect_err("no session has room");
    assert!(matches!(few, Error::Usage { .. }) && few.to_string().contains("of this model needs"), "{few}");

    let most = planned.with_slots(2);
    let (server, running) = serve(&Notes::default(), Some(most)).await.unwrap();
    let address = server.address().unwrap();
    let image = Model::open("digits").unwrap().demo().unwrap().inputs.get(0).unwrap();
    let mut first = Client::connect(address).await.unwrap();
    first.prepare(2).await.unwrap();
    assert!(server.attendance().reserved <= most);
    // There are 16 seats, and memory for one session.
    let refused = within("a refusal", Client::connect(address)).await.expect_err("there is no room");
    assert!(matches!(refused, Error::Declined(Refusal::Full { .. })), "{refused}");

    // What waits for room gets it.
    let waits = tokio::spawn(Client::connect(address));
    until("one in line", || server.attendance().in_line == 1).await;
    first.infer(&image).await.unwrap();
    first.close().await.unwrap();
    let mut second = within("a second client", waits).await.unwrap().unwrap();
    second.infer(&image).await.unwrap();

    // More slots than fit end the session of the one who asks, and nothing else.
    second.prepare(2).await.unwrap();
    let refused = within("a third slot", second.prepare(1)).await.expect_err("there is no room");
    assert!(matches!(refused, Error::Declined(Refusal::Full { .. })), "{refused}");
    until("room again", || server.attendance().reserved == 0).await;
    let mut third = Client::connect(address).await.unwrap();
    third.infer(&image).await.unwrap();
    third.close().await.unwrap();
    within("shutdown", server.shutdown()).await;
    running.await.unwrap().unwrap();
}

/// `lowkey serve`, whose lines on standard error are read as they come.
struct Serving {
    child: Child,
    address: String,
    /// What it prints first: where it listens, its model, where its metrics are.
    greeting: Vec<String>,
    lines: mpsc::Receiver<String>,
    /// Standard error, where nobody reads it.
    unread: Option<ChildStderr>,
    _folder: tempfile::TempDir,
}

impl Serving {
    fn start(arguments: &[&str]) -> Self {
        let mut serving = Self::unread(arguments);
        let (send, lines) = mpsc::channel();
        let err = BufReader::new(serving.unread.take().unwrap());
        std::thread::spawn(move || err.lines().map_while(|line| line.ok()).try_for_each(|line| send.send(line)));
        serving.lines = lines;
        serving
    }

    /// The same, with a standard error that is open and never read.
    fn unread(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = lowkey(&[&["serve", "--model", "digits", "--listen", "127.0.0.1:0"], arguments].concat());
        command.arg("--state").arg(folder.path());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let expected = if arguments.contains(&"--metrics") { 3 } else { 2 };
        let greeting: Vec<String> = out.lines().take(expected).map(Result::unwrap).collect();
        let address = greeting[0].strip_prefix("listening on ").unwrap().to_owned();
        let unread = child.stderr.take();
        Self { child, address, greeting, lines: mpsc::channel().1, unread, _folder: folder }
    }

    /// Answers `count` images of the digits.
    fn infer(&self, count: usize) {
        let folder = tempfile::tempdir().unwrap();
        let demo = Model::open("digits").unwrap().demo().unwrap();
        let mut bytes = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
        let header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({count}, 8, 8), }}");
        bytes.extend(format!("{header:<117}\n").bytes());
        bytes.extend((0..count).flat_map(|index| demo.inputs.get(index).unwrap()).map(|value| value as u8));
        let path = folder.path().join("digits.npy");
        std::fs::write(&path, bytes).unwrap();
        let mut infer = lowkey(&["infer", "--server", &self.address, "--no-store", "--count", &count.to_string()]);
        let output = infer.arg("--input").arg(&path).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// The next line with this in it.
    fn line(&self, part: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no line with {part}"));
            if line.contains(part) {
                return line;
            }
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One line per inference and per session, each with what it says and nothing else: no value has a place there.
#[test]
fn a_log_for_programs() {
    let server = Serving::start(&["--log-format", "json"]);
    server.infer(2);
    let keys = |record: &Value| record.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    for _ in 0..2 {
        let line: Value = serde_json::from_str(&server.line("\"inference\"")).unwrap();
        assert_eq!(
            keys(&line),
            "client level message model offline_bytes offline_ms online_bytes online_ms reveal schedule session target \
             timestamp"
        );
        assert_eq!((&line["client"], &line["model"]), (&"127.0.0.1".into(), &"digits".into()));
        assert_eq!((&line["schedule"], &line["reveal"]), (&"prepared".into(), &"logits".into()));
        assert!(line["online_ms"].as_f64().unwrap() > 0.0 && line["online_bytes"].as_u64().unwrap() > 1000);
    }
    let line: Value = serde_json::from_str(&server.line("\"session\",")).unwrap();
    assert_eq!(
        keys(&line),
        "client fault inferences level message model offline_bytes offline_ms online_bytes online_ms outcome session \
         setup_bytes setup_ms target timestamp"
    );
    assert_eq!((&line["inferences"], &line["outcome"], &line["fault"]), (&2.into(), &"closed".into(), &"none".into()));
}

/// Warnings and the last error are objects too.
#[test]
fn nothing_but_objects() {
    let arguments = ["serve", "--model", "digits", "--listen", "0.0.0.0:0", "--insecure", "--log-format", "json"];
    let folder = tempfile::tempdir().unwrap();
    let mut serve = lowkey(&arguments);
    let output = serve.args(["--memory", "1M", "--state"]).arg(folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [warning, error] = &lines[..] else { panic!("{said}") };
    assert_eq!(warning["level"], "WARN");
    assert!(warning["message"].as_str().unwrap().starts_with("plain TCP"), "{warning}");
    assert_eq!((&error["level"], error["hint"].is_string()), (&"ERROR".into(), true), "{error}");
    assert!(error["message"].as_str().unwrap().contains("one of this model needs"), "{error}");
}

#[test]
fn a_log_for_people_and_more_of_it() {
    let server = Serving::start(&[]);
    server.infer(1);
    let first = server.lines.recv_timeout(PATIENCE).unwrap();
    assert!(first.contains("INFO inference session=1 client=127.0.0.1 model=\"digits\""), "{first}");
    let second = server.lines.recv_timeout(PATIENCE).unwrap();
    assert!(second.contains("INFO session session=1") && second.contains("outcome=\"closed\""), "{second}");

    let server = Serving::start(&["-v"]);
    server.infer(1);
    for part in ["DEBUG session begins", "DEBUG set up", "DEBUG holds", "DEBUG prepared", "INFO inference"] {
        server.line(part);
    }

    let server = Serving::start(&["-vv"]);
    server.infer(1);
    for part in ["TRACE layer session=1 stage=\"offline\" layer=", "TRACE layer session=1 stage=\"online\" layer="] {
        assert!(server.line(part).contains("bytes="));
    }
}

/// A pipe holds 64 kB, which these inferences write several times over.
#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let mut server = Serving::unread(&["-vv"]);
    server.infer(200);
    server.infer(1);
    let mut log = server.unread.take().unwrap();
    let mut written = vec![0; 1 << 16];
    log.read_exact(&mut written).expect("the pipe was full");
}

/// Whoever opens connections for nothing does not fill the disk.
#[test]
fn connections_for_nothing_are_few_lines() {
    let server = Serving::start(&[]);
    for _ in 0..50 {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        // A frame of 4 bytes that is no hello.
        stream.write_all(&[4, 0, 0, 0, 0, 0, 1, 0, 1, 2, 3, 4]).unwrap();
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    }
    server.infer(1);
    let mut dismissed = 0;
    loop {
        let line = server.lines.recv_timeout(PATIENCE).unwrap();
        if line.contains("INFO inference") {
            break;
        }
        assert!(line.contains("WARN no session: the client sent something that is not a hello"), "{line}");
        dismissed += 1;
    }
    assert_eq!(dismissed, 5);
}

/// Neither does whoever says hello first: sessions that end without an inference.
#[test]
fn sessions_for_nothing_are_few_lines() {
    let server = Serving::start(&["--metrics", "127.0.0.1:0"]);
    let metrics = server.greeting[2].strip_prefix("metrics on ").unwrap().to_owned();
    let hello = hello();
    for _ in 0..50 {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        stream.write_all(&hello).unwrap();
        // It has a session: the welcome comes.
        stream.read_exact(&mut [0; 8]).unwrap();
    }
    let all = "lowkey_sessions_total{model=\"digits\",outcome=\"failed\",fault=\"peer\"} 50\n";
    let start = std::time::Instant::now();
    while !page(&metrics, "/metrics").1.contains(all) {
        assert!(start.elapsed() < PATIENCE, "{}", page(&metrics, "/metrics").1);
        std::thread::sleep(Duration::from_millis(10));
    }
    server.infer(1);
    let mut sessions = 0;
    loop {
        let line = server.lines.recv_timeout(PATIENCE).unwrap();
        if line.contains("INFO session") {
            break;
        }
        sessions += usize::from(line.contains("WARN session"));
    }
    assert_eq!(sessions, 5);
}

/// What a client sends first.
fn hello() -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (near, mut far) = tokio::io::duplex(1 << 10);
        let mut channel = Channel::new(near, Party::Client, Limits::default());
        channel.send_control(&Hello::new(Ask::Only)).await.unwrap();
        channel.close().await.unwrap();
        let mut bytes = Vec::new();
        far.read_to_end(&mut bytes).await.unwrap();
        bytes
    })
}

/// The status line and the body of a page.
fn get(address: &str, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let _ = stream.write_all(request.as_bytes());
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{request:?} got {answer:?}"));
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

fn page(address: &str, path: &str) -> (String, String) {
    get(address, &format!("GET {path} HTTP/1.1\r\nHost: here\r\n\r\n"))
}

/// The value of a series, with all its labels.
fn value(page: &str, series: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in\n{page}")).parse().unwrap()
}

#[test]
fn metrics_and_probes() {
    let mut server = Serving::start(&["--metrics", "127.0.0.1:0", "--memory", "1G"]);
    let metrics = server.greeting[2].strip_prefix("metrics on ").unwrap().to_owned();
    assert_eq!(page(&metrics, "/healthz"), ("HTTP/1.1 200 OK".into(), "alive\n".into()));
    server.infer(3);
    assert_eq!(page(&metrics, "/readyz"), ("HTTP/1.1 200 OK".into(), "ready\n".into()));
    let mut junk = TcpStream::connect(&server.address).unwrap();
    junk.write_all(&[4, 0, 0, 0, 0, 0, 1, 0, 1, 2, 3, 4]).unwrap();
    server.line("no session");

    let (status, text) = page(&metrics, "/metrics");
    assert_eq!(status, "HTTP/1.1 200 OK");
    for (series, expected) in [
        ("lowkey_ready", 1.0),
        ("lowkey_sessions", 0.0),
        ("lowkey_waiting", 0.0),
        ("lowkey_slots", 0.0),
        ("lowkey_ots_bytes", 0.0),
        ("lowkey_reserved_bytes", 0.0),
        ("lowkey_reserved_limit_bytes", (1u64 << 30) as f64),
        ("lowkey_dismissed_total{fault=\"peer\"}", 1.0),
        ("lowkey_sessions_total{model=\"digits\",outcome=\"closed\",fault=\"none\"}", 1.0),
        ("lowkey_inferences_total{model=\"digits\",reveal=\"logits\",schedule=\"prepared\"}", 3.0),
        ("lowkey_stage_seconds_count{stage=\"setup\",model=\"digits\"}", 1.0),
        ("lowkey_stage_seconds_count{stage=\"offline\",model=\"digits\"}", 3.0),
        ("lowkey_stage_seconds_count{stage=\"online\",model=\"digits\"}", 3.0),
        ("lowkey_stage_seconds_bucket{stage=\"online\",model=\"digits\",le=\"+Inf\"}", 3.0),
    ] {
        assert_eq!(value(&text, series), expected, "{series}");
    }
    for series in [
        "lowkey_stage_seconds_sum{stage=\"online\",model=\"digits\"}",
        "lowkey_bytes_total{stage=\"setup\",direction=\"sent\"}",
        "lowkey_bytes_total{stage=\"online\",direction=\"received\"}",
        "lowkey_peak_memory_bytes",
    ] {
        assert!(value(&text, series) > 0.0, "{series}");
    }
    // Every series is one that the page of docs names.
    let docs = include_str!("../docs/deploy.md");
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = line.split(' ').next().unwrap();
        assert!(docs.contains(&format!("`{name}")), "docs/deploy.md says nothing of {name}");
    }

    for (request, status) in [
        ("GET /secrets HTTP/1.1\r\n\r\n", "HTTP/1.1 404 Not Found"),
        ("POST /metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 400 Bad Request"),
        ("nonsense\r\n\r\n", "HTTP/1.1 400 Bad Request"),
    ] {
        assert_eq!(get(&metrics, request).0, status, "{request:?}");
    }
    // Whoever says nothing, or too much, is in nobody's way.
    let silent: Vec<_> = (0..8).map(|_| TcpStream::connect(&metrics).unwrap()).collect();
    let endless = get(&metrics, &"x".repeat(4096));
    assert_eq!(endless.0, "HTTP/1.1 400 Bad Request");
    assert_eq!(page(&metrics, "/readyz").0, "HTTP/1.1 200 OK");
    drop(silent);

    server.child.kill().unwrap();
    server.child.wait().unwrap();
}

/// The address is looked at before anything is published.
#[test]
fn metrics_on_an_address_that_is_taken() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output =
        lowkey(&["serve", "--model", "digits", "--listen", "127.0.0.1:0", "--metrics", &address]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains(&address) && said.contains("hint: another program listens there"), "{said}");
}
