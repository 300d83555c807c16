//! Opening a folder: what a crash left, told apart. Reads each segment once, in constant memory.
//!
//! A *torn tail* is a bad end of the last segment with nothing sound behind it: a write that a crash
//! interrupted and that nobody was promised. It is cut off. A *hole* has sound frames behind it, or
//! lies in an earlier segment: it is kept as it is, and told of.

use std::io;
use std::path::PathBuf;

use super::book::{Book, Cursors, slowest};
use super::disk::{Access, Disk};
use super::scan::{Continuity, Scan, Step};
use super::segment::{self, Segment};
use super::{Hole, OpenError, Position, Raised, Recovery, frame};
use crate::config::Sync;

/// File that says that the last run's disk failed: its page cache may differ from its disk.
pub(super) const POISONED: &str = "poisoned";
/// Holes listed at most, on a disk that falls apart.
const HOLES: usize = 100;
/// How much is read at once.
const WINDOW: usize = 256 << 10;

/// A folder, ready to be written to.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) segments: Vec<Segment>,
    /// The next record's place.
    pub(super) next: Position,
    /// Whether to go on in the last segment, or to begin a new one.
    pub(super) append: bool,
    /// What is known besides records; to be written before anything else.
    pub(super) book: Book,
    pub(super) recovery: Recovery,
}

/// Who opens the folder, and how.
pub(super) struct Opener<'a> {
    pub(super) instance: &'a str,
    pub(super) sinks: &'a [String],
    pub(super) sync: Sync,
    pub(super) boot: Option<String>,
}

/// What one segment holds.
struct Look {
    begun_ms: u64,
    /// There is at least one sound frame.
    sound: bool,
    book: Option<Book>,
    /// The last frame says that all was closed in good order.
    clean: bool,
    next: Position,
    holes: Vec<Hole>,
    /// End of the last sound frame, and the file's end.
    sound_len: u64,
    len: u64,
}

/// The last segment, if there is one, and the earliest of those that were never begun.
type Ending = (Option<(Position, Look)>, Option<Position>);

/// Reads what is there, cuts off a torn tail, and decides how to go on.
pub(super) fn recover(disk: &dyn Disk, opener: &Opener<'_>) -> Result<Recovered, OpenError> {
    let names = disk.list().map_err(failed("listing", "folder"))?;
    let poisoned = names.iter().any(|name| name == POISONED);
    let mut firsts: Vec<Position> = names.iter().filter_map(|name| segment::parse(name)).collect();
    firsts.sort_unstable();

    let (look, unborn) = last_segment(disk, &mut firsts)?;
    let Some((last, look)) = look else { return Ok(from_nothing(opener, unborn, poisoned)) };
    let mut recovery = Recovery { torn_bytes: look.len - look.sound_len, ..Recovery::default() };
    settle(disk, last, Some(look.sound_len).filter(|_| recovery.torn_bytes > 0))?;

    let raised = if poisoned { Some(Raised::Poisoned) } else { reason_to_raise(&look, opener) };
    let mut book = look.book.unwrap_or_default();
    book.cursors.retain(|sink, _| opener.sinks.contains(sink));
    let from = slowest(&book.cursors, opener.sinks).unwrap_or_default().max(book.checked);
    let (mut segments, mut holes) = earlier_segments(disk, &firsts, from, book.checked)?;
    segments.push(Segment { first: last, len: look.sound_len, begun_ms: look.begun_ms });
    holes.extend(look.holes);
    holes.retain(|hole| hole.first >= book.checked);
    holes.truncate(HOLES);

    let mut next = look.next;
    if raised.is_some() {
        next = Position { epoch: last.epoch.saturating_add(1), seq: 1 };
        // A sink that had delivered everything has nothing left to do in the old epoch.
        book.cursors.values_mut().filter(|cursor| **cursor >= look.next).for_each(|cursor| *cursor = next);
    }
    (recovery.next, recovery.raised, recovery.holes) = (next, raised, holes);
    let book = Book { checked: next, cursors: book.cursors, ..new_book(opener) };
    Ok(Recovered { segments, next, append: raised.is_none(), book, recovery })
}

/// The last segment that was really begun. One whose first frame never reached the disk is removed:
/// nothing is written to a segment before that.
fn last_segment(disk: &dyn Disk, firsts: &mut Vec<Position>) -> Result<Ending, OpenError> {
    let mut unborn = None;
    while let Some(first) = firsts.pop() {
        let look = look_through(disk, first)?;
        if look.sound {
            return Ok((Some((first, look)), unborn));
        }
        disk.remove(&segment::name(first)).map_err(failed("removing", &segment::name(first)))?;
        unborn = Some(first);
    }
    Ok((None, unborn))
}

/// A folder without records. If a segment was about to be begun although all others are gone, what
/// they held is unknown.
fn from_nothing(opener: &Opener<'_>, unborn: Option<Position>, poisoned: bool) -> Recovered {
    let begin = unborn.unwrap_or(Position { epoch: 1, seq: 1 });
    let raised = match (poisoned, begin.seq) {
        (true, _) => Some(Raised::Poisoned),
        (false, 1) => None,
        (false, _) => Some(Raised::Damaged),
    };
    let epoch = if raised.is_some() { begin.epoch.saturating_add(1) } else { begin.epoch };
    let next = Position { epoch, seq: 1 };
    let recovery = Recovery { next, raised, ..Recovery::default() };
    let book = Book { checked: next, ..new_book(opener) };
    Recovered { segments: Vec::new(), next, append: false, book, recovery }
}

