//! How many records fit: in all, by time, by what fields say. All files are read, those that can hold nothing left out, by
//! all processors.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::ScopedJoinHandle;

use arrow_array::RecordBatch;
use hashbrown::HashMap;

use super::super::delta::Add;
use super::super::json::{self, Cell, Records};
use super::super::schema;
use super::super::{LakeError, State};
use super::filter::Field;
use super::scan::{File, fitting, overlapping};
use super::{Bounds, Cancel, Query, evaluate};

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

/// Counts of one thread. Texts are numbered as they come, so that what a row has in common with others is a few numbers.
#[derive(Default)]
struct Counts {
    texts: Vec<String>,
    numbers: HashMap<String, u32>,
    /// By the beginning of the span of time, then by the number of each field's text.
    records: HashMap<i64, HashMap<Box<[u32]>, u64>>,
}

/// Of a field that a record has not.
const ABSENT: u32 = u32::MAX;

pub(super) fn count(
    folder: &Path,
    state: &State,
    query: &Query,
    by: &By,
    cancel: &Cancel,
) -> Result<Vec<Count>, LakeError> {
    let mut counts = Counts::default();
    for hot in &state.hot {
        cancel.check()?;
        counts.add(&fitting(query, hot)?, by);
    }
    let mut all: BTreeMap<(Option<i64>, Vec<Option<String>>), u64> = BTreeMap::new();
    for counts in of_files(folder, &overlapping(state, query), query, by, cancel)?.into_iter().chain([counts]) {
        let text = |number: &u32| counts.texts.get(*number as usize).cloned();
        for (time, records) in &counts.records {
            for (numbers, records) in records {
                let values = numbers.iter().map(text).collect();
                *all.entry((by.every.map(|_| *time), values)).or_default() += records;
            }
        }
    }
    Ok(all.into_iter().map(|((time, values), records)| Count { time, values, records }).collect())
}

/// Counts of each thread; files are handed out one by one.
fn of_files(
    folder: &Path,
    files: &[(Bounds, Arc<Add>)],
    query: &Query,
    by: &By,
    cancel: &Cancel,
) -> Result<Vec<Counts>, LakeError> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<LakeError>> = Mutex::default();
    let fail = |error| *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    let work = || {
        let mut counts = Counts::default();
        loop {
            let turn = next.fetch_add(1, Relaxed);
            let Some((_, add)) = files.get(turn) else { break };
            if let Err(error) = of_file(folder, add, query, by, cancel, &mut counts) {
                fail(error.of_file(&add.path));
                break;
            }
        }
        counts
    };
    let counts = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.min(files.len())).map(|_| scope.spawn(work)).collect();
        let counted = |thread: ScopedJoinHandle<'_, Counts>| {
            thread.join().unwrap_or_else(|_| {
                fail(LakeError::Query("a part of the count failed; this is a bug".to_owned()));
                Counts::default()
            })
        };
        threads.into_iter().map(counted).collect()
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
                counts.add(&rows.map_err(|e| LakeError::corrupt(&add.path, e))?, by);
            }
        }
    }
    Ok(())
}

impl Counts {
    /// Counts rows.
    fn add(&mut self, rows: &RecordBatch, by: &By) {
        let records = Records::new(rows);
        let fields: Vec<Vec<u32>> =
            by.fields.iter().map(|field| self.number(&records, rows.num_rows(), field)).collect();
        let mut this = vec![ABSENT; fields.len()];
        // Neighbours often have all in common.
        let (mut run, mut run_time, mut run_is) = (0, 0, vec![ABSENT; fields.len()]);
        for row in 0..rows.num_rows() {
            let time = match by.every.map(|every| (every, records.cell(row, schema::TIME))) {
                Some((every, Some(Cell::Number(time)))) => time.div_euclid(every) * every,
                _ => 0,
            };
            this.iter_mut().zip(&fields).for_each(|(this, numbers)| *this = numbers[row]);
            if run > 0 && (time != run_time || this != run_is) {
                self.found(run_time, &run_is, run);
                run = 0;
            }
            run += 1;
            run_time = time;
            run_is.copy_from_slice(&this);
        }
        if run > 0 {
            self.found(run_time, &run_is, run);
        }
    }

    fn found(&mut self, time: i64, numbers: &[u32], records: u64) {
        let of_time = self.records.entry(time).or_default();
        match of_time.get_mut(numbers) {
            Some(count) => *count += records,
            None => _ = of_time.insert(numbers.into(), records),
        }
    }

    /// The number of what a field says, for each row.
    fn number(&mut self, records: &Records<'_>, rows: usize, field: &Field) -> Vec<u32> {
        let mut last: Option<(Cow<'_, str>, u32)> = None;
        let numbers = (0..rows).map(|row| {
            let Some(text) = text(records, row, field) else { return ABSENT };
            if let Some((_, number)) = last.as_ref().filter(|(last, _)| *last == text) {
                return *number;
            }
            let number = self.numbers.get(&*text).copied().unwrap_or_else(|| {
                let number = u32::try_from(self.texts.len()).unwrap_or(ABSENT);
                self.texts.push(text.to_string());
                self.numbers.insert(text.to_string(), number);
                number
            });
            last = Some((text, number));
            number
        });
        numbers.collect()
    }
}

/// What a field says in a row.
fn text<'r>(records: &Records<'r>, row: usize, field: &Field) -> Option<Cow<'r, str>> {
    Some(match (records.cell(row, field.column())?, field) {
        (Cell::Text(json), Field::Attribute(name)) => match evaluate::attribute(json, name)? {
            serde_json::Value::String(text) => Cow::Owned(text),
            other => Cow::Owned(other.to_string()),
        },
        (Cell::Text(text), _) => Cow::Borrowed(text),
        (Cell::Number(micros), Field::Column(schema::TIME)) => Cow::Owned(json::time(micros)),
        (Cell::Number(number), _) => Cow::Owned(number.to_string()),
    })
}
