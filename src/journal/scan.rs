//! Reading one segment from front to back through a bounded window, past damage if need be.

use std::io;

use super::disk::DiskFile;
use super::frame::{self, Bad, Frame, HEADER};
use super::{Hole, Position};

/// A window over a segment.
pub(super) struct Scan {
    buf: Vec<u8>,
    /// Bytes of `buf` that hold the file's.
    filled: usize,
    /// Where the next frame begins in `buf`.
    at: usize,
    /// Offset in the file of `buf[0]`.
    base: u64,
    /// How much one read asks for.
    window: usize,
}

/// What comes next in a segment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A frame; see [`Scan::payload`].
    Frame(Frame),
    /// Damaged bytes `from..to`; a sound frame begins at `to`.
    Damage { from: u64, to: u64 },
    /// No sound frame between `from` and the end, but bytes.
    Torn { from: u64 },
    /// Written by a newer version.
    Newer { version: u8 },
    /// The end, on a frame's boundary.
    End,
}

// === impl Scan ===

impl Scan {
    pub(super) fn new(offset: u64, window: usize) -> Self {
        Self { buf: Vec::new(), filled: 0, at: 0, base: offset, window }
    }

    /// Offset of the next frame.
    pub(super) fn offset(&self) -> u64 {
        self.base + self.at as u64
    }

    /// Asks for this much with each read from now on.
    pub(super) fn set_window(&mut self, window: usize) {
        self.window = window;
    }

    /// Gives memory back, once all that was read is used up.
    pub(super) fn shrink(&mut self, keep: usize) {
        if self.buf.len() > keep && self.at == self.filled {
            (self.base, self.at, self.filled) = (self.offset(), 0, 0);
            self.buf = Vec::new();
        }
    }

    /// Where the payload of the frame just returned stands in [`Scan::bytes`].
    pub(super) fn payload(&self, frame: &Frame) -> std::ops::Range<usize> {
        self.at - frame.payload_len..self.at
    }

    /// The window's bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buf
    }

    /// The next frame if it lies whole in memory: does not move what is there.
    pub(super) fn buffered(&mut self) -> Option<Frame> {
        let frame = frame::decode(&self.buf[self.at..self.filled]).ok()?;
        self.at += frame.size();
        Some(frame)
    }

    /// The next step in a file of which `end` bytes are to be read.
    pub(super) fn step(&mut self, file: &dyn DiskFile, end: u64) -> io::Result<Step> {
        loop {
            let left = end.saturating_sub(self.offset());
            if left == 0 {
                return Ok(Step::End);
            }
            match frame::decode(&self.buf[self.at..self.filled]) {
                Ok(frame) => {
                    self.at += frame.size();
                    return Ok(Step::Frame(frame));
                }
                Err(Bad::Incomplete { need }) if need as u64 <= left => {
                    if !self.fill(file, end, need)? {
                        return self.search(file, end);
                    }
                }
                Err(Bad::Newer { version }) => return Ok(Step::Newer { version }),
                Err(Bad::Incomplete { .. } | Bad::Corrupt) => return self.search(file, end),
            }
        }
    }

    /// Looks for the next sound frame behind a bad one.
    fn search(&mut self, file: &dyn DiskFile, end: u64) -> io::Result<Step> {
        let from = self.offset();
        loop {
            self.at += 1;
            if self.offset() + HEADER as u64 > end || !self.fill(file, end, HEADER)? {
                self.rewind(from);
                return Ok(Step::Torn { from });
            }
            if !frame::plausible(&self.buf[self.at..self.filled]) {
                continue;
            }
            match frame::decode(&self.buf[self.at..self.filled]) {
                Ok(_) => return Ok(Step::Damage { from, to: self.offset() }),
                Err(Bad::Incomplete { need }) => {
                    let there = self.offset() + need as u64 <= end && self.fill(file, end, need)?;
                    if there && frame::decode(&self.buf[self.at..self.filled]).is_ok() {
                        return Ok(Step::Damage { from, to: self.offset() });
                    }
                }
                Err(_) => {}
            }
        }
    }

    fn rewind(&mut self, offset: u64) {
        (self.base, self.at, self.filled) = (offset, 0, 0);
    }

    /// Sees to it that `need` bytes from the next frame on are in memory; false if the file has fewer.
    fn fill(&mut self, file: &dyn DiskFile, end: u64, need: usize) -> io::Result<bool> {
        if self.filled - self.at >= need {
            return Ok(true);
        }
        self.buf.copy_within(self.at..self.filled, 0);
        (self.base, self.filled, self.at) = (self.offset(), self.filled - self.at, 0);
        let left = usize::try_from(end.saturating_sub(self.base)).unwrap_or(usize::MAX);
        let wanted = need.max(self.window).min(left);
        if self.buf.len() < wanted {
            self.buf.resize(wanted, 0);
        }
        while self.filled < wanted {
            match file.read_at(&mut self.buf[self.filled..wanted], self.base + self.filled as u64) {
                Ok(0) => break,
                Ok(n) => self.filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.filled >= need)
    }
}

/// Watches that frames follow each other, and says what is missing where they do not.
pub(super) struct Continuity {
    segment: String,
    /// The place of the next record.
    pub(super) expected: Position,
    /// Damage since the last sound frame.
    damage: Option<(u64, u64)>,
}

// === impl Continuity ===

impl Continuity {
    pub(super) fn new(segment: String, expected: Position) -> Self {
        Self { segment, expected, damage: None }
    }

    /// Goes on in the next segment. If records between the two are missing, says which.
    pub(super) fn enter(&mut self, segment: String, first: Position, offset: u64) -> Option<Hole> {
        let hole = self.reach(first, offset);
        self.segment = segment;
        self.expected = first;
        hole
    }

    /// Bytes `from..to` can't be read. What that cost is known at the next frame.
    pub(super) fn damaged(&mut self, from: u64, to: u64) {
        let from = self.damage.map_or(from, |(first, _)| first);
        self.damage = Some((from, to));
    }

    /// A sound frame begins at `offset`.
    pub(super) fn frame(&mut self, frame: &Frame, offset: u64) -> Option<Hole> {
        let hole = self.reach(frame.position, offset);
        if frame.kind == frame::RECORD && frame.position >= self.expected {
            self.expected = Position { seq: frame.position.seq + 1, ..frame.position };
        }
        hole
    }

    fn reach(&mut self, position: Position, offset: u64) -> Option<Hole> {
        let first = self.expected;
        let records = if position.epoch == first.epoch { position.seq.saturating_sub(first.seq) } else { 0 };
        let damage = self.damage.take();
        if records == 0 && damage.is_none() {
            return None;
        }
        self.expected = first.max(position);
        let (from, to) = damage.unwrap_or((offset, offset));
        Some(Hole { segment: self.segment.clone(), offset: from, bytes: to - from, first, records })
    }
}
