//! Tells the command which commit it is built from, where that is known.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=LOWKEY_COMMIT");
    if std::env::var_os("LOWKEY_COMMIT").is_some() || std::env::var_os("CARGO_FEATURE_CLI").is_none() {
        return;
    }
    if let Some(commit) = commit() {
        println!("cargo::rustc-env=LOWKEY_COMMIT={commit}");
    }
}

/// What the command is made of.
const SOURCES: &[&str] =
    &["Cargo.toml", "Cargo.lock", "build.rs", "src", "he/src", "mpc/src", "bridge/src", "models/src", "models/zoo"];

/// The commit of the repository whose root this package is: not that of one which only contains a copy of it.
fn commit() -> Option<String> {
    let root = std::env::var_os("CARGO_MANIFEST_DIR")?;
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).current_dir(&root).output().ok()?;
        let text = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
        Some(text.trim().to_owned())
    };
    let top = Path::new(&git(&["rev-parse", "--show-toplevel"])?).canonicalize().ok()?;
    if top != Path::new(&root).canonicalize().ok()? {
        return None;
    }
    // Written at every commit and checkout.
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    if Path::new(&root).join(&log).exists() {
        println!("cargo::rerun-if-changed={log}");
    }
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    // What is built is the commit only where nothing of it was changed since.
    for source in SOURCES {
        println!("cargo::rerun-if-changed={source}");
    }
    let changed = git(&[&["status", "--porcelain", "--"], SOURCES].concat())?;
    Some(if changed.is_empty() { commit } else { commit + " with changes" })
}
