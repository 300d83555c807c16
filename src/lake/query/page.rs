//! The newest records that fit: files newest first, row groups newest first, and no further than the page.

use std::cmp::Reverse;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{BooleanArray, RecordBatch};
use arrow_select::filter::filter_record_batch;
use arrow_select::interleave::interleave_record_batch;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowPredicate, ArrowPredicateFn, ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
    RowFilter,
};

use super::super::data_file::aligned;
use super::super::delta::Add;
use super::super::order::{Key, Keys};
use super::super::schema::{self, COLUMNS};
use super::super::{LakeError, State};
use super::filter::{Condition, Field, Filter, Test};
use super::prune::{self, Open};
use super::{Bounds, Cancel, Query, bounds, evaluate, nothing};

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
    let mut files: Vec<(Bounds, &Arc<Add>)> =
        state.snapshot.files.values().map(|add| (bounds(add).unwrap_or(ANYTHING), add)).collect();
    files.sort_by_key(|(bounds, _)| Reverse(bounds.last));
    for (bounds, add) in files {
        if gathered.is_full_before(bounds.last) {
            break;
        }
        if !query.overlaps(bounds.first, bounds.last) {
            continue;
        }
        read(folder, add, query, cancel, &mut gathered)?;
    }
    gathered.finish(query.limit)
}

/// Of a file that the log says nothing of.
const ANYTHING: Bounds = Bounds { rows: 0, first: i64::MIN, last: i64::MAX };

/// Adds what fits of a file.
fn read(folder: &Path, add: &Add, query: &Query, cancel: &Cancel, gathered: &mut Gathered) -> Result<(), LakeError> {
    let damaged = |error: parquet::errors::ParquetError| LakeError::corrupt(&add.path, error);
    let file = File::open(folder.join(add.file_name())).map_err(|e| LakeError::corrupt(&add.path, e))?;
    let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()).map_err(damaged)?;
    let open = || -> Result<Open, LakeError> {
        let file = file.try_clone().map_err(|e| LakeError::corrupt(&add.path, e))?;
        Ok(Open::new_with_metadata(file, metadata.clone()))
    };
    let groups = open()?;
    let time = prune::place(&groups, COLUMNS[schema::TIME].name);
    for group in 0..metadata.metadata().num_row_groups() {
        cancel.check()?;
        let times = time.and_then(|at| prune::numbers(metadata.metadata().row_group(group), at));
        let (first, last) = times.unwrap_or((i64::MIN, i64::MAX));
        if gathered.is_full_before(last) {
            // Groups are newest first.
            break;
        }
        if !query.overlaps(first, last) || !prune::may_fit(&groups, group, &query.filter)? {
            continue;
        }
        let builder = open()?;
        let filter = predicates(query, &builder);
        let reader = builder
            .with_row_groups(vec![group])
            .with_row_filter(filter)
            .with_limit(gathered.limit)
            .with_batch_size(8192);
        for rows in reader.build().map_err(damaged)? {
            gathered.add(aligned(&rows?)?);
        }
    }
    Ok(())
}

/// What rows must pass: each condition by itself, so that the columns of the next are decoded only where it may matter.
fn predicates(query: &Query, file: &ParquetRecordBatchReaderBuilder<File>) -> RowFilter {
    let mut predicates: Vec<Box<dyn ArrowPredicate>> = Vec::new();
    let mask = |columns: &[usize]| {
        let leaves = columns.iter().filter_map(|column| prune::place(file, COLUMNS[*column].name));
        ProjectionMask::leaves(file.parquet_schema(), leaves.collect::<Vec<_>>())
    };
    if query.from.is_some() || query.to.is_some() || query.after.is_some() {
        let query = query.clone();
        let columns = match query.after {
            Some(_) => &[schema::TIME, schema::INSTANCE, schema::EPOCH, schema::SEQ][..],
            None => &[schema::TIME],
        };
        predicates.push(Box::new(ArrowPredicateFn::new(mask(columns), move |rows| Ok(in_range(&query, &rows)))));
    }
    if query.filter.any {
        let filter = query.filter.clone();
        let columns: Vec<usize> = filter.conditions.iter().map(|condition| condition.field.column()).collect();
        let fits = move |rows: RecordBatch| Ok(evaluate::filter(&filter, &rows));
        predicates.push(Box::new(ArrowPredicateFn::new(mask(&columns), fits)));
    } else {
        for condition in in_order(&query.filter) {
            let condition = condition.clone();
            let columns = [condition.field.column()];
            let fits = move |rows: RecordBatch| Ok(evaluate::condition(&condition, &rows));
            predicates.push(Box::new(ArrowPredicateFn::new(mask(&columns), fits)));
        }
    }
    RowFilter::new(predicates)
}

/// The conditions that cost least, or leave least, first.
fn in_order(filter: &Filter) -> Vec<&Condition> {
    let mut conditions: Vec<&Condition> = filter.conditions.iter().collect();
    conditions.sort_by_key(|condition| match (&condition.field, &condition.test) {
        (Field::Column(column), Test::In(_)) if COLUMNS[*column].is_key => 0,
        (Field::Column(_), Test::In(_) | Test::Range { .. }) => 1,
        (Field::Column(_), _) => 2,
        (Field::Attribute(_), _) => 3,
    });
    conditions
}

/// Which rows are in the query's time, and behind its cursor.
fn in_range(query: &Query, rows: &RecordBatch) -> BooleanArray {
    let Some(times) = rows
        .column_by_name(COLUMNS[schema::TIME].name)
        .and_then(|times| times.as_primitive_opt::<TimestampMicrosecondType>())
    else {
        return BooleanArray::from(vec![false; rows.num_rows()]);
    };
    let keys = query.after.as_ref().and_then(|_| Keys::new(rows));
    let fits = |row: usize| {
        let time = times.value(row);
        let behind = |after: &Cursor| keys.as_ref().is_some_and(|keys| keys.key(row) < after.key());
        query.from.is_none_or(|from| time >= from)
            && query.to.is_none_or(|to| time < to)
            && query.after.as_ref().is_none_or(behind)
    };
    (0..rows.num_rows()).map(|row| Some(fits(row))).collect()
}

impl Query {
    /// Whether records of these times may be meant.
    fn overlaps(&self, first: i64, last: i64) -> bool {
        self.from.is_none_or(|from| last >= from)
            && self.to.is_none_or(|to| first < to)
            && self.after.as_ref().is_none_or(|after| first <= after.time)
    }
}

impl Cursor {
    fn of((time, instance, epoch, seq): Key<'_>) -> Self {
        Self { time, instance: instance.to_owned(), epoch, seq }
    }

    fn key(&self) -> Key<'_> {
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
