//! What a comment or a page refers to is there: documents by their names, rules of SECURITY.md by their numbers.

use std::fs;
use std::path::{Path, PathBuf};

/// The project's own files with one of these extensions.
fn files(extensions: &[&str]) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut all, mut folders) = (Vec::new(), vec![root.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the project").filter_map(Result::ok) {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            let kind = entry.file_type().expect("it was listed");
            if kind.is_dir() && !name.starts_with('.') && name != "target" {
                folders.push(path);
            } else if kind.is_file() && path.extension().is_some_and(|ext| extensions.iter().any(|e| ext == *e)) {
                all.push(path);
            }
        }
    }
    assert!(all.len() > 3, "the project has files");
    all
}

/// The words of a text that end in `.md`, without what stands around them.
fn documents(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || "._-/".contains(c)))
        .map(|word| word.trim_end_matches(['.', '/']))
        .filter(|word| word.ends_with(".md") && word.len() > 3)
}

#[test]
fn every_document_that_a_comment_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut missing, mut found) = (Vec::new(), 0);
    for file in files(&["rs"]) {
        let text = fs::read_to_string(&file).expect("UTF-8");
        for (number, line) in text.lines().enumerate().filter(|(_, line)| line.trim_start().starts_with("//")) {
            for name in documents(line) {
                found += 1;
                let beside = file.ancestors().skip(1).take_while(|folder| folder.starts_with(root));
                if !beside.into_iter().any(|folder| folder.join(name).is_file()) {
                    missing.push(format!("{}:{}: {name}", file.display(), number + 1));
                }
            }
        }
    }
    assert!(found > 10, "comments name documents: {found}");
    assert!(missing.is_empty(), "no such file:\n{}", missing.join("\n"));
}

#[test]
fn every_crate_says_where_its_words_are() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // One has no words at all.
    let other = [root.join("tests"), root.join("python/features")];
    let is_crate =
        |file: &PathBuf| file.ends_with("src/lib.rs") && !other.iter().any(|folder| file.starts_with(folder));
    let crates: Vec<PathBuf> = files(&["rs"]).into_iter().filter(is_crate).collect();
    assert!(crates.len() >= 8, "{crates:?}");
    for page in crates.into_iter().chain([root.join("README.md")]) {
        let text = fs::read_to_string(&page).expect("UTF-8");
        assert!(text.contains("docs/words.md"), "{}", page.display());
    }
}

#[test]
fn every_link_of_a_page_leads_somewhere() {
    let mut missing = Vec::new();
    for file in files(&["md"]) {
        let text = fs::read_to_string(&file).expect("UTF-8");
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap_or_default();
            let outside = path.is_empty() || path.contains("://") || path.starts_with("mailto:");
            if !outside && !file.parent().expect("a file is in a folder").join(path).exists() {
                missing.push(format!("{}: {link}", file.display()));
            }
        }
    }
    assert!(missing.is_empty(), "links to nothing:\n{}", missing.join("\n"));
}

#[test]
fn rules_are_numbered_and_cited_by_numbers_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("SECURITY.md")).expect("UTF-8");
    let table = page.split("| | rule | enforced by |").nth(1).expect("the table of rules");
    let rules = table.lines().skip(2).take_while(|line| line.starts_with('|')).count();
    for (index, line) in table.lines().skip(2).take(rules).enumerate() {
        assert!(line.starts_with(&format!("| {} | ", index + 1)), "{line}");
    }
    let mut cited = 0;
    for file in files(&["rs"]) {
        let text = fs::read_to_string(&file).expect("UTF-8");
        for rest in text.split("SECURITY.md, rule ").skip(1) {
            let number: String = rest.chars().take_while(char::is_ascii_digit).collect();
            // This test names no number.
            let Ok(number) = number.parse::<usize>() else { continue };
            cited += 1;
            assert!((1..=rules).contains(&number), "{}: rule {number} of {rules}", file.display());
        }
    }
    assert!(cited >= 4, "rules are cited: {cited}");
}

#[test]
fn every_switch_is_in_the_table() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("CONTRIBUTING.md")).expect("UTF-8");
    let prefix = "\"LOWKEY_";
    let mut found = 0;
    for file in files(&["rs"]) {
        let text = fs::read_to_string(&file).expect("UTF-8");
        for rest in text.split(prefix).skip(1) {
            let Some((name, _)) = rest.split_once('"') else { continue };
            if !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c == '_') {
                found += 1;
                assert!(page.contains(&format!("LOWKEY_{name}")), "{}: LOWKEY_{name}", file.display());
            }
        }
    }
    assert!(found > 10, "switches are found: {found}");
}
