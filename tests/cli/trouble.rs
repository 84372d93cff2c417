//! What users, files and networks do wrong: the exit code says whose fault it is, the error what, the hint what to do.

use std::net::TcpListener;

use super::*;

#[test]
fn inputs_that_are_not_images_of_this_network() {
    let folder = tempfile::tempdir().unwrap();
    let server = Serving::digits(&[]);
    let npy = digits().npy(folder.path(), 0..3);
    let file = |name: &str, bytes: &[u8]| text(&files::write(folder.path(), name, bytes)).to_owned();
    let square = |side: usize| files::png(files::Size { height: side, width: side }, &vec![0; side * side]);
    let mut bright = digits().values(0..1);
    bright[5] = 16;
    let cut = files::png(Digits::SIZE, &digits().pixels(0..1));
    let cases = [
        ("/nowhere/image.png".to_owned(), "/nowhere/image.png", "path"),
        (text(folder.path()).to_owned(), "", ""),
        (file("empty.png", b""), "empty.png", "PNG"),
        (file("words.txt", b"a picture of a seven"), "words.txt: none of PNG, JPEG, IDX", "PNG"),
        (file("cut.png", &cut[..cut.len() - 30]), "cut.png", "PNG"),
        (file("28.png", &square(28)), "1 x 28 x 28, the network reads 1 x 8 x 8", "size"),
        (file("bright.npy", &files::npy(&[8, 8], &bright)), "the value 16, the network reads 0..=15", "quantised"),
        (file("flat.npy", &files::npy(&[64], &digits().values(0..1))), "the network reads 1 x 8 x 8", ""),
        (file("short.npy", &files::npy(&[8, 8], &[0; 63])), "63 bytes of data", ""),
    ];
    for (path, wrong, remedy) in &cases {
        server.infer(&["--input", path]).fails(2, wrong, remedy);
    }
    let three = ["--input", text(&npy)];
    server.infer(&[&three[..], &["--index", "3"]].concat()).fails(2, "has 3 images", "--index 3 --count 1");
    server.infer(&[&three[..], &["--index", "1", "--count", "3"]].concat()).fails(2, "has 3 images", "--index 1");
    let most = usize::MAX.to_string();
    server.infer(&[&three[..], &["--index", &most]].concat()).fails(2, "has 3 images", "--index");
    for arguments in [["--count", "0"], ["--index", "x"], ["--timeout", "0"], ["--pin", "12"]] {
        let ran = server.infer(&[&three[..], &arguments[..]].concat());
        assert_eq!((ran.code, &ran.out[..]), (Some(2), ""), "{arguments:?}");
        assert!(ran.err.contains(arguments[0]), "{}", ran.err);
    }
    server.infer(&three).prints();
}

#[test]
fn models_that_are_not_models() {
    let folder = tempfile::tempdir().unwrap();
    let good = zoo::find("digits").unwrap().file();
    let file = |name: &str, bytes: &[u8]| text(&files::write(folder.path(), name, bytes)).to_owned();
    let mut damaged = good.to_vec();
    damaged[20] ^= 0x20;
    let cases = [
        (
            "/nowhere/model.lowkey".to_owned(),
            "/nowhere/model.lowkey",
            "ONNX or TFLite file, or the name of a bundled model: `lowkey models`",
        ),
        ("digit".to_owned(), "digit: no such file", "did you mean digits? `lowkey models`"),
        (file("empty.lowkey", b""), "empty.lowkey", "whole .lowkey file"),
        (file("cut.lowkey", &good[..good.len() - 1]), "cut.lowkey", "whole .lowkey file"),
        (file("words.lowkey", b"not a model at all, but long enough"), "words.lowkey", "whole .lowkey file"),
        (file("damaged.lowkey", &damaged), "damaged.lowkey", "whole .lowkey file"),
        (text(folder.path()).to_owned(), "", ""),
    ];
    for (path, wrong, remedy) in &cases {
        for arguments in
            [&["plan", path][..], &["plan", path, "--json"], &["serve", "--model", path, "--listen", "127.0.0.1:0"]]
        {
            let ran = lowkey(arguments).fails(2, wrong, remedy);
            let once = |name: &str| ran.err.lines().next().unwrap().matches(name).count() <= 1;
            assert!(once(path), "the file is named once: {}", ran.err);
        }
    }
    lowkey(&["eval", "--model", &cases[3].0, "--data", text(folder.path())]).fails(2, "cut.lowkey", "whole");
}

#[test]
fn places_that_cannot_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let npy = digits().npy(folder.path(), 0..1);
    let file = files::write(folder.path(), "file", b"a file, not a folder");
    let inside = file.join("cache");
    lowkey(&["serve", "--model", "digits", "--listen", "127.0.0.1:0", "--cache", text(&inside)]).fails(
        2,
        text(&inside),
        "path",
    );
    let server = Identity::make().serve_all("0.0.0.0:0", &["--model", "digits"]);
    let pin = server.pin.clone().unwrap();
    let infer = |cache: &Path| server.infer(&["--input", text(&npy), "--pin", &pin, "--cache", text(cache)]);
    infer(&inside).fails(2, text(&inside), "path");

    // A note that cannot be read is not the same as no note.
    let cache = folder.path().join("cache");
    let known = cache.join("servers").join(server.address.replace(':', "_"));
    infer(&cache).prints();
    std::fs::write(&known, "0123").unwrap();
    infer(&cache).fails(2, "not a digest", &format!("`lowkey forget {}`", server.address));
    let forget = ["forget", &server.address, "--cache", text(&cache)];
    lowkey(&forget).prints();
    infer(&cache).prints();
    assert!(known.exists());
}

