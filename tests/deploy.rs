//! The files of `deploy/`: what can be parsed is, by the programs that read them where these are at hand; and two servers behind HAProxy.

#[path = "common/certificate.rs"]
mod certificate;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")
}

fn read(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).unwrap()
}

/// Runs a program; `None`, and a word, where it is not at hand.
fn run(command: &mut Command) -> Option<Output> {
    match command.output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("skipped: no {}", command.get_program().display());
            None
        }
        Err(error) => panic!("{error}"),
    }
}

#[track_caller]
fn succeeds(output: &Output) {
    let said = [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat();
    assert!(output.status.success(), "{said}");
}

/// The arguments of the command in a file: of the unit's line, or of the manifest's list.
fn arguments(file: &str) -> Vec<String> {
    let line = file.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/lowkey "));
    let list = file.lines().map(str::trim).skip_while(|line| *line != "args:").skip(1);
    let list = list.filter(|line| !line.starts_with('#')).map_while(|line| line.strip_prefix("- "));
    line.map_or_else(|| list.map(str::to_owned).collect(), |line| line.split_whitespace().map(str::to_owned).collect())
}

/// The commands of unit and manifest, with files and addresses of this test: each serves, is ready where probes ask, and ends when it is
/// asked to.
#[cfg(unix)]
#[test]
fn what_the_files_start_serves() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let [certificate, key] = certificate::write(folder.path()).map(|path| path.to_str().unwrap().to_owned());
    let (state, cache) = (place("state"), place("cache"));
    let here = [
        ("/etc/lowkey/model.lowkey", "digits"),
        ("/model/model.lowkey", "digits"),
        ("${CREDENTIALS_DIRECTORY}/cert.pem", &certificate),
        ("/tls/tls.crt", &certificate),
        ("${CREDENTIALS_DIRECTORY}/key.pem", &key),
        ("/tls/tls.key", &key),
        ("/var/lib/lowkey", &state),
        ("/var/cache/lowkey", &cache),
        ("0.0.0.0:7117", "127.0.0.1:0"),
        ("0.0.0.0:9117", "127.0.0.1:0"),
        ("127.0.0.1:9117", "127.0.0.1:0"),
    ];
    let probes = ["/healthz", "/readyz"];
    let manifest = read("kubernetes.yaml");
    let asked = manifest.split("httpGet: { path: ").skip(1).map(|probe| probe.split(',').next().unwrap());
    assert!(asked.clone().count() == 3 && asked.clone().all(|path| probes.contains(&path)));
    for file in [read("lowkey.service"), manifest.clone()] {
        let arguments = arguments(&file);
        assert!(arguments.len() > 8 && arguments[0] == "serve", "{arguments:?}");
        let mut server = Command::new(env!("CARGO_BIN_EXE_lowkey"));
        server.args(arguments.iter().map(|argument| {
            here.iter().fold(argument.clone(), |argument, (there, here)| argument.replace(there, here))
        }));
        // As the container file has it.
        server.env("LOWKEY_STATE", &state).env("LOWKEY_CACHE", &cache).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut server = server.spawn().unwrap();
        let said = BufReader::new(server.stdout.take().unwrap()).lines().map(Result::unwrap);
        let metrics = said.into_iter().find_map(|line| line.strip_prefix("metrics on ").map(str::to_owned));
        let metrics = metrics.expect("it serves, with metrics");
        for path in probes {
            // It says where it listens, and is ready right after.
            let until = Instant::now() + Duration::from_secs(60);
            while !probe(&metrics, path).starts_with("HTTP/1.1 200 ") {
                assert!(Instant::now() < until, "{path}: {}", probe(&metrics, path));
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        succeeds(&Command::new("kill").arg(server.id().to_string()).output().unwrap());
        assert_eq!(server.wait().unwrap().code(), Some(0));
    }
}

/// What a probe is answered.
#[cfg(unix)]
fn probe(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: lowkey\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_unit_is_one_and_hardened() {
    let unit = read("lowkey.service");
    let temporary = tempfile::tempdir().unwrap();
    let copy = temporary.path().join("lowkey.service");
    // The command need not be installed here, nor its manual page.
    let local = unit.replace("/usr/local/bin/lowkey", "/bin/true").replace("Documentation=man:lowkey-serve(1)\n", "");
    std::fs::write(&copy, local).unwrap();
    if let Some(output) = run(Command::new("systemd-analyze").arg("verify").arg(&copy)) {
        succeeds(&output);
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    for setting in ["DynamicUser=yes", "ProtectSystem=strict", "NoNewPrivileges=yes", "LimitCORE=0", "MemorySwapMax=0"]
    {
        assert!(unit.lines().any(|line| line == setting), "{setting}");
    }
}

#[test]
fn the_manifest_has_probes_and_the_container_file_no_root() {
    let manifest = read("kubernetes.yaml");
    for wanted in
        ["startupProbe:", "readinessProbe:", "livenessProbe:", "runAsNonRoot: true", "readOnlyRootFilesystem: true"]
    {
        assert!(manifest.contains(wanted), "{wanted}");
    }
    let path = folder().join("kubernetes.yaml");
    if let Some(output) = run(Command::new("kubectl").args(LOCAL).arg(&path)) {
        succeeds(&output);
        check_manifest(&output.stdout);
    }
    // Every field, by the schemas of the API.
    if let Some(output) = run(Command::new("kubernetes-validate").arg("--strict").arg(&path)) {
        succeeds(&output);
    }
    let container = read("Containerfile");
    let user = container.lines().filter_map(|line| line.strip_prefix("USER ")).next_back();
    assert_eq!(user, Some("10001:10001"), "as the manifest has it");
    assert!(manifest.contains("runAsUser: 10001"));
    // Memory goes back after bursts, wherever it runs.
    assert!(container.contains("ENV MALLOC_MMAP_THRESHOLD_=131072\n"));
    for file in [&manifest, &read("lowkey.service")] {
        assert!(file.contains("MALLOC_MMAP_THRESHOLD_"));
    }
}

/// Reads a manifest, writes it as JSON, and asks no cluster; nothing but a label is changed.
const LOCAL: [&str; 6] = ["label", "--local", "--dry-run=client", "--output=json", "x=y", "-f"];

/// What is named in one place of a manifest and meant in another.
fn check_manifest(json: &[u8]) {
    let objects = serde_json::Deserializer::from_slice(json).into_iter::<Value>().map(Result::unwrap);
    let objects: Vec<Value> = objects.collect();
    let kinds: Vec<_> = objects.iter().map(|object| object["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["StatefulSet", "Service", "PodDisruptionBudget"]);
    let [set, service, budget] = &objects[..] else { panic!("three objects") };
    let (template, own) = (&set["spec"]["template"], &service["spec"]["selector"]);
    for labels in [&set["spec"]["selector"]["matchLabels"], &budget["spec"]["selector"]["matchLabels"]] {
        assert_eq!(labels, own);
    }
    assert_eq!(own["app"], template["metadata"]["labels"]["app"]);
    assert_eq!(set["spec"]["serviceName"], service["metadata"]["name"]);
    let list = |value: &Value| value.as_array().unwrap().clone();
    let names = |values: &[Value]| values.iter().map(|value| value["name"].clone()).collect::<Vec<_>>();
    let pod = &template["spec"];
    let claims = list(&set["spec"]["volumeClaimTemplates"]);
    let claims: Vec<_> = claims.iter().map(|claim| claim["metadata"].clone()).collect();
    let volumes = [names(&list(&pod["volumes"])), names(&claims)].concat();
    for container in list(&pod["initContainers"]).iter().chain(&list(&pod["containers"])) {
        let mounts = list(&container["volumeMounts"]);
        assert!(names(&mounts).iter().all(|name| volumes.contains(name)), "{mounts:?} of {volumes:?}");
    }
    let ports = names(&list(&pod["containers"][0]["ports"]));
    let meant = ["startupProbe", "readinessProbe", "livenessProbe"]
        .map(|probe| &pod["containers"][0][probe]["httpGet"]["port"]);
    for port in meant.into_iter().chain([&service["spec"]["ports"][0]["targetPort"]]) {
        assert!(ports.contains(port), "{port} of {ports:?}");
    }
}

/// What the first container of a pod does, in folders: a new pod gets a new copy of the key, and knows its age and its count.
#[cfg(unix)]
#[test]
fn a_new_pod_knows_the_age_and_the_count_of_its_key() {
    let manifest = read("kubernetes.yaml");
    let command = manifest.lines().find_map(|line| line.trim_start().strip_prefix("- install ")).unwrap();
    assert!(
        manifest.contains("volumeClaimTemplates:\n    - metadata:\n        name: state\n"),
        "the state outlives it"
    );
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    for name in ["key", "state", "run"] {
        std::fs::create_dir(place(name)).unwrap();
    }
    // Of 100 days ago.
    let days = |days: u64| Duration::from_secs(days * 24 * 60 * 60);
    let born = std::time::SystemTime::now() - days(100);
    let seconds = born.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    std::fs::write(place("key/server.key"), [&[7; 32][..], &seconds.to_le_bytes()].concat()).unwrap();
    let pod = || {
        let _ = std::fs::remove_dir_all(place("run"));
        std::fs::create_dir(place("run")).unwrap();
        let here = |path: &str| place(path).to_str().unwrap().to_owned();
        let command = format!("install {command}")
            .replace("/key/server.key", &here("key/server.key"))
            .replace("/run/lowkey", &here("run"))
            .replace("/var/lib/lowkey", &here("state"));
        succeeds(&Command::new("sh").args(["-ec", &command]).output().unwrap());
    };
    let shown = || {
        let mut show = Command::new(env!("CARGO_BIN_EXE_lowkey"));
        let output = show.args(["key", "show", "--json", "--state"]).arg(place("state")).output().unwrap();
        succeeds(&output);
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        (said["age_days"].as_u64().unwrap(), said["inferences"].as_u64().unwrap())
    };
    pod();
    assert_eq!(shown(), (100, 0));
    let store = lowkey::store::Store::open_at(Some(place("cache")), Some(place("state"))).unwrap();
    let uses = store.uses(&store.server_key().unwrap(), std::time::SystemTime::now()).unwrap();
    (0..5).for_each(|_| uses.count(std::time::SystemTime::now()).unwrap());
    drop(uses);
    pod();
    assert_eq!(shown(), (100, 5));
    let copy = std::fs::symlink_metadata(place("state/server.key")).unwrap();
    assert!(copy.is_symlink(), "the key is not on the volume");
}

/// Where haproxy does not start the script says so, and ends.
#[cfg(unix)]
#[test]
fn without_a_haproxy_that_starts_the_trial_ends() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("haproxy");
    std::fs::write(&broken, "#!/bin/sh\necho a library is missing >&2\nexit 127\n").unwrap();
    std::fs::set_permissions(&broken, PermissionsExt::from_mode(0o755)).unwrap();
    let path = std::env::join_paths(
        std::iter::once(folder.path().to_owned()).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let output = trial().env("PATH", path.unwrap()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("no haproxy") && said.contains("a library is missing"), "{said}");
    assert!(!said.contains("No such file"), "{said}");
}

/// `deploy/try-haproxy.sh` with this command.
fn trial() -> Command {
    let mut script = Command::new("bash");
    script.arg(folder().join("try-haproxy.sh")).arg(env!("CARGO_BIN_EXE_lowkey"));
    script.env_remove("LOWKEY_CACHE").env_remove("LOWKEY_STATE");
    script
}

#[test]
fn haproxy_reads_its_configuration() {
    let places = [("LOWKEY_FRONT", "127.0.0.1:7"), ("LOWKEY_A", "127.0.0.1:8"), ("LOWKEY_B", "127.0.0.1:9")];
    if let Some(output) =
        run(Command::new("haproxy").arg("-c").arg("-f").arg(folder().join("haproxy.cfg")).envs(places))
    {
        succeeds(&output);
    }
}

/// One of two servers is killed under load: clients come again, and every answer is right.
#[test]
fn a_server_behind_haproxy_is_killed() {
    let output = trial().output().unwrap();
    if output.status.code() == Some(77) {
        eprintln!("{}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    succeeds(&output);
}
