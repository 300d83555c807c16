//! Conditions over columns: which rows fit.

use std::borrow::Cow;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, BooleanArray, RecordBatch};
use arrow_schema::{DataType, TimeUnit};
use memchr::memmem::Finder;

use super::super::json;
use super::super::schema::COLUMNS;
use super::filter::{Condition, Field, Filter, Test};

/// Which rows of a batch fit. A column that the batch has not is absent in every row.
pub(super) fn filter(filter: &Filter, batch: &RecordBatch) -> BooleanArray {
    let mut conditions = filter.conditions.iter().map(|one| condition(one, batch));
    let Some(first) = conditions.next() else { return BooleanArray::from(vec![true; batch.num_rows()]) };
    conditions.fold(first, |all, one| {
        let both = all.iter().zip(one.iter()).map(|(a, b)| match filter.any {
            true => a == Some(true) || b == Some(true),
            false => a == Some(true) && b == Some(true),
        });
        both.map(Some).collect()
    })
}

/// Which rows a condition holds for.
pub(super) fn condition(condition: &Condition, batch: &RecordBatch) -> BooleanArray {
    let name = COLUMNS[condition.field.column()].name;
    let rows = batch.num_rows();
    let holds = match batch.column_by_name(name) {
        None => vec![false; rows],
        Some(column) => match &condition.field {
            Field::Column(_) => of_column(&condition.test, column),
            Field::Attribute(name) => of_attribute(&condition.test, name, column),
        },
    };
    holds.into_iter().map(|holds| Some(holds != condition.negated)).collect()
}

fn of_column(test: &Test, column: &ArrayRef) -> Vec<bool> {
    if matches!(test, Test::Present) {
        return (0..column.len()).map(|row| column.is_valid(row)).collect();
    }
    let test = Prepared::new(test);
    match column.data_type() {
        DataType::Int64 => {
            let column = column.as_primitive::<Int64Type>();
            column.iter().map(|value| value.is_some_and(|value| test.number(value, |n| n.to_string()))).collect()
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let column = column.as_primitive::<TimestampMicrosecondType>();
            column.iter().map(|value| value.is_some_and(|value| test.number(value, json::time))).collect()
        }
        DataType::Utf8 => {
            column.as_string::<i32>().iter().map(|value| value.is_some_and(|value| test.text(value))).collect()
        }
        _ => vec![false; column.len()],
    }
}

fn of_attribute(test: &Test, name: &str, column: &ArrayRef) -> Vec<bool> {
    if *column.data_type() != DataType::Utf8 {
        return vec![false; column.len()];
    }
    let test = Prepared::new(test);
    let holds = |attributes: &str| attribute(attributes, name).is_some_and(|value| test.value(&value));
    column.as_string::<i32>().iter().map(|value| value.is_some_and(holds)).collect()
}

/// The value of an attribute in the JSON of all of them.
pub(super) fn attribute(attributes: &str, name: &str) -> Option<serde_json::Value> {
    // A quick no for most rows; a name with characters that JSON escapes is looked for the slow way.
    let plain = !name.contains(['"', '\\']) && !name.contains(char::is_control);
    if plain && memchr::memmem::find(attributes.as_bytes(), name.as_bytes()).is_none() {
        return None;
    }
    serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(attributes).ok()?.remove(name)
}

/// A test, ready for many values.
enum Prepared<'t> {
    In(&'t [String], Vec<i64>),
    Contains(Box<Finder<'static>>),
    Prefix(&'t str),
    Range(i64, i64),
    Present,
}

impl<'t> Prepared<'t> {
    fn new(test: &'t Test) -> Self {
        match test {
            Test::In(values) => Self::In(values, values.iter().filter_map(|value| value.parse().ok()).collect()),
            Test::Contains(part) => Self::Contains(Box::new(Finder::new(&part.to_ascii_lowercase()).into_owned())),
            Test::Prefix(prefix) => Self::Prefix(prefix),
            Test::Range { from, to } => Self::Range(from.unwrap_or(i64::MIN), to.unwrap_or(i64::MAX)),
            Test::Present => Self::Present,
        }
    }

    fn number(&self, value: i64, write: impl Fn(i64) -> String) -> bool {
        match self {
            Self::Range(from, to) => (*from..=*to).contains(&value),
            // Numbers by value; times only as they are written.
            Self::In(texts, numbers) => {
                numbers.contains(&value) || (numbers.is_empty() && texts.contains(&write(value)))
            }
            Self::Present => true,
            Self::Contains(_) | Self::Prefix(_) => self.text(&write(value)),
        }
    }

    fn text(&self, value: &str) -> bool {
        match self {
            Self::In(texts, _) => texts.iter().any(|text| text == value),
            Self::Contains(part) => part.find(&lower(value)).is_some(),
            Self::Prefix(prefix) => value.starts_with(prefix),
            Self::Range(..) => false,
            Self::Present => true,
        }
    }

    fn value(&self, value: &serde_json::Value) -> bool {
        match value {
            serde_json::Value::String(text) => self.text(text),
            serde_json::Value::Number(number) => match number.as_i64() {
                Some(number) => self.number(number, |n| n.to_string()),
                None => self.text(&number.to_string()),
            },
            other => self.text(&other.to_string()),
        }
    }
}

fn lower(text: &str) -> Cow<'_, [u8]> {
    if text.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(text.to_ascii_lowercase().into_bytes())
    } else {
        Cow::Borrowed(text.as_bytes())
    }
}
