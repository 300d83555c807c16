//! The way out: reads records on from a position, across segments, as far as the writer published.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::{Duration, Instant};

use super::disk::{Access, Disk, DiskFile};
use super::scan::{Scan, Step};
use super::segment;
use super::view::View;
use super::writer::Shared;
use super::{Entry, Position, TailError, frame};

/// Under traffic a tail looks this often by itself, so that the writer need not wake it.
const NAP: Duration = Duration::from_millis(200);
/// After this long without a record it sleeps until it is woken.
const IDLE_AFTER: Duration = Duration::from_secs(1);
/// Bounds of one read.
const WINDOW: Range<usize> = 16 << 10..4 << 20;
/// Memory kept while there is nothing to read.
const KEEP: usize = 64 << 10;

/// A sink's way out of the journal: reads on from its cursor.
pub struct Tail {
    cursor: Cursor,
    disk: Arc<dyn Disk>,
    next: Position,
    /// How far the writer had come when this tail last looked.
    seen: Position,
    open: Option<Open>,
    slots: Vec<Slot>,
    last_news: Instant,
}

/// Saves how far a sink has come. Cheap to clone, for acknowledgements that come on another thread.
#[derive(Clone)]
pub struct Cursor {
    sink: Arc<str>,
    view: Arc<View>,
    shared: Arc<Shared>,
}

/// Records read by [`Tail::next`], oldest first; possibly none.
pub struct Batch<'a>(&'a Tail);

/// The segment being read.
struct Open {
    first: Position,
    file: Arc<dyn DiskFile>,
    scan: Scan,
    /// Its end can't be read while it is of this length.
    torn_at: Option<u64>,
}

/// A record in the window.
struct Slot {
    position: Position,
    written_ms: u64,
    payload: Range<usize>,
}

/// Which segment to read, and how far.
struct Target {
    first: Position,
    len: u64,
    following: Option<Position>,
}

// === impl Tail ===

impl Tail {
    pub(super) fn new(sink: &str, view: Arc<View>, shared: Arc<Shared>, disk: Arc<dyn Disk>) -> Self {
        let next = view.lock().cursors.get(sink).copied().unwrap_or_default();
        let cursor = Cursor { sink: sink.into(), view, shared };
        Self { cursor, disk, next, seen: next, open: None, slots: Vec::new(), last_news: Instant::now() }
    }

    /// The next records, up to about `max_bytes` (at least one if there is one); none after `wait`.
    /// Blocks: for a sink's own thread. Damaged bytes are skipped and logged.
    pub fn next(&mut self, max_bytes: usize, wait: Duration) -> Result<Batch<'_>, TailError> {
        let deadline = Instant::now() + wait;
        self.slots.clear();
        loop {
            self.gather(max_bytes)?;
            let now = Instant::now();
            if !self.slots.is_empty() {
                self.last_news = now;
                break;
            }
            if now >= deadline {
                break;
            }
            if let Some(open) = &mut self.open {
                open.scan.shrink(KEEP);
            }
            if now.duration_since(self.last_news) < IDLE_AFTER {
                thread::sleep(NAP.min(deadline - now));
            } else {
                self.cursor.view.sleep(self.seen, deadline);
            }
        }
        Ok(Batch(self))
    }

    /// Where this tail reads next.
    pub fn position(&self) -> Position {
        self.next
    }

    /// The way to save this sink's progress.
    pub fn cursor(&self) -> Cursor {
        self.cursor.clone()
    }

    /// Reads what there is, through as many segments as it takes to find one record.
    fn gather(&mut self, max_bytes: usize) -> Result<(), TailError> {
        loop {
            let Some(target) = self.target() else { return Ok(()) };
            let found = match self.read(&target, max_bytes) {
                // Removed since, because nobody needs it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                read => read,
            };
            found.map_err(|source| TailError { segment: segment::name(target.first), source })?;
            let Some(following) = target.following.filter(|_| self.slots.is_empty()) else { return Ok(()) };
            self.next = self.next.max(following);
            self.open = None;
        }
    }

    fn target(&mut self) -> Option<Target> {
        let published = self.cursor.view.lock();
        self.seen = published.next;
        let segments = &published.segments;
        let place = self.open.as_ref().map_or(self.next, |open| open.first);
        let i = segments.partition_point(|segment| segment.first <= place).saturating_sub(1);
        let segment = segments.get(i)?;
        Some(Target { first: segment.first, len: segment.len, following: segments.get(i + 1).map(|s| s.first) })
    }

    /// Reads records of one segment into the window.
    fn read(&mut self, target: &Target, max_bytes: usize) -> io::Result<()> {
        let open = match &mut self.open {
            Some(open) if open.first == target.first => open,
            other => {
                let file = self.disk.open(&segment::name(target.first), Access::Read)?;
                other.insert(Open { first: target.first, file, scan: Scan::new(0, KEEP), torn_at: None })
            }
        };
        if open.torn_at == Some(target.len) {
            return Ok(());
        }
        open.scan.set_window(max_bytes.clamp(WINDOW.start, WINDOW.end));
        let mut bytes = 0;
        while bytes < max_bytes.max(1) {
            let step = if self.slots.is_empty() {
                open.scan.step(&*open.file, target.len)?
            } else {
                // What has been found must not move.
                open.scan.buffered().map_or(Step::End, Step::Frame)
            };
            match step {
                Step::Frame(frame) if frame.kind == frame::RECORD && frame.position >= self.next => {
                    let payload = open.scan.payload(&frame);
                    bytes += payload.len();
                    self.next = Position { seq: frame.position.seq + 1, ..frame.position };
                    self.slots.push(Slot { position: frame.position, written_ms: frame.written_ms, payload });
                }
                Step::Frame(_) => {}
                Step::Damage { from, to } => self.cursor.report_damage(target.first, from, to),
                Step::Torn { from } => {
                    open.torn_at = Some(target.len);
                    self.cursor.report_damage(target.first, from, target.len);
                    break;
                }
                Step::Newer { .. } => return Err(io::ErrorKind::InvalidData.into()),
                Step::End => break,
            }
        }
        Ok(())
    }
}

// === impl Cursor ===

impl Cursor {
    /// Everything before `next` is delivered. Written to disk within about a second; never goes back.
    pub fn save(&self, next: Position) {
        self.view.save_cursor(&self.sink, next);
        self.shared.wake_if_parked();
    }

    fn report_damage(&self, first: Position, from: u64, to: u64) {
        self.view.damage_seen.fetch_add(1, SeqCst);
        let segment = segment::name(first);
        tracing::error!(sink = &*self.sink, segment, from, to, "damaged bytes in the journal are skipped");
    }
}

// === impl Batch ===

impl Batch<'_> {
    /// How many records there are.
    pub fn len(&self) -> usize {
        self.0.slots.len()
    }

    /// There are none: `wait` passed.
    pub fn is_empty(&self) -> bool {
        self.0.slots.is_empty()
    }

    /// The records, oldest first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Entry<'_>> {
        let window = self.0.open.as_ref().map_or(&[][..], |open| open.scan.bytes());
        self.0.slots.iter().map(|slot| Entry {
            position: slot.position,
            written_ms: slot.written_ms,
            payload: &window[slot.payload.clone()],
        })
    }

    /// The place behind the last record; where it began if there are none.
    pub fn next(&self) -> Position {
        self.0.next
    }
}
