//! `serve` and `infer` as two processes: every kind of input, every way to ask, and what the client remembers.

use super::*;

#[test]
fn images_of_every_kind() {
    let folder = tempfile::tempdir().unwrap();
    let server = Serving::digits(&[]);
    let pictures = files::idx_images(Digits::SIZE, &digits().pixels(0..4));
    let npy = digits().npy(folder.path(), 0..4);
    let single = files::write(folder.path(), "single.npy", &files::npy(&[8, 8], &digits().values(2..3)));
    let idx = files::write(folder.path(), "images.idx", &pictures);
    let zipped = files::write(folder.path(), "images.gz", &files::gzip(&pictures));
    let png = files::write(folder.path(), "three.png", &files::png(Digits::SIZE, &digits().pixels(3..4)));
    for (file, index, shows) in [(&npy, 1, 1), (&single, 0, 2), (&idx, 2, 2), (&zipped, 3, 3), (&png, 0, 3)] {
        let index = index.to_string();
        let records = server.infer(&["--input", text(file), "--index", &index, "--json"]).records();
        let [record] = &records[..] else { panic!("{} lines", records.len()) };
        assert_eq!(
            keys(record),
            named("index prediction class logits outputs stages layers peak_memory_bytes"),
            "{}",
            file.display()
        );
        assert_eq!(integers(&record["logits"]), digits().logits(shows), "{}", file.display());
        assert_eq!(record["index"].to_string(), index);
    }

    // Several of them, in both schedules, with the class alone.
    let input = ["--input", text(&npy), "--index", "1", "--count", "3"];
    for schedule in ["prepared", "direct"] {
        let records = server.infer(&[&input[..], &["--json", "--schedule", schedule]].concat()).records();
        let logits: Vec<Vec<i64>> = records.iter().map(|record| integers(&record["logits"])).collect();
        assert_eq!(logits, [1, 2, 3].map(|image| digits().logits(image)), "{schedule}");
        let records = server.infer(&[&input[..], &["--json", "--reveal", "class", "--schedule", schedule]].concat());
        let records = records.records();
        let classes: Vec<_> = records.iter().map(|record| record["prediction"].as_u64().unwrap() as usize).collect();
        assert_eq!(classes, [1, 2, 3].map(|image| digits().class(image)), "{schedule}");
        assert!(records.iter().all(|record| record["logits"].is_null() && record["outputs"].is_null()));
    }

    // For people.
    let said = server.infer(&input).prints();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..2], ["model digits, digest", &format!("  {}", server.digest)]);
    let lines = &lines[1..];
    assert!(lines[1].starts_with("setup "), "{said}");
    let class = digits().class(1);
    assert!(lines[2].starts_with(&format!("image 1: {class} (")) && lines[2].matches(" %").count() == 5, "{said}");
    let shares: Vec<f64> = lines[2].split('(').filter_map(|part| part.split_once(" %")?.0.parse().ok()).collect();
    assert!(shares.iter().any(|share| *share > 50.0 && *share <= 100.0), "{said}");
    assert!(lines[3].starts_with("  offline ") && lines[3].ends_with(" kB"), "{said}");
    assert!(lines[8].starts_with("mean of 3 inferences"), "{said}");
    fits(&said);
    let all = server.infer(&["--input", text(&npy), "--all"]).prints();
    for (output, logit) in digits().logits(0).iter().enumerate() {
        let row = |line: &str| line.split_whitespace().take(2).eq([output.to_string(), logit.to_string()]);
        assert!(all.lines().any(row), "{output} {logit}:\n{all}");
    }
    assert_eq!(server.stop(), "", "a server of honest clients has nothing to complain about");
}

/// Slots that are prepared ahead: the answers are the same, and every image has an offline stage of its own.
#[test]
fn slots_ready_ahead() {
    let folder = tempfile::tempdir().unwrap();
    let npy = digits().npy(folder.path(), 0..5);
    let server = Serving::digits(&["-v"]);
    let infer = ["--input", text(&npy), "--json", "--prepare"];
    for (count, ahead) in [(5, "2"), (2, "64"), (1, "0")] {
        let records = server.infer(&[&infer[..], &[ahead, "--count", &count.to_string()]].concat()).records();
        for (image, record) in records.iter().enumerate() {
            assert_eq!(integers(&record["logits"]), digits().logits(image));
            assert!(record["stages"]["offline"]["bytes_sent"].as_u64().unwrap() > 0, "{record}");
        }
        assert_eq!(records.len(), count);
    }
    let wrong = server.infer(&[&infer[..], &["65"]].concat());
    assert_eq!(wrong.code, Some(2));
    assert!(wrong.err.contains("up to 64"), "{}", wrong.err);
    server.infer(&[&infer[..], &["1", "--schedule", "direct"]].concat()).fails(2, "nothing is prepared", "");
}

