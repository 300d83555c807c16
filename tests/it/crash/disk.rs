//! A disk that is full: a small tmpfs under the data folder, filled to the last byte. Mounting needs root; without it
//! these tests say so and check nothing.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::RULES;
use crate::support::daybook::{Daybook, Setup};
use crate::support::eventually;
use crate::support::origin::Origin;

const PATIENCE: Duration = Duration::from_secs(20);

/// Daybook with its data on a disk of 4 MiB.
struct Small {
    /// First, so that it is gone before the folder is removed.
    disk: SmallDisk,
    daybook: Daybook,
}

/// A disk of 4 MiB.
pub(crate) struct SmallDisk {
    at: PathBuf,
}

impl Small {
    /// `None` where nothing can be mounted.
    fn start(origin: &Origin, when_full: &str) -> Option<Self> {
        let setup = Setup::new(&origin.url).rest(&format!("{RULES}\n[journal]\nwhen_full = \"{when_full}\""));
        let disk = SmallDisk::mount(&setup.dir().join("data"))?;
        Some(Self { disk, daybook: setup.start() })
    }

    /// Asks until the journal has no room, as the disk has none.
    fn fill(&self, paths: &mut impl Iterator<Item = String>) -> Vec<String> {
        self.disk.fill();
        let mut asked = Vec::new();
        eventually("the journal is full", PATIENCE, || {
            let path = paths.next()?;
            // Each on a connection of its own: a refusal closes it.
            self.daybook.connect().get(&path, "");
            asked.push(path);
            let size = self.disk.journal_size();
            // What is left of the last page takes some records.
            (asked.len() > 20 && size == self.disk.journal_size()).then_some(())
        });
        asked
    }
}

impl SmallDisk {
    /// `None` where nothing can be mounted.
    pub(crate) fn mount(at: &Path) -> Option<Self> {
        std::fs::create_dir(at).expect("a folder");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m,mode=0700", "tmpfs"]).arg(at).output();
        if mounted.as_ref().is_ok_and(|output| output.status.success()) {
            return Some(Self { at: at.to_owned() });
        }
        eprintln!("SKIPPED: a full disk can't be tested here: mounting a tmpfs needs root ({mounted:?})");
        None
    }

    /// To the last byte.
    pub(crate) fn fill(&self) {
        let mut file = OpenOptions::new().create(true).append(true).open(self.ballast()).expect("a file");
        for size in [64 << 10, 4 << 10, 512, 1] {
            while file.write_all(&vec![b'x'; size]).is_ok() {}
        }
    }

    pub(crate) fn free(&self) {
        std::fs::remove_file(self.ballast()).expect("removed");
    }

    fn ballast(&self) -> PathBuf {
        self.at.join("ballast")
    }

    fn journal_size(&self) -> u64 {
        let files = std::fs::read_dir(self.at.join("journal")).expect("a journal");
        files.map(|file| file.and_then(|file| file.metadata()).map_or(0, |meta| meta.len())).sum()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: after a failure Daybook may still run on it.
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

fn paths(mode: &'static str) -> impl Iterator<Item = String> {
    (0..).map(move |number| format!("/{mode}/{number}"))
}

/// How many records were told to be lost for want of disk.
fn told_lost(records: &[Value]) -> u64 {
    let losses = records.iter().filter(|record| record["kind"] == "loss");
    losses
        .map(|loss| {
            assert_eq!(loss["attributes"]["reason"], "disk_full", "{loss}");
            loss["attributes"]["count"].as_u64().expect("a count")
        })
        .sum()
}

#[test]
fn shed_serves_on_with_a_full_disk_and_tells_how_much_was_lost_when_there_is_room() {
    let origin = Origin::answering("ok");
    let Some(small) = Small::start(&origin, "shed") else { return };
    let mut paths = paths("batch");
    let mut asked = small.fill(&mut paths);
    let mut client = small.daybook.connect();
    for path in paths.take(200) {
        assert_eq!(client.get(&path, "").status(), 200, "the application is not disturbed");
        asked.push(path);
    }
    let blocking = "/blocking/0".to_owned();
    assert_eq!(client.get(&blocking, "").status(), 200, "to shed is to let it go out unrecorded");
    asked.push(blocking);
    let seen = origin.requests().len();
    assert_eq!(seen, asked.len(), "the application saw all of it");
    let strict = small.daybook.connect().get("/strict/0", "");
    assert_eq!(strict.status(), 503, "what must not happen unrecorded does not happen");
    assert_eq!(origin.requests().len(), seen, "the application does not see it");
    small.disk.free();
    let total = asked.len() as u64;
    let is_outcome = |record: &&Value| record["path"].as_str().is_some_and(|path| !path.starts_with("/strict/"));
    eventually("every record is there or told to be lost", PATIENCE, || {
        let journal = small.daybook.journal();
        let there = journal.iter().filter(is_outcome).count() as u64;
        // Of the strict one, the intent and the outcome may be counted as lost, too.
        let lost = told_lost(&journal);
        (lost >= 100 && (total..=total + 2).contains(&(there + lost))).then_some(())
    });
    assert_eq!(small.daybook.connect().get("/strict/1", "").status(), 200, "there is room again");
    let journal = small.daybook.journal();
    for (expected, record) in (1..).zip(&journal) {
        assert_eq!(record["seq"].as_u64(), Some(expected), "what is lost takes no number: {record}");
    }
}

#[test]
fn refuse_answers_503_with_a_full_disk_and_the_application_sees_nothing() {
    let origin = Origin::answering("ok");
    let Some(small) = Small::start(&origin, "refuse") else { return };
    small.fill(&mut paths("batch"));
    eventually("requests are refused", PATIENCE, || {
        (small.daybook.connect().get("/batch/last", "").status() == 503).then_some(())
    });
    let seen = origin.requests().len();
    for path in ["/batch/refused", "/blocking/refused", "/strict/refused"] {
        let response = small.daybook.connect().get(path, "");
        assert_eq!(response.status(), 503, "{path}: nothing happens unrecorded");
    }
    assert_eq!(origin.requests().len(), seen, "the application saw none of them");
    small.disk.free();
    let mut again = (0..).map(|number| format!("/batch/again-{number}"));
    let served = eventually("requests are served again", PATIENCE, || {
        let path = again.next()?;
        (small.daybook.connect().get(&path, "").status() == 200).then_some(path)
    });
    assert_eq!(small.daybook.outcome(&served)["status"], 200, "and recorded");
}
