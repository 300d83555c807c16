//! More than a hundred commits: a checkpoint sums them up.

use std::path::Path;

use serde_json::{Value, json};

use super::engines::{ask, expected};
use super::{log_files, record, sorted, table, write};

/// Commits with three records each.
fn commits(from: u64, count: u64) -> Vec<Vec<String>> {
    let line = |seq: u64| {
        let time = format!("2026-11-{:02}T10:{:02}:{:02}.000000Z", 20 + (seq - 1) / 3 % 3, seq / 60 % 60, seq % 60);
        record(seq, &time, &json!({"path": format!("/{}", seq % 7), "status": 200 + seq % 3}))
    };
    (from..from + count).map(|commit| (commit * 3 + 1..=commit * 3 + 3).map(line).collect()).collect()
}

/// Daybook sees these records, each once.
fn check_query(lake: &Path, records: &[String]) {
    // Daybook writes members in the order of its own encoding.
    let parsed = |line: &String| serde_json::from_str::<Value>(line).expect("JSON").to_string();
    let (seen, expected) = (table(lake).iter().map(parsed).collect(), records.iter().map(parsed).collect());
    assert!(sorted(seen) == sorted(expected), "Daybook sees each of the {} records once", records.len());
}

/// Daybook and others see these records.
fn check(lake: &Path, records: &[String]) {
    check_query(lake, records);
    let values: Vec<Value> = records.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    for engine in ["deltalake", "chdb"] {
        assert_eq!(ask(engine, lake, "id-4"), expected(&values, "id-4"), "{engine} sees the same");
    }
}

fn read_json(file: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(file).expect("it is there")).expect("JSON")
}

#[test]
fn a_checkpoint_stands_for_the_commits_before_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let lake = dir.path().join("lake");
    let mut all = commits(0, 103);
    write(&lake, &all);
    let last = read_json(&lake.join("_delta_log/_last_checkpoint"));
    assert_eq!(last["version"], 100, "`_last_checkpoint` names the newest: {last}");
    assert_eq!(log_files(&lake, ".checkpoint.parquet").len(), 1, "one at 100");
    check(&lake, &all.concat());

    // As a clean-up does.
    for commit in &log_files(&lake, ".json")[..100] {
        std::fs::remove_file(commit).expect("removed");
    }
    check(&lake, &all.concat());
    let more = commits(103, 3);
    write(&lake, &more);
    all.extend(more);
    check(&lake, &all.concat());

    std::fs::remove_file(lake.join("_delta_log/_last_checkpoint")).expect("removed");
    // Without the hint the folder says which checkpoint there is.
    check(&lake, &all.concat());
}

#[test]
fn a_checkpoint_that_fails_fails_no_commit_and_doubles_no_record() {
    let dir = tempfile::tempdir().expect("a folder");
    let lake = dir.path().join("lake");
    // A folder where the file should be: it can't be written.
    std::fs::create_dir_all(lake.join("_delta_log/00000000000000000100.checkpoint.parquet/x")).expect("made");
    let all = commits(0, 103);
    write(&lake, &all);
    check_query(&lake, &all.concat());
}
