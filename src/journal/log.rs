//! The log itself: stage, commit, sync, roll, make room. No threads; every decision about the disk.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use super::book::{Book, Cursors, Losses, boot_id, slowest};
use super::disk::{Access, Disk, DiskFile, is_full, write_all_at};
use super::recover::{Opener, POISONED, Recovered, recover};
use super::segment::{self, Segment};
use super::view::{Published, View};
use super::{Failed, LossReason, OpenError, Position, Recovery, Refused, frame};
use crate::config::{JournalSettings, Sync};

/// How long a sealed segment is left to the kernel before it is synced for good (`sync = "os"` only):
/// by then it has been written back (`vm.dirty_expire_centisecs` is 30 s) and syncing costs no stall.
const SETTLE_MS: u64 = 60_000;

/// Most bytes of one write, roughly.
const CHUNK: u64 = 64 << 10;

/// The segments of a folder, and the end that is being written.
pub(super) struct Log {
    disk: Arc<dyn Disk>,
    view: Arc<View>,
    sync: Sync,
    keep_ms: u64,
    segment_size: u64,
    max_size: u64,
    sinks: Vec<String>,
    book: Book,
    /// Members that follow `seq` in each record.
    members: Vec<u8>,

    /// All segments; the last one is `file`.
    segments: Vec<Segment>,
    file: Arc<dyn DiskFile>,
    /// Segments sealed but not synced, and since when (`sync = "os"` only).
    settling: VecDeque<(u64, Arc<dyn DiskFile>)>,
    bytes: u64,
    /// Place of the next record to stage, and of the first one staged.
    next: Position,
    committed: Position,
    /// Frames staged.
    out: Vec<u8>,
    staged: u64,
    telling: bool,
    now_ms: u64,

    written: u64,
    unsynced: u64,
    cursors_dirty: bool,
    losses: Losses,
    full: Option<LossReason>,
    poisoned: Option<String>,
}

// === impl Log ===

