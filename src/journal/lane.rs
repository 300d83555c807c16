//! The way in: a buffer for each worker thread, and futures for those who wait.
//!
//! A lane's mutex is taken by its worker and, once a batch, by the writer, which swaps the buffer for
//! an empty one. Waiting tasks of a lane share one wake-up: waking a task from another thread costs a
//! system call, so the writer wakes one of them, and that one wakes the others on their own thread.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::Refused;
use super::writer::Shared;

/// Bytes that may wait in one lane; beyond it records are shed.
const LIMIT: usize = 4 << 20;
/// Largest record.
const MAX_RECORD: usize = LIMIT - LENGTH;
/// Bytes of the length in front of each record.
const LENGTH: usize = 4;
/// Memory a buffer keeps after a burst.
pub(super) const KEEP: usize = 128 << 10;
/// So much in one lane is worth a batch of its own: the writer is woken, and buffers stay within [`KEEP`].
pub(super) const PLENTY: usize = KEEP / 4 * 3;
/// How long waiting tasks may rely on the one that was woken.
pub(super) const HAND_ON: Duration = Duration::from_millis(5);

/// A worker's way into the journal: one per thread, cheap while no other thread uses it.
pub struct Lane {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
}

/// Resolves when the record is as safe as was asked for.
#[must_use = "the record is only known to be safe when this has resolved"]
pub struct Committed(Result<(Arc<Waiter>, Arc<Queue>), Refused>);

/// What the lane and the writer share.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    ready: Mutex<Ready>,
}

/// Records on their way to the writer.
#[derive(Default)]
pub(super) struct Waiting {
    /// Each record behind its length.
    pub(super) bytes: Vec<u8>,
    pub(super) pending: Vec<Pending>,
    pub(super) lost: Lost,
    /// The lane is gone: nothing more will come.
    pub(super) abandoned: bool,
    /// The writer is gone.
    pub(super) closed: bool,
}

/// Records that were not taken, by what is known here.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lost {
    pub(super) overrun: u64,
    pub(super) refused: u64,
    pub(super) too_large: u64,
}

/// How much a lane holds.
enum Waits {
    /// The writer's next look is soon enough.
    Little,
    /// At least [`PLENTY`].
    Plenty,
}

/// Tasks that may go on, and since when.
#[derive(Default)]
struct Ready {
    waiters: Vec<Arc<Waiter>>,
    since: Option<Instant>,
}

/// A record somebody waits for. Dropped without a word, it failed.
pub(super) struct Pending {
    /// Where the record ends in the buffer.
    pub(super) end: usize,
    /// Wants `fdatasync`, whatever the settings say.
    pub(super) durable: bool,
    waiter: Arc<Waiter>,
}

/// The two ends of a wait.
#[derive(Default)]
struct Waiter {
    /// 0 while waiting, else [`code`] of the outcome.
    outcome: AtomicU8,
    waker: Mutex<Option<Waker>>,
}

// === impl Lane ===

impl Lane {
    pub(super) fn new(shared: Arc<Shared>, queue: Arc<Queue>) -> Self {
        Self { shared, queue }
    }

    /// Hands one encoded record (a JSON object with members, without `seq`, `epoch`, `instance`) to the
    /// writer. Never blocks; no system call unless the writer sleeps deeply or much is waiting. What is
    /// not taken is counted as lost.
    pub fn append(&self, record: &[u8]) -> Result<(), Refused> {
        match self.push(record, None)? {
            Waits::Little => self.shared.wake_if_parked(),
            Waits::Plenty => self.shared.wake(),
        }
        Ok(())
    }

    /// Like [`Lane::append`]; resolves when the record is in the file (`sync = "os"`) or on the disk
    /// (`"disk"`). Dropping the future does not take the record back.
    pub fn append_committed(&self, record: &[u8]) -> Committed {
        self.push_waiting(record, false)
    }

    /// Like [`Lane::append_committed`]; resolves when the record is on the disk, whatever `sync` says.
    pub fn append_durable(&self, record: &[u8]) -> Committed {
        self.push_waiting(record, true)
    }

    /// Whether the journal takes records now: [`Refused::Full`] only under `when_full = "refuse"`. One
    /// atomic load.
    pub fn accepts(&self) -> Result<(), Refused> {
        self.shared.gate.check()
    }

    fn push_waiting(&self, record: &[u8], durable: bool) -> Committed {
        let waiter = Arc::new(Waiter::default());
        match self.push(record, Some((&waiter, durable))) {
            Ok(_) => {
                self.shared.wake();
                Committed(Ok((waiter, Arc::clone(&self.queue))))
            }
            Err(refused) => Committed(Err(refused)),
        }
    }

