//! The server's key: where it lies, who may read it, how long it lasts, and a new one; and what a server allows its clients.

use super::*;

/// The same folder for everything, as scripts have it.
fn at(folder: &Path) -> [&str; 2] {
    ["--cache", text(folder)]
}

fn serve_with<'a>(places: &[&'a str]) -> Vec<&'a str> {
    [&["serve", "--model", "digits", "--listen", "127.0.0.1:0"], places].concat()
}

/// `lowkey key show --json`.
fn shown(places: &[&str]) -> Value {
    lowkey(&[&["key", "show", "--json"], places].concat()).records().remove(0)
}

/// Makes the record say that the key has answered so many inferences.
fn count(folder: &Path, inferences: u64) {
    let file = folder.join("keys.json");
    let mut record: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    record["keys"][0]["inferences"] = inferences.into();
    std::fs::write(file, record.to_string()).unwrap();
}

#[test]
fn servers_that_start_at_once_publish_the_same() {
    for _ in 0..3 {
        let folder = tempfile::tempdir().unwrap();
        let fresh = folder.path().join("state");
        let digests: Vec<String> = std::thread::scope(|scope| {
            let start = || scope.spawn(|| Serving::digits(&at(&fresh)).digest.clone());
            let servers: Vec<_> = (0..3).map(|_| start()).collect();
            servers.into_iter().map(|server| server.join().unwrap()).collect()
        });
        assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
    }
}

#[cfg(unix)]
#[test]
fn a_key_that_others_can_read() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let places = at(folder.path());
    Serving::digits(&places).stop();
    let key = folder.path().join("server.key");
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o644)).unwrap();
    let remedy = format!("chmod 600 {}", text(&key));
    lowkey(&serve_with(&places)).fails(4, "can be read by others (mode 644)", &remedy);
    lowkey(&[&["key", "show"], &places[..]].concat()).fails(4, "can be read by others", &remedy);
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    Serving::digits(&places).stop();
}

/// With the user's own folders: what an earlier version left in the cache is moved, said, and stays what it was.
#[cfg(target_os = "linux")]
#[test]
fn a_key_in_the_old_place() {
    let home = tempfile::tempdir().unwrap();
    let [old, new] = [".cache/lowkey", ".state/lowkey"].map(|name| home.path().join(name));
    let npy = digits().npy(home.path(), 0..1);
    let identity = Identity::make();
    let server = identity.serve_all("0.0.0.0:0", &[&["--model", "digits"], &at(&old)[..]].concat());
    let pin = server.pin.clone().unwrap();
    server.infer(&["--input", text(&npy), "--pin", &pin, "--cache", text(&old)]).prints();
    let (digest, address) = (server.digest.clone(), server.address.clone());
    server.stop();
    std::fs::remove_file(old.join("keys.json")).unwrap();

    let own = |arguments: &[&str]| {
        let mut command = command(arguments);
        command.env_remove("LOWKEY_CACHE").env("HOME", home.path());
        command.env("XDG_CACHE_HOME", home.path().join(".cache")).env("XDG_STATE_HOME", home.path().join(".state"));
        command
    };
    let mut serve = own(&["serve", "--model", "digits", "--listen", &address, "--insecure"]);
    let mut child = serve.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), format!("listening on {address}"));
    assert_eq!(lines.next().unwrap(), format!("model digits digest {digest}"));
    child.kill().unwrap();
    child.wait().unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    for name in ["server.key", "servers"] {
        let [from, to] = [&old, &new].map(|folder| folder.join(name));
        assert!(said.contains(&format!("note: moved {} to {}", text(&from), text(&to))), "{said}");
        assert!(!from.exists() && to.exists(), "{name}");
    }
    assert!(new.join("servers").join(address.replace(':', "_")).exists());
    assert!(old.join("models").exists(), "what can be had again stays in the cache");
    let again = own(&["key", "show"]).output().unwrap();
    assert!(again.status.success() && again.stderr.is_empty(), "it is said once");
}

