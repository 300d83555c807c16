//! The lake: the table holds what the journal says, for `daybook query` and for everybody else.

mod beside;
mod checkpoint;
mod engines;
mod filters;
mod killed;
mod trouble;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use daybook::lake::{Lake, Writer};
use serde_json::{Value, json};

use crate::support::daybook::{Daybook, Setup};

/// What a command said.
struct Told {
    code: Option<i32>,
    out: String,
    err: String,
}

/// `daybook` with these arguments.
fn daybook(arguments: &[&str]) -> Told {
    let output = Command::new(env!("CARGO_BIN_EXE_daybook")).args(arguments).output().expect("the binary runs");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    Told { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
}

/// `daybook query` on a data folder, with these arguments more; it must have an answer.
fn query(data: &Path, arguments: &[&str]) -> String {
    let data = data.to_str().expect("UTF-8");
    let told = daybook(&[&["query", "--data", data], arguments].concat());
    assert_eq!(told.code, Some(0), "query {arguments:?} has an answer: {}", told.err);
    told.out
}

/// Every record of the table and the journal, in the order of their bytes.
fn all(data: &Path) -> Vec<String> {
    sorted(query(data, &["--format", "ndjson", "-n", "0"]).lines().map(str::to_owned).collect())
}

/// Every record of the table alone, in the order of their bytes.
fn table(lake: &Path) -> Vec<String> {
    let nowhere = lake.join("no-journal-here");
    let lake = lake.to_str().expect("UTF-8");
    sorted(query(&nowhere, &["--lake", lake, "-f", "ndjson", "-n", "0"]).lines().map(str::to_owned).collect())
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

/// Daybook's data folder.
fn data(daybook: &Daybook) -> PathBuf {
    daybook.dir().join("data")
}

/// Daybook before `upstream`, with a lake of these settings.
fn setup(upstream: &str, lake: &str) -> Setup {
    Setup::new(upstream).rest(&format!("[sink.lake]\n{lake}"))
}

/// A record: `time`, the members that every record has, and those of `more`.
fn record(seq: u64, time: &str, more: &Value) -> String {
    let mut record = json!({
        "seq": seq, "epoch": 1, "instance": "test", "schema": "daybook/1", "id": format!("id-{seq}"), "time": time,
        "stage": "response_complete",
    });
    let members = record.as_object_mut().expect("an object");
    members.extend(more.as_object().expect("an object").clone());
    record.to_string()
}

/// A table in `folder`, written here; each list of records is a commit.
fn write(folder: &Path, commits: &[Vec<String>]) {
    let lake = Lake::open(folder).expect("a table");
    let mut writer = Writer::new(Arc::clone(&lake));
    for records in commits {
        for record in records {
            writer.push(record.as_bytes()).expect("a record");
        }
        let last: Value = serde_json::from_str(records.last().expect("a commit is of something")).expect("JSON");
        writer.seal("test", &[(1, last["seq"].as_u64().expect("a number"))]).expect("committed");
    }
}

/// Files in the table's log that end so, in order.
fn log_files(lake: &Path, end: &str) -> Vec<PathBuf> {
    let Ok(folder) = std::fs::read_dir(lake.join("_delta_log")) else { return Vec::new() };
    let paths = folder.map(|entry| entry.expect("readable").path());
    let mut files: Vec<_> = paths.filter(|path| path.to_str().is_some_and(|path| path.ends_with(end))).collect();
    files.sort();
    files
}

/// The table's data files, those that no commit names included.
fn data_files(lake: &Path) -> Vec<PathBuf> {
    let days = std::fs::read_dir(lake).expect("a folder").map(|entry| entry.expect("readable").path());
    let days = days.filter(|path| path.is_dir() && !path.ends_with("_delta_log"));
    let files = days.flat_map(|day| std::fs::read_dir(day).expect("a folder"));
    files.map(|entry| entry.expect("readable").path()).collect()
}
