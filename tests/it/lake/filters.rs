//! Conditions, times, pages and formats on the command line.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Told, daybook, query, record, write};

/// Ten records on two days, in three commits; 1 is the oldest. Returns the data folder.
fn table_of_ten() -> TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let get = |path: &str, status: u16, more: Value| {
        let mut all = json!({"kind": "api", "method": "GET", "path": path, "status": status});
        all.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        all
    };
    let records = [
        ("2026-11-20T10:00:00.000001Z", get("/api/orders", 200, json!({"user": {"email": "ann@example.com"}}))),
        ("2026-11-20T11:00:00.000000Z", get("/api/Orders/7", 404, json!({"session": "s-1"}))),
        ("2026-11-20T12:00:00.000000Z", get("/login", 302, json!({"kind": "login", "result": "success"}))),
        ("2026-11-20T23:59:59.999999Z", get("/login", 401, json!({"kind": "login", "result": "failure"}))),
        ("2026-11-21T00:00:00.000000Z", get("/api/orders", 503, json!({"user": {"email": "bob@example.com"}}))),
        ("2026-11-21T01:00:00.000000Z", get("/health", 200, json!({"attributes": {"source": "form", "n": 7}}))),
        ("2026-11-21T02:00:00.000000Z", get("=1+1", 500, json!({"client": {"user_agent": "=cmd|' /C calc'!A0"}}))),
        ("2026-11-21T03:00:00.000000Z", get("/x", 200, json!({"client": {"user_agent": "a\u{1b}]0;b\u{7}\r\nc"}}))),
        ("2026-11-21T04:00:00.000000Z", json!({"kind": "start"})),
        ("2026-11-21T05:00:00.000000Z", get("/api/export", 200, json!({"kind": "export"}))),
    ];
    let lines: Vec<String> = (1..).zip(&records).map(|(seq, (time, more))| record(seq, time, more)).collect();
    write(&dir.path().join("lake"), &[lines[..3].to_vec(), lines[3..6].to_vec(), lines[6..].to_vec()]);
    dir
}

/// The numbers of the records that a query shows, in its order.
fn numbers(data: &Path, arguments: &[&str]) -> Vec<u64> {
    let out = query(data, &[&["-f", "ndjson"], arguments].concat());
    let number = |line: &str| serde_json::from_str::<Value>(line).expect("JSON")["seq"].as_u64().expect("a number");
    out.lines().map(number).collect()
}

/// A query that must fail.
fn refused(data: &Path, arguments: &[&str]) -> Told {
    let told = daybook(&[&["query", "--data", data.to_str().expect("UTF-8")], arguments].concat());
    assert!(told.out.is_empty(), "query {arguments:?} has no answer: {}", told.out);
    told
}

#[test]
fn conditions_choose_records() {
    let dir = table_of_ten();
    let cases: [(&[&str], &[u64]); 22] = [
        (&["status>=500"], &[7, 5]),
        (&["status<302"], &[10, 8, 6, 1]),
        (&["status>401", "status<=503"], &[7, 5, 2]),
        (&["status=404"], &[2]),
        (&["status=(401,404, 503)"], &[5, 4, 2]),
        (&["status!=200"], &[9, 7, 5, 4, 3, 2]),
        (&["kind=login"], &[4, 3]),
        (&["kind=(login,export)"], &[10, 4, 3]),
        (&["kind!=(api,login)"], &[10, 9]),
        (&["path~ORDERS"], &[5, 2, 1]),
        (&["path!~orders", "path?"], &[10, 8, 7, 6, 4, 3]),
        (&["path^=/api/o"], &[5, 1]),
        (&["path!^=/api", "status>=300"], &[7, 4, 3]),
        (&["path==1+1"], &[7]),
        (&["session?"], &[2]),
        (&["status!?"], &[9]),
        (&["user.email=ann@example.com"], &[1]),
        (&["user.email~@EXAMPLE.com"], &[5, 1]),
        (&["user.email=nobody@example.com"], &[]),
        (&["attributes.source=form"], &[6]),
        (&["attributes.n>6"], &[6]),
        (&["attributes.other?"], &[]),
    ];
    for (conditions, expected) in cases {
        let arguments: Vec<&str> = conditions.iter().flat_map(|condition| ["--where", condition]).collect();
        assert_eq!(numbers(dir.path(), &arguments), expected, "{conditions:?}");
    }
    let any = ["--any", "-w", "status>=503", "-w", "kind=login", "-w", "session?"];
    assert_eq!(numbers(dir.path(), &any), [5, 4, 3, 2], "with --any one of the conditions is enough");
}

