//! A file of whole lines, renamed aside when it is large or old enough.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::config::FileSettings;
use crate::record::timestamp;

/// The file and when it is rotated.
#[derive(Debug)]
pub(super) struct Rotated {
    settings: FileSettings,
    file: File,
    /// Whole lines in the file, bytes.
    len: u64,
    /// Bytes of it that survive a power cut.
    safe: u64,
    since: SystemTime,
    /// Part of a line may stand behind `len`: a failed write could not be taken back.
    torn: bool,
}

// === impl Rotated ===

impl Rotated {
    /// Opens or creates the file (mode 0600: records are personal data) and cuts off a torn last line.
    pub(super) fn open(settings: &FileSettings) -> io::Result<Self> {
        if let Some(folder) = settings.path.parent() {
            fs::create_dir_all(folder)?;
        }
        let (file, since) = create(&settings.path)?;
        let len = whole_lines(&file)?;
        if len != file.metadata()?.len() {
            tracing::warn!(file = %settings.path.display(), "a torn last line was cut off");
            file.set_len(len)?;
        }
        Ok(Self { settings: settings.clone(), file, len, safe: len, since, torn: false })
    }

    /// Appends whole lines; on an error the file is as it was, at the latest when the next line is written.
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.torn {
            self.file.set_len(self.len)?;
            self.torn = false;
        }
        if let Err(error) = self.file.write_all(lines) {
            self.torn = self.file.set_len(self.len).is_err();
            return Err(error);
        }
        self.len += lines.len() as u64;
        Ok(())
    }

    /// Makes what was written survive a power cut. On an error the file is cut back to where that is certain:
    /// the kernel may have thrown the rest away.
    pub(super) fn secure(&mut self) -> io::Result<()> {
        if let Err(error) = self.file.sync_data() {
            self.len = self.safe;
            self.torn = self.file.set_len(self.safe).is_err();
            return Err(error);
        }
        self.safe = self.len;
        Ok(())
    }

    /// It is time to rotate. An empty file never is.
    pub(super) fn is_due(&self) -> bool {
        let (size, age) = (self.settings.rotate_size.0, self.settings.rotate_age.0);
        let old = || !age.is_zero() && self.since.elapsed().is_ok_and(|elapsed| elapsed >= age);
        self.len > 0 && ((size > 0 && self.len >= size) || old())
    }

    /// Renames the file aside (`records-20261122T221001.123456Z.ndjson`), begins a new one, and removes the oldest
    /// beyond `rotate_keep`.
    pub(super) fn rotate(&mut self) -> io::Result<()> {
        self.secure()?;
        let aside = self.free_name();
        fs::rename(&self.settings.path, &aside)?;
        let (file, since) = match create(&self.settings.path) {
            Ok(new) => new,
            Err(error) => {
                // Go on with the old file under its old name; the next batch tries again.
                fs::rename(&aside, &self.settings.path)?;
                return Err(error);
            }
        };
        (self.file, self.since, self.len, self.safe) = (file, since, 0, 0);
        if let Ok(folder) = File::open(folder(&self.settings.path)) {
            folder.sync_all()?;
        }
        self.prune();
        Ok(())
    }

    /// The last whole line, without its line feed; of the newest rotated file when this one is empty.
    pub(super) fn last_line(&self) -> io::Result<Option<Vec<u8>>> {
        if self.len > 0 {
            return last_line(&self.file, self.len).map(Some);
        }
        let Some(newest) = self.rotated()?.pop() else { return Ok(None) };
        let file = File::open(newest)?;
        let len = whole_lines(&file)?;
        if len == 0 { Ok(None) } else { last_line(&file, len).map(Some) }
    }

    fn free_name(&self) -> PathBuf {
        let (stem, end) = split(&self.settings.path);
        loop {
            let now: String = timestamp(SystemTime::now()).chars().filter(|c| !matches!(c, '-' | ':')).collect();
            let name = self.settings.path.with_file_name(format!("{stem}-{now}{end}"));
            if !name.exists() {
                return name;
            }
        }
    }

    /// Rotated files, oldest first.
    fn rotated(&self) -> io::Result<Vec<PathBuf>> {
        let (stem, end) = split(&self.settings.path);
        let mut found = Vec::new();
        for file in fs::read_dir(folder(&self.settings.path))? {
            let file = file?;
            let name = file.file_name();
            let time = name.to_str().and_then(|n| n.strip_prefix(&format!("{stem}-"))?.strip_suffix(&end));
            if time.is_some_and(is_time) {
                found.push(file.path());
            }
        }
        found.sort();
        Ok(found)
    }

    /// Removing old files is housekeeping: delivery doesn't fail with it.
    fn prune(&self) {
        if self.settings.rotate_keep == 0 {
            return;
        }
        let removed = self.rotated().and_then(|files| {
            let beyond = files.len().saturating_sub(self.settings.rotate_keep);
            files.iter().take(beyond).try_for_each(fs::remove_file)
        });
        if let Err(error) = removed {
            tracing::warn!(%error, "old rotated files could not be removed");
        }
    }
}