    fn push(&self, record: &[u8], waiter: Option<(&Arc<Waiter>, bool)>) -> Result<Waits, Refused> {
        debug_assert!(record.starts_with(b"{\"") && record.ends_with(b"}"), "a record is a JSON object with members");
        let mut waiting = self.queue.lock();
        if waiting.closed {
            return Err(self.shared.gate.check().err().unwrap_or(Refused::Closed));
        }
        if let Err(refused) = self.shared.gate.check() {
            waiting.lost.refused += 1;
            return Err(refused);
        }
        if record.len() > MAX_RECORD {
            waiting.lost.too_large += 1;
            return Err(Refused::TooLarge);
        }
        if waiting.bytes.len() + LENGTH + record.len() > LIMIT {
            waiting.lost.overrun += 1;
            return Err(Refused::Full);
        }
        // MAX_RECORD fits u32.
        waiting.bytes.extend_from_slice(&(record.len() as u32).to_le_bytes());
        waiting.bytes.extend_from_slice(record);
        if let Some((waiter, durable)) = waiter {
            let end = waiting.bytes.len();
            waiting.pending.push(Pending { end, durable, waiter: Arc::clone(waiter) });
        }
        Ok(if waiting.bytes.len() < PLENTY { Waits::Little } else { Waits::Plenty })
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.queue.lock().abandoned = true;
    }
}

// === impl Queue ===

impl Queue {
    /// Held for a few instructions only, none of which panics half-way.
    pub(super) fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ready(&self) -> MutexGuard<'_, Ready> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells those who waited how it went, waking one of them.
    pub(super) fn resolve(&self, resolved: impl Iterator<Item = (Pending, Result<(), Refused>)>, now: Instant) {
        let mut ready = self.ready();
        let first = ready.waiters.len();
        for (pending, outcome) in resolved {
            pending.waiter.outcome.store(code(outcome), Ordering::SeqCst);
            ready.waiters.push(Arc::clone(&pending.waiter));
        }
        if ready.waiters.len() == first {
            return;
        }
        if first > 0 {
            // One was woken for these already and is on its way.
            return;
        }
        ready.since = Some(now);
        let woken = ready.waiters.iter().position(|waiter| waiter.waker().is_some());
        // Who is not registered yet looks at the outcome before going to sleep.
        let waker = woken.and_then(|i| ready.waiters.swap_remove(i).waker().take());
        if waker.is_none() {
            ready.waiters.clear();
        }
        drop(ready);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Wakes everybody else who may go on. On the workers' own thread this is no system call.
    fn hand_on(&self) {
        let waiters = std::mem::take(&mut self.ready().waiters);
        for waiter in waiters {
            waiter.wake();
        }
    }

    /// Tasks are waiting for the one that was woken. If that takes too long (it may be waiting for
    /// something else), wakes them all.
    pub(super) fn hurry(&self, now: Instant) -> bool {
        let ready = self.ready();
        if ready.waiters.is_empty() {
            return false;
        }
        let late = ready.since.is_none_or(|since| now.saturating_duration_since(since) >= HAND_ON);
        drop(ready);
        if late {
            self.hand_on();
        }
        !late
    }
}

// === impl Waiter ===

impl Waiter {
    fn waker(&self) -> MutexGuard<'_, Option<Waker>> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        let waker = self.waker().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn outcome(&self) -> Option<Result<(), Refused>> {
        Some(match self.outcome.load(Ordering::SeqCst) {
            0 => return None,
            1 => Ok(()),
            2 => Err(Refused::Full),
            3 => Err(Refused::TooLarge),
            4 => Err(Refused::Closed),
            _ => Err(Refused::Poisoned),
        })
    }
}

fn code(outcome: Result<(), Refused>) -> u8 {
    match outcome {
        Ok(()) => 1,
        Err(Refused::Full) => 2,
        Err(Refused::TooLarge) => 3,
        Err(Refused::Closed) => 4,
        Err(Refused::Poisoned) => 5,
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let failed = code(Err(Refused::Poisoned));
        if self.waiter.outcome.compare_exchange(0, failed, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            self.waiter.wake();
        }
    }
}

// === impl Committed ===

impl Future for Committed {
    type Output = Result<(), Refused>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (waiter, queue) = match &self.0 {
            Ok(both) => both,
            Err(refused) => return Poll::Ready(Err(*refused)),
        };
        if waiter.outcome().is_none() {
            let mut waker = waiter.waker();
            if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                *waker = Some(cx.waker().clone());
            }
        }
        // Looked at again: it may have been stored before the waker was, and then nobody wakes us.
        let Some(outcome) = waiter.outcome() else { return Poll::Pending };
        *waiter.waker() = None;
        queue.hand_on();
        Poll::Ready(outcome)
    }
}

impl Drop for Committed {
    fn drop(&mut self) {
        if let Ok((waiter, queue)) = &self.0 {
            *waiter.waker() = None;
            if waiter.outcome().is_some() {
                // It may have been the one that was woken for all.
                queue.hand_on();
            }
        }
    }
}

/// The records in a lane's buffer, each with where it ends.
pub(super) fn records(bytes: &[u8]) -> impl Iterator<Item = (&[u8], usize)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let (length, rest) = bytes[at..].split_first_chunk::<LENGTH>()?;
        let len = u32::from_le_bytes(*length) as usize;
        at += LENGTH + len;
        Some((&rest[..len], at))
    })
}