/// The hint travels once; a restarted server publishes the same bytes.
#[test]
fn the_second_session_is_cheaper() {
    let folder = tempfile::tempdir().unwrap();
    let npy = digits().npy(folder.path(), 0..2);
    let server_cache = folder.path().join("server");
    let client_cache = folder.path().join("client");
    let serve = ["--cache", text(&server_cache)];
    let infer = ["--cache", text(&client_cache), "--input", text(&npy), "--json"];
    let setup = |server: &Serving| {
        let records = server.infer(&infer).records();
        assert_eq!(integers(&records[0]["logits"]), digits().logits(0));
        records[0]["stages"]["setup"]["bytes_received"].as_u64().unwrap()
    };
    let server = Serving::digits(&serve);
    let (digest, address) = (server.digest.clone(), server.address.clone());
    let (first, second) = (setup(&server), setup(&server));
    let hint = lowkey(&["plan", "digits", "--json"]).records()[0]["total"]["hint_bytes"].as_u64().unwrap();
    assert_eq!(first - second, hint + 8);
    server.stop();

    let server = Serving::start(&[&["--model", "digits", "--listen", &address], &serve[..]].concat());
    assert_eq!((&server.digest, &server.address), (&digest, &address));
    assert_eq!(setup(&server), second);

    // A file of the cache that was damaged is fetched again.
    let kept = client_cache.join("models").join(&digest);
    let mut bytes = std::fs::read(&kept).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&kept, bytes).unwrap();
    assert_eq!(setup(&server), first);
    assert_eq!(setup(&server), second);
}

/// Another model at a known address is refused until the user accepts it by its digest.
#[test]
fn a_model_that_changed() {
    let folder = tempfile::tempdir().unwrap();
    let npy = digits().npy(folder.path(), 0..2);
    let (architecture, mut weights) = zoo::find("digits").unwrap().network().into_parts();
    weights.linear.iter_mut().flatten().for_each(|own| own.bias[0] += 1);
    let retrained = Network::new(architecture, weights).unwrap();
    let file = folder.path().join("retrained.lowkey");
    retrained.write(&file).unwrap();
    let expected: Vec<i64> = retrained.run(&digits().images[0]).unwrap().iter().copied().collect();
    let client_cache = folder.path().join("client");
    let identity = Identity::make();

    let server = identity.serve_all("0.0.0.0:0", &["--model", "digits"]);
    let (digest, address, pin) = (server.digest.clone(), server.address.clone(), server.pin.clone().unwrap());
    let infer = ["--cache", text(&client_cache), "--input", text(&npy), "--json", "--pin", &pin];
    server.infer(&infer).records();
    let wrong = "0".repeat(64);
    server.infer(&[&infer[..], &["--model-digest", &wrong]].concat()).fails(4, &wrong, "owner");
    server.infer(&[&infer[..], &["--model-digest", &digest]].concat()).records();
    let malformed = server.infer(&[&infer[..], &["--model-digest", "beef"]].concat());
    assert_eq!(malformed.code, Some(2));
    assert!(malformed.err.contains("64 hexadecimal digits"), "{}", malformed.err);
    server.stop();

    let server = identity.serve_all(&address, &["--model", text(&file)]);
    assert_eq!((&server.model[..], &server.address), ("digits", &address));
    assert_ne!(server.digest, digest);
    let cure = format!("lowkey forget {address}");
    let refusal = server.infer(&infer).fails(4, &server.digest, &cure);
    assert!(refusal.err.contains(&digest), "{}", refusal.err);
    let accepted = server.infer(&[&infer[..], &["--model-digest", &server.digest]].concat()).records();
    assert_eq!(integers(&accepted[0]["logits"]), expected);
    assert_eq!(integers(&server.infer(&infer).records()[0]["logits"]), expected, "the new model is noted now");
    server.stop();

    // The cure that the message names.
    let server = identity.serve_all(&address, &["--model", "digits"]);
    server.infer(&infer).fails(4, &server.digest, &cure);
    let forget = ["forget", &address, "--cache", text(&client_cache)];
    assert!(lowkey(&forget).prints().starts_with(&format!("forgot the model of {address}")));
    assert!(lowkey(&forget).prints().starts_with("no model was noted"));
    assert_eq!(integers(&server.infer(&infer).records()[0]["logits"]), digits().logits(0));
    server.infer(&infer).records();
}

/// On loopback the next model is served at the same address, as the README does it, and nothing is in its way.
#[test]
fn another_model_on_loopback() {
    let folder = tempfile::tempdir().unwrap();
    let npy = digits().npy(folder.path(), 0..2);
    let client_cache = folder.path().join("client");
    let infer = ["--cache", text(&client_cache), "--input", text(&npy), "--json"];
    let server = Serving::digits(&["--link", "lan"]);
    let (digest, address) = (server.digest.clone(), server.address.clone());
    server.infer(&infer).records();
    server.stop();
    let server = Serving::start(&["--model", "digits", "--listen", &address, "--link", "wan"]);
    assert_ne!(server.digest, digest);
    assert_eq!(integers(&server.infer(&infer).records()[0]["logits"]), digits().logits(0));
    assert!(!client_cache.join("servers").exists());
    // A digest that is given counts there too.
    server.infer(&[&infer[..], &["--model-digest", &digest]].concat()).fails(4, &digest, "owner");
}

