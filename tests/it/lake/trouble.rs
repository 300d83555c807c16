//! Tables that are not ours, files that are damaged, folders that can't be written.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use daybook::lake::{Lake, LakeError, Writer};
use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;

use super::{Told, all, data, data_files, daybook, log_files, query, record, setup, sorted, table, write};
use crate::crash::disk::SmallDisk;
use crate::support::daybook::{Daybook, Setup};
use crate::support::eventually;
use crate::support::origin::Origin;

const PATIENCE: Duration = Duration::from_secs(20);

/// What a table's first commit says when another engine made it.
fn foreign(writer: u8, partitions: &[&str]) -> String {
    let schema = json!({"type": "struct", "fields": [
        {"name": "id", "type": "string", "nullable": true, "metadata": {}},
        {"name": "day", "type": "string", "nullable": true, "metadata": {}},
    ]});
    let reader = if writer > 2 { 3 } else { 1 };
    let protocol = json!({"protocol": {"minReaderVersion": reader, "minWriterVersion": writer}});
    let meta_data = json!({"metaData": {
        "id": "0190a000-0000-7000-8000-000000000000", "format": {"provider": "parquet", "options": {}},
        "schemaString": schema.to_string(), "partitionColumns": partitions, "configuration": {},
    }});
    format!("{protocol}\n{meta_data}\n")
}

/// `daybook run` on this configuration, which must not start.
fn refuses_to_start(dir: &Path) -> Told {
    let mut child = Command::new(env!("CARGO_BIN_EXE_daybook"))
        .args(["run", "--config"])
        .arg(dir.join("daybook.toml"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::from(std::fs::File::create(dir.join("stderr")).expect("a file")))
        .spawn()
        .expect("the binary runs");
    let mut waited = Duration::ZERO;
    let ended = loop {
        match child.try_wait().expect("our child") {
            None if waited < PATIENCE => std::thread::sleep(Duration::from_millis(20)),
            ended => break ended,
        }
        waited += Duration::from_millis(20);
    };
    let _ = child.kill();
    let _ = child.wait();
    let err = std::fs::read_to_string(dir.join("stderr")).expect("readable");
    let ended = ended.unwrap_or_else(|| panic!("it ends by itself: {err}"));
    Told { code: ended.code(), out: String::new(), err }
}

#[test]
fn a_table_that_is_not_ours_is_not_touched() {
    for (first, says) in [
        (foreign(7, &["date"]), "a writer of version 7"),
        (foreign(2, &["day"]), "not partitioned by `date`"),
        (foreign(2, &[]), "not partitioned by `date`"),
        ("{\"commitInfo\":{}}\n".to_owned(), "no protocol"),
        ("this is no JSON\n".to_owned(), "00000000000000000000.json is damaged"),
    ] {
        let dir = tempfile::tempdir().expect("a folder");
        let log = dir.path().join("data/lake/_delta_log");
        std::fs::create_dir_all(&log).expect("made");
        std::fs::write(log.join("00000000000000000000.json"), &first).expect("written");
        let config = format!(
            "data = \"{}/data\"\n[listener.app]\nbind = \"127.0.0.1:0\"\nupstream = \"http://127.0.0.1:1\"\n[sink.lake]\n",
            dir.path().display()
        );
        std::fs::write(dir.path().join("daybook.toml"), config).expect("written");
        let told = refuses_to_start(dir.path());
        assert_eq!(told.code, Some(69), "EX_UNAVAILABLE (sysexits.h): {}", told.err);
        assert!(told.err.contains("the lake") && told.err.contains(says), "`{says}` is expected: {}", told.err);
        let told = daybook(&["query", "--data", dir.path().join("data").to_str().expect("UTF-8")]);
        assert_eq!(told.code, Some(69), "a query refuses, too: {}", told.err);
        assert!(told.err.contains(says), "with the same words: {}", told.err);
        assert_eq!(log_files(&dir.path().join("data/lake"), "").len(), 1, "nothing was added to the table");
    }
}

/// A table of two data files, and one of them.
fn of_two_files() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a folder");
    let lines = |from: u64| {
        (from..from + 50).map(|seq| record(seq, "2026-11-20T10:00:00Z", &json!({"path": "/x"}))).collect::<Vec<_>>()
    };
    write(&dir.path().join("lake"), &[lines(1), lines(51)]);
    let file = data_files(&dir.path().join("lake")).pop().expect("two files");
    (dir, file)
}

