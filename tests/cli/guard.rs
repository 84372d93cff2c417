//! Who is shut out of the guarded mode, as the operator sees and changes it.

use lowkey::store::{Offence, Shut, SlotPart, Store};

use super::*;

/// A state folder in which these are shut out.
fn shut_out(names: &[(&str, Offence)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(Some(folder.path().into())).unwrap();
    let since = std::time::UNIX_EPOCH + Duration::from_secs(1_790_000_000);
    for (name, offence) in names {
        store.change_offences(|all| all.shut_out(name, Shut::new(offence.clone(), since))).unwrap();
    }
    folder
}

#[test]
fn listed_and_pardoned() {
    let bodies = SlotPart::Bodies { node: "conv1".into(), term: 0 };
    let folder = shut_out(&[("mallory", Offence::Differs(bodies)), ("alice", Offence::Unanswered)]);
    let at = ["--state", text(folder.path())];
    let list = || lowkey(&[&["guard", "list"], &at[..]].concat());
    let records = || lowkey(&[&["guard", "list", "--json"], &at[..]].concat()).records();
    let said = list().prints();
    fits(&said);
    assert!(said.contains("2026-09-21") && said.contains("an audit was not answered"), "{said}");
    assert!(said.contains("the bodies of \"conv1\", term 0, are not those of the seed"), "{said}");
    let [alice, mallory] = &records()[..] else { panic!("two are listed") };
    assert_eq!(keys(alice), named("name shut_out since offence why pardons"));
    assert_eq!(
        (&alice["name"], &alice["offence"], &alice["pardons"]),
        (&"alice".into(), &"unanswered".into(), &0.into())
    );
    assert_eq!((&mallory["offence"], &mallory["shut_out"]), (&"bodies".into(), &true.into()));

    let pardon = |name: &str, more: &[&str]| lowkey(&[&["guard", "pardon", name], &at[..], more].concat());
    assert_eq!(pardon("alice", &[]).prints(), "pardoned alice\n");
    pardon("alice", &[]).fails(2, "\"alice\" is not shut out", "lowkey guard list");
    pardon("bob", &["--json"]).fails(2, "\"bob\" is not shut out", "lowkey guard list");
    let pardoned = pardon("mallory", &["--json"]).records().remove(0);
    assert_eq!((&pardoned["shut_out"], &pardoned["pardons"]), (&false.into(), &1.into()));
    assert!(list().prints().starts_with("nobody is shut out\n"));
    assert_eq!(records().iter().map(|one| &one["pardons"]).collect::<Vec<_>>(), [&1, &1]);
}

#[test]
fn nobody_and_a_damaged_record() {
    let folder = tempfile::tempdir().unwrap();
    let at = ["--state", text(folder.path())];
    let run = |words: &[&str]| lowkey(&[&["guard"], words, &at].concat());
    assert_eq!(run(&["list"]).prints(), "nobody is shut out\n");
    assert!(run(&["list", "--json"]).records().is_empty());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "to look makes nothing");
    let file = files::write(folder.path(), "guard.json", b"{\"version\": 1}");
    for words in [&["list"][..], &["pardon", "alice"]] {
        run(words).fails(2, "not a record of who is shut out", "put a copy in its place");
        assert!(file.exists());
    }
    assert_eq!(run(&["list", "more"]).code, Some(2));
}
