//! A data file, open for a query: its row groups, newest first, and of each the rows that fit.

use std::cmp::Reverse;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{BooleanArray, RecordBatch};
use arrow_select::filter::filter_record_batch;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowPredicate, ArrowPredicateFn, ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, RowFilter,
};

use super::super::delta::Add;
use super::super::order::Keys;
use super::super::schema::{self, COLUMNS};
use super::super::{LakeError, State};
use super::filter::{Condition, Field, Filter, Test};
use super::page::Cursor;
use super::prune::{self, Open};
use super::{Bounds, Query, bounds, evaluate};

/// Rows decoded at a time.
const BATCH: usize = 8192;
/// Of a file that the log says nothing of.
const ANYTHING: Bounds = Bounds { rows: 0, first: i64::MIN, last: i64::MAX };

/// A data file.
pub(super) struct File {
    path: String,
    file: fs::File,
    metadata: ArrowReaderMetadata,
    /// For statistics and bloom filters; each reading takes one of its own.
    groups: Open,
    time: Option<usize>,
    /// Daybook wrote it: its rows are newest first. Who knows what others do.
    is_sorted: bool,
}

/// The table's files that may hold what is asked for, newest first, and what the log says of them.
pub(super) fn overlapping(state: &State, query: &Query) -> Vec<(Bounds, Arc<Add>)> {
    let told = |add: &Arc<Add>| (bounds(add).unwrap_or(ANYTHING), Arc::clone(add));
    let mut files: Vec<(Bounds, Arc<Add>)> = state.snapshot.files.values().map(told).collect();
    files.retain(|(bounds, _)| query.overlaps(bounds.first, bounds.last));
    files.sort_by_key(|(bounds, _)| Reverse(bounds.last));
    files
}

// === impl File ===

impl File {
    pub(super) fn open(folder: &Path, add: &Add) -> Result<Self, LakeError> {
        let path = add.path.clone();
        let file = fs::File::open(folder.join(add.file_name())).map_err(|e| LakeError::corrupt(&path, e))?;
        let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new());
        let metadata = metadata.map_err(|e| LakeError::corrupt(&path, e))?;
        let again = file.try_clone().map_err(|e| LakeError::corrupt(&path, e))?;
        let groups = Open::new_with_metadata(again, metadata.clone());
        let time = prune::place(&groups, COLUMNS[schema::TIME].name);
        let by = metadata.metadata().file_metadata().created_by();
        let is_sorted = by.is_some_and(|by| by.starts_with("daybook "));
        Ok(Self { path, file, metadata, groups, time, is_sorted })
    }

    /// Whether rows are newest first.
    pub(super) fn is_sorted(&self) -> bool {
        self.is_sorted
    }

    /// Row groups; the newest first, if the file [`File::is_sorted`].
    pub(super) fn groups(&self) -> usize {
        self.metadata.metadata().num_row_groups()
    }

    /// The oldest and the newest time in a row group, µs.
    pub(super) fn times(&self, group: usize) -> (i64, i64) {
        let bounds = self.time.and_then(|at| prune::numbers(self.metadata.metadata().row_group(group), at));
        bounds.unwrap_or((i64::MIN, i64::MAX))
    }

    /// Whether a row group may hold a row that fits.
    pub(super) fn may_fit(&self, group: usize, query: &Query) -> Result<bool, LakeError> {
        let (first, last) = self.times(group);
        if !query.overlaps(first, last) {
            return Ok(false);
        }
        prune::may_fit(&self.groups, group, &query.filter)
    }

    /// The rows of a group that fit, the first `limit` of them, with these columns or all.
    pub(super) fn read(
        &self,
        group: usize,
        query: &Query,
        columns: Option<&[usize]>,
        limit: Option<usize>,
    ) -> Result<ParquetRecordBatchReader, LakeError> {
        let file = self.file.try_clone().map_err(|e| LakeError::corrupt(&self.path, e))?;
        let mut builder = Open::new_with_metadata(file, self.metadata.clone());
        if let Some(columns) = columns {
            builder = builder.with_projection(mask(&self.groups, columns));
        }
        if let Some(limit) = limit {
            builder = builder.with_limit(limit);
        }
        let filter = predicates(query, &self.groups, self.times(group));
        let reader = builder.with_row_groups(vec![group]).with_row_filter(filter).with_batch_size(BATCH).build();
        reader.map_err(|e| LakeError::corrupt(&self.path, e))
    }
}

fn mask(file: &Open, columns: &[usize]) -> ProjectionMask {
    let leaves = columns.iter().filter_map(|column| prune::place(file, COLUMNS[*column].name));
    ProjectionMask::leaves(file.parquet_schema(), leaves.collect::<Vec<_>>())
}

/// What rows must pass: each condition by itself, so that the columns of the next are decoded only where it may matter.
fn predicates(query: &Query, file: &Open, (first, last): (i64, i64)) -> RowFilter {
    let mut predicates: Vec<Box<dyn ArrowPredicate>> = Vec::new();
    let mut add = |columns: &[usize], fits: Box<dyn FnMut(RecordBatch) -> BooleanArray + Send>| {
        let mut fits = fits;
        predicates.push(Box::new(ArrowPredicateFn::new(mask(file, columns), move |rows| Ok(fits(rows)))));
    };
    if !query.covers(first, last) {
        let query = query.clone();
        let columns = match query.after {
            Some(_) => &[schema::TIME, schema::INSTANCE, schema::EPOCH, schema::SEQ][..],
            None => &[schema::TIME],
        };
        add(columns, Box::new(move |rows| in_range(&query, &rows)));
    }
    if query.filter.any && !query.filter.conditions.is_empty() {
        let filter = query.filter.clone();
        let columns: Vec<usize> = filter.conditions.iter().map(|condition| condition.field.column()).collect();
        add(&columns, Box::new(move |rows| evaluate::filter(&filter, &rows)));
    } else {
        for condition in in_order(&query.filter) {
            let condition = condition.clone();
            add(&[condition.field.column()], Box::new(move |rows| evaluate::condition(&condition, &rows)));
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

/// The rows in memory that fit.
pub(super) fn fitting(query: &Query, rows: &RecordBatch) -> Result<RecordBatch, LakeError> {
    let rows = filter_record_batch(rows, &evaluate::filter(&query.filter, rows))?;
    Ok(filter_record_batch(&rows, &in_range(query, &rows))?)
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
    pub(super) fn overlaps(&self, first: i64, last: i64) -> bool {
        self.from.is_none_or(|from| last >= from)
            && self.to.is_none_or(|to| first < to)
            && self.after.as_ref().is_none_or(|after| first <= after.time)
    }

    /// Whether all records of these times are meant.
    fn covers(&self, first: i64, last: i64) -> bool {
        self.from.is_none_or(|from| first >= from)
            && self.to.is_none_or(|to| last < to)
            && self.after.as_ref().is_none_or(|after| last < after.time)
    }
}
