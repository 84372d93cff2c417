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
            assert_eq!(kinds.trim(), "['Deployment', 'Service', 'PodDisruptionBudget']");
        }
        _ => eprintln!("skipped: nothing that reads YAML"),
    }
    let container = read("Containerfile");
    let user = container.lines().filter_map(|line| line.strip_prefix("USER ")).next_back();
    assert_eq!(user, Some("10001:10001"), "as the manifest has it");
    assert!(manifest.contains("runAsUser: 10001"));
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
    let mut script = Command::new("bash");
    script.arg(folder().join("try-haproxy.sh")).arg(env!("CARGO_BIN_EXE_lowkey"));
    let output = script.env_remove("LOWKEY_CACHE").env_remove("LOWKEY_STATE").output().unwrap();
    if output.status.code() == Some(77) {
        eprintln!("{}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    succeeds(&output);
}