fn create(path: &Path) -> io::Result<(File, SystemTime)> {
    let file = OpenOptions::new().create(true).append(true).read(true).mode(0o600).open(path)?;
    let metadata = file.metadata()?;
    // File systems without a time of birth: the last change is the best guess of how old the content is.
    let since = metadata.created().or_else(|_| metadata.modified())?;
    Ok((file, since))
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// `records.ndjson` into `records` and `.ndjson`.
fn split(path: &Path) -> (String, String) {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let end = path.extension().map(|end| format!(".{}", end.to_string_lossy())).unwrap_or_default();
    (stem, end)
}

/// `20261122T221001.123456Z`.
fn is_time(text: &str) -> bool {
    text.len() == 23
        && text.ends_with('Z')
        && text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'T' | b'.' | b'Z'))
}

/// How much of the file is whole lines.
fn whole_lines(file: &File) -> io::Result<u64> {
    Ok(line_feed_before(file, file.metadata()?.len())?.map_or(0, |at| at + 1))
}

/// The last of `len` bytes' lines; the last byte is its line feed.
fn last_line(file: &File, len: u64) -> io::Result<Vec<u8>> {
    let start = line_feed_before(file, len - 1)?.map_or(0, |at| at + 1);
    let mut line = vec![0; usize::try_from(len - 1 - start).map_err(io::Error::other)?];
    file.read_exact_at(&mut line, start)?;
    Ok(line)
}

/// Where the last line feed before `end` is.
fn line_feed_before(file: &File, mut end: u64) -> io::Result<Option<u64>> {
    let mut buffer = [0; 8192];
    while end > 0 {
        let start = end.saturating_sub(buffer.len() as u64);
        let part = &mut buffer[..(end - start) as usize];
        file.read_exact_at(part, start)?;
        if let Some(at) = memchr::memrchr(b'\n', part) {
            return Ok(Some(start + at as u64));
        }
        end = start;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Bytes, Span};

    fn settings(dir: &Path, size: u64, keep: usize) -> FileSettings {
        FileSettings {
            path: dir.join("records.ndjson"),
            rotate_size: Bytes(size),
            rotate_age: Span::secs(0),
            rotate_keep: keep,
        }
    }

    #[test]
    fn a_torn_last_line_is_cut_off_at_start_whatever_its_length() {
        for torn in ["{\"half", &"x".repeat(20_000)] {
            let dir = tempfile::tempdir().expect("a folder");
            let settings = settings(dir.path(), 0, 0);
            fs::write(&settings.path, format!("{{\"a\":1}}\n{{\"a\":2}}\n{torn}")).expect("written");
            let mut file = Rotated::open(&settings).expect("opens");
            assert_eq!(file.last_line().expect("readable").as_deref(), Some(&b"{\"a\":2}"[..]));
            file.write(b"{\"a\":3}\n").expect("writes");
            let text = fs::read_to_string(&settings.path).expect("readable");
            assert_eq!(text, "{\"a\":1}\n{\"a\":2}\n{\"a\":3}\n");
        }
    }

    #[test]
    fn a_file_of_one_torn_line_is_emptied() {
        let dir = tempfile::tempdir().expect("a folder");
        let settings = settings(dir.path(), 0, 0);
        fs::write(&settings.path, "{\"never finished").expect("written");
        let file = Rotated::open(&settings).expect("opens");
        assert_eq!(file.last_line().expect("readable"), None);
        assert_eq!(fs::metadata(&settings.path).expect("there").len(), 0);
    }

    #[test]
    fn a_full_disk_is_an_error_that_says_so() {
        // Every write to it fails with ENOSPC.
        let settings = FileSettings { path: PathBuf::from("/dev/full"), ..FileSettings::default() };
        let mut file = Rotated::open(&settings).expect("opens");
        let error = file.write(b"{}\n").expect_err("no space");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{error}");
        assert!(!file.is_due(), "nothing was written");
    }

    #[test]
    fn a_full_file_is_rotated_and_only_the_newest_are_kept() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::write(dir.path().join("records-notes.ndjson"), "not ours").expect("written");
        let mut file = Rotated::open(&settings(dir.path(), 10, 2)).expect("opens");
        for n in 0..5 {
            assert!(!file.is_due(), "an empty file is not due");
            file.write(format!("{{\"number\":{n}}}\n").as_bytes()).expect("writes");
            assert!(file.is_due(), "twelve bytes are more than ten");
            file.rotate().expect("rotates");
        }
        let rotated = file.rotated().expect("readable");
        assert_eq!(rotated.len(), 2, "{rotated:?}");
        assert_eq!(fs::read_to_string(&rotated[1]).expect("readable"), "{\"number\":4}\n");
        assert_eq!(file.last_line().expect("readable").as_deref(), Some(&b"{\"number\":4}"[..]));
        assert!(dir.path().join("records-notes.ndjson").exists(), "a file of others is not touched");
    }

    #[test]
    fn an_old_file_is_rotated() {
        let dir = tempfile::tempdir().expect("a folder");
        let settings = FileSettings { rotate_age: Span::millis(1), ..settings(dir.path(), 0, 0) };
        let mut file = Rotated::open(&settings).expect("opens");
        file.write(b"{}\n").expect("writes");
        std::thread::sleep(std::time::Duration::from_millis(5));
        assert!(file.is_due());
    }
}
