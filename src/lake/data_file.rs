//! A data file: sorted rows as Parquet.
//!
//! Newest first, so that a page of the newest records is the beginning of the newest file. Small row groups, since a rare
//! key then costs the decoding of little else; bloom filters on the columns whose values are looked up one by one.

use std::io::Write;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_array::{RecordBatch, UInt32Array, new_null_array};
use arrow_schema::FieldRef;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use super::LakeError;
use super::order::Keys;
use super::schema::{self, COLUMNS};

/// Rows in a row group (measured: 16 Ki beat 128 Ki for rare keys, 250 against 577 ms).
const ROW_GROUP: usize = 16 * 1024;
/// And bytes, for records with large bodies.
const ROW_GROUP_BYTES: usize = 64 << 20;
/// Rows in a page.
const PAGE: usize = 8 * 1024;
/// Chance that a bloom filter says maybe for a value that is not there.
const FALSE_POSITIVES: f64 = 0.01;

/// A data file that is written, and what the log says of it.
#[derive(Debug)]
pub(super) struct DataFile<W> {
    /// What it was written to.
    pub(super) written: W,
    /// The UTC day of all its rows: `2026-11-24`.
    pub(super) date: String,
    /// Delta's statistics, as JSON.
    pub(super) stats: String,
}

/// Sorts rows and splits them by day, the newest day first.
pub(super) fn by_day(rows: &RecordBatch) -> Result<Vec<(String, RecordBatch)>, LakeError> {
    let order = newest_first(rows);
    let sorted = arrow_select::take::take_record_batch(rows, &UInt32Array::from(order))?;
    let times = sorted.column(schema::TIME).as_primitive::<TimestampMicrosecondType>();
    let day = |row: usize| times.value(row).div_euclid(DAY);
    let mut days = Vec::new();
    let mut from = 0;
    while from < sorted.num_rows() {
        let this = day(from);
        let to = (from..sorted.num_rows()).find(|row| day(*row) != this).unwrap_or(sorted.num_rows());
        days.push((date(this), sorted.slice(from, to - from)));
        from = to;
    }
    Ok(days)
}

/// Rows of one day, sorted, as a file.
pub(super) fn write(date: String, rows: &RecordBatch) -> Result<DataFile<Vec<u8>>, LakeError> {
    let mut output = Output::new(date, Vec::new())?;
    output.write(rows)?;
    output.finish()
}

/// A file being made.
pub(super) struct Output<W: Write + Send> {
    date: String,
    writer: ArrowWriter<W>,
    rows: usize,
    /// Smallest and largest.
    times: Option<(i64, i64)>,
    seqs: Option<(i64, i64)>,
}

impl<W: Write + Send> Output<W> {
    pub(super) fn new(date: String, out: W) -> Result<Self, LakeError> {
        let writer = ArrowWriter::try_new(out, schema::arrow(), Some(properties()?))?;
        Ok(Self { date, writer, rows: 0, times: None, seqs: None })
    }

    /// Adds rows that stand behind those before.
    pub(super) fn write(&mut self, rows: &RecordBatch) -> Result<(), LakeError> {
        self.writer.write(rows)?;
        self.rows += rows.num_rows();
        let times = rows.column(schema::TIME).as_primitive::<TimestampMicrosecondType>();
        times.iter().flatten().for_each(|time| widen(&mut self.times, time));
        let seqs = rows.column(schema::SEQ).as_primitive::<Int64Type>();
        seqs.iter().flatten().for_each(|seq| widen(&mut self.seqs, seq));
        Ok(())
    }

    pub(super) fn finish(self) -> Result<DataFile<W>, LakeError> {
        let stats = self.stats();
        Ok(DataFile { written: self.writer.into_inner()?, date: self.date, stats })
    }

    /// Delta's statistics: by the columns that files are chosen by.
    fn stats(&self) -> String {
        let (mut min, mut max) = (serde_json::Map::new(), serde_json::Map::new());
        if let Some((first, last)) = self.times {
            // Some read the timestamps of statistics to the millisecond: rounded outwards.
            min.insert("time".into(), super::json::time(first.div_euclid(1000) * 1000).into());
            max.insert("time".into(), super::json::time((last.div_euclid(1000) + 1) * 1000).into());
        }
        if let Some((first, last)) = self.seqs {
            min.insert("seq".into(), first.into());
            max.insert("seq".into(), last.into());
        }
        serde_json::json!({ "numRecords": self.rows, "minValues": min, "maxValues": max }).to_string()
    }
}

fn widen(bounds: &mut Option<(i64, i64)>, value: i64) {
    *bounds = Some(bounds.map_or((value, value), |(min, max)| (min.min(value), max.max(value))));
}

/// µs in a day.
const DAY: i64 = 86_400_000_000;

/// A day since 1970 as a date.
fn date(day: i64) -> String {
    super::json::time(day * DAY)[..10].to_owned()
}

/// The rows in the lake's order.
fn newest_first(rows: &RecordBatch) -> Vec<u32> {
    let mut order: Vec<u32> = (0..u32::try_from(rows.num_rows()).unwrap_or(u32::MAX)).collect();
    if let Some(keys) = Keys::new(rows) {
        order.sort_unstable_by(|a, b| keys.key(*b as usize).cmp(&keys.key(*a as usize)));
    }
    order
}

fn properties() -> Result<WriterProperties, LakeError> {
    let mut properties = WriterProperties::builder()
        .set_created_by(concat!("daybook ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        .set_max_row_group_row_count(Some(ROW_GROUP))
        .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
        .set_data_page_row_count_limit(PAGE)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_bloom_filter_fpp(FALSE_POSITIVES)
        .set_bloom_filter_max_ndv(ROW_GROUP as u64);
    for column in COLUMNS {
        let path = ColumnPath::from(column.name);
        if column.is_key {
            properties = properties.set_column_bloom_filter_enabled(path.clone(), true);
        }
        properties = match column.path {
            // Steady: differences take a byte or two.
            "seq" | "time" => properties
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED),
            // Every value is another one: a dictionary would only be given up on later.
            "id" | "chain" => properties.set_column_dictionary_enabled(path, false),
            _ => properties,
        };
    }
    Ok(properties.build())
}

/// A batch with our columns in our order: what a file has more is left out, what it has not is absent in every row.
pub(super) fn aligned(rows: &RecordBatch) -> Result<RecordBatch, LakeError> {
    let schema = schema::arrow();
    let column = |field: &FieldRef| match rows.column_by_name(field.name()) {
        Some(column) if column.data_type() == field.data_type() => Arc::clone(column),
        _ => new_null_array(field.data_type(), rows.num_rows()),
    };
    let columns = schema.fields().iter().map(column).collect();
    Ok(RecordBatch::try_new(schema, columns)?)
}

/// Whether a file's columns are all ours: nothing of it would be lost by writing it anew.
pub(super) fn is_ours(schema: &arrow_schema::Schema) -> bool {
    let ours = schema::arrow();
    let same =
        |field: &FieldRef| ours.field_with_name(field.name()).is_ok_and(|our| our.data_type() == field.data_type());
    schema.fields().iter().all(same)
}
