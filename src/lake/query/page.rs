//! The newest records that fit: files newest first, row groups newest first, and no further than the page.

use std::path::Path;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_select::interleave::interleave_record_batch;

use super::super::data_file::aligned;
use super::super::delta::Add;
use super::super::order::{Key, Keys};
use super::super::{LakeError, State};
use super::scan::{File, fitting, overlapping};
use super::{Bounds, Cancel, Query, nothing};

/// Records, newest first.
#[derive(Debug)]
pub struct Page {
    /// One row a record, all columns.
    pub rows: RecordBatch,
    /// Where the next page begins; `None` when this was the last.
    pub next: Option<Cursor>,
}

/// A record's place in the order of pages: no two records have the same. Newer ones are greater.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// µs since 1970.
    pub time: i64,
    /// Its journal's name.
    pub instance: String,
    /// Its epoch.
    pub epoch: i64,
    /// Its number.
    pub seq: i64,
}

/// The page as far as it has come: rows of several batches, the newest first.
struct Gathered {
    batches: Vec<RecordBatch>,
    /// The place of each, where it is (batch and row).
    rows: Vec<(Cursor, (usize, usize))>,
    limit: usize,
    /// There is a full page of records that are newer than this, µs: what is older need not be looked at.
    behind: Option<i64>,
}

pub(super) fn page(folder: &Path, state: &State, query: &Query, cancel: &Cancel) -> Result<Page, LakeError> {
    // One more, to know whether there is another page.
    let mut gathered =
        Gathered { batches: Vec::new(), rows: Vec::new(), limit: query.limit.saturating_add(1), behind: None };
    for hot in &state.hot {
        cancel.check()?;
        gathered.add(fitting(query, hot)?);
    }
    let files = overlapping(state, query);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    // What many records are is on the newest file alone; what few are is looked for by all processors.
    let (first, rest) = files.split_at(files.len().min(1));
    for files in std::iter::once(first).chain(rest.chunks(threads)) {
        if files.first().is_some_and(|(bounds, _)| gathered.is_full_before(bounds.last)) {
            break;
        }
        for found in read_all(folder, files, query, cancel, &gathered)? {
            gathered.join(found);
        }
    }
    gathered.finish(query.limit)
}

/// What fits of each file, beyond what is `known` already.
fn read_all(
    folder: &Path,
    files: &[(Bounds, Arc<Add>)],
    query: &Query,
    cancel: &Cancel,
    known: &Gathered,
) -> Result<Vec<Gathered>, LakeError> {
    let one = |(_, add): &(Bounds, Arc<Add>)| {
        let mut found = Gathered { batches: Vec::new(), rows: Vec::new(), limit: known.limit, behind: known.last() };
        read(folder, add, query, cancel, &mut found).map_err(|error| error.of_file(&add.path)).map(|()| found)
    };
    let [mine, others @ ..] = files else { return Ok(Vec::new()) };
    std::thread::scope(|scope| {
        let others: Vec<_> = others.iter().map(|file| scope.spawn(move || one(file))).collect();
        let mut all = vec![one(mine)?];
        for other in others {
            all.push(other.join().unwrap_or(Err(LakeError::Cancelled))?);
        }
        Ok(all)
    })
}

/// Adds what fits of a file.
fn read(folder: &Path, add: &Add, query: &Query, cancel: &Cancel, gathered: &mut Gathered) -> Result<(), LakeError> {
    let file = File::open(folder, add)?;
    let limit = file.is_sorted().then_some(gathered.limit);
    for group in 0..file.groups() {
        cancel.check()?;
        if gathered.is_full_before(file.times(group).1) {
            if file.is_sorted() {
                break;
            }
            continue;
        }
        if file.may_fit(group, query)? {
            for rows in file.read(group, query, None, limit)? {
                gathered.add(aligned(&rows.map_err(|e| LakeError::corrupt(&add.path, e))?)?);
            }
        }
    }
    Ok(())
}

impl Cursor {
    fn of((time, instance, epoch, seq): Key<'_>) -> Self {
        Self { time, instance: instance.to_owned(), epoch, seq }
    }

    pub(super) fn key(&self) -> Key<'_> {
        (self.time, &self.instance, self.epoch, self.seq)
    }
}

impl Gathered {
    fn add(&mut self, rows: RecordBatch) {
        let Some(keys) = Keys::new(&rows) else { return };
        let batch = self.batches.len();
        self.rows.extend((0..rows.num_rows()).map(|row| (Cursor::of(keys.key(row)), (batch, row))));
        self.batches.push(rows);
        self.settle();
    }

    /// Adds what another has gathered.
    fn join(&mut self, other: Self) {
        let batches = self.batches.len();
        self.batches.extend(other.batches);
        self.rows.extend(other.rows.into_iter().map(|(cursor, (batch, row))| (cursor, (batches + batch, row))));
        self.settle();
    }

    /// Keeps the newest, each once.
    fn settle(&mut self) {
        self.rows.sort_unstable_by(|(a, _), (b, _)| b.cmp(a));
        // A record that a crash left both in memory and in a file.
        self.rows.dedup_by(|(a, _), (b, _)| a == b);
        self.rows.truncate(self.limit);
    }

    /// The time of the last record of a full page, µs.
    fn last(&self) -> Option<i64> {
        let last = self.rows.last().filter(|_| self.rows.len() >= self.limit).map(|(last, _)| last.time);
        last.max(self.behind)
    }

    /// Whether nothing as old as this can be on the page.
    fn is_full_before(&self, time: i64) -> bool {
        self.last().is_some_and(|last| last > time)
    }

    fn finish(mut self, limit: usize) -> Result<Page, LakeError> {
        let more = self.rows.len() > limit;
        self.rows.truncate(limit);
        let next = self.rows.last().filter(|_| more).map(|(last, _)| last.clone());
        if self.rows.is_empty() {
            return Ok(Page { rows: nothing(), next: None });
        }
        let batches: Vec<&RecordBatch> = self.batches.iter().collect();
        let places: Vec<(usize, usize)> = self.rows.iter().map(|(_, place)| *place).collect();
        Ok(Page { rows: interleave_record_batch(&batches, &places)?, next })
    }
}
