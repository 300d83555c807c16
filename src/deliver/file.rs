//! The file sink: NDJSON to a path, rotated by size and age, or to stdout.
//!
//! - A batch is one `write`; a crash in between leaves at most one torn line, which is cut off at the next start.
//! - The cursor moves only after `fdatasync`, once a second, not per batch. After a crash the last line is looked
//!   up in the journal, so what is already in the file is not written twice.
//! - A reader that closed stdout ends this sink; the process goes on and the records stay in the journal.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use super::sink::{Sent, Sink, Trouble};
use crate::config::FileSettings;
use crate::journal::{Entry, Position, Tail};

mod rotated;

use rotated::Rotated;

/// Most bytes of the journal that are searched for the file's last line.
const SEARCH: usize = 256 << 20;

/// NDJSON to a file or stdout.
#[derive(Debug)]
pub(super) struct FileSink {
    out: Out,
    /// Lines of the batch being taken.
    buffer: Vec<u8>,
    /// Records in `buffer`.
    buffered: u64,
    /// Behind the last record in `buffer`.
    end: Position,
    /// Behind the last record in the file.
    written: Position,
    /// Behind the last record that survives a power cut.
    safe: Position,
    delivered: u64,
}

#[derive(Debug)]
enum Out {
    Stdout(File),
    File(Rotated),
}

// === impl FileSink ===

impl FileSink {
    /// Opens the output.
    pub(super) fn open(settings: &FileSettings) -> io::Result<Self> {
        let out = if settings.path.as_os_str() == "-" {
            Out::Stdout(File::from(io::stdout().as_fd().try_clone_to_owned()?))
        } else {
            Out::File(Rotated::open(settings)?)
        };
        Ok(Self {
            out,
            buffer: Vec::new(),
            buffered: 0,
            end: Position::default(),
            written: Position::default(),
            safe: Position::default(),
            delivered: 0,
        })
    }
}

impl Sink for FileSink {
    fn resume(&mut self, tail: &mut Tail) -> Result<(), Trouble> {
        let Out::File(file) = &self.out else { return Ok(()) };
        let Some(line) = file.last_line().map_err(|e| Trouble::io("reading the file's last line", &e))? else {
            return Ok(());
        };
        if let Some(next) = find(tail, &line)? {
            self.written = next;
            self.safe = next;
        }
        Ok(())
    }

    fn send(&mut self, entry: &Entry<'_>) -> Result<Sent, Trouble> {
        if entry.position >= self.written {
            self.buffer.extend_from_slice(entry.payload);
            self.buffer.push(b'\n');
            self.buffered += 1;
            self.end = entry.next();
        }
        Ok(Sent::Taken)
    }

    fn flush(&mut self) -> Result<(), Trouble> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        match &mut self.out {
            Out::Stdout(stdout) => match write_waiting(stdout, &self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    return Err(Trouble::Ended("stdout was closed by its reader".to_owned()));
                }
                other => other.map_err(|e| Trouble::io("writing to stdout", &e))?,
            },
            Out::File(file) => {
                if file.is_due() {
                    file.rotate().map_err(|e| Trouble::io("rotating the file", &e))?;
                    self.safe = self.written;
                }
                file.write(&self.buffer).map_err(|e| Trouble::io("writing the file", &e))?;
            }
        }
        self.written = self.end;
        self.delivered += self.buffered;
        self.buffer.clear();
        self.buffered = 0;
        Ok(())
    }

    fn serve(&mut self, wait: Duration) -> Result<Option<String>, Trouble> {
        if !wait.is_zero() {
            std::thread::sleep(wait);
        }
        Ok(None)
    }

    fn reached(&self) -> Option<Position> {
        (self.written > Position::default()).then_some(self.written)
    }

    fn secure(&mut self) -> Result<(), Trouble> {
        if let Out::File(file) = &mut self.out
            && self.safe != self.written
            && let Err(error) = file.secure()
        {
            // The file was cut back to what is certain; the rest is read from the journal again.
            self.written = self.safe;
            return Err(Trouble::io("fdatasync of the file", &error));
        }
        self.safe = self.written;
        Ok(())
    }

    fn in_flight(&self) -> usize {
        0
    }

    fn delivered(&self) -> u64 {
        self.delivered
    }

    fn rewind(&mut self) {
        self.buffer.clear();
        self.buffered = 0;
    }
}

/// Where the record after `line` stands, if `line` is in the journal at or behind the tail's cursor.
fn find(tail: &mut Tail, line: &[u8]) -> Result<Option<Position>, Trouble> {
    #[derive(serde::Deserialize)]
    struct Place {
        epoch: u32,
        seq: u64,
    }
    let Ok(Place { epoch, seq }) = serde_json::from_slice(line) else { return Ok(None) };
    let wanted = Position { epoch, seq };
    let mut searched = 0;
    while searched < SEARCH {
        let batch = tail.next(1 << 18, Duration::ZERO).map_err(|e| Trouble::retry(&e))?;
        if batch.is_empty() {
            return Ok(None);
        }
        for entry in batch.iter() {
            searched += entry.payload.len();
            if entry.position >= wanted {
                // Equal numbers of another journal's life don't count: the bytes must be the same.
                return Ok((entry.position == wanted && entry.payload == line).then(|| entry.next()));
            }
        }
    }
    Ok(None)
}

/// `write_all` for a stdout that somebody made non-blocking.
fn write_waiting(out: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => bytes = &bytes[n..],
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(10)),
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
