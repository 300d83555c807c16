//! One sink's thread: tail → batch → send → acknowledgements → watermark → cursor.
//!
//! It wakes 5 to 20 times a second while there is traffic, not once per record: after a batch that was not full it
//! naps, as long as it takes for [`GATHER`] bytes to come together, within [`NAP`].

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::backoff::Backoff;
use super::sink::{Sent, Sink, Trouble};
use super::{SinkState, SinkStatus};
use crate::journal::{Entry, Journal, Position};

/// Most bytes read from the journal at once.
const READ: usize = 64 << 10;
/// What should have come together after a nap.
const GATHER: usize = 128 << 10;
/// From this on a batch is full, and more may be waiting: a read counts frames too, and ends with a whole record.
const FULL_READ: usize = READ / 4 * 3;
/// Between batches that are not full. A wake-up costs about 50 µs of cold caches, a longer nap delays the records,
/// and a larger batch delays the traffic that shares the processor.
const NAP: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_millis(200);
/// Longest wait for a record when nothing is on its way; also how soon a stop is noticed.
const IDLE: Duration = Duration::from_millis(250);
/// Between tries to hand a record to a full sink.
const FULL: Duration = Duration::from_millis(5);
/// How often the cursor moves: a crash repeats at most this much.
const SAVE: Duration = Duration::from_secs(1);
/// How often a trouble that lasts is logged again.
const REMIND: Duration = Duration::from_secs(60);

/// A sink and its way through the journal.
pub(super) struct Worker<S> {
    pub(super) name: &'static str,
    pub(super) journal: Arc<Journal>,
    pub(super) sink: S,
    pub(super) board: Arc<Board>,
    pub(super) stop: Arc<Stop>,
    pub(super) course: Course,
}

/// How far the worker is.
pub(super) struct Course {
    backoff: Backoff,
    saved: Option<Position>,
    saved_at: Instant,
    nap: Duration,
    /// Bytes read since the last nap.
    gathered: usize,
    /// For each batch not fully delivered: the place behind it, and when its first record was written (ms).
    batches: VecDeque<(Position, u64)>,
    reminded: Option<Instant>,
    resumed: bool,
}

/// What others may know of a sink.
pub(super) struct Board(Mutex<SinkStatus>);

/// When to stop.
#[derive(Default)]
pub(super) struct Stop {
    deadline: Mutex<Option<Instant>>,
    bell: Condvar,
}

// === impl Worker ===

impl<S: Sink> Worker<S> {
    /// Delivers until it is stopped or the sink ends.
    pub(super) fn run(mut self) {
        loop {
            let outcome = self.stream();
            self.publish();
            match outcome {
                Ok(()) => break,
                Err(Trouble::Ended(why)) => return self.end(why),
                #[cfg(feature = "kafka")]
                Err(Trouble::Again) => {}
                Err(Trouble::Retry(why)) => {
                    self.board.write().retries += 1;
                    self.complain(why);
                    // What arrived before the trouble is not sent again. A failure here is the same trouble.
                    let _ = self.save();
                    self.stop.nap(self.course.backoff.next());
                    if self.stop.expired() {
                        break;
                    }
                }
            }
            let _ = self.save();
            self.sink.rewind();
            self.course.batches.clear();
        }
        if let Err(Trouble::Retry(why)) = self.save() {
            self.complain(why);
        }
        self.board.write().state = SinkState::Stopped;
    }

    /// Reads and sends until the stop, or until there is trouble.
    fn stream(&mut self) -> Result<(), Trouble> {
        if !self.course.resumed {
            self.sink.resume(&mut self.journal.tail(self.name))?;
            self.course.resumed = true;
        }
        let mut tail = self.journal.tail(self.name);
        loop {
            let stopping = self.stop.asked();
            let wait = if stopping || self.sink.in_flight() > 0 { Duration::ZERO } else { IDLE };
            let batch = tail.next(READ, wait).map_err(|e| Trouble::retry(&e))?;
            let mut bytes = 0;
            if let (Some(first), Some(last)) = (batch.iter().next(), batch.iter().last()) {
                self.course.batches.push_back((last.next(), first.written_ms));
            }
            for entry in batch.iter() {
                bytes += entry.payload.len();
                if !self.push(&entry)? {
                    return Ok(());
                }
            }
            let empty = bytes == 0;
            self.sink.flush()?;
            if stopping
                && empty
                && let Some(complaint) = self.sink.drain()
            {
                self.complain(complaint);
            }
            let caught_up = empty && self.sink.in_flight() == 0;
            // Idle, it waits for news; behind a full read that took the last there was, it rests as behind any other.
            let idle = caught_up && self.course.gathered == 0;
            let wait = self.course.rest(bytes);
            self.serve(if idle { Duration::ZERO } else { self.stop.shorten(wait) })?;
            if caught_up {
                self.board.write().oldest = None;
            }
            let drained = stopping && caught_up;
            if drained || self.stop.expired() {
                self.board.write().drained = drained;
                return Ok(());
            }
        }
    }

