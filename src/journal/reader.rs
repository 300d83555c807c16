//! Reading a journal's folder from outside, without its lock: `daybook tail` and `verify`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{Access, Disk, DiskFile, Folder};
use super::scan::{Continuity, Scan, Step};
use super::{Entry, Hole, Position, frame, segment};

/// How much is read at once.
const WINDOW: usize = 64 << 10;

/// Reads a folder's records, oldest first, beside the process that writes them, if there is one.
pub struct Reader {
    disk: Arc<dyn Disk>,
    open: Option<Open>,
    continuity: Option<Continuity>,
    /// Segments that end before this are not read.
    from: Position,
}

/// What a reader finds.
#[derive(Debug)]
pub enum Item<'a> {
    /// A record.
    Record(Entry<'a>),
    /// Something is missing or damaged between the records before and after.
    Hole(Hole),
}

/// Why reading can't go on.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file system said no.
    #[error("reading the journal's {} failed", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Written by a version of Daybook that this one does not understand.
    #[error("{segment} has frames of version {version}, and this Daybook knows only version 1")]
    Newer {
        /// The file.
        segment: String,
        /// The version found.
        version: u8,
    },
}

struct Open {
    first: Position,
    name: String,
    file: Arc<dyn DiskFile>,
    scan: Scan,
    /// The file's length when it was last looked at.
    end: u64,
}

/// What reading one segment came to.
enum Found {
    Record(frame::Frame),
    Hole(Hole),
    /// Nothing more for now; bytes at its end that are no whole frame.
    End {
        unreadable: u64,
    },
}

// === impl Reader ===

impl Reader {
    /// Opens the journal in `dir`.
    pub fn open(dir: &Path) -> Result<Self, ReadError> {
        let reader = Self::over(Arc::new(Folder::beside(dir)));
        reader.segments().map_err(|source| ReadError::Io { path: dir.to_owned(), source })?;
        Ok(reader)
    }

    pub(super) fn over(disk: Arc<dyn Disk>) -> Self {
        Self { disk, open: None, continuity: None, from: Position::default() }
    }

    /// Begins with the segment that holds `position`, if that is still there: records before it may come first, but
    /// not all of them. For a reader that has read nothing yet.
    pub fn skip_to(mut self, position: Position) -> Self {
        self.from = position;
        self
    }

    /// The next record or hole. `None`: there is no more for now; asked again later, there may be.
    #[allow(clippy::should_implement_trait)] // what it returns is borrowed from the reader, which an Iterator can't do
    pub fn next(&mut self) -> Result<Option<Item<'_>>, ReadError> {
        loop {
            if self.open.is_none() && !self.enter_next()? {
                return Ok(None);
            }
            let found = self.read_on()?;
            match found {
                Found::Record(frame) => return Ok(Some(Item::Record(self.entry(&frame)))),
                Found::Hole(hole) => return Ok(Some(Item::Hole(hole))),
                Found::End { unreadable } => {
                    // Whether there is a later segment is asked before looking at this one's end again:
                    // nothing is added to a segment once there is a later one.
                    let Some(following) = self.following()? else { return Ok(None) };
                    if self.grown()? {
                        continue;
                    }
                    if let Some(hole) = self.leave(following, unreadable) {
                        return Ok(Some(Item::Hole(hole)));
                    }
                }
            }
        }
    }

    /// Bytes at the end of the last segment that are no whole frame: being written, or torn by a crash.
    pub fn unfinished(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| open.end.saturating_sub(open.scan.offset()))
    }

    fn entry(&self, frame: &frame::Frame) -> Entry<'_> {
        // A record was just read from the open segment.
        let payload = self.open.as_ref().map_or(&[][..], |open| &open.scan.bytes()[open.scan.payload(frame)]);
        Entry { position: frame.position, written_ms: frame.written_ms, payload }
    }

    fn read_on(&mut self) -> Result<Found, ReadError> {
        let (Some(open), Some(continuity)) = (&mut self.open, &mut self.continuity) else {
            return Ok(Found::End { unreadable: 0 });
        };
        loop {
            let offset = open.scan.offset();
            let step = open.scan.step(&*open.file, open.end).map_err(failed(&open.name))?;
            match step {
                Step::Frame(frame) => {
                    if let Some(hole) = continuity.frame(&frame, offset) {
                        // The frame itself is read again next time.
                        open.scan = Scan::new(offset, WINDOW);
                        return Ok(Found::Hole(hole));
                    }
                    if frame.kind == frame::RECORD {
                        return Ok(Found::Record(frame));
                    }
                }
                Step::Damage { from, to } => continuity.damaged(from, to),
                Step::Newer { version } => return Err(ReadError::Newer { segment: open.name.clone(), version }),
                Step::Torn { .. } | Step::End => {
                    let len = open.file.len().map_err(failed(&open.name))?;
                    if len <= open.end {
                        return Ok(Found::End { unreadable: len.saturating_sub(open.scan.offset()) });
                    }
                    open.end = len;
                }
            }
        }
    }

    /// Whether the open segment has become longer.
    fn grown(&mut self) -> Result<bool, ReadError> {
        let Some(open) = &mut self.open else { return Ok(false) };
        let len = open.file.len().map_err(failed(&open.name))?;
        let grown = len > open.end;
        open.end = len;
        Ok(grown)
    }

    /// Leaves the open segment for one that begins at `following`; says what is missing between them.
    fn leave(&mut self, following: Position, unreadable: u64) -> Option<Hole> {
        let offset = self.open.take().map_or(0, |open| open.scan.offset());
        let continuity = self.continuity.as_mut()?;
        if unreadable > 0 {
            continuity.damaged(offset, offset + unreadable);
        }
        continuity.enter(segment::name(following), following, offset)
    }

    /// Opens the first segment behind what was read; false if there is none.
    fn enter_next(&mut self) -> Result<bool, ReadError> {
        let segments = self.segments().map_err(failed("folder"))?;
        let i = match &self.continuity {
            // The one that begins where the last one ended.
            Some(continuity) => segments.partition_point(|first| *first < continuity.expected),
            // At first the last one that does not begin too late.
            None => segments.partition_point(|first| *first <= self.from).saturating_sub(1),
        };
        let Some(first) = segments.get(i).copied() else { return Ok(false) };
        let name = segment::name(first);
        let file = match self.disk.open(&name, Access::Read) {
            // Removed since: nobody needs it any more.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            file => file.map_err(failed(&name))?,
        };
        let end = file.len().map_err(failed(&name))?;
        self.continuity.get_or_insert_with(|| Continuity::new(name.clone(), first));
        self.open = Some(Open { first, name, file, scan: Scan::new(0, WINDOW), end });
        Ok(true)
    }

    fn following(&self) -> Result<Option<Position>, ReadError> {
        let Some(open) = &self.open else { return Ok(None) };
        let segments = self.segments().map_err(failed("folder"))?;
        Ok(segments.into_iter().find(|first| *first > open.first))
    }

    fn segments(&self) -> io::Result<Vec<Position>> {
        let mut firsts: Vec<Position> = self.disk.list()?.iter().filter_map(|name| segment::parse(name)).collect();
        firsts.sort_unstable();
        Ok(firsts)
    }
}

fn failed(name: &str) -> impl FnOnce(io::Error) -> ReadError + '_ {
    move |source| ReadError::Io { path: PathBuf::from(name), source }
}