impl Log {
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        settings: &JournalSettings,
        instance: &str,
        sinks: &[String],
        now_ms: u64,
    ) -> Result<(Self, Recovery), OpenError> {
        Self::open_at_boot(disk, settings, instance, sinks, now_ms, boot_id())
    }

    pub(super) fn open_at_boot(
        disk: Arc<dyn Disk>,
        settings: &JournalSettings,
        instance: &str,
        sinks: &[String],
        now_ms: u64,
        boot: Option<String>,
    ) -> Result<(Self, Recovery), OpenError> {
        let opener = Opener { instance, sinks, sync: settings.sync, boot };
        let found = recover(&*disk, &opener)?;
        let Recovered { mut segments, next, append, book, recovery } = found;
        let file = begin(&*disk, &mut segments, next, append, &book, now_ms)?;

        let bytes = segments.iter().map(|segment| segment.len).sum();
        let mut losses = Losses::default();
        losses.add_holes(&recovery.holes);
        let published = Published {
            segments: segments.clone(),
            next,
            cursors: book.cursors.clone(),
            bytes,
            lost: losses.all(),
            ..Published::default()
        };
        let max_size = settings.max_size.0;
        let log = Self {
            view: Arc::new(View::new(max_size, sinks, published)),
            sync: settings.sync,
            keep_ms: u64::try_from(settings.keep.0.as_millis()).unwrap_or(u64::MAX),
            // With at least four segments, one can always be given back while another is written.
            segment_size: settings.segment_size.0.min(max_size / 4).max(1),
            max_size,
            sinks: sinks.to_vec(),
            members: members(next.epoch, instance),
            book,
            disk,
            segments,
            file,
            settling: VecDeque::new(),
            bytes,
            next,
            committed: next,
            out: Vec::new(),
            staged: 0,
            telling: false,
            now_ms,
            written: 0,
            unsynced: 0,
            cursors_dirty: false,
            losses,
            full: None,
            poisoned: None,
        };
        Ok((log, recovery))
    }

    pub(super) fn view(&self) -> &Arc<View> {
        &self.view
    }

    pub(super) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// Why nothing can be taken now.
    pub(super) fn refuses(&self) -> Option<Refused> {
        match (&self.poisoned, self.full) {
            (Some(_), _) => Some(Refused::Poisoned),
            (None, Some(_)) => Some(Refused::Full),
            (None, None) => None,
        }
    }

    /// Begins a batch: the time its frames bear. Losses not told of yet are told of first.
    pub(super) fn begin(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        if self.losses.any_untold() && self.poisoned.is_none() {
            self.telling = true;
            for record in self.losses.records() {
                self.frame_record(&record);
            }
        }
    }

    /// Adds a record, a JSON object, to what the next commit writes.
    pub(super) fn stage(&mut self, record: &[u8]) {
        self.frame_record(record);
        self.staged += 1;
    }

    fn frame_record(&mut self, record: &[u8]) {
        let at = frame::begin(&mut self.out);
        // Writing to a Vec can't fail.
        let _ = write!(self.out, "{{\"seq\":{}", self.next.seq);
        self.out.extend_from_slice(&self.members);
        self.out.extend_from_slice(record.get(1..).unwrap_or_default());
        frame::finish(&mut self.out, at, frame::RECORD, self.next, self.now_ms);
        self.next.seq += 1;
    }

    /// Enough is staged for one write.
    pub(super) fn wants_commit(&self) -> bool {
        self.out.len() as u64 >= self.segment_size.min(CHUNK)
    }

    /// Bytes written that a power cut may take.
    pub(super) fn unsynced(&self) -> u64 {
        self.unsynced
    }

    /// Why a record that can't be taken now is lost.
    pub(super) fn loss_reason(&self) -> LossReason {
        if self.poisoned.is_some() { LossReason::Poisoned } else { self.full.unwrap_or(LossReason::JournalFull) }
    }

    /// Records that did not even get here.
    pub(super) fn lost(&mut self, reason: LossReason, count: u64) {
        self.losses.add(reason, count);
    }

    /// Writes what is staged, in one system call as a rule. If it can't be, none of it was.
    pub(super) fn commit(&mut self) -> Result<(), Refused> {
        let outcome = if self.out.is_empty() { Ok(()) } else { self.write_staged() };
        match outcome {
            Ok(()) => {
                self.written += self.next.seq - self.committed.seq;
                self.committed = self.next;
                if std::mem::take(&mut self.telling) {
                    self.losses.told();
                }
            }
            Err(reason) => {
                self.next = self.committed;
                self.telling = false;
                self.full = Some(reason).filter(|reason| *reason != LossReason::Poisoned);
                self.losses.add(reason, self.staged);
            }
        }
        self.staged = 0;
        self.out.clear();
        outcome.map_err(|reason| if reason == LossReason::Poisoned { Refused::Poisoned } else { Refused::Full })
    }

    /// Gives memory back after a burst.
    pub(super) fn shrink(&mut self, keep: usize) {
        self.out.shrink_to(keep);
    }

    fn write_staged(&mut self) -> Result<(), LossReason> {
        if self.poisoned.is_some() {
            return Err(LossReason::Poisoned);
        }
        let need = self.out.len() as u64;
        if self.active().len + need > self.segment_size && self.active().first < self.committed {
            self.roll()?;
        }
        if !self.make_room(need) {
            return Err(LossReason::JournalFull);
        }
        let out = std::mem::take(&mut self.out);
        let mut outcome = self.append(&out);
        if outcome == Err(LossReason::DiskFull) && self.remove_delivered() {
            outcome = self.append(&out);
        }
        self.out = out;
        outcome?;
        self.full = None;
        Ok(())
    }

    /// Appends to the last segment, or leaves it as it was.
    fn append(&mut self, bytes: &[u8]) -> Result<(), LossReason> {
        let end = self.active().len;
        match write_all_at(&*self.file, bytes, end) {
            Ok(()) => {
                let len = bytes.len() as u64;
                self.active_mut().len += len;
                self.bytes += len;
                self.unsynced += len;
                Ok(())
            }
            Err(error) if is_full(&error) => match self.file.truncate(end) {
                Ok(()) => Err(LossReason::DiskFull),
                Err(error) => Err(self.poison("cutting off a write the disk had no room for", &error)),
            },
            Err(error) => Err(self.poison("writing", &error)),
        }
    }

    /// Waits for the disk. After an error nothing is certain any more, so it is not tried again.
    pub(super) fn sync(&mut self) -> Result<(), Refused> {
        if self.poisoned.is_some() {
            return Err(Refused::Poisoned);
        }
        self.sync_settling(u64::MAX);
        if self.unsynced > 0 && self.poisoned.is_none() {
            match self.file.sync() {
                Ok(()) => self.unsynced = 0,
                Err(error) => _ = self.poison("fdatasync", &error),
            }
        }
        self.poisoned.is_none().then_some(()).ok_or(Refused::Poisoned)
    }

    /// Syncs segments sealed before `before_ms`.
    fn sync_settling(&mut self, before_ms: u64) {
        while self.poisoned.is_none() && self.settling.front().is_some_and(|(sealed_ms, _)| *sealed_ms < before_ms) {
            let Some((_, file)) = self.settling.pop_front() else { return };
            if let Err(error) = file.sync() {
                self.poison("fdatasync of a sealed segment", &error);
            }
        }
    }

    /// Begins a new segment. Without room or file handles for one, the old one grows on.
    fn roll(&mut self) -> Result<(), LossReason> {
        if self.sync == Sync::Disk && self.sync().is_err() {
            return Err(LossReason::Poisoned);
        }
        let mut head = Vec::new();
        frame_json(&mut head, frame::BOOK, self.committed, self.now_ms, &self.book);
        let name = segment::name(self.committed);
        let file = match create(&*self.disk, &name, &head) {
            Ok(file) => file,
            Err(error) => {
                tracing::warn!(%error, segment = name, "can't begin a new journal segment; the old one grows on");
                return self.disk.remove(&name).or_else(absent_is_fine).map_err(|e| self.poison("removing", &e));
            }
        };
        if let Err(error) = file.sync().and_then(|()| self.disk.sync_dir()) {
            return Err(self.poison("fdatasync of a new segment", &error));
        }
        let sealed = std::mem::replace(&mut self.file, file);
        if self.unsynced > 0 {
            self.settling.push_back((self.now_ms, sealed));
            self.unsynced = 0;
        }
        self.segments.push(Segment { first: self.committed, len: head.len() as u64, begun_ms: self.now_ms });
        self.bytes += head.len() as u64;
        Ok(())
    }

    /// Keeps to `max_size` by removing what every sink has; false if that is not enough. Once full,
    /// the journal stays so until there is room worth speaking of.
    fn make_room(&mut self, need: u64) -> bool {
        let need = if self.full.is_some() { need.max(self.max_size / 64) } else { need };
        while self.bytes + need > self.max_size {
            if !self.remove_delivered() {
                return false;
            }
        }
        true
    }

    /// Removes the oldest segment if no sink needs it.
    fn remove_delivered(&mut self) -> bool {
        let slowest = slowest(&self.book.cursors, &self.sinks);
        segment::delivered(&self.segments, slowest) > 0 && self.remove_oldest()
    }

    fn remove_oldest(&mut self) -> bool {
        let name = self.segments[0].name();
        if let Err(error) = self.disk.remove(&name).or_else(absent_is_fine) {
            tracing::warn!(%error, segment = name, "can't remove an old journal segment");
            return false;
        }
        self.bytes -= self.segments.remove(0).len;
        true
    }

    /// What is done about once a second: cursors to disk, old segments away, a look whether there is room again.
    pub(super) fn keep_house(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        if self.cursors_dirty {
            self.write_cursors();
        }
        let slowest = slowest(&self.book.cursors, &self.sinks);
        for _ in 0..segment::expired(&self.segments, slowest, self.keep_ms, now_ms) {
            if !self.remove_oldest() {
                break;
            }
        }
        self.sync_settling(now_ms.saturating_sub(SETTLE_MS));
        if self.full.is_some() {
            self.begin(now_ms);
            // Tells of the losses if there is room: that is the probe.
            _ = self.commit();
        }
    }

    /// Something in memory waits to be written by [`Log::keep_house`].
    pub(super) fn house_is_untidy(&self) -> bool {
        self.poisoned.is_none() && (self.cursors_dirty || self.full.is_some() || !self.settling.is_empty())
    }

    /// Takes over how far the sinks have come.
    pub(super) fn move_cursors(&mut self, cursors: Cursors) {
        if self.book.cursors != cursors {
            self.book.cursors = cursors;
            self.cursors_dirty = true;
        }
    }

    fn write_cursors(&mut self) {
        let cursors = std::mem::take(&mut self.book.cursors);
        self.cursors_dirty = self.append_own(frame::CURSORS, &cursors).is_err();
        self.book.cursors = cursors;
    }

    /// Appends bookkeeping, which the budget does not count out: it is what frees space.
    fn append_own(&mut self, kind: u8, payload: &impl serde::Serialize) -> Result<(), LossReason> {
        if self.poisoned.is_some() {
            return Err(LossReason::Poisoned);
        }
        let mut bytes = Vec::new();
        frame_json(&mut bytes, kind, self.committed, self.now_ms, payload);
        self.append(&bytes)
    }

    /// Writes everything left, and that all is well.
    pub(super) fn close(&mut self, now_ms: u64) -> Result<(), Failed> {
        self.begin(now_ms);
        _ = self.commit();
        if self.cursors_dirty {
            self.write_cursors();
        }
        let marked = self.append_own(frame::CLEAN, &());
        _ = self.sync();
        match (&self.poisoned, marked) {
            (Some(what), _) => Err(Failed(what.clone())),
            (None, Err(_)) => Err(Failed("no room to mark the shutdown as clean".to_owned())),
            (None, Ok(())) => Ok(()),
        }
    }

    /// Nothing may be claimed from now on. A marker makes the next start raise the epoch.
    fn poison(&mut self, action: &str, error: &io::Error) -> LossReason {
        let what = format!("{action}: {error}");
        tracing::error!(error = what, "the journal's disk failed; nothing is recorded until a restart");
        self.poisoned.get_or_insert(what);
        // The disk has just failed: this may well fail too, and then there is nothing left to try.
        _ = self.disk.create(POISONED).and_then(|file| file.sync()).and_then(|()| self.disk.sync_dir());
        LossReason::Poisoned
    }

    /// Publishes the figures, and whatever may be read by now.
    pub(super) fn publish(&mut self) {
        let readable = self.poisoned.is_none() && (self.sync == Sync::Os || self.unsynced == 0);
        let mut published = self.view.lock();
        let first = published.next;
        if readable {
            published.segments.clone_from(&self.segments);
            published.next = self.committed;
        } else {
            let oldest = self.segments[0].first;
            published.segments.retain(|segment| segment.first >= oldest);
        }
        let news = published.next > first;
        if news {
            published.mark(first, self.now_ms, &self.sinks);
        }
        published.bytes = self.bytes;
        published.written = self.written;
        published.lost = self.losses.all();
        published.full = self.full.is_some();
        if published.poisoned != self.poisoned {
            published.poisoned.clone_from(&self.poisoned);
        }
        drop(published);
        if news {
            self.view.announce();
        }
    }

    fn active(&self) -> &Segment {
        // `begin` leaves at least one, and the last is never removed.
        &self.segments[self.segments.len() - 1]
    }

    fn active_mut(&mut self) -> &mut Segment {
        let last = self.segments.len() - 1;
        &mut self.segments[last]
    }
}

