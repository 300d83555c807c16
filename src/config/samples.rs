//! `config/*.toml`, held to the program: the samples load, and `full.toml` has every key with its default.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::{Config, FileSettings, JwtSettings, KafkaSettings, ListenerSettings, phrase};

/// The key that no table knows: tables answer it with the keys they do know.
const NO_KEY: &str = "no-such-key";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config")
}

fn read(name: &str) -> String {
    let path = folder().join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// `full.toml` with the settings that are off switched on.
fn switched_on() -> String {
    let on = |line: &str| match line.strip_prefix('#') {
        Some(setting) if !setting.starts_with(' ') && !setting.is_empty() => setting.to_owned(),
        _ => line.to_owned(),
    };
    read("full.toml").lines().map(|line| on(line) + "\n").collect()
}

fn table(settings: &impl serde::Serialize) -> Table {
    Table::try_from(settings).expect("settings are tables")
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("config/ is there") {
        let path = entry.expect("listed").path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "toml") {
            found.push(path);
        }
    }
}

#[test]
fn every_sample_can_be_used_and_nothing_in_it_is_doubtful() {
    let mut found = Vec::new();
    files(&folder(), &mut found);
    assert!(found.len() >= 2, "config/ has {} samples", found.len());
    for path in found {
        let text = std::fs::read_to_string(&path).expect("UTF-8");
        let loaded = Config::parse(&text, &path).unwrap_or_else(|complaints| panic!("{complaints}"));
        // What a sample shows may be something else than sinks.
        let doubtful: Vec<_> = loaded.warnings.iter().filter(|one| !one.message().contains("no sink")).collect();
        assert!(doubtful.is_empty(), "{}", loaded.warnings);
    }
}

#[test]
fn full_toml_says_what_the_defaults_are() {
    let config = Config::parse(&read("full.toml"), "full.toml").unwrap_or_else(|c| panic!("{c}")).config;
    let mut defaults = Config::default();
    let panel = &config.listener["panel"];
    let required = format!("bind = \"{}\"\nupstream = \"{}\"\n", panel.bind, panel.upstream);
    let listener: ListenerSettings = toml::from_str(&required).expect("all else has defaults");
    defaults.listener.insert("panel".to_owned(), listener);
    let (written, meant) = (toml::to_string_pretty(&config), toml::to_string_pretty(&defaults));
    assert_eq!(
        written.expect("TOML"),
        meant.expect("TOML"),
        "config/full.toml (left) is not what the program does (right)"
    );
}

#[test]
fn settings_that_are_off_say_what_their_defaults_are() {
    let text = switched_on();
    let full: Table = text.parse().unwrap_or_else(|e| panic!("{e}"));
    let at = |path: &[&str]| {
        path.iter().fold(&full, |table, key| table[*key].as_table().unwrap_or_else(|| panic!("{key} is a table")))
    };
    // Where a default would not show what a key is for, full.toml has an example and says so.
    let examples = ["sink.file.path"];
    for (path, defaults) in [
        (&["sink", "kafka"][..], table(&KafkaSettings::default())),
        (&["sink", "file"], table(&FileSettings::default())),
        (&["identity", "jwt"], table(&JwtSettings::default())),
    ] {
        for (key, default) in defaults {
            let name = format!("{}.{key}", path.join("."));
            let read: Value = at(path).get(&key).unwrap_or_else(|| panic!("{name} is not in full.toml")).clone();
            assert!(
                same(&read, &default) || examples.contains(&name.as_str()),
                "{name} = {read}, but {default} is the default"
            );
        }
    }
}

/// Sizes may be written as numbers.
fn same(a: &Value, b: &Value) -> bool {
    let bytes = |value: &Value| value.clone().try_into::<super::Bytes>();
    a == b || bytes(a).ok().zip(bytes(b).ok()).is_some_and(|(a, b)| a == b)
}

#[test]
fn everything_in_full_toml_works_when_it_is_switched_on() {
    let text = switched_on().replace("env:", "").replace("file:", "");
    let text = text.replace("http://127.0.0.1:3000", "https://127.0.0.1:3000");
    let loaded = Config::parse(&text, "full.toml").unwrap_or_else(|complaints| panic!("{complaints}"));
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
}

#[test]
fn full_toml_has_every_key_and_every_choice() {
    let text = switched_on().replace("env:", "").replace("file:", "");
    let full: Table = text.parse().unwrap_or_else(|e| panic!("{e}"));
    let mut lacking = BTreeSet::new();
    let mut asked = 0;
    visit(&Value::Table(full.clone()), &mut Vec::new(), &mut |path, value| {
        let place = path.iter().map(|step| step.replace(char::is_numeric, "")).collect::<Vec<_>>().join(".");
        if let Value::Table(keys) = value {
            let known = answer(&full, path, Some(NO_KEY));
            asked += known.len();
            lacking.extend(known.iter().filter(|key| !keys.contains_key(*key)).map(|key| format!("{place}.{key}")));
        } else if value.is_str() {
            // The words of a choice stand in the text of the file, if not as its value.
            let words = answer(&full, path, None);
            lacking.extend(words.iter().filter(|word| !text.contains(*word)).map(|word| format!("{place} = {word:?}")));
        }
    });
    assert!(asked > 80, "the tables named only {asked} keys");
    assert!(lacking.is_empty(), "config/full.toml does not mention {lacking:#?}");
}

/// Calls `see` for all values, with their paths; steps into lists are numbers.
fn visit(value: &Value, path: &mut Vec<String>, see: &mut impl FnMut(&[String], &Value)) {
    see(path, value);
    let children: Vec<(String, &Value)> = match value {
        Value::Table(table) => table.iter().map(|(key, value)| (key.clone(), value)).collect(),
        Value::Array(array) => array.iter().enumerate().map(|(index, value)| (index.to_string(), value)).collect(),
        _ => return,
    };
    for (step, child) in children {
        path.push(step);
        visit(child, path, see);
        path.pop();
    }
}

/// What serde would rather have at `path` than an unknown key, or than an unknown word.
fn answer(full: &Table, path: &[String], key: Option<&str>) -> Vec<String> {
    let mut changed = Value::Table(full.clone());
    let place = path.iter().fold(&mut changed, |value, step| match value {
        Value::Table(table) => &mut table[step.as_str()],
        Value::Array(array) => &mut array[step.parse::<usize>().expect("an index")],
        _ => panic!("{path:?} leads nowhere"),
    });
    match (place, key) {
        (Value::Table(table), Some(key)) => drop(table.insert(key.to_owned(), Value::Boolean(true))),
        (place, _) => *place = Value::String(NO_KEY.to_owned()),
    }
    let Err(error) = changed.try_into::<Config>() else { return Vec::new() };
    let about_it = error.message().starts_with("unknown field") || error.message().starts_with("unknown variant");
    if about_it { phrase::expected(error.message()).into_iter().map(str::to_owned).collect() } else { Vec::new() }
}