#[test]
fn a_damaged_data_file_is_named() {
    type Damage = fn(Vec<u8>) -> Option<Vec<u8>>;
    let damages: [(&str, Damage); 5] = [
        ("deleted", |_| None),
        ("empty", |_| Some(Vec::new())),
        ("truncated", |bytes| Some(bytes[..bytes.len() / 2].to_vec())),
        ("zeros", |bytes| Some(vec![0; bytes.len()])),
        ("zeros but for its ends", |mut bytes| {
            let end = bytes.len() / 3;
            bytes[4..end].fill(0);
            Some(bytes)
        }),
    ];
    for (what, damage) in damages {
        let (dir, file) = of_two_files();
        match damage(std::fs::read(&file).expect("readable")) {
            Some(bytes) => std::fs::write(&file, bytes).expect("written"),
            None => std::fs::remove_file(&file).expect("removed"),
        }
        let told = daybook(&["query", "-n", "0", "-f", "ndjson", "--data", dir.path().to_str().expect("UTF-8")]);
        assert_eq!(told.code, Some(69), "{what}: EX_UNAVAILABLE (sysexits.h): {}", told.err);
        let name = file.file_name().and_then(|name| name.to_str()).expect("UTF-8");
        assert!(told.err.contains(name), "{what}: the file {name} is named: {}", told.err);
        assert!(!told.err.contains("panicked"), "{what}: {}", told.err);
    }
}

/// Asks under this name; every answer must come.
fn traffic(daybook: &Daybook, name: &str, count: usize) {
    let mut client = daybook.connect();
    for number in 0..count {
        assert_eq!(client.get(&format!("/{name}/{number}"), "").status(), 200, "capture goes on");
    }
}

/// How many records of this name the query shows.
fn shown(daybook: &Daybook, name: &str) -> usize {
    let condition = format!("path^=/{name}/");
    query(&data(daybook), &["-f", "ndjson", "-n", "0", "-w", &condition]).lines().count()
}

fn held_up(daybook: &Daybook) {
    eventually("the log says that the lake is held up", PATIENCE, || {
        daybook.log().lines().any(|line| line.contains("held up") && line.contains("lake")).then_some(())
    });
}

#[test]
fn while_the_disk_is_full_records_are_kept_and_shown_and_committed_later() {
    let origin = Origin::answering("ok");
    let setup = Setup::new(&origin.url);
    let lake = setup.dir().join("lake");
    // Root writes into read-only folders, but not onto a full disk.
    let Some(disk) = SmallDisk::mount(&lake) else { return };
    let settings = format!("[sink.lake]\npath = \"{}\"\ncommit_interval = \"100ms\"", lake.display());
    let mut daybook = setup.rest(&settings).start();
    traffic(&daybook, "before", 5);
    eventually("a commit is made", PATIENCE, || (!log_files(&lake, ".json").is_empty()).then_some(()));
    disk.fill();
    traffic(&daybook, "during", 30);
    held_up(&daybook);
    let on_disk = ["--lake", lake.to_str().expect("UTF-8"), "-f", "ndjson", "-n", "0", "-w"];
    let shown = |condition: &str| query(&data(&daybook), &[&on_disk[..], &[condition]].concat()).lines().count();
    eventually("the records are shown from the journal", PATIENCE, || (shown("path^=/during/") == 30).then_some(()));
    assert_eq!(shown("path^=/before/"), 5, "and those before from the table");
    disk.free();
    eventually("delivery goes on", PATIENCE, || daybook.log().contains("delivery goes on").then_some(()));
    assert_eq!(shown("path^=/during/"), 30, "each once");
    traffic(&daybook, "after", 5);
    daybook.signal(Signal::TERM);
    assert_eq!(daybook.ended().code(), Some(0), "it stops in order");
    assert_eq!(table(&lake), sorted(daybook.tail(&[])), "all is committed, once");
}

