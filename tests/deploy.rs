//! The files of `deploy/`: what can be parsed is, by the programs that read them where these are at hand; and two servers behind HAProxy.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

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

/// Every long option of a file's `serve` is one that the command has.
fn known_options(file: &str) {
    let help = Command::new(env!("CARGO_BIN_EXE_lowkey")).args(["serve", "--help"]).output().unwrap();
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    let mut seen = 0;
    for line in file.lines().filter(|line| line.starts_with("ExecStart=") || line.trim_start().starts_with("- --")) {
        for word in line.split_whitespace().filter(|word| word.starts_with("--")) {
            let option = word.split('=').next().unwrap_or(word);
            assert!(help.contains(&format!("{option} ")), "serve has no {option}");
            seen += 1;
        }
    }
    assert!(seen > 3, "the options were found");
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
    known_options(&unit);
}

#[test]
fn the_manifest_has_probes_and_the_container_file_no_root() {
    let manifest = read("kubernetes.yaml");
    for wanted in
        ["startupProbe:", "readinessProbe:", "livenessProbe:", "runAsNonRoot: true", "readOnlyRootFilesystem: true"]
    {
        assert!(manifest.contains(wanted), "{wanted}");
    }
    known_options(&manifest);
    let parse = "import sys, yaml; print([d['kind'] for d in yaml.safe_load_all(open(sys.argv[1]))])";
    let path = folder().join("kubernetes.yaml");
    match run(Command::new("python3").args(["-c", parse]).arg(&path)) {
        Some(output) if !String::from_utf8_lossy(&output.stderr).contains("ModuleNotFoundError") => {
            succeeds(&output);
            let kinds = String::from_utf8_lossy(&output.stdout);
            assert_eq!(kinds.trim(), "['StatefulSet', 'Service', 'PodDisruptionBudget']");
        }
        _ => eprintln!("skipped: nothing that reads YAML"),
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
    let days = |days: u64| std::time::Duration::from_secs(days * 24 * 60 * 60);
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
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
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
