//! The writer thread: one batch after the other, for all lanes together (group commit).
//!
//! It sleeps in two depths. Between batches it *naps* for `linger` and only those who wait for a
//! commit, or a lane that fills up, wake it; after a few naps for nothing it *parks*, and the next record wakes it.
//! Waking a thread costs more than a record, so under traffic nobody does; and as much as a nap for nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::lane::{self, Pending, Queue};
use super::log::Log;
use super::{Failed, LossReason, Refused};
use crate::config::{JournalSettings, Sync, WhenFull};

/// `sync = "disk"`, and nobody waits: bytes and time that may be unsynced.
const UNSYNCED: u64 = 1 << 20;
const SYNC_EVERY: Duration = Duration::from_millis(200);
/// How often the log keeps house.
const HOUSE_EVERY: Duration = Duration::from_secs(1);
/// After so many turns with nothing to do, the writer parks.
const IDLE_TURNS: u32 = 3;
/// Longest sleep: delivered segments grow old even if nothing happens.
const PARK: Duration = Duration::from_secs(30);

/// What the lanes, the door and the writer share.
pub(super) struct Shared {
    pub(super) gate: Gate,
    depth: AtomicU8,
    thread: OnceLock<Thread>,
    lanes: Mutex<Lanes>,
    control: Mutex<Control>,
    answered: Condvar,
}

/// Whether records are taken.
pub(super) struct Gate(AtomicU8);

const OPEN: u8 = 0;
const FULL: u8 = 1;
const POISONED: u8 = 2;
const CLOSED: u8 = 3;

const AWAKE: u8 = 0;
const NAPPING: u8 = 1;
const PARKED: u8 = 2;

#[derive(Default)]
struct Lanes {
    queues: Vec<Arc<Queue>>,
    /// Changes with `queues`.
    generation: u64,
    closed: bool,
}

/// What the door asks of the writer.
#[derive(Default)]
struct Control {
    flushes_wanted: u64,
    flushes_done: u64,
    closing: bool,
    closed: Option<Result<(), Failed>>,
}

/// The thread's own.
pub(super) struct Writer {
    shared: Arc<Shared>,
    log: Log,
    linger: Duration,
    sync: Sync,
    when_full: WhenFull,
    taken: Vec<Taken>,
    /// Of the lanes that `taken` was made for.
    generation: u64,
    /// Turns since there was something to do.
    idle_turns: u32,
    last_house: Instant,
    last_sync: Instant,
}

/// A lane's buffer, swapped out.
struct Taken {
    queue: Arc<Queue>,
    bytes: Vec<u8>,
    pending: Vec<Pending>,
    abandoned: bool,
}

/// How far a batch got: everything before this lane, and this one's records up to this byte.
type Reached = (usize, usize);

// === impl Gate ===

impl Gate {
    pub(super) fn check(&self) -> Result<(), Refused> {
        match self.0.load(SeqCst) {
            OPEN => Ok(()),
            FULL => Err(Refused::Full),
            POISONED => Err(Refused::Poisoned),
            _ => Err(Refused::Closed),
        }
    }
}

// === impl Shared ===

impl Shared {
    fn new() -> Self {
        Self {
            gate: Gate(AtomicU8::new(OPEN)),
            depth: AtomicU8::new(AWAKE),
            thread: OnceLock::new(),
            lanes: Mutex::default(),
            control: Mutex::default(),
            answered: Condvar::new(),
        }
    }

    /// Wakes the writer if it would not look for a while. The caller has put its record into the lane
    /// before, and the writer looks into the lanes after saying that it sleeps: one of the two sees the other.
    pub(super) fn wake_if_parked(&self) {
        if self.depth.load(SeqCst) == PARKED {
            self.wake();
        }
    }

    /// Wakes the writer unless it is awake.
    pub(super) fn wake(&self) {
        if self.depth.load(SeqCst) != AWAKE
            && self.depth.swap(AWAKE, SeqCst) != AWAKE
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }

    pub(super) fn new_queue(&self) -> Arc<Queue> {
        let queue = Arc::new(Queue::default());
        let mut lanes = self.lanes();
        queue.lock().closed = lanes.closed;
        lanes.queues.push(Arc::clone(&queue));
        lanes.generation += 1;
        queue
    }

