//! Few large files instead of many small ones, in the same order.
//!
//! Ten files of a size become one of the next size, within a day; a day that is over becomes one file. So each record is
//! rewritten once for each power of ten, and rows stay newest first: the inputs are sorted, and are merged as they are
//! read, a few thousand rows of each in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_select::interleave::interleave_record_batch;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::delta::{Action, Add, Snapshot};
use super::order::{Key, Keys};
use super::{LakeError, added, data_file, new_path, query};

/// Files of one size that become one.
const TOGETHER: usize = 10;
/// Rows of a file that stays as it is.
const LARGE: u64 = 2_000_000;
/// Rows of an input, and of the output, in memory at a time.
const BATCH: usize = 2048;

/// Files of a day with their rows, by the digits of that count.
type Sizes<'s> = BTreeMap<u32, Vec<(u64, &'s Arc<Add>)>>;

/// Files of one day to be made one of, if there are any, but not those that could `not` be. `today` (`2026-11-24`) is not over.
pub(super) fn choose(snapshot: &Snapshot, today: &str, not: &BTreeSet<String>) -> Option<Vec<Arc<Add>>> {
    let mut days: BTreeMap<&str, Sizes<'_>> = BTreeMap::new();
    for add in snapshot.files.values() {
        // What another engine wrote without counts is left alone.
        let (Some(day), Some(bounds)) = (add.day(), query::bounds(add)) else { continue };
        if bounds.rows < LARGE && !not.contains(&add.path) {
            days.entry(day).or_default().entry(size(bounds.rows)).or_default().push((bounds.rows, add));
        }
    }
    for (day, sizes) in &days {
        let ten = sizes.values().find(|files| files.len() >= TOGETHER);
        if let Some(files) = ten {
            return Some(files.iter().take(TOGETHER).map(|(_, add)| Arc::clone(add)).collect());
        }
        if *day < today {
            let mut rows = 0;
            let mut all: Vec<Arc<Add>> = Vec::new();
            for (count, add) in sizes.values().flatten().take(TOGETHER) {
                rows += count;
                all.push(Arc::clone(add));
            }
            if all.len() > 1 && rows < 2 * LARGE {
                return Some(all);
            }
        }
    }
    None
}

/// Digits of a count of rows.
fn size(rows: u64) -> u32 {
    rows.max(1).ilog10()
}

/// What a commit says of files that became one.
pub(super) fn actions(inputs: &[Arc<Add>], output: Add) -> Vec<Action> {
    let mut actions: Vec<Action> = inputs.iter().map(|add| add.removal(false)).collect();
    actions.push(Add { data_change: false, ..output }.into());
    actions
}

/// Whether all inputs are still of the table.
pub(super) fn still_there(snapshot: &Snapshot, inputs: &[Arc<Add>]) -> bool {
    inputs.iter().all(|add| snapshot.files.contains_key(&add.path))
}

/// Merges sorted files of one day into a new one. Nobody knows of it before it is committed, so it is written where it
/// stays, as the rows come: it may be larger than what should be in memory.
pub(super) fn merge(folder: &Path, inputs: &[Arc<Add>]) -> Result<Add, LakeError> {
    let date = inputs.first().and_then(|add| add.day()).unwrap_or_default().to_owned();
    let path = new_path(&date);
    let file = File::create_new(folder.join(&path)).map_err(|e| LakeError::corrupt(&path, e))?;
    let merged = merge_into(folder, inputs, &path, date, file);
    if merged.is_err() {
        // No commit names it.
        _ = std::fs::remove_file(folder.join(&path));
    }
    merged
}

fn merge_into(folder: &Path, inputs: &[Arc<Add>], path: &str, date: String, file: File) -> Result<Add, LakeError> {
    let failed = |e: std::io::Error| LakeError::corrupt(path, e);
    let mut sources = inputs.iter().map(|add| Source::open(folder, add)).collect::<Result<Vec<_>, _>>()?;
    let mut output = data_file::Output::new(date, file)?;
    loop {
        let rows = next(&mut sources)?;
        if rows.num_rows() == 0 {
            break;
        }
        output.write(&rows)?;
    }
    let data_file::DataFile { written, date, stats } = output.finish()?;
    let size = written.sync_all().and_then(|()| written.metadata()).map_err(failed)?.len();
    let parent = folder.join(path).parent().map(File::open).transpose().map_err(failed)?;
    parent.map(|parent| parent.sync_all()).transpose().map_err(failed)?;
    Ok(added(path.to_owned(), &date, size, stats))
}

/// An input, and the rows of it that were read and not yet taken.
struct Source {
    path: String,
    reader: ParquetRecordBatchReader,
    rows: RecordBatch,
    keys: Option<Keys>,
    at: usize,
}

impl Source {
    fn open(folder: &Path, add: &Add) -> Result<Self, LakeError> {
        let path = folder.join(add.file_name());
        let file = File::open(&path).map_err(|e| LakeError::corrupt(&add.path, e))?;
        let damaged = |e| LakeError::corrupt(&add.path, e);
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(damaged)?;
        if !data_file::is_ours(builder.schema()) {
            return Err(LakeError::Foreign(format!("{} has other columns; it is left as it is", add.path)));
        }
        let reader = builder.with_batch_size(BATCH).build().map_err(damaged)?;
        let mut source = Self { path: add.path.clone(), reader, rows: query::nothing(), keys: None, at: 0 };
        source.refill()?;
        Ok(source)
    }

    /// Reads on, when all that was read is taken.
    fn refill(&mut self) -> Result<(), LakeError> {
        self.at = 0;
        self.keys = None;
        if let Some(rows) = self.reader.next() {
            self.rows = data_file::aligned(&rows.map_err(|e| LakeError::corrupt(&self.path, e))?)?;
            self.keys = Keys::new(&self.rows);
        }
        Ok(())
    }

    fn head(&self) -> Option<Key<'_>> {
        self.keys.as_ref().filter(|keys| self.at < keys.len()).map(|keys| keys.key(self.at))
    }
}

/// The next rows of all sources together: until one of them has to be read on, or there are enough.
fn next(sources: &mut [Source]) -> Result<RecordBatch, LakeError> {
    for source in sources.iter_mut() {
        if source.keys.as_ref().is_some_and(|keys| source.at >= keys.len()) {
            source.refill()?;
        }
    }
    let mut places = Vec::with_capacity(BATCH);
    while places.len() < BATCH {
        let heads = sources.iter().enumerate().filter_map(|(at, source)| Some((source.head()?, at)));
        let Some((_, newest)) = heads.max() else { break };
        let source = &mut sources[newest];
        places.push((newest, source.at));
        source.at += 1;
        if source.head().is_none() {
            // What follows in its file may be newer than the heads of the others.
            break;
        }
    }
    let batches: Vec<&RecordBatch> = sources.iter().map(|source| &source.rows).collect();
    if places.is_empty() {
        return Ok(query::nothing());
    }
    Ok(interleave_record_batch(&batches, &places)?)
}
