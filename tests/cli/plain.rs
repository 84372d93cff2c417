//! Clients on plain machines: disks that cannot be written, files that are not what they seem, pipes.
#![cfg(unix)]

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, symlink};
use std::time::SystemTime;

use super::*;

/// All files below a folder: inode and time of change, so that a file that was put in its place is another.
fn files_below(folder: &Path) -> BTreeMap<PathBuf, (u64, SystemTime)> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else {
            let about = std::fs::metadata(&path).unwrap();
            found.insert(path, (about.ino(), about.modified().unwrap()));
        }
    }
    found
}

/// A server that clients note, and their arguments.
fn noted(npy: &Path) -> (Serving, Vec<String>) {
    let server = Identity::make().serve_all("0.0.0.0:0", &["--model", "digits"]);
    let pin = server.pin.clone().unwrap();
    let arguments = ["--input", text(npy), "--json", "--pin", &pin].map(str::to_owned).to_vec();
    (server, arguments)
}

fn infer(server: &Serving, arguments: &[String], more: &[&str]) -> Ran {
    server.infer(&[&arguments.iter().map(String::as_str).collect::<Vec<_>>()[..], more].concat())
}

/// The only answer of a client, right, and what the client said besides.
#[track_caller]
fn right(ran: &Ran) -> Value {
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let record: Value = serde_json::from_str(ran.out.trim()).unwrap();
    assert_eq!(integers(&record["logits"]), digits().logits(0));
    record
}

fn received(record: &Value) -> u64 {
    record["stages"]["setup"]["bytes_received"].as_u64().unwrap()
}

#[test]
fn a_client_that_knows_a_model_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (server, arguments) = noted(&digits().npy(folder.path(), 0..1));
    let [cache, state] = ["cache", "state"].map(|name| folder.path().join(name));
    let places = ["--cache", text(&cache), "--state", text(&state)];
    let first = infer(&server, &arguments, &places);
    let cold = received(&right(&first));
    let kept = [files_below(&cache), files_below(&state)];
    assert_eq!(kept.each_ref().map(BTreeMap::len), [1, 1], "a hint and a note");
    for digest in [None, Some(&server.digest[..])] {
        let pinned: Vec<&str> = digest.iter().flat_map(|digest| ["--model-digest", digest]).collect();
        let again = infer(&server, &arguments, &[&places[..], &pinned].concat());
        assert!(received(&right(&again)) < cold);
        assert_eq!([files_below(&cache), files_below(&state)], kept);
        assert_eq!(again.err, "");
    }
}

/// Folders in which nothing can be made, for the superuser too: where they should be are links that lead nowhere.
#[test]
fn a_disk_that_cannot_be_written_is_a_note() {
    let folder = tempfile::tempdir().unwrap();
    let (server, arguments) = noted(&digits().npy(folder.path(), 0..1));
    let cache = folder.path().join("cache");
    std::fs::create_dir(&cache).unwrap();
    for name in ["models", "servers"] {
        symlink("/nowhere/at/all", cache.join(name)).unwrap();
    }
    for _ in 0..2 {
        let ran = infer(&server, &arguments, &["--cache", text(&cache)]);
        right(&ran);
        let notes: Vec<&str> = ran.err.lines().collect();
        assert_eq!(notes.len(), 2, "{}", ran.err);
        for (note, what) in notes.iter().zip([cache.join("models"), cache.join("servers")]) {
            assert!(note.starts_with(&format!("note: {}", what.display())), "{note}");
        }
    }
    // What is known counts, although it cannot be written.
    let known = folder.path().join("known");
    right(&infer(&server, &arguments, &["--cache", text(&known)]));
    let note = std::fs::read_dir(known.join("servers")).unwrap().next().unwrap().unwrap().path();
    std::fs::write(&note, "ab".repeat(32)).unwrap();
    infer(&server, &arguments, &["--cache", text(&known)]).fails(4, &server.digest, "lowkey forget");
}

