//! The newest records that fit: files newest first, row groups newest first, and no further than the page.

use std::path::Path;

use arrow_array::RecordBatch;
use arrow_select::filter::filter_record_batch;
use arrow_select::interleave::interleave_record_batch;

use super::super::data_file::aligned;
use super::super::delta::Add;
use super::super::order::{Key, Keys};
use super::super::{LakeError, State};
use super::scan::{File, in_range, overlapping};
use super::{Cancel, Query, bounds, evaluate, nothing};

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
}

pub(super) fn page(folder: &Path, state: &State, query: &Query, cancel: &Cancel) -> Result<Page, LakeError> {
    // One more, to know whether there is another page.
    let mut gathered = Gathered { batches: Vec::new(), rows: Vec::new(), limit: query.limit.saturating_add(1) };
    for hot in &state.hot {
        cancel.check()?;
        let mask = evaluate::filter(&query.filter, hot);
        let rows = filter_record_batch(hot, &mask)?;
        let rows = filter_record_batch(&rows, &in_range(query, &rows))?;
        gathered.add(rows);
    }
    for add in overlapping(state, query) {
        if gathered.is_full_before(bounds(&add).map_or(i64::MAX, |bounds| bounds.last)) {
            break;
        }
        read(folder, &add, query, cancel, &mut gathered).map_err(|error| error.of_file(&add.path))?;
    }
    gathered.finish(query.limit)
}

/// Adds what fits of a file.
fn read(folder: &Path, add: &Add, query: &Query, cancel: &Cancel, gathered: &mut Gathered) -> Result<(), LakeError> {
    let file = File::open(folder, add)?;
    for group in 0..file.groups() {
        cancel.check()?;
        if gathered.is_full_before(file.times(group).1) {
            // Groups are newest first.
            break;
        }
        if file.may_fit(group, query)? {
            for rows in file.read(group, query, None, Some(gathered.limit))? {
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
        self.rows.sort_unstable_by(|(a, _), (b, _)| b.cmp(a));
        // A record that a crash left both in memory and in a file.
        self.rows.dedup_by(|(a, _), (b, _)| a == b);
        self.rows.truncate(self.limit);
    }

    /// Whether nothing as old as this can be on the page.
    fn is_full_before(&self, last: i64) -> bool {
        self.rows.len() >= self.limit && self.rows.last().is_some_and(|(oldest, _)| oldest.time > last)
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
