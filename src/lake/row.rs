//! Records as rows: JSON in, columns out.
//!
//! A record is read once, member by member, into the builders of its columns; texts are copied, objects and lists
//! are kept as they stand. What this version has no column for goes to `other`, under its path.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, LazyLock};

use arrow_array::builder::{Int64Builder, StringBuilder, TimestampMicrosecondBuilder};
use arrow_array::{ArrayRef, RecordBatch};
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::schema::{self, COLUMNS, Kind, OTHER};
use crate::record::Text;

/// Rows being gathered.
pub(super) struct Rows {
    builders: Vec<Builder>,
    /// The columns that the record being read has set; cleared for each.
    set: Vec<bool>,
    other: serde_json::Map<String, serde_json::Value>,
    rows: usize,
    bytes: usize,
}

/// A record that is no record.
#[derive(Debug, thiserror::Error)]
#[error("not a record of schema daybook/1: {0}")]
pub struct NotARecord(#[from] serde_json::Error);

enum Builder {
    Text(StringBuilder),
    Number(Int64Builder),
    Time(TimestampMicrosecondBuilder),
}

/// Where a member goes.
enum Place {
    Column(usize),
    /// An object whose members have places of their own, and what their paths begin with.
    Object(&'static str, Places),
}

/// By the member's name.
type Places = HashMap<&'static str, Place>;

static PLACES: LazyLock<Places> = LazyLock::new(|| places(""));

/// The places of the members of the object at `prefix` (empty, or ending with a dot).
fn places(prefix: &'static str) -> Places {
    let mut places = HashMap::new();
    for (at, column) in COLUMNS.iter().enumerate() {
        let Some(rest) = column.path.strip_prefix(prefix) else { continue };
        match rest.split_once('.') {
            None if at != OTHER => _ = places.insert(rest, Place::Column(at)),
            None => {}
            Some((name, _)) => {
                let inside = &column.path[..prefix.len() + name.len() + 1];
                places.entry(name).or_insert_with(|| Place::Object(inside, self::places(inside)));
            }
        }
    }
    places
}

// === impl Rows ===

impl Default for Rows {
    fn default() -> Self {
        let builder = |column: &schema::Column| match column.kind {
            Kind::Text | Kind::Json => Builder::Text(StringBuilder::new()),
            Kind::Number => Builder::Number(Int64Builder::new()),
            Kind::Time => Builder::Time(TimestampMicrosecondBuilder::new().with_timezone("UTC")),
        };
        Self {
            builders: COLUMNS.iter().map(builder).collect(),
            set: vec![false; COLUMNS.len()],
            other: serde_json::Map::new(),
            rows: 0,
            bytes: 0,
        }
    }
}

impl Rows {
    /// Adds a record. On an error nothing is added.
    pub(super) fn push(&mut self, record: &[u8]) -> Result<(), NotARecord> {
        self.set.fill(false);
        self.other.clear();
        let mut json = serde_json::Deserializer::from_slice(record);
        let read = json
            .deserialize_map(Object { rows: self, places: &PLACES, prefix: "" })
            .and_then(|()| json.end())
            .and_then(|()| if self.set[schema::TIME] { Ok(()) } else { Err(serde_json::Error::missing_field("time")) });
        if read.is_ok() && !self.other.is_empty() {
            let other = serde_json::to_string(&self.other).unwrap_or_default();
            self.set_text(OTHER, &other);
        }
        // A row is as long in every column, also where reading broke off: that row is taken back below.
        for (builder, set) in self.builders.iter_mut().zip(&self.set) {
            if !set {
                builder.append_null();
            }
        }
        self.rows += 1;
        if let Err(error) = read {
            self.take_back();
            return Err(error.into());
        }
        self.bytes += record.len();
        Ok(())
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Bytes of JSON they came from.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes the rows out.
    pub(super) fn finish(&mut self) -> RecordBatch {
        self.rows = 0;
        self.bytes = 0;
        let arrays = self.builders.iter_mut().map(Builder::finish).collect();
        RecordBatch::try_new(schema::arrow(), arrays).expect("every column has a value or a null for every row")
    }

    /// Takes the last row back. Rare: somebody wrote into the journal or the topic who is not Daybook.
    fn take_back(&mut self) {
        let rows = self.rows - 1;
        let bytes = self.bytes;
        let kept = self.finish().slice(0, rows);
        for (builder, array) in self.builders.iter_mut().zip(kept.columns()) {
            builder.append_array(array);
        }
        self.rows = rows;
        self.bytes = bytes;
    }

    fn set_text(&mut self, column: usize, text: &str) {
        if let Builder::Text(builder) = &mut self.builders[column] {
            builder.append_value(text);
            self.set[column] = true;
        }
    }
}

// === impl Builder ===

impl Builder {
    fn append_null(&mut self) {
        match self {
            Self::Text(builder) => builder.append_null(),
            Self::Number(builder) => builder.append_null(),
            Self::Time(builder) => builder.append_null(),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Text(builder) => Arc::new(builder.finish()),
            Self::Number(builder) => Arc::new(builder.finish()),
            Self::Time(builder) => Arc::new(builder.finish()),
        }
    }

    fn append_array(&mut self, array: &ArrayRef) {
        use arrow_array::cast::AsArray as _;
        match self {
            Self::Text(builder) => array.as_string::<i32>().iter().for_each(|value| builder.append_option(value)),
            Self::Number(builder) => {
                array.as_primitive::<arrow_array::types::Int64Type>().iter().for_each(|v| builder.append_option(v));
            }
            Self::Time(builder) => {
                let array = array.as_primitive::<arrow_array::types::TimestampMicrosecondType>();
                array.iter().for_each(|value| builder.append_option(value));
            }
        }
    }
}

/// Reads the members of an object into their columns.
struct Object<'r> {
    rows: &'r mut Rows,
    places: &'static Places,
    prefix: &'static str,
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut members: M) -> Result<(), M::Error> {
        let Self { rows, places, prefix } = self;
        while let Some(name) = members.next_key::<Text<'de>>()? {
            match places.get(&*name) {
                Some(Place::Column(at)) if rows.set[*at] => {
                    return Err(M::Error::custom(format_args!("the member `{prefix}{name}` stands twice")));
                }
                Some(Place::Column(at)) => {
                    read_value(rows, *at, &mut members)?;
                    rows.set[*at] = true;
                }
                Some(Place::Object(prefix, places)) => {
                    members.next_value_seed(Object { rows, places, prefix })?;
                }
                None => {
                    let value = members.next_value::<serde_json::Value>()?;
                    rows.other.insert(format!("{prefix}{name}"), value);
                }
            }
        }
        Ok(())
    }
}

impl<'de> serde::de::DeserializeSeed<'de> for Object<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

fn read_value<'de, M: MapAccess<'de>>(rows: &mut Rows, at: usize, members: &mut M) -> Result<(), M::Error> {
    match (&mut rows.builders[at], COLUMNS[at].kind) {
        (Builder::Text(builder), Kind::Json) => builder.append_value(members.next_value::<&RawValue>()?.get()),
        (Builder::Text(builder), _) => builder.append_value(&*members.next_value::<Text<'de>>()?),
        (Builder::Number(builder), _) => {
            let number = members.next_value::<u64>()?;
            let number = i64::try_from(number).map_err(|_| M::Error::custom("a number beyond 2^63 - 1"))?;
            builder.append_value(number);
        }
        (Builder::Time(builder), _) => {
            let text = members.next_value::<Text<'de>>()?;
            let micros = parse_time(&text);
            builder.append_value(micros.ok_or_else(|| M::Error::custom(format_args!("`{text}` is no time")))?);
        }
    }
    Ok(())
}

/// RFC 3339 as records have it (`2026-11-22T22:10:01.123456Z`) in µs since 1970.
pub(super) fn parse_time(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_microsecond)
}