#[test]
fn show_and_rotate() {
    let folder = tempfile::tempdir().unwrap();
    let places = at(folder.path());
    lowkey(&[&["key", "show"], &places[..]].concat()).fails(2, "there is no key", "lowkey serve");
    lowkey(&[&["key", "rotate"], &places[..]].concat()).fails(2, "there is no key", "lowkey serve");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "to look makes nothing");

    let npy = digits().npy(folder.path(), 0..3);
    let client = folder.path().join("client");
    let identity = Identity::make();
    let with_digits = [&["--model", "digits"], &places[..]].concat();
    let server = identity.serve_all("0.0.0.0:0", &with_digits);
    let (old, address, pin) = (server.digest.clone(), server.address.clone(), server.pin.clone().unwrap());
    let infer = ["--input", text(&npy), "--cache", text(&client), "--pin", &pin];
    server.infer(&[&infer[..], &["--count", "3"]].concat()).prints();
    server.stop();

    let before = shown(&places);
    let expected = "path fingerprint created age_days inferences counted_since inferences_left expires lifetime";
    assert_eq!(keys(&before), named(expected));
    // A server that is killed has counted up to its block.
    assert_eq!((before["inferences"].as_u64(), before["lifetime"].as_str()), (Some(256), Some("good")));
    let key = std::fs::read(folder.path().join("server.key")).unwrap();
    let print = before["fingerprint"].as_str().unwrap();
    assert!(!hex::encode(&key).contains(print) && print.len() == 32);
    let said = lowkey(&[&["key", "show"], &places[..]].concat()).prints();
    assert!(said.contains(print) && said.contains("256") && !said.contains(&hex::encode(&key)), "{said}");

    let said = lowkey(&[&["key", "rotate"], &places[..]].concat()).prints();
    assert!(said.contains(print) && said.contains("Every model has a new digest"), "{said}");
    let after = shown(&places);
    assert_ne!(after["fingerprint"], before["fingerprint"]);
    assert_eq!(after["inferences"], 0);
    let kept: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| text(path).contains("server.key."))
        .collect();
    assert_eq!(std::fs::read(&kept[0]).unwrap(), key);

    // Clients that knew the old digest refuse the new one until they are told.
    let server = identity.serve_all(&address, &with_digits);
    assert_ne!(server.digest, old);
    server.infer(&infer).fails(4, &server.digest, &format!("`lowkey forget {address}`"));
    server.infer(&[&infer[..], &["--model-digest", &server.digest]].concat()).prints();
    server.stop();

    let rotated = lowkey(&[&["key", "rotate", "--wipe", "--json"], &places[..]].concat()).records().remove(0);
    assert_eq!(keys(&rotated), named("path was kept fingerprint expires"));
    assert_eq!((&rotated["was"], rotated["kept"].is_null()), (&after["fingerprint"], true));
}

/// A server that is stopped with Ctrl-C has counted what there was.
#[cfg(unix)]
#[test]
fn a_count_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let places = at(folder.path());
    let npy = digits().npy(folder.path(), 0..3);
    for (schedule, total) in [("prepared", 3), ("direct", 6)] {
        let mut server = Serving::digits(&places);
        server.infer(&["--input", text(&npy), "--count", "3", "--schedule", schedule]).prints();
        let interrupt = Command::new("kill").args(["-INT", &server.child.id().to_string()]).status().unwrap();
        assert!(interrupt.success());
        assert_eq!(ends(&mut server.child).code(), Some(0));
        assert_eq!(shown(&places)["inferences"], total);
    }
}

/// A state folder that is given alone takes nothing from elsewhere; what lies there is named.
#[cfg(target_os = "linux")]
#[test]
fn a_key_that_is_not_used() {
    let home = tempfile::tempdir().unwrap();
    let old = home.path().join("lowkey");
    Serving::digits(&at(&old)).stop();
    let state = home.path().join("state");
    let mut serve = command(&serve_with(&["--state", text(&state)]));
    serve.env_remove("LOWKEY_CACHE").env("HOME", home.path()).env("XDG_CACHE_HOME", home.path());
    let mut child = serve.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    let [unused, used] = [&old, &state].map(|folder| folder.join("server.key"));
    assert_eq!(said, format!("warning: {} is not used; the key is {}\n", text(&unused), text(&used)));
    assert!(unused.exists() && used.exists());
}