/// Several clients, each with an image of its own; and a server that takes one at a time.
#[test]
fn several_clients() {
    let folder = tempfile::tempdir().unwrap();
    let npy = digits().npy(folder.path(), 0..8);
    for sessions in ["16", "1"] {
        let server = Serving::digits(&["--sessions", sessions]);
        let clients: Vec<Child> = (0..4)
            .map(|client| {
                let first = (2 * client).to_string();
                // On a slow machine the line is longer than the server keeps clients waiting.
                let arguments = ["--input", text(&npy), "--index", &first, "--count", "2", "--json", "--retry", "9"];
                let mut infer = command(&[&["infer", "--server", &server.address], &arguments[..]].concat());
                infer.stdout(Stdio::piped()).spawn().unwrap()
            })
            .collect();
        for (client, child) in clients.into_iter().enumerate() {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success());
            let lines = String::from_utf8(output.stdout).unwrap();
            let records: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            let logits: Vec<_> = records.iter().map(|record| integers(&record["logits"])).collect();
            assert_eq!(logits, [2 * client, 2 * client + 1].map(|image| digits().logits(image)));
        }
        let said = server.stop();
        assert_eq!(if sessions == "1" { but_full(&said) } else { said }, "");
    }
}

/// SIGTERM, as service managers send it, ends a server as Ctrl-C does: cleanly.
#[cfg(unix)]
#[test]
fn a_server_that_is_asked_to_end() {
    let mut server = Serving::digits(&[]);
    server.signal("TERM");
    assert_eq!(ends(&mut server.child).code(), Some(0));
}

/// From standard input, and scaled to the network's size.
#[test]
fn pictures_from_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let server = Serving::digits(&[]);
    let png = files::png(Digits::SIZE, &digits().pixels(3..4));
    let infer = ["infer", "--server", &server.address, "--json", "--input"];
    let piped = |bytes: &[u8], arguments: &[&str]| {
        let mut command = assert_cmd::Command::from_std(command(&[&infer[..], &["-"], arguments].concat()));
        let output = command.write_stdin(bytes).timeout(PATIENCE).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let logits = |out: &str| integers(&serde_json::from_str::<Value>(out.trim()).unwrap()["logits"]);
    let (code, out, err) = piped(&png, &[]);
    assert_eq!((code, logits(&out)), (Some(0), digits().logits(3)), "{err}");
    let (code, _, err) = piped(b"", &[]);
    assert_eq!(code, Some(2));
    assert!(err.starts_with("error: standard input: "), "{err}");

    // A frame of four pixels left and right is cut off.
    let framed: Vec<u8> =
        digits().pixels(3..4).chunks(8).flat_map(|row| [&[255; 4][..], row, &[255; 4]].concat()).collect();
    let wide = files::png(files::Size { height: 8, width: 16 }, &framed);
    let file = files::write(folder.path(), "wide.png", &wide);
    server.infer(&["--input", text(&file)]).fails(2, "1 x 8 x 16", "--resize");
    let records = server.infer(&["--input", text(&file), "--resize", "--json"]).records();
    assert_eq!(integers(&records[0]["logits"]), digits().logits(3));
    let (_, out, _) = piped(&wide, &["--resize"]);
    assert_eq!(logits(&out), digits().logits(3));
}

/// With `--retry` a client waits for a server that is not there yet, and for room in one that is full; without it, or for what would not
/// change, it does not.
#[test]
fn what_passes_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let npy = digits().npy(folder.path(), 0..2);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let address = port.to_string();
    let ask = ["infer", "--server", &address, "--input", text(&npy), "--count", "2", "--json"];
    let late = lowkey(&ask);
    assert_eq!(late.code, Some(3));
    assert!(!late.err.contains("trying again"), "{}", late.err);
    let records = std::thread::scope(|scope| {
        let client = scope.spawn(|| lowkey(&[&ask[..], &["--retry", "6"]].concat()));
        std::thread::sleep(Duration::from_millis(1500));
        let server = Serving::start(&["--model", "digits", "--listen", &address, "--sessions", "1"]);
        let ran = client.join().unwrap();
        assert!(ran.err.contains("trying again in 1 s (1 of 6)"), "{}", ran.err);
        // A wrong file stays one.
        let wrong = server.infer(&["--input", text(&npy), "--index", "7", "--retry", "3"]);
        assert_eq!(wrong.code, Some(2));
        assert!(!wrong.err.contains("trying again"), "{}", wrong.err);
        assert_eq!(ran.code, Some(0), "{}", ran.err);
        let said: Vec<Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        said
    });
    let logits: Vec<Vec<i64>> = records.iter().map(|record| integers(&record["logits"])).collect();
    assert_eq!(logits, [0, 1].map(|image| digits().logits(image)));
}
