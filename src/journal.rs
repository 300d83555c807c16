//! The journal: the log on local disk that every record goes through.
//!
//! ```text
//! worker ─ Lane ─┐                                 ┌─ Tail ─ sink   reads what is committed
//! worker ─ Lane ─┼─► writer thread ─► segment files ┤
//! worker ─ Lane ─┘   one write a batch             └─ Reader        reads the files from outside
//! ```
//!
//! # What holds
//!
//! - `seq` is gap-free per (`instance`, `epoch`), from 1, in the order of the files. A start that can't
//!   prove that it continues the sequence raises `epoch`: the machine restarted without a clean
//!   shutdown under `sync = "os"`, the last run's disk failed, the folder was another instance's, or the end
//!   is damaged. A crash of the process alone keeps it.
//! - What was committed is there after a crash; what is there after a crash is what was committed, and
//!   perhaps the beginning of what was about to be.
//! - After a failed write or `fdatasync` nothing is claimed any more until a restart (the kernel may have
//!   dropped what it could not write, and says so only once). A full disk is no failure: the write
//!   is taken back, and the journal is full until there is room.
//! - Records that were not taken are counted, and a `loss` record tells of them as soon as there is room.
//! - Tails see only what is committed: with `sync = "disk"`, what is on the disk.
//!
//! # On disk
//!
//! A folder of segments, `{epoch:010}-{first seq:020}.seg`, a file `lock` that the writing process holds
//! locked (flock(2)), and, after the disk failed, a file `poisoned`. A segment is a row of frames:
//!
//! | bytes | field | |
//! | --- | --- | --- |
//! | 0-3 | `len` | bytes of the payload, at most 8 MiB |
//! | 4-7 | `crc` | CRC-32C of everything else in the frame, `len` included |
//! | 8 | `kind` | 1 record, 2 book, 3 cursors, 4 clean shutdown; others are skipped |
//! | 9 | `version` | 1 |
//! | 10-11 | `flags` | 0; bit 0 will say that a 32-byte chain stands between header and payload |
//! | 12-15 | `epoch` | |
//! | 16-23 | `seq` | the record's; of other kinds, the next record's |
//! | 24-31 | `time` | when it was written, milliseconds since 1970 |
//! | 32- | payload | a record's JSON as it is delivered, or bookkeeping as JSON |
//!
//! Numbers are little-endian. `len`, `crc`, `kind` and `version` keep their places in later versions, and a
//! version or flag that is not known is refused, not taken for damage. The flag costs no byte until there is a
//! chain; in the record its place is behind `instance`.
//!
//! Each segment begins with a *book*: who writes, on which boot of the machine, under which promise, and
//! all cursors. So bookkeeping lives in the journal itself, and any older segment can be deleted.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::config::JournalSettings;

mod book;
mod disk;
mod frame;
mod lane;
mod log;
mod reader;
mod recover;
mod scan;
mod segment;
mod tail;
mod view;
mod writer;

pub use lane::{Committed, Lane};
pub use reader::{Item, ReadError, Reader};
pub use tail::{Batch, Cursor, Tail};

/// The journal of one instance: owns the writer thread. Share it in an `Arc`; [`Journal::close`] ends it.
pub struct Journal {
    shared: Arc<writer::Shared>,
    view: Arc<view::View>,
    disk: Arc<dyn disk::Disk>,
}

/// One record on its way to a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Where it stands.
    pub position: Position,
    /// When it was written, milliseconds since 1970.
    pub written_ms: u64,
    /// The record's whole JSON, without a line feed.
    pub payload: &'a [u8],
}

/// Where a record stands, or, of a cursor, the next one to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Raised when a restart could not prove that it continued the sequence.
    pub epoch: u32,
    /// Number within the epoch, from 1.
    pub seq: u64,
}

/// What [`Journal::open`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The next record's place.
    pub next: Position,
    /// Why the epoch was raised, if it was.
    pub raised: Option<Raised>,
    /// Bytes cut off behind the last whole frame: a write that a crash interrupted.
    pub torn_bytes: u64,
    /// Damage inside the journal, not seen before: kept as it is, and told of in a `loss` record.
    pub holes: Vec<Hole>,
}

/// Why a sequence could not be continued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Raised {
    /// The machine restarted without a clean shutdown, and `sync = "os"` promises nothing then.
    Rebooted,
    /// The folder was written by an instance of another name.
    Renamed,
    /// A failed write or `fdatasync` ended the last run.
    Poisoned,
    /// The journal's end is damaged so that the last number is unknown.
    Damaged,
}

/// Damaged bytes with sound ones behind them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hole {
    /// The file's name.
    pub segment: String,
    /// First damaged byte in it.
    pub offset: u64,
    /// Bytes that can't be read.
    pub bytes: u64,
    /// First record that is missing.
    pub first: Position,
    /// How many are missing (0: only bookkeeping was).
    pub records: u64,
}

/// The journal's condition, for metrics and readiness.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Bytes of all segments.
    pub bytes: u64,
    /// The configured limit of it.
    pub max_bytes: u64,
    /// Age of the oldest record on disk (to within a segment).
    pub oldest: Option<Duration>,
    /// The next record's place.
    pub next: Position,
    /// Records written since [`Journal::open`].
    pub written: u64,
    /// Records lost since [`Journal::open`], by reason.
    pub lost: Vec<(LossReason, u64)>,
    /// Times a tail had to skip damaged bytes.
    pub damage_seen: u64,
    /// New records find no room.
    pub full: bool,
    /// What went wrong when the journal became unusable, if it did.
    pub poisoned: Option<String>,
    /// Each sink's progress.
    pub sinks: Vec<SinkStatus>,
}