#[test]
fn a_key_past_its_lifetime() {
    let folder = tempfile::tempdir().unwrap();
    let places = at(folder.path());
    let npy = digits().npy(folder.path(), 0..3);
    Serving::digits(&places).stop();
    count(folder.path(), (1 << 32) - 2);

    // Its end is announced; when it comes, the client reads why and the server ends.
    let mut server = Serving::digits(&places);
    let ran = server.infer(&["--input", text(&npy), "--count", "3", "--json"]);
    assert_eq!((ran.code, ran.out.lines().count()), (Some(3), 2), "{}", ran.err);
    assert!(ran.err.contains("error: refused: the server's key is past its lifetime\nhint: "), "{}", ran.err);
    assert_eq!(ends(&mut server.child).code(), Some(4));
    let said = server.stop();
    assert!(said.starts_with("warning: the key ") && said.contains("2 are left"), "{said}");
    assert!(said.contains("is past its lifetime: 2^32 inferences") && said.contains("lowkey key rotate"), "{said}");

    lowkey(&serve_with(&places)).fails(4, "past its lifetime: 2^32 inferences", "lowkey key rotate");
    assert_eq!(shown(&places)["lifetime"], "over");
    lowkey(&[&["key", "rotate"], &places[..]].concat()).prints();
    assert_eq!(Serving::digits(&places).stop(), "");

    // A key without a record is as old as it says, whatever its file's date, and in a file of an earlier version as old as that.
    std::fs::remove_file(folder.path().join("keys.json")).unwrap();
    let path = folder.path().join("server.key");
    let mut bytes = std::fs::read(&path).unwrap();
    let year = u64::from_le_bytes(bytes[32..].try_into().unwrap()) - 366 * 86_400;
    bytes[32..].copy_from_slice(&year.to_le_bytes());
    std::fs::write(&path, &bytes).unwrap();
    lowkey(&serve_with(&places)).fails(4, "past its lifetime: a year old", "lowkey key rotate");
    std::fs::write(&path, &bytes[..32]).unwrap();
    let _ = std::fs::remove_file(folder.path().join("keys.json"));
    let key = std::fs::File::options().write(true).open(&path).unwrap();
    let age = |days: u64| key.set_modified(std::time::SystemTime::now() - Duration::from_secs(days * 86_400)).unwrap();
    age(340);
    assert_eq!((&shown(&places)["lifetime"], &shown(&places)["age_days"]), (&"ending".into(), &340.into()));
    age(366);
    lowkey(&serve_with(&places)).fails(4, "past its lifetime: a year old", "lowkey key rotate");
}

#[test]
fn what_a_server_allows() {
    let folder = tempfile::tempdir().unwrap();
    let npy = digits().npy(folder.path(), 0..4);
    let input = ["--input", text(&npy), "--json"];
    let server = Serving::digits(&["--reveal", "class", "--quota", "3"]);
    for schedule in ["prepared", "direct"] {
        server.infer(&[&input[..], &["--schedule", schedule]].concat()).fails(
            3,
            "reveals the class only",
            "--reveal class",
        );
    }
    let class = [&input[..], &["--reveal", "class"]].concat();
    let ran = server.infer(&[&class[..], &["--count", "4"]].concat());
    assert_eq!((ran.code, ran.out.lines().count()), (Some(3), 3), "{}", ran.err);
    let quota = "error: refused: the server's quota of inferences per hour is used up; there will be more in 60 min\n";
    assert!(ran.err.contains(quota), "{}", ran.err);
    server.infer(&class).fails(3, "quota", "wait ");
    let none = lowkey(&serve_with(&["--quota", "0"]));
    assert_eq!(none.code, Some(2), "{}", none.err);
}