#[test]
fn without_a_store_nothing_is_kept_and_nothing_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let (server, arguments) = noted(&digits().npy(folder.path(), 0..1));
    let cache = folder.path().join("cache");
    let none = ["--cache", text(&cache), "--no-store"];
    let cold = received(&right(&infer(&server, &arguments, &none)));
    assert!(!cache.exists());
    // A kept model is not used, a damaged note not read.
    right(&infer(&server, &arguments, &none[..2]));
    let note = cache.join("servers").join(server.address.replace(':', "_"));
    std::fs::write(&note, "no digest").unwrap();
    let kept = files_below(&cache);
    assert_eq!(received(&right(&infer(&server, &arguments, &none))), cold);
    assert_eq!(files_below(&cache), kept);
    // A digest that is given counts.
    let wrong = "cd".repeat(32);
    infer(&server, &arguments, &[&none[..], &["--model-digest", &wrong]].concat()).fails(4, &wrong, "owner");
}

/// A file of a gigabyte in the hint's place, a pipe, a folder; and a damaged note where the digest is given.
#[test]
fn what_is_no_hint_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let (server, arguments) = noted(&digits().npy(folder.path(), 0..1));
    let cache = folder.path().join("cache");
    let here = ["--cache", text(&cache)];
    let first = infer(&server, &arguments, &here);
    let record = right(&first);
    let cold = received(&record);
    let hint = cache.join("models").join(&server.digest);
    let good = std::fs::read(&hint).unwrap();

    std::fs::File::options().write(true).open(&hint).unwrap().set_len(1 << 30).unwrap();
    let ran = infer(&server, &arguments, &here);
    let record = right(&ran);
    assert_eq!(received(&record), cold, "the hint came again");
    let peak = record["peak_memory_bytes"].as_u64().unwrap();
    assert!(peak < 1 << 29, "{peak} bytes of memory");
    assert!(std::fs::read(&hint).unwrap() == good, "the file is whole again");

    std::fs::remove_file(&hint).unwrap();
    assert!(Command::new("mkfifo").arg(&hint).status().unwrap().success());
    right(&infer(&server, &arguments, &here));
    assert!(std::fs::read(&hint).unwrap() == good, "a pipe is replaced");

    std::fs::remove_file(&hint).unwrap();
    std::fs::create_dir(&hint).unwrap();
    let ran = infer(&server, &arguments, &here);
    right(&ran);
    assert!(ran.err.starts_with(&format!("note: {}", hint.display())), "{}", ran.err);

    let note = cache.join("servers").join(server.address.replace(':', "_"));
    std::fs::write(&note, "no digest").unwrap();
    infer(&server, &arguments, &here).fails(2, "not a digest", "lowkey forget");
    right(&infer(&server, &arguments, &[&here[..], &["--model-digest", &server.digest]].concat()));
    assert_eq!(std::fs::read_to_string(&note).unwrap(), server.digest, "it is made anew");
}

/// A pipe into which nobody writes does not keep a client for ever; one with an image in it is read, once for all attempts.
#[test]
fn pipes() {
    let folder = tempfile::tempdir().unwrap();
    let server = Serving::digits(&[]);
    let pipe = folder.path().join("pipe.png");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let ask = ["--input", text(&pipe), "--json"];
    let start = Instant::now();
    server.infer(&[&ask[..], &["--timeout", "1"]].concat()).fails(2, "within 1 s", "");
    assert!(start.elapsed() < Duration::from_secs(20));
    let npy = digits().npy(folder.path(), 0..1);
    std::thread::scope(|scope| {
        scope.spawn(|| std::fs::write(&pipe, std::fs::read(&npy).unwrap()).unwrap());
        right(&server.infer(&ask));
    });
    // Where files are expected, it is refused.
    let data = folder.path().join("data/zero");
    std::fs::create_dir_all(&data).unwrap();
    std::fs::rename(&pipe, data.join("pipe.png")).unwrap();
    let data = text(data.parent().unwrap());
    lowkey(&["eval", "--model", "digits", "--data", data]).fails(2, "pipe.png: not a regular file", "");
}
