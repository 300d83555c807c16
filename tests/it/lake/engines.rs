//! Other engines read the table, and see what `daybook query` says.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{data, log_files, setup, table};
use crate::support::origin::Origin;
use crate::support::python_home;

/// What an engine says of the table in `lake`; `id` names one of its records.
pub(super) fn ask(engine: &str, lake: &Path, id: &str) -> Value {
    let output = Command::new(python_home().join("bin/python"))
        .args(["-c", include_str!("engines.py"), engine])
        .args([lake.as_os_str(), id.as_ref()])
        // ClickHouse reads files below the folder it runs in.
        .current_dir(lake)
        .output()
        .expect("python runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{engine} reads the table: {told}");
    eprint!("{told}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The same by what `daybook query` says of the table.
pub(super) fn expected(records: &[Value], id: &str) -> Value {
    let texts = |of: &dyn Fn(&Value) -> Option<&str>| {
        records.iter().filter_map(|record| Some(of(record)?.to_owned())).collect::<BTreeSet<String>>()
    };
    let micros = |record: &Value| {
        let time = record["time"].as_str().expect("every record has a time");
        time.parse::<jiff::Timestamp>().expect("RFC 3339").as_microsecond()
    };
    let one = records.iter().find(|record| record["id"] == id).expect("the record is there");
    let request = one.get("request").map(Value::to_string);
    json!({
        "count": records.len(),
        "status": records.iter().filter_map(|record| record["status"].as_u64()).sum::<u64>(),
        "first": records.iter().map(micros).min(),
        "last": records.iter().map(micros).max(),
        "paths": texts(&|record| record["path"].as_str()),
        "days": texts(&|record| Some(&record["time"].as_str()?[..10])),
        "record": [one["path"], one["client"]["user_agent"], micros(one), one["seq"], request],
    })
}

/// A table that a running Daybook has made, in many commits and two lives.
fn made() -> &'static Path {
    static MADE: OnceLock<TempDir> = OnceLock::new();
    let dir = MADE.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a folder");
        let origin = Origin::new(|visit| {
            while let Some(request) = visit.request() {
                match request.line().contains("/missing") {
                    true => visit.send("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
                    false => visit.ok("here"),
                };
            }
        });
        let lake = dir.path().join("lake");
        let settings = format!("path = \"{}\"\ncommit_interval = \"100ms\"\ncommit_records = 20", lake.display());
        let mut daybook = setup(&origin.url, &settings).start();
        for life in 0..2 {
            if life > 0 {
                daybook.restart();
            }
            let mut client = daybook.connect();
            for number in 0..100 {
                let path = if number % 3 == 0 { "missing" } else { "here" };
                let headers = "User-Agent: \"quoted\" 'and' żółć \\ \t|\r\n";
                client.get(&format!("/{path}/{}?q=%C5%BC&life={life}", number % 20), headers);
            }
            daybook.signal(Signal::TERM);
            assert_eq!(daybook.ended().code(), Some(0), "it stops in order");
        }
        assert!(log_files(&lake, ".json").len() > 3, "it took several commits");
        assert_eq!(table(&lake).len(), daybook.tail(&[]).len(), "the table holds the journal");
        assert!(!data(&daybook).join("lake").exists(), "the table is where the settings say");
        dir
    });
    dir.path()
}

fn check(engine: &str) {
    let lake = made().join("lake");
    let records: Vec<Value> = table(&lake).iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let one = records.iter().find(|record| record["path"] == "/missing/3").expect("it was asked for");
    let id = one["id"].as_str().expect("every record has an id");
    assert_eq!(ask(engine, &lake, id), expected(&records, id), "{engine} sees what `daybook query` says");
}

#[test]
fn deltalake_sees_what_query_says() {
    check("deltalake");
}

#[test]
fn duckdb_sees_what_query_says() {
    check("duckdb");
}

#[test]
fn clickhouse_sees_what_query_says() {
    check("chdb");
}