/// Opens the segment to write to, and puts the book in front of everything that follows, on the disk:
/// the next start must know what was promised by whom, and on which boot of the machine.
fn begin(
    disk: &dyn Disk,
    segments: &mut Vec<Segment>,
    next: Position,
    append: bool,
    book: &Book,
    now_ms: u64,
) -> Result<Arc<dyn DiskFile>, OpenError> {
    let mut head = Vec::new();
    frame_json(&mut head, frame::BOOK, next, now_ms, book);
    let name = if append { segments[segments.len() - 1].name() } else { segment::name(next) };
    let failed = |action| {
        let path = PathBuf::from(&name);
        move |source| OpenError::Io { action, path, source }
    };
    let file = if append {
        let last = segments.len() - 1;
        let file = disk.open(&name, Access::Write).map_err(failed("opening"))?;
        write_all_at(&*file, &head, segments[last].len).map_err(failed("writing"))?;
        segments[last].len += head.len() as u64;
        file
    } else {
        segments.push(Segment { first: next, len: head.len() as u64, begun_ms: now_ms });
        create(disk, &name, &head).map_err(failed("creating"))?
    };
    file.sync().and_then(|()| disk.sync_dir()).map_err(failed("fdatasync"))?;
    disk.remove(POISONED)
        .and_then(|()| disk.sync_dir())
        .or_else(absent_is_fine)
        .map_err(failed("removing the mark of failure"))?;
    Ok(file)
}

fn create(disk: &dyn Disk, name: &str, head: &[u8]) -> io::Result<Arc<dyn DiskFile>> {
    let file = disk.create(name)?;
    write_all_at(&*file, head, 0)?;
    Ok(file)
}

fn absent_is_fine(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// What follows `{"seq":N` in each record, up to and with the comma before the record's own members.
fn members(epoch: u32, instance: &str) -> Vec<u8> {
    let instance = serde_json::Value::from(instance);
    format!(",\"epoch\":{epoch},\"instance\":{instance},").into_bytes()
}

fn frame_json(out: &mut Vec<u8>, kind: u8, position: Position, now_ms: u64, payload: &impl serde::Serialize) {
    let at = frame::begin(out);
    // Our own types: strings, numbers and maps with string keys, which JSON always represents.
    _ = serde_json::to_writer(&mut *out, payload);
    frame::finish(out, at, kind, position, now_ms);
}