#[test]
fn times_choose_records_from_the_first_and_before_the_second() {
    let dir = table_of_ten();
    let cases: [(&[&str], &[u64]); 8] = [
        (&["--from", "2026-11-21"], &[10, 9, 8, 7, 6, 5]),
        (&["--to", "2026-11-21"], &[4, 3, 2, 1]),
        (&["--from", "2026-11-20T11:00:00Z", "--to", "2026-11-20T12:00:00Z"], &[2]),
        (&["--from", "2026-11-20T10:00:00.000001Z", "--to", "2026-11-20T10:00:00.000002Z"], &[1]),
        (&["--from", "2026-11-20T10:00:00.000002Z", "--to", "2026-11-20T11:00:00Z"], &[]),
        (&["--from", "2026-11-20T23:59:59.999999Z", "--to", "2026-11-21T00:00:00.000001Z"], &[5, 4]),
        (&["--from", "2026-11-21", "-w", "status>=500", "--to", "2026-11-21T02:00:00Z"], &[5]),
        (&["--last", "1s"], &[]),
    ];
    for (arguments, expected) in cases {
        assert_eq!(numbers(dir.path(), arguments), expected, "{arguments:?}");
    }
}

#[test]
fn a_page_is_the_newest_records_however_they_were_committed() {
    let dir = table_of_ten();
    assert_eq!(numbers(dir.path(), &["-n", "3"]), [10, 9, 8]);
    assert_eq!(numbers(dir.path(), &["-n", "7"]), [10, 9, 8, 7, 6, 5, 4]);
    assert_eq!(numbers(dir.path(), &["-n", "0"]), [10, 9, 8, 7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(numbers(dir.path(), &["-n", "2", "-w", "path~orders"]), [5, 2]);

    // More than are read at a time, of equal times, and committed in no order of time.
    let dir = tempfile::tempdir().expect("a folder");
    let minute = |seq: u64| format!("2026-11-20T10:{:02}:00Z", seq * 7 % 60);
    let line = |seq: u64| record(seq, &minute(seq), &json!({"path": format!("/{seq}")}));
    let commits: Vec<Vec<String>> = (0..10).map(|c| (c * 1000 + 1..=c * 1000 + 1000).map(line).collect()).collect();
    write(&dir.path().join("lake"), &commits);
    let mut expected: Vec<u64> = (1..=10_000).collect();
    expected.sort_by_key(|seq| std::cmp::Reverse((minute(*seq), *seq)));
    assert_eq!(numbers(dir.path(), &["-n", "0"]), expected, "each once, newest first, across pages");
    assert_eq!(numbers(dir.path(), &["-n", "4097"]), expected[..4097], "one more than a page");
}

#[test]
fn formats_are_safe_for_what_reads_them() {
    let dir = table_of_ten();
    let columns = ["--columns", "seq,path,client.user_agent,status"];
    let csv = query(dir.path(), &[&columns[..], &["-f", "csv", "--from", "2026-11-21T02:00:00Z"]].concat());
    let expected = "seq,path,client.user_agent,status\r\n\
                    10,/api/export,,200\r\n\
                    9,,,\r\n\
                    8,/x,\"a\u{1b}]0;b\u{7}\r\nc\",200\r\n\
                    7,\"'=1+1\",\"'=cmd|' /C calc'!A0\",500\r\n";
    assert_eq!(csv, expected, "formulas are quoted, and line ends stay within their field");
    let table = query(dir.path(), &[&columns[..], &["-w", "path=/x"]].concat());
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 2, "a header and one line a record: {table:?}");
    assert!(lines[1].contains("a\u{fffd}]0;b\u{fffd}\u{fffd}\u{fffd}c"), "no control character is left: {table:?}");
    let whole = query(dir.path(), &["-f", "csv", "-n", "1"]);
    assert!(whole.starts_with("seq,epoch,instance,"), "without --columns CSV has all of them: {whole}");
}

#[test]
fn what_makes_no_sense_exits_64_and_says_what_would() {
    let dir = table_of_ten();
    let cases: [(&[&str], &str); 9] = [
        (&["-w", "colour=red"], "there is no field `colour`"),
        (&["-w", "status"], "write an operator after the field"),
        (&["-w", "status>=many"], "`many` is no whole number"),
        (&["-w", "path>5"], "`path` is text"),
        (&["-w", "session?x"], "nothing follows"),
        (&["--from", "yesterday"], "write it like `2026-11-24`"),
        (&["--last", "soon"], "soon"),
        (&["--columns", "seq,colour"], "there is no field `colour`"),
        (&["-f", "xml"], "ndjson"),
    ];
    for (arguments, says) in cases {
        let told = refused(dir.path(), arguments);
        assert_eq!(told.code, Some(64), "{arguments:?} (EX_USAGE): {}", told.err);
        assert!(told.err.contains(says), "{arguments:?} is explained by `{says}`: {}", told.err);
    }
}

#[test]
fn a_folder_without_records_exits_69_and_says_what_to_name() {
    let dir = tempfile::tempdir().expect("a folder");
    let missing = dir.path().join("missing");
    let told = refused(&missing, &[]);
    assert_eq!(told.code, Some(69), "EX_UNAVAILABLE: {}", told.err);
    assert!(told.err.contains(&*missing.to_string_lossy()), "it names what is missing: {}", told.err);
    assert!(told.err.contains("--data"), "and says what to do: {}", told.err);
    assert!(!missing.exists(), "nothing was made by asking");
}