/// Stops while the log's folder is a file, which root can't write into either; repairs it, and starts again.
fn stop_while_held_up(settings: &str) {
    let origin = Origin::answering("ok");
    let mut daybook = setup(&origin.url, settings).top("drain_timeout = \"2s\"").start();
    let lake = data(&daybook).join("lake");
    traffic(&daybook, "before", 5);
    eventually("a commit is made", PATIENCE, || (!log_files(&lake, ".json").is_empty()).then_some(()));
    let (log, aside) = (lake.join("_delta_log"), data(&daybook).join("aside"));
    std::fs::rename(&log, &aside).expect("renamed");
    std::fs::write(&log, "in the way").expect("written");
    traffic(&daybook, "during", 200);
    held_up(&daybook);
    daybook.signal(Signal::TERM);
    daybook.ended();
    let files = data_files(&lake).len();
    assert!(files < 10, "tries to commit leave no heap of files behind: {files}");

    std::fs::remove_file(&log).expect("removed");
    std::fs::rename(&aside, &log).expect("renamed back");
    assert_eq!(all(&data(&daybook)), sorted(daybook.tail(&[])), "the query shows all, from table and journal");
    daybook.restart();
    assert_eq!(shown(&daybook, "during"), 200, "each once");
    daybook.signal(Signal::TERM);
    assert_eq!(daybook.ended().code(), Some(0), "it stops in order");
    assert_eq!(table(&lake), sorted(daybook.tail(&[])), "all is committed, once");
}

#[test]
fn a_stop_while_commits_are_held_up_loses_nothing_and_leaves_no_heap_of_files() {
    stop_while_held_up("commit_interval = \"100ms\"");
}

#[test]
fn a_stop_while_more_waits_than_is_kept_in_memory_loses_nothing() {
    stop_while_held_up("commit_interval = \"100ms\"\ncommit_records = 10");
}

/// A writer of this journal; what it holds is not committed.
fn writer_of(folder: &Path, from: u64, to: u64) -> (Arc<Lake>, Writer) {
    let lake = Lake::open(folder).expect("a table");
    let mut writer = Writer::new(Arc::clone(&lake));
    for seq in from..=to {
        writer.push(record(seq, "2026-11-20T10:00:00Z", &json!({})).as_bytes()).expect("a record");
    }
    (lake, writer)
}

#[test]
fn a_journal_that_is_further_in_the_table_than_its_writer_knows_is_not_doubled() {
    let dir = tempfile::tempdir().expect("a folder");
    let (lake, mut second) = writer_of(dir.path(), 1, 5);
    let (_, mut first) = writer_of(dir.path(), 1, 3);
    first.seal("test", &[(1, 3)]).expect("committed");
    let refused = second.seal("test", &[(1, 5)]);
    assert!(matches!(refused, Err(LakeError::Contended)), "it holds 1 to 3, which the table has: {refused:?}");
    second.forget();
    lake.refresh().expect("readable");
    assert_eq!(lake.reached("test"), Some((1, 3)), "it sees how far the table has come");
    for seq in 4..=5 {
        second.push(record(seq, "2026-11-20T10:00:00Z", &json!({})).as_bytes()).expect("a record");
    }
    second.seal("test", &[(1, 5)]).expect("committed");
    assert_eq!(table(dir.path()).len(), 5, "each is there once");

    // Another journal's commits are nobody's trouble.
    let (_, mut other) = writer_of(dir.path(), 1, 2);
    first = writer_of(dir.path(), 6, 7).1;
    first.seal("test", &[(1, 7)]).expect("committed");
    other.seal("other", &[(1, 2)]).expect("another journal came first; this one is tried behind it");
    assert_eq!(data_files(dir.path()).len(), 5, "four commits, and the data file of the one that was refused");
}

#[test]
fn a_new_journal_of_the_same_name_is_not_taken_for_the_one_in_the_table() {
    let origin = Origin::new(crate::crash::answer);
    let mut daybook = setup(&origin.url, "commit_interval = \"100ms\"").start();
    for number in 0..5 {
        let mut client = daybook.connect();
        client.send(format!("GET /first/{number} HTTP/1.1\r\nHost: a\r\n\r\n"));
        client.response();
    }
    daybook.signal(Signal::TERM);
    daybook.ended();
    let before = table(&data(&daybook).join("lake"));
    std::fs::remove_dir_all(data(&daybook).join("journal")).expect("the journal is lost");
    daybook.restart();
    eventually("the sink says that this is another journal", PATIENCE, || {
        daybook.log().contains("it is another journal of that name").then_some(())
    });
    let mut client = daybook.connect();
    client.send("GET /second HTTP/1.1\r\nHost: a\r\n\r\n");
    client.response();
    assert_eq!(daybook.outcome("/second")["end"], "complete", "capture goes on");
    daybook.signal(Signal::TERM);
    daybook.ended();
    assert_eq!(table(&data(&daybook).join("lake")), before, "and nothing passes for what it is not");
}
