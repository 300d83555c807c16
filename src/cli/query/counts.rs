//! `daybook query --count`: how many, by time and by what fields say.

use std::error::Error;
use std::io::Write;

use super::output::{csv, print, printable};
use super::{Format, QueryArgs};
use crate::lake::{By, Cancel, Count, Field, Lake, LakeError, Query, time};

pub(super) fn write(
    lake: &Lake,
    query: &Query,
    args: &QueryArgs,
    cancel: &Cancel,
    mut out: impl Write,
) -> Result<(), Box<dyn Error>> {
    let field = |path: &String| {
        Field::named(path.trim()).ok_or_else(|| LakeError::Query(format!("there is no field `{path}` to count by")))
    };
    let by = By {
        every: args.every.map(|span| i64::try_from(span.0.as_micros()).unwrap_or(i64::MAX)),
        fields: args.by.iter().map(field).collect::<Result<_, _>>()?,
    };
    let counts = lake.count(query, &by, cancel)?;
    let mut header: Vec<String> = by.every.iter().map(|_| "time".to_owned()).collect();
    header.extend(by.fields.iter().map(ToString::to_string));
    header.push("records".to_owned());
    match args.format {
        Format::Ndjson => counts.iter().try_for_each(|count| writeln!(out, "{}", json(&header, count)))?,
        Format::Csv => {
            let line = |cells: &[String]| cells.iter().map(|cell| csv(cell)).collect::<Vec<_>>().join(",");
            write!(out, "{}\r\n", line(&header))?;
            counts.iter().try_for_each(|count| write!(out, "{}\r\n", line(&cells(count))))?;
        }
        Format::Table => {
            let lines: Vec<Vec<String>> =
                counts.iter().map(|count| cells(count).iter().map(|cell| printable(cell)).collect()).collect();
            let widest = |at: usize| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0);
            let widths: Vec<usize> = header.iter().enumerate().map(|(at, name)| widest(at).max(name.len())).collect();
            print(&mut out, &header, &widths)?;
            lines.iter().try_for_each(|line| print(&mut out, line, &widths))?;
        }
        Format::Parquet => {
            return Err(LakeError::Query("counts are written as table, ndjson or csv".to_owned()).into());
        }
    }
    out.flush()?;
    Ok(())
}

/// Absent values are empty.
fn cells(count: &Count) -> Vec<String> {
    let mut cells: Vec<String> = count.time.map(time).into_iter().collect();
    cells.extend(count.values.iter().map(|value| value.clone().unwrap_or_default()));
    cells.push(count.records.to_string());
    cells
}

/// Absent values are absent.
fn json(header: &[String], count: &Count) -> serde_json::Value {
    let mut object = serde_json::Map::new();
    let mut names = header.iter();
    let texts = count.time.map(|at| Some(time(at))).into_iter().chain(count.values.iter().cloned());
    for (name, text) in names.by_ref().zip(texts) {
        if let Some(text) = text {
            object.insert(name.clone(), text.into());
        }
    }
    object.insert("records".to_owned(), count.records.into());
    object.into()
}