fn new_book(opener: &Opener<'_>) -> Book {
    Book {
        instance: opener.instance.to_owned(),
        boot: opener.boot.clone(),
        sync: opener.sync,
        checked: Position::default(),
        cursors: Cursors::default(),
    }
}

/// Why the sequence can't be continued; `None` if it can.
fn reason_to_raise(look: &Look, opener: &Opener<'_>) -> Option<Raised> {
    let Some(book) = &look.book else { return Some(Raised::Damaged) };
    let same_boot = opener.boot.is_some() && book.boot == opener.boot;
    if book.instance != opener.instance {
        Some(Raised::Renamed)
    } else if !look.clean && book.sync == Sync::Os && !same_boot {
        Some(Raised::Rebooted)
    } else if book.cursors.values().any(|cursor| *cursor > look.next) {
        // A sink delivered records that are not here any more.
        Some(Raised::Damaged)
    } else {
        None
    }
}

/// All segments but the last. Those from `from` on are read; of the others their beginning. Those from
/// `checked` on are synced.
fn earlier_segments(
    disk: &dyn Disk,
    firsts: &[Position],
    from: Position,
    checked: Position,
) -> Result<(Vec<Segment>, Vec<Hole>), OpenError> {
    let holding = |position| firsts.partition_point(|first| *first <= position).saturating_sub(1);
    let (unread, settled) = (holding(from), holding(checked));
    let (mut segments, mut holes) = (Vec::with_capacity(firsts.len() + 1), Vec::new());
    for (i, first) in firsts.iter().enumerate() {
        if i >= settled {
            settle(disk, *first, None)?;
        }
        if i < unread {
            segments.push(glance(disk, *first)?);
            continue;
        }
        let look = look_through(disk, *first)?;
        segments.push(Segment { first: *first, len: look.len, begun_ms: look.begun_ms });
        holes.extend(look.holes);
        let torn = look.len - look.sound_len;
        let missing = firsts.get(i + 1).filter(|next| next.epoch == look.next.epoch);
        let records = missing.map_or(0, |next| next.seq.saturating_sub(look.next.seq));
        if torn > 0 || records > 0 {
            let segment = segment::name(*first);
            holes.push(Hole { segment, offset: look.sound_len, bytes: torn, first: look.next, records });
        }
        holes.truncate(HOLES);
    }
    Ok((segments, holes))
}

/// A segment's size and beginning.
fn glance(disk: &dyn Disk, first: Position) -> Result<Segment, OpenError> {
    let name = segment::name(first);
    let file = disk.open(&name, Access::Read).map_err(failed("opening", &name))?;
    let len = file.len().map_err(failed("measuring", &name))?;
    let step = Scan::new(0, 4 << 10).step(&*file, len).map_err(failed("reading", &name))?;
    let begun_ms = if let Step::Frame(frame) = step { frame.written_ms } else { 0 };
    Ok(Segment { first, len, begun_ms })
}

/// Reads a whole segment.
fn look_through(disk: &dyn Disk, first: Position) -> Result<Look, OpenError> {
    let name = segment::name(first);
    let file = disk.open(&name, Access::Read).map_err(failed("opening", &name))?;
    let len = file.len().map_err(failed("measuring", &name))?;
    let mut look =
        Look { begun_ms: 0, sound: false, book: None, clean: false, next: first, holes: Vec::new(), sound_len: 0, len };
    let mut scan = Scan::new(0, WINDOW);
    let mut continuity = Continuity::new(name.clone(), first);
    loop {
        let offset = scan.offset();
        match scan.step(&*file, len).map_err(failed("reading", &name))? {
            Step::Frame(frame) => {
                if look.holes.len() < HOLES {
                    look.holes.extend(continuity.frame(&frame, offset));
                }
                look.note(&frame, &scan.bytes()[scan.payload(&frame)]);
                look.sound_len = scan.offset();
            }
            Step::Damage { from, to } => continuity.damaged(from, to),
            Step::Newer { version } => return Err(OpenError::Newer { segment: PathBuf::from(name), version }),
            Step::Torn { .. } | Step::End => break,
        }
    }
    look.next = continuity.expected;
    Ok(look)
}

/// Brings a segment to rest on the disk, cut off at `len` if given. A run that crashed may have sealed
/// it without syncing, and nobody would come back to it.
fn settle(disk: &dyn Disk, first: Position, len: Option<u64>) -> Result<(), OpenError> {
    let name = segment::name(first);
    let file = disk.open(&name, Access::Write).map_err(failed("opening", &name))?;
    if let Some(len) = len {
        file.truncate(len).map_err(failed("cutting off the torn end", &name))?;
    }
    file.sync().map_err(failed("fdatasync", &name))
}

fn failed<'a>(action: &'static str, name: &'a str) -> impl FnOnce(io::Error) -> OpenError + 'a {
    move |source| OpenError::Io { action, path: PathBuf::from(name), source }
}

// === impl Look ===

impl Look {
    /// Takes a sound frame into account.
    fn note(&mut self, frame: &frame::Frame, payload: &[u8]) {
        if !self.sound {
            self.sound = true;
            self.begun_ms = frame.written_ms;
        }
        self.clean = frame.kind == frame::CLEAN;
        match frame.kind {
            frame::BOOK => self.book = serde_json::from_slice(payload).ok(),
            frame::CURSORS => {
                if let (Some(book), Ok(cursors)) = (&mut self.book, serde_json::from_slice::<Cursors>(payload)) {
                    book.cursors.extend(cursors);
                }
            }
            _ => {}
        }
    }
}
