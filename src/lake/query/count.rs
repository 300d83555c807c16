//! How many records fit: in all, by time, by what fields say. All files are read, those that can hold nothing left out, by
//! all processors.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::RecordBatch;
use arrow_select::filter::filter_record_batch;

use super::super::delta::Add;
use super::super::json::{Cell, Records};
use super::super::schema;
use super::super::{LakeError, State};
use super::filter::Field;
use super::scan::{File, in_range, overlapping};
use super::{Cancel, Query, evaluate};

/// What is counted apart.
#[derive(Clone, Debug, Default)]
pub struct By {
    /// Spans of time of so many µs, from 1970 on.
    pub every: Option<i64>,
    /// What these fields say.
    pub fields: Vec<Field>,
}

/// Records that have these in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count {
    /// Where their span of time begins, µs since 1970.
    pub time: Option<i64>,
    /// What each of the fields says; `None` where it is not there.
    pub values: Vec<Option<String>>,
    /// How many they are.
    pub records: u64,
}

/// Counts by what records have in common, as bytes.
type Counts = HashMap<Vec<u8>, u64>;

pub(super) fn count(
    folder: &Path,
    state: &State,
    query: &Query,
    by: &By,
    cancel: &Cancel,
) -> Result<Vec<Count>, LakeError> {
    let mut counts = Counts::new();
    for hot in &state.hot {
        cancel.check()?;
        let rows = filter_record_batch(hot, &evaluate::filter(&query.filter, hot))?;
        let rows = filter_record_batch(&rows, &in_range(query, &rows))?;
        add_rows(&rows, by, &mut counts);
    }
    for more in of_files(folder, &overlapping(state, query), query, by, cancel)? {
        for (common, records) in more {
            *counts.entry(common).or_default() += records;
        }
    }
    let mut all: Vec<Count> = counts.into_iter().map(|(common, records)| read(&common, by, records)).collect();
    all.sort_unstable();
    Ok(all)
}

/// Counts of each thread; files are handed out one by one.
fn of_files(
    folder: &Path,
    files: &[Arc<Add>],
    query: &Query,
    by: &By,
    cancel: &Cancel,
) -> Result<Vec<Counts>, LakeError> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<LakeError>> = Mutex::default();
    let fail = |error| *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    let work = || {
        let mut counts = Counts::new();
        loop {
            let turn = next.fetch_add(1, Relaxed);
            let Some(add) = files.get(turn) else { break };
            if let Err(error) = of_file(folder, add, query, by, cancel, &mut counts) {
                fail(error.of_file(&add.path));
                break;
            }
        }
        counts
    };
    let counts = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.min(files.len())).map(|_| scope.spawn(work)).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(counts),
    }
}

fn of_file(
    folder: &Path,
    add: &Add,
    query: &Query,
    by: &By,
    cancel: &Cancel,
    counts: &mut Counts,
) -> Result<(), LakeError> {
    let file = File::open(folder, add)?;
    let mut columns: Vec<usize> = by.fields.iter().map(Field::column).collect();
    columns.push(schema::TIME);
    for group in 0..file.groups() {
        cancel.check()?;
        if file.may_fit(group, query)? {
            for rows in file.read(group, query, Some(&columns), None)? {
                add_rows(&rows.map_err(|e| LakeError::corrupt(&add.path, e))?, by, counts);
            }
        }
    }
    Ok(())
}

/// Counts rows that fit.
fn add_rows(rows: &RecordBatch, by: &By, counts: &mut Counts) {
    if by.every.is_none() && by.fields.is_empty() {
        if rows.num_rows() > 0 {
            *counts.entry(Vec::new()).or_default() += rows.num_rows() as u64;
        }
        return;
    }
    let records = Records::new(rows);
    let mut common = Vec::new();
    for row in 0..rows.num_rows() {
        common.clear();
        if let Some(every) = by.every {
            let time = match records.cell(row, schema::TIME) {
                Some(Cell::Number(time)) => time.div_euclid(every) * every,
                _ => 0,
            };
            common.extend_from_slice(&time.to_be_bytes());
        }
        for field in &by.fields {
            write(&records, row, field, &mut common);
        }
        match counts.get_mut(&common) {
            Some(count) => *count += 1,
            None => _ = counts.insert(common.clone(), 1),
        }
    }
}

/// Absent: a zero byte. Present: a one, the text's length, the text.
fn write(records: &Records<'_>, row: usize, field: &Field, out: &mut Vec<u8>) {
    let text = |text: &str, out: &mut Vec<u8>| {
        out.push(1);
        out.extend_from_slice(&(text.len() as u64).to_be_bytes());
        out.extend_from_slice(text.as_bytes());
    };
    match (records.cell(row, field.column()), field) {
        (None, _) => out.push(0),
        (Some(Cell::Text(json)), Field::Attribute(name)) => match evaluate::attribute(json, name) {
            Some(serde_json::Value::String(value)) => text(&value, out),
            Some(value) => text(&value.to_string(), out),
            None => out.push(0),
        },
        (Some(Cell::Text(value)), _) => text(value, out),
        (Some(Cell::Number(micros)), Field::Column(schema::TIME)) => text(&super::super::json::time(micros), out),
        (Some(Cell::Number(number)), _) => text(&number.to_string(), out),
    }
}

/// What [`add_rows`] wrote.
fn read(common: &[u8], by: &By, records: u64) -> Count {
    let mut rest = common;
    let number = |rest: &mut &[u8]| {
        let (bytes, more) = rest.split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
        *rest = more;
        i64::from_be_bytes(*bytes)
    };
    let time = by.every.map(|_| number(&mut rest));
    let mut values = Vec::with_capacity(by.fields.len());
    while let [present, more @ ..] = rest {
        rest = more;
        values.push((*present == 1).then(|| {
            let length = usize::try_from(number(&mut rest)).unwrap_or(0).min(rest.len());
            let (text, more) = rest.split_at(length);
            rest = more;
            String::from_utf8_lossy(text).into_owned()
        }));
    }
    Count { time, values, records }
}
