//! `[journal]`: the log on local disk that every record goes through.

use serde::{Deserialize, Serialize};

use super::units::{Bytes, Span};

/// The journal in `{data}/journal`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct JournalSettings {
    /// What "in the journal" means for `blocking` and `blocking-strict`.
    pub sync: Sync,
    /// Most disk space the journal takes.
    pub max_size: Bytes,
    /// What happens to new exchanges when `max_size` is reached because a sink does not drain.
    pub when_full: WhenFull,
    /// Size at which a new segment file is begun.
    pub segment_size: Bytes,
    /// How long delivered records stay in the journal (within `max_size`), for `daybook tail` and `verify`.
    pub keep: Span,
    /// Longest time a record in `batch` mode waits for the writer. Shorter costs CPU at low rates.
    pub linger: Span,
}

/// What "in the journal" means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sync {
    /// In the operating system's page cache: survives a crash of the process, not of the machine.
    #[default]
    Os,
    /// On the disk (`fdatasync`): survives a power cut too.
    Disk,
}

/// What happens when the journal is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFull {
    /// Traffic goes on, new records are dropped, and a `loss` record says how many.
    #[default]
    Shed,
    /// Requests are answered with 503, so that nothing happens unrecorded.
    Refuse,
}

impl Default for JournalSettings {
    fn default() -> Self {
        Self {
            sync: Sync::Os,
            max_size: Bytes::mib(1024),
            when_full: WhenFull::Shed,
            segment_size: Bytes::mib(64),
            keep: Span::secs(24 * 3600),
            linger: Span::millis(20),
        }
    }
}
