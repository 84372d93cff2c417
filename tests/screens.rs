//! What the command prints, screen by screen: `tests/screens/*.md` hold commands with what they print (standard output, then standard error)
//! and a line `? CODE` where they fail; `[..]` is any text within a line. `LOWKEY_BLESS=1 cargo test --test screens` writes what changed.

#[path = "common/command.rs"]
mod bare;

use std::fs;
use std::path::{Path, PathBuf};

/// A command is the first line of a block, behind this.
const PROMPT: &str = "```console\n$ lowkey";

fn screens() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/screens");
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// What a command prints, in the form of a block behind its first line.
fn run(arguments: &str, folder: &Path) -> String {
    let words: Vec<&str> = arguments.split_whitespace().collect();
    let mut command = bare::lowkey(&words);
    let output = command.env("LOWKEY_CACHE", folder).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    let code = output.status.code().expect("no signal ends it");
    let code = if code == 0 { String::new() } else { format!("? {code}\n") };
    let printed = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).expect("text"));
    format!("{code}{}", printed.concat())
}

/// Whether a line is of this form, in which `[..]` is any text.
fn matches(form: &str, line: &str) -> bool {
    let Some((start, form)) = form.split_once("[..]") else { return form == line };
    let Some(line) = line.strip_prefix(start) else { return false };
    let mut ends = line.char_indices().map(|(at, _)| at).chain([line.len()]);
    ends.any(|at| matches(form, &line[at..]))
}

/// What was printed, with the forms of before in the place of lines that still have them.
fn masked(forms: &str, printed: &str) -> String {
    let mut forms = forms.lines();
    let lines = printed.lines().map(|line| match forms.next() {
        Some(form) if matches(form, line) => form,
        _ => line,
    });
    lines.map(|line| format!("{line}\n")).collect()
}

/// A page whose commands were run.
fn page(before: &str, folder: &Path) -> String {
    let mut blocks = before.split(PROMPT);
    let mut after = blocks.next().unwrap_or_default().to_owned();
    for block in blocks {
        let (arguments, rest) = block.split_once('\n').expect("a command is a line");
        let (forms, rest) = rest.split_once("```\n").expect("a block ends");
        after += &format!("{PROMPT}{arguments}\n{}```\n{rest}", masked(forms, &run(arguments, folder)));
    }
    after
}

#[test]
fn screens_are_as_they_were() {
    let bless = std::env::var_os("LOWKEY_BLESS").is_some();
    let folder = tempfile::tempdir().unwrap();
    let mut commands = 0;
    for file in screens() {
        let before = fs::read_to_string(&file).unwrap();
        commands += before.matches(PROMPT).count();
        let after = page(&before, folder.path());
        if bless {
            fs::write(&file, after).unwrap();
            continue;
        }
        let changed = before.lines().zip(after.lines()).find(|(before, after)| before != after);
        assert!(before == after, "{}: {changed:#?}\nLOWKEY_BLESS=1 writes it", file.display());
    }
    assert!(commands > 40, "{commands}");
}

/// Tables, help and reports are laid out for a terminal of 80 columns. Errors, hints and notes are lines of their own, however long.
#[test]
fn screens_fit_80_columns() {
    for file in screens() {
        for line in fs::read_to_string(&file).unwrap().lines() {
            let free = ["$ ", "error: ", "hint: ", "note: "].iter().any(|start| line.starts_with(start));
            assert!(free || line.chars().count() <= 80, "{}: {line}", file.display());
        }
    }
}

#[test]
fn forms_are_matched() {
    assert!(matches("setup [..] ms  [..] flights", "setup  489 ms   sent 614 kB   11 flights"));
    assert!(
        matches("took [..] s", "took 1 s and 2 s")
            && matches("took [..]", "took 3 s")
            && matches("[..]", "")
            && matches("as it is", "as it is")
    );
    assert!(!matches("setup [..] ms", "setup 489 us") && !matches("took [..] s", "took 3 s, or more"));
    assert!(!matches("as it is", "as it is not") && !matches("a [..] b [..] c", "a 1 c 2 b"));
    assert_eq!(masked("a [..]\nb\n", "a 1\nc\nd\n"), "a [..]\nc\nd\n");
}