/// How far a sink has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkStatus {
    /// The sink.
    pub name: String,
    /// The next record it has to deliver.
    pub next: Position,
    /// Age of the oldest undelivered record; `None` when all are delivered.
    pub lag: Option<Duration>,
}

/// Why records were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LossReason {
    /// The writer could not keep up and a lane's buffer was full.
    Overrun,
    /// `journal.max_size` was reached and no sink drained.
    JournalFull,
    /// The disk itself was full.
    DiskFull,
    /// The journal was unusable after a failed write.
    Poisoned,
    /// Larger than the journal takes at all (4 MiB).
    TooLarge,
    /// Damage on the disk.
    Damage,
}

/// Why a record was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No room on disk (or, for a moment, in memory).
    #[error("the journal is full")]
    Full,
    /// A write or `fdatasync` failed; nothing can be promised until a restart.
    #[error("the journal's disk failed")]
    Poisoned,
    /// Larger than the journal takes at all.
    #[error("the record is larger than the journal takes")]
    TooLarge,
    /// [`Journal::close`] was called.
    #[error("the journal is closed")]
    Closed,
}

/// Why a journal can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("the journal {} is in use by another process", dir.display())]
    Locked {
        /// The journal's folder.
        dir: PathBuf,
    },
    /// Written by a version of Daybook that this one does not understand.
    #[error("{} has frames of version {version}, and this Daybook knows only version 1", segment.display())]
    Newer {
        /// The file.
        segment: PathBuf,
        /// The version found.
        version: u8,
    },
    /// The file system said no.
    #[error("the journal {}: {action} failed", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Why [`Journal::close`] or [`Journal::flush`] could not keep its promise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the journal's disk failed: {0}")]
pub struct Failed(pub String);

/// Why a tail can't go on.
#[derive(Debug, thiserror::Error)]
#[error("reading the journal's segment {segment} failed")]
pub struct TailError {
    /// The file's name.
    pub segment: String,
    /// What the system said.
    pub source: io::Error,
}

// === impl Journal ===

impl Journal {
    /// Opens the journal in `dir` (created if need be), recovers what a crash left, and starts the writer.
    ///
    /// `sinks` are those that records are kept for; the cursors of others are forgotten. Without sinks
    /// the journal is a ring: the oldest records make room for new ones.
    pub fn open(
        dir: &Path,
        settings: &JournalSettings,
        instance: &str,
        sinks: &[&str],
    ) -> Result<(Self, Recovery), OpenError> {
        let failed = |action| move |source| OpenError::Io { action, path: dir.to_owned(), source };
        let folder = disk::Folder::lock(dir).map_err(failed("opening the folder"))?;
        let folder = folder.ok_or_else(|| OpenError::Locked { dir: dir.to_owned() })?;
        Self::start(Arc::new(folder), settings, instance, sinks)
    }

    fn start(
        disk: Arc<dyn disk::Disk>,
        settings: &JournalSettings,
        instance: &str,
        sinks: &[&str],
    ) -> Result<(Self, Recovery), OpenError> {
        let sinks: Vec<String> = sinks.iter().map(|sink| (*sink).to_owned()).collect();
        let (log, recovery) = log::Log::open(disk, settings, instance, &sinks, writer::now_ms())?;
        let (view, disk) = (Arc::clone(log.view()), Arc::clone(log.disk()));
        let shared = writer::start(log, settings).map_err(|source| OpenError::Io {
            action: "starting the writer",
            path: PathBuf::new(),
            source,
        })?;
        Ok((Self { shared, view, disk }, recovery))
    }

    /// A new lane, for one thread.
    pub fn lane(&self) -> Lane {
        Lane::new(Arc::clone(&self.shared), self.shared.new_queue())
    }

    /// Reads on from `sink`'s cursor, or from the oldest record if it has none.
    pub fn tail(&self, sink: &str) -> Tail {
        Tail::new(sink, Arc::clone(&self.view), Arc::clone(&self.shared), Arc::clone(&self.disk))
    }

    /// Everything before `next` is delivered by `sink`. Written to disk within about a second; never goes back.
    pub fn save_cursor(&self, sink: &str, next: Position) {
        self.view.save_cursor(sink, next);
        self.shared.wake_if_parked();
    }

    /// The journal's condition.
    pub fn status(&self) -> Status {
        self.view.status(writer::now_ms())
    }

    /// Waits until everything appended before is dealt with, and readable by tails unless it was lost.
    pub fn flush(&self) -> Result<(), Failed> {
        self.shared.flush()
    }

    /// Takes nothing more, writes what is waiting, `fdatasync`s, and marks the shutdown as clean.
    /// Tails go on reading. Again, it says the same again.
    pub fn close(&self) -> Result<(), Failed> {
        self.shared.close()
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "the journal could not be closed in good order");
        }
    }
}

// === impl Entry ===

impl Entry<'_> {
    /// The place behind this record: what a cursor is set to when it is delivered.
    pub fn next(&self) -> Position {
        Position { epoch: self.position.epoch, seq: self.position.seq + 1 }
    }
}

// === impl Position ===

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.epoch, self.seq)
    }
}

impl FromStr for Position {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (epoch, seq) = text.split_once('/').unwrap_or(("", text));
        Ok(Self { epoch: epoch.parse()?, seq: seq.parse()? })
    }
}

impl Serialize for Position {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

// === impl LossReason ===

impl fmt::Display for LossReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Overrun => "overrun",
            Self::JournalFull => "journal_full",
            Self::DiskFull => "disk_full",
            Self::Poisoned => "poisoned",
            Self::TooLarge => "too_large",
            Self::Damage => "damage",
        })
    }
}

#[cfg(test)]
mod faulty;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
