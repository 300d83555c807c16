//! The walls between the rooms, held by a test because one package has no others.
//!
//! A room is `src/room.rs` (its door) and `src/room/` (its inside). Code may use only what stands to
//! the right of it in [`ARROWS`], and the floor.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What each room may use beside the floor. A new room gets a line here, and with it its place in the house.
const ARROWS: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    ("cli", &["app", "listen", "forward", "capture", "journal", "deliver", "lake", "console", "ingest", "inject"]),
    ("app", &["listen", "forward", "capture", "journal", "deliver", "lake", "console", "ingest", "inject"]),
    ("listen", &["forward", "capture", "journal"]),
    ("forward", &["capture", "journal"]),
    ("capture", &["journal"]),
    ("journal", &[]),
    ("deliver", &["journal", "lake"]),
    ("ingest", &["lake"]),
    ("console", &["lake"]),
    ("lake", &[]),
    ("inject", &[]),
    // The floor: everybody may stand on it. What telemetry counts, records name (`End`).
    ("telemetry", &[]),
    ("config", &[]),
    ("record", &[]),
    ("message", &[]),
];

/// Rooms that everybody may use, and what they may use of each other.
const FLOOR: &[(&str, &[&str])] =
    &[("telemetry", &["record"]), ("config", &[]), ("record", &[]), ("message", &["record"])];

/// Longest file, tests included, and longest function: what a reader can hold.
const LONGEST_FILE: usize = 600;
const LONGEST_FUNCTION: usize = 100;

struct Source {
    /// Below `src`, with `/`.
    name: String,
    text: String,
}

impl Source {
    /// `src/journal/frame.rs` is in the room `journal`.
    fn room(&self) -> &str {
        let first = self.name.split('/').next().unwrap_or_default();
        first.strip_suffix(".rs").unwrap_or(first)
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut all = Vec::new();
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("listed").path()).collect();
        paths.sort();
        for path in paths {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&root).expect("below src").to_string_lossy().replace('\\', "/");
                all.push(Source { name, text: fs::read_to_string(&path).expect("UTF-8") });
            }
        }
    }
    assert!(all.len() > 10, "the walk found only {} files", all.len());
    all
}

/// A line of code without its comment.
fn code(line: &str) -> &str {
    let line = line.trim_start();
    if line.starts_with("//") { "" } else { line.split(" // ").next().unwrap_or(line) }
}

/// The rooms that a line names: behind `crate::` (`daybook::` in main), alone or in braces, and behind `super::`.
fn used<'a>(line: &'a str, source: &Source, rooms: &BTreeSet<&str>, inside: &BTreeSet<String>) -> Vec<&'a str> {
    let start = if source.room() == "main" { "daybook::" } else { "crate::" };
    let mut found = Vec::new();
    for (at, _) in line.match_indices(start) {
        // `$crate::` and `daybook_crate::` are not ours.
        if line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &line[at + start.len()..];
        match rest.strip_prefix('{') {
            None => found.push(word(rest)),
            Some(group) => {
                found.extend(group.split('}').next().unwrap_or(group).split(',').map(|part| word(part.trim())))
            }
        }
    }
    // `super::journal` is the crate's room when this room has no `journal` of its own.
    for (at, _) in line.match_indices("super::") {
        let name = word(&line[at + "super::".len()..]);
        if rooms.contains(name) && !inside.contains(&format!("{}/{name}", source.room())) {
            found.push(name);
        }
    }
    found.retain(|name| rooms.contains(name));
    found
}

fn word(text: &str) -> &str {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default()
}