    /// Offers a record until the sink takes it. False when the deadline passed before.
    fn push(&mut self, entry: &Entry<'_>) -> Result<bool, Trouble> {
        while self.sink.send(entry)? == Sent::Full {
            self.serve(FULL)?;
            if self.stop.expired() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn serve(&mut self, wait: Duration) -> Result<(), Trouble> {
        let complaint = self.sink.serve(wait)?;
        let progress = self.publish();
        match complaint {
            Some(complaint) => self.complain(complaint),
            None if progress => self.recover(),
            None => {}
        }
        if self.course.saved_at.elapsed() >= SAVE { self.save() } else { Ok(()) }
    }

    /// Writes the board. True when something was delivered since the last time.
    fn publish(&mut self) -> bool {
        let reached = self.sink.reached();
        while self.course.batches.pop_front_if(|(end, _)| reached >= Some(*end)).is_some() {}
        let mut board = self.board.write();
        let progress = board.delivered != self.sink.delivered();
        board.delivered = self.sink.delivered();
        board.rejected = self.sink.rejected();
        board.in_flight = self.sink.in_flight();
        board.acked = reached.or(board.acked);
        // When the last batch is through there may be more in the journal: only an empty read says that all is.
        if let Some((_, written_ms)) = self.course.batches.front() {
            board.oldest = Some(*written_ms);
        }
        progress
    }

    fn save(&mut self) -> Result<(), Trouble> {
        self.course.saved_at = Instant::now();
        if self.sink.reached() > self.course.saved {
            self.sink.secure()?;
            if let Some(reached) = self.sink.reached() {
                self.journal.save_cursor(self.name, reached);
                self.course.saved = Some(reached);
            }
        }
        Ok(())
    }

    /// Says what is wrong: at once when it is new, then once a minute.
    fn complain(&mut self, why: String) {
        let mut board = self.board.write();
        let due = self.course.reminded.is_none_or(|at| at.elapsed() >= REMIND);
        let new = board.state != SinkState::Retrying || board.last_error.as_ref() != Some(&why);
        // A flapping broker complains in many words: new ones are still said at most once a second.
        if due || (new && self.course.reminded.is_none_or(|at| at.elapsed() >= SAVE)) {
            self.course.reminded = Some(Instant::now());
            tracing::error!(sink = self.name, error = %why, "delivery is held up; records wait in the journal");
        }
        board.state = SinkState::Retrying;
        board.last_error = Some(why);
    }

    fn recover(&mut self) {
        self.course.backoff.reset();
        let mut board = self.board.write();
        if board.state == SinkState::Retrying {
            board.state = SinkState::Running;
            self.course.reminded = None;
            tracing::info!(sink = self.name, "delivery goes on");
        }
    }

    fn end(&mut self, why: String) {
        tracing::error!(sink = self.name, error = %why, "this sink is over; its records stay in the journal");
        let _ = self.save();
        let mut board = self.board.write();
        board.state = SinkState::Ended;
        board.last_error = Some(why);
    }
}

// === impl Course ===

impl Course {
    pub(super) fn new() -> Self {
        Self {
            backoff: Backoff::new(),
            saved: None,
            saved_at: Instant::now(),
            nap: *NAP.start(),
            gathered: 0,
            batches: VecDeque::new(),
            reminded: None,
            resumed: false,
        }
    }

    /// How long to rest after a batch of so many bytes.
    fn rest(&mut self, bytes: usize) -> Duration {
        self.gathered += bytes;
        if bytes >= FULL_READ {
            return Duration::ZERO;
        }
        let gathered = std::mem::take(&mut self.gathered);
        let fitting = self.nap.as_secs_f64() * GATHER as f64 / gathered.max(1) as f64;
        self.nap = Duration::from_secs_f64(fitting.clamp(NAP.start().as_secs_f64(), NAP.end().as_secs_f64()));
        self.nap
    }
}

// === impl Board ===

impl Board {
    pub(super) fn new(name: &'static str) -> Self {
        Self(Mutex::new(SinkStatus::new(name)))
    }

    /// A copy, with the lag as of now.
    pub(super) fn read(&self) -> SinkStatus {
        let mut status = self.write().clone();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        status.lag = status.oldest.map(|ms| now.saturating_sub(Duration::from_millis(ms)));
        status
    }

    fn write(&self) -> MutexGuard<'_, SinkStatus> {
        // A panic elsewhere leaves numbers, not broken invariants.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Stop ===

impl Stop {
    /// Deliver what can be delivered until `deadline`, then end.
    pub(super) fn ask(&self, deadline: Instant) {
        *self.deadline() = Some(deadline);
        self.bell.notify_all();
    }

    fn asked(&self) -> bool {
        self.deadline().is_some()
    }

    fn expired(&self) -> bool {
        self.deadline().is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Naps are short once a stop was asked for.
    fn shorten(&self, nap: Duration) -> Duration {
        if self.asked() { nap.min(FULL) } else { nap }
    }

    /// Sleeps; a stop shortens it to leave time for more tries before the deadline.
    fn nap(&self, delay: Duration) {
        let guard = self.deadline();
        let delay = if guard.is_some() { delay.min(Backoff::FIRST) } else { delay };
        // A wake-up without cause only makes the next try earlier.
        drop(self.bell.wait_timeout(guard, delay));
    }

    fn deadline(&self) -> MutexGuard<'_, Option<Instant>> {
        self.deadline.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, feature = "kafka"))]
mod tests;
