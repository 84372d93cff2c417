//! The figures of `lowkey parameters` are those that the script computes.

use std::process::Command;

use assert_cmd::cargo::cargo_bin_cmd;
use serde_json::Value;

#[test]
fn the_program_and_the_script_agree() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/parameters/check.py");
    let script = match Command::new("python3").args([script, "--json"]).output() {
        Ok(output) => output,
        Err(error) => {
            eprintln!("skipped: no python3 to run scripts/parameters/check.py ({error})");
            return;
        }
    };
    assert!(script.status.success(), "a set misses its target: {}", String::from_utf8_lossy(&script.stderr));
    let script: Value = serde_json::from_slice(&script.stdout).expect("the script prints JSON");
    let ours = cargo_bin_cmd!("lowkey").args(["parameters", "--json"]).output().expect("it runs");
    let ours: Value = serde_json::from_slice(&ours.stdout).expect("one JSON object");

    for (kind, fields) in [
        (
            "ot",
            &[
                "name",
                "use",
                "n",
                "k",
                "t",
                "depth",
                "ones_per_row",
                "seed",
                "usable",
                "attacks",
                "bounds",
                "binding",
                "security",
            ][..],
        ),
        ("rlwe", &["name", "degree", "log2_q", "tuniform_bound", "secret", "security"][..]),
    ] {
        let (script, ours) = (script[kind].as_array().expect("sets"), ours[kind].as_array().expect("sets"));
        assert_eq!(script.len(), ours.len());
        for (script, ours) in script.iter().zip(ours) {
            for field in fields {
                assert_eq!(script[field], ours[field], "{field} of {}", ours["name"]);
            }
        }
    }
}