#[test]
fn arrows_between_rooms_run_one_way() {
    let sources = sources();
    let rooms: BTreeSet<&str> = ARROWS.iter().map(|(room, _)| *room).collect();
    let inside: BTreeSet<String> =
        sources.iter().filter_map(|s| Some(s.name.strip_suffix(".rs")?.to_owned())).collect();
    let mut wrong = Vec::new();
    for source in sources.iter().filter(|source| source.name != "lib.rs") {
        let room = source.room();
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == room) else {
            wrong.push(format!("src/{}: the room `{room}` has no line in ARROWS", source.name));
            continue;
        };
        let on_floor = FLOOR.iter().find(|(name, _)| *name == room).map(|(_, floor)| *floor);
        let floor: Vec<&str> = on_floor.map_or_else(|| FLOOR.iter().map(|(name, _)| *name).collect(), <[_]>::to_vec);
        for (number, line) in source.text.lines().enumerate() {
            for name in used(code(line), source, &rooms, &inside) {
                if name != room && !allowed.contains(&name) && !floor.contains(&name) {
                    wrong.push(format!(
                        "src/{}:{}: {room} → {name} is no arrow; {room} may use {:?} and of the floor {floor:?}",
                        source.name,
                        number + 1,
                        allowed
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that run the wrong way:\n{}", wrong.join("\n"));
}

#[test]
fn the_arrows_test_sees_what_it_should() {
    let source = |name: &str| Source { name: name.to_owned(), text: String::new() };
    let rooms: BTreeSet<&str> = ARROWS.iter().map(|(room, _)| *room).collect();
    let inside = BTreeSet::from(["config/journal".to_owned()]);
    let look = |file: &str, line| used(code(line), &source(file), &rooms, &inside);
    assert_eq!(look("journal/frame.rs", "use crate::capture::Policy;"), ["capture"]);
    assert_eq!(look("journal.rs", "use crate::{capture::Policy, record, other};"), ["capture", "record"]);
    assert_eq!(
        look("journal.rs", "let x = f(crate::listen::Y) + crate::deliver::Z; // crate::app"),
        ["listen", "deliver"]
    );
    assert_eq!(look("journal.rs", "/// See crate::capture."), [""; 0]);
    assert_eq!(look("journal.rs", "use super::capture::Policy;"), ["capture"]);
    assert_eq!(look("config/listener.rs", "use super::journal::Sync;"), [""; 0], "its own module");
    assert_eq!(look("main.rs", "daybook::cli::run()"), ["cli"]);
}

#[test]
fn arrows_have_no_circle() {
    let uses = |room: &str| ARROWS.iter().find(|(name, _)| *name == room).map_or(&[][..], |(_, uses)| uses);
    for (room, _) in ARROWS {
        let (mut seen, mut open) = (BTreeSet::new(), uses(room).to_vec());
        while let Some(next) = open.pop() {
            assert_ne!(next, *room, "`{room}` reaches itself");
            if seen.insert(next) {
                open.extend(uses(next));
            }
        }
    }
}

#[test]
fn files_are_short_enough_to_read() {
    let long: Vec<String> = sources()
        .iter()
        .map(|source| (source.text.lines().count(), &source.name))
        .filter(|(lines, _)| *lines > LONGEST_FILE)
        .map(|(lines, name)| format!("src/{name} has {lines} lines"))
        .collect();
    assert!(long.is_empty(), "over {LONGEST_FILE} lines; a file that long holds two thoughts:\n{}", long.join("\n"));
}

#[test]
fn functions_can_be_seen_whole() {
    let mut long = Vec::new();
    for source in sources() {
        for (name, line, length) in functions(&source.text) {
            if length > LONGEST_FUNCTION {
                long.push(format!("src/{}:{line}: `{name}` has {length} lines", source.name));
            }
        }
    }
    assert!(long.is_empty(), "over {LONGEST_FUNCTION} lines:\n{}", long.join("\n"));
}

/// Name, first line and length of each function, by rustfmt's indentation: it ends at the first line
/// that closes a brace (or the declaration) at the same depth.
fn functions(text: &str) -> Vec<(String, usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let depth = |line: &str| line.len() - line.trim_start().len();
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some(name) = function_name(code(line)) else { continue };
        let one_line = line.ends_with(';') || line.ends_with('}');
        let end = lines[index + 1..].iter().position(|next| {
            let closes =
                next.trim_start().starts_with('}') || (next.trim_start().starts_with(')') && next.ends_with(';'));
            depth(next) == depth(line) && closes
        });
        let length = if one_line { 1 } else { end.map_or(1, |end| end + 2) };
        found.push((name.to_owned(), index + 1, length));
    }
    found
}

/// The name behind `fn`, where a function begins.
fn function_name(line: &str) -> Option<&str> {
    let (before, after) = line.split_once("fn ").filter(|(before, _)| before.is_empty() || before.ends_with(' '))?;
    let modifiers = ["pub", "pub(crate)", "pub(super)", "const", "async", "unsafe", "extern", "\"C\"", "default"];
    before.split_whitespace().all(|word| modifiers.contains(&word)).then(|| word(after))
}

#[test]
fn functions_are_measured_from_their_name_to_their_brace() {
    let text = "pub async fn a(\n    x: u8,\n) -> u8 {\n    if x {\n    }\n    x\n}\n\nimpl B {\n    fn c(&self);\n    const fn d() {}\n    // fn e() {\n}\n";
    assert_eq!(functions(text), [("a".to_owned(), 1, 7), ("c".to_owned(), 10, 1), ("d".to_owned(), 11, 1)]);
}

#[test]
fn every_file_begins_with_what_it_is_for() {
    let silent: Vec<String> = sources()
        .iter()
        .filter(|source| !source.text.starts_with("//! "))
        .map(|source| format!("src/{}", source.name))
        .collect();
    assert!(silent.is_empty(), "no module doc (`//! …` in the first line):\n{}", silent.join("\n"));
}

#[test]
fn rooms_have_doors_and_no_mod_rs() {
    let sources = sources();
    let names: BTreeSet<&str> = sources.iter().map(|source| source.name.as_str()).collect();
    for name in &names {
        assert!(!name.ends_with("mod.rs"), "src/{name}: a folder's door is the file beside it");
        if let Some((folder, _)) = name.rsplit_once('/') {
            assert!(names.contains(format!("{folder}.rs").as_str()), "src/{folder}/ has no door src/{folder}.rs");
        }
    }
}
