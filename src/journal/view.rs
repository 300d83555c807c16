//! What the writer publishes to everybody else: how far records may be read, and the figures.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::book::{Cursors, slowest};
use super::segment::Segment;
use super::{LossReason, Position, SinkStatus, Status};

/// Shared by the writer, the tails and whoever asks for the status.
pub(super) struct View {
    published: Mutex<Published>,
    news: Condvar,
    /// Tails that sleep until something is published.
    sleepers: AtomicU64,
    /// A cursor moved since the writer last looked.
    pub(super) cursors_moved: AtomicBool,
    /// Times a tail had to jump over damage.
    pub(super) damage_seen: AtomicU64,
    pub(super) max_bytes: u64,
    pub(super) sinks: Vec<String>,
}

/// The writer's latest word.
#[derive(Default)]
pub(super) struct Published {
    /// All segments; only `len` bytes of each may be read.
    pub(super) segments: Vec<Segment>,
    /// The first position that may not be read yet.
    pub(super) next: Position,
    /// Each sink's progress: moved by sinks, written to disk by the writer.
    pub(super) cursors: Cursors,
    pub(super) bytes: u64,
    pub(super) written: u64,
    pub(super) lost: Vec<(LossReason, u64)>,
    pub(super) full: bool,
    pub(super) poisoned: Option<String>,
    pub(super) marks: Marks,
}

/// When which position was written, about once a second: for the age of undelivered records.
#[derive(Default)]
pub(super) struct Marks(VecDeque<(Position, u64)>);

/// Finest distance of two marks.
const MARK_EVERY_MS: u64 = 1_000;
/// Marks kept at most; beyond it every other one is dropped.
const MARKS: usize = 1_024;

// === impl View ===

impl View {
    pub(super) fn new(max_bytes: u64, sinks: &[String], published: Published) -> Self {
        Self {
            published: Mutex::new(published),
            news: Condvar::new(),
            sleepers: AtomicU64::new(0),
            cursors_moved: AtomicBool::new(false),
            damage_seen: AtomicU64::new(0),
            max_bytes,
            sinks: sinks.to_vec(),
        }
    }

    /// The latest word. Nothing below panics while it is held, and a reader's panic leaves it whole.
    pub(super) fn lock(&self) -> MutexGuard<'_, Published> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes sleeping tails; no system call when there are none.
    pub(super) fn announce(&self) {
        if self.sleepers.load(SeqCst) > 0 {
            self.news.notify_all();
        }
    }

    /// Sleeps until a record at or behind `from` may be read, or until `deadline`.
    pub(super) fn sleep(&self, from: Position, deadline: Instant) {
        let mut published = self.lock();
        self.sleepers.fetch_add(1, SeqCst);
        while published.next <= from {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            published = self.news.wait_timeout(published, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        self.sleepers.fetch_sub(1, SeqCst);
    }

    /// Moves `sink`'s cursor forward; never back.
    pub(super) fn save_cursor(&self, sink: &str, next: Position) {
        let mut published = self.lock();
        let cursor = match published.cursors.get_mut(sink) {
            Some(cursor) => cursor,
            None => published.cursors.entry(sink.to_owned()).or_default(),
        };
        if next > *cursor {
            *cursor = next;
            drop(published);
            self.cursors_moved.store(true, SeqCst);
        }
    }

    pub(super) fn status(&self, now_ms: u64) -> Status {
        let published = self.lock();
        let sinks = self.sinks.iter().map(|name| {
            let next = published.cursors.get(name).copied().unwrap_or_default();
            SinkStatus { name: name.clone(), next, lag: published.lag(next, now_ms) }
        });
        Status {
            bytes: published.bytes,
            max_bytes: self.max_bytes,
            oldest: published.lag(Position::default(), now_ms),
            next: published.next,
            written: published.written,
            lost: published.lost.clone(),
            damage_seen: self.damage_seen.load(SeqCst),
            full: published.full,
            poisoned: published.poisoned.clone(),
            sinks: sinks.collect(),
        }
    }
}

// === impl Published ===

impl Published {
    /// The age of the record at `cursor`; `None` if there is none yet.
    fn lag(&self, cursor: Position, now_ms: u64) -> Option<Duration> {
        if cursor >= self.next || self.next.seq == 1 && self.segments.len() <= 1 {
            return None;
        }
        let begun = self.segments.iter().rev().find(|segment| segment.first <= cursor).or(self.segments.first());
        let since = self.marks.at(cursor).or(begun.map(|segment| segment.begun_ms))?;
        Some(Duration::from_millis(now_ms.saturating_sub(since)))
    }

    /// Notes that records from `first` on were written at `now_ms`.
    pub(super) fn mark(&mut self, first: Position, now_ms: u64, sinks: &[String]) {
        let slowest = slowest(&self.cursors, sinks).unwrap_or(first);
        self.marks.push(first, now_ms, slowest);
    }
}

// === impl Marks ===

impl Marks {
    fn push(&mut self, first: Position, now_ms: u64, slowest: Position) {
        if self.0.back().is_some_and(|(_, ms)| now_ms < ms + MARK_EVERY_MS) {
            return;
        }
        while self.0.len() > 1 && self.0[1].0 <= slowest {
            self.0.pop_front();
        }
        if self.0.len() >= MARKS {
            let mut keep = false;
            self.0.retain(|_| {
                keep = !keep;
                keep
            });
        }
        self.0.push_back((first, now_ms));
    }

    /// When the record at `position` was written, or a little earlier.
    fn at(&self, position: Position) -> Option<u64> {
        let after = self.0.partition_point(|(first, _)| *first <= position);
        after.checked_sub(1).map(|i| self.0[i].1)
    }
}
