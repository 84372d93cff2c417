//! Help, completions, manual pages, the list of bundled models, comparisons of widths.

use super::*;

/// The subcommands, as the help names them.
fn commands() -> Vec<String> {
    let help = lowkey(&["--help"]).prints();
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = lines.take_while(|line| !line.is_empty()).filter(|line| !line.starts_with("   "));
    let names: Vec<String> = names.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect();
    assert!(names.len() > 10, "{help}");
    names.into_iter().filter(|name| name != "help").collect()
}

#[test]
fn every_command_has_examples_and_exit_codes() {
    let further =
        ["key show", "key rotate", "guard list", "guard pardon", "bench widths", "bench serve"].map(str::to_owned);
    for command in commands().into_iter().chain(further) {
        let words: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        let help = lowkey(&words).prints();
        fits(&help);
        let examples: Vec<&str> =
            help.lines().skip_while(|line| *line != "Examples:").skip(1).take_while(|line| !line.is_empty()).collect();
        // A line that is too long goes on in the next.
        let whole = |line: &&str| line.starts_with("  lowkey ") || line.starts_with("  LOWKEY_");
        assert!(!examples.is_empty() && examples.iter().all(whole), "{command}: {help}");
        assert!(examples.iter().any(|line| line.contains(&format!("lowkey {command}"))), "{command}: {help}");
        assert!(help.contains("Exit codes:\n  0 success;"), "{command}: {help}");
        assert!(!help.contains("[default: \"\"]") && !help.contains("LOWKEY_STATE="), "{command}: {help}");
    }
}

#[test]
fn completions_and_manual_pages() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = lowkey(&["completions", shell]).prints();
        assert!(script.contains("lowkey") && script.contains("forget"), "{shell}");
    }
    let wrong = lowkey(&["completions", "tcsh"]);
    assert_eq!(wrong.code, Some(2));
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man/man1");
    lowkey(&["man", text(&pages)]).prints();
    for command in commands() {
        let page = std::fs::read_to_string(pages.join(format!("lowkey-{command}.1"))).unwrap();
        assert!(page.contains(".SH") && page.contains("Exit codes"), "{command}");
    }
    assert!(pages.join("lowkey.1").exists());
    let file = files::write(folder.path(), "file", b"");
    lowkey(&["man", text(&file.join("man"))]).fails(2, "file", "path");
}

#[test]
fn the_bundled_models() {
    let records = lowkey(&["models", "--json"]).records();
    let names: Vec<&str> = records.iter().map(|record| record["name"].as_str().unwrap()).collect();
    assert!(names.iter().eq(zoo::ALL.iter().map(|bundled| &bundled.name)));
    let digits = &records[0];
    let expected = "name input input_bits accuracy images file_bytes activations offline_bytes online_bytes flights \
                    images_bundled";
    assert_eq!(keys(digits), named(expected));
    assert_eq!((&digits["input"], &digits["images"]), (&serde_json::json!([1, 8, 8]), &360.into()));
    let plan = &lowkey(&["plan", "digits", "--json"]).records()[0]["total"];
    for key in ["activations", "offline_bytes", "online_bytes", "flights"] {
        assert_eq!(digits[key], plan[key], "{key}");
    }
    let said = lowkey(&["models"]).prints();
    fits(&said);
    assert!(names.iter().all(|name| said.contains(&format!("\n{name} "))), "{said}");
}

#[test]
fn widths_compared() {
    // A family of the zoo, with its accuracies.
    let family = ["plan", "mnist-cryptonets-w4a4", "--compare", "2,4,8"];
    let rows = lowkey(&[&family[..], &["--json"]].concat()).records();
    let bits: Vec<u64> = rows.iter().map(|row| row["bits"].as_u64().unwrap()).collect();
    assert_eq!(bits, [2, 4, 8]);
    let online: Vec<u64> = rows.iter().map(|row| row["total"]["online_bytes"].as_u64().unwrap()).collect();
    assert!(online.is_sorted() && online[0] < online[2], "{online:?}");
    let own = &lowkey(&["plan", "mnist-cryptonets-w4a4", "--json"]).records()[0];
    assert_eq!((&rows[1]["total"], &rows[1]["given"]), (&own["total"], &true.into()));
    assert_eq!(rows[1]["accuracy"], 98.75);
    let said = lowkey(&family).prints();
    fits(&said);
    assert!(said.contains("mnist-cryptonets-w4a4 *"), "{said}");
    lowkey(&["plan", "cifar10-resnet20-w4a4", "--compare", "8,2"]).fails(
        2,
        "cifar10-resnet20-w8a8",
        "there are: cifar10-resnet20-w2a2",
    );

    // The same layers, where there is no family.
    let rows = lowkey(&["plan", "digits", "--compare", "2,4,8", "--json"]).records();
    let online: Vec<u64> = rows.iter().map(|row| row["total"]["online_bytes"].as_u64().unwrap()).collect();
    let own = &lowkey(&["plan", "digits", "--json"]).records()[0];
    assert_eq!(rows[1]["total"], own["total"]);
    assert!(online.is_sorted() && online[0] < online[2], "{online:?}");
    let wrong = lowkey(&["plan", "digits", "--compare", "9"]);
    assert_eq!(wrong.code, Some(2));
}

/// The pictures of the README are what the command draws today.
#[test]
fn the_pictures_are_of_this_planner() {
    let folder = tempfile::tempdir().unwrap();
    for (name, more, kept) in [
        ("bytes.svg", &[][..], include_str!("../../docs/bytes.svg")),
        ("choose.svg", &["--cheaper", "benches/results/choice/networks.json"], include_str!("../../docs/choose.svg")),
    ] {
        let file = folder.path().join(name);
        lowkey(&[&["models", "--plot", text(&file)], more].concat()).prints();
        let drawn = std::fs::read_to_string(&file).unwrap();
        assert!(drawn == kept, "`lowkey models --plot docs/{name}` {more:?} draws it anew: look at it, and commit it");
    }
    let wrong = folder.path().join("wrong.json");
    for (record, said) in [
        ("[", "EOF"),
        (r#"[{"from": "none", "link": "lan", "way": "coins", "bytes": 1, "right": 1, "images": 1}]"#, "is not bundled"),
    ] {
        std::fs::write(&wrong, record).unwrap();
        let file = folder.path().join("none.svg");
        lowkey(&["models", "--plot", text(&file), "--cheaper", text(&wrong)]).fails(2, said, "benches/results/choice");
    }
}

/// A study's pictures can be drawn again of what it measured.
#[test]
fn pictures_of_an_earlier_study() {
    let folder = tempfile::tempdir().unwrap();
    let out = ["bench", "widths", "--redraw", "--out", text(folder.path())];
    lowkey(&out).fails(2, "widths.json", "");
    std::fs::write(folder.path().join("widths.json"), "[{}]").unwrap();
    lowkey(&out).fails(2, "is no file of this command", "without --redraw");
    std::fs::copy("benches/results/mnist/widths.json", folder.path().join("widths.json")).unwrap();
    assert_eq!(lowkey(&out).code, Some(0));
    for name in ["bytes", "time", "stages", "parameters"] {
        let svg = std::fs::read_to_string(folder.path().join(format!("{name}.svg"))).unwrap();
        assert!(svg.contains("MNIST, MiniONN") && svg.ends_with("</svg>\n"), "{name}");
    }
}
