//! The lake as a sink: records are visible at once, and committed a batch at a time.
//!
//! A record counts as delivered when a commit holds it; until then the journal keeps it. While the table can't be
//! written the records stay visible, up to a bound; beyond it they wait in the journal.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::sink::{Sent, Sink, Trouble, told};
use crate::config::LakeSettings;
use crate::journal::{Entry, Position, Tail};
use crate::lake::{Lake, LakeError, Writer};

/// Memory that uncommitted records may take before they are committed early, bytes of JSON.
const EARLY: usize = 64 << 20;
/// After a commit that failed: each try leaves data files behind, which only a vacuum takes away.
const AGAIN: RangeInclusive<Duration> = Duration::from_secs(2)..=Duration::from_secs(60);

/// The lake.
pub(super) struct LakeSink {
    lake: Arc<Lake>,
    writer: Writer,
    instance: String,
    interval: Duration,
    most: usize,
    /// When the oldest uncommitted record was taken.
    since: Option<Instant>,
    /// Behind the last record taken.
    end: Position,
    /// Behind the last record committed.
    committed: Position,
    /// No commit before this.
    not_before: Option<Instant>,
    /// How long after a failure.
    again: Duration,
    /// Behind the last record of the journal when this process began.
    journal_ends: Position,
    delivered: u64,
    rejected: u64,
}

// === impl LakeSink ===

impl LakeSink {
    pub(super) fn new(lake: Arc<Lake>, settings: &LakeSettings, instance: &str, journal_ends: Position) -> Self {
        let committed = reached(&lake, instance);
        Self {
            writer: Writer::new(Arc::clone(&lake)),
            lake,
            instance: instance.to_owned(),
            interval: settings.commit_interval.0,
            most: settings.commit_records,
            since: None,
            end: committed,
            committed,
            not_before: None,
            again: *AGAIN.start(),
            journal_ends,
            delivered: 0,
            rejected: 0,
        }
    }

    fn is_full(&self) -> bool {
        self.writer.records() >= self.most || self.writer.bytes() >= EARLY
    }

    fn is_due(&self) -> bool {
        let old = self.since.is_some_and(|since| since.elapsed() >= self.interval);
        (old || self.is_full()) && !self.is_too_early()
    }

    fn is_too_early(&self) -> bool {
        self.not_before.is_some_and(|at| Instant::now() < at)
    }

    /// Commits what was taken. What goes wrong is told, and tried again later: everything is still there.
    ///
    /// # Errors
    /// The table has come further than we know: what it has must not be committed again.
    fn commit(&mut self) -> Result<Option<String>, Trouble> {
        if self.end == self.committed {
            return Ok(None);
        }
        let last = (u64::from(self.end.epoch), self.end.seq - 1);
        let records = self.writer.records() as u64;
        match self.writer.seal(&self.instance, &[last]) {
            Ok(()) => {
                self.delivered += records;
                self.committed = self.end;
                self.since = None;
                self.not_before = None;
                self.again = *AGAIN.start();
                Ok(None)
            }
            Err(error) => {
                self.not_before = Some(Instant::now() + self.again);
                self.again = (self.again * 2).min(*AGAIN.end());
                match error {
                    LakeError::Contended => Err(Trouble::retry(&error)),
                    error => Ok(Some(told(&error))),
                }
            }
        }
    }
}

impl Sink for LakeSink {
    fn resume(&mut self, tail: &mut Tail) -> Result<(), Trouble> {
        if self.committed > self.journal_ends {
            // Taking its numbers for this journal's would drop records for good.
            return Err(Trouble::Ended(format!(
                "the table has records of the instance `{}` up to {}, and this journal ends at {}: it is another journal of \
                 that name; write another `instance`, or another `path` in [sink.lake]",
                self.instance, self.committed, self.journal_ends
            )));
        }
        // What the table has and the cursor does not know of (a crash came between) is not taken again: see `send`.
        if self.committed > tail.position() {
            tracing::info!(sink = "lake", from = %tail.position(), to = %self.committed, "the table is ahead of the cursor");
        }
        Ok(())
    }

    fn send(&mut self, entry: &Entry<'_>) -> Result<Sent, Trouble> {
        if entry.position < self.end {
            return Ok(Sent::Taken);
        }
        if self.is_full() {
            return Ok(Sent::Full);
        }
        if let Err(error) = self.writer.push(entry.payload) {
            self.rejected += 1;
            tracing::error!(sink = "lake", record = %entry.position, %error, "a record can't be stored in the table");
        }
        self.end = entry.next();
        self.since.get_or_insert_with(Instant::now);
        Ok(Sent::Taken)
    }

    fn flush(&mut self) -> Result<(), Trouble> {
        self.writer.show();
        Ok(())
    }

    fn serve(&mut self, wait: Duration) -> Result<Option<String>, Trouble> {
        if self.is_due() {
            return self.commit();
        }
        std::thread::sleep(wait);
        Ok(None)
    }

    fn drain(&mut self) -> Option<String> {
        // A failed try may leave data files behind: there is one every so often, also while the drain is waited for.
        if self.is_too_early() {
            return None;
        }
        match self.commit() {
            Ok(complaint) => complaint,
            // The next `serve` meets it again, and goes back.
            Err(Trouble::Retry(why) | Trouble::Ended(why)) => Some(why),
            #[cfg(feature = "kafka")]
            Err(Trouble::Again) => None,
        }
    }

    fn reached(&self) -> Option<Position> {
        (self.committed > Position::default()).then_some(self.committed)
    }

    fn in_flight(&self) -> usize {
        self.writer.records()
    }

    fn delivered(&self) -> u64 {
        self.delivered
    }

    fn rejected(&self) -> u64 {
        self.rejected
    }

    fn rewind(&mut self) {
        // The table may have what we know nothing of: a commit whose answer was lost.
        if let Err(error) = self.lake.refresh() {
            tracing::warn!(sink = "lake", %error, "the table can't be read");
        }
        self.writer.forget();
        self.committed = reached(&self.lake, &self.instance).max(self.committed);
        self.end = self.committed;
        self.since = None;
    }
}

/// Behind the last record of this journal that the table has.
fn reached(lake: &Lake, instance: &str) -> Position {
    let behind = |(epoch, seq): (u64, u64)| Position {
        epoch: u32::try_from(epoch).unwrap_or(u32::MAX),
        seq: seq.saturating_add(1),
    };
    lake.reached(instance).map(behind).unwrap_or_default()
}
