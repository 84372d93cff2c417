//! The life of a server: asked to end, as process 1 too; several models, and other ones while it runs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lowkey::session::{MAGIC, VERSION};
use lowkey_models::Network;
use serde_json::Value;

use super::{Identity, Serving, command, digits, ends, fits, integers, keys, lowkey, named, signal, text};

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
    let mut hello = vec![16, 0, 0, 0, 0, 0, 1, 0];
    hello.extend_from_slice(&MAGIC);
    hello.extend_from_slice(&VERSION.to_le_bytes());
    hello.extend_from_slice(&[0; 4]);
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

/// Long before it listens for clients it can be ended: while it publishes, and while it imports, which takes it seconds.
#[test]
fn a_server_that_is_not_ready_is_asked_to_end() {
    for model in ["mnist-minionn-w2a2", "models/zoo/mobilenet-v1-025-128.tflite"] {
        let mut child = command(&["serve", "--model", model, "--listen", "127.0.0.1:0"]).spawn().unwrap();
        // Its handlers are there before the work begins.
        std::thread::sleep(Duration::from_millis(300));
        signal(child.id(), "TERM");
        assert_eq!(ends(&mut child).code(), Some(0), "{model}");
    }
}

/// Writes the digits with another bias, as a model file.
fn retrained(file: &Path, by: i64) {
    let (architecture, mut weights) = digits().network.clone().into_parts();
    weights.linear.iter_mut().flatten().for_each(|own| own.bias[0] += by);
    Network::new(architecture, weights).unwrap().write(file).unwrap();
}

/// The next line, and the one after.
fn lines(server: &mut Serving) -> [String; 2] {
    [(); 2].map(|()| {
        let mut line = String::new();
        server.out.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    })
}

/// SIGHUP has the files read again. What is there is served on where that fails.
#[test]
fn models_are_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.lowkey");
    retrained(&file, 1);
    let mut server = Serving::start(&["--model", text(&file), "--listen", "127.0.0.1:0"]);
    let npy = digits().npy(folder.path(), 0..1);
    let met = |server: &Serving| {
        let [record] = &server.infer(&["--input", text(&npy), "--json"]).records()[..] else { panic!("one image") };
        integers(&record["logits"])[0]
    };
    let first = met(&server);
    retrained(&file, 3);
    server.signal("HUP");
    let [reloaded, model] = lines(&mut server);
    assert_eq!(reloaded, "reloaded");
    assert!(model.starts_with("model digits digest ") && !model.ends_with(&server.digest), "{model}");
    let second = met(&server);
    assert_ne!(first, second);

    std::fs::write(&file, "broken").unwrap();
    server.signal("HUP");
    let mut said = String::new();
    let mut errors = BufReader::new(&mut server.err);
    while !said.contains("what was served is served on") {
        assert!(errors.read_line(&mut said).unwrap() > 0, "it ended: {said}");
    }
    assert!(said.contains("reload: ") && said.contains("mine.lowkey"), "{said}");
    assert_eq!(met(&server), second);
}

#[test]
fn several_models_of_one_server() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.lowkey");
    retrained(&file, 40);
    let small = format!("small={}", text(&file));
    let mut server = Serving::digits(&["--model", &small]);
    let mut line = String::new();
    server.out.read_line(&mut line).unwrap();
    assert!(line.starts_with("model small digest "), "{line}");
    let npy = digits().npy(folder.path(), 0..1);
    server.infer(&["--input", text(&npy)]).fails(3, "several models", "--model");
    server.infer(&["--input", text(&npy), "--model", "cats"]).fails(3, "no model of that name", "models --server");
    server.infer(&["--input", text(&npy), "--model", "a b"]).fails(2, "no name of a model", "");
    let answers = ["digits", "small"].map(|name| {
        let records = server.infer(&["--input", text(&npy), "--model", name, "--json"]).records();
        integers(&records[0]["logits"])
    });
    assert_eq!(answers[0], digits().logits(0));
    assert_ne!(answers[0], answers[1]);

    let rows = lowkey(&["models", "--server", &server.address, "--json"]).records();
    let row = |row: &Value| (row["name"].as_str().unwrap().to_owned(), row["noted"].as_str().unwrap().to_owned());
    assert_eq!(
        rows.iter().map(row).collect::<Vec<_>>(),
        [("digits".into(), "new".into()), ("small".into(), "new".into())]
    );
    assert_eq!(rows[0]["digest"], server.digest);
    let columns = "name digest noted input input_bits outputs package_bytes offline_bytes online_bytes flights";
    assert_eq!(keys(&rows[0]), named(columns));
    let table = lowkey(&["models", "--server", &server.address]).prints();
    assert!(table.contains("1x8x8") && table.contains(&server.digest), "{table}");
    fits(&table);

    lowkey(&["serve", "--model", "digits", "--model", "digits"]).fails(
        2,
        "two models of the name digits",
        "another name",
    );
    lowkey(&["serve", "--model", "a b=digits"]).fails(2, "no name of a model", "letters");
}

/// What was noted of a model shows in the list.
#[test]
fn a_model_that_changed_shows_in_the_list() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.lowkey");
    let (identity, store) = (Identity::make(), folder.path().join("client"));
    let npy = digits().npy(folder.path(), 0..1);
    retrained(&file, 1);
    let models = ["--model", "digits", "--model", &format!("mine={}", text(&file))].map(str::to_owned);
    let models: Vec<&str> = models.iter().map(|argument| &**argument).collect();
    let mut server = identity.serve_all("0.0.0.0:0", &models);
    let address = server.address.clone();
    let pin = server.pin.clone().unwrap();
    let common = ["--server", &address, "--pin", &pin, "--cache", text(&store)];
    let infer =
        |name: &str| lowkey(&[&["infer", "--input", text(&npy), "--model", name, "--json"], &common[..]].concat());
    let noted = || {
        let rows = lowkey(&[&["models", "--json"], &common[..]].concat()).records();
        rows.iter().map(|row| row["noted"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    infer("mine").prints();
    assert_eq!(noted(), ["new", "same"]);
    retrained(&file, 2);
    server.signal("HUP");
    assert_eq!(lines(&mut server)[0], "reloaded");
    assert_eq!(noted(), ["new", "changed"]);
    let forget = format!("lowkey forget {address} --model mine");
    infer("mine").fails(4, "digest", &forget);
    infer("digits").prints();
    lowkey(&["forget", &address, "--model", "mine", "--cache", text(&store)]).prints();
    infer("mine").prints();
    assert_eq!(noted(), ["same", "same"]);
}