#[test]
fn addresses_where_nothing_answers() {
    let folder = tempfile::tempdir().unwrap();
    let npy = digits().npy(folder.path(), 0..1);
    let infer = |server: &str| lowkey(&["infer", "--server", server, "--input", text(&npy), "--timeout", "1"]);
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    infer(&free).fails(3, &format!("{free}: Connection refused"), "server runs");
    infer("localhost").fails(2, "localhost", "host:port");
    infer("127.0.0.1:65536").fails(2, "65536", "host:port");
    infer("192.0.2.1:7117").fails(4, "nothing says how to recognise", "--ca FILE, --pin HASH or --system-roots");

    // Somebody listens, and says nothing; or something else.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let start = Instant::now();
    infer(&address).fails(3, "no progress for 1s", "still runs");
    let pin = "ab".repeat(32);
    lowkey(&["infer", "--server", &address, "--input", text(&npy), "--timeout", "1", "--pin", &pin]).fails(
        3,
        "no answer within 1 s",
        "server runs",
    );
    assert!(start.elapsed() < Duration::from_secs(20));
    let web = std::thread::spawn(move || {
        // The two clients above are still in line.
        for stream in silent.incoming().take(3) {
            use std::io::Write;
            let _ = stream.unwrap().write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
        }
    });
    infer(&address).fails(3, "", "same version of lowkey");
    web.join().unwrap();

    // A port that is taken.
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = holder.local_addr().unwrap().to_string();
    lowkey(&["serve", "--model", "digits", "--listen", &port]).fails(2, &port, "another port");
    lowkey(&["serve", "--model", "digits", "--listen", "here"]).fails(2, "here", "host:port");
    // Nobody has this name, nobody this address: no other end has a part in it.
    let serve = |address: &str| lowkey(&["serve", "--model", "digits", "--insecure", "--listen", address]);
    serve("nobody.invalid:7117").fails(2, "nobody.invalid", "0.0.0.0:7117");
    serve("192.0.2.1:7117").fails(2, "192.0.2.1", "0.0.0.0:7117");
}

/// A client with much to do, and its first answer.
fn busy_client(server: &Serving, folder: &Path) -> (Child, BufReader<ChildStdout>) {
    let npy = digits().npy(folder, 0..360);
    let arguments = ["infer", "--server", &server.address, "--input", text(&npy), "--count", "360", "--json"];
    let mut child = command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    let record: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(integers(&record["logits"]), digits().logits(0));
    (child, out)
}

#[test]
fn a_server_that_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let server = Serving::digits(&[]);
    let (mut client, out) = busy_client(&server, folder.path());
    assert_eq!(server.stop(), "");
    // What was answered before is right, and whole.
    let mut answered = 1;
    for line in out.lines() {
        let record: Value = serde_json::from_str(&line.unwrap()).unwrap();
        assert_eq!(integers(&record["logits"]), digits().logits(answered));
        answered += 1;
    }
    assert!(answered < 360, "it had more to do");
    assert_eq!(ends(&mut client).code(), Some(3));
    let mut err = String::new();
    client.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert!(err.starts_with("error: ") && err.contains("\nhint: ") && !err.contains("panicked"), "{err}");
}

#[test]
fn a_client_that_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let server = Serving::digits(&[]);
    let (mut client, _) = busy_client(&server, folder.path());
    client.kill().unwrap();
    client.wait().unwrap();
    let npy = digits().npy(folder.path(), 0..3);
    let records = server.infer(&["--input", text(&npy), "--index", "2", "--json"]).records();
    assert_eq!(integers(&records[0]["logits"]), digits().logits(2));
    let told = server.stop();
    assert!(told.contains("WARN") && told.contains("connection") && !told.contains("panicked"), "{told}");
}

/// A plain connection to `server` on which one bit of the first frame online with data for the client changes; its address.
fn unreliable(server: &str) -> String {
    use std::io::Write;
    use std::net::TcpStream;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut server = TcpStream::connect(server).unwrap();
    std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        let mut header = [0; 8];
        let mut changed = false;
        while server.read_exact(&mut header).is_ok() {
            let mut payload = vec![0; u32::from_le_bytes(header[..4].try_into().unwrap()) as usize];
            server.read_exact(&mut payload).unwrap();
            if !changed && header[4..6] == [1, 2] {
                payload[0] ^= 1;
                changed = true;
            }
            if client.write_all(&header).and_then(|()| client.write_all(&payload)).is_err() {
                return;
            }
        }
    });
    address
}

/// A changed bit: no answer, and what to do about it.
#[test]
fn connections_that_change_bits() {
    let folder = tempfile::tempdir().unwrap();
    let npy = digits().npy(folder.path(), 0..1);
    let server = Serving::digits(&[]);
    let address = unreliable(&server.address);
    let infer = ["infer", "--server", &address, "--input", text(&npy), "--json"];
    lowkey(&infer).fails(3, "bytes changed in transit", "TLS");
    let told = server.end();
    assert!(told.contains("aborted with code 9") && !told.contains("panicked"), "{told}");
}
