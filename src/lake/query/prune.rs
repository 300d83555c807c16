//! What need not be read: row groups whose statistics or bloom filters say that nothing in them fits.

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::statistics::Statistics;

use super::super::schema::{COLUMNS, Kind};
use super::filter::{Condition, Field, Filter, Test};
use crate::lake::LakeError;

/// A data file, open.
pub(super) type Open = ParquetRecordBatchReaderBuilder<std::fs::File>;

/// Whether a row group may hold a row that fits.
pub(super) fn may_fit(file: &Open, group: usize, filter: &Filter) -> Result<bool, LakeError> {
    if filter.conditions.is_empty() {
        return Ok(true);
    }
    for condition in &filter.conditions {
        let may = may_hold(file, group, condition)?;
        if may == filter.any {
            return Ok(may);
        }
    }
    Ok(!filter.any)
}

fn may_hold(file: &Open, group: usize, condition: &Condition) -> Result<bool, LakeError> {
    let Field::Column(column) = condition.field else { return Ok(true) };
    if condition.negated {
        return Ok(true);
    }
    let Some(at) = place(file, COLUMNS[column].name) else { return Ok(false) };
    if !by_statistics(file.metadata().row_group(group), at, COLUMNS[column].kind, &condition.test) {
        return Ok(false);
    }
    let Test::In(values) = &condition.test else { return Ok(true) };
    if !COLUMNS[column].is_key {
        return Ok(true);
    }
    let Some(bloom) = file.get_row_group_column_bloom_filter(group, at)? else { return Ok(true) };
    Ok(values.iter().any(|value| bloom.check(&value.as_str())))
}

/// Where the file has a column; our columns are all leaves.
pub(super) fn place(file: &Open, name: &str) -> Option<usize> {
    file.parquet_schema().columns().iter().position(|column| column.name() == name)
}

/// The smallest and largest number of a column in a row group.
pub(super) fn numbers(group: &RowGroupMetaData, at: usize) -> Option<(i64, i64)> {
    match group.column(at).statistics()? {
        Statistics::Int64(bounds) => Some((*bounds.min_opt()?, *bounds.max_opt()?)),
        _ => None,
    }
}

fn by_statistics(group: &RowGroupMetaData, at: usize, kind: Kind, test: &Test) -> bool {
    let Some(statistics) = group.column(at).statistics() else { return true };
    if statistics.null_count_opt().is_some_and(|nulls| i64::try_from(nulls) == Ok(group.num_rows())) {
        // Nothing is there, and every test asks for something.
        return false;
    }
    match (test, kind) {
        (Test::Range { from, to }, Kind::Number | Kind::Time) => numbers(group, at)
            .is_none_or(|(min, max)| from.is_none_or(|from| max >= from) && to.is_none_or(|to| min <= to)),
        (Test::In(values), Kind::Number) => {
            let Some((min, max)) = numbers(group, at) else { return true };
            values.iter().any(|value| value.parse::<i64>().map_or(true, |value| (min..=max).contains(&value)))
        }
        (Test::In(values), Kind::Text) => {
            let (Some(min), Some(max)) = (statistics.min_bytes_opt(), statistics.max_bytes_opt()) else { return true };
            values.iter().any(|value| min <= value.as_bytes() && value.as_bytes() <= max)
        }
        (Test::Prefix(prefix), Kind::Text) => {
            let (Some(min), Some(max)) = (statistics.min_bytes_opt(), statistics.max_bytes_opt()) else { return true };
            let prefix = prefix.as_bytes();
            max >= prefix && (min <= prefix || min.starts_with(prefix))
        }
        _ => true,
    }
}
