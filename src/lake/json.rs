//! Rows as records: columns in, the same JSON out.
//!
//! A record that Daybook wrote comes out byte for byte, so that its chain can still be checked; one with members that
//! this version does not know has them at its end, under `other`.

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_array::{Array as _, RecordBatch};
use arrow_schema::{DataType, TimeUnit};

use super::schema::{COLUMNS, Kind, OTHER};
use crate::record;

/// Reads rows of a batch whose columns are named as in the table; columns it has not are absent members.
pub struct Records<'b> {
    batch: &'b RecordBatch,
    /// For each of [`COLUMNS`], where the batch has it.
    places: Vec<Option<usize>>,
}

/// A column's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cell<'b> {
    /// Text, or JSON text.
    Text(&'b str),
    /// A number, or µs since 1970.
    Number(i64),
}

impl<'b> Records<'b> {
    /// The rows of `batch`.
    pub fn new(batch: &'b RecordBatch) -> Self {
        let places = COLUMNS.iter().map(|column| batch.schema().index_of(column.name).ok()).collect();
        Self { batch, places }
    }

    /// The value of a column ([`super::schema::find`]) in a row; `None` where there is none.
    pub fn cell(&self, row: usize, column: usize) -> Option<Cell<'b>> {
        let array = self.batch.column(self.places[column]?);
        if array.is_null(row) {
            return None;
        }
        Some(match array.data_type() {
            DataType::Utf8 => Cell::Text(array.as_string::<i32>().value(row)),
            DataType::Utf8View => Cell::Text(array.as_string_view().value(row)),
            DataType::Int64 => Cell::Number(array.as_primitive::<Int64Type>().value(row)),
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                Cell::Number(array.as_primitive::<TimestampMicrosecondType>().value(row))
            }
            _ => return None,
        })
    }

    /// Appends a row's record, without a line feed.
    pub fn write(&self, row: usize, out: &mut Vec<u8>) {
        out.push(b'{');
        // The objects that are open, as a prefix of paths: `client.geo.`
        let mut open = "";
        for (at, column) in COLUMNS.iter().enumerate() {
            let Some(cell) = self.cell(row, at) else { continue };
            while !column.path.starts_with(open) {
                close(out);
                open = &open[..open.trim_end_matches('.').rfind('.').map_or(0, |dot| dot + 1)];
            }
            while let Some(dot) = column.path[open.len()..].find('.') {
                name(&column.path[open.len()..open.len() + dot], out);
                out.push(b'{');
                open = &column.path[..open.len() + dot + 1];
            }
            name(&column.path[open.len()..], out);
            value(cell, column.kind, out);
            out.push(b',');
            debug_assert!(at != OTHER || open.is_empty(), "`other` stands outside of objects");
        }
        for _ in open.matches('.') {
            close(out);
        }
        finish(out);
    }
}

fn name(name: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn value(cell: Cell<'_>, kind: Kind, out: &mut Vec<u8>) {
    match (cell, kind) {
        (Cell::Text(json), Kind::Json) => out.extend_from_slice(json.as_bytes()),
        // Writing a string to a Vec can't fail.
        (Cell::Text(text), _) => _ = serde_json::to_writer(&mut *out, text),
        (Cell::Number(micros), Kind::Time) => {
            out.push(b'"');
            out.extend_from_slice(time(micros).as_bytes());
            out.push(b'"');
        }
        (Cell::Number(number), _) => _ = serde_json::to_writer(&mut *out, &number),
    }
}

/// A moment as records write it.
pub fn time(micros: i64) -> String {
    let since = std::time::Duration::from_micros(micros.unsigned_abs());
    let epoch = std::time::UNIX_EPOCH;
    record::timestamp(if micros >= 0 { epoch + since } else { epoch - since })
}

/// Ends an object inside the record.
fn close(out: &mut Vec<u8>) {
    finish(out);
    out.push(b',');
}

fn finish(out: &mut Vec<u8>) {
    match out.last_mut() {
        Some(last) if *last == b',' => *last = b'}',
        _ => out.push(b'}'),
    }
}
