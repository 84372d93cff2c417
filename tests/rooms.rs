//! Which folder may use which: the table of `mpc/src/lib.rs` holds, and no crate has a circle of modules.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The folders of mpc, lowest first: each uses those before it and no other.
const MPC: [&str; 11] = [
    "party",
    "error",
    "primitive",
    "transport",
    "correlation",
    "spec",
    "program",
    "gadget",
    "protocol",
    "guard",
    "fixed",
];
/// The one on top of them.
const MPC_TOP: &str = "layout";

/// Commands of the command line that a text may name without marks.
const COMMANDS: [&str; 15] = [
    "demo",
    "import",
    "quantise",
    "distort",
    "optimise",
    "serve",
    "infer",
    "train",
    "forget",
    "models",
    "plan",
    "parameters",
    "eval",
    "key",
    "bench",
];

/// All sources below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of the project") {
        let path = entry.expect("it was listed").path();
        if path.is_dir() {
            all.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all.push(path);
        }
    }
    all
}

/// A source without comments and without its tests, which may use anything.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("UTF-8");
    let lines = text.lines().take_while(|line| *line != "mod tests {");
    lines.filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n")).collect()
}

/// True for files that only tests compile.
fn is_test(path: &Path) -> bool {
    path.iter().any(|part| {
        let part = part.to_string_lossy();
        part.ends_with("tests.rs") || ["tests", "testing.rs", "ideal.rs"].contains(&&*part)
    })
}

/// The names behind `prefix` in a source; of `prefix{a::b, c}` both a and c.
fn named(text: &str, prefix: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for rest in text.split(prefix).skip(1) {
        let list = match rest.strip_prefix('{') {
            Some(list) => top_level(list),
            None => vec![rest],
        };
        names.extend(list.into_iter().map(|item| {
            let item = item.trim_start();
            item.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
        }));
    }
    names
}

/// The items of a list in braces, up to its end.
fn top_level(list: &str) -> Vec<&str> {
    let (mut items, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            ',' if depth == 0 => {
                items.push(&list[start..at]);
                start = at + 1;
            }
            '}' if depth == 0 => {
                items.push(&list[start..at]);
                break;
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    items
}

/// A path, and the name by which a `use` makes it known.
type Named<'a> = (Vec<&'a str>, &'a str);

/// The paths of an item of a `use`, or of a path in the code: of `a::{b, c::d as e}` a::b by its own name and a::c::d as e.
fn expand<'a>(text: &'a str, mut path: Vec<&'a str>, all: &mut Vec<Named<'a>>) {
    let text = text.trim_start();
    let (first, rest) = word(text);
    path.push(first);
    match rest.strip_prefix("::") {
        Some(rest) if rest.starts_with('{') => {
            top_level(&rest[1..]).into_iter().for_each(|item| expand(item, path.clone(), all));
        }
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_alphabetic()) => expand(rest, path, all),
        _ => {
            let name = rest.strip_prefix(" as ").map_or(first, |rest| word(rest).0);
            all.push((path, name));
        }
    }
}

/// The name that a text begins with, and what follows it.
fn word(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len()))
}

/// All paths of a source that begin in its own crate.
fn paths(code: &str) -> Vec<Vec<&str>> {
    let mut all = Vec::new();
    for root in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(root) {
            // `super::super::` is one path, and begins at the first.
            if !code[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':') {
                expand(&code[at..], Vec::new(), &mut all);
            }
        }
    }
    all.into_iter().map(|(path, _)| path).collect()
}

/// What a source makes known by `use`, to whoever can see it and to the modules below.
fn made_known(code: &str) -> Vec<Named<'_>> {
    let mut all = Vec::new();
    for (at, _) in code.match_indices("use ") {
        let before = code[..at].rsplit('\n').next().unwrap_or("").trim();
        if before.is_empty() || before == "pub" || (before.starts_with("pub(") && before.ends_with(')')) {
            expand(&code[at + "use ".len()..], Vec::new(), &mut all);
        }
    }
    all
}

/// The module of a file below the root of a crate, from the top.
fn module_of(root: &Path, path: &Path) -> Vec<String> {
    let inside = path.strip_prefix(root).expect("it is below").with_extension("");
    let mut names: Vec<String> = inside.iter().map(|name| name.to_string_lossy().into_owned()).collect();
    names.pop_if(|name| ["lib", "main", "mod"].contains(&name.as_str()));
    names
}

/// The modules of a crate, each with what it makes known by `use`: by name, where that is from.
type Modules = BTreeMap<Vec<String>, BTreeMap<String, Vec<String>>>;

