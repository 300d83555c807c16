//! The file sink, from a real journal.

use std::fs;

use daybook::config::{Bytes, FileSettings, Sinks};

use super::{Setup, await_status};

fn file(settings: FileSettings) -> Sinks {
    Sinks { file: Some(settings), ..Sinks::default() }
}

#[test]
fn a_file_holds_the_journal_line_by_line_across_restarts_and_crashes() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("out").join("records.ndjson");
    let sinks = file(FileSettings { path: path.clone(), ..FileSettings::default() });
    let mut setup = Setup::start(dir.path(), &sinks);
    setup.append("panel", 0..2000, 200);
    let first = setup.journaled().len() as u64;
    await_status(&setup, "all is written", |s| s.delivered == first && s.lag.is_none());
    setup.abandon();

    // A crash left half a line.
    let mut text = fs::read(&path).expect("the file");
    text.extend_from_slice(b"{\"seq\":77777,\"half");
    fs::write(&path, text).expect("written");

    let mut setup = Setup::start(dir.path(), &sinks);
    setup.append("panel", 2000..2100, 200);
    let journaled = setup.journaled().to_vec();
    assert!(setup.finish());
    let expected: Vec<u8> = journaled.iter().flat_map(|(_, payload)| [payload, &b"\n"[..]].concat()).collect();
    assert!(fs::read(&path).expect("the file") == expected, "every record once, in order, no torn line");
}

#[test]
fn rotated_files_together_hold_the_journal() {
    let dir = tempfile::tempdir().expect("a folder");
    let out = dir.path().join("out");
    let settings =
        FileSettings { path: out.join("records.ndjson"), rotate_size: Bytes::kib(64), ..FileSettings::default() };
    let mut setup = Setup::start(dir.path(), &file(settings));
    for part in 0..10 {
        setup.append("panel", part * 100..(part + 1) * 100, 400);
        let expected = setup.journaled().len() as u64;
        await_status(&setup, "the part is written", |s| s.delivered == expected);
    }
    let journaled = setup.journaled().to_vec();
    assert!(setup.finish());
    let mut files: Vec<_> = fs::read_dir(&out).expect("the folder").map(|f| f.expect("a file").path()).collect();
    // `records-<time>` sorts before `records.ndjson`.
    files.sort();
    assert!(files.len() > 3, "{files:?}");
    let text: Vec<u8> = files.iter().flat_map(|file| fs::read(file).expect("readable")).collect();
    let expected: Vec<u8> = journaled.iter().flat_map(|(_, payload)| [payload, &b"\n"[..]].concat()).collect();
    assert!(text == expected, "nothing is lost or torn between files");
}