    /// Waits until everything handed over before has been dealt with.
    pub(super) fn flush(&self) -> Result<(), Failed> {
        let mut control = self.control();
        control.flushes_wanted += 1;
        let mine = control.flushes_wanted;
        self.wake();
        while control.flushes_done < mine {
            if let Some(closed) = &control.closed {
                return closed.clone();
            }
            control = self.answered.wait(control).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }

    /// Asks the writer to finish, and waits for it.
    pub(super) fn close(&self) -> Result<(), Failed> {
        let mut control = self.control();
        control.closing = true;
        self.wake();
        loop {
            if let Some(closed) = &control.closed {
                return closed.clone();
            }
            control = self.answered.wait(control).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The writer is gone: nothing is taken any more, and who waits learns it.
    fn end(&self, outcome: Result<(), Failed>) {
        self.gate.0.store(if outcome.is_ok() { CLOSED } else { POISONED }, SeqCst);
        let mut lanes = self.lanes();
        lanes.closed = true;
        for queue in lanes.queues.drain(..) {
            let mut waiting = queue.lock();
            waiting.closed = true;
            let left = std::mem::take(&mut waiting.pending);
            drop(waiting);
            drop(left);
        }
        drop(lanes);
        self.control().closed = Some(outcome);
        self.answered.notify_all();
    }
}

/// Starts the thread.
pub(super) fn start(log: Log, settings: &JournalSettings) -> std::io::Result<Arc<Shared>> {
    let shared = Arc::new(Shared::new());
    let now = Instant::now();
    let writer = Writer {
        shared: Arc::clone(&shared),
        log,
        linger: settings.linger.0,
        sync: settings.sync,
        when_full: settings.when_full,
        taken: Vec::new(),
        generation: 0,
        idle_turns: 0,
        last_house: now,
        last_sync: now,
    };
    let handle = thread::Builder::new().name("journal".to_owned()).spawn(move || {
        let shared = Arc::clone(&writer.shared);
        let outcome = catch_unwind(AssertUnwindSafe(|| writer.run()));
        shared.end(outcome.unwrap_or_else(|_| Err(Failed("the writer stopped by a bug".to_owned()))));
    })?;
    // Nobody else sets it. Before it is set the writer can't be woken, but it looks again after `linger`.
    _ = shared.thread.set(handle.thread().clone());
    Ok(shared)
}

pub(super) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

// === impl Writer ===

impl Writer {
    fn run(mut self) -> Result<(), Failed> {
        loop {
            let (closing, flush) = {
                let control = self.shared.control();
                (control.closing, control.flushes_wanted)
            };
            self.turn(closing, flush);
            if closing {
                break;
            }
            self.rest();
        }
        let outcome = self.log.close(now_ms());
        self.log.publish();
        outcome
    }

    /// One batch: takes what waits in the lanes, writes it, and tells who waited.
    fn turn(&mut self, closing: bool, flush: u64) {
        let now = Instant::now();
        self.take(closing);
        if self.log.view().cursors_moved.swap(false, SeqCst) {
            let cursors = self.log.view().lock().cursors.clone();
            self.log.move_cursors(cursors);
        }
        let busy = self.taken.iter().any(|taken| !taken.bytes.is_empty());
        let house = now.duration_since(self.last_house) >= HOUSE_EVERY;
        let reached = if busy { self.write() } else { Ok(()) };
        self.idle_turns = if busy { 0 } else { self.idle_turns.saturating_add(1) };
        if house {
            self.last_house = now;
            self.log.keep_house(now_ms());
        }
        let flushing = flush > self.shared.control().flushes_done;
        let synced = self.sync_if_due(now, flushing);
        if busy || house || synced {
            self.log.publish();
            self.set_gate();
        }
        if busy {
            self.resolve(reached, now);
        }
        if flushing {
            self.shared.control().flushes_done = flush;
            self.shared.answered.notify_all();
        }
    }

    /// Swaps the lanes' buffers out. The last time, closes them.
    fn take(&mut self, closing: bool) {
        let mut lanes = self.shared.lanes();
        lanes.closed |= closing;
        if lanes.generation != self.generation {
            self.generation = lanes.generation;
            self.taken.clear();
            self.taken.extend(lanes.queues.iter().map(|queue| Taken::new(Arc::clone(queue))));
        }
        let mut lost = lane::Lost::default();
        for taken in &mut self.taken {
            let mut waiting = taken.queue.lock();
            waiting.closed |= closing;
            taken.abandoned = waiting.abandoned;
            std::mem::swap(&mut waiting.bytes, &mut taken.bytes);
            std::mem::swap(&mut waiting.pending, &mut taken.pending);
            let new = std::mem::take(&mut waiting.lost);
            lost.overrun += new.overrun;
            lost.refused += new.refused;
            lost.too_large += new.too_large;
        }
        if self.taken.iter().any(|taken| taken.abandoned && taken.bytes.is_empty()) {
            lanes.queues.retain(|queue| !queue.lock().abandoned || !queue.lock().bytes.is_empty());
            lanes.generation += 1;
        }
        drop(lanes);
        self.log.lost(LossReason::Overrun, lost.overrun);
        self.log.lost(LossReason::TooLarge, lost.too_large);
        self.log.lost(self.log.loss_reason(), lost.refused);
    }

    /// Writes what was taken. On an error, how far it got before.
    fn write(&mut self) -> Result<(), (Reached, Refused)> {
        self.log.begin(now_ms());
        let mut reached = (0, 0);
        let mut outcome = Ok(());
        let mut lost = 0;
        for (i, taken) in self.taken.iter().enumerate() {
            for (record, end) in lane::records(&taken.bytes) {
                if outcome.is_err() {
                    lost += 1;
                    continue;
                }
                self.log.stage(record);
                if self.log.wants_commit() {
                    outcome = self.log.commit();
                    if outcome.is_ok() {
                        reached = (i, end);
                    }
                }
            }
        }
        if outcome.is_ok() {
            outcome = self.log.commit();
        }
        self.log.lost(self.log.loss_reason(), lost);
        self.log.shrink(lane::KEEP);
        outcome.map_err(|refused| (reached, refused))
    }

    /// Syncs if somebody waits for it or it has been long enough; whether it did.
    fn sync_if_due(&mut self, now: Instant, flushing: bool) -> bool {
        let mut waiters = self.taken.iter().flat_map(|taken| &taken.pending);
        let due = match self.sync {
            Sync::Os => waiters.any(|pending| pending.durable),
            Sync::Disk => {
                let long = now.duration_since(self.last_sync) >= SYNC_EVERY || self.log.unsynced() >= UNSYNCED;
                waiters.next().is_some() || flushing || self.log.unsynced() > 0 && long
            }
        };
        if due {
            self.last_sync = now;
            // Poisoned: `resolve` sees it.
            _ = self.log.sync();
        }
        due
    }

    /// Tells who waited, and clears the buffers for the next swap.
    fn resolve(&mut self, written: Result<(), (Reached, Refused)>, now: Instant) {
        let poisoned = self.log.refuses() == Some(Refused::Poisoned);
        for (i, taken) in self.taken.iter_mut().enumerate() {
            let outcome = |end: usize| match written {
                // After a failure nothing is claimed, not even what was written before it.
                _ if poisoned => Err(Refused::Poisoned),
                Err((reached, refused)) if (i, end) > reached => Err(refused),
                _ => Ok(()),
            };
            if !taken.pending.is_empty() {
                let resolved = taken.pending.drain(..).map(|pending| {
                    let outcome = outcome(pending.end);
                    (pending, outcome)
                });
                taken.queue.resolve(resolved, now);
            }
            let used = taken.bytes.len();
            taken.bytes.clear();
            if used < lane::KEEP / 2 {
                taken.bytes.shrink_to(lane::KEEP);
            }
        }
    }

    fn set_gate(&self) {
        let gate = match self.log.refuses() {
            Some(Refused::Poisoned) => POISONED,
            Some(_) if self.when_full == WhenFull::Refuse => FULL,
            _ => OPEN,
        };
        self.shared.gate.0.store(gate, SeqCst);
    }

    /// Sleeps until the next batch.
    fn rest(&mut self) {
        let now = Instant::now();
        let unsynced =
            self.sync == Sync::Disk && self.log.unsynced() > 0 && self.log.refuses() != Some(Refused::Poisoned);
        let idle = self.idle_turns >= IDLE_TURNS && !unsynced;
        let handing_on = self.taken.iter().fold(false, |any, taken| taken.queue.hurry(now) | any);
        let (depth, nap) = match (idle, self.log.house_is_untidy()) {
            _ if handing_on => (NAPPING, lane::HAND_ON.min(self.linger)),
            (false, _) => (NAPPING, self.linger),
            (true, true) => (PARKED, HOUSE_EVERY),
            (true, false) => (PARKED, PARK),
        };
        self.shared.depth.store(depth, SeqCst);
        if !self.wanted(depth) {
            thread::park_timeout(nap);
        }
        self.shared.depth.store(AWAKE, SeqCst);
    }

    /// Whether something came in since the last look that is worth staying awake for.
    fn wanted(&self, depth: u8) -> bool {
        let control = self.shared.control();
        let asked = control.closing || control.flushes_wanted > control.flushes_done;
        drop(control);
        let worth = if depth == PARKED { 1 } else { lane::PLENTY };
        let cursors = depth == PARKED && self.log.view().cursors_moved.load(SeqCst);
        asked
            || cursors
            || self.shared.lanes().queues.iter().any(|queue| {
                let waiting = queue.lock();
                !waiting.pending.is_empty() || waiting.bytes.len() >= worth
            })
    }
}

impl Taken {
    fn new(queue: Arc<Queue>) -> Self {
        Self { queue, bytes: Vec::new(), pending: Vec::new(), abandoned: false }
    }
}