/// The module that a path of module `from` leads to: where the item itself is, if a module on the way only makes it known.
fn resolve(modules: &Modules, from: &[String], path: &[impl AsRef<str>]) -> Vec<String> {
    // A name that is made known from elsewhere, again and again, is not followed for ever.
    resolve_within(modules, from, path, 8)
}

fn resolve_within(modules: &Modules, from: &[String], path: &[impl AsRef<str>], steps: usize) -> Vec<String> {
    let mut module = from.to_vec();
    for (at, name) in path.iter().enumerate() {
        match name.as_ref() {
            "crate" => module.clear(),
            "self" => {}
            "super" => drop(module.pop()),
            name => {
                module.push(name.to_owned());
                if !modules.contains_key(&module) {
                    module.pop();
                    let known = modules.get(&module).and_then(|known| known.get(name));
                    return match known {
                        Some(known) if steps > 0 => {
                            let rest = path[at + 1..].iter().map(|name| name.as_ref().to_owned());
                            let whole: Vec<String> = known.iter().cloned().chain(rest).collect();
                            resolve_within(modules, &module, &whole, steps - 1)
                        }
                        _ => module,
                    };
                }
            }
        }
    }
    module
}

/// What a module makes known of its own crate: by paths from the root, from itself, or through a module below it.
fn known_of(modules: &BTreeSet<Vec<String>>, own: &[String], code: &str) -> BTreeMap<String, Vec<String>> {
    let ours = |path: &[&str]| {
        ["crate", "super", "self"].contains(&path[0]) || modules.contains(&[own, &[path[0].to_owned()]].concat())
    };
    let all = made_known(code).into_iter().filter(|(path, name)| ours(path) && !["_", "self"].contains(name));
    all.map(|(path, name)| (name.to_owned(), path.into_iter().map(str::to_owned).collect())).collect()
}

/// Which module of a crate uses which, tests apart.
fn uses(root: &Path) -> BTreeMap<Vec<String>, BTreeSet<Vec<String>>> {
    let files = sources(root).into_iter().filter(|path| !is_test(path));
    let texts: BTreeMap<Vec<String>, String> = files.map(|path| (module_of(root, &path), code(&path))).collect();
    let names: BTreeSet<Vec<String>> = texts.keys().cloned().collect();
    let modules: Modules = texts.iter().map(|(own, text)| (own.clone(), known_of(&names, own, text))).collect();
    let uses = texts.iter().map(|(own, text)| {
        let others = paths(text).iter().map(|path| resolve(&modules, own, path)).collect();
        (own.clone(), others)
    });
    uses.collect()
}

/// The same of what lies in one folder: each file, or folder, with all that is below it.
fn within(
    uses: &BTreeMap<Vec<String>, BTreeSet<Vec<String>>>,
    folder: &[String],
) -> BTreeMap<String, BTreeSet<String>> {
    let below = |module: &[String]| module.strip_prefix(folder).and_then(|rest| rest.first()).cloned();
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (module, others) in uses {
        if let Some(own) = below(module) {
            let others = others.iter().filter_map(|other| below(other)).filter(|other| *other != own);
            all.entry(own.clone()).or_default().extend(others);
        }
    }
    all
}

