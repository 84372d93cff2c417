//! `bench serve`: several clients at one server, ours or another.

use super::*;

#[test]
fn a_load_is_counted_and_compared() {
    let bench = ["bench", "serve", "--clients", "3", "--count", "4", "--per-session", "2"];
    let records = lowkey(&[&bench[..], &["--json"]].concat()).records();
    let load = &records[0];
    assert_eq!((&load["answers"], &load["wrong"], &load["failed"]), (&12.into(), &0.into(), &0.into()), "{load}");
    assert_eq!(load["wait_ms"]["count"], 6, "two sessions for each client");
    for stage in ["wait_ms", "offline_ms", "online_ms", "answer_ms"] {
        let at = |name: &str| load[stage][name].as_f64().unwrap();
        assert!(0.0 < at("p50") && at("p50") <= at("p95") && at("p95") <= at("p99") && at("p99") <= at("most"));
    }
    let peaks = load["server_peak_bytes"].as_array().unwrap();
    assert!(!peaks.is_empty() && peaks.iter().all(|peak| peak.as_u64().unwrap() > 1 << 20), "{load}");

    // Fewer seats than clients; for people.
    let said = lowkey(&[&bench[..], &["--sessions", "1"]].concat()).prints_though_full();
    assert!(said.contains("12 answers to 3 clients in ") && said.contains("0 wrong, 0 failed"), "{said}");
    fits(&said);
}

/// A server with another model than the one that answers are compared with is found out.
#[test]
fn wrong_answers_of_a_running_server_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let (architecture, mut weights) = zoo::find("digits").unwrap().network().into_parts();
    weights.linear.iter_mut().flatten().for_each(|own| own.bias[0] += 1);
    let file = folder.path().join("retrained.lowkey");
    Network::new(architecture, weights).unwrap().write(&file).unwrap();
    let server = Serving::start(&["--model", text(&file), "--listen", "127.0.0.1:0"]);
    let address = server.address.clone();
    let bench = ["bench", "serve", "--server", &address, "--clients", "2", "--count", "2", "--json"];
    let run = |model: &[&str]| {
        let ran = lowkey(&[&bench[..], model].concat());
        (ran.code, serde_json::from_str::<Value>(ran.out.trim()).unwrap()["wrong"].clone())
    };
    assert_eq!(run(&["--model", text(&file)]), (Some(0), 0.into()));
    assert_eq!(run(&["--model", "digits"]), (Some(1), 4.into()));
    assert_eq!(run(&[]), (Some(0), Value::Null));
    // Nobody there: every try is a failure, and it ends.
    server.stop();
    let ran = lowkey(&bench);
    assert_eq!(ran.code, Some(3));
    assert_eq!(serde_json::from_str::<Value>(ran.out.trim()).unwrap()["failed"], 4);
}

#[test]
fn a_server_of_several_models_is_asked_for_one() {
    let server = Serving::start(&["--model", "mnist-hcnn-w1a1", "--model", "digits", "--listen", "127.0.0.1:0"]);
    let bench = ["bench", "serve", "--server", &server.address, "--model", "digits", "--clients", "2", "--count", "2"];
    let load = &lowkey(&[&bench[..], &["--ask", "digits", "--json"]].concat()).records()[0];
    assert_eq!((&load["answers"], &load["wrong"], &load["failed"]), (&4.into(), &0.into(), &0.into()), "{load}");
    let unnamed = lowkey(&bench);
    assert!(unnamed.code != Some(0) && unnamed.out.contains("4 failed"), "{}{}", unnamed.out, unnamed.err);
}

/// Servers behind one address share a key, whichever of them makes it, and so a digest.
#[test]
fn servers_that_start_together_on_a_fresh_folder_publish_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let (state, npy) = (folder.path().join("state"), digits().npy(folder.path(), 0..1));
    let start = || Serving::digits(&["--state", text(&state)]);
    let servers: Vec<_> = std::thread::scope(|scope| {
        let started: Vec<_> = (0..3).map(|_| scope.spawn(start)).collect();
        started.into_iter().map(|server| server.join().unwrap()).collect()
    });
    for server in &servers {
        assert_eq!(server.digest, servers[0].digest);
        let answer = &server.infer(&["--input", text(&npy), "--model-digest", &servers[0].digest, "--json"]);
        assert_eq!(answer.code, Some(0), "{}", answer.err);
    }
}
