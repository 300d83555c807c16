//! The journal: the log on local disk that every record goes through.

use std::fmt;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::str::FromStr;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::config::JournalSettings;

/// The journal of one instance: owns the writer thread. Share it in an `Arc`; [`Journal::close`] ends it.
#[derive(Debug)]
pub struct Journal(());

/// A worker's way into the journal: one per thread, cheap while no other thread uses it.
#[derive(Debug)]
pub struct Lane(());

/// Resolves when the record is as safe as was asked for.
#[derive(Debug)]
#[must_use = "the record is only known to be safe when this has resolved"]
pub struct Committed(());

/// A sink's way out of the journal: reads on from its cursor.
#[derive(Debug)]
pub struct Tail(());

/// Saves how far a sink has come. Cheap to clone, for acknowledgements that come on another thread.
#[derive(Clone, Debug)]
pub struct Cursor(());

/// Records read by [`Tail::next`], oldest first; possibly none.
#[derive(Debug)]
pub struct Batch<'a>(std::marker::PhantomData<&'a ()>);

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
    /// The next record's place.
    pub next: Position,
    /// Records written since [`Journal::open`].
    pub written: u64,
    /// Records lost since [`Journal::open`], by reason.
    pub lost: Vec<(LossReason, u64)>,
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
    /// `sinks` are those that records are kept for; the cursors of others are forgotten.
    pub fn open(
        dir: &Path,
        settings: &JournalSettings,
        instance: &str,
        sinks: &[&str],
    ) -> Result<(Self, Recovery), OpenError> {
        let _ = (dir, settings, instance, sinks);
        unimplemented!("lands next")
    }

    /// A new lane, for one thread.
    pub fn lane(&self) -> Lane {
        unimplemented!("lands next")
    }

    /// Reads on from `sink`'s cursor, or from the oldest record if it has none.
    pub fn tail(&self, sink: &str) -> Tail {
        let _ = sink;
        unimplemented!("lands next")
    }

    /// Everything before `next` is delivered by `sink`. Written to disk within about a second.
    pub fn save_cursor(&self, sink: &str, next: Position) {
        let _ = (sink, next);
        unimplemented!("lands next")
    }

    /// The journal's condition.
    pub fn status(&self) -> Status {
        unimplemented!("lands next")
    }

    /// Waits until everything appended before is in the file and readable by tails.
    pub fn flush(&self) -> Result<(), Failed> {
        unimplemented!("lands next")
    }

    /// Takes nothing more, writes what is waiting, `fdatasync`s, and marks the shutdown as clean. Idempotent.
    pub fn close(&self) -> Result<(), Failed> {
        unimplemented!("lands next")
    }
}

// === impl Lane ===

impl Lane {
    /// Hands one encoded record (a JSON object without `seq`, `epoch`, `instance`) to the writer. Never
    /// blocks; no system call unless the writer sleeps. What is not taken is counted as lost.
    pub fn append(&self, record: &[u8]) -> Result<(), Refused> {
        let _ = record;
        unimplemented!("lands next")
    }

    /// Like [`Lane::append`]; resolves when the record is in the file (`sync = "os"`) or on the disk (`"disk"`).
    pub fn append_committed(&self, record: &[u8]) -> Committed {
        let _ = record;
        unimplemented!("lands next")
    }

    /// Like [`Lane::append`]; resolves when the record is on the disk, whatever `sync` says.
    pub fn append_durable(&self, record: &[u8]) -> Committed {
        let _ = record;
        unimplemented!("lands next")
    }

    /// Whether the journal takes records now. One atomic load.
    pub fn accepts(&self) -> Result<(), Refused> {
        unimplemented!("lands next")
    }
}

impl Future for Committed {
    type Output = Result<(), Refused>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        unimplemented!("lands next")
    }
}

// === impl Tail ===

impl Tail {
    /// The next records, up to about `max_bytes` (at least one if there is one); none after `wait`.
    /// Blocks: for a sink's own thread.
    pub fn next(&mut self, max_bytes: usize, wait: Duration) -> Result<Batch<'_>, TailError> {
        let _ = (max_bytes, wait);
        unimplemented!("lands next")
    }

    /// Where this tail reads next.
    pub fn position(&self) -> Position {
        unimplemented!("lands next")
    }

    /// The way to save this sink's progress.
    pub fn cursor(&self) -> Cursor {
        unimplemented!("lands next")
    }
}

impl Cursor {
    /// See [`Journal::save_cursor`].
    pub fn save(&self, next: Position) {
        let _ = next;
        unimplemented!("lands next")
    }
}

impl Batch<'_> {
    /// How many records there are.
    pub fn len(&self) -> usize {
        unimplemented!("lands next")
    }

    /// There are none: `wait` passed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The records, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = Entry<'_>> {
        std::iter::empty()
    }
}

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

// === impl LossReason ===

impl fmt::Display for LossReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Overrun => "overrun",
            Self::JournalFull => "journal_full",
            Self::DiskFull => "disk_full",
            Self::Poisoned => "poisoned",
            Self::Damage => "damage",
        })
    }
}