/// The modules that reach each other, in groups.
fn circles(uses: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<Vec<String>> {
    let reach = |from: &String| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from.clone()]);
        while let Some(name) = open.pop() {
            for next in uses.get(&name).into_iter().flatten() {
                if seen.insert(next.clone()) {
                    open.push(next.clone());
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&String, BTreeSet<String>> = uses.keys().map(|name| (name, reach(name))).collect();
    let group = |name: &String| {
        let mutual = reached[name].iter().filter(|other| reached.get(other).is_some_and(|back| back.contains(name)));
        mutual.cloned().collect::<Vec<String>>()
    };
    uses.keys().map(group).filter(|group| group.len() > 1).collect()
}

#[test]
fn folders_of_mpc_use_only_what_stands_above_them_in_the_table() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("mpc/src");
    let order: Vec<&str> = MPC.into_iter().chain([MPC_TOP]).collect();
    let place = |name: &str| order.iter().position(|known| *known == name);
    let mut wrong = Vec::new();
    for path in sources(&root).into_iter().filter(|path| !is_test(path) && !path.ends_with("lib.rs")) {
        let first = path.strip_prefix(&root).expect("it is below").iter().next().expect("it has a name");
        let name = first.to_string_lossy().trim_end_matches(".rs").to_owned();
        let own = place(&name).unwrap_or_else(|| panic!("{name} is not in the table"));
        for other in named(&code(&path), "crate::") {
            // `error` names the parties, and nothing else may be used that is not a folder of the table.
            if place(&other).is_none_or(|place| place > own) {
                wrong.push(format!("{}: crate::{other}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "these look up:\n{}", wrong.join("\n"));
}

/// At the top, and in every folder.
#[test]
fn no_crate_has_a_circle_of_modules() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = BTreeSet::new();
    for (room, fewest) in [("he/src", 1), ("mpc/src", 10), ("bridge/src", 4), ("models/src", 8), ("src", 15)] {
        let uses = uses(&top.join(room));
        let folders: BTreeSet<&[String]> =
            uses.keys().flat_map(|module| (0..module.len()).map(|depth| &module[..depth])).collect();
        assert!(folders.len() >= fewest, "{room} has {} folders", folders.len());
        for folder in folders {
            let circles = circles(&within(&uses, folder));
            found.extend(circles.into_iter().map(|circle| (room, folder.join("::"), circle)));
        }
    }
    assert!(found.is_empty(), "circles: {found:#?}");
}

/// Whoever looks for a room finds it: all that lies at the top of the library is named on the map.
#[test]
fn the_map_has_every_room() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let map = fs::read_to_string(top.join("ARCHITECTURE.md")).expect("UTF-8");
    // Within code marks.
    let named: BTreeSet<&str> = map
        .split('`')
        .skip(1)
        .step_by(2)
        .map(|path| path.strip_prefix("src/").unwrap_or(path))
        .filter_map(|path| path.split('/').next())
        .map(|name| name.trim_end_matches(".rs"))
        .collect();
    let rooms: BTreeSet<String> = sources(&top.join("src"))
        .iter()
        .filter_map(|path| module_of(&top.join("src"), path).into_iter().next())
        .collect();
    let missing: Vec<&String> = rooms.iter().filter(|room| !named.contains(room.as_str())).collect();
    assert!(rooms.len() > 30 && missing.is_empty(), "of {} rooms the map misses {missing:?}", rooms.len());
}

/// What stands between quotation marks in a source without comments.
fn strings(code: &str) -> Vec<String> {
    let (mut strings, mut rest) = (Vec::new(), code.char_indices().peekable());
    while let Some((at, c)) = rest.next() {
        match c {
            // A character, or the name of a lifetime, which ends without another mark.
            '\'' => {
                let quoted = &code[at + 1..];
                let length = if quoted.starts_with('\\') {
                    quoted[2..].find('\'').map(|end| end + 2)
                } else {
                    quoted.chars().next().map(char::len_utf8)
                };
                if let Some(end) = length.filter(|end| quoted[*end..].starts_with('\'')) {
                    while rest.next_if(|(next, _)| *next <= at + 1 + end).is_some() {}
                }
            }
            '"' => {
                let marks = code[..at].len() - code[..at].trim_end_matches('#').len();
                let raw = code[..at - marks].ends_with('r');
                let end = if raw { format!("\"{}", "#".repeat(marks)) } else { "\"".to_owned() };
                let mut string = String::new();
                while let Some((next, c)) = rest.next() {
                    if code[next..].starts_with(&end) {
                        for _ in 1..end.len() {
                            rest.next();
                        }
                        break;
                    }
                    string.push(c);
                    if c == '\\' && !raw {
                        string.extend(rest.next().map(|(_, c)| c));
                    }
                }
                strings.push(string);
            }
            _ => {}
        }
    }
    strings
}

/// True if a text speaks of a switch or of a command of the command line.
fn names_a_switch(text: &str) -> bool {
    let switch = text.split("--").skip(1).any(|rest| rest.starts_with(|c: char| c.is_ascii_alphabetic()));
    // A command is a name behind `lowkey`, as its folder of subcommands has them.
    let command = text.split("lowkey ").skip(1).any(|rest| COMMANDS.contains(&word(rest).0));
    switch || command || text.contains("`lowkey ")
}

/// Whoever links the library has neither switches nor commands: what to do is said in its terms, and by the command in its own.
#[test]
fn the_library_names_no_switch() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut seen, mut wrong) = (0, Vec::new());
    let rooms = ["src", "models/src", "bridge/src", "mpc/src", "he/src"];
    let all = rooms.iter().flat_map(|room| sources(&top.join(room)));
    for path in all.filter(|path| !is_test(path)) {
        let named: Vec<String> = strings(&code(&path)).into_iter().filter(|text| names_a_switch(text)).collect();
        if path.starts_with(top.join("src/cli")) {
            seen += named.len();
        } else {
            wrong.extend(named.into_iter().map(|text| format!("{}: {text}", path.display())));
        }
    }
    assert!(seen > 30, "the command names {seen}");
    assert!(wrong.is_empty(), "advice for the command line:\n{}", wrong.join("\n"));
}

#[test]
fn strings_are_found() {
    let code = r##"f("a --b", 'c', '"', '\'', b"d\"e"); fn g<'a>(x: &'a str) { r#"h "i" --j"#; r"k\"; }"##;
    assert_eq!(strings(code), ["a --b", "d\\\"e", "h \"i\" --j", "k\\"]);
    assert!(names_a_switch("give --pin HASH") && names_a_switch("see `lowkey plan`"));
    assert!(names_a_switch("lowkey quantise does") && !names_a_switch("the same version of lowkey at both ends"));
    assert!(!names_a_switch("a -- b") && !names_a_switch("-----BEGIN"));
}

#[test]
fn circles_are_found() {
    let uses = |pairs: &[(&str, &[&str])]| -> BTreeMap<String, BTreeSet<String>> {
        let row = |(name, others): &(&str, &[&str])| {
            ((*name).to_owned(), others.iter().map(|other| (*other).to_owned()).collect())
        };
        pairs.iter().map(row).collect()
    };
    let chain = uses(&[("a", &["b"]), ("b", &["c"]), ("c", &[])]);
    assert!(circles(&chain).is_empty());
    let circle = uses(&[("a", &["b"]), ("b", &["c"]), ("c", &["a"]), ("d", &["a"])]);
    assert_eq!(circles(&circle), BTreeSet::from([["a", "b", "c"].map(str::to_owned).to_vec()]));
    let names = named("use crate::{a::{x, y}, b};\nuse crate::c::z;", "crate::");
    assert_eq!(names, BTreeSet::from(["a", "b", "c"].map(str::to_owned)));

    let code = "use super::super::a::{b, c::{D, self}};\nuse crate::e;\nf(self::g::h, x::super_::y)";
    let strings = |path: &str| path.split("::").map(str::to_owned).collect::<Vec<String>>();
    assert_eq!(
        paths(code),
        [
            vec!["crate", "e"],
            vec!["super", "super", "a", "b"],
            vec!["super", "super", "a", "c", "D"],
            vec!["super", "super", "a", "c", "self"],
            vec!["self", "g", "h"],
        ]
    );
    let names = BTreeSet::from(["a", "a::c", "x", "x::y", "x::y::g", "e"].map(strings));
    // x makes known what is e's, and what is g's by another name.
    let known = "mod y;\npub(crate) use y::{h::{self, I}, g::J as K};\nuse crate::e::L;\nuse std::fmt;";
    let known_of_x = known_of(&names, &strings("x"), known);
    assert_eq!(known_of_x.keys().collect::<Vec<_>>(), ["I", "K", "L"]);
    let modules: Modules = names.iter().map(|name| (name.clone(), BTreeMap::new())).collect();
    let modules: Modules = modules.into_iter().chain([(strings("x"), known_of_x)]).collect();
    let from = strings("x::y");
    let at = |path: &str| resolve(&modules, &from, &path.split("::").collect::<Vec<_>>()).join("::");
    let found: Vec<String> = paths(code).iter().map(|path| resolve(&modules, &from, path).join("::")).collect();
    assert_eq!(found, ["e", "a", "a::c", "a::c", "x::y::g"]);
    assert_eq!(["super::K", "super::L", "crate::x::I", "super::M"].map(at), ["x::y::g", "e", "x::y", "x"]);
    let uses = BTreeMap::from([
        (strings("x::y"), BTreeSet::from([strings("x::z"), strings("e")])),
        (strings("x::z::w"), BTreeSet::from([strings("x::y::g")])),
    ]);
    assert_eq!(circles(&within(&uses, &strings("x"))), BTreeSet::from([strings("y::z")]));
    assert!(circles(&within(&uses, &[])).is_empty());
}

/// The command is compiled with the library, and still is a user of it.
#[test]
fn the_command_uses_what_a_users_crate_could_use() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let library = code(&root.join("lib.rs"));
    let private: BTreeSet<String> = library
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("mod ")?.strip_suffix(';'))
        .map(str::to_owned)
        .collect();
    assert!(private.contains("offline") && private.contains("cli"));
    for path in sources(&root.join("cli")) {
        let text = code(&path);
        let inner: Vec<String> = named(&text, "lowkey::").intersection(&private).cloned().collect();
        assert!(inner.is_empty(), "{} uses {inner:?}, which are not public", path.display());
        let own = named(&text, "crate::");
        assert!(own.iter().all(|name| name == "cli"), "{} uses {own:?} of the library's inside", path.display());
    }
}
